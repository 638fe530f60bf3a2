// Inverted files on CUDA: what lies on the card, and how searches reach it. A query alone is one
// copy, one recording of four kernels, and hits that the last of them writes into memory of the
// host; many go in chunks of as many as a bounded scratch has room for.
#include "compute/cuda/cuda_devices.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "compute/cuda/ivf_cuda.cuh"

namespace {

enum { TOGETHER_MAX = 1024, ALONE = 0 };        // queries of a chunk; the recording of one alone
const size_t SCRATCH_BYTES = (size_t)256 << 20;
const size_t STAGE_BYTES = (size_t)16 << 20;
enum { ROWS_MAX = 1u << 31 };

struct rooms {
    size_t queries, probes, rows, candidates, k;
};

}

struct ivf_device {
    platform *own;
    ivf_data data;
    ivf_work work;
    buffer kept[10];                // the lists
    size_t kept_count;
    buffer scratch, masks;
    rooms room;
    unsigned char *sent;            // pinned: the job, then queries
    struct hit *hits;               // pinned
    uint32_t *found;
    uint32_t *blocks_most;          // [cells + 1] blocks of the largest cells
    uint64_t allowed_number;        // of the mask on the card; 0: none that has one
    size_t bytes;
    bool warm, recorded;            // warm: its kernels are loaded, which cannot be recorded
};

namespace {

void destroy(struct ivf_device **device)
{
    struct ivf_device *d = *device;
    if (!d)
        return;
    if (d->own) {
        platform_enter(d->own);
        for (size_t i = 0; i < d->kept_count; i++)
            platform_release(d->own, d->kept[i].memory);
        platform_release(d->own, d->scratch.memory);
        platform_release(d->own, d->masks.memory);
        platform_release_pinned(d->own, d->sent);
        platform_release_pinned(d->own, d->hits);
        platform_release_pinned(d->own, d->found);
        platform_close(d->own);
    }
    delete[] d->blocks_most;
    delete d;
    *device = nullptr;
}

// ---- the lists ----------------------------------------------------------------------------------

// Room for `bytes` that stay; and what is in them, unless `from` is NULL.
enum akin_status keep(struct ivf_device *d, const void *from, size_t bytes, void **out,
                      struct akin_error *error)
{
    enum akin_status status = platform_allocate(d->own, bytes, out, error);
    if (status != AKIN_OK)
        return status;
    d->kept[d->kept_count++] = {*out, bytes};
    d->bytes += bytes;
    const unsigned char *at = static_cast<const unsigned char *>(from);
    for (size_t done = 0; from && done < bytes && status == AKIN_OK; done += STAGE_BYTES) {
        platform_upload(d->own, static_cast<unsigned char *>(*out) + done, at + done,
                        std::min(STAGE_BYTES, bytes - done));
        status = platform_finish(d->own, error);
    }
    return status;
}

// Records as rows that begin at multiples of 16 bytes, and their tails apart.
enum akin_status keep_records(struct ivf_device *d, const struct ivf_lists *lists,
                              const int8_t *records, size_t count, const int8_t **rows,
                              const struct ivf_tail **tails, struct akin_error *error)
{
    void *row_memory = nullptr, *tail_memory = nullptr;
    enum akin_status status = keep(d, nullptr, count * lists->depth, &row_memory, error);
    if (status == AKIN_OK)
        status = keep(d, nullptr, count * sizeof(struct ivf_tail), &tail_memory, error);
    size_t together = STAGE_BYTES / lists->stride + 1;
    together = std::min(together, count);
    std::unique_ptr<int8_t[]> stage(new (std::nothrow) int8_t[together * lists->depth]);
    std::unique_ptr<struct ivf_tail[]> stage_tails(new (std::nothrow) struct ivf_tail[together]);
    if (status == AKIN_OK && (!stage || !stage_tails))
        status = error_memory(error);
    for (size_t first = 0; first < count && status == AKIN_OK; first += together) {
        size_t rest = std::min(together, count - first);
        for (size_t i = 0; i < rest; i++) {
            const int8_t *record = records + (first + i) * lists->stride;
            memcpy(stage.get() + i * lists->depth, record, lists->depth);
            memcpy(&stage_tails[i], record + lists->depth, sizeof(struct ivf_tail));
        }
        platform_upload(d->own, static_cast<int8_t *>(row_memory) + first * lists->depth,
                        stage.get(), rest * lists->depth);
        platform_upload(d->own, static_cast<struct ivf_tail *>(tail_memory) + first,
                        stage_tails.get(), rest * sizeof(struct ivf_tail));
        status = platform_finish(d->own, error);
    }
    *rows = static_cast<const int8_t *>(row_memory);
    *tails = static_cast<const struct ivf_tail *>(tail_memory);
    return status;
}

enum akin_status keep_all(struct ivf_device *d, const struct ivf_lists *l,
                          struct akin_error *error)
{
    ivf_data &x = d->data;
    size_t codes = l->wide ? 256 : 16, number = x.half ? 2 : 4;
    const struct {
        const void *from;
        size_t bytes;
    } plain[] = {
        {l->cell, l->cells * sizeof *l->cell},
        {l->mean, l->dim * sizeof *l->mean},
        {l->codebook, l->parts * l->width * codes * sizeof(float)},
        {l->codes, l->blocks * l->groups * IVF_GROUP_BYTES},
        {l->entries, l->blocks * IVF_BLOCK_ROWS * sizeof *l->entries},
        {l->vectors, l->rows * l->dim * number},
    };
    void *at[sizeof plain / sizeof *plain] = {};
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; i < sizeof plain / sizeof *plain && status == AKIN_OK; i++)
        status = keep(d, plain[i].from, plain[i].bytes, &at[i], error);
    if (status != AKIN_OK)
        return status;
    x.cell = static_cast<const struct ivf_cell *>(at[0]);
    x.mean = static_cast<const float *>(at[1]);
    x.codebook = static_cast<const float *>(at[2]);
    x.codes = static_cast<const uint4 *>(at[3]);
    x.entries = static_cast<const uint32_t *>(at[4]);
    x.vectors = at[5];
    ivf_arrange(d->own, static_cast<uint4 *>(at[3]), l->blocks * l->groups, l->wide);
    status = keep_records(d, l, l->centroids, l->cells, &x.centroids, &x.centroid_tails, error);
    if (status == AKIN_OK)
        status = keep_records(d, l, l->records, l->rows, &x.records, &x.record_tails, error);
    return status == AKIN_OK ? platform_finish(d->own, error) : status;
}

