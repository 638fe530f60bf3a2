// What the files of the graph on CUDA share. Rows are padded to whole tiles: what padding rows hold
// is never read by others.
#pragma once

#include "compute/cuda/platform.cuh"

enum { GRAPH_ROWS = 64 };       // rows of every buffer are a multiple of this

struct graph_tower {
    const half_t *up, *down;    // [dim][dim]
    const float *up_bias, *down_bias, *gain, *offset;
};

// Means of rows, in the order of a list.
struct graph_gather {
    const half_t *rows;         // [][dim]
    const half_t *own;          // [][dim]: is added to the mean; NULL: nothing is
    const uint32_t *offsets, *members;
    const uint32_t *list;       // [count] whose means; NULL: of 0, 1, 2 ...
    half_t *out;                // [count][dim]
    size_t count, dim;
};

void graph_mean(platform *p, const graph_gather *gather);

// Whether there is a kernel for the dimension, and the card has the shared memory for it.
bool graph_tower_fits(const platform *p, size_t dim);
// out = norm(x + down(relu(up(x)))) of `rows` rows, in buffers of whole GRAPH_ROWS; of halves and
// floats the one that is not NULL.
void graph_tower_run(platform *p, const graph_tower *tower, const half_t *x, size_t rows,
                     size_t dim, half_t *halves, float *floats);
