/* One pool of threads, passed explicitly, static partition: which thread does what depends only on
 * the count, and no result may depend on the number of threads. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/topology.h"

struct thread_pool;

/* `threads` >= 1, the caller's included: a pool of 1 starts none. NULL when the system refuses. */
struct thread_pool *thread_pool_create(int threads);
/* The same on a machine that is known. Workers are pinned as `pin` says where the rules of
 * topology.h allow it and the system agrees. The topology (may be NULL) must outlive the pool. */
struct thread_pool *thread_pool_create_on(int threads, const struct topology *topology,
                                          enum topology_pin pin);
const struct topology *thread_pool_topology(const struct thread_pool *pool);
void thread_pool_destroy(struct thread_pool **pool);
int thread_pool_size(const struct thread_pool *pool);
/* Threads that are pinned; the caller's is never among them. */
int thread_pool_pinned(const struct thread_pool *pool);

/* Calls fn(context, begin, end, worker) for a partition of [0, count) into at most size ranges,
 * worker numbers 0..size-1, and returns when all are done. Calls from several threads take turns,
 * first come first served; a call from inside fn is a bug. */
void thread_pool_run(struct thread_pool *pool, size_t count,
                     void (*fn)(void *context, size_t begin, size_t end, int worker),
                     void *context);

/* Calls fn(context, item, worker) for each item of [0, count), handed out one at a time in order to
 * whichever thread is free. For items of unequal cost whose results do not depend on who does them.
 */
void thread_pool_each(struct thread_pool *pool, size_t count,
                      void (*fn)(void *context, size_t item, int worker), void *context);

/* From inside a run: whether another caller waits for it to end. A long run may ask now and then,
 * and end early. */
bool thread_pool_wanted(const struct thread_pool *pool);

/* A lock that is had in the order of asking. */
struct turnstile;
struct turnstile *turnstile_create(void);
void turnstile_destroy(struct turnstile **turnstile);
void turnstile_enter(struct turnstile *turnstile);
void turnstile_leave(struct turnstile *turnstile);
bool turnstile_wanted(const struct turnstile *turnstile);   /* by whoever is not inside */

struct mutex;
struct mutex *mutex_create(void);
void mutex_destroy(struct mutex **mutex);
void mutex_lock(struct mutex *mutex);
void mutex_unlock(struct mutex *mutex);

/* What a thread waits for under a mutex. */
struct condition;
struct condition *condition_create(void);
void condition_destroy(struct condition **condition);
void condition_wait(struct condition *condition, struct mutex *mutex);  /* may wake for nothing */
/* The same, for at most so long. */
void condition_wait_for(struct condition *condition, struct mutex *mutex, uint64_t ns);
void condition_wake(struct condition *condition);                       /* all who wait */

/* A thread of its own, for work that goes on beside its callers; with `background` the system runs
 * it behind other threads. NULL when the system refuses. */
struct thread;
struct thread *thread_start(void (*fn)(void *context), void *context, bool background);
void thread_join(struct thread **thread);   /* waits for its end; NULL is fine */

/* CPUs that this process may use (affinity and cgroup quota respected), at least 1. */
int thread_cpus(void);