ivf_data describe(const struct ivf_lists *l)
{
    ivf_data x = {};
    x.l2 = l->score == SCORE_L2;
    x.wide = l->wide;
    x.half = l->element == ELEMENT_F16;
    x.dim = (unsigned)l->dim;
    x.depth = (unsigned)l->depth;
    x.cells = (unsigned)l->cells;
    x.rows = (unsigned)l->rows;
    x.blocks = (unsigned)l->blocks;
    x.parts = (unsigned)l->parts;
    x.norm_parts = (unsigned)l->norm_parts;
    x.groups = (unsigned)l->groups;
    x.width = (unsigned)l->width;
    x.norm_step = l->norm_step;
    return x;
}

// How many blocks the largest cells have together: what a search with so many probes needs room
// for.
bool count_blocks(struct ivf_device *d, const struct ivf_lists *l)
{
    d->blocks_most = new (std::nothrow) uint32_t[l->cells + 1];
    if (!d->blocks_most)
        return false;
    for (size_t c = 0; c < l->cells; c++)
        d->blocks_most[c + 1] = (l->cell[c].rows + IVF_BLOCK_ROWS - 1) / IVF_BLOCK_ROWS;
    d->blocks_most[0] = 0;
    std::sort(d->blocks_most + 1, d->blocks_most + l->cells + 1,
              [](uint32_t a, uint32_t b) { return a > b; });
    for (size_t c = 0; c < l->cells; c++)
        d->blocks_most[c + 1] += d->blocks_most[c];
    return true;
}

enum akin_status create(int ordinal, const struct ivf_lists *lists, struct ivf_device **device,
                        struct akin_error *error)
{
    *device = nullptr;
    if (lists->rows == 0 || lists->rows >= ROWS_MAX || lists->cells == 0)
        return error_set(error, AKIN_UNSUPPORTED, "%zu rows in %zu cells: on the GPU an inverted "
                         "file has 1 to 2147483647; search on the CPU", lists->rows, lists->cells);
    if (lists->element != ELEMENT_F32 && lists->element != ELEMENT_F16)
        return error_set(error, AKIN_UNSUPPORTED, "rows that are neither float32 nor fp16: search "
                         "on the CPU");
    struct ivf_device *d = new (std::nothrow) ivf_device();
    if (!d)
        return error_memory(error);
    d->data = describe(lists);
    enum akin_status status = platform_open(ordinal, &d->own, error, CUDA_USE_INDEX);
    if (status == AKIN_OK) {
        size_t most = std::max(std::max(ivf_prepare_shared(&d->data), ivf_scan_shared(&d->data)),
                               ivf_rank_shared(&d->data));
        if (most > platform_shared_bytes(d->own))
            status = error_set(error, AKIN_UNSUPPORTED, "tables of %zu bytes: this GPU has %zu of "
                               "shared memory; search on the CPU", most,
                               platform_shared_bytes(d->own));
        else if (!count_blocks(d, lists))
            status = error_memory(error);
        else
            status = keep_all(d, lists, error);
    }
    if (status == AKIN_OK)
        *device = d;
    else
        destroy(&d);
    return status;
}

