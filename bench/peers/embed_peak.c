/* Peak arithmetic rate of this machine: register-only multiply-add loops, one pinned thread per
 * CPU, for fp32 (FMA), bf16 (VDPBF16PS, AMX) and int8 (VPDPBUSD, AMX). Prints one JSON object in
 * Gop/s over all threads (a multiply and an add are two); null where the CPU has no such
 * instruction. It touches no memory, so it is the limit and not what a matrix product reaches.
 *
 * Usage: embed_peak THREADS SECONDS */
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CHAINS = 12, TURNS = 20000, THREADS_MAX = 1024 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Twelve independent accumulators hide the latency of two units. They have names because an array
 * would be spilled; the empty asm keeps the compiler from folding the loop. STEP(c) is one
 * instruction. */
#define TWELVE(X) X(c0) X(c1) X(c2) X(c3) X(c4) X(c5) X(c6) X(c7) X(c8) X(c9) X(c10) X(c11)
#define KEEP(c) __asm__ volatile("" : "+v"(c));
#define KEEP_YMM(c) __asm__ volatile("" : "+x"(c));
#define LOOP(vector, zero, keep)                                                                   \
    vector c0 = zero, c1 = zero, c2 = zero, c3 = zero, c4 = zero, c5 = zero, c6 = zero, c7 = zero; \
    vector c8 = zero, c9 = zero, c10 = zero, c11 = zero;                                           \
    for (int turn = 0; turn < TURNS; turn++) {                                                     \
        TWELVE(STEP)                                                                               \
        TWELVE(keep)                                                                               \
    }

__attribute__((target("avx2,fma"))) static double fp32_avx2(void)
{
    __m256 a = _mm256_set1_ps(0.5f);
    KEEP_YMM(a)
#define STEP(c) c = _mm256_fmadd_ps(a, a, c);
    LOOP(__m256, _mm256_setzero_ps(), KEEP_YMM)
#undef STEP
    return 2.0 * 8 * CHAINS * TURNS;
}

__attribute__((target("avx512f"))) static double fp32_avx512(void)
{
    __m512 a = _mm512_set1_ps(0.5f);
    KEEP(a)
#define STEP(c) c = _mm512_fmadd_ps(a, a, c);
    LOOP(__m512, _mm512_setzero_ps(), KEEP)
#undef STEP
    return 2.0 * 16 * CHAINS * TURNS;
}

__attribute__((target("avx512f,avx512bf16"))) static double bf16_avx512(void)
{
    __m512i ones = _mm512_set1_epi16(0x3f80);
    KEEP(ones)
    __m512bh a = (__m512bh)ones;
#define STEP(c) c = _mm512_dpbf16_ps(c, a, a);
    LOOP(__m512, _mm512_setzero_ps(), KEEP)
#undef STEP
    return 2.0 * 32 * CHAINS * TURNS;
}

__attribute__((target("avx512f,avx512vnni"))) static double int8_avx512(void)
{
    __m512i a = _mm512_set1_epi8(1);
    KEEP(a)
#define STEP(c) c = _mm512_dpbusd_epi32(c, a, a);
    LOOP(__m512i, _mm512_setzero_si512(), KEEP)
#undef STEP
    return 2.0 * 64 * CHAINS * TURNS;
}

__attribute__((target("avx2,avxvnni"))) static double int8_avxvnni(void)
{
    __m256i a = _mm256_set1_epi8(1);
    KEEP_YMM(a)
#define STEP(c) c = _mm256_dpbusd_avx_epi32(c, a, a);
    LOOP(__m256i, _mm256_setzero_si256(), KEEP_YMM)
#undef STEP
    return 2.0 * 32 * CHAINS * TURNS;
}

struct tile_config {
    unsigned char palette, start_row, reserved[14];
    unsigned short column_bytes[16];
    unsigned char rows[16];
} __attribute__((packed));

__attribute__((target("amx-tile"))) static void tiles_on(void)
{
    struct tile_config config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) {
        config.column_bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
}

