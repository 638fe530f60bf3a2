/* How fast the inner loops are: nanoseconds, GFLOP/s or GB/s, the share of what this machine
 * reaches when it does nothing else (measured here as well), and the ratio to the level below. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "kernelcheck.h"

enum { BENCH_DIM = 384, BENCH_ROWS = 96, BENCH_FAR_ROWS = 1 << 16 };

/* What the timed calls work on; `far` does not fit in any cache. */
static struct {
    float *a, *b, *c, *far;
    const float *rows[16];
    uint8_t *bytes;         /* [BENCH_ROWS * BENCH_DIM] */
    uint16_t *halves;       /* likewise, small numbers */
    struct attend_scratch *scratch;
    uint8_t *tables, *blocks;   /* of sketches */
} data;

static float *bench_floats(size_t count)
{
    float *x = memory_alloc_aligned(count, sizeof *x);
    if (!x) {
        fputs("kernelcheck: memory ran out\n", stderr);
        exit(2);
    }
    for (size_t i = 0; i < count; i++)
        x[i] = 2 * rng_float(&rng) - 1;
    return x;
}

static void run_gemm_f32(const struct kernels *k)
{
    for (size_t r = 0; r + k->gemm.mr <= BENCH_ROWS; r += k->gemm.mr)
        k->gemm_f32(data.c + r * k->gemm.nr, k->gemm.nr, data.a + r * BENCH_DIM, BENCH_DIM, data.b,
                    BENCH_DIM, k->gemm.mr, k->gemm.nr, NULL, false);
}

static double work_gemm_f32(const struct kernels *k)
{
    return 2.0 * BENCH_DIM * (double)(BENCH_ROWS / k->gemm.mr * k->gemm.mr * k->gemm.nr);
}

static void run_score_dot_f32(const struct kernels *k)
{
    k->score_dot_f32(data.c, data.a, 64, data.rows, 16, BENCH_DIM);
}

static double work_score_dot_f32(const struct kernels *k)
{
    (void)k;
    return 2.0 * 64 * 16 * BENCH_DIM;
}

static void run_score_l2_f32(const struct kernels *k)
{
    k->score_l2_f32(data.c, data.a, 64, data.rows, 16, BENCH_DIM);
}

static double work_score_l2_f32(const struct kernels *k)
{
    (void)k;
    return 2.0 * 64 * 16 * BENCH_DIM;     /* fused multiply-adds; the subtractions come free */
}

/* A head of a short text, side by side with the others as the encoder has it. */
enum { HEAD_TOKENS = 23, HEAD_DIM = 32 };

static struct head bench_head(void)
{
    const float *q = data.far;
    return (struct head){.q = q,
                         .k = q + BENCH_DIM,
                         .v = q + 2 * BENCH_DIM,
                         .out = data.c,
                         .stride = 3 * BENCH_DIM,
                         .out_stride = 2 * HEAD_DIM,
                         .queries = HEAD_TOKENS,
                         .keys = HEAD_TOKENS,
                         .dim = HEAD_DIM};
}

static double work_attend_f32(const struct kernels *k)
{
    (void)k;
    return 4.0 * HEAD_TOKENS * HEAD_TOKENS * HEAD_DIM;
}

static void run_attend_f32(const struct kernels *k)
{
    struct head head = bench_head();
    k->attend_f32(&head, data.scratch);
}

static double work_attend_rough(const struct kernels *k)
{
    return work_attend_f32(k);
}

static void run_attend_rough(const struct kernels *k)
{
    struct head head = bench_head();
    k->attend_rough(&head, data.scratch);
}

static void run_layernorm_f32(const struct kernels *k)
{
    k->layernorm_f32(data.c, data.a, data.b, data.a, data.b, 1e-12f, BENCH_DIM);
}

static void run_gelu_f32(const struct kernels *k)
{
    memcpy(data.c, data.a, BENCH_DIM * sizeof *data.c);
    k->gelu_f32(data.c, BENCH_DIM, 1, BENCH_DIM);
}

