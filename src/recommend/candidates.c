/* See request.h. A generator offers rows that may be among the best by its part of the score, and
 * rates every candidate, whoever offered it. Where more candidates are wanted than half of what is
 * allowed, all that is allowed becomes candidates and the answer is exact.
 *
 * Weights. Those of an item alone (text 1, title 0.6, taste 0.7) were chosen on the franchises of
 * MovieLens (docs/recommend.md has the grid and what it does not prove); text and title are
 * cosines, taste is divided by the mean of its own ten best, so all three are about 0 to 1.
 * Popularity is ln(1 + count) / ln(1 + largest count); for a person it adds nothing to raters in
 * common (docs/recommend.md). */
#include <math.h>

#include "base/clock.h"
#include "base/memory.h"
#include "catalog/catalog.h"
#include "compute/best.h"
#include "compute/cpu/kernels.h"
#include "recommend/request.h"

enum {
    TEXT_OFFERS = 40,           /* the least that text is asked for, */
    TEXT_OFFERS_EACH = 4,       /* and for each result; more where titles count as well, */
    TEXT_OFFERS_MIXED = 128,    /* or the graph does, */
    TEXT_OFFERS_ALONE = 512,    /* and where years are taken off afterwards */
    OFFERS = 200,               /* of titles, taste and popularity */
    OFFERS_EACH = 2,
    TASTE_BEST = 10,            /* whose mean is the scale of tastes */
    TASTE_FLOOR = 100,          /* which of the model's best is 0 */
    PRODUCT_ROWS = 64,
    FETCHED = 3,                /* rows of the graph that come while others are scored, */
    PAST_FETCHED = 8,           /* and of a past, which are shorter, while others are added */
    DROP_FROM = 4,              /* candidates for each result: fewer are not worth it */
};

#define SUM_ERROR 4e-6f

static const float weights_alone[PARTS] = { 1, 0.6f, 0.7f, 0, 0.3f };
static const float weights_person[PARTS] = { REQUEST_PERSON_TEXT, 0, 1, 0, 0.3f };
static const float weights_words[PARTS] = { 1, 0, 0, 0, 0.3f };

/* The query's share is by text alone; the others' share is theirs. */
void request_weigh(struct asked *a)
{
    const float *base = a->personal ? weights_person : a->request->similar ? weights_alone
                                                                           : weights_words;
    for (int part = 0; part < PARTS; part++)
        a->weights[part] = base[part];
    a->others = 1;
    if (a->request->query && (a->personal || a->request->similar)) {
        a->others = 1 - request_query_weight(a);
        a->weights[PART_TEXT] = 1 - a->others + a->others * base[PART_TEXT];
        a->weights[PART_TITLE] *= a->others;
        a->weights[PART_TASTE] *= a->others;
        a->weights[PART_POPULARITY] *= a->others;
    }
    if (a->request->popularity >= 0)
        a->weights[PART_POPULARITY] = a->request->popularity;
    if (!a->points && a->request->popularity < 0 && a->weights[PART_POPULARITY] == 0)
        a->weights[PART_POPULARITY] = 1;
}

/* ---- candidates ------------------------------------------------------------------------- */

enum akin_status request_offer(struct scratch *s, uint32_t row, struct akin_error *error)
{
    if (!is_allowed(s, row) || s->slots[row])
        return AKIN_OK;
    if (!array_reserve((void **)&s->candidates, &s->candidate_capacity, s->candidate_count + 1,
                       sizeof *s->candidates))
        return error_memory(error);
    s->candidates[s->candidate_count++] = (struct candidate){ .row = row };
    s->slots[row] = (uint32_t)s->candidate_count;
    return AKIN_OK;
}

static bool reserve_hits(struct scratch *s, size_t count)
{
    return array_reserve((void **)&s->hits, &s->hit_capacity, count, sizeof *s->hits);
}

