/* What the files of the CPU backend share. Nothing outside src/compute/cpu includes it. */
#pragma once

#include "base/memory.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"

struct cpu_backend {
    struct backend base;        /* first: a struct backend * is cast back */
    struct kernels kernels;
    struct thread_pool *pool;
};

struct linear {
    const struct kernels *kernels;  /* the backend's; panels have its width */
    enum compute_precision precision;
    size_t in, out;
    float *panels;              /* [ceil(out / nr)][in][nr], zeros behind the last column */
    float *bias;                /* [ceil(out / nr) * nr] */
};

/* Attention works on at most this many keys at a time, and on this many dimensions of a head. */
enum { ATTENTION_KEYS = 256, ATTENTION_DIMS = 128 };

struct attention_scratch {
    float *key_panels;      /* [panel][ATTENTION_DIMS][nr]: the transposed keys of a block */
    float *value_panels;    /* [panel][ATTENTION_KEYS][nr] */
    float *scores;          /* [mr][ATTENTION_KEYS] */
    float *max, *sum;       /* [TOKENS_MAX]: the running softmax of each query */
};

struct lane {
    struct cpu_backend *backend;
    struct arena tensors;
    struct attention_scratch attention;
    float *scratch;         /* the one block behind `attention` */
    float *row;             /* [DIMENSION_MAX] */
};

static inline const struct kernels *lane_kernels(const struct lane *lane)
{
    return &lane->backend->kernels;
}

/* linear.c */
enum akin_status cpu_linear_create(struct backend *backend, const struct host_matrix *weight,
                                   const float *bias, enum compute_precision precision,
                                   struct linear **linear, struct akin_error *error);
void cpu_linear_destroy(struct linear **linear);
size_t cpu_linear_bytes(const struct linear *linear);
void cpu_linear(struct lane *lane, struct tensor *out, const struct tensor *x,
                const struct linear *weights, enum activation activation);

/* attention.c */
bool attention_scratch_init(struct attention_scratch *scratch, const struct kernels *k,
                            float **block);
void cpu_attention(struct lane *lane, struct tensor *out, const struct tensor *qkv,
                   const struct packed_batch *batch, size_t heads);

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
