/* Rows and heads of training with AVX-512 F, BW, VL and DQ. */
#include "compute/cpu/train_rows.h"

#include "compute/cpu/vector_avx512.h"
#include "compute/cpu/vector_exp.h"
#include "compute/cpu/vector_philox.h"

enum { TILE_ROWS = 8, TILE_VECTORS = 2 };   /* 16 accumulators */

#include "compute/cpu/train_rows_wide.h"

void train_rows_use_avx512(struct train_row_kernels *k)
{
    use(k);
}
