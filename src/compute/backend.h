/* Seam 1: a device and the operations on it. The model is written once over these; each operation
 * is eager and has a plain C signature. A CPU pointer or a device pointer hides behind the same
 * struct tensor; copies are explicit. No op knows what it is part of.
 *
 * Bits: every op computes each output row (a token, a sequence, a query) from that row's inputs
 * alone, in an order that depends on the row's own shape only. So the same text has the same bits
 * in any batch. Tests hold every backend to this. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct thread_pool;

/* I8 is for indexes only: bytes with a scale of their own for each row, see compute/screen.h. */
enum element_type { ELEMENT_F32, ELEMENT_F16, ELEMENT_BF16, ELEMENT_I8 };

size_t element_bytes(enum element_type type);

/* A matrix in host memory as a weights file has it: row-major, little-endian, any alignment. */
struct host_matrix {
    const void *data;
    enum element_type type;
    size_t rows, cols;
};

/* Copies to float32 (`out` [rows * cols]). */
void host_matrix_to_f32(const struct host_matrix *matrix, float *out);

/* A row-major matrix on the device. */
struct tensor {
    float *data;        /* [rows][cols]; dereferenced by the backend only */
    size_t rows, cols;
};

/* Sequences packed one behind the other without padding: sequence s is the tokens
 * [offsets[s], offsets[s+1]). */
struct packed_batch {
    const int32_t *ids;         /* [tokens] */
    const int32_t *positions;   /* [tokens] row of the position table */
    const uint32_t *offsets;    /* [sequences + 1], offsets[0] = 0 */
    size_t tokens, sequences;
};

/* The three tables are read where they lie (memory-mapped weights); they outlive their users. */
struct embedding_tables {
    struct host_matrix word, position;
    struct host_matrix type;            /* row 0 is used; rows 0: none */
    const float *gamma, *beta;          /* LayerNorm [hidden] */
    float epsilon;
};

enum activation {
    ACTIVATION_NONE,
    ACTIVATION_GELU,
    ACTIVATION_RELU
}; /* GELU is the exact erf form; in BF16 and INT8 within 2^-14 of it */
enum pooling { POOLING_MEAN, POOLING_CLS, POOLING_MAX };
/* What a linear multiplies in; what lies between the linears is float32. BF16: weights and x
 * rounded to bfloat16. INT8: weights on 255 levels per output, x on 256 per row, as it comes. FP16
 * is for cards (encoder_device.h). */
enum compute_precision { COMPUTE_FP32, COMPUTE_BF16, COMPUTE_INT8, COMPUTE_FP16 };

struct backend;     /* a device, its kernels */
struct lane;        /* one stream of work with its scratch: one thread at a time */
struct linear;      /* packed weights [out][in] and bias [out] */

struct backend_ops {
    const char *name;           /* "cpu" */

    /* Largest precision support: whether linear_create takes `precision` here. */
    bool (*supports)(const struct backend *backend, enum compute_precision precision);

    /* out = activation(x * weight^T + bias). `bias` [out] may be NULL. Copies and packs what it
     * needs; the sources may go away afterwards. `equalizer` [in] (NULL: ones; positive): int8
     * divides the columns of x by it, and multiplies those of the weights, before it quantises, so
     * that a few large columns do not take all levels. The other precisions do not use it. The
     * narrow ones take at most 65,536 inputs. */
    enum akin_status (*linear_create)(struct backend *backend, const struct host_matrix *weight,
                                      const float *bias, const float *equalizer,
                                      enum compute_precision precision, struct linear **linear,
                                      struct akin_error *error);
    void (*linear_destroy)(struct linear **linear);
    size_t (*linear_bytes)(const struct linear *linear);

    /* A lane holds `float_count` floats for tensors (tensor_take) and what ops need beside. */
    enum akin_status (*lane_create)(struct backend *backend, size_t float_count, struct lane **lane,
                                    struct akin_error *error);
    void (*lane_destroy)(struct lane **lane);
    void (*lane_reset)(struct lane *lane);                     /* gives all tensors back */
    /* While `together`, the operations of this lane use all threads of the backend, for work that
     * is too small to be split into lanes, such as one text. The caller is then outside of the
     * pool. Never changes a bit. false: not now (no memory, one thread, too many to be worth it).
     */
    bool (*lane_team)(struct lane *lane, bool together);
    struct tensor (*tensor_take)(struct lane *lane, size_t rows, size_t cols); /* data NULL: full */
    void (*download)(struct lane *lane, const struct tensor *from, float *to);  /* [rows][cols] */

