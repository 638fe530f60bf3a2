/* Near neighbours of every row, roughly: each row joins the leaves of its two nearest leaders, and
 * all rows of a leaf are compared with each other. Follows the idea of PiPNN (Rubel et al., 2026):
 * dense products of small sets are much cheaper than as many walks through a growing graph. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "index/graph_builder.h"

enum { LEAF_ROWS = 1000, LEAF_ROWS_MAX = 1536, LEADERS_MAX = 8192, TILE = 4, AHEAD = 6 };

struct knn {
    struct graph_builder *builder;
    uint32_t *leaders;          /* [leader_count] */
    unsigned char *leader_rows; /* [leader_count][padded], side by side for the cache's sake */
    float *leader_scale, *leader_square;
    size_t leader_count;
    uint32_t *leaf;             /* [count][KNN_LEAVES]; the leaf of each membership */
    uint32_t *members;          /* [count * KNN_LEAVES] memberships, by leaf */
    size_t *leaf_begin;         /* [leaves + 1] */
    size_t leaves;
    struct graph_near *slots;   /* [count * KNN_LEAVES][KNN_NEAREST] of each membership */
    float *factors;             /* [workers][TILE][row_capacity] scales and squares of a leaf */
    int32_t *sums;              /* [workers][TILE][row_capacity] */
    unsigned char *rows;        /* [workers][LEAF_ROWS_MAX][padded] */
    size_t row_capacity;
    size_t first;               /* item of the current part */
};

/* Keeps the KNN_NEAREST least; `worst` is the last one's distance. */
static void keep(struct graph_near *list, size_t *count, size_t capacity, struct graph_near entry)
{
    size_t at = *count < capacity ? (*count)++ : capacity - 1;
    for (; at && list[at - 1].distance > entry.distance; at--)
        list[at] = list[at - 1];
    list[at] = entry;
}

/* Signed bytes of up to TILE rows, and 128 times their sums. */
static void load_tile(const struct graph_view *view, const uint32_t *ids, size_t count,
                      int8_t *tile, int32_t *sums)
{
    for (size_t t = 0; t < count; t++) {
        const uint8_t *row = node_row(view, node_at(view, ids[t]));
        int32_t sum = 0;
        for (size_t i = 0; i < view->padded; i++) {
            tile[t * view->padded + i] = (int8_t)(row[i] - 128);
            sum += row[i] - 128;
        }
        sums[t] = 128 * sum;
    }
}

/* The two nearest leaders of four rows. */
static void assign(void *context, size_t part, int worker_number)
{
    struct knn *knn = context;
    size_t item = knn->first + part;
    struct graph_builder *b = knn->builder;
    struct graph_worker *worker = &b->workers[worker_number];
    int32_t *dots = knn->sums + (size_t)worker_number * TILE * knn->row_capacity, sums[TILE];
    size_t end = (item + 1) * SLAB_ROWS < b->count ? (item + 1) * SLAB_ROWS : b->count;
    for (size_t row = item * SLAB_ROWS; row < end; row += TILE) {
        size_t live = end - row < TILE ? end - row : TILE;
        uint32_t ids[TILE];
        for (size_t t = 0; t < live; t++)
            ids[t] = (uint32_t)(row + t);
        load_tile(&b->view, ids, live, worker->tile, sums);
        b->view.kernels->dot_tile_u8s8(dots, knn->row_capacity, worker->tile, b->view.padded, live,
                                  knn->leader_rows, b->view.padded, NULL, knn->leader_count,
                                  b->view.padded);
        for (size_t t = 0; t < live; t++) {
            struct graph_near nearest[KNN_LEAVES];
            size_t found = 0;
            float scale = 2 * node_tail(&b->view, node_at(&b->view, ids[t]))->scale;
            for (size_t l = 0; l < knn->leader_count; l++) {
                float distance = knn->leader_square[l] - scale * knn->leader_scale[l] *
                    (float)(dots[t * knn->row_capacity + l] - sums[t]);
                if (found < KNN_LEAVES || distance < nearest[found - 1].distance)
                    keep(nearest, &found, KNN_LEAVES, (struct graph_near){ distance, (uint32_t)l });
            }
            for (size_t f = 0; f < KNN_LEAVES; f++)
                knn->leaf[(row + t) * KNN_LEAVES + f] = f < found ? nearest[f].id : GRAPH_NO_NODE;
        }
    }
}

