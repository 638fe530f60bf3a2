/* The only home of threads. Between runs a worker watches for the next one for some microseconds
 * before it sleeps: work that comes in a row of short runs does not pay for a wake-up each time.
 * Ranges are partitioned statically; items go to whoever is free, so their results must not depend
 * on who does them. */
#include "base/thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/quota.h"
#include "base/status.h"

struct mutex {
    pthread_mutex_t lock;
};

struct mutex *mutex_create(void)
{
    struct mutex *mutex = memory_alloc(1, sizeof *mutex);
    if (mutex && pthread_mutex_init(&mutex->lock, NULL)) {
        memory_free(mutex);
        return NULL;
    }
    return mutex;
}

void mutex_destroy(struct mutex **mutex)
{
    if (!*mutex)
        return;
    pthread_mutex_destroy(&(*mutex)->lock);
    memory_free(*mutex);
    *mutex = NULL;
}

void mutex_lock(struct mutex *mutex)
{
    pthread_mutex_lock(&mutex->lock);
}

void mutex_unlock(struct mutex *mutex)
{
    pthread_mutex_unlock(&mutex->lock);
}

/* ---- turnstile -------------------------------------------------------------------------- */

struct turnstile {
    atomic_uint_fast64_t next, serving;     /* tickets; nobody inside: equal */
    pthread_mutex_t lock;                   /* of who sleeps */
    pthread_cond_t turn;
};

struct turnstile *turnstile_create(void)
{
    struct turnstile *t = memory_alloc(1, sizeof *t);
    if (t) {
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->turn, NULL);
    }
    return t;
}

void turnstile_destroy(struct turnstile **turnstile)
{
    if (!*turnstile)
        return;
    pthread_mutex_destroy(&(*turnstile)->lock);
    pthread_cond_destroy(&(*turnstile)->turn);
    memory_free(*turnstile);
    *turnstile = NULL;
}

void turnstile_enter(struct turnstile *turnstile)
{
    uint64_t ticket = atomic_fetch_add(&turnstile->next, 1);
    if (atomic_load(&turnstile->serving) == ticket)
        return;
    pthread_mutex_lock(&turnstile->lock);
    while (atomic_load(&turnstile->serving) != ticket)
        pthread_cond_wait(&turnstile->turn, &turnstile->lock);
    pthread_mutex_unlock(&turnstile->lock);
}

void turnstile_leave(struct turnstile *turnstile)
{
    uint64_t serving = atomic_fetch_add(&turnstile->serving, 1) + 1;
    if (atomic_load(&turnstile->next) == serving)
        return;
    /* who took a ticket before that load has looked at `serving`, or will under the lock */
    pthread_mutex_lock(&turnstile->lock);
    pthread_cond_broadcast(&turnstile->turn);
    pthread_mutex_unlock(&turnstile->lock);
}

bool turnstile_wanted(const struct turnstile *turnstile)
{
    return atomic_load(&turnstile->next) - atomic_load(&turnstile->serving) > 1;
}

/* ---- conditions ------------------------------------------------------------------------- */

struct condition {
    pthread_cond_t changed;
};

struct condition *condition_create(void)
{
    struct condition *condition = memory_alloc(1, sizeof *condition);
    if (condition && pthread_cond_init(&condition->changed, NULL)) {
        memory_free(condition);
        return NULL;
    }
    return condition;
}

void condition_destroy(struct condition **condition)
{
    if (!*condition)
        return;
    pthread_cond_destroy(&(*condition)->changed);
    memory_free(*condition);
    *condition = NULL;
}

void condition_wait(struct condition *condition, struct mutex *mutex)
{
    pthread_cond_wait(&condition->changed, &mutex->lock);
}

void condition_wait_for(struct condition *condition, struct mutex *mutex, uint64_t ns)
{
    uint64_t now = clock_monotonic_ns(), until = ns < UINT64_MAX / 2 - now ? now + ns
                                                                           : UINT64_MAX / 2;
    struct timespec time = { .tv_sec = (time_t)(until / 1000000000),
                             .tv_nsec = (long)(until % 1000000000) };
    pthread_cond_clockwait(&condition->changed, &mutex->lock, CLOCK_MONOTONIC, &time);
}

void condition_wake(struct condition *condition)
{
    pthread_cond_broadcast(&condition->changed);
}

/* ---- single threads --------------------------------------------------------------------- */

enum { BACKGROUND_NICE = 10 };

struct thread {
    pthread_t thread;
    void (*fn)(void *context);
    void *context;
    bool background;
};

