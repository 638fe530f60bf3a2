/* The background thread of the cache, and what reaches it: events by a queue, wishes under a lock.
 * Popularity and policy belong to that thread alone, so an event costs its sender one put. */
#include "recommend/neighbors.h"

#include <math.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/thread.h"
#include "recommend/event_queue.h"
#include "recommend/neighbors_blocks.h"
#include "recommend/policy.h"
#include "recommend/popularity.h"

enum {
    QUEUE_EVENTS = 1 << 16,     /* 2 MB; what comes while one batch of lists is computed */
    QUEUE_WAKES = QUEUE_EVENTS / 4,     /* so many wake the thread even if nothing is missing */
    SPARE_LISTS = 512,          /* written between two waits for readers */
};

struct neighbors {
    struct neighbors_source source;
    size_t capacity;
    bool by_time;
    struct blocks *blocks;
    struct event_queue *queue;
    _Atomic uint64_t hits, misses, dropped, admitted, evicted, bypassed, built;
    _Atomic uint64_t popularity_bytes;

    struct mutex *lock;         /* of the next eight */
    struct condition *work, *settled;
    struct thread *thread;
    bool stopping, refresh;
    uint64_t settles;           /* how often there was nothing left to compute, */
    size_t settled_takes;       /* and how many events were counted when it was so last */
    enum akin_status failure;
    struct akin_error why;
    atomic_bool asleep;         /* on `work`; set under the lock, cleared by whoever wakes it */

    /* the thread's own */
    struct popularity *popularity;
    struct policy *policy;
    uint32_t *order;            /* [capacity]: lists to compute, most wanted first */
    size_t order_count, order_next;
    bool renew;                 /* also those that are there */
    uint32_t *admissions;       /* ring [items] of rows that came in, each at most once */
    bool *waiting;              /* [items]: is in that ring */
    size_t admission_first, admission_count;
    size_t batch_max;
    uint32_t *rows;             /* [batch_max] to compute now, */
    size_t row_first, row_count;    /* these of them */
    uint64_t began_ns;          /* when their computing did */
};

/* ---- counting --------------------------------------------------------------------------- */

static void lose_event(void *context, uint32_t row)
{
    struct neighbors *n = context;
    policy_update(n->policy, row, popularity_key(n->popularity, row));
}

static void await_list(struct neighbors *n, uint32_t row)
{
    if (n->waiting[row])
        return;
    n->waiting[row] = true;
    n->admissions[(n->admission_first + n->admission_count++) % n->source.items] = row;
}

static void count_event(struct neighbors *n, const struct akin_cache_event *event)
{
    uint32_t gone, row = event->row;
    /* a window that is too long for memory ends early, which is better than no cache */
    (void)popularity_add(n->popularity, row, event->rating, event->timestamp, NULL);
    switch (policy_request(n->policy, row, popularity_key(n->popularity, row), &gone)) {
    case POLICY_HIT:            /* kept, but its turn to be computed may be far */
        if (!blocks_has(n->blocks, row))
            await_list(n, row);
        return;
    case POLICY_BYPASSED:
        atomic_fetch_add(&n->bypassed, 1);
        return;
    case POLICY_ADMITTED:
        break;
    }
    atomic_fetch_add(&n->admitted, 1);
    if (gone != POLICY_NONE) {
        atomic_fetch_add(&n->evicted, 1);
        blocks_withdraw(n->blocks, gone);
    }
    await_list(n, row);
}

static void count_events(struct neighbors *n)
{
    struct akin_cache_event event;
    for (size_t i = 0; i < QUEUE_EVENTS && event_queue_take(n->queue, &event); i++)
        count_event(n, &event);
    atomic_store(&n->popularity_bytes, popularity_bytes(n->popularity));
}

/* ---- computing -------------------------------------------------------------------------- */

static size_t batch_now(const struct neighbors *n)
{
    size_t wanted = n->source.batch ? n->source.batch(n->source.context) : NEIGHBORS_BATCH;
    return wanted < n->batch_max ? wanted : n->batch_max;
}

