/* One micro-kernel of train_kernels.h, written over whatever the including file defines and
 * undefines again: TILE_NAME, TILE_TYPE (of the operands' elements), TILE_VECTOR of them,
 * TILE_LOAD, TILE_LOAD_FIRST, TILE_SET, and TILE_STEP(sum, a, b), which adds the products; and once
 * per instruction set v16 with its functions, TILE_ROWS and TILE_VECTORS. An outer product: an
 * element of the left is spread over a register and meets TILE_VECTORS registers of the right. */

#ifndef TILE_PRODUCT
#define TILE_PRODUCT
/* What a micro-kernel is called with. */
struct product {
    float *out;
    const void *left, *right;
    const float *bias;
    size_t out_stride, left_k, right_k, depth, cols;
    bool accumulate;
};
#endif

#define TILE_JOIN2(a, b) a##_##b
#define TILE_JOIN(a, b) TILE_JOIN2(a, b)

/* `rows`, `full` and `left_row` where it is 1 are constants where this is inlined, so that the sums
 * are registers. */
ALWAYS_INLINE void TILE_JOIN(TILE_NAME, tile)(const struct product *p, const int rows,
                                              const bool full, size_t left_row)
{
    v16 sums[TILE_ROWS][TILE_VECTORS];
    size_t live[TILE_VECTORS], left_k = p->left_k, right_k = p->right_k;
    const TILE_TYPE *left = p->left, *right = p->right;
#pragma GCC unroll 4
    for (size_t v = 0; v < TILE_VECTORS; v++)
        live[v] = full ? 16 : p->cols > 16 * v ? smaller(p->cols - 16 * v, 16) : 0;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < TILE_VECTORS; v++) {
            const float *start = p->accumulate ? p->out + (size_t)r * p->out_stride : p->bias;
            sums[r][v] = !start ? v_set(0)
                         : full ? v_load(start + 16 * v)
                                : v_load_first(start + 16 * v, live[v]);
        }
    for (size_t k = 0; k < p->depth; k++) {
        TILE_VECTOR b[TILE_VECTORS];
#pragma GCC unroll 4
        for (size_t v = 0; v < TILE_VECTORS; v++)
        {
            b[v] = full ? TILE_LOAD(right + 16 * v) : TILE_LOAD_FIRST(right + 16 * v, live[v]);
            __builtin_prefetch(right + 16 * v + 16 * right_k);
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            TILE_VECTOR a = TILE_SET(left + (size_t)r * left_row);
#pragma GCC unroll 4
            for (int v = 0; v < TILE_VECTORS; v++)
                sums[r][v] = TILE_STEP(sums[r][v], a, b[v]);
        }
        left += left_k;
        right += right_k;
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < TILE_VECTORS; v++) {
            float *to = p->out + (size_t)r * p->out_stride + 16 * v;
            if (full)
                v_store(to, sums[r][v]);
            else
                v_store_first(to, live[v], sums[r][v]);
        }
}

#define TILE_CASE(n)                                                                             \
    case n:                                                                                      \
        if (p.cols == 16 * TILE_VECTORS && left_row == 1)                                        \
            TILE_JOIN(TILE_NAME, tile)(&p, n, true, 1);                                          \
        else if (p.cols == 16 * TILE_VECTORS)                                                    \
            TILE_JOIN(TILE_NAME, tile)(&p, n, true, left_row);                                   \
        else                                                                                     \
            TILE_JOIN(TILE_NAME, tile)(&p, n, false, left_row);                                  \
        break;

static void TILE_NAME(float *out, size_t out_stride, const TILE_TYPE *left, size_t left_row,
                      size_t left_k, const TILE_TYPE *right, size_t right_k, size_t depth,
                      size_t rows, size_t cols, const float *bias, bool accumulate)
{
    struct product p = { .out = out, .out_stride = out_stride, .left = left, .left_k = left_k,
                         .right = right, .right_k = right_k, .depth = depth, .cols = cols,
                         .bias = bias, .accumulate = accumulate };
    switch (rows) {
        TILE_CASES(TILE_CASE)
    }
}

#undef TILE_CASE
#undef TILE_JOIN
#undef TILE_JOIN2
#undef TILE_NAME
#undef TILE_TYPE
#undef TILE_VECTOR
#undef TILE_LOAD
#undef TILE_LOAD_FIRST
#undef TILE_SET
#undef TILE_STEP
