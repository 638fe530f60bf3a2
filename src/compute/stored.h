/* Weights that are narrowed already, in a form that knows nothing of any processor's panels: what
 * a linear of eight or sixteen bits can be stored as, and made from again, with the same bits in
 * every product. */
#pragma once

#include "compute/backend.h"

/* How floats become these weights: raise it when that changes, so that files of before are made
 * anew instead of being read. A test holds it against the sum of a small model's weights. */
enum { STORED_METHOD = 2 };

/* int8: weight[r][c] = values[r][c] * scales[r][c / piece] * input_factor[c], about. */
struct stored_linear {
    enum compute_precision precision;   /* COMPUTE_BF16 or COMPUTE_INT8 */
    size_t out, in;
    size_t piece;               /* inputs that share a scale; the last piece may be shorter */
    const void *values;         /* int8_t or bfloat16 [out][in], of any alignment */
    const float *scales;        /* int8: [out][stored_pieces()]; otherwise NULL */
    const float *input_factor;  /* int8: [in], what x is multiplied by first; NULL: ones */
};

static inline size_t stored_pieces(size_t in, size_t piece)
{
    return (in + piece - 1) / piece;
}

/* What `linear` has: sizes, and whether there is an input_factor (a pointer to it, valid as long as
 * the linear). `values` and `scales` are NULL. false: its precision is not stored. */
bool cpu_linear_describe(const struct linear *linear, struct stored_linear *stored);
/* Its weights into values [out][in] and, of int8, scales [out][pieces]. */
void cpu_linear_store(const struct linear *linear, void *values, float *scales);

/* The linear that `stored` came from; `bias` [out] may be NULL. All is copied. AKIN_FORMAT: the
 * pieces are not those that this processor's kernels work with; AKIN_UNSUPPORTED, AKIN_ARGUMENT and
 * AKIN_MEMORY as for linear_create. */
enum akin_status cpu_linear_restore(struct backend *backend, const struct stored_linear *stored,
                                    const float *bias, struct linear **linear,
                                    struct akin_error *error);