static void run_gelu_rough_f32(const struct kernels *k)
{
    memcpy(data.c, data.a, BENCH_DIM * sizeof *data.c);
    k->gelu_rough_f32(data.c, BENCH_DIM, 1, BENCH_DIM);
}

static void run_relu_f32(const struct kernels *k)
{
    k->relu_f32(data.c, BENCH_DIM, 1, BENCH_DIM);
}

static void run_add_f32(const struct kernels *k)
{
    k->add_f32(data.c, data.a, BENCH_DIM);
}

static void run_max_f32(const struct kernels *k)
{
    k->max_f32(data.c, data.a, BENCH_DIM);
}

static void run_blend_f32(const struct kernels *k)
{
    k->blend_f32(data.c, 0.7f, data.a, 0.3f, BENCH_DIM);
}

static void run_scale_f32(const struct kernels *k)
{
    k->scale_f32(data.c, 1.0f, BENCH_DIM);
}

static void run_add_scaled_f32(const struct kernels *k)
{
    k->add_scaled_f32(data.c, data.a, 0.5f, BENCH_DIM);
}

static void run_exp_sum_f32(const struct kernels *k)
{
    memcpy(data.c, data.a, BENCH_DIM * sizeof *data.c);
    k->exp_sum_f32(data.c, 100, BENCH_DIM);
}

static void run_widen_f16(const struct kernels *k)
{
    k->widen_f16(data.c, data.a, BENCH_DIM);
}

static void run_widen_bf16(const struct kernels *k)
{
    k->widen_bf16(data.c, data.a, BENCH_DIM);
}

static void run_quantize_u8(const struct kernels *k)
{
    float scale, zero_point;
    k->quantize_u8(data.bytes, data.a, data.b, BENCH_DIM, BENCH_DIM, &scale, &zero_point);
}

static void run_gemm_u8s8(const struct kernels *k)
{
    struct s8_panel panel = { (const int8_t *)data.bytes, data.a, data.a, data.a };
    for (size_t r = 0; r + k->u8s8.mr <= BENCH_ROWS; r += k->u8s8.mr) {
        struct u8_rows x = { data.bytes + r * BENCH_DIM, BENCH_DIM, data.a, data.a };
        k->gemm_u8s8(data.c + r * k->u8s8.nr, k->u8s8.nr, &x, &panel, BENCH_DIM, k->u8s8.mr,
                     k->u8s8.nr, false);
    }
}

static double work_gemm_u8s8(const struct kernels *k)
{
    return 2.0 * BENCH_DIM * (double)(BENCH_ROWS / k->u8s8.mr * k->u8s8.mr * k->u8s8.nr);
}

static void run_narrow_bf16(const struct kernels *k)
{
    k->narrow_bf16((uint16_t *)data.c, data.a, BENCH_DIM, BENCH_DIM);
}

static void run_narrow_f16(const struct kernels *k)
{
    k->narrow_f16((uint16_t *)data.c, data.a, BENCH_DIM);
}

static void run_gemm_bf16(const struct kernels *k)
{
    for (size_t r = 0; r + k->bf16.mr <= BENCH_ROWS; r += k->bf16.mr)
        k->gemm_bf16(data.c + r * k->bf16.nr, k->bf16.nr, data.halves + r * BENCH_DIM, BENCH_DIM,
                     data.halves, BENCH_DIM, k->bf16.mr, k->bf16.nr, NULL);
}

static double work_gemm_bf16(const struct kernels *k)
{
    return 2.0 * BENCH_DIM * (double)(BENCH_ROWS / k->bf16.mr * k->bf16.mr * k->bf16.nr);
}

/* Sketches as the index makes them of 384 dimensions. */
static const struct sketch_form bench_form = { .rows = 64, .planes = 42, .heads = 2 };
enum { BENCH_BLOCKS = 64 };

static void run_sketch_tables(const struct kernels *k)
{
    k->sketch_tables(data.tables, data.bytes, bench_form.planes);
}