__attribute__((target("amx-tile,amx-bf16"))) static double bf16_amx(void)
{
    tiles_on();
    for (int turn = 0; turn < TURNS / 16; turn++) {
        _tile_dpbf16ps(0, 6, 7);
        _tile_dpbf16ps(1, 6, 7);
        _tile_dpbf16ps(2, 6, 7);
        _tile_dpbf16ps(3, 6, 7);
        _tile_dpbf16ps(4, 6, 7);
        _tile_dpbf16ps(5, 6, 7);
    }
    _tile_release();
    return 2.0 * 16 * 16 * 32 * 6 * (TURNS / 16);
}

__attribute__((target("amx-tile,amx-int8"))) static double int8_amx(void)
{
    tiles_on();
    for (int turn = 0; turn < TURNS / 16; turn++) {
        _tile_dpbssd(0, 6, 7);
        _tile_dpbssd(1, 6, 7);
        _tile_dpbssd(2, 6, 7);
        _tile_dpbssd(3, 6, 7);
        _tile_dpbssd(4, 6, 7);
        _tile_dpbssd(5, 6, 7);
    }
    _tile_release();
    return 2.0 * 16 * 16 * 64 * 6 * (TURNS / 16);
}

struct worker {
    pthread_t thread;
    pthread_barrier_t *barrier;
    double (*loop)(void);
    double seconds, rate; /* rate in operations per second */
    int cpu;
};

static void *run(void *argument)
{
    struct worker *w = argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(w->cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    w->loop();
    pthread_barrier_wait(w->barrier);
    double begin = now(), end = begin, operations = 0;
    while (end - begin < w->seconds) {
        operations += w->loop();
        end = now();
    }
    w->rate = operations / (end - begin);
    return NULL;
}

static double rate_of(double (*loop)(void), int threads, double seconds)
{
    static struct worker workers[THREADS_MAX];
    pthread_barrier_t barrier;
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0, cpu = -1; i < threads; i++) {
        do {
            cpu = (cpu + 1) % CPU_SETSIZE;
        } while (!CPU_ISSET(cpu, &allowed));
        workers[i] =
            (struct worker){.barrier = &barrier, .loop = loop, .seconds = seconds, .cpu = cpu};
        pthread_create(&workers[i].thread, NULL, run, &workers[i]);
    }
    double sum = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        sum += workers[i].rate;
    }
    pthread_barrier_destroy(&barrier);
    return sum * 1e-9;
}

/* Linux lends tile registers on request: ARCH_REQ_XCOMP_PERM of XFEATURE_XTILEDATA. */
static int tiles_allowed(void)
{
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

static void print(const char *name, double rate, const char *after)
{
    if (rate > 0)
        printf("\"%s\": %.1f%s", name, rate, after);
    else
        printf("\"%s\": null%s", name, after);
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 0.3, fp32 = 0, bf16 = 0, int8 = 0;
    if (threads < 1 || threads > THREADS_MAX || seconds <= 0) {
        fprintf(stderr, "usage: embed_peak THREADS SECONDS\n");
        return 2;
    }
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        fp32 = rate_of(fp32_avx512, threads, seconds);
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        fp32 = rate_of(fp32_avx2, threads, seconds);
    if (__builtin_cpu_supports("avx512bf16"))
        bf16 = rate_of(bf16_avx512, threads, seconds);
    if (__builtin_cpu_supports("avx512vnni"))
        int8 = rate_of(int8_avx512, threads, seconds);
    else if (__builtin_cpu_supports("avxvnni"))
        int8 = rate_of(int8_avxvnni, threads, seconds);
    if (__builtin_cpu_supports("amx-tile") && tiles_allowed()) {
        if (__builtin_cpu_supports("amx-bf16"))
            bf16 = larger(bf16, rate_of(bf16_amx, threads, seconds));
        if (__builtin_cpu_supports("amx-int8"))
            int8 = larger(int8, rate_of(int8_amx, threads, seconds));
    }
    printf("{");
    print("fp32", fp32, ", ");
    print("bf16", bf16, ", ");
    print("int8", int8, "}\n");
    return 0;
}
