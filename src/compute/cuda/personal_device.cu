// Personal requests on CUDA: one copy to the card, vectors and masks of the requests, the search of
// the rows that a search device has, the ranking, one copy back. What the search could not prove
// is done again in float32 throughout, request by request.
#include "compute/cuda/cuda_devices.h"

#include <cmath>
#include <cstring>
#include <new>

#include "compute/cuda/personal_cuda.cuh"

namespace {

enum { TOGETHER = 1024, ALIGNED = 64 };     // requests of a chunk
static_assert((uint64_t)TOGETHER * PERSONAL_SKIP_MAX <= UINT32_MAX, "places of lists have 32 bits");
// Copies that a model of taste points to: items and places, of each sum four, of the sequence six,
// of each mood two.
enum { KEPT_MAX = 2 + 4 * PERSONAL_SUMS + 6 + 2 * PERSONAL_MOODS };

// What comes back for a chunk, one behind the other.
struct answer_layout {
    size_t results, found, points, proven, bytes;
};

answer_layout layout_of(size_t count, size_t result_bytes)
{
    answer_layout l;
    l.results = 0;
    l.found = count * result_bytes;
    l.points = l.found + count * sizeof(uint32_t);
    l.proven = l.points + count * sizeof(uint32_t);
    l.bytes = l.proven + count * sizeof(uint32_t);
    return l;
}

// What goes to the card for a chunk, one behind the other.
struct sent_layout {
    size_t requests, vectors, skip, history, mask_of, points, bytes;
};

size_t aligned(size_t bytes)
{
    return (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
}

}

struct personal_device {
    platform *own;
    const struct search_device *rows;
    search_view view;                   // of the rows, as they were when a call began
    size_t words;
    float mean_here[SEARCH_DEVICE_DIM_MAX];     // of the host, for a request alone
    double *seconds;                    // of the device's clock; NULL: nobody asked
    float *mean, *popularity;
    uint64_t *texted, *starts;
    struct item_weight *entries;
    uint32_t *by_popularity;
    size_t popular_count, similar_items;
    device_taste taste;
    void *kept[KEPT_MAX];               // what taste points to
    size_t kept_count;
    // of a chunk
    buffer sent, received;       // pinned
    buffer given, answers, masks, hits, hits_found, vectors, said, bases;
    search_work work;
};

namespace {

// As buffer_need, with a quarter more, since chunks differ in size.
enum akin_status need(platform *p, buffer *m, size_t bytes, bool pinned,
                      struct akin_error *error)
{
    if (m->bytes >= bytes)
        return AKIN_OK;
    bytes += bytes / 4;
    return pinned ? buffer_need_pinned(p, m, bytes, error) : buffer_need(p, m, bytes, error);
}

template <typename T> T *at(const buffer &m, size_t offset)
{
    return reinterpret_cast<T *>(static_cast<unsigned char *>(m.memory) + offset);
}

void destroy(struct personal_device **device)
{
    struct personal_device *d = *device;
    if (!d)
        return;
    if (d->own) {
        void *const memory[] = {d->mean, d->popularity, d->texted, d->starts, d->entries,
                                d->by_popularity, d->given.memory, d->answers.memory,
                                d->masks.memory, d->hits.memory, d->hits_found.memory,
                                d->vectors.memory, d->said.memory, d->bases.memory};
        platform_enter(d->own);
        platform_finish(d->own, nullptr);       // create may have failed with copies under way
        search_work_release(d->own, &d->work);
        for (void *each : memory)
            platform_release(d->own, each);
        for (size_t i = 0; i < d->kept_count; i++)
            platform_release(d->own, d->kept[i]);
        platform_release_pinned(d->own, d->sent.memory);
        platform_release_pinned(d->own, d->received.memory);
        platform_close(d->own);
    }
    delete d;
    *device = nullptr;
}

// ---- what stays -----------------------------------------------------------------------------

template <typename T>
enum akin_status put(platform *p, T **to, const T *from, size_t count, struct akin_error *error)
{
    void *memory = nullptr;
    if (!from)
        return AKIN_OK;
    enum akin_status status = platform_allocate(p, (count + 1) * sizeof(T), &memory, error);
    if (status == AKIN_OK)
        platform_upload(p, memory, from, count * sizeof(T));
    *to = static_cast<T *>(memory);
    return status;
}

// The same for what taste points to: *to becomes the copy.
template <typename T>
enum akin_status keep(struct personal_device *d, const T **to, size_t count,
                      struct akin_error *error)
{
    T *copy = nullptr;
    enum akin_status status = put(d->own, &copy, *to, count, error);
    if (copy) {
        ASSERT(d->kept_count < KEPT_MAX);
        d->kept[d->kept_count++] = copy;
    }
    *to = copy;
    return status;
}

enum akin_status keep_sum(struct personal_device *d, personal_sum *sum, size_t size,
                          struct akin_error *error)
{
    if (!sum->rows)
        return AKIN_OK;
    enum akin_status status = keep(d, &sum->rows, size * sum->stride, error);
    if (status == AKIN_OK)
        status = keep(d, &sum->weights, PERSONAL_HISTORY_MAX, error);
    if (status == AKIN_OK)
        status = keep(d, &sum->totals, PERSONAL_HISTORY_MAX + 1, error);
    return status != AKIN_OK ? status : keep(d, &sum->shares, size, error);
}

enum akin_status keep_sequence(struct personal_device *d, personal_sequence *s, size_t size,
                               struct akin_error *error)
{
    if (s->length == 0)
        return AKIN_OK;
    enum akin_status status = keep(d, &s->history, size * s->dim, error);
    if (status == AKIN_OK)
        status = keep(d, &s->output, (s->dim + 1) * size, error);
    if (status == AKIN_OK)
        status = keep(d, &s->scale, PERSONAL_HEADS * s->dim, error);
    if (status == AKIN_OK)
        status = keep(d, &s->weights, PERSONAL_HEADS * s->length, error);
    if (status == AKIN_OK)
        status = keep(d, &s->totals, PERSONAL_HEADS * (s->length + 1), error);
    return status != AKIN_OK ? status : keep(d, &s->shares, size, error);
}

enum akin_status put_taste(struct personal_device *d, const struct personal_taste *t,
                           struct akin_error *error)
{
    size_t rows = d->view.rows.count;
    device_taste *to = &d->taste;
    if (!personal_say_fits(d->own))
        return error_set(error, AKIN_UNSUPPORTED, "this GPU has not the shared memory for a model "
                         "of taste: recommend on the CPU");
    *to = {(unsigned)t->size, t->items, t->places, {}, {}, t->sequence, {}};
    enum akin_status status = keep(d, &to->items, t->size, error);
    if (status == AKIN_OK)
        status = keep(d, &to->places, rows, error);
    if (status == AKIN_OK)
        status = keep_sequence(d, &to->sequence, t->size, error);
    for (int i = 0; status == AKIN_OK && i < PERSONAL_SUMS; i++) {
        to->sums[i] = t->sums[i];
        while (to->sums[i].rows && to->reach[i] < PERSONAL_HISTORY_MAX &&
               to->sums[i].weights[to->reach[i]] > 0)
            to->reach[i]++;
        status = keep_sum(d, &to->sums[i], t->size, error);
    }
    for (int i = 0; status == AKIN_OK && i < PERSONAL_MOODS; i++) {
        to->moods[i] = t->moods[i];
        status = keep(d, &to->moods[i].standing, rows, error);
        if (status == AKIN_OK)
            status = keep(d, &to->moods[i].order, rows - t->size, error);
    }
    return status;
}

enum akin_status put_items(struct personal_device *d, const struct personal_items *items,
                           struct akin_error *error)
{
    size_t count = d->view.rows.count;
    const uint64_t *starts = items->similar.starts;
    enum akin_status status = put(d->own, &d->mean, items->mean, d->view.rows.dim, error);
    if (status == AKIN_OK)
        status = put(d->own, &d->texted, items->texted, d->words, error);
    if (status == AKIN_OK)
        status = put(d->own, &d->popularity, items->popularity, count, error);
    if (status == AKIN_OK)
        status = put(d->own, &d->by_popularity, items->by_popularity, items->popular_count, error);
    if (status == AKIN_OK && starts)
        status = put(d->own, &d->starts, starts, count + 1, error);
    if (status == AKIN_OK && starts)
        status = put(d->own, &d->entries, items->similar.entries, starts[count], error);
    d->popular_count = items->by_popularity ? items->popular_count : 0;
    d->similar_items = starts ? count : 0;
    if (status == AKIN_OK && items->taste && items->taste->size)
        status = put_taste(d, items->taste, error);
    return status == AKIN_OK ? platform_finish(d->own, error) : status;
}

enum akin_status create(int ordinal, const struct search_device *rows,
                        const struct personal_items *items, struct personal_device **device,
                        struct akin_error *error)
{
    *device = nullptr;
    search_view view = search_device_view(rows);
    enum akin_status status = personal_check(items, view.rows.count, error);
    if (status != AKIN_OK)
        return status;
    struct personal_device *d = new (std::nothrow) personal_device();
    if (!d)
        return error_memory(error);
    d->rows = rows;
    d->view = view;
    memcpy(d->mean_here, items->mean, view.rows.dim * sizeof *d->mean_here);
    d->words = (view.rows.count + 63) / 64;
    status = platform_open(ordinal, &d->own, error, CUDA_USE_PERSONAL);
    if (status == AKIN_OK && !personal_rank_fits(d->own, view.rows.dim))
        status = error_set(error, AKIN_UNSUPPORTED, "this GPU has not the shared memory to rank "
                           "candidates at dimension %zu: recommend on the CPU", view.rows.dim);
    if (status == AKIN_OK)
        status = put_items(d, items, error);
    if (status == AKIN_OK)
        *device = d;
    else
        destroy(&d);
    return status;
}

// ---- a search -------------------------------------------------------------------------------

// What a chunk has on the card once its vectors are made.
struct chunk {
    size_t count, k;                    // k: of the search
    const search_mask *mask;
    struct hit *hits;                   // [count][k]
    uint32_t *found, *proven;
    const float *alone;                 // the vector of a request alone, here; NULL: many
};

enum akin_status search_together(struct personal_device *d, const chunk &c,
                                 struct akin_error *error)
{
    search_job job = {};
    job.given = at<float>(d->vectors, 0);
    job.count = c.count;
    job.k = c.k;
    job.mask = *c.mask;
    job.answers = {c.hits, c.found, c.proven};
    return search_start(d->own, &d->work, &d->view, &job, error);
}

// One vector travels with the start of the kernels, which read all rows once.
enum akin_status search_alone(struct personal_device *d, const chunk &c, enum search_pass pass,
                              struct akin_error *error)
{
    search_given given = {}, digits = {};
    search_single single = {};
    size_t dim = d->view.rows.dim;
    memcpy(given.wide, c.alone, dim * sizeof *given.wide);
    if (pass == SEARCH_PASS_AUTO)
        pass = d->view.rows.bytes ? SEARCH_PASS_INT8 : SEARCH_PASS_FP16;
    if (pass == SEARCH_PASS_INT8)
        single.error = search_digits(given.wide, dim, d->view.margins,
                                     reinterpret_cast<int8_t *>(digits.wide));
    else if (pass == SEARCH_PASS_FP16)
        single.error = search_error_fp16(given.wide, dim, d->view.margins);
    if (!(single.error < INFINITY)) {
        pass = SEARCH_PASS_FP32;
        single.error = 0;
    }
    single.pass = pass;
    single.rows = d->view.rows;
    single.mask = *c.mask;
    single.k = c.k;
    single.answers = {c.hits, c.found, c.proven};
    return search_start_one(d->own, &d->work, &single,
                            single.pass == SEARCH_PASS_INT8 ? &digits : &given, &given, error);
}

// In float32 throughout.
enum akin_status search_again(struct personal_device *d, const chunk &c, size_t number,
                              struct akin_error *error)
{
    if (c.alone)
        return search_alone(d, c, SEARCH_PASS_FP32, error);
    search_given none = {};
    search_single single = {};
    single.rows = d->view.rows;
    single.mask = *c.mask;
    single.mask_number = number;
    single.pass = SEARCH_PASS_FP32;
    single.k = c.k;
    single.query = at<float>(d->vectors, 0) + number * d->view.rows.dim;
    single.answers = {c.hits + number * c.k, c.found + number, c.proven + number};
    return search_start_one(d->own, &d->work, &single, &none, &none, error);
}

enum akin_status search(struct personal_device *d, const chunk &c, struct akin_error *error)
{
    return c.alone ? search_alone(d, c, SEARCH_PASS_AUTO, error) : search_together(d, c, error);
}

// The card's own clock, from here to take_time.
void mark_time(struct personal_device *d)
{
    if (d->seconds)
        platform_mark(d->own);
}

void take_time(struct personal_device *d)
{
    if (d->seconds)
        *d->seconds += platform_since_mark(d->own);
}

// ---- calls ----------------------------------------------------------------------------------

// Rows may have been put since the call before, which changes how far off their narrow forms are.
// Where there are more of them, nothing is known of the new ones here.
enum akin_status begin(struct personal_device *d, struct akin_error *error)
{
    search_view now = search_device_view(d->rows);
    if (now.rows.count != d->view.rows.count)
        return error_set(error, AKIN_ARGUMENT, "requests of people were prepared on the GPU for "
                         "%zu rows, and there are %zu: prepare them anew", d->view.rows.count,
                         now.rows.count);
    d->view = now;
    platform_enter(d->own);
    if (d->seconds)
        *d->seconds = 0;
    return AKIN_OK;
}

// Nothing is under way behind a call that failed: copies read memory of the caller, and pinned
// memory that the next call writes.
enum akin_status end(struct personal_device *d, enum akin_status status)
{
    if (status != AKIN_OK)
        platform_finish(d->own, nullptr);
    return status;
}

// ---- the nearest ----------------------------------------------------------------------------

enum akin_status nearest_chunk(struct personal_device *d, const float *queries, size_t count,
                               size_t k, const uint64_t *mask, struct hit *hits, size_t *found,
                               struct akin_error *error)
{
    size_t dim = d->view.rows.dim, bytes = count * dim * sizeof(float);
    answer_layout l = layout_of(count, k * sizeof(struct hit));
    enum akin_status status = need(d->own, &d->sent, bytes, true, error);
    if (status == AKIN_OK)
        status = need(d->own, &d->given, bytes, false, error);
    if (status == AKIN_OK)
        status = need(d->own, &d->received, l.bytes, true, error);
    if (status == AKIN_OK)
        status = need(d->own, &d->answers, l.bytes, false, error);
    if (status == AKIN_OK)
        status = need(d->own, &d->vectors, bytes, false, error);
    if (status != AKIN_OK)
        return status;
    search_mask where = {mask, nullptr, d->words};
    chunk c = {count, k, &where, at<struct hit>(d->answers, l.results),
               at<uint32_t>(d->answers, l.found), at<uint32_t>(d->answers, l.proven), nullptr};
    fuse_job fuse = {nullptr, at<float>(d->given, 0), d->mean, count, dim, at<float>(d->vectors, 0),
                     at<uint32_t>(d->answers, l.points)};
    uint32_t points = POINTS;
    mark_time(d);
    if (count == 1) {
        c.alone = at<float>(d->sent, 0);
        points = personal_fuse_here(queries, nullptr, 1, d->mean_here, dim,
                                    at<float>(d->sent, 0));
        found[0] = 0;
    } else {
        memcpy(d->sent.memory, queries, bytes);
        platform_upload(d->own, d->given.memory, d->sent.memory, bytes);
        personal_fuse(d->own, &fuse);
    }
    if (points != POINTS)
        return platform_finish(d->own, error);
    status = search(d, c, error);
    if (status != AKIN_OK)
        return status;
    platform_download(d->own, d->received.memory, d->answers.memory, l.bytes);
    take_time(d);
    status = platform_finish(d->own, error);
    auto does_point = [&](size_t q) {
        return c.alone || at<uint32_t>(d->received, l.points)[q] == POINTS;
    };
    bool again = false;
    for (size_t q = 0; status == AKIN_OK && q < count; q++)
        if (does_point(q) && !at<uint32_t>(d->received, l.proven)[q]) {
            status = search_again(d, c, q, error);
            again = true;
        }
    if (status == AKIN_OK && again) {
        platform_download(d->own, d->received.memory, d->answers.memory, l.bytes);
        status = platform_finish(d->own, error);
    }
    if (status != AKIN_OK)
        return status;
    memcpy(hits, at<struct hit>(d->received, l.results), count * k * sizeof *hits);
    for (size_t q = 0; q < count; q++)
        found[q] = does_point(q) ? at<uint32_t>(d->received, l.found)[q] : 0;
    return AKIN_OK;
}

enum akin_status nearest(struct personal_device *d, const float *queries, size_t count, size_t k,
                         const uint64_t *mask, struct hit *hits, size_t *found,
                         struct akin_error *error)
{
    ASSERT(k > 0 && k <= SEARCH_DEVICE_K_MAX);
    enum akin_status status = begin(d, error);
    if (status != AKIN_OK)
        return status;
    if (mask) {
        status = need(d->own, &d->masks, d->words * sizeof *mask, false, error);
        if (status == AKIN_OK)
            platform_upload(d->own, d->masks.memory, mask, d->words * sizeof *mask);
    }
    for (size_t first = 0; status == AKIN_OK && first < count; first += TOGETHER) {
        size_t now = count - first < TOGETHER ? count - first : (size_t)TOGETHER;
        status = nearest_chunk(d, queries + first * d->view.rows.dim, now, k,
                               mask ? at<uint64_t>(d->masks, 0) : nullptr, hits + first * k,
                               found + first, error);
    }
    return end(d, status);
}

// ---- requests -------------------------------------------------------------------------------

enum akin_status check_request(const struct personal_device *d, const struct personal_batch *batch,
                               size_t number, struct akin_error *error)
{
    const struct personal_request *r = &batch->requests[number];
    size_t rows = d->view.rows.count;
    if (r->past_count > PERSONAL_PAST_MAX || (r->past_count && d->similar_items == 0))
        return error_set(error, AKIN_ARGUMENT, "request %zu: a past of %zu items; at most %d%s",
                         number, r->past_count, d->similar_items ? PERSONAL_PAST_MAX : 0,
                         d->similar_items ? "" : ", without raters");
    if (r->skip_count > PERSONAL_SKIP_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "request %zu: %zu items are left out; on the GPU "
                         "at most %d", number, r->skip_count, PERSONAL_SKIP_MAX);
    if (r->mask != UINT32_MAX && r->mask >= batch->mask_count)
        return error_set(error, AKIN_ARGUMENT, "request %zu: mask %u; there are %zu", number,
                         r->mask, batch->mask_count);
    bool says = r->mood == PERSONAL_NO_MOOD ||
                (r->mood < PERSONAL_MOODS && d->taste.size && d->taste.moods[r->mood].standing &&
                 r->history_count <= PERSONAL_HISTORY_MAX);
    for (size_t i = 0; says && i < (r->mood == PERSONAL_NO_MOOD ? 0 : r->history_count); i++)
        says = r->history[i] < d->taste.size;
    if (!says)
        return error_set(error, AKIN_ARGUMENT, "request %zu: mood %u, or a history that the model "
                         "does not know", number, r->mood);
    for (size_t i = 0; i < r->past_count; i++)
        if (r->past[i] >= rows)
            return error_set(error, AKIN_ARGUMENT, "request %zu: item %u; there are %zu", number,
                             r->past[i], rows);
    for (size_t i = 0; i < r->skip_count; i++)
        if (r->skip[i] >= rows)
            return error_set(error, AKIN_ARGUMENT, "request %zu: item %u; there are %zu", number,
                             r->skip[i], rows);
    return AKIN_OK;
}

sent_layout layout_sent(const struct personal_device *d, const struct personal_request *requests,
                        size_t count)
{
    sent_layout l;
    size_t vectors = 0, skipped = 0, events = 0;
    for (size_t q = 0; q < count; q++) {
        events += requests[q].mood == PERSONAL_NO_MOOD ? 0 : requests[q].history_count;
        vectors += (requests[q].query != nullptr) + (requests[q].person != nullptr);
        skipped += requests[q].skip_count;
    }
    l.requests = 0;
    l.vectors = aligned(count * sizeof(device_request));
    vectors += vectors == 0;            // that of a request alone
    l.skip = l.vectors + aligned(vectors * d->view.rows.dim * sizeof(float));
    l.history = l.skip + aligned(skipped * sizeof(uint32_t));
    l.mask_of = l.history + aligned(events * sizeof(uint32_t));
    l.points = l.mask_of + aligned(count * sizeof(uint32_t));
    l.bytes = l.points + aligned(sizeof(uint32_t));
    return l;
}

uint32_t put_vector(const struct personal_device *d, const sent_layout &l, const float *vector,
                    uint32_t *vectors)
{
    size_t dim = d->view.rows.dim;
    if (!vector)
        return UINT32_MAX;
    memcpy(at<float>(d->sent, l.vectors) + *vectors * dim, vector, dim * sizeof *vector);
    return (*vectors)++;
}

// What varies in size; *used of it has been written.
uint32_t put_list(const struct personal_device *d, size_t offset, const uint32_t *from,
                  size_t count, uint32_t *used)
{
    uint32_t first = *used;
    if (count)
        memcpy(at<uint32_t>(d->sent, offset) + first, from, count * sizeof *from);
    *used += (uint32_t)count;
    return first;
}

// What the requests of a chunk need.
struct needs {
    bool masks, taste;
};

// To pinned memory, as it will lie on the card.
needs write_requests(struct personal_device *d, const sent_layout &l,
                     const struct personal_request *requests, size_t count)
{
    uint32_t vectors = 0, skipped = 0, events = 0;
    needs n = {};
    for (size_t q = 0; q < count; q++) {
        const struct personal_request *from = &requests[q];
        bool own = from->skip_count || from->mask != UINT32_MAX;
        device_request to = {};
        to.query = put_vector(d, l, from->query, &vectors);
        to.person = put_vector(d, l, from->person, &vectors);
        to.share = from->share;
        to.text = from->text;
        to.taste = from->taste;
        to.popularity = from->popularity;
        to.mask = from->mask;
        to.skip_count = (uint32_t)from->skip_count;
        to.skip_first = put_list(d, l.skip, from->skip, from->skip_count, &skipped);
        to.past_count = (uint32_t)from->past_count;
        to.mood = from->mood;
        to.told_text = from->told_text;
        if (from->mood != PERSONAL_NO_MOOD) {
            to.history_count = (uint32_t)from->history_count;
            to.history_first = put_list(d, l.history, from->history, from->history_count, &events);
            n.taste = true;
        }
        if (from->past_count) {
            memcpy(to.past, from->past, from->past_count * sizeof *to.past);
            memcpy(to.past_weights, from->past_weights, from->past_count * sizeof(float));
        }
        at<uint32_t>(d->sent, l.mask_of)[q] = own ? (uint32_t)q : UINT32_MAX;
        at<device_request>(d->sent, l.requests)[q] = to;
        n.masks |= own;
    }
    return n;
}

enum akin_status reserve(struct personal_device *d, const sent_layout &sent,
                         const answer_layout &l, size_t count, size_t text_offers,
                         struct akin_error *error)
{
    struct {
        buffer *room;
        size_t bytes;
        bool pinned;
    } wanted[] = {
        {&d->sent, sent.bytes, true}, {&d->given, sent.bytes, false},
        {&d->received, l.bytes, true}, {&d->answers, l.bytes, false},
        {&d->masks, count * d->words * sizeof(uint64_t), false},
        {&d->hits, count * text_offers * sizeof(struct hit), false},
        {&d->hits_found, count * sizeof(uint32_t), false},
        {&d->said, count * d->taste.size * sizeof(float), false},
    };
    enum akin_status status = need(d->own, &d->vectors, count * d->view.rows.dim * sizeof(float),
                                   false, error);
    for (size_t i = 0; status == AKIN_OK && i < sizeof wanted / sizeof *wanted; i++)
        status = need(d->own, wanted[i].room, wanted[i].bytes, wanted[i].pinned, error);
    return status;
}

// The vector of a request alone, and whether it points, in the place of what it was given.
uint32_t fuse_alone(struct personal_device *d, const sent_layout &l,
                    const struct personal_request *request)
{
    float *fused = at<float>(d->sent, l.vectors);
    uint32_t points = personal_fuse_here(request->query, request->person, (double)request->share,
                                         d->mean_here, d->view.rows.dim, fused);
    *at<uint32_t>(d->sent, l.points) = points;
    return points;
}

// The masks of the batch lie in `bases` on the card.
enum akin_status answer_chunk(struct personal_device *d, const struct personal_batch *batch,
                              size_t first, size_t count, const uint64_t *bases,
                              struct personal_result *results, size_t *found,
                              struct akin_error *error)
{
    size_t dim = d->view.rows.dim, k = batch->k, offers = batch->text_offers;
    sent_layout sent = layout_sent(d, batch->requests + first, count);
    answer_layout l = layout_of(count, k * sizeof(struct personal_result));
    enum akin_status status = reserve(d, sent, l, count, offers, error);
    if (status != AKIN_OK)
        return status;
    needs n = write_requests(d, sent, batch->requests + first, count);
    const device_request *requests = at<device_request>(d->given, sent.requests);
    bool alone = count == 1;
    uint32_t *points = alone ? at<uint32_t>(d->given, sent.points)
                             : at<uint32_t>(d->answers, l.points);
    float *vectors = alone ? at<float>(d->given, sent.vectors) : at<float>(d->vectors, 0);
    uint32_t here = alone ? fuse_alone(d, sent, &batch->requests[first]) : (uint32_t)POINTS;
    found[0] = PERSONAL_NOWHERE;
    if (here == POINTS_WRONG)
        return platform_finish(d->own, error);
    search_mask where = {};
    if (n.masks)
        where = {at<uint64_t>(d->masks, 0), at<uint32_t>(d->given, sent.mask_of), d->words};
    chunk c = {count, offers, &where, at<struct hit>(d->hits, 0), at<uint32_t>(d->hits_found, 0),
               at<uint32_t>(d->answers, l.proven),
               alone ? at<float>(d->sent, sent.vectors) : nullptr};
    fuse_job fuse = {requests, at<float>(d->given, sent.vectors), d->mean, count, dim, vectors,
                     points};
    mask_job mask = {requests, bases, at<uint32_t>(d->given, sent.skip), d->view.rows.count,
                     d->words, at<uint64_t>(d->masks, 0)};
    rank_job rank = {d->view.rows, where, requests, vectors, points, c.hits,
                     c.found, d->texted, d->starts, d->entries, d->taste, at<float>(d->said, 0),
                     (unsigned)(d->view.rows.count - d->taste.size), d->popularity,
                     d->by_popularity,
                     (unsigned)d->popular_count, (unsigned)offers, (unsigned)batch->offers,
                     (unsigned)k, 0, at<struct personal_result>(d->answers, l.results),
                     at<uint32_t>(d->answers, l.found)};
    taste_job taste = {requests, at<uint32_t>(d->given, sent.history), d->taste,
                       at<float>(d->said, 0)};
    mark_time(d);
    platform_upload(d->own, d->given.memory, d->sent.memory, sent.bytes);
    if (!alone)
        personal_fuse(d->own, &fuse);
    if (n.masks)
        personal_masks(d->own, &mask, count);
    if (n.taste)
        personal_say(d->own, &taste, count);
    if (here == POINTS)
        status = search(d, c, error);
    if (status != AKIN_OK)
        return status;
    personal_rank(d->own, &rank, count);
    platform_download(d->own, d->received.memory, d->answers.memory, l.bytes);
    take_time(d);
    status = platform_finish(d->own, error);
    bool again = false;
    for (size_t q = 0; status == AKIN_OK && q < count; q++)
        if ((alone ? here : at<uint32_t>(d->received, l.points)[q]) == POINTS &&
            !at<uint32_t>(d->received, l.proven)[q]) {
            status = search_again(d, c, q, error);
            rank.first = q;
            personal_rank(d->own, &rank, 1);
            again = true;
        }
    if (status == AKIN_OK && again) {
        platform_download(d->own, d->received.memory, d->answers.memory, l.bytes);
        status = platform_finish(d->own, error);
    }
    if (status != AKIN_OK)
        return status;
    memcpy(results, d->received.memory, count * k * sizeof *results);
    for (size_t q = 0; q < count; q++)
        found[q] = !alone && at<uint32_t>(d->received, l.points)[q] == POINTS_WRONG
                       ? PERSONAL_NOWHERE : at<uint32_t>(d->received, l.found)[q];
    return AKIN_OK;
}

enum akin_status answer(struct personal_device *d, const struct personal_batch *batch,
                        struct personal_result *results, size_t *found, struct akin_error *error)
{
    size_t base_bytes = batch->mask_count * d->words * sizeof(uint64_t);
    ASSERT(batch->k > 0 && batch->k <= PERSONAL_K_MAX && batch->text_offers >= batch->k &&
           batch->text_offers <= PERSONAL_OFFERS_MAX && batch->offers <= PERSONAL_OFFERS_MAX);
    enum akin_status status = begin(d, error);
    for (size_t q = 0; status == AKIN_OK && q < batch->count; q++)
        status = check_request(d, batch, q, error);
    if (status != AKIN_OK)
        return status;
    if (base_bytes) {
        status = need(d->own, &d->bases, base_bytes, false, error);
        if (status == AKIN_OK)
            platform_upload(d->own, d->bases.memory, batch->masks, base_bytes);
    }
    for (size_t first = 0; status == AKIN_OK && first < batch->count; first += TOGETHER) {
        size_t left = batch->count - first, now = left < TOGETHER ? left : (size_t)TOGETHER;
        status = answer_chunk(d, batch, first, now, at<uint64_t>(d->bases, 0),
                              results + first * batch->k, found + first, error);
    }
    return end(d, status);
}

void measure(struct personal_device *d, double *seconds)
{
    d->seconds = seconds;
}

}

extern "C" const struct personal_device_ops *cuda_personal_ops(void)
{
    static const struct personal_device_ops ops = {create, destroy, answer, nearest, measure};
    return &ops;
}