static double work_sketch_tables(const struct kernels *k)
{
    (void)k;
    return 16.0 * (double)bench_form.planes;
}

static void run_sketch_scores(const struct kernels *k)
{
    struct sketch_terms terms = { data.tables, (const int8_t *)data.tables, 1, 1, 0, 0 };
    k->sketch_scores(data.c, data.blocks, BENCH_BLOCKS, &bench_form, &terms);
}

static double work_sketch_scores(const struct kernels *k)
{
    (void)k;
    return (double)(BENCH_BLOCKS * sketch_form_bytes(&bench_form));
}

/* As a scan takes them: thresholds that few pass. */
enum { BENCH_PICKS = 512 };

static void run_dot_u8s8(const struct kernels *k)
{
    k->dot_u8s8((int32_t *)data.c, data.blocks, BENCH_DIM, NULL, BENCH_PICKS,
                (const int8_t *)data.bytes, BENCH_DIM);
}

/* Four queries, as a partition's leaf is compared with itself. */
static void run_dot_tile_u8s8(const struct kernels *k)
{
    k->dot_tile_u8s8((int32_t *)data.c, BENCH_PICKS, (const int8_t *)data.bytes, BENCH_DIM, 4,
                     data.blocks, BENCH_DIM, NULL, BENCH_PICKS, BENCH_DIM);
}

static double work_dot_tile_u8s8(const struct kernels *k)
{
    (void)k;
    return 4.0 * BENCH_PICKS * BENCH_DIM;
}

static void run_edge_bits(const struct kernels *k)
{
    uint64_t bits[BENCH_DIM / 64];
    struct edge_sums sums;
    k->edge_bits(bits, &sums, data.bytes, 1, data.bytes + BENCH_DIM, 2, BENCH_DIM);
}

static double work_edge_bits(const struct kernels *k)
{
    (void)k;
    return 2.0 * BENCH_DIM;
}

/* All neighbours of a node. */
static void run_edge_scores(const struct kernels *k)
{
    struct edge_codes edges = { data.bytes, (const int16_t *)data.halves,
                                (const int16_t *)data.halves + EDGES, 1, 1 };
    struct edge_query query = { data.blocks, 1, 0, 0 };
    k->edge_scores(data.c, &edges, &query, BENCH_DIM, 0);
}

static double work_edge_scores(const struct kernels *k)
{
    (void)k;
    return 8.0 * BENCH_DIM;     /* codes, and the query's table */
}

static double work_dot_u8s8(const struct kernels *k)
{
    (void)k;
    return (double)BENCH_PICKS * BENCH_DIM;
}

static void run_pick_f32(const struct kernels *k)
{
    k->pick_f32((uint32_t *)data.c, data.a, 0.99f, BENCH_PICKS);
}

static void run_pick_dots(const struct kernels *k)
{
    struct row_terms terms = { data.a, data.a, data.a, NULL };
    struct dot_query query = { 1e-9f, 0.1f, 0.1f, 0 };
    k->pick_dots((uint32_t *)data.c, data.c + 1024, (const int32_t *)data.a, &terms, &query, 0.5f,
                 BENCH_PICKS);
}

static void run_pick_tile(const struct kernels *k)
{
    struct row_terms terms = { data.a, data.a, data.a, NULL };
    k->pick_tile((uint64_t *)data.c, data.a, 32, 12, 32, &terms, data.a, data.a, data.a);
}

static double work_pick_f32(const struct kernels *k)
{
    (void)k;
    return 4.0 * BENCH_PICKS;
}

static double work_pick_dots(const struct kernels *k)
{
    (void)k;
    return 16.0 * BENCH_PICKS;
}

static double work_pick_tile(const struct kernels *k)
{
    (void)k;
    return 4.0 * 12 * 32;
}

static void run_pq4_products_f32(const struct kernels *k)
{
    k->pq4_products_f32(data.c, data.a, data.b, NULL, BENCH_DIM / 4, 4);
}

