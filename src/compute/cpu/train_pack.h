/* One of the packing loops of train_kernels.h, written over whatever the including file defines and
 * undefines again: PACK_NAME, PACK_FROM and PACK_TO (elements), PACK_ROWS (1, or 2 for pairs),
 * PACK_LOAD(x, stride, both, live) of the columns of one row or of two (of which the second may lie
 * behind the end), and PACK_STORE. A few pieces of at most sixteen columns pass at once, because
 * each row begins a new line. */

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
                                                const struct piece *pieces, const int count)
{
    for (size_t r = 0; r < rows; r += PACK_ROWS) {
        bool both = r + 1 < rows;
        (void)both;
#pragma GCC unroll 4
        for (int p = 0; p < count; p++)
            PACK_STORE(out + pieces[p].to, pieces[p].live,
                       PACK_LOAD(x + pieces[p].from, stride, both, pieces[p].live));
        x += PACK_ROWS * stride;
        out += width;
    }
}

static void PACK_NAME(PACK_TO *out, size_t width, size_t step, const PACK_FROM *x, size_t stride,
                      size_t rows, size_t cols)
{
    struct piece pieces[PACK_PIECES];
    int count = 0;
    for (size_t c = 0; c < cols;) {
        size_t live = smaller(smaller(LANES, cols - c), width - c % width);
        pieces[count++] = (struct piece){ c, c / width * step + c % width, live };
        c += live;
        if (count == PACK_PIECES) {
            PACK_JOIN(PACK_NAME, pieces)(out, width, x, stride, rows, pieces, PACK_PIECES);
            count = 0;
        }
    }
    for (int p = 0; p < count; p++)
        PACK_JOIN(PACK_NAME, pieces)(out, width, x, stride, rows, pieces + p, 1);
}

#undef PACK_JOIN
#undef PACK_JOIN2
#undef PACK_NAME
#undef PACK_FROM
#undef PACK_TO
#undef PACK_ROWS
#undef PACK_LOAD
#undef PACK_STORE