/* What is missing comes before what is there and shall be renewed. */
static void next_rows(struct neighbors *n)
{
    size_t count = 0, most = batch_now(n);
    uint32_t *rows = n->rows;
    while (count < most && n->admission_count) {
        uint32_t row = n->admissions[n->admission_first];
        n->admission_first = (n->admission_first + 1) % n->source.items;
        n->admission_count--;
        n->waiting[row] = false;
        if (policy_contains(n->policy, row) && !blocks_has(n->blocks, row))
            rows[count++] = row;
    }
    for (; count < most && n->order_next < n->order_count; n->order_next++) {
        uint32_t row = n->order[n->order_next];
        if (policy_contains(n->policy, row) && (n->renew || !blocks_has(n->blocks, row)))
            rows[count++] = row;
    }
    n->row_first = 0;
    n->row_count = count;
}

static struct akin_neighbor *begin_list(void *context)
{
    struct neighbors *n = context;
    return blocks_blank(n->blocks);
}

/* An item that is no longer kept may still have been among the rows. */
static void end_list(void *context, uint32_t row, size_t found)
{
    struct neighbors *n = context;
    if (policy_contains(n->policy, row))
        blocks_publish(n->blocks, row, found, n->began_ns);
}

static enum akin_status compute_some(struct neighbors *n, struct akin_error *error)
{
    const struct neighbors_sink sink = { begin_list, end_list, n };
    size_t done = 0, count = n->row_count - n->row_first;
    n->began_ns = clock_monotonic_ns();
    TRY(n->source.compute(n->source.context, n->rows + n->row_first, count, &sink, &done, error));
    ASSERT(done > 0 && done <= count);
    n->row_first += done;
    atomic_fetch_add(&n->built, done);
    return AKIN_OK;
}

static enum akin_status order_all(struct neighbors *n, struct akin_error *error)
{
    TRY(policy_rows(n->policy, n->order, error));
    n->order_count = policy_count(n->policy);
    n->order_next = 0;
    return AKIN_OK;
}

/* ---- the thread ------------------------------------------------------------------------- */

static void fail(struct neighbors *n, enum akin_status status, const struct akin_error *error)
{
    mutex_lock(n->lock);
    n->failure = status;
    n->why = *error;
    mutex_unlock(n->lock);
    n->order_next = n->order_count;     /* a refresh tries again */
    n->row_first = n->row_count;
}

/* What a turn of the thread has left. */
struct turn {
    bool idle;                  /* it did nothing */
    bool settled;               /* there is no more to compute */
    size_t takes;               /* events counted so far */
};

/* Tells what the last turn has left, and sleeps if that is nothing, until something is wished for
 * or wanted; false: the end. */
static bool next_turn(struct neighbors *n, struct turn last, bool *refresh)
{
    mutex_lock(n->lock);
    if (last.settled && !n->refresh) {
        n->settles++;
        n->settled_takes = last.takes;
        condition_wake(n->settled);
    }
    if (last.idle && !n->refresh && !n->stopping) {
        atomic_store(&n->asleep, true);
        /* an event that came before this moment may not have seen that we sleep */
        while (event_queue_puts(n->queue) == event_queue_takes(n->queue) &&
               atomic_load(&n->asleep))
            condition_wait(n->work, n->lock);
        atomic_store(&n->asleep, false);
    }
    bool go_on = !n->stopping;
    *refresh = n->refresh;
    if (n->refresh)
        n->failure = AKIN_OK;
    n->refresh = false;
    mutex_unlock(n->lock);
    return go_on;
}

static void work(void *context)
{
    struct neighbors *n = context;
    struct turn turn = { 0 };
    bool refresh;
    while (next_turn(n, turn, &refresh)) {
        struct akin_error error = { 0 };
        enum akin_status status = AKIN_OK;
        if (refresh) {
            n->renew = true;
            status = order_all(n, &error);
        }
        count_events(n);
        turn.takes = event_queue_takes(n->queue);
        if (n->row_first == n->row_count)
            next_rows(n);
        turn.idle = n->row_first == n->row_count;
        if (status == AKIN_OK && !turn.idle)
            status = compute_some(n, &error);
        if (status != AKIN_OK)
            fail(n, status, &error);
        turn.settled = n->row_first == n->row_count && n->order_next == n->order_count &&
                       n->admission_count == 0;
    }
}

