// Search on CUDA: rows on the card in fp16 and float32. The fp16 pass finds more than were asked
// for, float32 scores decide among them, and where what was left out could still be better, by how
// far an fp16 score may be off, the query is done again in float32 throughout.
#include "compute/cuda/cuda_search.h"

#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "compute/cuda/search_cuda.cuh"

namespace {

enum { QUERIES_TOGETHER = 2048 };

// What comes back for a chunk of queries, one behind the other.
struct answer_layout {
    size_t hits, found, proven, bytes;
};

answer_layout layout_of(size_t queries, size_t k)
{
    answer_layout l;
    l.hits = 0;
    l.found = queries * k * sizeof(struct hit);
    l.proven = l.found + queries * sizeof(uint32_t);
    l.bytes = l.proven + queries * sizeof(uint32_t);
    return l;
}

}

size_t search_kept(size_t k)
{
    return k <= 10 ? 16 : k <= 26 ? 32 : k <= 58 ? 64 : 256;
}

struct search_device {
    platform *own;
    search_rows rows;
    float margin;               // of an fp16 score, for a query of length 1
    void *narrow_rows, *wide_rows;
    // of a chunk
    float *sent_queries;        // pinned, as is
    unsigned char *received;
    float *queries, *error;
    half_t *narrow;
    uint64_t *lists, *masks;
    uint32_t *mask_of;
    unsigned char *answers;
    size_t lists_bytes, masks_bytes;
};