/* Of this thread alone, on Linux; a refusal does no harm. A batch thread that wakes up does not
 * take the CPU from one that runs. */
static void step_back(void)
{
    struct sched_param none = { 0 };
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), BACKGROUND_NICE);
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)sched_setscheduler(0, SCHED_BATCH, &none);
}

static void *thread_main(void *argument)
{
    struct thread *thread = argument;
    if (thread->background)
        step_back();
    thread->fn(thread->context);
    return NULL;
}

struct thread *thread_start(void (*fn)(void *context), void *context, bool background)
{
    struct thread *thread = memory_alloc(1, sizeof *thread);
    if (!thread)
        return NULL;
    *thread = (struct thread){ .fn = fn, .context = context, .background = background };
    if (pthread_create(&thread->thread, NULL, thread_main, thread)) {
        memory_free(thread);
        return NULL;
    }
    return thread;
}

void thread_join(struct thread **thread)
{
    if (!*thread)
        return;
    pthread_join((*thread)->thread, NULL);
    memory_free(*thread);
    *thread = NULL;
}

/* ---- pool ------------------------------------------------------------------------------- */

struct worker {
    struct thread_pool *pool;
    pthread_t thread;
    int number;
};

struct thread_pool {
    int size;
    struct worker *workers;     /* [size]; worker 0 is whoever calls run */
    int started;                /* threads that exist, worker 0 not counted */
    const struct topology *topology;    /* may be NULL */
    enum topology_pin pin;      /* worker i to place i */
    int placed, pinned;         /* threads that tried, and that are; under the lock, and constant
                                   once the pool is made */
    struct turnstile *runs;     /* the caller of run is inside */
    pthread_mutex_t lock;       /* guards all below */
    pthread_cond_t work, done;
    atomic_uint_fast64_t
        generation;             /* of the current run; changed under the lock, watched without */
    bool open;                  /* workers that come now may still join the run */
    atomic_int active;          /* workers inside of it; changed under the lock */
    atomic_int pending;         /* ranges: workers that have not done theirs; likewise */
    bool stopping;
    /* the current run; written under the lock before the generation changes */
    size_t count;
    void (*range_fn)(void *, size_t, size_t, int);
    void (*item_fn)(void *, size_t, int);
    void *context;
    atomic_size_t next_item;
};

static void do_share(struct thread_pool *pool, int worker)
{
    if (pool->item_fn) {
        for (size_t i; (i = atomic_fetch_add(&pool->next_item, 1)) < pool->count;)
            pool->item_fn(pool->context, i, worker);
        return;
    }
    size_t size = (size_t)pool->size, w = (size_t)worker;
    size_t each = pool->count / size, extra = pool->count % size;
    size_t begin = w * each + (w < extra ? w : extra), end = begin + each + (w < extra);
    if (begin < end)
        pool->range_fn(pool->context, begin, end, worker);
}

/* A few microseconds, then gives up. The threads of a pool may be more than the CPUs that are free,
 * so nobody spins for long. */
enum { SPINS_MAX = 2000 };

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void watch_for_run(struct thread_pool *pool, uint64_t seen)
{
    for (int i = 0; i < SPINS_MAX && atomic_load(&pool->generation) == seen; i++)
        pause_cpu();
}

/* Every range waits for its worker. Items do not: whoever is there does them all, so a worker that
 * the system has not woken yet, or took away, keeps nobody waiting for what it never began. */
static bool unfinished(struct thread_pool *pool)
{
    return pool->item_fn ? atomic_load(&pool->active) > 0 : atomic_load(&pool->pending) > 0;
}

static void watch_for_end(struct thread_pool *pool)
{
    for (int i = 0; i < SPINS_MAX && unfinished(pool); i++)
        pause_cpu();
}

/* Worker i on place i. A system that refuses is left to place the thread itself. */
static void pin_worker(const struct worker *self)
{
    struct thread_pool *pool = self->pool;
    bool bound = topology_bind(pool->topology, self->number, pool->pin);
    pthread_mutex_lock(&pool->lock);
    pool->placed++;
    pool->pinned += bound;
    pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->lock);
}

/* The caller's thread is the host's and is never bound. Place 0 is kept free for it, so where it
 * stands on the core (or node) of others, which cannot give way, it is moved there once. */
