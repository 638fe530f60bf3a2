/* What the files of the CPU device of training share. Nothing outside src/compute/cpu includes it
 * but tests.
 *
 * An op runs as phases on the pool: over blocks of at most TRAIN_ROWS rows forwards and backwards,
 * which stay in the second-level cache from one product to the next, and over tiles of a weight for
 * its gradient. A function below that takes a worker runs on the calling thread, inside a phase;
 * one that takes the device starts phases of its own, and is never called inside one. */
#pragma once

#include "base/memory.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/train_kernels.h"
#include "compute/cpu/train_rows.h"
#include "compute/train_ops.h"

/* Rows of a block: a multiple of every product.mr. */
enum { TRAIN_ROWS = 48 };

struct cpu_train;

struct train_worker {
    const struct cpu_train *train;
    struct arena scratch;       /* 64-byte aligned; see train_reserve */
};

struct cpu_train {
    struct train_device base;   /* first: a struct train_device * is cast back */
    struct thread_pool *pool;
    struct kernels kernels;
    struct train_kernels products;
    struct train_row_kernels rows;
    enum train_precision precision;
    unsigned flags;             /* base/cpu.h */
    struct train_worker *workers;   /* [size of the pool] */
    int worker_count;
    struct arena shared;        /* what phases of an op hand to each other */
    struct akin_error failed;   /* the first error since finish; status AKIN_OK: none */
};

static inline struct cpu_train *cpu_train_of(struct train_device *device)
{
    return (struct cpu_train *)device;
}

/* Before the phases of an op: empties all scratch and makes sure of at least so many bytes in each
 * worker's and in the shared one. False: no memory; `failed` is set and the op does nothing. In a
 * phase, arena_alloc from the worker's scratch (which rounds up to 64 bytes) and put scratch.used
 * back at the end of an item. */
bool train_reserve(struct cpu_train *train, size_t worker_bytes, size_t shared_bytes);

/* What `count` items take of an arena. */
static inline size_t scratch_bytes(size_t count, size_t bytes)
{
    return (count * bytes + 63) / 64 * 64;
}

/* ---- train_products.c -------------------------------------------------------------------- */

/* A matrix that is multiplied: [rows][stride] float32, or, where `narrow`, bfloat16 with a stride
 * and columns that are even (a zero behind an odd row's end). On a float32 device nothing is
 * narrow; on a bfloat16 device both are taken, and what is float32 is rounded on the way: so what
 * is multiplied twice is better narrowed once. */
struct operand {
    const void *values;
    size_t stride;
    bool narrow;
};

/* What tensors are saved in for products on the way back: columns padded to even. */
static inline size_t operand_stride(size_t cols)
{
    return cols + (cols & 1);
}
static inline size_t operand_bytes(const struct cpu_train *train, size_t rows, size_t cols)
{
    return rows * operand_stride(cols) * (train->precision == TRAIN_FP32 ? 4 : 2);
}
/* Row r of such a tensor on: [..][operand_stride(cols)]. */
struct operand operand_at(const struct cpu_train *train, const void *values, size_t cols, size_t r);
/* Writes x [rows][stride] to such a tensor (float32: a copy) and returns it. */
struct operand operand_store(const struct cpu_train *train, void *values, const float *x,
                             size_t stride, size_t rows, size_t cols);

/* Bytes of scratch that product_forward and product_backward take for a while from a worker. */
size_t product_scratch_bytes(const struct cpu_train *train, const struct train_linear *linear);

/* out [rows][out_stride] = x weight^T + bias, any number of rows. */
void product_forward(struct train_worker *worker, const struct train_linear *linear,
                     struct operand x, size_t rows, float *out, size_t out_stride);
/* dx [rows][dx_stride] = dy weight, or += where `accumulate`. */
void product_backward(struct train_worker *worker, const struct train_linear *linear,
                      struct operand dy, size_t rows, float *dx, size_t dx_stride,
                      bool accumulate);
/* weight_gradient += dy^T x, bias_gradient += the columns of dy: rows in order. Phases of its own.
 * It takes gradient_scratch_bytes of the shared scratch for a while. */
void product_gradient(struct cpu_train *train, const struct train_linear *linear,
                      struct operand dy, struct operand x, size_t rows);
size_t gradient_scratch_bytes(const struct cpu_train *train, const struct train_linear *linear,
                              size_t rows);
/* The parts of product_gradient, for rows that can be packed as soon as they are made: columns of
 * rows as panels [cols / width][depth][width], of which depth counts rows, or, in bfloat16, pairs
 * of rows with the earlier one in the upper half. width: products.product.mr for dy, nr for x. */
