/* Vectors of items and people from who chose what, and of new items from what they are kin to.
 *
 * Of the `basis`, the items that were chosen most, G_ij counts the people who chose both: two hops,
 * from an item to its people to their items. With its greatest eigenvalues l and eigenvectors Z,
 *
 *     V = Z sqrt(l / (l + KIN_RIDGE))            [basis][rank]
 *
 * is the space in which a person is the sum of what was chosen, and products of people and items
 * are the choices, smoothed: V V' is (G + ridge)^-1 G but for the small eigenvalues. An item that
 * is not of the basis has no part in G, and is put there by what is known of it, by a Gaussian
 * process:
 *
 *     v = k (K + KIN_NOISE)^-1 V,   k_i = K(item, basis item i)
 *     K(a, b) = exp(2 (t_a . t_b - 1) + 0.6 (g_a . g_b - 1) + 0.6 (exp(-(y_a - y_b)^2 / 50) - 1))
 *
 * t the text, g the genres (of equal weight, length 1), y the year; what is not known is unlike
 * everything. Nothing is drawn but where the eigenvectors are looked for from, with a fixed seed.
 * The content half is that of "learning attribute-to-feature mappings" (Gantner et al., ICDM 2010),
 * with another regression. */
#pragma once

#include "akin/engine.h"
#include "base/memory.h"
#include "base/status.h"
#include "recommend/histories.h"

struct kernels;
struct thread_pool;

enum { KIN_BASIS_MAX = 2048, KIN_RANK_MAX = 128 };

/* What is known of an item beside who chose it. */
struct kin_item {
    const float *text;          /* [dim] length 1 or zeros */
    uint64_t genres;            /* a bit for each, by the hash of its name */
    int year;                   /* 0: not known */
};

struct kin_lesson {
    const struct kernels *kernels;
    struct thread_pool *pool;
    const struct histories *histories;
    const struct kin_item *items;       /* [histories->item_count] */
    size_t dim;
    struct akin_progress progress;
};

/* All that a new item is placed by. */
struct kin {
    size_t dim, basis, rank;
    float *texts;               /* [basis][dim] */
    uint64_t *genres;           /* [basis] */
    int32_t *years;             /* [basis] */
    float *weights;             /* [rank][basis] ((K + noise)^-1 V)' */
    const float **rows;         /* [basis] of texts, then [rank] of weights */
};

/* *vectors [items][rank], to be freed, of every item of the lesson. The same bits for any number
 * of threads. AKIN_ARGUMENT: nothing was chosen; AKIN_CANCELLED. */
enum akin_status kin_learn(const struct kin_lesson *lesson, struct kin *kin, float **vectors,
                           struct akin_error *error);
void kin_deinit(struct kin *kin);
/* For readers of files: room for all, zeros, and rows. */
enum akin_status kin_init(size_t dim, size_t basis, size_t rank, struct kin *kin,
                          struct akin_error *error);

uint64_t kin_genres(const char *const *genres, size_t count);
/* The vector [rank] of an item that nobody chose; scratch [basis]. Allocates nothing. */
void kin_place(const struct kin *kin, const struct kernels *kernels, const struct kin_item *item,
               float *vector, float *scratch);
/* The sum of the vectors of a past, to [rank]. */
void kin_person(const struct kernels *kernels, const float *vectors, size_t rank,
                const uint32_t *history, size_t count, float *to);