    /* out [tokens][hidden] = LayerNorm(word[id] + position[p] + type[0]) */
    void (*embed_rows)(struct lane *lane, struct tensor *out, const struct packed_batch *batch,
                       const struct embedding_tables *tables);
    /* out [rows][out] = activation(x [rows][in] * W^T + b) */
    void (*linear)(struct lane *lane, struct tensor *out, const struct tensor *x,
                   const struct linear *weights, enum activation activation);
    /* out [rows][out] = down(activation(up(x [rows][in]))), both of one precision; the bits of two
     * calls of `linear`. wide [1 or more rows][outputs of up] is scratch: as many rows pass
     * together, or fewer. */
    void (*feed_forward)(struct lane *lane, struct tensor *out, const struct tensor *x,
                         struct tensor *wide, const struct linear *up, const struct linear *down,
                         enum activation activation);
    /* x [rows][hidden] = LayerNorm(x + y) * gamma + beta, in place */
    void (*residual_layernorm)(struct lane *lane, struct tensor *x, const struct tensor *y,
                               const float *gamma, const float *beta, float epsilon);
    /* out [tokens][hidden]: scaled dot-product attention inside each sequence. qkv
     * [tokens][3 * hidden] holds query, key and value side by side, each split into heads. In
     * BF16 and INT8 its products may be of bfloat16 numbers, where that is faster. */
    void (*attention)(struct lane *lane, struct tensor *out, const struct tensor *qkv,
                      const struct packed_batch *batch, size_t heads,
                      enum compute_precision precision);
    /* out [sequences][hidden] */
    void (*pool)(struct lane *lane, struct tensor *out, const struct tensor *x,
                 const struct packed_batch *batch, enum pooling pooling);
    /* x [rows][cols]: each row to length 1; a row of zeros stays. */
    void (*normalize)(struct lane *lane, struct tensor *x);
};

struct backend {
    const struct backend_ops *ops;
};

/* ---- exact search: rows in host memory -------------------------------------------------- */

enum score { SCORE_INNER_PRODUCT, SCORE_L2 };   /* L2: minus the squared distance */

struct hit {
    float score;
    uint32_t row;
};

/* The k best of `row_count` rows [row_count][dim] for each query [query_count][dim], best first,
 * ties by row; passing bit r of `allowed` (64-bit words, may be NULL) required; `skip`[q] (may be
 * NULL) a sorted list of rows left out for query q. Writes hits [query_count][k] and found
 * [query_count]. Bits do not depend on query_count, threads or the mask. NaN scores come last.
 * `dim` floats of every row are read, no more; rows need no alignment. */
struct row_list {
    const uint32_t *rows;       /* ascending */
    size_t count;
};

struct topk_request {
    const float *rows;
    size_t row_count, dim;
    const float *queries;
    size_t query_count, k;
    enum score score;
    const uint64_t *allowed;
    const struct row_list *skip;
};

/* The CPU backend. `flags` as in base/cpu.h; the pool must outlive it. */
enum akin_status cpu_backend_create(unsigned cpu_flags, struct thread_pool *pool,
                                    struct backend **backend, struct akin_error *error);
void cpu_backend_destroy(struct backend **backend);
/* The pool that it was made with; NULL: none. */
struct thread_pool *cpu_threads(const struct backend *backend);
unsigned cpu_flags(const struct backend *backend);

enum akin_status cpu_topk(struct backend *backend, const struct topk_request *request,
                          struct hit *hits, size_t *found, struct akin_error *error);
/* One score, same bits as in cpu_topk. */
float cpu_score(const struct backend *backend, const float *a, const float *b, size_t dim,
                enum score score);
/* The inner loops behind it, for modules that score single rows of their own layout. */
struct kernels;
const struct kernels *cpu_kernels(const struct backend *backend);