static void run_argmax_f32(const struct kernels *k)
{
    uint32_t best;
    k->argmax_f32(&best, data.a, BENCH_DIM, 1, BENCH_DIM);
    __asm__ volatile("" ::"r"(best));
}

/* 96 parts, a row of 384 numbers in 48 bytes; the tables lie beyond the codes. */
static void run_pq4_scan(const struct kernels *k)
{
    const uint8_t *codes = data.bytes + 96 * 32;
    k->pq4_scan((uint16_t *)data.c, codes, data.bytes, 24, 16, codes);
}

/* 32 parts, a row of 384 numbers in 32 bytes. */
static void run_pq8_scan(const struct kernels *k)
{
    const uint8_t *codes = data.bytes + 32 * 256;
    k->pq8_scan((uint16_t *)data.c, codes, data.bytes, 32, 16, codes);
}

static void run_select_u16(const struct kernels *k)
{
    k->select_u16((uint32_t *)data.c, data.halves, BENCH_DIM, 65000);
}

static void run_score_s16s8(const struct kernels *k)
{
    k->score_s16s8((int32_t *)data.c, (const int16_t *)data.halves, (const int8_t *)data.bytes,
                   BENCH_DIM, NULL, BENCH_ROWS, BENCH_DIM);
}

static void run_add_scaled_s8(const struct kernels *k)
{
    k->add_scaled_s8(data.c, (const int8_t *)data.bytes, 0.5f, BENCH_DIM);
}

/* As many arms as an ensemble has, with shapes of 2 to 4. */
enum { BENCH_ARMS = 1000 };

static void run_draw_beta_f32(const struct kernels *k)
{
    static const struct beta_key key = { .seed = { 1, 2 } };
    for (size_t i = 0; i < BENCH_ARMS; i++)
        data.c[BENCH_ARMS + i] = 3 + data.a[i];
    k->draw_beta_f32(data.c, data.c + BENCH_ARMS, data.c + BENCH_ARMS, BENCH_ARMS, &key);
}

static double work_draw_beta_f32(const struct kernels *k)
{
    (void)k;
    return 12.0 * BENCH_ARMS;
}

/* The rest are counted in bytes read and written: floats per element, times four. */
#define WORK_BYTES(name, floats)                                                     \
    static double work_##name(const struct kernels *k)                               \
    {                                                                                \
        (void)k;                                                                     \
        return 4.0 * (floats) * BENCH_DIM;                                           \
    }
WORK_BYTES(layernorm_f32, 5)
WORK_BYTES(gelu_f32, 2)
WORK_BYTES(gelu_rough_f32, 2)
WORK_BYTES(relu_f32, 2)
WORK_BYTES(add_f32, 3)
WORK_BYTES(max_f32, 3)
WORK_BYTES(scale_f32, 2)
WORK_BYTES(blend_f32, 3)
WORK_BYTES(add_scaled_f32, 3)
WORK_BYTES(exp_sum_f32, 2)
WORK_BYTES(widen_f16, 1.5)
WORK_BYTES(widen_bf16, 1.5)
WORK_BYTES(quantize_u8, 2.25)
WORK_BYTES(narrow_bf16, 1.5)
WORK_BYTES(narrow_f16, 1.5)
WORK_BYTES(pq4_products_f32, 21)
WORK_BYTES(argmax_f32, 1)
WORK_BYTES(pq4_scan, 16)
WORK_BYTES(pq8_scan, 32.0 * 32 * 16 / (4 * BENCH_DIM))
WORK_BYTES(select_u16, 0.5)
WORK_BYTES(score_s16s8, BENCH_ROWS / 4.0)
WORK_BYTES(add_scaled_s8, 2.25)

static bool counts_flops(const char *name)
{
    return !strncmp(name, "gemm_", 5) || !strncmp(name, "score_", 6) ||
           !strncmp(name, "attend_", 7);
}

