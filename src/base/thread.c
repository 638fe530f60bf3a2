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
#include <unistd.h>

#include "base/limits.h"
#include "base/memory.h"
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

static void *thread_main(void *argument)
{
    struct thread *thread = argument;
    if (thread->background)     /* of this thread alone, on Linux; a refusal does no harm */
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), BACKGROUND_NICE);
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
    pthread_mutex_t run_lock;   /* held by the caller of run: runs take turns */
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

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    struct thread_pool *pool = self->pool;
    uint64_t seen = 0;
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
    ASSERT(threads >= 1 && threads <= THREADS_MAX);
    struct thread_pool *pool = memory_alloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->size = threads;
    pool->workers = memory_alloc((size_t)threads, sizeof *pool->workers);
    pthread_mutex_init(&pool->run_lock, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    for (int i = 1; pool->workers && i < threads; i++) {
        pool->workers[i] = (struct worker){ .pool = pool, .number = i };
        if (pthread_create(&pool->workers[i].thread, NULL, worker_main, &pool->workers[i]))
            break;
        pool->started++;
    }
    if (!pool->workers || pool->started != threads - 1)
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
    pthread_mutex_destroy(&p->run_lock);
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

static void run(struct thread_pool *pool, size_t count,
                void (*range_fn)(void *, size_t, size_t, int), void (*item_fn)(void *, size_t, int),
                void *context)
{
    if (count == 0)
        return;
    pthread_mutex_lock(&pool->run_lock);
    pthread_mutex_lock(&pool->lock);
    pool->count = count;
    pool->range_fn = range_fn;
    pool->item_fn = item_fn;
    pool->context = context;
    atomic_store(&pool->next_item, 0);
    bool alone = pool->size == 1 || count == 1;
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
    pthread_mutex_unlock(&pool->run_lock);
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

/* ---- how many CPUs ---------------------------------------------------------------------- */

/* A container's share, "quota period" in microseconds; 0 where there is no limit. */
static int cgroup_cpus(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    long long quota = 0, period = 0;
    int read = file ? fscanf(file, "%lld %lld", &quota, &period) : 0;
    if (file)
        fclose(file);
    if (read != 2 || quota <= 0 || period <= 0)
        return 0;
    long long cpus = (quota + period - 1) / period;
    return cpus > THREADS_MAX ? THREADS_MAX : (int)cpus;
}

int thread_cpus(void)
{
    cpu_set_t set;
    int cpus = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    int limit = cgroup_cpus();
    if (limit && limit < cpus)
        cpus = limit;
    if (cpus > THREADS_MAX)
        cpus = THREADS_MAX;
    return cpus < 1 ? 1 : cpus;
}
