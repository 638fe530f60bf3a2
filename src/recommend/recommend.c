/* A request goes through its steps in order: resolve (names to rows and vectors), fuse (to one
 * vector), filter (to a bitmap), search or candidates, pick, explain. See request.h. The
 * recommender is read only after it is open, but for what is shared under a lock. */
#include "recommend/recommend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "catalog/catalog.h"
#include "index/filter.h"
#include "recommend/personal.h"
#include "recommend/request.h"

enum { REPORT_PAIRED = 200 };   /* the first of a list, which are compared pair by pair */

/* ---- fields of a filter ----------------------------------------------------------------- */

static struct akin_item item_at(const void *catalog, size_t row)
{
    struct akin_item item;
    catalog_item(catalog, row, &item);
    return item;
}

static const char *field_genre(const void *catalog, size_t row, size_t i)
{
    struct akin_item item = item_at(catalog, row);
    return i < item.genre_count ? item.genres[i] : NULL;
}

static const char *field_theme(const void *catalog, size_t row, size_t i)
{
    struct akin_item item = item_at(catalog, row);
    return i < item.theme_count ? item.themes[i] : NULL;
}

static const char *field_title(const void *catalog, size_t row, size_t i)
{
    return i == 0 ? item_at(catalog, row).title : NULL;
}

static const char *field_id(const void *catalog, size_t row, size_t i)
{
    return i == 0 ? item_at(catalog, row).id : NULL;
}

static bool field_year(const void *catalog, size_t row, double *value)
{
    int year = item_at(catalog, row).year;
    *value = year;
    return year != 0;
}

static bool field_ratings(const void *catalog, size_t row, double *value)
{
    *value = (double)catalog_item_ratings(catalog, row);
    return true;
}

static const struct filter_field fields[] = {
    { .names = "genre genres", .type = FILTER_TEXT, .text = field_genre },
    { .names = "theme themes tag tags", .type = FILTER_TEXT, .text = field_theme },
    { .names = "year", .type = FILTER_NUMBER, .number = field_year },
    { .names = "ratings", .type = FILTER_NUMBER, .number = field_ratings },
    { .names = "title", .type = FILTER_TEXT, .text = field_title },
    { .names = "id media_id", .type = FILTER_TEXT, .text = field_id },
};

/* ---- open and close --------------------------------------------------------------------- */

enum akin_status recommender_open(struct backend *backend, const struct catalog *catalog,
                                  struct recommender **recommender, struct akin_error *error)
{
    struct akin_catalog_info info;
    enum akin_status status = AKIN_OK;
    catalog_info(catalog, &info);
    const float *vectors = catalog_item_vectors(catalog);
    if (!vectors || info.dimension == 0)
        return error_set(error, AKIN_NOT_FOUND,
                         "the catalogue has no vectors yet: make them with `akin data embed`");
    struct recommender *r = memory_alloc(1, sizeof *r);
    if (!r)
        return error_memory(error);
    *r = (struct recommender){ .backend = backend, .catalog = catalog, .vectors = vectors,
                               .items = info.items, .dimension = info.dimension };
    struct filter_fields described = { .fields = fields, .count = sizeof fields / sizeof *fields,
                                       .rows = info.items, .context = catalog };
    TRY_DONE(filter_table_create(&described, &r->table, error));
    r->shared = memory_alloc(1, sizeof *r->shared);
    if (!r->shared || !(r->shared->lock = mutex_create()))
        TRY_DONE(error_memory(error));
    *recommender = r;
done:
    if (status != AKIN_OK)
        recommender_close(&r);
    return status;
}

static void aids_destroy(struct aids *aids)
{
    if (!aids)
        return;
    titles_destroy(&aids->titles);
    cooccur_destroy(&aids->cooccur);
    memory_free(aids->popularity);
    memory_free(aids->by_popularity);
    graph_past_deinit(&aids->past);
    memory_free(aids);
}

