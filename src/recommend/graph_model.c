/* See graph_model.h. */
#include "recommend/graph_model.h"

#include <math.h>
#include <string.h>

#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "recommend/split_text.h"

enum { COSINES = 10, SAMPLED_PEOPLE = 256, SAMPLED_ITEMS = 512 };

#define GRAPH_KIN 400.0f

/* ---- memory ----------------------------------------------------------------------------- */

enum akin_status graph_model_init(size_t items, size_t dim, size_t basis, size_t rank,
                                  struct graph_model *m, struct akin_error *error)
{
    size_t numbers;
    *m = (struct graph_model){ .items = items, .dim = dim, .rank = rank };
    if (!size_mul(items, dim + rank, &numbers))
        return error_memory(error);
    m->vectors = memory_alloc_aligned(numbers + 1, sizeof *m->vectors);
    m->fresh = memory_alloc(items, sizeof *m->fresh);
    m->middle = memory_alloc(2 * dim + rank, sizeof *m->middle);
    enum akin_status status = m->vectors && m->fresh && m->middle
                                  ? kin_init(dim, basis, rank, &m->kin, error)
                                  : error_memory(error);
    if (status == AKIN_OK)
        status = graph_sage_init(dim, &m->sage, error);
    if (status != AKIN_OK)
        graph_model_deinit(m);
    return status;
}

void graph_model_deinit(struct graph_model *m)
{
    graph_sage_deinit(&m->sage);
    graph_bytes_deinit(&m->user);
    kin_deinit(&m->kin);
    memory_free(m->vectors);
    memory_free(m->fresh);
    memory_free(m->middle);
    *m = (struct graph_model){ 0 };
}

uint64_t graph_model_bytes(const struct graph_model *m)
{
    return ((uint64_t)m->items * (m->dim + m->rank) +
            GRAPH_TOWERS * graph_tower_values(m->dim) +
            (uint64_t)m->kin.basis * (m->dim + m->rank) + 2 * m->user.dim) * sizeof(float) +
           2 * (uint64_t)m->user.dim * m->user.stride;
}

/* ---- people ----------------------------------------------------------------------------- */

bool graph_person_init(const struct graph_model *m, struct graph_person *p)
{
    *p = (struct graph_person){ 0 };
    p->vector = memory_alloc_aligned(m->dim + m->rank, sizeof *p->vector);
    p->mean = memory_alloc_aligned(m->dim, sizeof *p->mean);
    p->scratch = memory_alloc_aligned(graph_bytes_scratch(m->dim), sizeof *p->scratch);
    p->row = memory_alloc_aligned(graph_row_bytes(m), 1);
    if (p->vector && p->mean && p->scratch && p->row)
        return true;
    graph_person_deinit(p);
    return false;
}

void graph_person_deinit(struct graph_person *p)
{
    memory_free(p->vector);
    memory_free(p->mean);
    memory_free(p->scratch);
    memory_free(p->row);
    *p = (struct graph_person){ 0 };
}

void graph_person_begin(const struct graph_model *m, struct graph_person *p)
{
    memset(p->vector, 0, (m->dim + m->rank) * sizeof *p->vector);
    memset(p->mean, 0, m->dim * sizeof *p->mean);
    p->count = 0;
}

void graph_row_make(const struct graph_model *m, uint32_t item, const float *text, int8_t *row)
{
    float scales[2];
    graph_bytes_round(text, m->dim, row, &scales[0]);
    graph_bytes_round(m->vectors + item * (m->dim + m->rank) + m->dim, m->rank, row + m->dim,
                      &scales[1]);
    memcpy(row + m->dim + m->rank, scales, sizeof scales);
}

void graph_person_add(const struct graph_model *m, const struct kernels *kernels,
                      struct graph_person *p, const int8_t *row)
{
    float scales[2];
    memcpy(scales, row + m->dim + m->rank, sizeof scales);
    kernels->add_scaled_s8(p->mean, row, scales[0], m->dim);
    kernels->add_scaled_s8(p->vector + m->dim, row + m->dim, scales[1], m->rank);
    p->count++;
}

