/* The graph of a catalogue, as requests use it: graph_sage.h and graph_kin.h together, and what
 * they say of items that nobody has chosen yet.
 *
 * A person's score of an item is
 *     h_u . h_i  +  10 cos(mean of the texts of the past, t_i)  +  GRAPH_KIN p . v_i / |p|
 * h of graph_sage.h; p the sum of the vectors of the past and v of graph_kin.h. An item is new
 * where nobody had chosen it when the graph was learned, and it has a text. Otherwise a request
 * knows such an item by its text alone; in the place of its cosine with the person stands, with the
 * same mean over all new items and about the same spread,
 *     mean cosine + spread (score - mean score)
 * so that new items change places among each other, and hardly with the others. */
#pragma once

#include "recommend/graph_bytes.h"
#include "recommend/graph_kin.h"
#include "recommend/graph_place.h"

struct backend;
struct catalog;
struct split_text;

struct graph_model {
    size_t items, dim, rank;
    struct graph_sage sage;
    struct graph_bytes user;    /* its tower of people, once learned or read */
    struct kin kin;
    float *vectors;             /* [items][dim + rank] h, then v */
    uint8_t *fresh;             /* [items] 1: it has a text, and nobody had chosen it */
    float *middle;              /* [2 dim + rank] the mean of h, v and t over the new items */
    float spread;               /* 0: no item is new */
};

struct graph_model_lesson {
    const struct backend *backend;
    const struct catalog *catalog;
    const struct histories *histories;
    const struct split_text *text;      /* with a space; its items are those of the histories */
    uint64_t seed;
    struct graph_card card;             /* that places the items */
    struct akin_progress progress;
};

/* On the CPU the same bits whatever the threads. AKIN_ARGUMENT: too little to learn from;
 * AKIN_CANCELLED. */
enum akin_status graph_model_learn(const struct graph_model_lesson *lesson,
                                   struct graph_model *model, struct akin_error *error);
/* For readers of files: room for all, zeros. */
enum akin_status graph_model_init(size_t items, size_t dim, size_t basis, size_t rank,
                                  struct graph_model *model, struct akin_error *error);
void graph_model_deinit(struct graph_model *model);
uint64_t graph_model_bytes(const struct graph_model *model);

/* A person; the memory is used again for the next. */
struct graph_person {
    float *vector;              /* [dim + rank] h_u, then p / |p|, GRAPH_KIN times */
    float *mean;                /* [dim] of the texts, of length 10 */
    float *scratch;             /* [graph_bytes_scratch(dim)] */
    int8_t *row;                /* [graph_row_bytes] of an item that is taken */
    size_t count;               /* of the past; 0: nothing is said */
    float middle;               /* the mean score of the new items */
};

bool graph_person_init(const struct graph_model *model, struct graph_person *person);
void graph_person_deinit(struct graph_person *person);
/* A past, one after the other: begin, take each item with its text, end. Allocates nothing. What is
 * taken is rounded to bytes first: graph_past.h has them ready. */
void graph_person_begin(const struct graph_model *model, struct graph_person *person);
void graph_person_take(const struct graph_model *model, const struct kernels *kernels,
                       struct graph_person *person, uint32_t item, const float *text);
void graph_person_end(const struct graph_model *model, const struct kernels *kernels,
                      struct graph_person *person);

/* Take, in two steps. */
static inline size_t graph_row_bytes(const struct graph_model *model)
{
    return model->dim + model->rank + 2 * sizeof(float);
}
void graph_row_make(const struct graph_model *model, uint32_t item, const float *text,
                    int8_t *row);
void graph_person_add(const struct graph_model *model, const struct kernels *kernels,
                      struct graph_person *person, const int8_t *row);

/* Has what will be asked of an item soon brought near. */
static inline void graph_fetch(const struct graph_model *model, uint32_t item, const float *text)
{
    const float *row = model->vectors + item * (model->dim + model->rank);
    for (size_t at = 0; at < model->dim; at += 16)
        __builtin_prefetch(text + at);
    for (size_t at = 0; at < model->dim + model->rank; at += 16)
        __builtin_prefetch(row + at);
}

/* Of a person with a past. */
float graph_model_score(const struct graph_model *model, const struct kernels *kernels,
                  const struct graph_person *person, uint32_t item, const float *text);
/* The mean of the cosines of `vector` [dim] with the texts of the new items. */
float graph_mean_text(const struct graph_model *model, const struct kernels *kernels,
                      const float *vector);
/* What stands in the place of a new item's cosine. */
static inline float graph_instead(const struct graph_model *model,
                                  const struct graph_person *person, float mean_text, float score)
{
    return mean_text +
           model->spread * (score - person->middle);
}
