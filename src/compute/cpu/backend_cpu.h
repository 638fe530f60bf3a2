/* What the files of the CPU backend share. Nothing outside src/compute/cpu includes it. */
#pragma once

#include <assert.h>

#include "base/memory.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t round_up(size_t value, size_t step)
{
    return (value + step - 1) / step * step;
}

struct cpu_backend {
    struct backend base;        /* first: a struct backend * is cast back */
    struct kernels kernels;
    struct thread_pool *pool;
    unsigned flags;             /* base/cpu.h */
    const struct topology *topology;    /* NULL: one node */
    int nodes;                  /* of memory that weights are kept on */
};

/* Weights as the micro-kernel of their precision reads them. padded = out, rounded up to nr; depth
 * = in, rounded up to the granule; zeros behind the last column and row. */
struct linear {
    const struct kernels *kernels;  /* the backend's */
    struct gemm_blocks blocks;      /* of this precision */
    enum compute_precision precision;
    size_t in, out, depth, padded;
    size_t pieces, piece;       /* int8: parts of the depth with scales of their own, and their
                                   length, where several a multiple of nr; otherwise 1 and depth */
    void *panels;               /* float [padded / nr][depth][nr], bfloat16 [..][depth / 2][nr][2],
                                   int8_t [padded / nr][pieces][piece / 4][nr][4], so that
                                   one call of the micro-kernel ends where the next begins */
    float *bias;                /* [padded] */
    float *scale, *sum;         /* [pieces][padded], int8 only: see struct s8_panel */
    float *factor;              /* [in], int8 only, may be NULL: 1 / equalizer */
    struct replicas *replicas;  /* replica.c; NULL: these panels are the only ones */
};

/* A block of rows in eight or sixteen bits. */
enum { NARROW_BYTES = NARROW_ROWS_MAX * 1536 * 2 };
static_assert(NARROW_BYTES >= 2 * NARROW_DEPTH_MAX, "the longest row fits");

/* A row of int8 is cut into pieces, each with a scale of its own, because few columns are large:
 * one scale for 1,536 outputs of GELU costs a quarter of all the error of the encoder, one for 384
 * outputs of a LayerNorm a fifth (docs/decisions/007-int8.md). */
enum { INT8_PIECES = 4, INT8_FOUR_FROM = 1024, INT8_TWO_FROM = 256, INT8_PIECE_STEP = 64 };

struct narrow_scratch {
    void *values;               /* [NARROW_BYTES] */
    float scale[INT8_PIECES][NARROW_ROWS_MAX], zero_point[INT8_PIECES][NARROW_ROWS_MAX];
};

/* A team of more threads loses more by waiting for each other than it wins for one text. */
enum { TEAM_THREADS_MAX = 16 };

struct lane {
    struct cpu_backend *backend;
    int node;                           /* of the thread that works with it, as of lane_reset */
    struct thread_pool *team;           /* NULL: this thread alone */
    struct attend_scratch **members;    /* [size of the pool] once a team was asked for: what
                                           another thread needs when it helps; 0 is not used */
    struct narrow_scratch narrow, narrow_wide;      /* the latter for feed_forward's inside */
    struct arena tensors;
    struct attend_scratch *attend;
    float *row;             /* [DIMENSION_MAX] */
};

/* fn(context, begin, end, worker) over [0, count), by this thread or by the team. */
void lane_share(const struct lane *lane, size_t count,
                void (*fn)(void *context, size_t begin, size_t end, int worker), void *context);

static inline const struct kernels *lane_kernels(const struct lane *lane)
{
    return &lane->backend->kernels;
}

/* linear.c */
enum akin_status cpu_linear_create(struct backend *backend, const struct host_matrix *weight,
                                   const float *bias, const float *equalizer,
                                   enum compute_precision precision, struct linear **linear,
                                   struct akin_error *error);
void cpu_linear_destroy(struct linear **linear);
size_t cpu_linear_bytes(const struct linear *linear);
void cpu_linear(struct lane *lane, struct tensor *out, const struct tensor *x,
                const struct linear *weights, enum activation activation);
void cpu_feed_forward(struct lane *lane, struct tensor *out, const struct tensor *x,
                      struct tensor *wide, const struct linear *up, const struct linear *down,
                      enum activation activation);

/* replica.c: the panels once more on each node. A backend of one node keeps none. */
enum akin_status cpu_replicas_create(const struct cpu_backend *backend, struct linear *linear,
                                     struct akin_error *error);
void cpu_replicas_destroy(struct linear *linear);
size_t cpu_replicas_bytes(const struct linear *linear);     /* beyond the linear's own */
/* The linear to read on a node. */
const struct linear *cpu_replica(const struct linear *linear, int node);

/* The activation of one tile, in place, at once: rows lie a power of two apart, or nearly so, and a
 * column of many would evict itself from the first-level cache. */
void activate_tile(const struct linear *weights, enum activation activation, float *out,
                   size_t stride, size_t rows, size_t cols);

/* So many columns of feed_forward's wide matrix exist at a time (int8: a piece), for they and their
 * weights stay in the second-level cache. A team takes all, because it waits after each. A multiple
 * of every nr and granule. */
enum { WIDE_COLUMNS = 384 };

/* narrow.c */
bool pack_narrow(struct linear *linear, const struct host_matrix *weight, const float *equalizer);
void narrow_linear(struct lane *lane, struct tensor *out, const struct tensor *x,
                   const struct linear *weights, enum activation activation);
void narrow_feed_forward(struct lane *lane, struct tensor *out, const struct tensor *x,
                         struct tensor *wide, const struct linear *up, const struct linear *down,
                         enum activation activation);

/* attention.c */
void cpu_attention(struct lane *lane, struct tensor *out, const struct tensor *qkv,
                   const struct packed_batch *batch, size_t heads,
                   enum compute_precision precision);

/* rowwise.c */
void cpu_embed_rows(struct lane *lane, struct tensor *out, const struct packed_batch *batch,
                    const struct embedding_tables *tables);
void cpu_residual_layernorm(struct lane *lane, struct tensor *x, const struct tensor *y,
                            const float *gamma, const float *beta, float epsilon);
void cpu_pool(struct lane *lane, struct tensor *out, const struct tensor *x,
              const struct packed_batch *batch, enum pooling pooling);
void cpu_normalize(struct lane *lane, struct tensor *x);
/* One row of a matrix as float32. */
void widen_row(const struct kernels *k, const struct host_matrix *matrix, size_t row, float *out);
