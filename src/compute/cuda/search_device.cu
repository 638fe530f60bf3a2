// Search on CUDA: rows on the card in int8, fp16 and float32. The first pass finds what may be
// among the best by narrow rows, float32 scores decide; a query that has more candidates than there
// is room for is done again by wider rows, in the end in float32 throughout.
#include "compute/cuda/cuda_devices.h"

#include <cmath>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "compute/cuda/search_cuda.cuh"

namespace {

enum { LANES = 2 };
// Rows that pass, up to which the host lists them.
enum { LISTED_HERE = 2048 };
enum { PUT_TOGETHER = 4096, CENTRE_ROWS = 16384 };
enum { MASKS_ALONG = 16 << 20 };    // bytes of masks that go up with a chunk of queries, at most

// A stream and what is needed for a chunk of queries.
struct card_lane {
    platform *own;
    buffer sent;                // pinned: mask_of, numbers [SEARCH_CHUNK], queries, masks
    buffer block;               // the same on the card
    std::vector<uint32_t> masks, places;    // that go along; where, by mask, or UINT32_MAX
    search_work work;
    unsigned char *received;    // pinned: hits, found, state
    std::vector<size_t> which;  // the queries under way; room for SEARCH_CHUNK
};

enum { SENT_NUMBERS = SEARCH_CHUNK * sizeof(uint32_t), SENT_QUERIES = 2 * SENT_NUMBERS };
enum { RECEIVED_FOUND = SEARCH_CHUNK * SEARCH_DEVICE_K_MAX * sizeof(struct hit) };
enum { RECEIVED_STATE = RECEIVED_FOUND + SEARCH_CHUNK * sizeof(uint32_t) };
enum { RECEIVED_TICKET = RECEIVED_STATE + SEARCH_CHUNK * sizeof(uint32_t) };
enum { RECEIVED_BYTES = RECEIVED_TICKET + sizeof(uint32_t) };

search_answers answers_of(const card_lane &l)
{
    return {reinterpret_cast<struct hit *>(l.received),
            reinterpret_cast<uint32_t *>(l.received + RECEIVED_FOUND),
            reinterpret_cast<uint32_t *>(l.received + RECEIVED_STATE)};
}

}

struct search_device {
    platform *home;
    size_t dim, count, capacity;
    buffer bytes, scales, narrow, wide, most, centre;
    search_margins margins;
    card_lane lanes[LANES];
    buffer staged, numbers;             // of rows that are put
    buffer masks, list;
    uint64_t masks_number;
    size_t masks_bytes;
    buffer sent_mask;                   // pinned
    uint32_t ticket;
    size_t tried, failed;               // queries by int8 first where that was free, of these rows
    bool lost;                          // a card that failed may have left rows half changed
};

search_view search_device_view(const struct search_device *d)
{
    return {{in<int8_t>(d->bytes), in<float>(d->scales), in<half_t>(d->narrow), in<float>(d->wide),
             d->count, d->dim, nullptr, d->count},
            d->margins};
}

