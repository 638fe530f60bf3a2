/* A request goes through four steps: resolve (names to vectors and rows to leave out), fuse (to one
 * vector), filter (to a bitmap), search (every item that passes is scored). A request has its own
 * memory; the recommender is read only after it is open. */
#include "recommend/recommend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "index/filter.h"
#include "recommend/users.h"

enum { HITS_MAX = 1 << 20 };    /* hits of one call of the backend; bounds our memory */

struct recommender {
    struct backend *backend;
    const struct catalog *catalog;
    const float *vectors;       /* [items][dimension] */
    size_t items, dimension;
    struct filter_table *table;
    struct users *users;        /* NULL: nobody is live */
};

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

static const struct filter_field fields[] = {
    { .names = "genre genres", .type = FILTER_TEXT, .text = field_genre },
    { .names = "theme themes tag tags", .type = FILTER_TEXT, .text = field_theme },
    { .names = "year", .type = FILTER_NUMBER, .number = field_year },
    { .names = "title", .type = FILTER_TEXT, .text = field_title },
    { .names = "id media_id", .type = FILTER_TEXT, .text = field_id },
};

/* ---- open and close --------------------------------------------------------------------- */

enum akin_status recommender_open(struct backend *backend, const struct catalog *catalog,
                                  struct recommender **recommender, struct akin_error *error)
{
    struct akin_catalog_info info;
    catalog_info(catalog, &info);
    const float *vectors = catalog_item_vectors(catalog);
    if (!vectors || info.dimension == 0)
        return error_set(error, AKIN_NOT_FOUND,
                         "the catalogue has no vectors yet: make them with `akin data embed`");
    struct recommender *opened = memory_alloc(1, sizeof *opened);
    if (!opened)
        return error_memory(error);
    *opened = (struct recommender){ .backend = backend, .catalog = catalog, .vectors = vectors,
                                    .items = info.items, .dimension = info.dimension };
    struct filter_fields described = { .fields = fields, .count = sizeof fields / sizeof *fields,
                                       .rows = info.items, .context = catalog };
    enum akin_status status = filter_table_create(&described, &opened->table, error);
    if (status == AKIN_OK)
        *recommender = opened;
    else
        recommender_close(&opened);
    return status;
}

void recommender_close(struct recommender **recommender)
{
    if (!*recommender)
        return;
    filter_table_destroy(&(*recommender)->table);
    memory_free(*recommender);
    *recommender = NULL;
}

void recommender_use_live(struct recommender *recommender, struct users *users)
{
    recommender->users = users;
}

/* ---- resolve ---------------------------------------------------------------------------- */

/* What a request names, found in the catalogue. */
struct sources {
    const float *item, *user, *query;   /* [dimension]; NULL: not asked for */
    uint32_t *skip;                     /* rows left out, ascending */
    size_t skip_count;
    const struct akin_rating *rated;    /* by the user, before the import */
    size_t rated_count;
    struct user_profile live;           /* empty where nobody is live */
};

