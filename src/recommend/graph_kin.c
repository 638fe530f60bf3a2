/* See graph_kin.h. Eigenvectors by orthogonal iteration: G times the block, made orthonormal again,
 * a fixed number of times; those that belong together are then in it to the accuracy that matters
 * here, which a test compares with the closed form. */
#include "recommend/graph_kin.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/cpu/kernels.h"
#include "recommend/solve.h"
#include "recommend/taste.h"

enum { ITERATIONS = 12, PLACED_AT_ONCE = 256, YEARS_APART = 32 };

#define KIN_RIDGE 200.0f
#define KIN_NOISE 2.0f
#define TEXT_WEIGHT 2.0f
#define GENRE_WEIGHT 0.6f
#define YEAR_WEIGHT 0.6f
/* The greatest exponent, with room for a text that is a little longer than 1. */
#define TOP (TEXT_WEIGHT + GENRE_WEIGHT + YEAR_WEIGHT + 0.01f)

struct kin_learner {
    const struct kin_lesson *lesson;
    struct kin kin;
    uint32_t *items;            /* [basis] numbers, ascending */
    uint32_t *places;           /* [items] in the basis, or UINT32_MAX */
    float *square;              /* [basis][basis] G, then K and its inverse */
    float *block, *next;        /* [rank][basis] */
    const float **rows;         /* [rank] of the block */
    float *placed;              /* [threads][basis] */
    float *vectors;             /* [items][rank] */
};

/* ---- use -------------------------------------------------------------------------------- */

void kin_deinit(struct kin *kin)
{
    memory_free(kin->texts);
    memory_free(kin->genres);
    memory_free(kin->years);
    memory_free(kin->weights);
    memory_free(kin->rows);
    *kin = (struct kin){ 0 };
}

enum akin_status kin_init(size_t dim, size_t basis, size_t rank, struct kin *kin,
                          struct akin_error *error)
{
    size_t texts, weights;
    *kin = (struct kin){ .dim = dim, .basis = basis, .rank = rank };
    if (!size_mul(basis, dim, &texts) || !size_mul(basis, rank, &weights))
        return error_memory(error);
    kin->texts = memory_alloc(texts, sizeof *kin->texts);
    kin->genres = memory_alloc(basis, sizeof *kin->genres);
    kin->years = memory_alloc(basis, sizeof *kin->years);
    kin->weights = memory_alloc(weights, sizeof *kin->weights);
    kin->rows = memory_alloc(basis + rank, sizeof *kin->rows);
    if (!kin->texts || !kin->genres || !kin->years || !kin->weights || !kin->rows) {
        kin_deinit(kin);
        return error_memory(error);
    }
    for (size_t i = 0; i < basis; i++)
        kin->rows[i] = kin->texts + i * dim;
    for (size_t d = 0; d < rank; d++)
        kin->rows[basis + d] = kin->weights + d * basis;
    return AKIN_OK;
}

uint64_t kin_genres(const char *const *genres, size_t count)
{
    uint64_t bits = 0;
    for (size_t g = 0; g < count; g++)
        bits |= 1ull << hash_bytes(genres[g], strlen(genres[g])) % 64;
    return bits;
}

static float genres_alike(uint64_t a, uint64_t b)
{
    int both = __builtin_popcountll(a & b);
    return both ? (float)both / sqrtf((float)__builtin_popcountll(a) *
                                      (float)__builtin_popcountll(b))
                : 0;
}

static float years_alike(int a, int b)
{
    int apart = abs(a - b);
    return a && b && apart < YEARS_APART ? expf(-(float)(apart * apart) / 50) : 0;
}

/* K of an item and the basis, to row [basis]. */
static void compare(const struct kin *kin, const struct kernels *kernels,
                    const struct kin_item *item, float *row)
{
    kernels->score_dot_f32(row, item->text, 1, kin->rows, kin->basis, kin->dim);
    for (size_t i = 0; i < kin->basis; i++)
        row[i] = TEXT_WEIGHT * fminf(row[i], 1) +
                 GENRE_WEIGHT * genres_alike(item->genres, kin->genres[i]) +
                 YEAR_WEIGHT * years_alike(item->year, kin->years[i]);
    kernels->exp_sum_f32(row, TOP, kin->basis);
}

void kin_place(const struct kin *kin, const struct kernels *kernels, const struct kin_item *item,
               float *vector, float *scratch)
{
    compare(kin, kernels, item, scratch);
    kernels->score_dot_f32(vector, scratch, 1, kin->rows + kin->basis, kin->rank, kin->basis);
}

void kin_person(const struct kernels *kernels, const float *vectors, size_t rank,
                const uint32_t *history, size_t count, float *to)
{
    memset(to, 0, rank * sizeof *to);
    for (size_t e = 0; e < count; e++)
        kernels->add_f32(to, vectors + history[e] * rank, rank);
}

/* ---- the basis -------------------------------------------------------------------------- */

struct chosen {
    size_t count;
    uint32_t item;
};