void request_products(const struct space *space, const struct backend *backend,
                      const float *vector, const uint32_t *rows, size_t count, float *products)
{
    const struct kernels *k = cpu_kernels(backend);
    const float *pointers[PRODUCT_ROWS];
    for (size_t i = 0; i < count; i += PRODUCT_ROWS) {
        size_t live = count - i < PRODUCT_ROWS ? count - i : PRODUCT_ROWS;
        for (size_t j = 0; j < live; j++) {
            pointers[j] = space->vectors + rows[i + j] * space->dim;
            for (size_t at = 0; at < space->dim; at += 16)
                __builtin_prefetch(pointers[j] + at);
        }
        k->score_dot_f32(products + i, vector, 1, pointers, live, space->dim);
    }
}

/* The best of what was gathered, offered in no particular order. */
static enum akin_status offer_gathered(struct asked *a, const struct gather *g, size_t wanted,
                                       struct akin_error *error)
{
    struct scratch *s = a->s;
    size_t count = 0;
    if (!reserve_hits(s, g->count))
        return error_memory(error);
    for (size_t i = 0; i < g->count; i++) {
        s->hits[count] = (struct hit){ g->values[g->touched[i]], g->touched[i] };
        count += is_allowed(s, g->touched[i]);
    }
    best_select(s->hits, count, wanted);
    for (size_t i = 0; i < count && i < wanted; i++)
        TRY(request_offer(s, s->hits[i].row, error));
    return AKIN_OK;
}

/* Whether new items are ranked by more than their texts: for a person, and nothing beside. */
static bool graph_speaks(const struct asked *a)
{
    return a->inputs->graph && a->personal && a->s->past_count && a->points &&
           !a->request->similar && !a->request->query;
}

/* ---- text ------------------------------------------------------------------------------- */

enum akin_status request_reserve_years(struct asked *a, struct akin_error *error)
{
    struct scratch *s = a->s;
    return array_reserve((void **)&s->year_terms, &s->year_capacity, a->space->years,
                         sizeof *s->year_terms) ? AKIN_OK : error_memory(error);
}

size_t request_text_offers(size_t k)
{
    return TEXT_OFFERS_EACH * k < TEXT_OFFERS ? TEXT_OFFERS : TEXT_OFFERS_EACH * k;
}

size_t request_offers(size_t k)
{
    return OFFERS_EACH * k < OFFERS ? OFFERS : OFFERS_EACH * k;
}

static enum akin_status offer_text(struct asked *a, size_t wanted, struct akin_error *error)
{
    struct scratch *s = a->s;
    size_t found = 0;
    (void)wanted;
    if (!a->points)
        return AKIN_OK;
    size_t k = request_text_offers(a->request->k);
    bool mixed = a->request->similar || graph_speaks(a);
    size_t least = a->alone ? TEXT_OFFERS_ALONE : mixed ? TEXT_OFFERS_MIXED : TEXT_OFFERS;
    k = k < least ? least : k;
    k = k < s->allowed_count ? k : s->allowed_count;
    if (!reserve_hits(s, k))
        return error_memory(error);
    if (a->alone)
        TRY(request_reserve_years(a, error));
    struct space_query query = { .vectors = s->vector, .count = 1, .k = k, .allowed = s->allowed,
                                 .allowed_count = s->allowed_count,
                                 .recall = a->request->recall };
    TRY(space_search(a->space, a->r->backend, a->r->index, &query, s->hits, &found, error));
    for (size_t i = 0; i < found; i++)
        if (a->space->inverse[s->hits[i].row] > 0)   /* others have no text */
            TRY(request_offer(s, s->hits[i].row, error));
    return AKIN_OK;
}

static void rate_text(struct asked *a)
{
    struct scratch *s = a->s;
    uint32_t rows[PRODUCT_ROWS];
    float products[PRODUCT_ROWS];
    if (!a->points)
        return;
    if (a->alone)
        space_year_terms(a->space, a->r->backend, s->vector, s->year_terms);
    for (size_t i = 0; i < s->candidate_count; i += PRODUCT_ROWS) {
        size_t live = s->candidate_count - i;
        live = live < PRODUCT_ROWS ? live : PRODUCT_ROWS;
        for (size_t j = 0; j < live; j++)
            rows[j] = s->candidates[i + j].row;
        request_products(a->space, a->r->backend, s->vector, rows, live, products);
        for (size_t j = 0; j < live; j++)
            s->candidates[i + j].values[PART_TEXT] =
                a->alone ? space_without_year(a->space, s->year_terms, rows[j], products[j])
                         : products[j];
    }
}