// ---- room for searches ------------------------------------------------------------------------

struct cut {
    unsigned char *memory;
    size_t at;
    template <typename T> void take(T *&out, size_t count)
    {
        at = (at + 255) / 256 * 256;
        out = reinterpret_cast<T *>(memory + at);
        at += count * sizeof(T);
    }
};

// Where everything of a chunk lies; returns the bytes.
size_t lay_out(struct ivf_device *d, const rooms &r, unsigned char *memory, ivf_work *w)
{
    const ivf_data &x = d->data;
    unsigned char *sent = nullptr;
    cut c = {memory, 0};
    w->table_bytes = x.groups * ivf_group_parts(x) * ivf_codes(x);
    w->probes_room = (unsigned)r.probes;
    w->rows_room = (unsigned)r.rows;
    w->candidates_room = (unsigned)r.candidates;
    c.take(w->state, r.queries);            // first, and cleared
    c.take(sent, sizeof(ivf_job) + r.queries * x.dim * sizeof(float));
    w->job = reinterpret_cast<const ivf_job *>(sent);
    w->queries = reinterpret_cast<const float *>(sent + sizeof(ivf_job));
    c.take(w->narrow, r.queries * x.depth);
    c.take(w->tables, r.queries * w->table_bytes);
    c.take(w->dots, r.queries * x.cells);
    c.take(w->bases, r.queries * x.cells);
    c.take(w->promises, r.queries * x.cells);
    c.take(w->chosen, r.queries * (r.probes + 1));
    c.take(w->first, r.queries * (r.probes + 1));
    c.take(w->sums, r.queries * r.rows);
    c.take(w->bins, r.queries * IVF_BINS);
    c.take(w->border, r.queries * r.rows);
    c.take(w->list, r.queries * r.candidates);
    c.take(w->keys, r.queries * r.candidates);
    return c.at;
}

enum akin_status pin(struct ivf_device *d, const rooms &r, struct akin_error *error)
{
    platform_release_pinned(d->own, d->sent);
    platform_release_pinned(d->own, d->hits);
    platform_release_pinned(d->own, d->found);
    d->sent = nullptr;
    d->hits = nullptr;
    d->found = nullptr;
    const size_t bytes[] = {sizeof(ivf_job) + r.queries * d->data.dim * sizeof(float),
                            r.queries * r.k * sizeof(struct hit), r.queries * sizeof(uint32_t)};
    void *memory[3] = {};
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; i < 3 && status == AKIN_OK; i++)
        status = platform_allocate_pinned(d->own, bytes[i], &memory[i], error);
    d->sent = static_cast<unsigned char *>(memory[0]);
    d->hits = static_cast<struct hit *>(memory[1]);
    d->found = static_cast<uint32_t *>(memory[2]);
    return status;
}

// Room for a chunk of this search, and how many queries a chunk has.
enum akin_status reserve(struct ivf_device *d, const struct ivf_query *query, size_t *together,
                         struct akin_error *error)
{
    rooms r = {1, std::max(d->room.probes, query->probes), 0,
               std::max(d->room.candidates, (query->candidates + 3) / 4 * 4),
               std::max(d->room.k, query->k)};
    ivf_work work = {};
    r.rows = (size_t)d->blocks_most[r.probes] * IVF_BLOCK_ROWS;
    size_t each = lay_out(d, r, nullptr, &work);
    size_t most = std::min(std::max(SCRATCH_BYTES / each, (size_t)1), (size_t)TOGETHER_MAX);
    *together = std::min(most, query->count);
    r.queries = std::max(*together, std::min(d->room.queries, most));
    if (r.queries == d->room.queries && r.probes == d->room.probes && r.k == d->room.k
        && r.candidates == d->room.candidates)
        return AKIN_OK;
    platform_forget(d->own, ALONE);
    d->recorded = false;
    d->room = {};
    size_t bytes = lay_out(d, r, nullptr, &work);
    d->bytes -= d->scratch.bytes;
    enum akin_status status = buffer_need(d->own, &d->scratch, bytes, error);
    d->bytes += d->scratch.bytes;
    if (status == AKIN_OK)
        status = pin(d, r, error);
    if (status != AKIN_OK)
        return status;
    lay_out(d, r, static_cast<unsigned char *>(d->scratch.memory), &d->work);
    d->work.hits = d->hits;
    d->work.found = d->found;
    d->work.allowed = static_cast<const uint64_t *>(d->masks.memory);
    platform_clear(d->own, d->work.state, r.queries * sizeof(ivf_state));
    d->room = r;
    return AKIN_OK;
}

