/* What training asks of a device: the parts of a post-norm Transformer, forwards and backwards,
 * and the optimiser. A part is as large as a sublayer, so that a device may keep in its caches, or
 * in one kernel, what lies between its matrix products. Serving does not link this.
 *
 * Memory: `float *` and `void *` are of the device (`allocate`), unless they are said to be of the
 * host. A part accumulates gradients of its parameters (+=) and never clears them.
 *
 * Bits: a sum over rows runs from the first row to the last, in blocks that do not depend on the
 * number of rows, of threads or of calls: so a batch that is cut into several calls at a whole
 * sample gives the same bits, whatever the thread count.
 *
 * Sources: Vaswani et al. 2017 (post-norm, as torch.nn.Transformer has it); attention in blocks
 * after Dao 2023 (FlashAttention-2); Loshchilov & Hutter 2019 (AdamW). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct thread_pool;

/* What matrix products multiply in; sums, the residual stream, norms, softmax, gradients of
 * parameters and the optimiser are float32. What is saved for the way back is in it too. */
enum train_precision { TRAIN_FP32, TRAIN_BF16, TRAIN_FP16 };

struct train_device {
    const struct train_ops *ops;
};

/* What all parts of one pass share. Dropout: number e of a tensor of dropout `site` is dropped
 * where sixteen-bit word e % 8 (low half of word 0 first) of philox_4x32(counter {e / 8 low, e / 8
 * high, site, step}, key = seed) is below dropout_threshold(rate); what is kept is divided by what
 * threshold and 65536 make of the rate. Rows are padded to multiples of eight numbers, so a row
 * begins with a fresh block: e = row * padded(cols) + col, with the row counted over the whole
 * batch of all ranks (first_sample); attention: e = (((sample * heads) + head) * queries + query) *
 * padded(keys) + key. Nothing of it is stored: the way back makes it again. */
struct train_pass {
    float dropout;              /* 0: none, as in evaluation */
    uint64_t seed;
    uint32_t step;
    size_t first_sample;        /* of this call, in the batch of all ranks */
    float loss_scale;           /* the gradients are this many times too large; 1 but for FP16 */
};

/* Parameters: y = x weight^T + bias, weight [outputs][inputs]. The gradients may be NULL where
 * nothing learns. `prepared` belongs to the device: NULL at first, made by linear_prepare. */
struct train_linear {
    const float *weight, *bias;
    float *weight_gradient, *bias_gradient;
    size_t outputs, inputs;
    void *prepared;
};

struct train_norm {             /* LayerNorm, epsilon 1e-5, biased variance; [dim] */
    const float *gain, *offset;
    float *gain_gradient, *offset_gradient;
    size_t dim;
};

/* y = norm(x + drop(out(drop(softmax(q k^T / sqrt(head dim))) v))). Self-attention: `query` makes
 * q | k | v [3 dim] of x, and memory.outputs is 0. Cross-attention: `query` makes q [dim] of x,
 * `memory` makes k | v [2 dim] of what is attended to. Head h owns columns [h, h + 1) * dim / heads
 * of each. */
struct train_attention {
    struct train_linear query, memory, out;
    struct train_norm norm;
    size_t heads;
    bool causal;                /* query i sees keys 0 to i */
    uint32_t site;              /* dropout of the weights; of the sum: site + 1 */
};

/* y = norm(x + drop(down(drop(relu(up(x)))))) */
struct train_feed_forward {
    struct train_linear up, down;
    struct train_norm norm;
    uint32_t site;              /* of the hidden; of the sum: site + 1 */
};

struct train_shape {
    size_t samples;
    size_t queries;             /* rows of x in each sample */
    size_t keys;                /* rows of memory in each; self-attention: as queries */
};

enum train_optimizer { TRAIN_ADAMW, TRAIN_ADAM, TRAIN_SGD };

/* ADAMW: values *= 1 - rate * decay first. ADAM: gradient += decay * value. Both with bias
 * correction, as torch.optim has them. SGD: values -= rate * (gradient + decay * value). */
struct train_update {
    enum train_optimizer optimizer;
    float rate, decay, beta1, beta2, epsilon;
    uint64_t step;              /* 1 at the first update */
    float gradient_factor;      /* gradients are multiplied by it first: 1 / loss scale */
};

struct train_ops {
    const char *name;           /* "cpu", "cuda" */
    size_t slice_samples;       /* that pass at once where nobody says how many; 0: the batch */

    bool (*supports)(const struct train_device *device, enum train_precision precision);

    /* Zeroed. AKIN_MEMORY says the bytes asked for and those free. */
    enum akin_status (*allocate)(struct train_device *device, size_t bytes, void **memory,
                                 struct akin_error *error);
    void (*release)(struct train_device *device, void *memory);
    void (*upload)(struct train_device *device, void *to, const void *from, size_t bytes);
    void (*download)(struct train_device *device, void *to, const void *from, size_t bytes);
    void (*clear)(struct train_device *device, void *memory, size_t bytes);
    /* to += from */
    void (*add)(struct train_device *device, float *to, const float *from, size_t count);
    /* Waits for all that was asked of the device, and tells the first error of it. */
    enum akin_status (*finish)(struct train_device *device, struct akin_error *error);