/* ---- titles ----------------------------------------------------------------------------- */

static enum akin_status offer_titles(struct asked *a, size_t wanted, struct akin_error *error)
{
    if (!a->request->similar)
        return AKIN_OK;
    titles_gather(a->aids->titles, a->row, &a->s->title);
    return offer_gathered(a, &a->s->title, wanted, error);
}

static void rate_titles(struct asked *a)
{
    if (!a->s->title.count)     /* all are 0 */
        return;
    for (size_t i = 0; i < a->s->candidate_count; i++)
        a->s->candidates[i].values[PART_TITLE] = a->s->title.values[a->s->candidates[i].row];
}

/* ---- taste ------------------------------------------------------------------------------ */

void request_gather_taste(struct asked *a, size_t row, float weight)
{
    const struct item_rows *learned = &a->inputs->similar, *counted = &a->r->rows;
    struct item_weight made[COOCCUR_ROW];
    if (learned->starts || counted->starts) {
        item_rows_gather(learned->starts ? learned : counted, row, weight, &a->s->taste);
        return;
    }
    size_t count = cooccur_row(a->aids->cooccur, row, &a->s->counting, made);
    for (size_t i = 0; i < count; i++)
        gather_add(&a->s->taste, made[i].row, weight * made[i].weight);
}

static void gather_asked(struct asked *a)
{
    if (a->inputs->similar.starts)
        item_rows_gather(&a->inputs->similar, a->row, 1, &a->s->taste);
    else
        cooccur_gather(a->aids->cooccur, a->row, &a->s->counting, &a->s->taste);
}

/* The mean of the ten best. */
static float taste_scale(const struct gather *g)
{
    struct hit hits[TASTE_BEST];
    struct best best = { .hits = hits, .capacity = TASTE_BEST };
    double sum = 0;
    for (size_t i = 0; i < g->count; i++)
        best_offer(&best, (struct hit){ g->values[g->touched[i]], g->touched[i] });
    for (size_t i = 0; i < best.count; i++)
        sum += (double)hits[i].score;
    return sum > 0 ? (float)(sum / (double)best.count) : 1;
}

/* The mean of the ten best of hits [count >= 1], less `floor`. */
static double mean_of_best(const struct hit *hits, size_t count, float floor)
{
    struct hit kept[TASTE_BEST];
    struct best best = { .hits = kept, .capacity = TASTE_BEST };
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        best_offer(&best, hits[i]);
    size_t found = best.count;
    best_drain(&best, kept);
    for (size_t i = 0; i < found; i++)
        sum += (double)(kept[i].score - floor);
    return sum / (double)found;
}

/* The model's scores, whose level means nothing: less that of the hundredth best, so that 0 is what
 * is not worth a look, and then divided by the ten best as usual. */
static enum akin_status ask_model(struct asked *a, size_t wanted, struct akin_error *error)
{
    struct scratch *s = a->s;
    struct hit *hits;
    size_t found;
    TRY(speaker_say(a->inputs->speaker, s->past, s->past_count, a->returning, &s->speech, error));
    TRY(speech_best(&s->speech, s->allowed, wanted, &hits, &found, error));
    a->said = true;
    for (size_t i = 0; i < found; i++)
        TRY(request_offer(s, hits[i].row, error));
    if (found == 0)
        return AKIN_OK;
    size_t front = found < TASTE_FLOOR ? found : TASTE_FLOOR;
    best_select(hits, found, front);
    struct hit floor = hits[0];
    for (size_t i = 1; i < front; i++)
        floor = hit_better(floor, hits[i]) ? hits[i] : floor;
    double mean = mean_of_best(hits, front, floor.score);
    a->said_floor = floor.score;
    a->said_scale = mean > 0 ? (float)mean : 1;
    a->weights[PART_TEXT] +=
        a->others * (speaker_text(a->inputs->speaker, a->returning) / a->said_scale -
                     weights_person[PART_TEXT]);
    return AKIN_OK;
}