enum akin_status send_mask(struct ivf_device *d, const struct ivf_query *query,
                           struct akin_error *error)
{
    if (!query->allowed || (query->allowed_number && query->allowed_number == d->allowed_number))
        return AKIN_OK;
    size_t bytes = ((size_t)d->data.rows + 63) / 64 * sizeof(uint64_t);
    d->allowed_number = 0;
    if (!d->masks.memory) {
        enum akin_status status = platform_allocate(d->own, bytes, &d->masks.memory, error);
        if (status != AKIN_OK)
            return status;
        d->masks.bytes = bytes;
        d->bytes += bytes;
        d->work.allowed = static_cast<const uint64_t *>(d->masks.memory);
        platform_forget(d->own, ALONE);         // it has the address of before
        d->recorded = false;
    }
    platform_upload(d->own, d->masks.memory, query->allowed, bytes);
    d->allowed_number = query->allowed_number;
    return AKIN_OK;
}

// ---- a chunk ----------------------------------------------------------------------------------

void start(struct ivf_device *d, size_t count)
{
    ivf_prepare(d->own, &d->data, &d->work, count);
    ivf_scan(d->own, &d->data, &d->work, count);
    ivf_gather(d->own, &d->data, &d->work, count);
    ivf_rank(d->own, &d->data, &d->work, count);
}

void start_alone(struct ivf_device *d)
{
    if (d->recorded) {
        platform_play(d->own, ALONE);
    } else if (d->warm && platform_record_begin(d->own)) {
        start(d, 1);
        d->recorded = platform_record_end(d->own, ALONE);
    } else {
        start(d, 1);
        d->warm = true;
    }
}

enum akin_status search_chunk(struct ivf_device *d, const struct ivf_query *query, size_t first,
                              size_t count, struct hit *hits, size_t *found, double *seconds,
                              struct akin_error *error)
{
    const ivf_job job = {(unsigned)query->k, (unsigned)query->kept, (unsigned)query->probes,
                         (unsigned)query->candidates, query->allowed != nullptr, {}};
    size_t dim = d->data.dim, bytes = count * dim * sizeof(float);
    memcpy(d->sent, &job, sizeof job);
    memcpy(d->sent + sizeof job, query->queries + first * dim, bytes);
    if (seconds)
        platform_mark(d->own);
    platform_upload(d->own, const_cast<ivf_job *>(d->work.job), d->sent, sizeof job + bytes);
    if (count == 1)
        start_alone(d);
    else
        start(d, count);
    if (seconds)
        *seconds += platform_since_mark(d->own);
    enum akin_status status = platform_finish(d->own, error);
    if (status != AKIN_OK)
        return status;
    for (size_t q = 0; q < count; q++) {
        found[q] = d->found[q];
        memcpy(hits + q * query->k, d->hits + q * query->k, found[q] * sizeof *hits);
    }
    return AKIN_OK;
}

// seconds: added to; NULL: nobody wants to know.
enum akin_status search_all(struct ivf_device *d, const struct ivf_query *query, struct hit *hits,
                            size_t *found, double *seconds, struct akin_error *error)
{
    if (query->k == 0 || query->k > query->kept || query->kept > IVF_DEVICE_KEPT_MAX
        || query->candidates == 0 || query->candidates > IVF_DEVICE_CANDIDATES_MAX
        || query->probes == 0 || query->probes > d->data.cells)
        return error_set(error, AKIN_UNSUPPORTED, "%zu results of %zu candidates in %zu of %u "
                         "cells: not on the GPU; search on the CPU", query->k, query->candidates,
                         query->probes, d->data.cells);
    size_t together = 0;
    platform_enter(d->own);
    enum akin_status status = AKIN_OK;
    if (query->count > 0)
        status = reserve(d, query, &together, error);
    if (status == AKIN_OK && query->count > 0)
        status = send_mask(d, query, error);
    for (size_t first = 0; first < query->count && status == AKIN_OK; first += together)
        status = search_chunk(d, query, first, std::min(together, query->count - first),
                              hits + first * query->k, found + first, seconds, error);
    return status;
}

enum akin_status search(struct ivf_device *d, const struct ivf_query *query, struct hit *hits,
                        size_t *found, struct akin_error *error)
{
    return search_all(d, query, hits, found, nullptr, error);
}

enum akin_status measure(struct ivf_device *d, const struct ivf_query *query, struct hit *hits,
                         size_t *found, double *seconds, struct akin_error *error)
{
    *seconds = 0;
    return search_all(d, query, hits, found, seconds, error);
}

size_t memory(const struct ivf_device *d)
{
    return d->bytes;
}

}

extern "C" const struct ivf_device_ops *cuda_ivf_ops(void)
{
    static const struct ivf_device_ops ops = {create, destroy, search, measure, memory};
    return &ops;
}