static int most_first(const void *a, const void *b)
{
    const struct chosen *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static enum akin_status choose_basis(struct kin_learner *l, struct akin_error *error)
{
    const struct histories *h = l->lesson->histories;
    struct chosen *chosen = memory_alloc(h->item_count + 1, sizeof *chosen);
    size_t basis = 0, dim = l->lesson->dim;
    l->places = memory_alloc(h->item_count + 1, sizeof *l->places);
    if (!chosen || !l->places) {
        memory_free(chosen);
        return error_memory(error);
    }
    for (size_t i = 0; i < h->item_count; i++) {
        chosen[i].item = (uint32_t)i;
        l->places[i] = UINT32_MAX;
    }
    for (size_t e = 0; e < h->event_count; e++)
        chosen[h->items[e]].count++;
    qsort(chosen, h->item_count, sizeof *chosen, most_first);
    while (basis < KIN_BASIS_MAX && basis < h->item_count && chosen[basis].count)
        l->places[chosen[basis++].item] = 0;
    memory_free(chosen);
    if (!basis)
        return error_set(error, AKIN_ARGUMENT, "nobody chose anything: there is nothing to learn");
    TRY(kin_init(dim, basis, basis < KIN_RANK_MAX ? basis : KIN_RANK_MAX, &l->kin, error));
    l->items = memory_alloc(basis, sizeof *l->items);
    if (!l->items)
        return error_memory(error);
    for (size_t i = 0, place = 0; i < h->item_count; i++) {
        if (l->places[i] == UINT32_MAX)
            continue;
        const struct kin_item *item = &l->lesson->items[i];
        memcpy(l->kin.texts + place * dim, item->text, dim * sizeof(float));
        l->kin.genres[place] = item->genres;
        l->kin.years[place] = item->year;
        l->items[place] = (uint32_t)i;
        l->places[i] = (uint32_t)place++;
    }
    return AKIN_OK;
}

/* ---- two hops --------------------------------------------------------------------------- */

static enum akin_status count_pairs(struct kin_learner *l, struct akin_error *error)
{
    const struct histories *h = l->lesson->histories;
    size_t *offsets = memory_alloc(h->user_count + 1, sizeof *offsets), count = 0;
    uint32_t *items = memory_alloc(h->event_count, sizeof *items);
    if (!offsets || !items) {
        memory_free(offsets);
        memory_free(items);
        return error_memory(error);
    }
    for (size_t u = 0; u < h->user_count; u++) {
        for (size_t e = h->offsets[u]; e < h->offsets[u + 1]; e++)
            if (l->places[h->items[e]] != UINT32_MAX)
                items[count++] = l->places[h->items[e]];
        offsets[u + 1] = count;
    }
    struct item_lists lists = { h->user_count, l->kin.basis, offsets, items };
    struct closed_form form = { l->lesson->kernels, l->lesson->pool, &lists };
    proximity_gram(&form, NULL, 0, 1, l->square);
    memory_free(offsets);
    memory_free(items);
    return AKIN_OK;
}

/* next [rank][basis] = the block times the square; or, turned, weights. */
static void multiply_row(void *context, size_t i, int worker)
{
    struct kin_learner *l = context;
    size_t basis = l->kin.basis, rank = l->kin.rank;
    float products[KIN_RANK_MAX];
    (void)worker;
    l->lesson->kernels->score_dot_f32(products, l->square + i * basis, 1, l->rows, rank, basis);
    for (size_t d = 0; d < rank; d++)
        l->next[d * basis + i] = products[d];
}

/* Rows of `next`, made orthonormal one after the other (twice, for the rounding), to the block;
 * their lengths before to `sizes`. What is nothing but the others becomes zeros. */
static void orthonormalize(struct kin_learner *l, float sizes[KIN_RANK_MAX])
{
    const struct kernels *k = l->lesson->kernels;
    size_t basis = l->kin.basis;
    for (size_t d = 0; d < l->kin.rank; d++) {
        float *x = l->block + d * basis, product;
        const float *only = x;
        memcpy(x, l->next + d * basis, basis * sizeof *x);
        k->score_dot_f32(&product, x, 1, &only, 1, basis);
        float whole = sqrtf(product);
        for (size_t pass = 0; pass < 2; pass++)
            for (size_t other = 0; other < d; other++) {
                k->score_dot_f32(&product, x, 1, &l->rows[other], 1, basis);
                k->add_scaled_f32(x, l->rows[other], -product, basis);
            }
        k->score_dot_f32(&product, x, 1, &only, 1, basis);
        sizes[d] = sqrtf(product);
        bool there = sizes[d] > 1e-5f * whole && sizes[d] > 0;
        k->scale_f32(x, there ? 1 / sizes[d] : 0, basis);
        sizes[d] = there ? sizes[d] : 0;
    }
}

static enum akin_status tell(const struct kin_learner *l, size_t done, size_t total,
                             struct akin_error *error)
{
    const struct akin_progress *p = &l->lesson->progress;
    if (p->update && !p->update(p->cookie, "placing items", done, total))
        return error_set(error, AKIN_CANCELLED, "interrupted");
    return AKIN_OK;
}

/* The block becomes V'. */
static enum akin_status find_space(struct kin_learner *l, struct akin_error *error)
{
    size_t basis = l->kin.basis, rank = l->kin.rank;
    float sizes[KIN_RANK_MAX];
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < rank * basis; i++)
        l->next[i] = rng_normal(&rng);
    orthonormalize(l, sizes);
    for (size_t round = 0; round < ITERATIONS; round++) {
        thread_pool_each(l->lesson->pool, basis, multiply_row, l);
        orthonormalize(l, sizes);
        TRY(tell(l, 0, l->lesson->histories->item_count, error));
    }
    for (size_t d = 0; d < rank; d++)
        l->lesson->kernels->scale_f32(l->block + d * basis,
                                      sqrtf(sizes[d] / (sizes[d] + KIN_RIDGE)), basis);
    return AKIN_OK;
}