static enum akin_status offer_taste(struct asked *a, size_t wanted, struct akin_error *error)
{
    bool model = a->past.count && a->inputs->speaker;
    if (model)
        TRY(ask_model(a, wanted, error));
    if (a->request->similar)
        gather_asked(a);
    for (size_t i = 0; i < a->past.count && !model; i++)
        request_gather_taste(a, a->past.rows[i], a->past.weights[i]);
    a->gathered_scale = taste_scale(&a->s->taste);
    return offer_gathered(a, &a->s->taste, wanted, error);
}

static void rate_taste(struct asked *a)
{
    for (size_t i = 0; i < a->s->candidate_count; i++) {
        struct candidate *c = &a->s->candidates[i];
        if (a->s->taste.count)
            c->values[PART_TASTE] = a->s->taste.values[c->row] / a->gathered_scale;
        if (a->said)
            c->values[PART_TASTE] +=
                (speech_score(&a->s->speech, c->row) - a->said_floor) / a->said_scale;
    }
}

/* ---- popularity and context ------------------------------------------------------------- */

static enum akin_status offer_popular(struct asked *a, size_t wanted, struct akin_error *error)
{
    size_t looked_at = a->r->items < REQUEST_POPULAR_MAX ? a->r->items : REQUEST_POPULAR_MAX;
    looked_at = looked_at < wanted && wanted <= a->r->items ? wanted : looked_at;
    if (a->weights[PART_POPULARITY] == 0)
        return AKIN_OK;
    for (size_t i = 0, found = 0; i < looked_at && found < wanted; i++) {
        uint32_t row = a->aids->by_popularity[i];
        found += is_allowed(a->s, row);
        TRY(request_offer(a->s, row, error));
    }
    return AKIN_OK;
}

static void rate_popular(struct asked *a)
{
    if (a->weights[PART_POPULARITY] == 0 && !a->request->explore && !a->r->rescorer.rescore)
        return;                 /* nobody asks for it */
    for (size_t i = 0; i < a->s->candidate_count; i++)
        a->s->candidates[i].values[PART_POPULARITY] =
            a->aids->popularity[a->s->candidates[i].row];
}

static float matched(const struct asked *a, uint32_t row)
{
    struct akin_item item;
    catalog_item(a->r->catalog, row, &item);
    return context_match(&a->context, &item);
}

/* Nobody is offered for a situation: all who are are rated, by the model where it learned any of it
 * and knows the past. */
static enum akin_status offer_context(struct asked *a, size_t wanted, struct akin_error *error)
{
    struct scratch *s = a->s;
    float told[SITUATION_TERMS_MAX];
    size_t count = s->candidate_count;
    (void)wanted;
    if (!a->said)
        return AKIN_OK;
    a->weights[PART_CONTEXT] = a->others * BLEND_MATCH / a->said_scale;
    if (!speaker_minds(a->inputs->speaker, &a->context, told))
        return AKIN_OK;
    if (!array_reserve((void **)&s->marks, &s->mark_capacity, 2 * count + 1, sizeof *s->marks))
        return error_memory(error);
    float *lifts = s->marks;
    uint32_t *rows = (uint32_t *)(void *)(lifts + count);
    for (size_t i = 0; i < count; i++)
        rows[i] = s->candidates[i].row;
    uint64_t began = clock_monotonic_ns();
    TRY(speech_situate(&s->speech, told, rows, count, lifts, error));
    a->situation_ms = 1e3 * seconds_since(began);
    a->situation_candidates = count;
    a->weights[PART_CONTEXT] = a->others / a->said_scale;
    for (size_t i = 0; i < count; i++) {
        struct candidate *c = &s->candidates[i];
        c->values[PART_CONTEXT] = isnan(lifts[i]) ? BLEND_MATCH * matched(a, c->row) : lifts[i];
    }
    a->minded = true;
    return AKIN_OK;
}