/* All pairs of a leaf. */
static void compare(void *context, size_t part, int worker_number)
{
    struct knn *knn = context;
    size_t leaf = knn->first + part;
    struct graph_builder *b = knn->builder;
    const struct graph_view *view = &b->view;
    struct graph_worker *worker = &b->workers[worker_number];
    const uint32_t *members = knn->members + knn->leaf_begin[leaf];
    size_t count = knn->leaf_begin[leaf + 1] - knn->leaf_begin[leaf], padded = view->padded;
    unsigned char *rows = knn->rows + (size_t)worker_number * LEAF_ROWS_MAX * padded;
    int32_t *dots = knn->sums + (size_t)worker_number * TILE * knn->row_capacity, sums[TILE];
    float *scale = knn->factors + (size_t)worker_number * TILE * knn->row_capacity;
    float *square = scale + knn->row_capacity;
    for (size_t i = 0; i < count; i++) {
        const unsigned char *node = node_at(view, members[i] / KNN_LEAVES);
        if (i + AHEAD < count)
            graph_fetch_row(view, members[i + AHEAD] / KNN_LEAVES);
        memcpy(rows + i * padded, node_row(view, node), padded);
        scale[i] = node_tail(view, node)->scale;
        square[i] = node_tail(view, node)->square;
    }
    for (size_t i = 0; i < count; i += TILE) {
        size_t live = count - i < TILE ? count - i : TILE;
        uint32_t ids[TILE];
        for (size_t t = 0; t < live; t++)
            ids[t] = members[i + t] / KNN_LEAVES;
        load_tile(view, ids, live, worker->tile, sums);
        view->kernels->dot_tile_u8s8(dots, knn->row_capacity, worker->tile, padded, live, rows,
                                     padded, NULL, count, padded);
        for (size_t t = 0; t < live; t++) {
            struct graph_near *slots = knn->slots + (size_t)members[i + t] * KNN_NEAREST;
            size_t found = 0;
            float worst = INFINITY;
            for (size_t j = 0; j < count; j++) {
                float distance = square[i + t] + square[j] - 2 * scale[i + t] * scale[j] *
                    (float)(dots[t * knn->row_capacity + j] - sums[t]);
                if (!(distance < worst) || j == i + t)
                    continue;
                keep(slots, &found, KNN_NEAREST,
                     (struct graph_near){ distance, members[j] / KNN_LEAVES });
                worst = found == KNN_NEAREST ? slots[found - 1].distance : INFINITY;
            }
            for (; found < KNN_NEAREST; found++)
                slots[found] = (struct graph_near){ INFINITY, GRAPH_NO_NODE };
        }
    }
}

/* Leaders are rows drawn at random, without repetition. */
static void draw_leaders(struct knn *knn)
{
    struct graph_builder *b = knn->builder;
    struct rng rng;
    rng_seed(&rng, b->header.seed ^ 0x6b6e6e);
    size_t taken = 0;
    for (size_t row = 0; row < b->count && taken < knn->leader_count; row++)
        if (rng_below(&rng, b->count - row) < knn->leader_count - taken)
            knn->leaders[taken++] = (uint32_t)row;
    for (size_t l = 0; l < taken; l++) {
        const unsigned char *node = node_at(&b->view, knn->leaders[l]);
        memcpy(knn->leader_rows + l * b->view.padded, node_row(&b->view, node), b->view.padded);
        knn->leader_scale[l] = node_tail(&b->view, node)->scale;
        knn->leader_square[l] = node_tail(&b->view, node)->square;
    }
}

/* Memberships in the order of their leaves; leaves that are too large are dealt out like cards. */
static bool sort_members(struct knn *knn)
{
    size_t total = knn->builder->count * KNN_LEAVES, leaves = 0;
    size_t *sizes = memory_alloc(knn->leader_count + 1, sizeof *sizes);
    size_t *first = memory_alloc(knn->leader_count + 1, sizeof *first);
    if (!sizes || !first)
        goto done;
    for (size_t i = 0; i < total; i++)
        if (knn->leaf[i] != GRAPH_NO_NODE)
            sizes[knn->leaf[i]]++;
    for (size_t l = 0; l < knn->leader_count; l++) {
        first[l] = leaves;
        leaves += (sizes[l] + LEAF_ROWS_MAX - 1) / LEAF_ROWS_MAX;
        sizes[l] = 0;
    }
    first[knn->leader_count] = leaves;
    knn->leaves = leaves;
    knn->leaf_begin = memory_alloc(leaves + 2, sizeof *knn->leaf_begin);
    if (!knn->leaf_begin)
        goto done;
    for (size_t i = 0; i < total; i++) {
        uint32_t l = knn->leaf[i];
        if (l == GRAPH_NO_NODE)
            continue;
        size_t parts = first[l + 1] - first[l];
        knn->leaf[i] = (uint32_t)(first[l] + sizes[l]++ % parts);
        knn->leaf_begin[knn->leaf[i] + 2]++;
    }
    for (size_t l = 2; l < leaves + 2; l++)
        knn->leaf_begin[l] += knn->leaf_begin[l - 1];
    for (size_t i = 0; i < total; i++)
        if (knn->leaf[i] != GRAPH_NO_NODE)
            knn->members[knn->leaf_begin[knn->leaf[i] + 1]++] = (uint32_t)i;
done:
    memory_free(sizes);
    memory_free(first);
    return knn->leaf_begin != NULL;
}

