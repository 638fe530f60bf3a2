/* Times the loops of peak_*.c on every thread of a pool at once. */
#include "compute/peak.h"

#include "base/clock.h"
#include "base/cpu.h"
#include "base/limits.h"
#include "base/thread.h"
#include "compute/cpu/peak_loops.h"

/* The best of a few rounds: a round in which something else ran says less than the machine can. */
enum { ROUNDS = 5 };
static const uint64_t round_ns = 20000000u;

struct round {
    double (*loop)(void);
    double gflops[THREADS_MAX]; /* [worker] */
};

static void run_round(void *context, size_t begin, size_t end, int worker)
{
    struct round *round = context;
    (void)begin;
    (void)end;
    round->loop(); /* wakes units that sleep */
    uint64_t start = clock_monotonic_ns(), elapsed;
    double operations = 0;
    do {
        operations += round->loop();
        elapsed = clock_monotonic_ns() - start;
    } while (elapsed < round_ns);
    round->gflops[worker] = operations / (double)elapsed;
}

double peak_gflops(unsigned cpu_flags, struct thread_pool *pool, enum compute_precision precision)
{
    struct peak_loops loops;
    struct round round = {0};
    double best = 0;
    peak_use_ref(&loops);
#if defined(__x86_64__)
    if (cpu_flags & CPU_AVX2)
        peak_use_avx2(&loops);
    if (cpu_flags & CPU_AVX512)
        peak_use_avx512(&loops, cpu_flags);
    peak_use_amx(&loops, cpu_flags);
#else
    (void)cpu_flags;
#endif
    round.loop = precision == COMPUTE_FP32   ? loops.fp32
                 : precision == COMPUTE_BF16 ? loops.bf16
                                             : loops.int8;
    size_t threads = (size_t)thread_pool_size(pool);
    for (int i = 0; round.loop && i < ROUNDS; i++) {
        double sum = 0;
        thread_pool_run(pool, threads, run_round, &round);
        for (size_t t = 0; t < threads; t++)
            sum += round.gflops[t];
        if (sum > best)
            best = sum;
    }
    return best;
}