static int compare_rows(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static enum akin_status resolve_user(const struct recommender *r, const char *id,
                                     struct sources *sources, struct akin_error *error)
{
    size_t user;
    struct user_profile *live = &sources->live;
    if (r->users) {
        if (!user_profile_init(live, r->dimension))
            return error_memory(error);
        TRY(users_read(r->users, id, live, error));
    }
    enum akin_status status = catalog_find_user(r->catalog, id, &user, error);
    if (status == AKIN_OK) {
        sources->rated = catalog_user_ratings(r->catalog, user, &sources->rated_count);
        sources->user = catalog_user_vector(r->catalog, user);
    }
    if (live->live)
        sources->user = live->fast;
    else
        TRY(status);
    if (!sources->user)
        return error_set(error, AKIN_NOT_FOUND,
                         "user %.200s has no vector: rated nothing, or came after the "
                         "last `akin data embed`",
                         id);
    return AKIN_OK;
}

/* What is left out: the item itself, and what the user has rated unless that is asked for. */
static enum akin_status list_skipped(struct sources *sources, bool include_seen,
                                     const size_t *similar, struct akin_error *error)
{
    size_t rated = include_seen ? 0 : sources->rated_count;
    size_t live = include_seen ? 0 : sources->live.seen_count;
    sources->skip = memory_alloc(rated + live + 1, sizeof *sources->skip);
    if (!sources->skip)
        return error_memory(error);
    for (size_t i = 0; i < rated; i++)
        sources->skip[sources->skip_count++] = sources->rated[i].row;
    for (size_t i = 0; i < live; i++)
        sources->skip[sources->skip_count++] = sources->live.seen[i];
    if (similar)
        sources->skip[sources->skip_count++] = (uint32_t)*similar;
    if (sources->skip_count)
        qsort(sources->skip, sources->skip_count, sizeof *sources->skip, compare_rows);
    return AKIN_OK;
}

static enum akin_status resolve(const struct recommender *r, const struct akin_request *request,
                                const float *query_vector, struct sources *sources,
                                struct akin_error *error)
{
    if (!request->similar && !request->user && !request->query)
        return error_set(error, AKIN_ARGUMENT,
                         "nothing to recommend by: name an item, a user or a query");
    if (request->query && !query_vector)
        return error_set(error, AKIN_ARGUMENT, "a query needs a model to understand it: open one");
    size_t row = 0;
    sources->query = request->query ? query_vector : NULL;
    if (request->similar) {
        if (catalog_find_id(r->catalog, request->similar, &row, NULL) != AKIN_OK)
            TRY(catalog_find(r->catalog, request->similar, &row, error));
        sources->item = r->vectors + row * r->dimension;
    }
    if (request->user)
        TRY(resolve_user(r, request->user, sources, error));
    return list_skipped(sources, request->include_seen, request->similar ? &row : NULL, error);
}

/* ---- fuse ------------------------------------------------------------------------------- */

/* sum [dimension] += weight * x / |x| */
static enum akin_status add_unit(double *sum, const float *x, size_t dimension, double weight,
                                 const char *what, struct akin_error *error)
{
    double squares = 0;
    for (size_t i = 0; i < dimension; i++)
        squares += (double)x[i] * x[i];
    if (!(squares > 0) || !isfinite(squares))
        return error_set(error, AKIN_ARGUMENT, "the vector of the %s is %s: it points nowhere",
                         what, squares == 0 ? "zero" : "not finite");
    double scale = weight / sqrt(squares);
    for (size_t i = 0; i < dimension; i++)
        sum[i] += scale * x[i];
    return AKIN_OK;
}

/* The vector of the formula in recommend.h into `out` [dimension]; `sum` is scratch, zeroed. */
static enum akin_status fuse(const struct sources *sources, float query_weight, size_t dimension,
                             double *sum, float *out, struct akin_error *error)
{
    if (sources->item && !sources->user && !sources->query) {
        memcpy(out, sources->item, dimension * sizeof *out);
        return AKIN_OK;
    }
    double others = (sources->item != NULL) + (sources->user != NULL);
    double weight = others == 0 ? 1 : sources->query ? query_weight : 0;
    if (sources->query)
        TRY(add_unit(sum, sources->query, dimension, weight, "query", error));
    if (sources->item)
        TRY(add_unit(sum, sources->item, dimension, (1 - weight) / others, "item", error));
    if (sources->user)
        TRY(add_unit(sum, sources->user, dimension, (1 - weight) / others, "user", error));
    double squares = 0;
    for (size_t i = 0; i < dimension; i++)
        squares += sum[i] * sum[i];
    if (!(squares > 1e-12))
        return error_set(error, AKIN_ARGUMENT,
                         "what is asked for cancels out: ask for less at once");
    for (size_t i = 0; i < dimension; i++)
        out[i] = (float)(sum[i] / sqrt(squares));
    return AKIN_OK;
}

/* ---- filter and search ------------------------------------------------------------------ */

/* Allocates the bitmap of a filter; leaves it NULL for no filter. */
static enum akin_status filter_rows(const struct recommender *r, const char *text, uint64_t **bits,
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

/* The k best for each vector [count][dimension] into results [count][k]; `skip` is for all. */
static enum akin_status search(const struct recommender *r, const float *vectors, size_t count,
                               size_t k, const uint64_t *allowed, const struct row_list *skip,
                               struct akin_recommendation *results, size_t *found,
                               struct akin_error *error)
{
    size_t k_found = k < r->items ? k : r->items;
    if (k_found == 0 || count == 0) {
        for (size_t q = 0; q < count; q++)
            found[q] = 0;
        return AKIN_OK;
    }
    size_t step = HITS_MAX / k_found;
    step = step == 0 ? 1 : step > count ? count : step;
    struct hit *hits = memory_alloc_aligned(step, k_found * sizeof *hits);
    if (!hits)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    for (size_t q = 0; status == AKIN_OK && q < count; q += step) {
        struct topk_request request = {
            .rows = r->vectors,
            .row_count = r->items,
            .dim = r->dimension,
            .queries = vectors + q * r->dimension,
            .query_count = count - q < step ? count - q : step,
            .k = k_found,
            .score = SCORE_INNER_PRODUCT,
            .allowed = allowed,
            .skip = skip,
        };
        status = cpu_topk(r->backend, &request, hits, found + q, error);
        for (size_t i = 0; status == AKIN_OK && i < request.query_count; i++)
            for (size_t rank = 0; rank < found[q + i]; rank++) {
                const struct hit *hit = &hits[i * k_found + rank];
                results[(q + i) * k + rank] = (struct akin_recommendation){ hit->row, hit->score };
            }
    }
    memory_free(hits);
    return status;
}

static enum akin_status check_k(size_t k, struct akin_error *error)
{
    if (k > K_MAX)
        return error_set(error, AKIN_LIMIT, "k is %zu: at most %d results at once", k, K_MAX);
    return AKIN_OK;
}

/* ---- requests --------------------------------------------------------------------------- */

void recommend_request_default(struct akin_request *request)
{
    *request = (struct akin_request){ .k = 10, .query_weight = 0.7f };
}

static double lap_ms(uint64_t *since)
{
    uint64_t now = clock_monotonic_ns();
    double ms = (double)(now - *since) / 1e6;
    *since = now;
    return ms;
}

enum akin_status recommend(const struct recommender *r, const struct akin_request *request,
                           const float *query_vector, struct akin_recommendation *results,
                           size_t *found, struct akin_recommend_timing *timing,
                           struct akin_error *error)
{
    TRY(check_k(request->k, error));
    if (!(request->query_weight >= 0 && request->query_weight <= 1))
        return error_set(error, AKIN_ARGUMENT, "query weight %g: it is a number from 0 to 1",
                         (double)request->query_weight);
    uint64_t begin = clock_monotonic_ns(), since = begin;
    struct akin_recommend_timing spent = { 0 };
    struct sources sources = { 0 };
    uint64_t *allowed = NULL;
    size_t passing;
    enum akin_status status = AKIN_OK;
    double *sum = memory_alloc(r->dimension, sizeof *sum);
    float *vector = memory_alloc(r->dimension, sizeof *vector);
    if (!sum || !vector)
        TRY_DONE(error_memory(error));
    TRY_DONE(resolve(r, request, query_vector, &sources, error));
    TRY_DONE(fuse(&sources, request->query_weight, r->dimension, sum, vector, error));
    spent.fuse_ms = lap_ms(&since);
    TRY_DONE(filter_rows(r, request->filter, &allowed, &passing, error));
    spent.filter_ms = lap_ms(&since);
    struct row_list skip = { sources.skip, sources.skip_count };
    TRY_DONE(search(r, vector, 1, request->k, allowed, &skip, results, found, error));
    spent.search_ms = lap_ms(&since);
    spent.total_ms = lap_ms(&begin);
    if (timing)
        *timing = spent;
done:
    memory_free(allowed);
    memory_free(sources.skip);
    user_profile_deinit(&sources.live);
    memory_free(vector);
    memory_free(sum);
    return status;
}

enum akin_status recommend_vectors(const struct recommender *r, const float *vectors, size_t count,
                                   size_t k, const char *filter,
                                   struct akin_recommendation *results, size_t *found,
                                   struct akin_error *error)
{
    TRY(check_k(k, error));
    for (size_t i = 0; i < count * r->dimension; i++)
        if (!isfinite(vectors[i]))
            return error_set(error, AKIN_ARGUMENT, "vector %zu: column %zu is not finite",
                             i / r->dimension, i % r->dimension);
    uint64_t *allowed = NULL;
    size_t passing;
    TRY(filter_rows(r, filter, &allowed, &passing, error));
    enum akin_status status = search(r, vectors, count, k, allowed, NULL, results, found, error);
    memory_free(allowed);
    return status;
}

enum akin_status recommender_count(const struct recommender *r, const char *filter, size_t *count,
                                   struct akin_error *error)
{
    uint64_t *allowed = NULL;
    TRY(filter_rows(r, filter, &allowed, count, error));
    memory_free(allowed);
    return AKIN_OK;
}

void recommender_memory(const struct recommender *r, struct akin_recommender_memory *memory)
{
    struct catalog_memory held;
    catalog_memory(r->catalog, &held);
    *memory = (struct akin_recommender_memory){
        .item_vectors = held.item_vectors, .user_vectors = held.user_vectors,
        .metadata = held.metadata + filter_table_bytes(r->table), .ratings = held.ratings,
    };
    memory->total =
        memory->item_vectors + memory->user_vectors + memory->metadata + memory->ratings;
}