static void make_way(const struct thread_pool *pool)
{
    if (pool->pinned)
        topology_nudge(pool->topology, 0, pool->pin);
}

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    struct thread_pool *pool = self->pool;
    uint64_t seen = 0;
    if (pool->pin)
        pin_worker(self);
    for (;;) {
        watch_for_run(pool, seen);
        pthread_mutex_lock(&pool->lock);
        while (pool->generation == seen && !pool->stopping)
            pthread_cond_wait(&pool->work, &pool->lock);
        bool stopping = pool->stopping, join = pool->open && !stopping;
        seen = pool->generation;
        if (join)
            pool->active++;
        pthread_mutex_unlock(&pool->lock);
        if (stopping)
            return NULL;
        if (!join)
            continue;
        do_share(pool, self->number);
        pthread_mutex_lock(&pool->lock);
        pool->active--;
        pool->pending--;
        if (!unfinished(pool))
            pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->lock);
    }
}

struct thread_pool *thread_pool_create(int threads)
{
    return thread_pool_create_on(threads, NULL, PIN_OFF);
}

struct thread_pool *thread_pool_create_on(int threads, const struct topology *topology,
                                          enum topology_pin pin)
{
    ASSERT(threads >= 1 && threads <= THREADS_MAX);
    struct thread_pool *pool = memory_alloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->size = threads;
    pool->topology = topology;
    pool->pin = topology && !topology_refusal(topology, threads, pin) ? pin : PIN_OFF;
    pool->workers = memory_alloc((size_t)threads, sizeof *pool->workers);
    pool->runs = turnstile_create();
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    for (int i = 1; pool->workers && pool->runs && i < threads; i++) {
        pool->workers[i] = (struct worker){ .pool = pool, .number = i };
        if (pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]))
            break;
        pool->started++;
    }
    pthread_mutex_lock(&pool->lock);
    while (pool->pin && pool->placed < pool->started)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    if (!pool->workers || !pool->runs || pool->started != threads - 1)
        thread_pool_destroy(&pool);
    return pool;
}

void thread_pool_destroy(struct thread_pool **pool)
{
    struct thread_pool *p = *pool;
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    turnstile_destroy(&p->runs);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    memory_free(p->workers);
    memory_free(p);
    *pool = NULL;
}

int thread_pool_size(const struct thread_pool *pool)
{
    return pool->size;
}

const struct topology *thread_pool_topology(const struct thread_pool *pool)
{
    return pool->topology;
}

int thread_pool_pinned(const struct thread_pool *pool)
{
    return pool->pinned;
}

static void run(struct thread_pool *pool, size_t count,
                void (*range_fn)(void *, size_t, size_t, int), void (*item_fn)(void *, size_t, int),
                void *context)
{
    if (count == 0)
        return;
    bool alone = pool->size == 1 || count == 1;
    turnstile_enter(pool->runs);
    if (!alone)
        make_way(pool);
    pthread_mutex_lock(&pool->lock);
    pool->count = count;
    pool->range_fn = range_fn;
    pool->item_fn = item_fn;
    pool->context = context;
    atomic_store(&pool->next_item, 0);
    if (!alone) {
        pool->pending = pool->size - 1;
        pool->open = true;
        pool->generation++;
        pthread_cond_broadcast(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    do_share(pool, 0);
    if (!alone) {
        if (item_fn) {          /* all are handed out: who comes now is late */
            pthread_mutex_lock(&pool->lock);
            pool->open = false;
            pthread_mutex_unlock(&pool->lock);
        }
        watch_for_end(pool);
        pthread_mutex_lock(&pool->lock);
        while (unfinished(pool))
            pthread_cond_wait(&pool->done, &pool->lock);
        pool->open = false;
        pthread_mutex_unlock(&pool->lock);
    }
    turnstile_leave(pool->runs);
}

void thread_pool_run(struct thread_pool *pool, size_t count,
                     void (*fn)(void *context, size_t begin, size_t end, int worker), void *context)
{
    run(pool, count, fn, NULL, context);
}

void thread_pool_each(struct thread_pool *pool, size_t count,
                      void (*fn)(void *context, size_t item, int worker), void *context)
{
    run(pool, count, NULL, fn, context);
}

bool thread_pool_wanted(const struct thread_pool *pool)
{
    return turnstile_wanted(pool->runs);
}

/* ---- how many CPUs ---------------------------------------------------------------------- */

int thread_cpus(void)
{
    cpu_set_t set;
    int cpus = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    int limit = quota_of_process();
    if (limit && limit < cpus)
        cpus = limit;
    if (cpus > THREADS_MAX)
        cpus = THREADS_MAX;
    return cpus < 1 ? 1 : cpus;
}
