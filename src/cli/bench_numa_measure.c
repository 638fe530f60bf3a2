/* Latency: a chase through all lines of a block in one random cycle, so that neither caches nor
 * prefetchers help and each load waits for the one before it; translation misses are part of it, as
 * they are of any such access (the block is in huge pages where the system has them). Bandwidth:
 * all cores of the reader's node add up the block's words, each its part.
 *
 * The block is made by a thread that is bound to the memory's node, and read by another that is
 * bound to the reader's: threads and memory policy are inherited from there. */
#include "cli/bench_numa.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"

enum { LINE_WORDS = 8, CHASES = 2000000, REPEATS_MAX = 101 };

struct measuring {
    const struct numa *numa;
    size_t reader, memory;
    const struct numa_measure *how;
    struct numa_figures *figures;
    uint64_t *block;            /* [lines][LINE_WORDS]; word 0: the next line of the cycle */
    size_t lines;
    uint64_t *sums;             /* [threads], so that nothing read is thrown away */
    enum akin_status status;
    struct akin_error error;
};

/* ---- the block --------------------------------------------------------------------------- */

/* One cycle through all lines (Sattolo). Touches every page first. */
static bool link_lines(struct measuring *m)
{
    struct rng rng;
    memset(m->block, 0, m->lines * LINE_WORDS * sizeof *m->block);
    uint32_t *order = memory_alloc(m->lines, sizeof *order);
    if (!order)
        return false;
    for (size_t i = 0; i < m->lines; i++)
        order[i] = (uint32_t)i;
    rng_seed(&rng, 1);
    for (size_t i = m->lines - 1; i > 0; i--) {
        size_t j = (size_t)rng_below(&rng, i);
        uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (size_t i = 0; i < m->lines; i++)
        m->block[i * LINE_WORDS] = order[i];
    memory_free(order);
    return true;
}

static void make_block(void *context)
{
    struct measuring *m = context;
    struct numa_bound bound;
    m->status = numa_bind(m->numa, m->memory, &bound, &m->error);
    if (m->status != AKIN_OK)
        return;
    m->lines = m->how->bytes / (LINE_WORDS * sizeof *m->block);
    m->block = memory_alloc_aligned(m->lines, LINE_WORDS * sizeof *m->block);
    if (!m->block || !link_lines(m))
        m->status = error_memory(&m->error);
}

/* ---- reading it -------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static double chase(struct measuring *m, size_t *at)
{
    const uint64_t *block = m->block;
    size_t line = *at;
    uint64_t began = clock_monotonic_ns();
    for (int i = 0; i < CHASES; i++)
        line = (size_t)block[line * LINE_WORDS];
    double ns = (double)(clock_monotonic_ns() - began) / CHASES;
    *at = line;                 /* kept, so that the loop is not for nothing */
    return ns;
}

static void add_up(void *context, size_t begin, size_t end, int worker)
{
    struct measuring *m = context;
    uint64_t sums[LINE_WORDS] = {0};
    for (const uint64_t *p = m->block + begin * LINE_WORDS, *last = m->block + end * LINE_WORDS;
         p < last; p += LINE_WORDS)
        for (size_t i = 0; i < LINE_WORDS; i++)
            sums[i] += p[i];
    for (size_t i = 1; i < LINE_WORDS; i++)
        sums[0] += sums[i];
    m->sums[worker] += sums[0];
}

static enum akin_status measure_reading(struct measuring *m, double *values)
{
    struct thread_pool *pool = thread_pool_create(m->figures->threads);
    m->sums = memory_alloc((size_t)m->figures->threads, sizeof *m->sums);
    if (!pool || !m->sums) {
        thread_pool_destroy(&pool);
        return error_memory(&m->error);
    }
    thread_pool_run(pool, m->lines, add_up, m);     /* all are awake */
    for (int i = 0; i < m->how->repeats; i++) {
        uint64_t began = clock_monotonic_ns();
        thread_pool_run(pool, m->lines, add_up, m);
        values[i] = (double)(m->lines * LINE_WORDS * sizeof *m->block) /
                    (double)(clock_monotonic_ns() - began);
    }
    thread_pool_destroy(&pool);
    m->figures->read_gb_s = median(values, m->how->repeats);
    return AKIN_OK;
}

static void read_block(void *context)
{
    struct measuring *m = context;
    double values[REPEATS_MAX];
    struct numa_bound bound;
    size_t at = 0;
    ASSERT(m->how->repeats > 0 && m->how->repeats <= REPEATS_MAX);
    m->status = numa_bind(m->numa, m->reader, &bound, &m->error);
    if (m->status != AKIN_OK)
        return;
    int cores = m->numa->nodes[m->reader].cores, usable = thread_cpus();
    m->figures->threads = m->how->threads ? m->how->threads : cores < usable ? cores : usable;
    if (m->figures->threads < 1)
        m->figures->threads = 1;
    m->figures->cpus_bound = bound.cpus;
    m->figures->found_on =
        numa_node_of(m->numa, m->block, m->lines * LINE_WORDS * sizeof *m->block);
    (void)chase(m, &at);
    for (int i = 0; i < m->how->repeats; i++)
        values[i] = chase(m, &at);
    m->figures->latency_ns = median(values, m->how->repeats);
    m->status = measure_reading(m, values);
    ASSERT(at < m->lines);
}

/* ---- one pair ---------------------------------------------------------------------------- */

static enum akin_status on_a_thread(struct measuring *m, void (*fn)(void *context))
{
    struct thread *thread = thread_start(fn, m, false);
    if (!thread)
        return error_memory(&m->error);
    thread_join(&thread);
    return m->status;
}

enum akin_status numa_measure(const struct numa *numa, size_t reader, size_t memory,
                              const struct numa_measure *how, struct numa_figures *figures,
                              struct akin_error *error)
{
    struct measuring m = {.numa = numa, .reader = reader, .memory = memory, .how = how,
                          .figures = figures};
    *figures = (struct numa_figures){.found_on = -1};
    enum akin_status status = on_a_thread(&m, make_block);
    if (status == AKIN_OK)
        status = on_a_thread(&m, read_block);
    memory_free(m.block);
    memory_free(m.sums);
    if (status != AKIN_OK && error)
        *error = m.error;
    return status;
}
