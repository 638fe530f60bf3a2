// Personal requests on CUDA: one copy from the room of who asks to the card, vectors and masks of
// the requests, the search of the rows that a search device has, the ranking, one copy back to the
// room. What the search could not prove is done again in float32 throughout, request by request.
#include "compute/cuda/cuda_devices.h"

#include <cmath>
#include <cstring>
#include <new>

#include "compute/cuda/personal_cuda.cuh"

namespace {

enum { ALIGNED = 64 };
// Copies that a model of taste points to: items and places, of each sum four, of the sequence six,
// of each mood two.
enum { KEPT_MAX = 2 + 4 * PERSONAL_SUMS + 6 + 2 * PERSONAL_MOODS };

// What comes back for a chunk, one behind the other.
struct answer_layout {
    size_t results, found, points, proven, ticket, bytes;
};

answer_layout layout_of(size_t count, size_t result_bytes)
{
    answer_layout l;
    l.results = 0;
    l.found = count * result_bytes;
    l.points = l.found + count * sizeof(uint32_t);
    l.proven = l.points + count * sizeof(uint32_t);
    l.ticket = l.proven + count * sizeof(uint32_t);
    l.bytes = l.ticket + sizeof(uint32_t);
    return l;
}

// What goes to the card in one copy, from the beginning of a room: requests, vectors, lists as far
// as they are used, and behind these what is added here.
struct sent_layout {
    size_t vectors, lists, mask_of, points, bytes;
};

size_t aligned(size_t bytes)
{
    return (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
}

sent_layout layout_sent(const struct personal_room *room, size_t lists, size_t count)
{
    const unsigned char *from = static_cast<const unsigned char *>(room->sent.memory);
    sent_layout l;
    l.vectors = (size_t)(reinterpret_cast<const unsigned char *>(room->vectors) - from);
    l.lists = (size_t)(reinterpret_cast<const unsigned char *>(room->lists) - from);
    l.mask_of = l.lists + aligned(lists * sizeof *room->lists);
    l.points = l.mask_of + aligned(count * sizeof(uint32_t));
    l.bytes = l.points + aligned(sizeof(uint32_t));
    return l;
}

}

struct personal_device {
    platform *own;
    const struct search_device *rows;
    search_view view;                   // of the rows, as they were when a call began
    uint32_t ticket;                    // of the last request alone
    size_t row_count, dim;              // which are looked at beside calls, and stay
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
    // of a call
    buffer given, answers, masks, hits, hits_found, vectors, said, bases;
    search_work work;
};

namespace {

// As buffer_need, with a quarter more, since calls differ in size.
enum akin_status need(platform *p, buffer *m, size_t bytes, struct akin_error *error)
{
    return m->bytes >= bytes ? AKIN_OK : buffer_need(p, m, bytes + bytes / 4, error);
}

enum akin_status need_pinned(platform *p, struct personal_memory *m, size_t bytes,
                             struct akin_error *error)
{
    buffer b = {m->memory, m->bytes};
    enum akin_status status =
        b.bytes >= bytes ? AKIN_OK : buffer_need_pinned(p, &b, bytes + bytes / 4, error);
    *m = {b.memory, b.bytes};
    return status;
}

template <typename T, typename Memory> T *at(const Memory &m, size_t offset)
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
    d->row_count = view.rows.count;
    d->dim = view.rows.dim;
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

// What a call has on the card once its vectors are made.
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

// ---- rooms ----------------------------------------------------------------------------------

void release(struct personal_device *d, struct personal_room *room)
{
    platform_enter(d->own);
    platform_release_pinned(d->own, room->sent.memory);
    platform_release_pinned(d->own, room->received.memory);
    *room = {};
}

// Where what lies in a room.
struct room_layout {
    size_t vectors, lists, sent, received;
};

room_layout layout_room(const struct personal_device *d, const struct personal_sizes *sizes)
{
    room_layout l;
    size_t most = sizes->requests > sizes->vectors ? sizes->requests : sizes->vectors;
    size_t answer = sizeof(struct personal_result) > sizeof(struct hit)
                        ? sizeof(struct personal_result) : sizeof(struct hit);
    l.vectors = aligned(sizes->requests * sizeof(struct personal_request));
    // one more, for the fused one of a request alone
    l.lists = l.vectors + aligned((sizes->vectors + 1) * d->dim * sizeof(float));
    l.sent = l.lists + aligned(sizes->lists * sizeof(uint32_t)) +
             aligned(sizes->requests * sizeof(uint32_t)) + aligned(sizeof(uint32_t));
    l.received = sizes->answers * answer + (3 * most + 1) * sizeof(uint32_t);
    return l;
}

bool lay_out(const struct personal_device *d, const struct personal_sizes *sizes,
             struct personal_room *room)
{
    room_layout l = layout_room(d, sizes);
    if (room->sent.bytes < l.sent || room->received.bytes < l.received)
        return false;
    room->requests = at<struct personal_request>(room->sent, 0);
    room->vectors = at<float>(room->sent, l.vectors);
    room->lists = at<uint32_t>(room->sent, l.lists);
    return true;
}

enum akin_status reserve(struct personal_device *d, const struct personal_sizes *sizes,
                         struct personal_room *room, struct akin_error *error)
{
    room_layout l = layout_room(d, sizes);
    platform_enter(d->own);
    enum akin_status status = need_pinned(d->own, &room->sent, l.sent, error);
    if (status == AKIN_OK)
        status = need_pinned(d->own, &room->received, l.received, error);
    if (status == AKIN_OK)
        lay_out(d, sizes, room);
    else
        release(d, room);
    return status;
}

// Memory of the card for what goes up and what comes back.
enum akin_status need_both(struct personal_device *d, size_t sent, size_t received,
                           struct akin_error *error)
{
    enum akin_status status = need(d->own, &d->given, sent, error);
    return status != AKIN_OK ? status : need(d->own, &d->answers, received, error);
}

// ---- the nearest ----------------------------------------------------------------------------

// Waits for the answers of many; what was not proven is done again, and all are fetched once more.
template <typename Again>
enum akin_status settle(struct personal_device *d, const struct personal_room *room,
                        const answer_layout &l, size_t count, bool alone, Again again,
                        struct akin_error *error)
{
    enum akin_status status = platform_finish(d->own, error);
    bool any = false;
    for (size_t q = 0; status == AKIN_OK && q < count; q++)
        if ((alone || at<uint32_t>(room->received, l.points)[q] == POINTS) &&
            !at<uint32_t>(room->received, l.proven)[q]) {
            status = again(q);
            any = true;
        }
    if (status != AKIN_OK || !any)
        return status;
    platform_download(d->own, room->received.memory, d->answers.memory, l.bytes);
    return platform_finish(d->own, error);
}

enum akin_status find_nearest(struct personal_device *d, size_t count, size_t k,
                              const uint64_t *mask, struct personal_room *room,
                              struct akin_error *error)
{
    size_t dim = d->view.rows.dim, bytes = count * dim * sizeof(float);
    answer_layout l = layout_of(count, k * sizeof(struct hit));
    uint32_t *found = at<uint32_t>(room->received, l.found);
    float fused[SEARCH_DEVICE_DIM_MAX];
    bool alone = count == 1;
    enum akin_status status = need_both(d, bytes, l.bytes, error);
    if (status == AKIN_OK)
        status = need(d->own, &d->vectors, bytes, error);
    if (status != AKIN_OK)
        return status;
    room->hits = at<struct hit>(room->received, l.results);
    room->found = found;
    search_mask where = {mask, nullptr, d->words};
    chunk c = {count, k, &where, at<struct hit>(d->answers, l.results),
               at<uint32_t>(d->answers, l.found), at<uint32_t>(d->answers, l.proven),
               alone ? fused : nullptr};
    fuse_job fuse = {nullptr, at<float>(d->given, 0), d->mean, count, dim, at<float>(d->vectors, 0),
                     at<uint32_t>(d->answers, l.points)};
    mark_time(d);
    if (alone) {
        found[0] = 0;
        if (personal_fuse_here(room->vectors, nullptr, 1, d->mean_here, dim, fused) != POINTS)
            return platform_finish(d->own, error);
    } else {
        platform_upload(d->own, d->given.memory, room->vectors, bytes);
        personal_fuse(d->own, &fuse);
    }
    status = search(d, c, error);
    if (status != AKIN_OK)
        return status;
    platform_download(d->own, room->received.memory, d->answers.memory, l.bytes);
    take_time(d);
    status = settle(d, room, l, count, alone,
                    [&](size_t q) { return search_again(d, c, q, error); }, error);
    for (size_t q = 0; status == AKIN_OK && !alone && q < count; q++)
        if (at<uint32_t>(room->received, l.points)[q] != POINTS)
            found[q] = 0;
    return status;
}

enum akin_status nearest(struct personal_device *d, size_t count, size_t k, const uint64_t *mask,
                         struct personal_room *room, struct akin_error *error)
{
    ASSERT(count > 0 && count <= PERSONAL_TOGETHER && k > 0 && k <= SEARCH_DEVICE_K_MAX);
    enum akin_status status = begin(d, error);
    if (status == AKIN_OK && mask) {
        status = need(d->own, &d->masks, d->words * sizeof *mask, error);
        if (status == AKIN_OK)
            platform_upload(d->own, d->masks.memory, mask, d->words * sizeof *mask);
    }
    if (status != AKIN_OK)
        return status;
    return end(d, find_nearest(d, count, k, mask ? at<uint64_t>(d->masks, 0) : nullptr, room,
                               error));
}

// ---- requests -------------------------------------------------------------------------------

// Whether all of a list are below `limit`; without a branch for each.
bool all_below(const uint32_t *list, size_t count, size_t limit)
{
    bool wrong = false;
    for (size_t i = 0; i < count; i++)
        wrong |= list[i] >= limit;
    return !wrong;
}

enum akin_status check(const struct personal_device *d, const struct personal_room *room,
                       size_t number, size_t mask_count, struct akin_error *error)
{
    const struct personal_request *r = &room->requests[number];
    bool moody = r->mood != PERSONAL_NO_MOOD;
    size_t past_most = d->similar_items ? (size_t)PERSONAL_PAST_MAX : 0;
    if (r->past_count > past_most || !all_below(r->past, r->past_count, d->row_count))
        return error_set(error, AKIN_ARGUMENT, "request %zu: a past of %u items; there are at most "
                         "%zu, of %zu", number, r->past_count, past_most, d->row_count);
    if (r->skip_count > PERSONAL_SKIP_MAX)
        return error_set(error, AKIN_UNSUPPORTED, "request %zu: %u items are left out; on the GPU "
                         "at most %d", number, r->skip_count, PERSONAL_SKIP_MAX);
    if (!all_below(room->lists + r->skip_first, r->skip_count, d->row_count))
        return error_set(error, AKIN_ARGUMENT, "request %zu: an item that is left out is not one "
                         "of the %zu", number, d->row_count);
    if (r->mask != PERSONAL_NONE && r->mask >= mask_count)
        return error_set(error, AKIN_ARGUMENT, "request %zu: mask %u; there are %zu", number,
                         r->mask, mask_count);
    if (moody && !(r->mood < PERSONAL_MOODS && d->taste.size &&
                   d->taste.moods[r->mood].standing && r->history_count <= PERSONAL_HISTORY_MAX &&
                   all_below(room->lists + r->history_first, r->history_count, d->taste.size)))
        return error_set(error, AKIN_ARGUMENT, "request %zu: mood %u, or a history that the model "
                         "does not know", number, r->mood);
    return AKIN_OK;
}

// What the requests of a call need.
struct needs {
    bool masks, taste;
};

needs look_through(const struct personal_room *room, const struct personal_batch *batch,
                   uint32_t *mask_of)
{
    needs n = {};
    for (size_t q = 0; q < batch->count; q++) {
        const struct personal_request *r = &room->requests[q];
        bool own = r->skip_count || r->mask != PERSONAL_NONE;
        ASSERT((size_t)r->skip_first + r->skip_count <= batch->lists &&
               (r->mood == PERSONAL_NO_MOOD ||
                (size_t)r->history_first + r->history_count <= batch->lists));
        mask_of[q] = own ? (uint32_t)q : UINT32_MAX;
        n.masks |= own;
        n.taste |= r->mood != PERSONAL_NO_MOOD;
    }
    return n;
}

enum akin_status need_all(struct personal_device *d, const struct personal_batch *batch,
                          const sent_layout &sent, const answer_layout &l, struct akin_error *error)
{
    size_t count = batch->count;
    struct {
        buffer *room;
        size_t bytes;
    } wanted[] = {
        {&d->vectors, count * d->view.rows.dim * sizeof(float)},
        {&d->masks, count * d->words * sizeof(uint64_t)},
        {&d->bases, batch->mask_count * d->words * sizeof(uint64_t)},
        {&d->hits, count * batch->text_offers * sizeof(struct hit)},
        {&d->hits_found, count * sizeof(uint32_t)},
        {&d->said, count * d->taste.size * sizeof(float)},
    };
    enum akin_status status = need_both(d, sent.bytes, l.bytes, error);
    for (size_t i = 0; status == AKIN_OK && i < sizeof wanted / sizeof *wanted; i++)
        status = need(d->own, wanted[i].room, wanted[i].bytes, error);
    return status;
}

// The vector of a request alone goes behind those that it was given: the last of the room's.
uint32_t fuse_alone(struct personal_device *d, const struct personal_room *room,
                    const sent_layout &l, float **fused)
{
    const struct personal_request *r = &room->requests[0];
    size_t dim = d->view.rows.dim;
    const float *query = r->query == PERSONAL_NONE ? nullptr : room->vectors + r->query * dim;
    const float *person = r->person == PERSONAL_NONE ? nullptr : room->vectors + r->person * dim;
    *fused = room->vectors + ((l.lists - l.vectors) / (dim * sizeof(float)) - 1) * dim;
    uint32_t points = personal_fuse_here(query, person, (double)r->share, d->mean_here, dim,
                                         *fused);
    *at<uint32_t>(room->sent, l.points) = points;
    return points;
}

// A batch on its way.
struct batch_call {
    const struct personal_batch *batch;
    struct personal_room *room;
    sent_layout sent;
    answer_layout answers;
    needs n;
    chunk c;
    rank_job rank;
};

// Up, and what stands before the search; fuse: on the card.
void prepare(struct personal_device *d, const batch_call &b, bool fuse)
{
    const struct personal_batch *batch = b.batch;
    const struct personal_request *requests = at<struct personal_request>(d->given, 0);
    const uint32_t *lists = at<uint32_t>(d->given, b.sent.lists);
    fuse_job fused = {requests, at<float>(d->given, b.sent.vectors), d->mean, batch->count,
                      d->view.rows.dim, at<float>(d->vectors, 0),
                      at<uint32_t>(d->answers, b.answers.points)};
    mask_job mask = {requests, at<uint64_t>(d->bases, 0), lists, d->view.rows.count, d->words,
                     at<uint64_t>(d->masks, 0)};
    taste_job taste = {requests, lists, d->taste, at<float>(d->said, 0)};
    platform_upload(d->own, d->given.memory, b.room->sent.memory, b.sent.bytes);
    if (batch->mask_count)
        platform_upload(d->own, d->bases.memory, batch->masks,
                        batch->mask_count * d->words * sizeof *batch->masks);
    if (fuse)
        personal_fuse(d->own, &fused);
    if (b.n.masks)
        personal_masks(d->own, &mask, batch->count);
    if (b.n.taste)
        personal_say(d->own, &taste, batch->count);
}

// A request alone is fused here, and its vector travels with the search. The ranking writes the
// answer into the room by itself, and tells: nothing is copied back, nor is the stream waited for.
enum akin_status answer_alone(struct personal_device *d, batch_call *b, struct akin_error *error)
{
    struct personal_room *room = b->room;
    const answer_layout &l = b->answers;
    float *fused = nullptr;
    uint32_t points = fuse_alone(d, room, b->sent, &fused);
    uint32_t *proven = at<uint32_t>(room->received, l.proven);
    if (points == POINTS_WRONG) {
        at<uint32_t>(room->received, l.found)[0] = PERSONAL_NOWHERE;
        return platform_finish(d->own, error);
    }
    b->c.alone = fused;
    b->rank.vectors = at<float>(d->given, b->sent.vectors) + (fused - room->vectors);
    b->rank.points = at<uint32_t>(d->given, b->sent.points);
    b->rank.results = at<struct personal_result>(room->received, l.results);
    b->rank.found = at<uint32_t>(room->received, l.found);
    b->rank.proven = b->c.proven;
    b->rank.proven_there = proven;
    b->rank.ticket = at<uint32_t>(room->received, l.ticket);
    mark_time(d);
    prepare(d, *b, false);
    enum akin_status status = AKIN_OK;
    for (bool again = false; status == AKIN_OK && (!again || !*proven); again = true) {
        b->rank.number = ++d->ticket;
        *b->rank.ticket = ~d->ticket;
        if (points == POINTS)
            status = again ? search_again(d, b->c, 0, error) : search(d, b->c, error);
        if (status != AKIN_OK)
            return status;
        personal_rank(d->own, &b->rank, 1);
        if (!again)
            take_time(d);
        status = search_await(d->own, b->rank.ticket, d->ticket, error);
    }
    return status;
}

enum akin_status answer_many(struct personal_device *d, batch_call *b, struct akin_error *error)
{
    const struct personal_room *room = b->room;
    const answer_layout &l = b->answers;
    size_t count = b->batch->count;
    mark_time(d);
    prepare(d, *b, true);
    enum akin_status status = search(d, b->c, error);
    if (status != AKIN_OK)
        return status;
    personal_rank(d->own, &b->rank, count);
    platform_download(d->own, room->received.memory, d->answers.memory, l.bytes);
    take_time(d);
    auto again = [&](size_t q) {
        enum akin_status searched = search_again(d, b->c, q, error);
        b->rank.first = q;
        personal_rank(d->own, &b->rank, 1);
        return searched;
    };
    status = settle(d, room, l, count, false, again, error);
    for (size_t q = 0; status == AKIN_OK && q < count; q++)
        if (at<uint32_t>(room->received, l.points)[q] == POINTS_WRONG)
            at<uint32_t>(room->received, l.found)[q] = PERSONAL_NOWHERE;
    return status;
}

enum akin_status answer_room(struct personal_device *d, const struct personal_batch *batch,
                             struct personal_room *room, struct akin_error *error)
{
    size_t count = batch->count, k = batch->k;
    sent_layout sent = layout_sent(room, batch->lists, count);
    answer_layout l = layout_of(count, k * sizeof(struct personal_result));
    enum akin_status status = need_all(d, batch, sent, l, error);
    if (status != AKIN_OK)
        return status;
    needs n = look_through(room, batch, at<uint32_t>(room->sent, sent.mask_of));
    search_mask where = {};
    if (n.masks)
        where = {at<uint64_t>(d->masks, 0), at<uint32_t>(d->given, sent.mask_of), d->words};
    chunk c = {count, batch->text_offers, &where, at<struct hit>(d->hits, 0),
               at<uint32_t>(d->hits_found, 0), at<uint32_t>(d->answers, l.proven), nullptr};
    rank_job rank = {d->view.rows, where, at<struct personal_request>(d->given, 0),
                     at<float>(d->vectors, 0), at<uint32_t>(d->answers, l.points), c.hits,
                     c.found, d->texted, d->starts, d->entries, d->taste, at<float>(d->said, 0),
                     (unsigned)(d->view.rows.count - d->taste.size), d->popularity,
                     d->by_popularity, (unsigned)d->popular_count, (unsigned)batch->text_offers,
                     (unsigned)batch->offers, (unsigned)k, 0,
                     at<struct personal_result>(d->answers, l.results),
                     at<uint32_t>(d->answers, l.found), nullptr, nullptr, nullptr, 0};
    batch_call b = {batch, room, sent, l, n, c, rank};
    room->results = at<struct personal_result>(room->received, l.results);
    room->found = at<uint32_t>(room->received, l.found);
    return count == 1 ? answer_alone(d, &b, error) : answer_many(d, &b, error);
}

enum akin_status answer(struct personal_device *d, const struct personal_batch *batch,
                        struct personal_room *room, struct akin_error *error)
{
    ASSERT(batch->count > 0 && batch->count <= PERSONAL_TOGETHER && batch->k > 0 &&
           batch->k <= PERSONAL_K_MAX && batch->text_offers >= batch->k &&
           batch->text_offers <= PERSONAL_OFFERS_MAX && batch->offers <= PERSONAL_OFFERS_MAX);
    enum akin_status status = begin(d, error);
    return status != AKIN_OK ? status : end(d, answer_room(d, batch, room, error));
}

void measure(struct personal_device *d, double *seconds)
{
    d->seconds = seconds;
}

}

extern "C" const struct personal_device_ops *cuda_personal_ops(void)
{
    static const struct personal_device_ops ops = {create, destroy, lay_out, reserve, release,
                                                   check, answer, nearest, measure};
    return &ops;
}