void graph_person_take(const struct graph_model *m, const struct kernels *kernels,
                       struct graph_person *p, uint32_t item, const float *text)
{
    graph_row_make(m, item, text, p->row);
    graph_person_add(m, kernels, p, p->row);
}

static float product(const struct kernels *kernels, const float *a, const float *b, size_t count)
{
    float sum;
    kernels->score_dot_f32(&sum, a, 1, &b, 1, count);
    return sum;
}

/* To a length; zeros stay. */
static void bring_to(const struct kernels *kernels, float *x, float length, size_t count)
{
    float squares = product(kernels, x, x, count);
    if (squares > 0)
        kernels->scale_f32(x, length / sqrtf(squares), count);
}

void graph_person_end(const struct graph_model *m, const struct kernels *kernels,
                      struct graph_person *p)
{
    if (!p->count)
        return;
    memcpy(p->vector, p->mean, m->dim * sizeof *p->vector);
    kernels->scale_f32(p->vector, 1 / (float)p->count, m->dim);
    graph_bytes_tower(&m->user, kernels, p->vector, p->scratch);
    bring_to(kernels, p->mean, COSINES, m->dim);
    bring_to(kernels, p->vector + m->dim, GRAPH_KIN, m->rank);
    p->middle = product(kernels, p->vector, m->middle, m->dim + m->rank) +
                product(kernels, p->mean, m->middle + m->dim + m->rank, m->dim);
}

float graph_model_score(const struct graph_model *m, const struct kernels *kernels,
                  const struct graph_person *p, uint32_t item, const float *text)
{
    size_t wide = m->dim + m->rank;
    return product(kernels, p->vector, m->vectors + item * wide, wide) +
           product(kernels, p->mean, text, m->dim);
}

float graph_mean_text(const struct graph_model *m, const struct kernels *kernels,
                      const float *vector)
{
    return product(kernels, vector, m->middle + m->dim + m->rank, m->dim);
}

/* ---- learning --------------------------------------------------------------------------- */

struct graph_learner {
    const struct graph_model_lesson *lesson;
    const struct kernels *kernels;
    struct graph_model model;
    float *kin_vectors;         /* [items][rank] */
};

static enum akin_status learn_kin(struct graph_learner *l, struct akin_error *error)
{
    const struct graph_model_lesson *from = l->lesson;
    struct kin_item *items = memory_alloc(from->histories->item_count + 1, sizeof *items);
    if (!items)
        return error_memory(error);
    for (size_t i = 0; i < from->histories->item_count; i++) {
        struct akin_item item = { 0 };
        if (from->text->places[i] != UINT32_MAX)
            catalog_item(from->catalog, from->text->places[i], &item);
        items[i] = (struct kin_item){ from->text->rows[i],
                                      kin_genres(item.genres, item.genre_count), item.year };
    }
    struct kin_lesson lesson = { .kernels = l->kernels, .pool = cpu_threads(from->backend),
                                 .histories = from->histories, .items = items,
                                 .dim = from->text->dim, .progress = from->progress };
    enum akin_status status = kin_learn(&lesson, &l->model.kin, &l->kin_vectors, error);
    memory_free(items);
    return status;
}

static enum akin_status learn_sage(struct graph_learner *l, struct akin_error *error)
{
    const struct graph_model_lesson *from = l->lesson;
    struct graph_settings settings;
    struct graph_lesson lesson = { .cpu_flags = cpu_flags(from->backend), .kernels = l->kernels,
                                   .pool = cpu_threads(from->backend),
                                   .histories = from->histories, .texts = from->text->rows,
                                   .dim = from->text->dim };
    graph_settings_default(&settings);
    settings.seed = from->seed;
    settings.progress = from->progress;
    return graph_sage_train(&lesson, &settings, &l->model.sage, error);
}