/* The fastest of 30 batches, each at least half a millisecond long. */
static double best_ns(void (*run)(const struct kernels *), const struct kernels *k)
{
    double best = INFINITY;
    size_t batch = 1;
    for (int round = 0; round < 30; round++) {
        uint64_t start = clock_monotonic_ns();
        for (size_t i = 0; i < batch; i++)
            run(k);
        double elapsed = (double)(clock_monotonic_ns() - start);
        best = fmin(best, elapsed / (double)batch);
        if (elapsed < 5e5 && batch < 1u << 24) {
            batch *= 2;
            round = -1;
        }
    }
    return best;
}

/* Float operations per nanosecond when a core does nothing but fused multiply-add on registers of
 * the level; for ref multiply and add of four. */
#define FMA(register, number) \
    "vfmadd231ps %%" register "15, %%" register "15, %%" register number "\n"
#define FMA_12(r)                                                                              \
    FMA(r, "0") FMA(r, "1") FMA(r, "2") FMA(r, "3") FMA(r, "4") FMA(r, "5") FMA(r, "6")        \
    FMA(r, "7") FMA(r, "8") FMA(r, "9") FMA(r, "10") FMA(r, "11")
#define FMA_LOOP(r)                                                                            \
    for (int i = 0; i < 256; i++)                                                              \
        __asm__ volatile(FMA_12(r) FMA_12(r) ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", \
                         "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");                    \
    __asm__ volatile("vzeroupper");

static void fma_zmm(const struct kernels *k)
{
    (void)k;
    FMA_LOOP("zmm")
}

static void fma_ymm(const struct kernels *k)
{
    (void)k;
    FMA_LOOP("ymm")
}

#define DOT(name, number) name " %%zmm15, %%zmm15, %%zmm" number "\n"
#define DOT_12(n)                                                                              \
    DOT(n, "0") DOT(n, "1") DOT(n, "2") DOT(n, "3") DOT(n, "4") DOT(n, "5") DOT(n, "6")        \
    DOT(n, "7") DOT(n, "8") DOT(n, "9") DOT(n, "10") DOT(n, "11")
#define DOT_LOOP(n)                                                                            \
    for (int i = 0; i < 256; i++)                                                              \
        __asm__ volatile(DOT_12(n) DOT_12(n) ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", \
                         "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");                    \
    __asm__ volatile("vzeroupper");

static void dot_bytes(const struct kernels *k)
{
    (void)k;
    DOT_LOOP("vpdpbusd")
}

static void dot_pairs(const struct kernels *k)
{
    (void)k;
    DOT_LOOP("vdpbf16ps")
}

/* Of the level's fastest instruction for such products; 0 where none is known. */
static double peak_gflops(const char *name, unsigned flags)
{
    double instructions = 256 * 24;
    if (!(flags & CPU_AVX2) || flags & (CPU_AMX_INT8 | CPU_AMX_BF16))
        return 0;
    if (!strcmp(name, "gemm_u8s8") && flags & CPU_AVX512_VNNI)
        return instructions * 128 / best_ns(dot_bytes, NULL);
    if ((!strcmp(name, "gemm_bf16") || !strcmp(name, "attend_rough")) &&
        flags & CPU_AVX512_BF16)
        return instructions * 64 / best_ns(dot_pairs, NULL);
    bool wide = flags & CPU_AVX512;
    return instructions * 2 * (wide ? 16 : 8) / best_ns(wide ? fma_zmm : fma_ymm, NULL);
}

/* A search of one query over rows that lie in memory, and plain reading of the same memory. */
static void run_far_scan(const struct kernels *k)
{
    for (size_t r = 0; r < BENCH_FAR_ROWS; r += 16) {
        const float *rows[16];
        for (size_t i = 0; i < 16; i++)
            rows[i] = data.far + (r + i) * BENCH_DIM;
        k->score_dot_f32(data.c, data.a, 1, rows, 16, BENCH_DIM);
    }
}

static void run_far_read(const struct kernels *k)
{
    (void)k;
    const uint64_t *words = (const uint64_t *)data.far;
    uint64_t sums[8] = { 0 };
    for (size_t i = 0; i < (size_t)BENCH_FAR_ROWS * BENCH_DIM / 2; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] ^= words[i + j];
    __asm__ volatile("" ::"m"(sums));
}

static void report(const char *name, const struct kernels *k, const struct kernels *below,
                   void (*run)(const struct kernels *), double work, double work_below, double peak,
                   bool flops, bool json)
{
    double ns = best_ns(run, k), rate = work / ns;
    double ratio = below ? rate / (work_below / best_ns(run, below)) : 1;
    if (json) {
        printf("\n  {\"name\": \"%s\", \"ns\": %.1f, \"%s\": %.2f, ", name, ns,
               flops ? "gflops" : "gbytes_per_s", rate);
        if (peak > 0)
            printf("\"share_of_peak\": %.3f, ", rate / peak);
        printf("\"ratio_to_level_below\": %.2f}", ratio);
        return;
    }
    printf("%-14s %12.1f ns %8.1f %s %7.2f x the level below", name, ns, rate,
           flops ? "GFLOP/s" : "GB/s   ", ratio);
    if (peak > 0)
        printf(" %5.0f %% of peak", 100 * rate / peak);
    putchar('\n');
}

void kernelbench(const char *level, const struct kernels *k, const struct kernels *below,
                 unsigned flags, bool json)
{
    size_t far_floats = (size_t)BENCH_FAR_ROWS * BENCH_DIM;
    rng_seed(&rng, 1);
    data.a = bench_floats(BENCH_ROWS * BENCH_DIM);
    data.b = bench_floats(BENCH_DIM * GEMM_NR_MAX);
    data.c = bench_floats(BENCH_ROWS * GEMM_NR_MAX);
    data.far = bench_floats(far_floats);
    data.bytes = (uint8_t *)bench_floats(BENCH_ROWS * BENCH_DIM / 4);
    data.halves = (uint16_t *)bench_floats(BENCH_ROWS * BENCH_DIM / 2);
    data.scratch = (struct attend_scratch *)bench_floats(sizeof *data.scratch / sizeof(float));
    size_t sketch_bytes = BENCH_BLOCKS * sketch_form_bytes(&bench_form);
    data.blocks = (uint8_t *)bench_floats(sketch_bytes / sizeof(float));
    data.tables = (uint8_t *)bench_floats(sketch_table_bytes(bench_form.planes) / sizeof(float));
    reference.narrow_bf16(data.halves, data.a, BENCH_ROWS * BENCH_DIM, BENCH_ROWS * BENCH_DIM);
    for (size_t i = 0; i < 16; i++)
        data.rows[i] = data.far + i * BENCH_DIM;
    double peak = peak_gflops("", flags), read = (double)far_floats * 4 / best_ns(run_far_read, k);
    if (json)
        printf("{\"level\": \"%s\", \"peak_gflops\": %.1f, \"read_gbytes_per_s\": %.1f, "
               "\"kernels\": [",
               level, peak, read);
    else
        printf("%s: peak %.1f GFLOP/s (fused multiply-add on registers), memory read %.1f GB/s\n",
               level, peak, read);
    /* A row of the table without a run_<name> and a work_<name> does not compile. */
#define X(name, result, params)                                                      \
    report(#name, k, below, run_##name, work_##name(k), below ? work_##name(below) : 0,  \
           counts_flops(#name) ? peak_gflops(#name, flags) : 0, counts_flops(#name), json);       \
    if (json)                                                                        \
        putchar(',');
    KERNELS(X)
#undef X
    double far_bytes = (double)far_floats * 4;
    report("scan_memory", k, below, run_far_scan, far_bytes, far_bytes, read, false, json);
    if (json)
        puts("\n]}");
    memory_free(data.a);
    memory_free(data.b);
    memory_free(data.c);
    memory_free(data.far);
    memory_free(data.bytes);
    memory_free(data.halves);
    memory_free(data.scratch);
    memory_free(data.blocks);
    memory_free(data.tables);
}