namespace {

// Grows; what was in it is lost.
enum akin_status need(platform *p, void **memory, size_t *have, size_t bytes,
                      struct akin_error *error)
{
    if (*have >= bytes)
        return AKIN_OK;
    platform_release(p, *memory);
    *memory = nullptr;
    *have = 0;
    enum akin_status status = platform_allocate(p, bytes, memory, error);
    if (status == AKIN_OK)
        *have = bytes;
    return status;
}

void destroy(struct search_device **device)
{
    struct search_device *d = *device;
    if (!d)
        return;
    if (d->own) {
        void *const memory[] = {d->narrow_rows, d->wide_rows, d->queries, d->error, d->narrow,
                                d->lists, d->masks, d->mask_of, d->answers};
        platform_enter(d->own);
        for (void *each : memory)
            platform_release(d->own, each);
        platform_release_pinned(d->own, d->sent_queries);
        platform_release_pinned(d->own, d->received);
        platform_close(d->own);
    }
    delete d;
    *device = nullptr;
}

// Rows in both widths; the greatest length, for the margin.
enum akin_status put_rows(struct search_device *d, const float *rows, struct akin_error *error)
{
    size_t dim = d->rows.dim, together = 65536 / dim + 1;
    std::vector<half_t> narrow(together * dim);
    double longest = 0;
    for (size_t row = 0; row < d->rows.count; row += together) {
        size_t count = d->rows.count - row < together ? d->rows.count - row : together;
        for (size_t r = 0; r < count; r++) {
            double squares = 0;
            for (size_t i = 0; i < dim; i++) {
                float x = rows[(row + r) * dim + i];
                if (!(fabsf(x) < 65504.0f))
                    return error_set(error, AKIN_UNSUPPORTED, "row %zu has a number of %g, beyond "
                                     "the range of fp16: search on the CPU", row + r, (double)x);
                narrow[r * dim + i] = from_float<half_t>(x);
                squares += (double)x * (double)x;
            }
            longest = fmax(longest, sqrt(squares));
        }
        size_t at = row * dim, numbers = count * dim;
        platform_upload(d->own, static_cast<half_t *>(d->narrow_rows) + at, narrow.data(),
                        numbers * sizeof(half_t));
        platform_upload(d->own, static_cast<float *>(d->wide_rows) + at, rows + at,
                        numbers * sizeof(float));
        enum akin_status status = platform_finish(d->own, error);
        if (status != AKIN_OK)
            return status;
    }
    // Both factors rounded to 11 bits, 2^-25 where they are tiny; sums of `dim` terms in float32,
    // in any order. Cauchy-Schwarz turns each into lengths; doubled for what both passes do.
    double relative = ldexp(1, -10) + ldexp(1, -22) + (double)dim * ldexp(1, -23);
    double tiny = sqrt((double)dim) * ldexp(1, -24);
    d->margin = (float)(longest * (relative + ldexp((double)dim, -23)) + tiny * (1 + longest));
    return AKIN_OK;
}

enum akin_status create(int ordinal, const float *rows, size_t row_count, size_t dim,
                        struct search_device **device, struct akin_error *error)
{
    *device = nullptr;
    if (dim == 0 || dim % SEARCH_DEVICE_DIM_UNIT || dim > SEARCH_DEVICE_DIM_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "dimension %zu: on the GPU it is a multiple of "
                         "%d up to %d; search on the CPU", dim, SEARCH_DEVICE_DIM_UNIT,
                         SEARCH_DEVICE_DIM_MAX);
    if (row_count == 0 || row_count >= UINT32_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "%zu rows: on the GPU there are 1 to 4294967294",
                         row_count);
    struct search_device *d = new (std::nothrow) search_device();
    if (!d)
        return error_memory(error);
    enum akin_status status = platform_open(ordinal, &d->own, error);
    struct {
        void **memory;
        size_t bytes;
    } wanted[] = {
        {&d->narrow_rows, row_count * dim * sizeof(half_t)},
        {&d->wide_rows, row_count * dim * sizeof(float)},
        {reinterpret_cast<void **>(&d->queries), QUERIES_TOGETHER * dim * sizeof(float)},
        {reinterpret_cast<void **>(&d->narrow), QUERIES_TOGETHER * dim * sizeof(half_t)},
        {reinterpret_cast<void **>(&d->error), QUERIES_TOGETHER * sizeof(float)},
        {reinterpret_cast<void **>(&d->mask_of), QUERIES_TOGETHER * sizeof(uint32_t)},
        {reinterpret_cast<void **>(&d->answers),
         layout_of(QUERIES_TOGETHER, SEARCH_DEVICE_K_MAX).bytes},
    };
    for (size_t i = 0; status == AKIN_OK && i < sizeof wanted / sizeof *wanted; i++)
        status = platform_allocate(d->own, wanted[i].bytes, wanted[i].memory, error);
    if (status == AKIN_OK)
        status = platform_allocate_pinned(d->own, QUERIES_TOGETHER * dim * sizeof(float),
                                          reinterpret_cast<void **>(&d->sent_queries), error);
    if (status == AKIN_OK)
        status = platform_allocate_pinned(d->own,
                                          layout_of(QUERIES_TOGETHER, SEARCH_DEVICE_K_MAX).bytes,
                                          reinterpret_cast<void **>(&d->received), error);
    if (status == AKIN_OK) {
        d->rows = {static_cast<const half_t *>(d->narrow_rows),
                   static_cast<const float *>(d->wide_rows), row_count, dim};
        status = put_rows(d, rows, error);
    }
    if (status == AKIN_OK)
        *device = d;
    else
        destroy(&d);
    return status;
}

// From lists to hits on the host.
enum akin_status finish(struct search_device *d, size_t first, size_t count, size_t list_count,
                        size_t k, struct akin_error *error)
{
    answer_layout l = layout_of(count, k);
    search_merge(d->own, &d->rows, d->queries + first * d->rows.dim, count, d->lists, list_count,
                 search_kept(k), k, d->error + first,
                 reinterpret_cast<struct hit *>(d->answers + l.hits),
                 reinterpret_cast<uint32_t *>(d->answers + l.found),
                 reinterpret_cast<uint32_t *>(d->answers + l.proven));
    platform_download(d->own, d->received, d->answers, l.bytes);
    return platform_finish(d->own, error);
}

void take(const struct search_device *d, size_t count, size_t k, struct hit *hits, size_t *found)
{
    answer_layout l = layout_of(count, k);
    const uint32_t *found_here = reinterpret_cast<const uint32_t *>(d->received + l.found);
    memcpy(hits, d->received + l.hits, count * k * sizeof *hits);
    for (size_t q = 0; q < count; q++)
        found[q] = found_here[q];
}

// Those that the narrow pass could not prove, one by one.
enum akin_status search_again(struct search_device *d, const search_mask *mask, size_t count,
                              size_t k, struct hit *hits, size_t *found, size_t *again,
                              struct akin_error *error)
{
    answer_layout l = layout_of(count, k);
    const uint32_t *proven = reinterpret_cast<const uint32_t *>(d->received + l.proven);
    std::vector<size_t> left;
    for (size_t q = 0; q < count; q++)
        if (!proven[q])
            left.push_back(q);
    *again += left.size();
    for (size_t q : left) {
        search_one(d->own, &d->rows, d->queries + q * d->rows.dim, q, mask, search_kept(k), true,
                   d->lists);
        enum akin_status status = finish(d, q, 1, SEARCH_ONE_LISTS, k, error);
        if (status != AKIN_OK)
            return status;
        take(d, 1, k, hits + q * k, found + q);
    }
    return AKIN_OK;
}

enum akin_status search_chunk(struct search_device *d, const struct device_query *query,
                              size_t first, size_t count, struct hit *hits, size_t *found,
                              size_t *again, struct akin_error *error)
{
    size_t dim = d->rows.dim, kept = search_kept(query->k);
    size_t lists = count == 1 ? (size_t)SEARCH_ONE_LISTS
                              : search_many_lists(d->own, count, dim, kept);
    size_t wanted = count * lists > SEARCH_ONE_LISTS ? count * lists : (size_t)SEARCH_ONE_LISTS;
    enum akin_status status = need(d->own, reinterpret_cast<void **>(&d->lists), &d->lists_bytes,
                                   wanted * kept * sizeof(uint64_t), error);
    if (status != AKIN_OK)
        return status;
    search_mask mask = {};
    if (query->masks) {
        mask = {d->masks, query->mask_of ? d->mask_of : nullptr, query->mask_words};
        if (query->mask_of)
            platform_upload(d->own, d->mask_of, query->mask_of + first, count * sizeof(uint32_t));
    }
    memcpy(d->sent_queries, query->queries + first * dim, count * dim * sizeof(float));
    platform_upload(d->own, d->queries, d->sent_queries, count * dim * sizeof(float));
    search_narrow(d->own, d->queries, count, dim, d->margin, d->narrow, d->error);
    if (count == 1)
        search_one(d->own, &d->rows, d->queries, 0, &mask, kept, false, d->lists);
    else
        search_many(d->own, &d->rows, d->narrow, count, &mask, kept, lists, d->lists);
    status = finish(d, 0, count, lists, query->k, error);
    if (status != AKIN_OK)
        return status;
    take(d, count, query->k, hits, found);
    return search_again(d, &mask, count, query->k, hits, found, again, error);
}

enum akin_status search(struct search_device *d, const struct device_query *query,
                        struct hit *hits, size_t *found, struct search_counts *counts,
                        struct akin_error *error)
{
    if (!search_many_fits(d->own, d->rows.dim, search_kept(query->k)))
        return error_set(error, AKIN_UNSUPPORTED, "k of %zu: this GPU has no shared memory for more "
                         "than 58 at dimension %zu; search on the CPU", query->k, d->rows.dim);
    size_t repeated = 0, mask_bytes = query->mask_count * query->mask_words * sizeof(uint64_t);
    ASSERT(query->k > 0 && query->k <= SEARCH_DEVICE_K_MAX);
    ASSERT(!query->masks || query->mask_words * 64 >= d->rows.count);
    platform_enter(d->own);
    enum akin_status status = AKIN_OK;
    if (query->masks) {
        status = need(d->own, reinterpret_cast<void **>(&d->masks), &d->masks_bytes, mask_bytes,
                      error);
        if (status == AKIN_OK)
            platform_upload(d->own, d->masks, query->masks, mask_bytes);
    }
    for (size_t first = 0; status == AKIN_OK && first < query->query_count;
         first += QUERIES_TOGETHER) {
        size_t left = query->query_count - first;
        size_t count = left < QUERIES_TOGETHER ? left : (size_t)QUERIES_TOGETHER;
        status = search_chunk(d, query, first, count, hits + first * query->k, found + first,
                              &repeated, error);
    }
    if (counts)
        *counts = {{0, 0, query->query_count - repeated, repeated}};
    return status;
}

}

search_view search_device_view(const struct search_device *device)
{
    return {device->rows, device->margin};
}

extern "C" const struct search_device_ops *cuda_search_ops(void)
{
    static const struct search_device_ops ops = {create, destroy, search, nullptr, nullptr, nullptr,
                                                 nullptr};
    return &ops;
}