static void rate_context(struct asked *a)
{
    if (a->minded)
        return;
    for (size_t i = 0; a->context.has_genres && i < a->s->candidate_count; i++) {
        struct candidate *c = &a->s->candidates[i];
        c->values[PART_CONTEXT] = matched(a, c->row);
    }
}

/* ---- the graph -------------------------------------------------------------------------- */

static enum akin_status read_past(struct asked *a, struct akin_error *error)
{
    const struct graph_model *graph = a->inputs->graph;
    const struct kernels *k = cpu_kernels(a->r->backend);
    struct scratch *s = a->s;
    size_t first = s->past_count > TASTE_HISTORY_MAX ? s->past_count - TASTE_HISTORY_MAX : 0;
    if (s->graph_of != graph) {
        graph_person_deinit(&s->graph);
        s->graph_of = NULL;
        if (!graph_person_init(graph, &s->graph))
            return error_memory(error);
        s->graph_of = graph;
    }
    graph_person_begin(graph, &s->graph);
    for (size_t e = first; e < s->past_count; e++) {
        if (e + PAST_FETCHED < s->past_count)
            graph_past_fetch(&a->aids->past, s->past[e + PAST_FETCHED]);
        graph_past_take(&a->aids->past, graph, k, &s->graph, s->past[e],
                        a->space->vectors + s->past[e] * a->space->dim);
    }
    graph_person_end(graph, k, &s->graph);
    return AKIN_OK;
}

/* What stands in the place of the texts of new items, less these. */
static enum akin_status rate_graph(struct asked *a, struct akin_error *error)
{
    const struct graph_model *graph = a->inputs->graph;
    const struct kernels *k = cpu_kernels(a->r->backend);
    struct scratch *s = a->s;
    uint64_t began = clock_monotonic_ns();
    size_t fresh = 0;
    for (size_t i = 0; graph_speaks(a) && i < s->candidate_count; i++)
        fresh += graph->fresh[s->candidates[i].row];
    if (!fresh)
        return AKIN_OK;
    TRY(read_past(a, error));
    a->graph_ms = ms_since(began);
    float mean = graph_mean_text(graph, k, s->vector);
    for (size_t i = 0; i < s->candidate_count; i++) {
        struct candidate *c = &s->candidates[i];
        const float *text = a->space->vectors + c->row * a->space->dim;
        float cosine;
        if (i + FETCHED < s->candidate_count && graph->fresh[c[FETCHED].row])
            graph_fetch(graph, c[FETCHED].row,
                        a->space->vectors + c[FETCHED].row * a->space->dim);
        if (!graph->fresh[c->row])
            continue;
        k->score_dot_f32(&cosine, s->vector, 1, &text, 1, a->space->dim);
        float score = graph_model_score(graph, k, &s->graph, c->row, text);
        c->values[PART_GRAPH] = graph_instead(graph, &s->graph, mean, score) - cosine;
    }
    a->weights[PART_GRAPH] = a->weights[PART_TEXT];
    a->new_ms = ms_since(began) - a->graph_ms;
    return AKIN_OK;
}

/* ---- all of them ------------------------------------------------------------------------ */

struct generator {
    enum akin_status (*offer)(struct asked *a, size_t wanted, struct akin_error *error);
    void (*rate)(struct asked *a);
};

static const struct generator generators[PARTS] = {
    [PART_TEXT] = { offer_text, rate_text },
    [PART_TITLE] = { offer_titles, rate_titles },
    [PART_TASTE] = { offer_taste, rate_taste },
    [PART_POPULARITY] = { offer_popular, rate_popular },
    [PART_CONTEXT] = { offer_context, rate_context },
    [PART_GRAPH] = { NULL, NULL },      /* rate_graph, which may fail */
};

static enum akin_status offer_all(struct asked *a, size_t wanted, struct akin_error *error)
{
    struct scratch *s = a->s;
    bool all = s->allowed_count <= 2 * wanted;
    for (size_t w = 0; all && w < (a->r->items + 63) / 64; w++)
        for (uint64_t word = s->allowed[w]; word; word &= word - 1)
            TRY(request_offer(s, (uint32_t)(64 * w + (size_t)__builtin_ctzll(word)), error));
    for (int part = 0; part < PARTS; part++)
        if (generators[part].offer)
            TRY(generators[part].offer(a, wanted, error));
    return a->request->explore ? request_offer_unknown(a, error) : AKIN_OK;
}

