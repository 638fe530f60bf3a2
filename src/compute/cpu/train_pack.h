/* One of the packing loops of train_kernels.h, written over whatever the including file defines and
 * undefines again: PACK_NAME, PACK_FROM and PACK_TO (elements), PACK_ROWS (1, or 2 for pairs),
 * PACK_VECTOR, PACK_LOAD(x, stride, both, live) of the columns of one row or of two (of which the
 * second may lie behind the end), PACK_STORE, and PACK_SUM(sum, .., packed). A few pieces of at
 * most sixteen columns pass at once, so that their sums are independent. */

#define PACK_JOIN2(a, b) a##_##b
#define PACK_JOIN(a, b) PACK_JOIN2(a, b)

#ifndef PACK_PIECES
#define PACK_PIECES 4
/* Columns that lie together on both sides. */
struct piece {
    size_t from, to, live;
};
#endif

ALWAYS_INLINE void PACK_JOIN(PACK_NAME, pieces)(PACK_TO *out, size_t width, const PACK_FROM *x,
                                                size_t stride, size_t rows,
                                                const struct piece *pieces, const int count,
                                                float *sums)
{
    v16 total[PACK_PIECES];
#pragma GCC unroll 4
    for (int p = 0; p < count; p++)
        total[p] = sums ? v_load_first(sums + pieces[p].from, pieces[p].live) : v_set(0);
    for (size_t r = 0; r < rows; r += PACK_ROWS) {
        bool both = r + 1 < rows;
        (void)both;
#pragma GCC unroll 4
        for (int p = 0; p < count; p++) {
            const PACK_FROM *from = x + pieces[p].from;
            size_t live = pieces[p].live;
            PACK_VECTOR packed = PACK_LOAD(from, stride, both, live);
            PACK_STORE(out + pieces[p].to, live, packed);
            total[p] = PACK_SUM(total[p], from, stride, both, live, packed);
        }
        x += PACK_ROWS * stride;
        out += width;
    }
#pragma GCC unroll 4
    for (int p = 0; p < count && sums; p++)
        v_store_first(sums + pieces[p].from, pieces[p].live, total[p]);
}

static void PACK_NAME(PACK_TO *out, size_t width, size_t step, const PACK_FROM *x, size_t stride,
                      size_t rows, size_t cols, float *sums)
{
    struct piece pieces[PACK_PIECES];
    int count = 0;
    for (size_t c = 0; c < cols;) {
        size_t live = smaller(smaller(LANES, cols - c), width - c % width);
        pieces[count++] = (struct piece){ c, c / width * step + c % width, live };
        c += live;
        if (count == PACK_PIECES) {
            PACK_JOIN(PACK_NAME, pieces)(out, width, x, stride, rows, pieces, PACK_PIECES, sums);
            count = 0;
        }
    }
    for (int p = 0; p < count; p++)
        PACK_JOIN(PACK_NAME, pieces)(out, width, x, stride, rows, pieces + p, 1, sums);
}

#undef PACK_JOIN
#undef PACK_JOIN2
#undef PACK_NAME
#undef PACK_FROM
#undef PACK_TO
#undef PACK_ROWS
#undef PACK_VECTOR
#undef PACK_LOAD
#undef PACK_STORE
#undef PACK_SUM