namespace {

// A search as it is under way.
struct asked {
    struct search_device *d;
    const struct device_query *query;
    search_view view;           // with the list that stands for a mask, if any
    search_mask mask;           // on the card
    bool along;                 // no: each chunk brings its own
    struct hit *hits;
    size_t *found;
    struct search_counts counts;
    double *seconds;            // of the card's clock; NULL: nobody asks
    struct akin_error *error;
};

// ---- memory -------------------------------------------------------------------------------------

template <typename Each> void for_buffers(struct search_device *d, const Each &each)
{
    each(d->bytes), each(d->scales), each(d->narrow), each(d->wide), each(d->most);
    each(d->centre), each(d->staged), each(d->numbers), each(d->masks), each(d->list);
}

void destroy(struct search_device **device)
{
    struct search_device *d = *device;
    if (!d)
        return;
    if (d->home) {
        platform_enter(d->home);
        for (card_lane &l : d->lanes) {
            if (!l.own)
                continue;
            platform_finish(l.own, nullptr);
            search_work_release(l.own, &l.work);
            platform_release(l.own, l.block.memory);
            platform_release_pinned(l.own, l.sent.memory);
            platform_release_pinned(l.own, l.received);
            platform_close(l.own);
        }
        for_buffers(d, [d](buffer &b) { platform_release(d->home, b.memory); });
        platform_release_pinned(d->home, d->sent_mask.memory);
        platform_close(d->home);
    }
    delete d;
    *device = nullptr;
}

size_t memory(const struct search_device *device)
{
    size_t bytes = 0;
    for_buffers(const_cast<struct search_device *>(device),
                [&bytes](const buffer &b) { bytes += b.bytes; });
    for (const card_lane &l : device->lanes)
        bytes += search_work_bytes(&l.work) + l.block.bytes;
    return bytes;
}

void drop_int8(struct search_device *d)
{
    platform_enter(d->home);
    for (buffer *b : {&d->bytes, &d->scales}) {
        platform_release(d->home, b->memory);
        *b = {};
    }
}

size_t row_count(const struct search_device *device)
{
    return device->count;
}

enum akin_status open_lane(struct search_device *d, int ordinal, card_lane *l,
                           struct akin_error *error)
{
    size_t bytes = SENT_QUERIES + (size_t)SEARCH_CHUNK * d->dim * sizeof(float);
    void *received = nullptr;
    enum akin_status status = platform_open(ordinal, &l->own, error, CUDA_USE_SEARCH);
    if (status == AKIN_OK)
        status = buffer_need(l->own, &l->block, bytes, error);
    if (status == AKIN_OK)
        status = buffer_need_pinned(l->own, &l->sent, bytes, error);
    if (status == AKIN_OK)
        status = platform_allocate_pinned(l->own, RECEIVED_BYTES, &received, error);
    l->received = static_cast<unsigned char *>(received);
    if (status == AKIN_OK)
        memset(received, 0, RECEIVED_BYTES);    // else what lay there may be a ticket
    if (status == AKIN_OK && !within_memory([&] { l->which.reserve(SEARCH_CHUNK); }))
        status = error_memory(error);
    return status;
}

// ---- rows ---------------------------------------------------------------------------------------

enum akin_status check_numbers(const struct search_device *d, const float *rows, size_t count,
                               struct akin_error *error)
{
    if (count > UINT32_MAX - 1 - d->count)
        return error_set(error, AKIN_UNSUPPORTED, "%zu rows: on the GPU there are 1 to 4294967294",
                         d->count + count);
    for (size_t i = 0; i < count * d->dim; i++)
        if (!(fabsf(rows[i]) < 65504.0f))
            return error_set(error, AKIN_UNSUPPORTED, "row %zu has a number of %g, beyond the "
                             "range of fp16: search on the CPU", i / d->dim, (double)rows[i]);
    return AKIN_OK;
}

// Room for so many rows, those that are there included. int8 rows are left out, then and from then
// on, where there is no memory for them.
enum akin_status reserve(struct search_device *d, size_t rows, struct akin_error *error)
{
    if (rows <= d->capacity)
        return AKIN_OK;
    size_t capacity = rows > d->capacity + d->capacity / 2 ? rows : d->capacity + d->capacity / 2;
    buffer *const old[] = {&d->wide, &d->narrow, &d->bytes, &d->scales};
    const size_t each[] = {d->dim * sizeof(float), d->dim * sizeof(half_t), d->dim, sizeof(float)};
    buffer made[4] = {};
    enum akin_status status = buffer_need(d->home, &made[0], capacity * each[0], error);
    if (status == AKIN_OK)
        status = buffer_need(d->home, &made[1], capacity * each[1], error);
    bool bytes = status == AKIN_OK && (d->count == 0 || d->bytes.memory)
                 && buffer_need(d->home, &made[2], capacity * each[2], nullptr) == AKIN_OK
                 && buffer_need(d->home, &made[3], capacity * each[3], nullptr) == AKIN_OK;
    for (int i = 0; status == AKIN_OK && i < (bytes ? 4 : 2) && d->count; i++)
        search_copy(d->home, made[i].memory, old[i]->memory, d->count * each[i]);
    if (status == AKIN_OK)
        status = platform_finish(d->home, error);
    for (int i = 0; i < 4; i++) {
        bool keep = status == AKIN_OK && (i < 2 || bytes);
        if (status == AKIN_OK)
            std::swap(*old[i], made[i]);
        if (status == AKIN_OK && !keep) {       // int8 ends
            platform_release(d->home, old[i]->memory);
            *old[i] = {};
        }
        platform_release(d->home, made[i].memory);
    }
    if (status == AKIN_OK)
        d->capacity = capacity;
    return status;
}

search_store store_of(const struct search_device *d)
{
    return {in<float>(d->centre), in<int8_t>(d->bytes), in<float>(d->scales), in<half_t>(d->narrow),
            in<float>(d->wide)};
}

float length_told(uint32_t bits)
{
    uint32_t number = bits & 0x80000000u ? bits & 0x7fffffffu : 0;
    float length;
    memcpy(&length, &number, sizeof length);
    return length;
}

// The lengths that errors come from, after rows came.
enum akin_status settle(struct search_device *d, struct akin_error *error)
{
    uint32_t most[SEARCH_MARGINS] = {};
    platform_download(d->home, most, d->most.memory, sizeof most);
    enum akin_status status = platform_finish(d->home, error);
    d->tried = d->failed = 0;
    if (status == AKIN_OK)
        d->margins = {length_told(most[0]), length_told(most[1]), length_told(most[2])};
    return status;
}

enum akin_status append(struct search_device *d, const float *rows, size_t count,
                        struct akin_error *error)
{
    if (count == 0)
        return AKIN_OK;
    enum akin_status status = check_numbers(d, rows, count, error);
    platform_enter(d->home);
    if (status == AKIN_OK)
        status = reserve(d, d->count + count, error);
    if (status != AKIN_OK)
        return status;
    float *place = in<float>(d->wide) + d->count * d->dim;
    search_store store = store_of(d);
    platform_upload(d->home, place, rows, count * d->dim * sizeof *rows);
    search_put(d->home, &store, place, nullptr, d->count, count, d->dim, in<uint32_t>(d->most));
    status = settle(d, error);
    if (status == AKIN_OK)
        d->count += count;
    return status;
}

enum akin_status put(struct search_device *d, const uint32_t *numbers, const float *rows,
                     size_t count, struct akin_error *error)
{
    enum akin_status status = check_numbers(d, rows, count, error);
    size_t dim = d->dim, most = count < PUT_TOGETHER ? count : (size_t)PUT_TOGETHER;
    for (size_t i = 0; status == AKIN_OK && i < count; i++)
        if (numbers[i] >= d->count)
            status = error_set(error, AKIN_ARGUMENT, "row %u: there are %zu", numbers[i], d->count);
    platform_enter(d->home);
    if (status == AKIN_OK)
        status = buffer_need(d->home, &d->staged, most * dim * sizeof(float), error);
    if (status == AKIN_OK)
        status = buffer_need(d->home, &d->numbers, most * sizeof(uint32_t), error);
    if (status != AKIN_OK || count == 0)
        return status;
    search_store store = store_of(d);
    for (size_t first = 0; first < count; first += most) {
        size_t now = count - first < most ? count - first : most;
        platform_upload(d->home, d->numbers.memory, numbers + first, now * sizeof *numbers);
        platform_upload(d->home, d->staged.memory, rows + first * dim, now * dim * sizeof *rows);
        search_put(d->home, &store, in<float>(d->staged), in<uint32_t>(d->numbers), 0, now, dim,
                   in<uint32_t>(d->most));
    }
    status = settle(d, error);
    d->lost = d->lost || status != AKIN_OK;
    return status;
}

// Of the first rows: vectors of a model lie around it, and less it they are shorter, so that int8
// misses less. Any is right.
enum akin_status put_centre(struct search_device *d, const float *rows, size_t count,
                            struct akin_error *error)
{
    std::vector<double> sums;
    std::vector<float> centre;
    if (!within_memory([&] { sums.resize(d->dim), centre.resize(d->dim); }))
        return error_memory(error);
    size_t step = count / CENTRE_ROWS + 1, taken = (count + step - 1) / step;
    for (size_t row = 0; row < count; row += step)
        for (size_t i = 0; i < d->dim; i++)
            sums[i] += (double)rows[row * d->dim + i];
    for (size_t i = 0; i < d->dim; i++) {
        centre[i] = (float)(sums[i] / (double)taken);
        if (!(fabsf(centre[i]) < 65504.0f))     // the rows are refused
            centre[i] = 0;
    }
    enum akin_status status = buffer_need(d->home, &d->centre, d->dim * sizeof(float), error);
    if (status != AKIN_OK)
        return status;
    platform_upload(d->home, d->centre.memory, centre.data(), d->dim * sizeof(float));
    return platform_finish(d->home, error);
}

enum akin_status create(int ordinal, const float *rows, size_t row_count, size_t dim,
                        struct search_device **device, struct akin_error *error)
{
    *device = nullptr;
    if (dim == 0 || dim % SEARCH_DEVICE_DIM_UNIT || dim > SEARCH_DEVICE_DIM_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "dimension %zu: on the GPU it is a multiple of "
                         "%d up to %d; search on the CPU", dim, SEARCH_DEVICE_DIM_UNIT,
                         SEARCH_DEVICE_DIM_MAX);
    if (row_count == 0)
        return error_set(error, AKIN_UNSUPPORTED, "0 rows: on the GPU there are 1 to 4294967294");
    struct search_device *d = new (std::nothrow) search_device();
    if (!d)
        return error_memory(error);
    d->dim = dim;
    enum akin_status status = platform_open(ordinal, &d->home, error, CUDA_USE_SEARCH);
    if (status == AKIN_OK)
        status = buffer_need(d->home, &d->most, SEARCH_MARGINS * sizeof(uint32_t), error);
    if (status == AKIN_OK)
        platform_clear(d->home, d->most.memory, d->most.bytes);
    if (status == AKIN_OK)
        status = put_centre(d, rows, row_count, error);
    for (int i = 0; status == AKIN_OK && i < LANES; i++)
        status = open_lane(d, ordinal, &d->lanes[i], error);
    if (status == AKIN_OK)
        status = append(d, rows, row_count, error);
    if (status == AKIN_OK)
        *device = d;
    else
        destroy(&d);
    return status;
}

// ---- many queries -------------------------------------------------------------------------------

// The masks of the lane's queries, each once.
enum akin_status choose_masks(const asked *a, card_lane *l)
{
    const struct device_query *query = a->query;
    l->masks.clear();
    if (!within_memory([&] {
            l->places.assign(query->mask_count, UINT32_MAX);
            l->masks.reserve(SEARCH_CHUNK);
        }))
        return error_memory(a->error);
    for (size_t which : l->which) {
        uint32_t mask = query->mask_of ? query->mask_of[which] : 0;
        ASSERT(mask < query->mask_count || (query->mask_of && mask == UINT32_MAX));
        if (mask == UINT32_MAX || l->places[mask] != UINT32_MAX)
            continue;
        l->places[mask] = (uint32_t)l->masks.size();
        l->masks.push_back(mask);
    }
    return AKIN_OK;
}

// What goes up: as one block. *masks: where in it those are that go along.
enum akin_status send(asked *a, card_lane *l, size_t *masks)
{
    const struct device_query *query = a->query;
    size_t dim = a->d->dim, count = l->which.size(), words = query->mask_words;
    size_t bytes = SENT_QUERIES + (query->queries ? count * dim * sizeof(float) : 0);
    enum akin_status status = AKIN_OK;
    *masks = bytes;
    if (a->along) {
        status = choose_masks(a, l);
        bytes += l->masks.size() * words * sizeof(uint64_t);
    }
    if (status == AKIN_OK)
        status = buffer_need(l->own, &l->block, bytes, a->error);
    if (status == AKIN_OK)
        status = buffer_need_pinned(l->own, &l->sent, bytes, a->error);
    if (status != AKIN_OK)
        return status;
    unsigned char *sent = in<unsigned char>(l->sent);
    uint32_t *mask_of = reinterpret_cast<uint32_t *>(sent);
    uint32_t *numbers = reinterpret_cast<uint32_t *>(sent + SENT_NUMBERS);
    for (size_t i = 0; i < count; i++) {
        uint32_t mask = query->mask_of ? query->mask_of[l->which[i]] : 0;
        mask_of[i] = a->along && mask != UINT32_MAX ? l->places[mask] : mask;
        numbers[i] = query->rows ? query->rows[l->which[i]] : 0;
    }
    float *vectors = reinterpret_cast<float *>(sent + SENT_QUERIES);
    for (size_t i = 0; i < count && query->queries; i++)
        memcpy(vectors + i * dim, query->queries + l->which[i] * dim, dim * sizeof *vectors);
    for (size_t i = 0; i < l->masks.size() && a->along; i++)
        memcpy(sent + *masks + i * words * sizeof(uint64_t), query->masks + l->masks[i] * words,
               words * sizeof(uint64_t));
    platform_upload(l->own, l->block.memory, sent, bytes);
    return AKIN_OK;
}

// Starts everything for the lane's queries; nothing waits.
enum akin_status start(asked *a, card_lane *l, enum search_pass pass)
{
    search_job job = {};
    size_t masks = 0;
    if (a->seconds)
        platform_mark(l->own);
    enum akin_status status = send(a, l, &masks);
    if (status != AKIN_OK)
        return status;
    const unsigned char *block = in<unsigned char>(l->block);
    if (a->query->queries)
        job.given = reinterpret_cast<const float *>(block + SENT_QUERIES);
    job.numbers = reinterpret_cast<const uint32_t *>(block + SENT_NUMBERS);
    job.count = l->which.size();
    job.k = a->query->k;
    job.mask = a->mask;
    if (a->along)
        job.mask.masks = reinterpret_cast<const uint64_t *>(block + masks);
    job.mask.mask_of = a->query->mask_of ? reinterpret_cast<const uint32_t *>(block) : nullptr;
    job.pass = pass;
    job.answers = answers_of(*l);
    status = search_start(l->own, &l->work, &a->view, &job, a->error);
    if (a->seconds)
        *a->seconds += platform_since_mark(l->own);
    if (status != AKIN_UNSUPPORTED)
        return status;
    memset(job.answers.state, 0, job.count * sizeof *job.answers.state);    // SEARCH_UNPROVEN
    return AKIN_OK;
}

void take(asked *a, const search_answers &answers, size_t i, size_t query, enum search_pass pass)
{
    size_t k = a->query->k, found = answers.found[i];
    const struct hit *hits = answers.hits + i * k;
    if (a->query->answer) {
        a->query->answer(a->query->context, query, hits, found);
    } else {
        a->found[query] = found;
        memcpy(a->hits + query * k, hits, found * sizeof *hits);
    }
    a->counts.proven[answers.state[i] == SEARCH_GATHERED ? SEARCH_PASS_AUTO : pass]++;
}

enum akin_status collect(asked *a, card_lane *l, enum search_pass pass, std::vector<size_t> *left)
{
    if (l->which.empty())
        return AKIN_OK;
    enum akin_status status = platform_finish(l->own, a->error);
    search_answers answers = answers_of(*l);
    for (size_t i = 0; status == AKIN_OK && i < l->which.size(); i++)
        if (answers.state[i] == SEARCH_UNPROVEN)
            left->push_back(l->which[i]);
        else
            take(a, answers, i, l->which[i], pass);
    l->which.clear();
    return status;
}

// One pass for these queries; those that it leaves unanswered take their place. A lane's chunk goes
// up and comes back while the other's is computed.
enum akin_status run_pass(asked *a, enum search_pass pass, std::vector<size_t> *queries)
{
    std::vector<size_t> left;
    enum akin_status status = AKIN_OK;
    size_t turn = 0;
    if (!within_memory([&] { left.reserve(queries->size()); }))
        return error_memory(a->error);
    for (size_t first = 0; status == AKIN_OK && first < queries->size(); turn++) {
        card_lane *l = &a->d->lanes[turn % LANES];
        size_t end = first + SEARCH_CHUNK < queries->size() ? first + SEARCH_CHUNK
                                                            : queries->size();
        status = collect(a, l, pass, &left);
        if (status != AKIN_OK)
            break;
        l->which.assign(queries->begin() + (ptrdiff_t)first, queries->begin() + (ptrdiff_t)end);
        status = start(a, l, pass);
        if (status != AKIN_OK) {                // there are no answers to collect
            platform_finish(l->own, nullptr);
            l->which.clear();
        }
        first = end;
    }
    for (size_t i = 0; i < LANES; i++) {        // also of what failed: nothing stays under way
        enum akin_status last = collect(a, &a->d->lanes[(turn + i) % LANES], pass, &left);
        status = status == AKIN_OK ? last : status;
    }
    queries->swap(left);
    return status;
}

// ---- one query ----------------------------------------------------------------------------------

// Query number `query` alone, by a pass; *proven: it has its answer. By row number only float32.
enum akin_status run_one(asked *a, size_t query, const uint64_t *mask, enum search_pass pass,
                         bool *proven)
{
    struct search_device *d = a->d;
    card_lane *l = &d->lanes[0];
    search_given given = {}, digits = {};
    search_single j = {};
    ASSERT(a->query->queries || pass == SEARCH_PASS_FP32);
    if (a->query->queries)
        memcpy(given.wide, a->query->queries + query * d->dim, d->dim * sizeof *given.wide);
    else
        j.query = a->view.rows.wide + (size_t)a->query->rows[query] * d->dim;
    if (pass == SEARCH_PASS_INT8)
        j.error = search_digits(given.wide, d->dim, d->margins,
                                reinterpret_cast<int8_t *>(digits.wide));
    else if (pass == SEARCH_PASS_FP16)
        j.error = search_error_fp16(given.wide, d->dim, d->margins);
    *proven = false;
    if (!(j.error < INFINITY))
        return AKIN_OK;
    j.rows = a->view.rows;
    j.mask = {mask, nullptr, (d->count + 63) / 64};
    j.pass = pass;
    j.k = a->query->k;
    j.answers = answers_of(*l);
    j.ticket = reinterpret_cast<uint32_t *>(l->received + RECEIVED_TICKET);
    j.number = ++d->ticket;
    if (a->seconds)
        platform_mark(l->own);
    enum akin_status status = search_start_one(l->own, &l->work, &j,
                                               pass == SEARCH_PASS_INT8 ? &digits : &given, &given,
                                               a->error);
    if (a->seconds)
        *a->seconds += platform_since_mark(l->own);
    if (status == AKIN_OK)
        status = search_await(l->own, j.ticket, j.number, a->error);
    *proven = status == AKIN_OK && j.answers.state[0] != SEARCH_UNPROVEN;
    if (*proven)
        take(a, j.answers, 0, query, pass);
    return status;
}

// ---- masks --------------------------------------------------------------------------------------

// The rows that pass, on the card. Few are listed here; `once`: and read from here, since they are
// read once.
enum akin_status list_rows(asked *a, const uint64_t *mask, size_t count, bool once)
{
    struct search_device *d = a->d;
    size_t words = (d->count + 63) / 64, bytes = words * sizeof *mask;
    bool here = count <= LISTED_HERE;
    enum akin_status status = buffer_need_pinned(d->home, &d->sent_mask,
                                                 here ? LISTED_HERE * sizeof(uint32_t) : bytes,
                                                 a->error);
    if (status == AKIN_OK && (!here || !once))
        status = buffer_need(d->home, &d->list, d->count * sizeof(uint32_t), a->error);
    if (status != AKIN_OK)
        return status;
    a->view.rows.listed = count;
    if (!here) {
        uint64_t *sent = in<uint64_t>(d->sent_mask);
        memcpy(sent, mask, bytes);
        sent[words - 1] &= search_last_word(d->count);
        search_list(d->home, sent, words, in<uint32_t>(d->list));
        a->view.rows.list = in<uint32_t>(d->list);
        return platform_finish(d->home, a->error);
    }
    uint32_t *list = in<uint32_t>(d->sent_mask);
    a->view.rows.list = list;
    search_list_here(mask, d->count, list);
    if (once)
        return AKIN_OK;
    platform_upload(d->home, d->list.memory, list, count * sizeof *list);
    a->view.rows.list = in<uint32_t>(d->list);
    return platform_finish(d->home, a->error);
}

// The only mask that is read now, to where the card finds it.
enum akin_status show_mask(asked *a, const uint64_t *mask, const uint64_t **there)
{
    size_t bytes = (a->d->count + 63) / 64 * sizeof *mask;
    enum akin_status status = buffer_need_pinned(a->d->home, &a->d->sent_mask, bytes, a->error);
    if (status != AKIN_OK)
        return status;
    memcpy(a->d->sent_mask.memory, mask, bytes);
    *there = in<const uint64_t>(a->d->sent_mask);
    return AKIN_OK;
}

// The mask of a query, where the card finds it; nothing else is under way.
enum akin_status mask_of(asked *a, size_t query, const uint64_t **there)
{
    const uint32_t *of = a->query->mask_of;
    size_t mask = of ? of[query] : 0;
    *there = nullptr;
    if (mask == UINT32_MAX)
        return AKIN_OK;
    if (a->along)
        return show_mask(a, a->query->masks + mask * a->query->mask_words, there);
    if (a->mask.masks)
        *there = a->mask.masks + mask * a->mask.words;
    return AKIN_OK;
}

// Masks that stay on the card, or are too many to go along; those of the search before may be
// these.
enum akin_status send_masks(asked *a)
{
    struct search_device *d = a->d;
    const struct device_query *query = a->query;
    size_t bytes = query->mask_count * query->mask_words * sizeof(uint64_t);
    bool here = query->masks_number && query->masks_number == d->masks_number
                && bytes == d->masks_bytes;
    enum akin_status status = AKIN_OK;
    if (!here) {
        d->masks_number = 0;
        status = buffer_need(d->home, &d->masks, bytes, a->error);
        if (status == AKIN_OK) {
            platform_upload(d->home, d->masks.memory, query->masks, bytes);
            status = platform_finish(d->home, a->error);
        }
        if (status == AKIN_OK) {
            d->masks_number = query->masks_number;
            d->masks_bytes = bytes;
        }
    }
    a->mask = {in<uint64_t>(d->masks), nullptr, query->mask_words};
    return status;
}

// ---- a search -----------------------------------------------------------------------------------

enum akin_status search_alone(asked *a, enum search_pass first, bool *proven)
{
    const uint64_t *mask = nullptr;
    enum akin_status status = mask_of(a, 0, &mask);
    for (int pass = first; status == AKIN_OK && pass < SEARCH_PASSES && !*proven; pass++)
        status = run_one(a, 0, mask, (enum search_pass)pass, proven);
    return status;
}

enum akin_status search_all(asked *a, enum search_pass first)
{
    std::vector<size_t> queries;
    enum akin_status status = AKIN_OK;
    if (!within_memory([&] { queries.resize(a->query->query_count); }))
        return error_memory(a->error);
    for (size_t i = 0; i < queries.size(); i++)
        queries[i] = i;
    for (int pass = first; status == AKIN_OK && pass < SEARCH_PASS_FP32 && !queries.empty();
         pass++) {
        status = run_pass(a, (enum search_pass)pass, &queries);
        if (pass == SEARCH_PASS_INT8 && a->query->first == SEARCH_PASS_AUTO) {
            a->d->tried += a->query->query_count;
            a->d->failed += queries.size();
        }
    }
    for (size_t i = 0; status == AKIN_OK && i < queries.size(); i++) {
        bool proven = false;
        const uint64_t *mask = nullptr;
        status = mask_of(a, queries[i], &mask);
        if (status == AKIN_OK)
            status = run_one(a, queries[i], mask, SEARCH_PASS_FP32, &proven);
    }
    return status;
}

// One mask for all is a list where that is worth another start: a quarter of the rows at most pass,
// or half where many queries share it. Otherwise masks go along with the queries, or to the card
// before, if they may stay there; and that of one query, which reads it once, to where the card
// finds it.
enum akin_status prepare_masks(asked *a, bool once, bool *nothing)
{
    const size_t worth = once ? 4 : 2;
    const struct device_query *query = a->query;
    *nothing = false;
    if (!query->masks)
        return AKIN_OK;
    size_t together = query->mask_count < SEARCH_CHUNK ? query->mask_count : (size_t)SEARCH_CHUNK;
    a->along = !query->masks_number
               && together * query->mask_words * sizeof(uint64_t) <= MASKS_ALONG;
    a->mask = {nullptr, nullptr, query->mask_words};
    if (query->mask_of)
        return a->along ? AKIN_OK : send_masks(a);
    size_t count = search_passing(query->masks, a->d->count);
    *nothing = count == 0;
    if (count == 0)
        return AKIN_OK;
    if (count <= a->d->count / worth) {
        a->along = false;
        return list_rows(a, query->masks, count, once);
    }
    return a->along ? AKIN_OK : send_masks(a);
}

enum akin_status check_query(const struct search_device *d, const struct device_query *query,
                             struct akin_error *error)
{
    ASSERT(query->k > 0 && query->k <= SEARCH_DEVICE_K_MAX && !query->queries != !query->rows);
    ASSERT(!query->masks || query->mask_words * 64 >= d->count);
    for (size_t i = 0; query->rows && i < query->query_count; i++)
        if (query->rows[i] >= d->count)
            return error_set(error, AKIN_ARGUMENT, "query %zu is row %u: there are %zu", i,
                             query->rows[i], d->count);
    return AKIN_OK;
}

// What the answers are, the pass does not say; so it may be chosen by what became of others. Where
// int8 leaves one query in eight to fp16, it costs more than it saves.
enum search_pass first_pass(const struct search_device *d, const asked *a, bool one)
{
    enum search_pass first = a->query->first;
    if (first == SEARCH_PASS_AUTO && !one)
        first = d->tried >= 256 && d->failed * 8 > d->tried ? SEARCH_PASS_FP16
                                                            : search_pass_for(&a->view,
                                                                              a->query->k);
    else if (first == SEARCH_PASS_AUTO)
        first = SEARCH_PASS_INT8;
    return first == SEARCH_PASS_INT8 && !d->bytes.memory ? SEARCH_PASS_FP16 : first;
}

enum akin_status run(struct search_device *d, const struct device_query *query, struct hit *hits,
                     size_t *found, struct search_counts *counts, double *seconds,
                     struct akin_error *error)
{
    asked a = {};
    a.seconds = seconds;
    a.d = d;
    a.query = query;
    a.hits = hits;
    a.found = found;
    a.error = error;
    a.view = search_device_view(d);
    bool one = query->query_count == 1 && query->queries, nothing = false, proven = false;
    enum search_pass first = first_pass(d, &a, one);
    enum akin_status status = check_query(d, query, error);
    platform_enter(d->home);
    if (status == AKIN_OK && d->lost)
        status = platform_finish(d->home, error);
    if (status == AKIN_OK && query->query_count > 0)
        status = prepare_masks(&a, one, &nothing);
    if (nothing) {
        for (size_t i = 0; i < query->query_count; i++)
            if (query->answer)
                query->answer(query->context, i, nullptr, 0);
            else
                found[i] = 0;
        a.counts.proven[SEARCH_PASS_AUTO] = query->query_count;
    } else if (status == AKIN_OK && one) {
        status = search_alone(&a, first, &proven);
    } else if (status == AKIN_OK) {
        status = search_all(&a, first);
    }
    if (counts)
        *counts = a.counts;
    return status;
}

enum akin_status search(struct search_device *d, const struct device_query *query,
                        struct hit *hits, size_t *found, struct search_counts *counts,
                        struct akin_error *error)
{
    return run(d, query, hits, found, counts, nullptr, error);
}

enum akin_status measure(struct search_device *d, const struct device_query *query,
                         struct hit *hits, size_t *found, double *seconds,
                         struct akin_error *error)
{
    *seconds = 0;
    return run(d, query, hits, found, nullptr, seconds, error);
}

}

extern "C" const struct search_device_ops *cuda_search_ops(void)
{
    static const struct search_device_ops ops = {create, destroy, search, append, put, measure,
                                                 row_count, memory, drop_int8};
    return &ops;
}