static bool only_best_matter(const struct asked *a)
{
    const struct akin_request *request = a->request;
    return a->points && !a->alone && a->r->index && !a->r->rescorer.rescore &&
           !request->explore && !(request->diversity > 0) && !request->no_near_duplicates &&
           a->s->candidate_count > DROP_FROM * request->k;
}

/* Bounds of the scores of all candidates, whose text is not rated yet: to s->hits from below, to
 * `most` from above. Rounding is far below SUM_ERROR of what is added. */
static void bound_scores(const struct asked *a, const float *texts, const float *errors,
                         float *most)
{
    struct scratch *s = a->s;
    for (size_t i = 0; i < s->candidate_count; i++) {
        const struct candidate *c = &s->candidates[i];
        float sum = 0, size = 0, half = fabsf(a->weights[PART_TEXT]) * errors[i];
        for (int part = 0; part < PARTS; part++) {
            float term = a->weights[part] * (part == PART_TEXT ? texts[i] : c->values[part]);
            sum += term;
            size += fabsf(term);
        }
        half += SUM_ERROR * (size + half);
        s->hits[i] = (struct hit){ sum - half, c->row };
        most[i] = sum + half;
    }
}

/* Vectors of items are what a request waits for, being all over memory. What cannot be among the k
 * best, by the bytes of the index, is no candidate any more. The answer is the same. */
static enum akin_status drop_hopeless(struct asked *a, struct akin_error *error)
{
    struct scratch *s = a->s;
    size_t count = s->candidate_count, k = a->request->k;
    if (k == 0 || !only_best_matter(a))
        return AKIN_OK;
    if (!reserve_hits(s, count) ||
        !array_reserve((void **)&s->marks, &s->mark_capacity, 4 * count, sizeof *s->marks))
        return error_memory(error);
    float *texts = s->marks, *errors = texts + count, *most = errors + count;
    uint32_t *rows = (uint32_t *)(void *)(most + count);
    for (size_t i = 0; i < count; i++)
        rows[i] = s->candidates[i].row;
    if (!space_bound(a->r->index, s->vector, rows, count, texts, errors))
        return AKIN_OK;
    bound_scores(a, texts, errors, most);
    best_select(s->hits, count, k);
    float least = s->hits[0].score;
    for (size_t i = 1; i < k; i++)
        least = fminf(least, s->hits[i].score);
    s->candidate_count = 0;
    for (size_t i = 0; i < count; i++) {
        s->slots[rows[i]] = 0;
        if (most[i] < least)
            continue;
        s->candidates[s->candidate_count++] = s->candidates[i];
        s->slots[rows[i]] = (uint32_t)s->candidate_count;
    }
    return AKIN_OK;
}

enum akin_status request_candidates(struct asked *a, struct akin_error *error)
{
    struct scratch *s = a->s;
    size_t wanted = request_offers(a->request->k);
    a->gathered_scale = a->said_scale = 1;
    if (s->allowed_count)
        TRY(offer_all(a, wanted, error));
    for (int part = 0; part < PARTS; part++)
        if (part != PART_TEXT && generators[part].rate)
            generators[part].rate(a);
    TRY(rate_graph(a, error));
    TRY(drop_hopeless(a, error));
    generators[PART_TEXT].rate(a);
    for (size_t i = 0; i < s->candidate_count; i++) {
        struct candidate *c = &s->candidates[i];
        for (int part = 0; part < PARTS; part++)
            c->score += a->weights[part] * c->values[part];
    }
    const struct recommend_rescorer *rescorer = &a->r->rescorer;
    if (!rescorer->rescore || !s->candidate_count)
        return AKIN_OK;
    return rescorer->rescore(rescorer->context, a, s->candidates, s->candidate_count, error);
}