static enum akin_status place_all(struct graph_learner *l, struct akin_error *error)
{
    const struct graph_model_lesson *from = l->lesson;
    struct graph_model *m = &l->model;
    m->dim = from->text->dim;
    m->rank = m->kin.rank;
    m->items = from->histories->item_count;
    size_t wide = m->dim + m->rank;
    m->vectors = memory_alloc_aligned(m->items * wide + 1, sizeof *m->vectors);
    m->fresh = memory_alloc(m->items, sizeof *m->fresh);
    m->middle = memory_alloc(m->dim + wide, sizeof *m->middle);
    if (!m->vectors || !m->fresh || !m->middle)
        return error_memory(error);
    struct graph_placing placing = { .kernels = l->kernels, .pool = cpu_threads(from->backend),
                                     .sage = &m->sage, .histories = from->histories,
                                     .texts = from->text->rows, .card = from->card,
                                     .progress = from->progress };
    TRY(graph_place(&placing, m->vectors, wide, error));
    for (size_t i = 0; i < m->items; i++)
        memcpy(m->vectors + i * wide + m->dim, l->kin_vectors + i * m->rank,
               m->rank * sizeof *m->vectors);
    return AKIN_OK;
}

/* Which items are new, and their mean. */
static size_t find_fresh(struct graph_learner *l)
{
    struct graph_model *m = &l->model;
    const struct histories *h = l->lesson->histories;
    size_t count = 0, wide = m->dim + m->rank;
    memset(m->fresh, 1, m->items);
    for (size_t e = 0; e < h->event_count; e++)
        m->fresh[h->items[e]] = 0;
    for (size_t i = 0; i < m->items; i++) {
        const float *text = l->lesson->text->rows[i];
        m->fresh[i] &= product(l->kernels, text, text, m->dim) > 0;
        if (!m->fresh[i])
            continue;
        l->kernels->add_f32(m->middle, m->vectors + i * wide, wide);
        l->kernels->add_f32(m->middle + wide, text, m->dim);
        count++;
    }
    if (count)
        l->kernels->scale_f32(m->middle, 1 / (float)count, wide + m->dim);
    return count;
}

/* Of some people and some of the new items: by how much cosines vary, over scores. */
static float find_spread(const struct graph_learner *l, struct graph_person *p, size_t fresh)
{
    const struct graph_model *m = &l->model;
    const struct histories *h = l->lesson->histories;
    const float *const *texts = l->lesson->text->rows;
    size_t item_step = fresh / SAMPLED_ITEMS + 1, user_step = h->user_count / SAMPLED_PEOPLE + 1;
    double cosines = 0, scores = 0;
    for (size_t u = 0; u < h->user_count; u += user_step) {
        size_t count, seen = 0;
        const uint32_t *items = histories_of(h, u, &count);
        graph_person_begin(m, p);
        for (size_t e = 0; e < count; e++)
            graph_person_take(m, l->kernels, p, items[e], texts[items[e]]);
        graph_person_end(m, l->kernels, p);
        if (!count)
            continue;
        float mean = graph_mean_text(m, l->kernels, p->mean);
        for (size_t i = 0; i < m->items; i++) {
            if (!m->fresh[i] || seen++ % item_step)
                continue;
            float cosine = product(l->kernels, p->mean, texts[i], m->dim) - mean;
            float score = graph_model_score(m, l->kernels, p, (uint32_t)i, texts[i]) - p->middle;
            cosines += (double)(cosine * cosine) / (COSINES * COSINES);
            scores += (double)(score * score);
        }
    }
    return scores > 0 ? (float)sqrt(cosines / scores) : 0;
}

static enum akin_status learn(struct graph_learner *l, struct akin_error *error)
{
    struct graph_person person;
    TRY(learn_kin(l, error));
    TRY(learn_sage(l, error));
    TRY(graph_bytes_make(&l->model.sage, GRAPH_USER, &l->model.user, error));
    TRY(place_all(l, error));
    size_t fresh = find_fresh(l);
    if (!fresh)
        return AKIN_OK;
    if (!graph_person_init(&l->model, &person))
        return error_memory(error);
    l->model.spread = find_spread(l, &person, fresh);
    graph_person_deinit(&person);
    return AKIN_OK;
}

enum akin_status graph_model_learn(const struct graph_model_lesson *lesson,
                                   struct graph_model *model, struct akin_error *error)
{
    struct graph_learner l = { .lesson = lesson, .kernels = cpu_kernels(lesson->backend) };
    enum akin_status status = learn(&l, error);
    memory_free(l.kin_vectors);
    if (status == AKIN_OK)
        *model = l.model;
    else
        graph_model_deinit(&l.model);
    return status;
}