static void shared_destroy(struct shared *shared)
{
    if (!shared)
        return;
    aids_destroy(shared->aids);
    space_destroy(&shared->space);
    while (shared->idle) {
        struct scratch *next = shared->idle->next;
        scratch_free(shared->idle);
        shared->idle = next;
    }
    if (shared->lock)
        mutex_destroy(&shared->lock);
    memory_free(shared);
}

void recommender_close(struct recommender **recommender)
{
    struct recommender *r = *recommender;
    if (!r)
        return;
    personal_card_destroy(&r->card);        /* which reads the rows of the index's */
    space_index_destroy(&r->index);
    shared_destroy(r->shared);
    item_rows_free(&r->rows);
    filter_table_destroy(&r->table);
    memory_free(r);
    *recommender = NULL;
}

void recommender_use_live(struct recommender *recommender, struct users *users)
{
    recommender->users = users;
}

void recommender_use_explore(struct recommender *recommender, struct explore *explore)
{
    recommender->explore = explore;
}

void recommender_use_source(struct recommender *recommender,
                            const struct recommend_source *source)
{
    struct shared *shared = recommender->shared;
    personal_card_destroy(&recommender->card);      /* made of what was learned before */
    shared->source = *source;
    atomic_store(&shared->opened, false);
    shared->inputs = (struct recommend_inputs){ 0 };
    aids_destroy(shared->aids);     /* popularity may be another one */
    shared->aids = NULL;
}

void recommender_use_inputs(struct recommender *recommender, const struct recommend_inputs *inputs)
{
    recommender_use_source(recommender, &(struct recommend_source){ 0 });
    recommender->shared->inputs = *inputs;
}

void recommender_use_rescorer(struct recommender *recommender,
                              const struct recommend_rescorer *rescorer)
{
    recommender->rescorer = *rescorer;
}

enum akin_status recommender_fitted(const struct recommender *r, bool *fitted,
                                    struct akin_error *error)
{
    const struct recommend_inputs *inputs;
    TRY(recommender_inputs(r, &inputs, error));
    *fitted = inputs->fitted;
    return AKIN_OK;
}

enum akin_status recommender_use_neighbors(struct recommender *recommender,
                                           struct neighbors *neighbors, struct akin_error *error)
{
    bool fitted;
    TRY(recommender_fitted(recommender, &fitted, error));
    recommender->ready = (struct ready){ .neighbors = neighbors, .blend = fitted,
                                         .recall = REQUEST_RECALL };
    return AKIN_OK;
}

/* ---- aids ------------------------------------------------------------------------------- */