/* ---- from what is known of an item -------------------------------------------------------- */

static void compare_row(void *context, size_t i, int worker)
{
    struct kin_learner *l = context;
    float *row = l->square + i * l->kin.basis;
    (void)worker;
    compare(&l->kin, l->lesson->kernels, &l->lesson->items[l->items[i]], row);
    row[i] += KIN_NOISE;
}

static enum akin_status regress(struct kin_learner *l, struct akin_error *error)
{
    size_t basis = l->kin.basis;
    thread_pool_each(l->lesson->pool, basis, compare_row, l);
    TRY(symmetric_invert(l->lesson->kernels, l->lesson->pool, l->square, basis, error));
    thread_pool_each(l->lesson->pool, basis, multiply_row, l);
    memcpy(l->kin.weights, l->next, l->kin.rank * basis * sizeof(float));
    return AKIN_OK;
}

struct placing {
    struct kin_learner *learner;
    size_t first;
};

static void place_item(void *context, size_t number, int worker)
{
    const struct placing *p = context;
    struct kin_learner *l = p->learner;
    size_t item = p->first + number, rank = l->kin.rank, basis = l->kin.basis;
    float *vector = l->vectors + item * rank;
    if (l->places[item] == UINT32_MAX)
        kin_place(&l->kin, l->lesson->kernels, &l->lesson->items[item], vector,
                  l->placed + (size_t)worker * basis);
    else
        for (size_t d = 0; d < rank; d++)
            vector[d] = l->block[d * basis + l->places[item]];
}

static enum akin_status place_all(struct kin_learner *l, struct akin_error *error)
{
    size_t items = l->lesson->histories->item_count;
    struct placing placing = { .learner = l };
    for (; placing.first < items; placing.first += PLACED_AT_ONCE) {
        size_t rest = items - placing.first;
        thread_pool_each(l->lesson->pool, rest < PLACED_AT_ONCE ? rest : PLACED_AT_ONCE,
                         place_item, &placing);
        TRY(tell(l, placing.first, items, error));
    }
    return AKIN_OK;
}

/* ---- all of it -------------------------------------------------------------------------- */

static enum akin_status learn(struct kin_learner *l, struct akin_error *error)
{
    TRY(choose_basis(l, error));
    size_t basis = l->kin.basis, rank = l->kin.rank, squared, all;
    size_t threads = (size_t)thread_pool_size(l->lesson->pool);
    if (!size_mul(basis, basis, &squared) ||
        !size_mul(l->lesson->histories->item_count, rank, &all))
        return error_memory(error);
    l->square = memory_alloc(squared, sizeof *l->square);
    l->block = memory_alloc(rank * basis, sizeof *l->block);
    l->next = memory_alloc(rank * basis, sizeof *l->next);
    l->rows = memory_alloc(rank, sizeof *l->rows);
    l->placed = memory_alloc(threads * basis, sizeof *l->placed);
    l->vectors = memory_alloc(all, sizeof *l->vectors);
    if (!l->square || !l->block || !l->next || !l->rows || !l->placed || !l->vectors)
        return error_memory(error);
    for (size_t d = 0; d < rank; d++)
        l->rows[d] = l->block + d * basis;
    TRY(count_pairs(l, error));
    TRY(find_space(l, error));
    TRY(regress(l, error));
    return place_all(l, error);
}

enum akin_status kin_learn(const struct kin_lesson *lesson, struct kin *kin, float **vectors,
                           struct akin_error *error)
{
    struct kin_learner l = { .lesson = lesson };
    enum akin_status status = learn(&l, error);
    if (status == AKIN_OK) {
        *kin = l.kin;
        *vectors = l.vectors;
    } else {
        kin_deinit(&l.kin);
        memory_free(l.vectors);
    }
    void *blocks[] = { l.items, l.places, l.square, l.block, l.next, l.rows, l.placed };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        memory_free(blocks[i]);
    return status;
}
