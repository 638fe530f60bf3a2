/* See judge.h. */
#include "recommend/judge.h"

#include "base/rng.h"
#include "base/thread.h"
#include "compute/best.h"
#include "compute/cpu/kernels.h"

enum { POINTS_AT_ONCE = 64 };   /* between two reports of progress */

struct judge_scratch {
    struct taste_features features;
    float *scores, *texts;      /* [items] */
    struct hit *hits;           /* [items] */
    uint32_t places[JUDGE_CANDIDATES];
    float lift[JUDGE_CANDIDATES];
    float wanted[SITUATION_TERMS_MAX];
    float *person, *vector;     /* [2][dim], [dim]: what `texts` are the cosines with */
    struct graph_person graph;
    bool *seen;                 /* [items] */
};

struct judging {
    const struct judge *judge;
    struct judged *out;
    size_t items, first_point;
    unsigned parts;
    struct judge_scratch *scratch;      /* [threads] */
    size_t *places;                     /* [points] among the judged */
};

/* The greatest scores of unseen items, ties by number; a NaN is never among them. */
static size_t best_items(const float *scores, const bool *seen, size_t items, uint32_t *list)
{
    float best[METRICS_K];
    size_t count = 0;
    for (size_t i = 0; i < items; i++) {
        if (seen[i] || !(scores[i] == scores[i]) ||
            (count == METRICS_K && !(scores[i] > best[METRICS_K - 1])))
            continue;
        size_t at = count < METRICS_K ? count++ : METRICS_K - 1;
        for (; at > 0 && best[at - 1] < scores[i]; at--) {
            best[at] = best[at - 1];
            list[at] = list[at - 1];
        }
        best[at] = scores[i];
        list[at] = (uint32_t)i;
    }
    return count;
}

/* What the graph says of new items, as long as s->texts are the row's cosines. */
static void add_graph(const struct judging *g, const struct judged_point *point, float weight,
                      struct judge_scratch *s)
{
    const struct judge *j = g->judge;
    const struct graph_model *graph = j->graph;
    struct graph_person *p = &s->graph;
    graph_person_begin(graph, p);
    for (size_t e = 0; e < point->count; e++)
        graph_person_take(graph, j->kernels, p, point->history[e],
                          j->text->rows[point->history[e]]);
    graph_person_end(graph, j->kernels, p);
    float mean = graph_mean_text(graph, j->kernels, s->vector);
    for (size_t i = 0; i < g->items; i++) {
        if (!graph->fresh[i])
            continue;
        float score = graph_model_score(graph, j->kernels, p, (uint32_t)i, j->text->rows[i]);
        s->scores[i] += weight * (graph_instead(graph, p, mean, score) - s->texts[i]);
    }
}

/* The best unseen by the scores, of which a request rescores so many; returns how many. */
static size_t best_candidates(const struct judging *g, struct judge_scratch *s)
{
    size_t count = 0;
    for (size_t i = 0; i < g->items; i++)
        if (!s->seen[i])
            s->hits[count++] = (struct hit){ s->scores[i], (uint32_t)i };
    best_select(s->hits, count, JUDGE_CANDIDATES);
    return count < JUDGE_CANDIDATES ? count : JUDGE_CANDIDATES;
}

/* What is told is the same for all rows of a kind. Only candidates are rescored. */
static void add_situation(const struct judging *g, const struct judged_point *point,
                          const struct blend *row, struct judge_scratch *s)
{
    const struct judge *j = g->judge;
    const struct situations *situations = &j->text->situations;
    struct situation_events events = { point->history, point->times,
                                       point->count + point->following, point->count,
                                       point->when };
    struct rng rng;
    size_t places = 0;
    rng_seed(&rng, (j->seed * 0x100000001u + point->user) * 0x100000001u + point->count);
    situation_of(situations, row->situation, &events, &rng, s->wanted);
    size_t count = best_candidates(g, s);
    for (size_t i = 0; i < g->items; i++)
        s->scores[i] = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        uint32_t item = s->hits[i].row;
        s->scores[item] = s->hits[i].score +
                          row->match * situation_match(situations, s->wanted, item);
        if (row->lift != 0 && j->taste->places[item] != UINT32_MAX)
            s->places[places++] = j->taste->places[item];
    }
    if (row->lift == 0)
        return;
    taste_situate(j->taste, j->kernels, s->wanted, s->places, places, &s->features, s->lift);
    for (size_t p = 0; p < places; p++)
        s->scores[j->taste->items[s->places[p]]] += row->lift * s->lift[p];
}

/* `kind` is what s->texts holds. */
static void score_row(const struct judging *g, const struct judged_point *point,
                      const struct blend *row, struct judge_scratch *s, enum blend_text *kind)
{
    const struct judge *j = g->judge;
    taste_blend(j->taste, j->kernels, &s->features, row->weights.part, s->scores);
    enum blend_text text = row->text & ~(unsigned)BLEND_TEXT_GRAPH;
    if (text == BLEND_TEXT_NONE)
        return;
    if (*kind != text)
        split_text_say(j->text, j->kernels, text, point->history[point->count - 1], s->person,
                       s->vector, s->texts);
    *kind = text;
    j->kernels->add_scaled_f32(s->scores, s->texts, row->weights.text, g->items);
    if (row->text & BLEND_TEXT_GRAPH)
        add_graph(g, point, row->weights.text, s);
    if (row->situation != SITUATION_NONE)       /* which come with texts alone */
        add_situation(g, point, row, s);
}