/* Most popular first, ties by row. */
static int by_popularity(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static enum akin_status rank_popularity(const struct recommender *r, struct aids *aids,
                                        struct akin_error *error)
{
    double most = 0;
    struct hit *order = memory_alloc(r->items + 1, sizeof *order);
    aids->popularity = memory_alloc(r->items + 1, sizeof *aids->popularity);
    aids->by_popularity = memory_alloc(r->items + 1, sizeof *aids->by_popularity);
    if (!order || !aids->popularity || !aids->by_popularity) {
        memory_free(order);
        return error_memory(error);
    }
    for (size_t row = 0; row < r->items; row++) {
        const float *given = r->shared->inputs.popularity;
        double count = given ? (double)given[row] : (double)catalog_item_ratings(r->catalog, row);
        count = count > 0 && isfinite(count) ? log1p(count) : 0;
        most = count > most ? count : most;
        order[row] = (struct hit){ (float)count, (uint32_t)row };
    }
    for (size_t row = 0; row < r->items; row++)
        aids->popularity[row] = most > 0 ? order[row].score / (float)most : 0;
    if (r->items)
        qsort(order, r->items, sizeof *order, by_popularity);
    for (size_t i = 0; i < r->items; i++)
        aids->by_popularity[i] = order[i].row;
    memory_free(order);
    return AKIN_OK;
}

static enum akin_status make_aids(const struct recommender *r, struct aids **aids,
                                  struct akin_error *error)
{
    struct aids *made = memory_alloc(1, sizeof *made);
    enum akin_status status = AKIN_OK;
    if (!made)
        return error_memory(error);
    TRY_DONE(titles_create(r->catalog, &made->titles, error));
    if (!r->shared->inputs.similar.starts)
        TRY_DONE(cooccur_create(r->catalog, &made->cooccur, error));
    TRY_DONE(rank_popularity(r, made, error));
    if (r->shared->inputs.graph)
        TRY_DONE(graph_past_make(r->shared->inputs.graph, r->shared->space->vectors, &made->past,
                                 error));
    *aids = made;
done:
    if (status != AKIN_OK)
        aids_destroy(made);
    return status;
}

/* With the lock held. */
static enum akin_status make_space(const struct recommender *r, struct akin_error *error)
{
    struct shared *shared = r->shared;
    if (!shared->space)
        TRY(space_create(r->backend, r->catalog, &shared->space, error));
    atomic_store(&shared->spaced, true);
    return AKIN_OK;
}

/* The first who asks makes these three; others wait. */
enum akin_status recommender_space(const struct recommender *r, const struct space **space,
                                   struct akin_error *error)
{
    struct shared *shared = r->shared;
    enum akin_status status = AKIN_OK;
    if (!atomic_load(&shared->spaced)) {
        mutex_lock(shared->lock);
        status = make_space(r, error);
        mutex_unlock(shared->lock);
    }
    *space = status == AKIN_OK ? shared->space : NULL;
    return status;
}

/* With the lock held. */
static enum akin_status open_inputs(struct shared *shared, struct akin_error *error)
{
    struct recommend_inputs opened = { 0 };
    if (!shared->source.open)
        return AKIN_OK;
    TRY(shared->source.open(shared->source.context, &opened, error));
    shared->inputs = opened;
    shared->source = (struct recommend_source){ 0 };
    return AKIN_OK;
}

enum akin_status recommender_inputs(const struct recommender *r,
                                    const struct recommend_inputs **inputs,
                                    struct akin_error *error)
{
    struct shared *shared = r->shared;
    enum akin_status status = AKIN_OK;
    if (!atomic_load(&shared->opened)) {
        mutex_lock(shared->lock);
        status = open_inputs(shared, error);
        atomic_store(&shared->opened, status == AKIN_OK);
        mutex_unlock(shared->lock);
    }
    *inputs = &shared->inputs;
    return status;
}

static enum akin_status get_aids(const struct recommender *r, const struct aids **aids,
                                 struct akin_error *error)
{
    mutex_lock(r->shared->lock);
    enum akin_status status = open_inputs(r->shared, error);
    if (status == AKIN_OK && !r->shared->aids && r->shared->inputs.graph)
        status = make_space(r, error);
    if (status == AKIN_OK && !r->shared->aids)
        status = make_aids(r, &r->shared->aids, error);
    *aids = r->shared->aids;
    mutex_unlock(r->shared->lock);
    return status;
}

enum akin_status recommender_prepare(struct recommender *recommender,
                                     struct akin_progress progress, struct akin_error *error)
{
    const struct aids *aids;
    const struct space *space;
    TRY(get_aids(recommender, &aids, error));
    TRY(recommender_space(recommender, &space, error));
    if (!recommender->rows.starts && aids->cooccur) {
        enum akin_status status = cooccur_rows(aids->cooccur, cpu_threads(recommender->backend),
                                               &recommender->rows, error);
        if (status != AKIN_OK)
            item_rows_free(&recommender->rows);
        TRY(status);
    }
    if (recommender->index)
        return AKIN_OK;
    return space_index_create(recommender->backend, space, progress, &recommender->index, error);
}

enum akin_status recommender_use_card(struct recommender *recommender,
                                      const struct search_device_ops *ops, int ordinal,
                                      struct akin_error *error)
{
    const struct space *space;
    TRY(recommender_space(recommender, &space, error));
    ASSERT(recommender->index);
    return space_index_use_card(recommender->index, space, ops, ordinal, error);
}

enum akin_status recommender_use_personal(struct recommender *recommender,
                                          const struct personal_device_ops *ops, int ordinal,
                                          struct akin_error *error)
{
    const struct recommend_inputs *inputs;
    const struct aids *aids;
    const struct space *space;
    const struct search_device *rows = space_index_card(recommender->index);
    if (recommender->card)
        return AKIN_OK;
    if (!rows)
        return error_set(error, AKIN_UNSUPPORTED, "the rows are not on a card");
    TRY(recommender_inputs(recommender, &inputs, error));
    TRY(get_aids(recommender, &aids, error));
    TRY(recommender_space(recommender, &space, error));
    struct personal_source source = {
        .ops = ops, .ordinal = ordinal, .rows = rows, .space = space,
        .similar = inputs->similar.starts ? &inputs->similar : &recommender->rows,
        .popularity = aids->popularity, .by_popularity = aids->by_popularity,
        .speaker = inputs->speaker,
    };
    return personal_card_create(&source, &recommender->card, error);
}

bool recommender_card_failed(const struct recommender *r, struct akin_error *why)
{
    return personal_card_failed(r->card, why) || space_index_card_failed(r->index, why);
}

/* ---- filter ---------------------------------------------------------------------------- */

enum akin_status request_filter(const struct recommender *r, const char *text, uint64_t **bits,
                                size_t *passing, struct akin_error *error)
{
    *passing = r->items;
    if (!text)
        return AKIN_OK;
    struct filter *filter = NULL;
    TRY(filter_compile(fields, sizeof fields / sizeof *fields, text, &filter, error));
    uint64_t *written = memory_alloc(filter_words(r->items), sizeof *written);
    enum akin_status status =
        written ? filter_table_evaluate(r->table, filter, written, passing, error)
                : error_memory(error);
    filter_destroy(&filter);
    if (status == AKIN_OK)
        *bits = written;
    else
        memory_free(written);
    return status;
}

/* ---- requests --------------------------------------------------------------------------- */

void recommend_request_default(struct akin_request *request)
{
    *request = (struct akin_request){ .k = 10, .query_weight = -1, .popularity = -1,
                                      .recall = REQUEST_RECALL };
}

static double lap_ms(uint64_t *since)
{
    uint64_t now = clock_monotonic_ns();
    double ms = (double)(now - *since) / 1e6;
    *since = now;
    return ms;
}

/* By published vectors: every item is scored. */
static enum akin_status search_published(struct asked *a, struct akin_recommendation *results,
                                         size_t *found, struct akin_error *error)
{
    struct scratch *s = a->s;
    size_t k = a->request->k < s->allowed_count ? a->request->k : s->allowed_count;
    *found = 0;
    if (k == 0)
        return AKIN_OK;
    if (!array_reserve((void **)&s->hits, &s->hit_capacity, k, sizeof *s->hits))
        return error_memory(error);
    struct topk_request request = {
        .rows = a->r->vectors, .row_count = a->r->items, .dim = a->r->dimension,
        .queries = s->vector, .query_count = 1, .k = k, .score = SCORE_INNER_PRODUCT,
        .allowed = s->allowed,
    };
    TRY(cpu_topk(a->r->backend, &request, s->hits, found, error));
    for (size_t i = 0; i < *found; i++)
        results[i] = (struct akin_recommendation){
            .row = s->hits[i].row, .similarity = s->hits[i].score, .score = s->hits[i].score,
            .parts = { .text = s->hits[i].score },
        };
    return AKIN_OK;
}

static enum akin_status answer(struct asked *a, const float *query_vector,
                               struct akin_recommendation *results,
                               struct akin_explanation *explanations, size_t *found,
                               struct akin_recommend_timing *spent, struct akin_error *error)
{
    uint64_t since = clock_monotonic_ns();
    uint64_t *filtered = NULL;
    size_t passing;
    bool ready = false;
    TRY(request_resolve(a, query_vector, error));
    TRY(request_fuse(a, error));
    if (a->blend)
        TRY(get_aids(a->r, &a->aids, error));
    spent->fuse_ms = lap_ms(&since);
    if (!explanations)
        TRY(request_ready(a, results, found, &ready, error));
    spent->search_ms = lap_ms(&since);
    if (ready)
        return AKIN_OK;
    TRY(request_filter(a->r, a->request->filter, &filtered, &passing, error));
    request_allow(a, filtered);
    memory_free(filtered);
    spent->filter_ms = lap_ms(&since);
    if (!a->blend) {
        TRY(search_published(a, results, found, error));
        spent->search_ms = lap_ms(&since);
    } else {
        request_weigh(a);
        TRY(request_candidates(a, error));
        spent->search_ms = lap_ms(&since);
        spent->graph_ms = a->graph_ms;
        spent->new_ms = a->new_ms;
        spent->situation_ms = a->situation_ms;
        spent->situation_candidates = a->situation_candidates;
        TRY(a->request->explore ? request_explore(a, results, found, error)
                                : request_pick(a, results, found, error));
    }
    if (explanations)
        TRY(recommender_space(a->r, &a->space, error));
    if (explanations)
        TRY(request_explain(a, results, *found, explanations, error));
    spent->rerank_ms = lap_ms(&since);
    return AKIN_OK;
}

/* On the card, where it takes such a request; *answered false: it did not, for whatever reason. */
static enum akin_status answer_on_card(struct asked *a, const float *query_vector,
                                       struct akin_recommendation *results, size_t *found,
                                       bool *answered, struct akin_recommend_timing *spent,
                                       struct akin_error *error)
{
    uint64_t since = clock_monotonic_ns();
    uint64_t *filtered = NULL;
    size_t passing;
    struct personal_asked asked;
    TRY(request_resolve(a, query_vector, error));
    spent->fuse_ms = lap_ms(&since);
    TRY(request_filter(a->r, a->request->filter, &filtered, &passing, error));
    spent->filter_ms = lap_ms(&since);
    if (personal_ask(a, query_vector, passing, &asked))
        *answered = personal_answer_one(a->r->card, &asked, filtered, a->request->k, results,
                                        found);
    memory_free(filtered);
    spent->search_ms = lap_ms(&since);
    return AKIN_OK;
}

static enum akin_status run(const struct recommender *r, const struct akin_request *request,
                            bool anew, const float *query_vector,
                            struct akin_recommendation *results,
                            struct akin_explanation *explanations, size_t *found,
                            struct akin_recommend_timing *timing, struct akin_error *error)
{
    uint64_t begin = clock_monotonic_ns();
    struct akin_recommend_timing spent = { 0 };
    size_t count = 0;
    TRY(request_check(r, request, query_vector, error));
    struct scratch *s = scratch_take(r);
    if (!s)
        return error_memory(error);
    struct akin_request longer = *request;
    longer.k += request->explore ? explore_places(request->k) : 0;
    bool answered = false;
    enum akin_status status = AKIN_OK;
    const struct recommend_inputs *inputs;
    if (!explanations && personal_card_works(r->card) &&
        recommender_inputs(r, &inputs, NULL) == AKIN_OK && personal_takes(r, inputs, request)) {
        struct asked asked = { .r = r, .request = &longer, .wanted = request->k, .s = s,
                               .anew = anew, .on_card = true };
        status = answer_on_card(&asked, query_vector, results, &count, &answered, &spent, error);
    }
    if (status == AKIN_OK && !answered) {
        struct asked asked = { .r = r, .request = &longer, .wanted = request->k, .s = s,
                               .anew = anew };
        status = answer(&asked, query_vector, results, explanations, &count, &spent, error);
    }
    scratch_give(r, s);
    TRY(status);
    *found = count;
    spent.total_ms = lap_ms(&begin);
    if (timing)
        *timing = spent;
    return AKIN_OK;
}

enum akin_status recommend(const struct recommender *r, const struct akin_request *request,
                           const float *query_vector, struct akin_recommendation *results,
                           struct akin_explanation *explanations, size_t *found,
                           struct akin_recommend_timing *timing, struct akin_error *error)
{
    return run(r, request, false, query_vector, results, explanations, found, timing, error);
}

enum akin_status recommend_anew(const struct recommender *r, const struct akin_request *request,
                                struct akin_recommendation *results, size_t *found,
                                struct akin_error *error)
{
    return run(r, request, true, NULL, results, NULL, found, NULL, error);
}

enum akin_status recommender_knows(const struct recommender *r, const char *user, bool *knows,
                                   struct akin_error *error)
{
    size_t number;
    *knows = catalog_find_user(r->catalog, user, &number, NULL) == AKIN_OK;
    if (*knows || !r->users)
        return AKIN_OK;
    struct scratch *s = scratch_take(r);
    if (!s)
        return error_memory(error);
    enum akin_status status = users_read(r->users, user, &s->profile, error);
    *knows = status == AKIN_OK && s->profile.count > 0;
    scratch_give(r, s);
    return status;
}

enum akin_status recommender_count(const struct recommender *r, const char *filter, size_t *count,
                                   struct akin_error *error)
{
    uint64_t *allowed = NULL;
    TRY(request_filter(r, filter, &allowed, count, error));
    memory_free(allowed);
    return AKIN_OK;
}

/* ---- reports ---------------------------------------------------------------------------- */

enum akin_status recommend_report(const struct recommender *r,
                                  const struct akin_recommendation *results, size_t count,
                                  struct akin_list_report *report, struct akin_error *error)
{
    const struct aids *aids;
    struct akin_catalog_info info;
    struct akin_list_report told = { 0 };
    const struct space *space;
    TRY(get_aids(r, &aids, error));
    TRY(recommender_space(r, &space, error));
    catalog_info(r->catalog, &info);
    size_t pairs = 0, popular = r->items / 100 ? r->items / 100 : 1;
    float least = r->items ? aids->popularity[aids->by_popularity[popular - 1]] : 0;
    for (size_t i = 0; i < count; i++) {
        double raters = (double)catalog_item_ratings(r->catalog, results[i].row);
        double users = info.users ? (double)info.users : 1;
        told.novelty_bits += log2(users / fmin(fmax(raters, 1), users));
        told.popular_share += least > 0 && aids->popularity[results[i].row] >= least;
        for (size_t j = 0; j < i && i < REPORT_PAIRED; j++, pairs++) {
            uint32_t other = (uint32_t)results[j].row;
            float product;
            request_products(space, r->backend, space->vectors + results[i].row * space->dim,
                             &other, 1, &product);
            told.diversity += 1 - (double)product;
        }
    }
    told.novelty_bits /= count ? (double)count : 1;
    told.popular_share /= count ? (double)count : 1;
    told.diversity /= pairs ? (double)pairs : 1;
    *report = told;
    return AKIN_OK;
}

void recommender_memory(const struct recommender *r, struct akin_recommender_memory *memory)
{
    struct catalog_memory held;
    catalog_memory(r->catalog, &held);
    *memory = (struct akin_recommender_memory){
        .item_vectors = held.item_vectors,
        .user_vectors = held.user_vectors,
        .metadata = held.metadata + filter_table_bytes(r->table),
        .ratings = held.ratings,
        .index = space_index_bytes(r->index) + item_rows_bytes(&r->rows),
    };
    mutex_lock(r->shared->lock);
    const struct aids *aids = r->shared->aids;
    memory->space = r->shared->space ? space_bytes(r->shared->space) : 0;
    if (aids)
        memory->index += titles_bytes(aids->titles) + r->items * 2 * sizeof(float) +
                         (aids->cooccur ? cooccur_bytes(aids->cooccur) : 0) +
                         graph_past_bytes(&aids->past);
    mutex_unlock(r->shared->lock);
    memory->total = memory->item_vectors + memory->user_vectors + memory->metadata +
                    memory->ratings + memory->space + memory->index;
}