/* Called with the lock held. */
static void wake(struct neighbors *n)
{
    atomic_store(&n->asleep, false);
    condition_wake(n->work);
}

/* ---- open and close --------------------------------------------------------------------- */

void neighbors_settings_default(struct akin_neighbors_settings *settings)
{
    struct popularity_settings popularity;
    popularity_settings_default(&popularity);
    *settings = (struct akin_neighbors_settings){ .half_life = popularity.half_life,
                                                  .window = popularity.window };
}

static enum akin_status make_parts(struct neighbors *n,
                                   const struct akin_neighbors_settings *settings,
                                   struct akin_error *error)
{
    struct popularity_settings popularity = {
        .half_life = settings->half_life, .window = settings->window,
        .by_time = settings->by_time, .expired = lose_event, .context = n,
    };
    size_t items = n->source.items;
    size_t most = n->source.batch ? NEIGHBORS_BATCH_MAX : NEIGHBORS_BATCH;
    n->batch_max = items < most ? items + 1 : most;
    TRY(popularity_create(&popularity, items, &n->popularity, error));
    n->policy = policy_create(items, n->capacity);
    n->blocks = blocks_create(items, n->capacity,
                              n->batch_max < SPARE_LISTS ? n->batch_max : SPARE_LISTS);
    n->queue = event_queue_create(QUEUE_EVENTS);
    n->lock = mutex_create();
    n->work = condition_create();
    n->settled = condition_create();
    n->order = memory_alloc(n->capacity, sizeof *n->order);
    n->admissions = memory_alloc(items, sizeof *n->admissions);
    n->waiting = memory_alloc(items, sizeof *n->waiting);
    n->rows = memory_alloc(n->batch_max, sizeof *n->rows);
    return n->policy && n->blocks && n->queue && n->lock && n->work && n->settled && n->order &&
                   n->admissions && n->waiting && n->rows
               ? AKIN_OK
               : error_memory(error);
}

/* Keeps the `capacity` most wanted of all items, by what happened before. */
static enum akin_status take_history(struct neighbors *n, const struct akin_cache_event *history,
                                     size_t count, struct akin_error *error)
{
    uint32_t gone;
    for (size_t i = 0; i < count; i++)
        if (history[i].row < n->source.items)
            TRY(popularity_add(n->popularity, history[i].row, history[i].rating,
                               history[i].timestamp, error));
    for (size_t row = 0; row < n->source.items; row++)
        policy_request(n->policy, (uint32_t)row, popularity_key(n->popularity, (uint32_t)row),
                       &gone);
    return order_all(n, error);
}

enum akin_status neighbors_open(const struct neighbors_source *source,
                                const struct akin_neighbors_settings *settings,
                                const struct akin_cache_event *history, size_t count,
                                struct neighbors **neighbors, struct akin_error *error)
{
    if (source->items >= POLICY_NONE)
        return error_set(error, AKIN_LIMIT, "%zu items: at most %u can be cached", source->items,
                         POLICY_NONE - 1);
    struct neighbors *n = memory_alloc(1, sizeof *n);
    if (!n)
        return error_memory(error);
    n->source = *source;
    n->by_time = settings->by_time;
    n->capacity = settings->capacity && settings->capacity < source->items ? settings->capacity
                                                                           : source->items;
    enum akin_status status = make_parts(n, settings, error);
    if (status == AKIN_OK)
        status = take_history(n, history, count, error);
    if (status == AKIN_OK && !(n->thread = thread_start(work, n, true)))
        status = error_set(error, AKIN_MEMORY, "the thread of the neighbour cache does not start");
    if (status == AKIN_OK)
        *neighbors = n;
    else
        neighbors_close(&n);
    return status;
}

