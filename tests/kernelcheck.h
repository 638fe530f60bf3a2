/* kernelcheck.c checks the inner loops in float32, kernelcheck_attend.c attention,
 * kernelcheck_narrow.c those in eight and sixteen bits, kernelcheck_scan.c those that screen rows,
 * kernelcheck_train_rows.c rows and heads of training, kernelcheck_pq.c product quantisation,
 * kernelcheck_beta.c draws, kernelbench.c times them: one program. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/rng.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/train_kernels.h"
#include "compute/cpu/train_rows.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define UNIT 0x1p-24

extern struct rng rng;
extern struct kernels reference;
extern const struct kernels *peer;      /* NULL, or the level that must give the same bits */

/* The size that a failure line names, and one check. */
void at(size_t a, size_t b, size_t c);
bool expect(bool ok, const char *what);

/* Memory that ends at an unreadable page, with a canary in front; release_all gives all back. */
void *guarded_bytes(size_t bytes);
float *guarded(size_t count);
void release_all(void);
bool canary_intact(const void *start);

enum values { PLAIN, WIDE, CANCELLING, TINY, VALUES };

float *random_floats(size_t count, enum values kind);
float *odd_floats(size_t count);        /* WIDE, every third NaN, infinite, zero or extreme */
float *copy_of(const float *x, size_t count);
bool same_bits(const float *a, const float *b, size_t count);
bool same_values(const float *a, const float *b, size_t count);    /* the same bits, or both NaN */
bool within(float value, double exact, double bound);

/* src/compute/cpu/kernels_amx.c over tests/amx_emulation.h */
void kernels_use_amx_emulated(struct kernels *k);

/* kernelcheck_attend.c */
void check_attend_f32(const struct kernels *k);
void check_attend_rough(const struct kernels *k);

/* kernelcheck_narrow.c */
void check_gelu_rough_f32(const struct kernels *k);
void check_quantize_u8(const struct kernels *k);
void check_gemm_u8s8(const struct kernels *k);
void check_narrow_bf16(const struct kernels *k);
void check_narrow_f16(const struct kernels *k);
void check_gemm_bf16(const struct kernels *k);

/* kernelcheck_scan.c */
void check_sketch_tables(const struct kernels *k);
void check_sketch_scores(const struct kernels *k);
void check_dot_u8s8(const struct kernels *k);
void check_pick_f32(const struct kernels *k);
void check_pick_dots(const struct kernels *k);
void check_pick_tile(const struct kernels *k);

/* kernelcheck_pq.c */
void check_pq4_products_f32(const struct kernels *k);
void check_argmax_f32(const struct kernels *k);
void check_pq4_scan(const struct kernels *k);
void check_pq8_scan(const struct kernels *k);
void check_select_u16(const struct kernels *k);
void check_score_s16s8(const struct kernels *k);
void check_add_scaled_s8(const struct kernels *k);

/* kernelcheck_beta.c */
void check_draw_beta_f32(const struct kernels *k);

/* kernelcheck_graph.c */
void check_dot_tile_u8s8(const struct kernels *k);
void check_edge_bits(const struct kernels *k);
void check_edge_scores(const struct kernels *k);

/* kernelcheck_train_rows.c; the peer is NULL or the level that must give the same bits, but where
 * products are in sixteen bits */
extern const struct train_row_kernels *train_rows_peer;
void check_dropout_bits(const struct train_row_kernels *k);
void check_dropout_scale(const struct train_row_kernels *k);
void check_dropout_add(const struct train_row_kernels *k);
void check_norm_moments(const struct train_row_kernels *k);
void check_norm_backward(const struct train_row_kernels *k);
void check_norm_gradients(const struct train_row_kernels *k);
void check_attend_forward(const struct train_row_kernels *k);
void check_attend_backward(const struct train_row_kernels *k);
void train_rows_bench(const char *level, const struct train_row_kernels *k,
                      const struct train_row_kernels *below, const char *only);

/* kernelcheck_train.c, likewise */
extern const struct train_kernels *train_peer;
#define X(name, result, params) void check_##name(const struct train_kernels *k);
TRAIN_KERNELS(X)
#undef X
void train_bench(const char *level, const struct train_kernels *k,
                 const struct train_kernels *below, const char *only);

/* Prints the speed of every loop of `k`, its share of what this machine can do and its ratio to
 * `below` (NULL: there is no level below), as text or as one JSON object. */
void kernelbench(const char *level, const struct kernels *k, const struct kernels *below,
                 unsigned cpu_flags, bool json);