    /* Makes what products read of a linear (packed, rounded) of its present weights: after each
     * update. The first call takes memory, which linear_forget gives back. */
    enum akin_status (*linear_prepare)(struct train_device *device, struct train_linear *linear,
                                       struct akin_error *error);
    void (*linear_forget)(struct train_device *device, struct train_linear *linear);

    /* x [samples * length][dim] = tokens[id] + positions[row % length]. ids [samples * length] of
     * the device (int32), each below the rows of the table. */
    void (*embed_forward)(struct train_device *device, const int32_t *ids, const float *tokens,
                          const float *positions, size_t samples, size_t length, size_t dim,
                          float *x);
    /* The gradients of both tables += those of x. `vocab` rows of tokens. */
    void (*embed_backward)(struct train_device *device, const int32_t *ids, const float *x_gradient,
                           size_t samples, size_t length, size_t dim, size_t vocab,
                           float *token_gradient, float *position_gradient);

    size_t (*attention_saved_bytes)(const struct train_device *device,
                                    const struct train_attention *layer,
                                    const struct train_shape *shape);
    /* x, y [samples * queries][dim], memory [samples * keys][dim] (NULL: x itself). Writes y and
     * `saved`. x and y do not overlap. */
    void (*attention_forward)(struct train_device *device, const struct train_pass *pass,
                              const struct train_attention *layer, const struct train_shape *shape,
                              const float *x, const float *memory, float *y, void *saved);
    /* gradient: of y before, of x after. memory_gradient += (cross-attention only). */
    void (*attention_backward)(struct train_device *device, const struct train_pass *pass,
                               const struct train_attention *layer,
                               const struct train_shape *shape, const float *x,
                               const float *memory, const void *saved, float *gradient,
                               float *memory_gradient);

    size_t (*feed_forward_saved_bytes)(const struct train_device *device,
                                       const struct train_feed_forward *layer, size_t rows);
    /* rows = samples * rows_per_sample. */
    void (*feed_forward_forward)(struct train_device *device, const struct train_pass *pass,
                                 const struct train_feed_forward *layer, size_t samples,
                                 size_t rows_per_sample, const float *x, float *y, void *saved);
    void (*feed_forward_backward)(struct train_device *device, const struct train_pass *pass,
                                  const struct train_feed_forward *layer, size_t samples,
                                  size_t rows_per_sample, const float *x, const void *saved,
                                  float *gradient);

    /* y = norm(x); nothing is saved but x, which stays with the caller. */
    void (*norm_forward)(struct train_device *device, const struct train_norm *norm,
                         const float *x, size_t rows, float *y);
    /* gradient: of y before, of x after. */
    void (*norm_backward)(struct train_device *device, const struct train_norm *norm,
                          const float *x, size_t rows, float *gradient);

    /* Adds the cross-entropies of the rows to *loss_sum (device memory, one double), and, where
     * gradient is not NULL, writes to gradient [rows][inputs] that of x of
     *   loss_scale * row_weight * sum over rows of cross_entropy(projection(x), label)
     * and accumulates the projection's. The logits are never in memory as a whole. A row whose
     * label is below 0 does not count: its gradient is 0. */
    void (*cross_entropy)(struct train_device *device, const struct train_pass *pass,
                          const struct train_linear *projection, const int32_t *labels,
                          const float *x, size_t rows, double row_weight, double *loss_sum,
                          float *gradient);

    /* *finite (device memory, uint32) = 0 where any number is not finite; otherwise unchanged. */
    void (*check_finite)(struct train_device *device, const float *values, size_t count,
                         uint32_t *finite);
    /* One update of [count] numbers; first and second [count] are the moments (NULL for SGD).
     * Nothing changes where *finite (may be NULL) is 0. */
    void (*update)(struct train_device *device, const struct train_update *update, float *values,
                   const float *gradients, float *first, float *second, size_t count,
                   const uint32_t *finite);

    /* Around what one step asks for, from clearing the gradients to preparing the linears after the
     * update; the numbers that differ from step to step are told here. A device may record it, and
     * later play it back from the same memory to the same `owner`: then begin returns true, nothing
     * is asked for, and end is not called. Between them nothing is allocated, uploaded or
     * downloaded. May be NULL, both. */
    bool (*step_begin)(struct train_device *device, const void *owner,
                       const struct train_pass *pass, const struct train_update *update);
    void (*step_end)(struct train_device *device);

    void (*destroy)(struct train_device **device);
};

/* Of 65536; the rate that is meant is threshold / 65536. */
static inline uint32_t dropout_threshold(float rate)
{
    return (uint32_t)(rate * 65536.0f + 0.5f);
}

/* `cpu_flags` as in base/cpu.h; the pool must outlive it. */
enum akin_status cpu_train_create(unsigned cpu_flags, struct thread_pool *pool,
                                  enum train_precision precision, struct train_device **device,
                                  struct akin_error *error);
/* The plain loops that every device is held to: one thread, float32 with sums in double. */
enum akin_status reference_train_create(struct train_device **device, struct akin_error *error);