void neighbors_close(struct neighbors **neighbors)
{
    struct neighbors *n = *neighbors;
    if (!n)
        return;
    if (n->thread) {
        mutex_lock(n->lock);
        n->stopping = true;
        wake(n);
        mutex_unlock(n->lock);
        thread_join(&n->thread);
    }
    popularity_destroy(&n->popularity);
    policy_destroy(&n->policy);
    blocks_destroy(&n->blocks);
    event_queue_destroy(&n->queue);
    mutex_destroy(&n->lock);
    condition_destroy(&n->work);
    condition_destroy(&n->settled);
    memory_free(n->order);
    memory_free(n->admissions);
    memory_free(n->waiting);
    memory_free(n->rows);
    memory_free(n);
    *neighbors = NULL;
}

/* ---- callers ---------------------------------------------------------------------------- */

/* `urgent`: a list is missing. The lock is taken only by the one caller who finds the thread
 * asleep, and the thread holds it for no more than a few loads. */
static void send(struct neighbors *n, struct akin_cache_event event, bool urgent)
{
    if (!event_queue_put(n->queue, event))
        atomic_fetch_add_explicit(&n->dropped, 1, memory_order_relaxed);
    if (!urgent && event_queue_puts(n->queue) - event_queue_takes(n->queue) < QUEUE_WAKES)
        return;
    if (!atomic_load(&n->asleep))
        return;
    mutex_lock(n->lock);
    wake(n);
    mutex_unlock(n->lock);
}

bool neighbors_lookup(struct neighbors *n, size_t row, struct akin_neighbor *list, size_t *found)
{
    if (row >= n->source.items)
        return false;
    bool hit = blocks_read(n->blocks, (uint32_t)row, list, found);
    atomic_fetch_add_explicit(hit ? &n->hits : &n->misses, 1, memory_order_relaxed);
    struct akin_cache_event event = { .row = (uint32_t)row, .rating = NAN,
                                      .timestamp = n->by_time ? clock_unix_seconds() : 0 };
    send(n, event, !hit);
    return hit;
}

enum akin_status neighbors_record(struct neighbors *n, size_t row, double rating,
                                  int64_t timestamp, struct akin_error *error)
{
    if (row >= n->source.items)
        return error_set(error, AKIN_ARGUMENT, "item: row %zu, and there are %zu items", row,
                         n->source.items);
    if (!(rating >= 0 && rating <= 1))
        return error_set(error, AKIN_ARGUMENT, "rating: %g is not between 0 and 1", rating);
    send(n, (struct akin_cache_event){ timestamp, rating, (uint32_t)row }, false);
    return AKIN_OK;
}

void neighbors_refresh(struct neighbors *n)
{
    mutex_lock(n->lock);
    n->refresh = true;
    wake(n);
    mutex_unlock(n->lock);
}

enum akin_status neighbors_wait(struct neighbors *n, struct akin_error *error)
{
    mutex_lock(n->lock);
    size_t target = event_queue_puts(n->queue);
    uint64_t before = n->settles;
    wake(n);                    /* so that it looks again, and tells */
    while (n->settles == before || n->settled_takes < target)
        condition_wait(n->settled, n->lock);
    enum akin_status status = n->failure;
    if (status != AKIN_OK && error)
        *error = n->why;
    mutex_unlock(n->lock);
    return status;
}

void neighbors_count(struct neighbors *n, struct akin_neighbors_counts *counts)
{
    *counts = (struct akin_neighbors_counts){
        .hits = atomic_load(&n->hits), .misses = atomic_load(&n->misses),
        .dropped = atomic_load(&n->dropped), .admitted = atomic_load(&n->admitted),
        .evicted = atomic_load(&n->evicted), .bypassed = atomic_load(&n->bypassed),
        .built = atomic_load(&n->built), .capacity = n->capacity,
        .lists = blocks_count(n->blocks),
        .bytes = blocks_bytes(n->blocks) + policy_bytes(n->policy) +
                 atomic_load(&n->popularity_bytes) +
                 n->source.items * (sizeof *n->admissions + sizeof *n->waiting) +
                 n->capacity * sizeof *n->order + QUEUE_EVENTS * sizeof(struct akin_cache_event),
    };
    blocks_ages(n->blocks, clock_monotonic_ns(), &counts->age_seconds_mean,
                &counts->age_seconds_max);
}