/* What a row's leaves gave, as its list. */
static void gather(struct graph_builder *b, size_t row, struct graph_worker *worker, void *context)
{
    const struct knn *knn = context;
    size_t count = 0;
    for (size_t f = 0; f < KNN_LEAVES; f++)
        for (size_t i = 0; i < KNN_NEAREST; i++) {
            struct graph_near near = knn->slots[(row * KNN_LEAVES + f) * KNN_NEAREST + i];
            if (knn->leaf[row * KNN_LEAVES + f] != GRAPH_NO_NODE && near.id != GRAPH_NO_NODE)
                worker->near[count++] = near;
        }
    count = graph_sort(worker->near, count, (uint32_t)row);
    b->list_counts[row] =
        (uint8_t)graph_prune(b, worker->near, count, b->lists + row * EDGES, worker);
}

/* fn for `count` items, asking progress between parts of them. */
static enum akin_status run(struct knn *knn, const char *stage, size_t count,
                            void (*fn)(void *, size_t, int), struct akin_error *error)
{
    struct graph_builder *b = knn->builder;
    const struct akin_progress *progress = &b->build->settings.progress;
    size_t part = (size_t)b->worker_count * 16;
    for (knn->first = 0; knn->first < count; knn->first += part) {
        if (progress->update && !progress->update(progress->cookie, stage, knn->first, count))
            return error_set(error, AKIN_CANCELLED, "the graph was stopped before it was finished");
        thread_pool_each(b->pool, count - knn->first < part ? count - knn->first : part, fn, knn);
    }
    return AKIN_OK;
}

enum akin_status graph_knn(struct graph_builder *b, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct knn knn = { .builder = b };
    size_t workers = (size_t)b->worker_count, slabs = (b->count + SLAB_ROWS - 1) / SLAB_ROWS;
    knn.leader_count = (b->count * KNN_LEAVES + LEAF_ROWS - 1) / LEAF_ROWS;
    if (knn.leader_count > LEADERS_MAX)
        knn.leader_count = LEADERS_MAX;
    knn.row_capacity = knn.leader_count > LEAF_ROWS_MAX ? knn.leader_count : LEAF_ROWS_MAX;
    knn.leaders = memory_alloc(knn.leader_count, sizeof *knn.leaders);
    knn.leader_rows = memory_alloc_aligned(knn.leader_count, b->view.padded);
    knn.leader_scale = memory_alloc(knn.leader_count, sizeof *knn.leader_scale);
    knn.leader_square = memory_alloc(knn.leader_count, sizeof *knn.leader_square);
    knn.leaf = memory_alloc(b->count, KNN_LEAVES * sizeof *knn.leaf);
    knn.members = memory_alloc(b->count, KNN_LEAVES * sizeof *knn.members);
    knn.slots = memory_alloc_aligned(b->count, KNN_LEAVES * KNN_NEAREST * sizeof *knn.slots);
    knn.factors = memory_alloc_aligned(workers * TILE * knn.row_capacity, sizeof *knn.factors);
    knn.sums = memory_alloc_aligned(workers * TILE * knn.row_capacity, sizeof *knn.sums);
    knn.rows = memory_alloc_aligned(workers * LEAF_ROWS_MAX, b->view.padded);
    if (!knn.leaders || !knn.leader_rows || !knn.leader_scale || !knn.leader_square || !knn.leaf ||
        !knn.members || !knn.slots || !knn.factors || !knn.sums || !knn.rows)
        TRY_DONE(error_memory(error));
    draw_leaders(&knn);
    TRY_DONE(run(&knn, "leaves", slabs, assign, error));
    if (!sort_members(&knn))
        TRY_DONE(error_memory(error));
    TRY_DONE(run(&knn, "near neighbours", knn.leaves, compare, error));
    TRY_DONE(graph_each_row(b, "first edges", gather, &knn, error));
done:
    memory_free(knn.leaders);
    memory_free(knn.leader_rows);
    memory_free(knn.leader_scale);
    memory_free(knn.leader_square);
    memory_free(knn.leaf);
    memory_free(knn.members);
    memory_free(knn.leaf_begin);
    memory_free(knn.slots);
    memory_free(knn.factors);
    memory_free(knn.sums);
    memory_free(knn.rows);
    return status;
}