struct panels {
    void *values;
    size_t cols, width, depth;
};

size_t panels_bytes(const struct cpu_train *train, size_t cols, size_t width, size_t rows);
struct panels panels_of_rows(const struct cpu_train *train, size_t cols, size_t width, size_t rows,
                             void *values);
/* Rows [first, first + rows) of the panels from x, whose first row is row `first`, an even one; an
 * odd number of rows only at the end. Any thread. */
void pack_panels(const struct cpu_train *train, const struct panels *to, struct operand x,
                 size_t first, size_t rows);
/* Phases of its own. In the sums of the bias row r counts weights[r] times (NULL: once); bfloat16
 * reads a weight for every half of its pairs. */
void gradient_add(struct cpu_train *train, const struct train_linear *linear,
                  const struct panels *dy, const struct panels *x, const float *weights);

enum akin_status cpu_linear_prepare(struct train_device *device, struct train_linear *linear,
                                    struct akin_error *error);
void cpu_linear_forget(struct train_device *device, struct train_linear *linear);

/* ---- train_feed_forward.c, train_cross_entropy.c, train_update.c -------------------------- */

size_t cpu_feed_forward_saved_bytes(const struct train_device *device,
                                    const struct train_feed_forward *layer, size_t rows);
void cpu_feed_forward_forward(struct train_device *device, const struct train_pass *pass,
                              const struct train_feed_forward *layer, size_t samples,
                              size_t rows_per_sample, const float *x, float *y, void *saved);
void cpu_feed_forward_backward(struct train_device *device, const struct train_pass *pass,
                               const struct train_feed_forward *layer, size_t samples,
                               size_t rows_per_sample, const float *x, const void *saved,
                               float *gradient);
void cpu_cross_entropy(struct train_device *device, const struct train_pass *pass,
                       const struct train_linear *projection, const int32_t *labels,
                       const float *x, size_t rows, double row_weight, double *loss_sum,
                       float *gradient);
void cpu_train_add(struct train_device *device, float *to, const float *from, size_t count);
void cpu_check_finite(struct train_device *device, const float *values, size_t count,
                      uint32_t *finite);
void cpu_update(struct train_device *device, const struct train_update *update, float *values,
                const float *gradients, float *first, float *second, size_t count,
                const uint32_t *finite);

/* ---- train_norm.c, train_attention.c, train_embed.c --------------------------------------- */

void cpu_norm_forward(struct train_device *device, const struct train_norm *norm, const float *x,
                      size_t rows, float *y);
void cpu_norm_backward(struct train_device *device, const struct train_norm *norm, const float *x,
                       size_t rows, float *gradient);
/* For sublayers: y = norm(s), dense rows; y may be s. */
void norm_rows(const struct train_worker *worker, const struct train_norm *norm, const float *s,
               size_t rows, float *y);
/* gradient: of y before, of s after. Leaves the norm's own gradients alone. */
void norm_rows_backward(const struct train_worker *worker, const struct train_norm *norm,
                        const float *s, size_t rows, float *gradient);
/* gain_gradient and offset_gradient += theirs, of s and the gradient of y, before
 * norm_rows_backward: phases of its own, over rows, which write to moments [rows][2] (of the shared
 * scratch), then over columns, rows in order. */
void norm_gradients(struct cpu_train *train, const struct train_norm *norm, const float *s,
                    const float *gradient, size_t rows, float (*moments)[2]);

void cpu_embed_forward(struct train_device *device, const int32_t *ids, const float *tokens,
                       const float *positions, size_t samples, size_t length, size_t dim,
                       float *x);
void cpu_embed_backward(struct train_device *device, const int32_t *ids, const float *x_gradient,
                        size_t samples, size_t length, size_t dim, size_t vocab,
                        float *token_gradient, float *position_gradient);
size_t cpu_attention_saved_bytes(const struct train_device *device,
                                 const struct train_attention *layer,
                                 const struct train_shape *shape);
void cpu_attention_forward(struct train_device *device, const struct train_pass *pass,
                           const struct train_attention *layer, const struct train_shape *shape,
                           const float *x, const float *memory, float *y, void *saved);
void cpu_attention_backward(struct train_device *device, const struct train_pass *pass,
                            const struct train_attention *layer, const struct train_shape *shape,
                            const float *x, const float *memory, const void *saved,
                            float *gradient, float *memory_gradient);
