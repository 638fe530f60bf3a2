/* Exact search: every row scored, the k best kept in a heap per query and thread. Scores exist for
 * one tile of rows at a time. The order (score down, row up, NaN last) is total, so the k best are
 * the same whoever scans which rows. */
#include "base/limits.h"
#include "base/thread.h"
#include "compute/best.h"
#include "compute/cpu/backend_cpu.h"

enum {
    TILE_ROWS = 16,         /* with the queries passing by, these stay in the first-level cache */
    GROUP_QUERIES = 64,     /* share one pass over the rows */
    CHUNK_ROWS = 2048,      /* handed to a thread at a time; a multiple of 64 */
    HEAP_HITS = 1 << 22,    /* what the heaps of a thread may hold, where one query allows */
};

static bool contains(const struct row_list *list, uint32_t row)
{
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list->rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low < list->count && list->rows[low] == row;
}

typedef void score_fn(float *scores, const float *queries, size_t query_count,
                      const float *const *rows, size_t row_count, size_t dim);

static score_fn *score_function(const struct kernels *k, enum score score)
{
    return score == SCORE_L2 ? k->score_l2_f32 : k->score_dot_f32;
}

struct scan {
    const struct topk_request *request;
    score_fn *score;
    size_t first_query, queries;    /* the group of this pass */
    struct best *best;              /* [workers][GROUP_QUERIES] */
    float *scores;                  /* [workers][GROUP_QUERIES * TILE_ROWS] */
};

/* The first row in [row, end) that `allowed` passes, or end. */
static size_t next_allowed(const uint64_t *allowed, size_t row, size_t end)
{
    while (row < end) {
        uint64_t word = allowed[row / 64] >> row % 64;
        if (word) {
            row += (size_t)__builtin_ctzll(word);
            return row < end ? row : end;
        }
        row = (row / 64 + 1) * 64;
    }
    return end;
}

/* A thread meets rows in ascending order, so a score equal to the worst one kept comes too late. */
static void offer_tile(const struct scan *scan, struct best *best, size_t q, const float *scores,
                       const uint32_t *rows, size_t count)
{
    const struct row_list *skip = scan->request->skip;
    for (size_t i = 0; i < count; i++) {
        if (best->count == best->capacity && scores[i] <= best->hits[0].score)
            continue;
        if (!skip || !contains(&skip[scan->first_query + q], rows[i]))
            best_offer(best, (struct hit){ scores[i], rows[i] });
    }
}

static void scan_chunk(void *context, size_t chunk, int worker)
{
    const struct scan *scan = context;
    const struct topk_request *request = scan->request;
    struct best *best = scan->best + (size_t)worker * GROUP_QUERIES;
    float *scores = scan->scores + (size_t)worker * GROUP_QUERIES * TILE_ROWS;
    const float *pointers[TILE_ROWS];
    uint32_t rows[TILE_ROWS];
    size_t row = chunk * CHUNK_ROWS, end = row + CHUNK_ROWS;
    if (end > request->row_count)
        end = request->row_count;
    for (;;) {
        size_t count = 0;
        for (; count < TILE_ROWS; count++, row++) {
            if (request->allowed)
                row = next_allowed(request->allowed, row, end);
            if (row >= end)
                break;
            rows[count] = (uint32_t)row;
            pointers[count] = request->rows + row * request->dim;
        }
        if (!count)
            return;
        scan->score(scores, request->queries + scan->first_query * request->dim, scan->queries,
                    pointers, count, request->dim);
        for (size_t q = 0; q < scan->queries; q++)
            offer_tile(scan, &best[q], q, scores + q * count, rows, count);
    }
}

static void scan_group(const struct scan *scan, struct thread_pool *pool, struct hit *hits,
                       size_t *found)
{
    const struct topk_request *request = scan->request;
    size_t workers = (size_t)thread_pool_size(pool);
    for (size_t i = 0; i < workers * GROUP_QUERIES; i++)
        scan->best[i].count = 0;
    thread_pool_each(pool, (request->row_count + CHUNK_ROWS - 1) / CHUNK_ROWS, scan_chunk,
                     (void *)scan);
    for (size_t q = 0; q < scan->queries; q++) {
        struct best *best = &scan->best[q];
        for (size_t w = 1; w < workers; w++) {
            const struct best *other = &scan->best[w * GROUP_QUERIES + q];
            for (size_t i = 0; i < other->count; i++)
                best_offer(best, other->hits[i]);
        }
        found[scan->first_query + q] = best->count;
        best_drain(best, hits + (scan->first_query + q) * request->k);
    }
}

static enum akin_status check_request(const struct topk_request *request, struct akin_error *error)
{
    if (request->k < 1 || request->k > K_MAX)
        return error_set(error, AKIN_ARGUMENT, "k is %zu; it must be in 1..%d", request->k, K_MAX);
    if (request->dim < 1 || request->dim > DIMENSION_MAX)
        return error_set(error, AKIN_ARGUMENT, "vectors of dimension %zu; it must be in 1..%d",
                         request->dim, DIMENSION_MAX);
    if (request->row_count > UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu rows; at most 2^32 - 1 can be searched",
                         request->row_count);
    return AKIN_OK;
}

enum akin_status cpu_topk(struct backend *backend, const struct topk_request *request,
                          struct hit *hits, size_t *found, struct akin_error *error)
{
    struct cpu_backend *cpu = (struct cpu_backend *)backend;
    TRY(check_request(request, error));
    size_t workers = (size_t)thread_pool_size(cpu->pool);
    size_t capacity = request->k < request->row_count ? request->k : request->row_count, group,
           held;
    group = capacity ? HEAP_HITS / capacity : GROUP_QUERIES;
    group = group < 1 ? 1 : group > GROUP_QUERIES ? GROUP_QUERIES : group;
    group = group > request->query_count ? request->query_count : group;
    enum akin_status status = AKIN_OK;
    struct scan scan = {.request = request, .score = score_function(&cpu->kernels, request->score)};
    struct hit *heaps = NULL;
    if (size_mul(workers * GROUP_QUERIES, TILE_ROWS, &held))
        scan.scores = memory_alloc_aligned(held, sizeof *scan.scores);
    scan.best = memory_alloc(workers * GROUP_QUERIES, sizeof *scan.best);
    if (size_mul(workers * group, capacity, &held))
        heaps = memory_alloc_aligned(held, sizeof *heaps);
    if (!scan.scores || !scan.best || !heaps) {
        status = error_memory(error);
        goto done;
    }
    for (size_t w = 0; w < workers; w++)
        for (size_t q = 0; q < group; q++)
            scan.best[w * GROUP_QUERIES + q] =
                (struct best){ .hits = heaps + (w * group + q) * capacity, .capacity = capacity };
    for (size_t first = 0; first < request->query_count; first += group) {
        scan.first_query = first;
        scan.queries = request->query_count - first < group ? request->query_count - first : group;
        scan_group(&scan, cpu->pool, hits, found);
    }
done:
    memory_free(heaps);
    memory_free(scan.best);
    memory_free(scan.scores);
    return status;
}

float cpu_score(const struct backend *backend, const float *a, const float *b, size_t dim,
                enum score score)
{
    float result;
    score_function(&((const struct cpu_backend *)backend)->kernels, score)(&result, a, 1, &b, 1,
                                                                           dim);
    return result;
}
