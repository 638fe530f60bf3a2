/* Lists from the items' vectors, and what a catalogue knows of demand. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "catalog/catalog.h"
#include "compute/search_device.h"
#include "recommend/neighbors.h"

/* One more than wanted, because the item itself is among its nearest, though not always first:
 * others may be its equals, or longer. */
enum { ASKED = AKIN_NEIGHBORS_MAX + 1 };

static void copy_hits(const struct hit *hits, size_t count, struct akin_neighbor *list)
{
    for (size_t i = 0; i < count; i++)
        list[i] = (struct akin_neighbor){ hits[i].row, hits[i].score };
}

/* The hits of a query, which was row `self`, become its list. */
static void put_list(const struct neighbors_sink *sink, uint32_t self, const struct hit *hits,
                     size_t count)
{
    struct akin_neighbor *list = sink->begin(sink->context);
    size_t at = 0, found = count < AKIN_NEIGHBORS_MAX ? count : AKIN_NEIGHBORS_MAX;
    while (at < count && hits[at].row != self)
        at++;
    if (at < found) {           /* from there on, one less */
        found = count - 1;
        copy_hits(hits + at + 1, found - at, list + at);
    }
    copy_hits(hits, at < found ? at : found, list);
    sink->end(sink->context, self, found);
}

struct taking {
    const struct neighbors_sink *sink;
    const uint32_t *rows;
};

static void take_answer(void *context, size_t query, const struct hit *hits, size_t found)
{
    const struct taking *taking = context;
    put_list(taking->sink, taking->rows[query], hits, found);
}

/* false: there is no card, or it cannot. */
static bool search_on_card(struct neighbors_vectors *v, const uint32_t *rows, size_t count,
                           size_t k, const struct neighbors_sink *sink)
{
    static_assert((int)ASKED <= (int)SEARCH_DEVICE_K_MAX, "a card finds as many");
    static_assert((int)ASKED > (int)SEARCH_DEVICE_INT8_K, "and needs no int8 for it");
    struct taking taking = { sink, rows };
    struct device_query query = { .rows = rows, .query_count = count, .k = k,
                                  .answer = take_answer, .context = &taking };
    if (!v->card)
        return false;
    if (v->card_ops->search(v->card, &query, NULL, NULL, NULL, NULL) == AKIN_OK)
        return true;
    v->card_ops->destroy(&v->card);
    return false;
}

static enum akin_status search_on_cpu(struct neighbors_vectors *v, const uint32_t *rows,
                                      size_t count, size_t k, struct hit *hits, size_t *found,
                                      struct akin_error *error)
{
    float *queries = memory_alloc_aligned(count, v->dim * sizeof *queries);
    if (!queries)
        return error_memory(error);
    for (size_t i = 0; i < count; i++)
        memcpy(queries + i * v->dim, v->vectors + rows[i] * v->dim, v->dim * sizeof *queries);
    struct topk_request request = {
        .rows = v->vectors, .row_count = v->items, .dim = v->dim, .queries = queries,
        .query_count = count, .k = k, .score = SCORE_INNER_PRODUCT,
    };
    enum akin_status status = cpu_topk(v->backend, &request, hits, found, error);
    memory_free(queries);
    return status;
}

size_t neighbors_batch_vectors(void *context)
{
    const struct neighbors_vectors *v = context;
    return v->card ? NEIGHBORS_BATCH_MAX : NEIGHBORS_BATCH;
}

enum akin_status neighbors_compute_vectors(void *context, const uint32_t *rows, size_t count,
                                           const struct neighbors_sink *sink, size_t *done,
                                           struct akin_error *error)
{
    struct neighbors_vectors *v = context;
    size_t asked = v->items < ASKED ? v->items : ASKED, found[NEIGHBORS_BATCH];
    *done = count;
    if (search_on_card(v, rows, count, asked, sink))
        return AKIN_OK;
    if (count > NEIGHBORS_BATCH)        /* of a card that has failed now */
        *done = count = NEIGHBORS_BATCH;
    struct hit *hits = memory_alloc_aligned(count * asked, sizeof *hits);
    if (!hits)
        return error_memory(error);
    enum akin_status status = search_on_cpu(v, rows, count, asked, hits, found, error);
    for (size_t i = 0; status == AKIN_OK && i < count; i++)
        put_list(sink, rows[i], hits + i * asked, found[i]);
    memory_free(hits);
    return status;
}