static void judge_point(void *context, size_t number, int worker)
{
    const struct judging *g = context;
    const struct judge *j = g->judge;
    size_t at = g->first_point + number;
    const struct judged_point *point = &j->plan->points[at];
    struct judge_scratch *s = &g->scratch[worker];
    enum blend_text kind = BLEND_TEXT_NONE;
    for (size_t e = 0; e < point->count; e++)
        s->seen[point->history[e]] = true;
    taste_say(j->taste, j->kernels, point->history, point->count, g->parts, &s->features);
    if (j->text->space)
        split_text_read(j->text, j->kernels, point->history, point->count, s->person);
    for (size_t r = 0; r < j->row_count; r++) {
        size_t place = at * j->row_count + r;
        uint32_t *list = g->out->lists + place * METRICS_K;
        score_row(g, point, j->table[r], s, &kind);
        size_t count = best_items(s->scores, s->seen, g->items, list);
        g->out->list_counts[place] = (uint8_t)count;
        if (point->positive_count)
            metrics_of_list(list, count, j->plan->positives + point->first_positive,
                            point->positive_count,
                            g->out->values + (g->places[at] * j->row_count + r) * METRIC_COUNT);
    }
    for (size_t e = 0; e < point->count; e++)
        s->seen[point->history[e]] = false;
}

static enum akin_status judge_all(struct judging *g, struct akin_error *error)
{
    const struct judge *j = g->judge;
    const struct evaluation_plan *plan = j->plan;
    for (size_t at = 0, judged = 0; at < plan->point_count; at++) {
        g->places[at] = judged;
        judged += plan->points[at].positive_count > 0;
    }
    for (g->first_point = 0; g->first_point < plan->point_count;
         g->first_point += POINTS_AT_ONCE) {
        size_t rest = plan->point_count - g->first_point;
        thread_pool_each(j->pool, rest < POINTS_AT_ONCE ? rest : POINTS_AT_ONCE, judge_point, g);
        if (j->progress.update && !j->progress.update(j->progress.cookie, "ranking",
                                                      g->first_point, plan->point_count))
            return error_set(error, AKIN_CANCELLED, "interrupted");
    }
    return AKIN_OK;
}

static bool judging_init(struct judging *g, size_t threads)
{
    const struct judge *j = g->judge;
    size_t lists = j->plan->point_count * j->row_count;
    g->out->lists = memory_alloc(lists, METRICS_K * sizeof *g->out->lists);
    g->out->list_counts = memory_alloc(lists, sizeof *g->out->list_counts);
    g->out->values =
        memory_alloc(j->plan->judged * j->row_count, METRIC_COUNT * sizeof *g->out->values);
    g->places = memory_alloc(j->plan->point_count, sizeof *g->places);
    g->scratch = memory_alloc(threads, sizeof *g->scratch);
    bool done =
        g->out->lists && g->out->list_counts && g->out->values && g->places && g->scratch;
    for (size_t t = 0; done && t < threads; t++) {
        struct judge_scratch *s = &g->scratch[t];
        s->scores = memory_alloc(g->items, sizeof *s->scores);
        s->texts = memory_alloc(g->items, sizeof *s->texts);
        s->hits = memory_alloc(g->items, sizeof *s->hits);
        s->person = memory_alloc(j->text->dim, 2 * sizeof *s->person);
        s->vector = memory_alloc(j->text->dim, sizeof *s->vector);
        s->seen = memory_alloc(g->items, sizeof *s->seen);
        done = s->scores && s->texts && s->hits && s->person && s->vector && s->seen &&
               taste_features_init(j->taste, &s->features, NULL) == AKIN_OK &&
               (!j->graph || graph_person_init(j->graph, &s->graph));
    }
    return done;
}

static void judging_deinit(struct judging *g, size_t threads)
{
    for (size_t t = 0; g->scratch && t < threads; t++) {
        memory_free(g->scratch[t].scores);
        memory_free(g->scratch[t].texts);
        memory_free(g->scratch[t].hits);
        memory_free(g->scratch[t].person);
        memory_free(g->scratch[t].vector);
        memory_free(g->scratch[t].seen);
        taste_features_deinit(&g->scratch[t].features);
        graph_person_deinit(&g->scratch[t].graph);
    }
    memory_free(g->scratch);
    memory_free(g->places);
}

unsigned judge_parts(const struct blend *const *table, size_t row_count)
{
    unsigned parts = 0;
    for (size_t r = 0; r < row_count; r++)
        for (int p = 0; p < TASTE_PARTS; p++)
            parts |= table[r]->weights.part[p] != 0 ? TASTE_BIT(p) : 0;
    for (size_t r = 0; r < row_count; r++)
        parts |= table[r]->lift != 0 ? TASTE_BIT(TASTE_ATTENTION) : 0;
    return parts;
}

enum akin_status judge_points(const struct judge *judge, struct judged *judged,
                              struct akin_error *error)
{
    size_t threads = (size_t)thread_pool_size(judge->pool);
    struct judging g = { .judge = judge, .out = judged, .items = judge->taste->item_count,
                         .parts = judge_parts(judge->table, judge->row_count) };
    *judged = (struct judged){ 0 };
    enum akin_status status =
        judging_init(&g, threads) ? judge_all(&g, error) : error_memory(error);
    judging_deinit(&g, threads);
    if (status != AKIN_OK)
        judged_deinit(judged);
    return status;
}

void judged_deinit(struct judged *judged)
{
    memory_free(judged->lists);
    memory_free(judged->list_counts);
    memory_free(judged->values);
    *judged = (struct judged){ 0 };
}