/* ---- history ---------------------------------------------------------------------------- */

/* The times of all ratings are counted in so many equal spans, to find the newest without sorting
 * all: a catalogue may have 25 million. */
enum { SPANS = 1 << 16 };

struct spans {
    size_t counts[SPANS];
    int64_t first;
    double per_second;
};

static size_t span_of(const struct spans *spans, int64_t timestamp)
{
    double at = ((double)timestamp - (double)spans->first) * spans->per_second;
    return at <= 0 ? 0 : at >= SPANS - 1 ? SPANS - 1 : (size_t)at;
}

static void for_all_ratings(const struct catalog *catalog, size_t users,
                            void (*fn)(void *context, const struct akin_rating *rating),
                            void *context)
{
    for (size_t user = 0; user < users; user++) {
        size_t count = 0;
        const struct akin_rating *ratings = catalog_user_ratings(catalog, user, &count);
        for (size_t i = 0; i < count; i++)
            fn(context, &ratings[i]);
    }
}

static void count_span(void *context, const struct akin_rating *rating)
{
    struct spans *spans = context;
    spans->counts[span_of(spans, rating->timestamp)]++;
}

/* Events on their way to the order of time; `place` is that of the catalogue. */
struct dated {
    int64_t timestamp;
    float rating;
    uint32_t row;
    size_t place;
};

struct collect {
    const struct spans *spans;
    size_t from;                /* the first span that is taken */
    struct dated *dated;
    size_t count;
};

static void collect_rating(void *context, const struct akin_rating *rating)
{
    struct collect *c = context;
    if (span_of(c->spans, rating->timestamp) < c->from)
        return;
    c->dated[c->count] =
        (struct dated){ rating->timestamp, rating->rating, rating->row, c->count };
    c->count++;
}

static int older_first(const void *a, const void *b)
{
    const struct dated *x = a, *y = b;
    if (x->timestamp != y->timestamp)
        return x->timestamp < y->timestamp ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

enum akin_status neighbors_history(const struct catalog *catalog, struct akin_cache_event **events,
                                   size_t *count, struct akin_error *error)
{
    struct akin_catalog_info info;
    catalog_info(catalog, &info);
    double seconds = (double)info.last_rating - (double)info.first_rating;
    struct spans *spans = memory_alloc(1, sizeof *spans);
    struct collect c = { .spans = spans, .from = SPANS };
    struct akin_cache_event *made = NULL;
    enum akin_status status = AKIN_OK;
    size_t taken = 0;
    if (!spans)
        TRY_DONE(error_memory(error));
    spans->first = info.first_rating;
    spans->per_second = seconds > 0 ? SPANS / (seconds + 1) : 0;
    for_all_ratings(catalog, info.users, count_span, spans);
    /* all of one time may be more than the limit: it is kept to by leaving out the oldest below */
    while (c.from > 0 && (taken == 0 || taken + spans->counts[c.from - 1] <= CACHE_HISTORY_MAX))
        taken += spans->counts[--c.from];
    c.dated = memory_alloc(taken, sizeof *c.dated);
    if (!c.dated)
        TRY_DONE(error_memory(error));
    for_all_ratings(catalog, info.users, collect_rating, &c);
    qsort(c.dated, c.count, sizeof *c.dated, older_first);
    size_t skip = c.count > CACHE_HISTORY_MAX ? c.count - CACHE_HISTORY_MAX : 0;
    made = memory_alloc(c.count - skip, sizeof *made);
    if (!made)
        TRY_DONE(error_memory(error));
    double scale = 1 / catalog_rating_max(catalog);
    for (size_t i = skip; i < c.count; i++)
        made[i - skip] = (struct akin_cache_event){ c.dated[i].timestamp,
                                                    (double)c.dated[i].rating * scale,
                                                    c.dated[i].row };
    *events = made;
    *count = c.count - skip;
done:
    memory_free(c.dated);
    memory_free(spans);
    return status;
}
