/* Learning: counts, the choice of items, the matrices, the sequence model. */
#include "recommend/taste.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "recommend/blend.h"
#include "recommend/graph_model.h"

enum { REACH_MAX = 512 };       /* 0.5^(512 / 10) is nothing */
static const float ridge = 300;

void taste_settings_default(struct taste_settings *settings)
{
    *settings = (struct taste_settings){ .parts = ~TASTE_BIT(TASTE_ATTENTION),
                                         .items_max = TASTE_ITEMS_MAX };
    sequence_settings_default(&settings->sequence);
    reranker_settings_default(&settings->reranker);
}

/* ---- counts and items -------------------------------------------------------------------- */

static enum akin_status count_events(const struct histories *h, struct taste *t,
                                     struct akin_error *error)
{
    t->chosen = memory_alloc(h->item_count, sizeof *t->chosen);
    t->recently = memory_alloc(h->item_count, sizeof *t->recently);
    t->first = memory_alloc(h->item_count, sizeof *t->first);
    if (!t->chosen || !t->recently || !t->first)
        return error_memory(error);
    double half_life = 0.05 * (double)h->event_count;
    for (size_t i = 0; i < h->item_count; i++)
        t->first[i] = (double)h->event_count;
    for (size_t e = 0; e < h->event_count; e++) {
        if (t->chosen[h->sequence[e]] == 0)
            t->first[h->sequence[e]] = (double)e;
        t->chosen[h->sequence[e]] += 1;
        t->recently[h->sequence[e]] += exp2(-(double)(h->event_count - 1 - e) / half_life);
    }
    return AKIN_OK;
}

struct counted {
    double count;
    uint32_t item;
};

static int most_first(const void *a, const void *b)
{
    const struct counted *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

static enum akin_status choose_items(struct taste *t, size_t items_max, struct akin_error *error)
{
    struct counted *order = memory_alloc(t->item_count, sizeof *order);
    bool *taken = memory_alloc(t->item_count, sizeof *taken);
    size_t known = 0;
    for (size_t i = 0; order && i < t->item_count; i++)
        if (t->chosen[i] > 0)
            order[known++] = (struct counted){ t->chosen[i], (uint32_t)i };
    t->size = known < items_max ? known : items_max;
    t->items = memory_alloc(t->size, sizeof *t->items);
    bool done = order && taken && t->items;
    if (done) {
        qsort(order, known, sizeof *order, most_first);
        for (size_t j = 0; j < t->size; j++)
            taken[order[j].item] = true;
        for (size_t i = 0, j = 0; i < t->item_count; i++)
            if (taken[i])
                t->items[j++] = (uint32_t)i;
    }
    memory_free(order);
    memory_free(taken);
    return done ? AKIN_OK : error_memory(error);
}

/* ---- lists of places --------------------------------------------------------------------- */

struct own_lists {
    struct item_lists lists;
    size_t *offsets;
    uint32_t *items;
    int64_t *times;             /* of them */
};

/* The histories as places in the model, each item where it came last. */
static enum akin_status make_lists(const struct histories *h, const struct taste *t,
                                   struct own_lists *own, struct akin_error *error)
{
    size_t *last = memory_alloc(t->size, sizeof *last);
    own->offsets = memory_alloc(h->user_count + 1, sizeof *own->offsets);
    own->items = memory_alloc(h->event_count, sizeof *own->items);
    own->times = memory_alloc(h->event_count, sizeof *own->times);
    bool done = last && own->offsets && own->items && own->times;
    size_t at = 0;
    for (size_t u = 0; done && u < h->user_count; u++) {
        size_t count;
        const uint32_t *items = histories_of(h, u, &count);
        for (size_t e = 0; e < count; e++)
            if (t->places[items[e]] != UINT32_MAX)
                last[t->places[items[e]]] = e;
        for (size_t e = 0; e < count; e++)
            if (t->places[items[e]] != UINT32_MAX && last[t->places[items[e]]] == e) {
                own->times[at] = h->times[h->offsets[u] + e];
                own->items[at++] = t->places[items[e]];
            }
        own->offsets[u + 1] = at;
    }
    own->lists = (struct item_lists){ h->user_count, t->size, own->offsets, own->items };
    memory_free(last);
    return done ? AKIN_OK : error_memory(error);
}

static void lists_deinit(struct own_lists *own)
{
    memory_free(own->offsets);
    memory_free(own->items);
    memory_free(own->times);
}

/* ---- matrices ---------------------------------------------------------------------------- */

static enum akin_status rows_init(struct taste_rows *rows, size_t items, struct akin_error *error)
{
    size_t square;
    if (!size_mul(items, items, &square))
        return error_memory(error);
    *rows = (struct taste_rows){ .items = items };
    rows->dense = memory_alloc_aligned(square, sizeof *rows->dense);
    return rows->dense ? AKIN_OK : error_memory(error);
}

static void exponential(float *kernel, double half_life, float beyond)
{
    for (size_t d = 0; d < REACH_MAX; d++)
        kernel[d] = (float)exp2(-(double)d / half_life) + beyond;
}

static enum akin_status learn_local(const struct closed_form *form, unsigned parts, struct taste *t,
                                    struct akin_error *error)
{
    float kernel[REACH_MAX], beyond = 0.3f;
    TRY(rows_init(&t->local, t->size, error));
    exponential(kernel, 10, beyond);
    proximity_gram(form, kernel, REACH_MAX, beyond, t->local.dense);
    if (parts & TASTE_BIT(TASTE_BACK)) {
        TRY(rows_init(&t->back, t->size, error));
        closed_form_share(form, t->local.dense, t->back.dense);
    }
    if (parts & TASTE_BIT(TASTE_LOCAL))
        return closed_form_solve(form, t->local.dense, ridge, error);
    memory_free(t->local.dense);
    t->local = (struct taste_rows){ 0 };
    return AKIN_OK;
}

static enum akin_status learn_next(const struct closed_form *form, struct taste *t,
                                   struct akin_error *error)
{
    float kernel[REACH_MAX];
    TRY(rows_init(&t->next, t->size, error));
    exponential(kernel, 5, 0);
    proximity_gram(form, kernel, REACH_MAX, 0, t->next.dense);
    closed_form_share(form, t->next.dense, t->next.dense);
    return AKIN_OK;
}

static enum akin_status learn_ease(const struct closed_form *form, struct taste *t,
                                   struct akin_error *error)
{
    TRY(rows_init(&t->ease, t->size, error));
    if (form->lists->count < t->size)
        return closed_form_dual(form, t->ease.dense, ridge, error);
    proximity_gram(form, NULL, 0, 1, t->ease.dense);
    return closed_form_solve(form, t->ease.dense, ridge, error);
}

static enum akin_status tell(const struct taste_settings *settings, uint64_t done,
                             struct akin_error *error)
{
    const struct akin_progress *progress = &settings->progress;
    if (!progress->update || progress->update(progress->cookie, "learning what goes together", done,
                                              3))
        return AKIN_OK;
    return error_set(error, AKIN_CANCELLED, "interrupted");
}

enum {
    EASE_PARTS = TASTE_BIT(TASTE_EASE) | TASTE_BIT(TASTE_EASE_RECENT) | TASTE_BIT(TASTE_EASE_SCALED)
};

/* Texts of the model's items. */
static enum akin_status learn_reranker(const struct closed_form *form, const int64_t *times,
                                       const double *counts,
                                       const struct taste_settings *settings, struct taste *t,
                                       struct akin_error *error)
{
    struct situations situations = { 0 };
    if (settings->situations)
        TRY(situations_pick(settings->situations, t->items, t->size, &situations, error));
    const float **texts = memory_alloc(t->size, sizeof *texts);
    if (!texts) {
        situations_deinit(&situations);
        return error_memory(error);
    }
    for (size_t j = 0; settings->texts && j < t->size; j++)
        texts[j] = settings->texts[t->items[j]];
    struct reranker_lesson lesson = {
        .cpu_flags = settings->cpu_flags, .kernels = form->kernels, .pool = form->pool,
        .lists = form->lists, .times = times, .counts = counts,
        .situations = settings->situations ? &situations : NULL,
        .texts = settings->texts ? texts : NULL,
        .dim = settings->texts ? settings->text_dim : RERANKER_DIM
    };
    struct reranker_settings reranker = settings->reranker;
    reranker.progress = settings->progress;
    enum akin_status status = reranker_train(&lesson, &reranker, &t->reranker, &t->curve, error);
    memory_free(texts);
    situations_deinit(&situations);
    return status;
}

static enum akin_status learn_models(const struct closed_form *form, const int64_t *times,
                                     const struct taste_settings *settings, struct taste *t,
                                     struct akin_error *error)
{
    double *counts = memory_alloc(t->size, sizeof *counts);
    enum akin_status status = counts ? AKIN_OK : error_memory(error);
    for (size_t j = 0; counts && j < t->size; j++)
        counts[j] = t->chosen[t->items[j]];
    struct sequence_settings sequence = settings->sequence;
    sequence.progress = settings->progress;
    if (status == AKIN_OK && settings->parts & TASTE_BIT(TASTE_SEQUENCE))
        status = sequence_train(form->kernels, form->pool, form->lists, counts, &sequence,
                                &t->sequence, error);
    if (status == AKIN_OK && settings->parts & TASTE_BIT(TASTE_ATTENTION))
        status = learn_reranker(form, times, counts, settings, t, error);
    memory_free(counts);
    return status;
}

static enum akin_status learn_parts(const struct closed_form *form, const int64_t *times,
                                    const struct taste_settings *settings, struct taste *t,
                                    struct akin_error *error)
{
    unsigned parts = settings->parts;
    TRY(tell(settings, 0, error));
    if (parts & (TASTE_BIT(TASTE_LOCAL) | TASTE_BIT(TASTE_BACK)))
        TRY(learn_local(form, parts, t, error));
    TRY(tell(settings, 1, error));
    if (parts & TASTE_BIT(TASTE_NEXT))
        TRY(learn_next(form, t, error));
    TRY(tell(settings, 2, error));
    if (parts & EASE_PARTS)
        TRY(learn_ease(form, t, error));
    TRY(tell(settings, 3, error));
    return learn_models(form, times, settings, t, error);
}

static enum akin_status learn(const struct kernels *kernels, struct thread_pool *pool,
                              const struct histories *histories,
                              const struct taste_settings *settings, struct taste *t,
                              struct akin_error *error)
{
    struct own_lists own = { 0 };
    TRY(count_events(histories, t, error));
    TRY(choose_items(t, settings->items_max ? settings->items_max : TASTE_ITEMS_MAX, error));
    TRY(taste_derive(t, error));
    enum akin_status status = make_lists(histories, t, &own, error);
    struct closed_form form = { kernels, pool, &own.lists };
    if (status == AKIN_OK)
        status = learn_parts(&form, own.times, settings, t, error);
    lists_deinit(&own);
    return status;
}

enum akin_status taste_learn(const struct kernels *kernels, struct thread_pool *pool,
                             const struct histories *histories,
                             const struct taste_settings *settings, struct taste **taste,
                             struct akin_error *error)
{
    if (!histories->event_count)
        return error_set(error, AKIN_ARGUMENT,
                         "nobody has chosen anything yet: there is nothing to learn from");
    struct taste *t = memory_alloc(1, sizeof *t);
    if (!t)
        return error_memory(error);
    t->item_count = histories->item_count;
    t->events = histories->event_count;
    t->parts = settings->parts & (TASTE_BIT(TASTE_PARTS) - 1);
    for (int c = 0; c < BLEND_CONTEXTS; c++)
        t->weights[c] = *blend_default((enum blend_context)c);
    t->query_weight = BLEND_QUERY;
    enum akin_status status = learn(kernels, pool, histories, settings, t, error);
    if (status == AKIN_OK)
        *taste = t;
    else
        taste_destroy(&t);
    return status;
}

/* ---- rows cut, memory -------------------------------------------------------------------- */

struct cut {
    const float *row;
    uint32_t column;
};

static int greatest_first(const void *a, const void *b)
{
    const struct cut *x = a, *y = b;
    float left = fabsf(x->row[x->column]), right = fabsf(y->row[y->column]);
    if (left != right)
        return left > right ? -1 : 1;
    return (x->column > y->column) - (x->column < y->column);
}

static int by_column(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static enum akin_status cut_rows(struct taste_rows *rows, size_t width, struct akin_error *error)
{
    if (!rows->dense)
        return AKIN_OK;
    size_t n = rows->items, kept = width < n ? width : n;
    struct cut *order = memory_alloc(n, sizeof *order);
    rows->columns = memory_alloc(n * kept, sizeof *rows->columns);
    rows->values = memory_alloc(n * kept, sizeof *rows->values);
    if (!order || !rows->columns || !rows->values) {
        memory_free(order);
        return error_memory(error);
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t *columns = rows->columns + i * kept;
        for (size_t j = 0; j < n; j++)
            order[j] = (struct cut){ rows->dense + i * n, (uint32_t)j };
        qsort(order, n, sizeof *order, greatest_first);
        for (size_t j = 0; j < kept; j++)
            columns[j] = order[j].column;
        qsort(columns, kept, sizeof *columns, by_column);
        for (size_t j = 0; j < kept; j++)
            rows->values[i * kept + j] = rows->dense[i * n + columns[j]];
    }
    memory_free(order);
    memory_free(rows->dense);
    rows->dense = NULL;
    rows->width = kept;
    return AKIN_OK;
}

enum akin_status taste_cut(struct taste *taste, size_t width, struct akin_error *error)
{
    TRY(cut_rows(&taste->ease, width, error));
    TRY(cut_rows(&taste->local, width, error));
    TRY(cut_rows(&taste->next, width, error));
    return cut_rows(&taste->back, width, error);
}

static void rows_deinit(struct taste_rows *rows)
{
    memory_free(rows->dense);
    memory_free(rows->columns);
    memory_free(rows->values);
}

void taste_destroy(struct taste **taste)
{
    struct taste *t = *taste;
    if (!t)
        return;
    void *blocks[] = { t->items, t->places, t->chosen, t->recently, t->first, t->next_share,
                       t->back_share, t->sequence_share };
    for (int p = 0; p < TASTE_EASE; p++)
        memory_free(t->item_part[p]);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        memory_free(blocks[i]);
    rows_deinit(&t->ease);
    rows_deinit(&t->local);
    rows_deinit(&t->next);
    rows_deinit(&t->back);
    sequence_model_deinit(&t->sequence);
    reranker_deinit(&t->reranker);
    if (t->graph)
        graph_model_deinit(t->graph);
    memory_free(t->graph);
    memory_free(t);
    *taste = NULL;
}

static uint64_t rows_bytes(const struct taste_rows *rows)
{
    return (uint64_t)rows->items * (rows->dense ? rows->items * 4 : rows->width * 8);
}

uint64_t taste_bytes(const struct taste *t)
{
    uint64_t each_item = sizeof *t->places + 3 * sizeof(double) + TASTE_EASE * sizeof(float);
    return t->item_count * each_item + t->size * 4 * sizeof(float) + rows_bytes(&t->ease) +
           rows_bytes(&t->local) + rows_bytes(&t->next) + rows_bytes(&t->back) +
           (uint64_t)t->sequence.items * t->sequence.dim * 2 * sizeof(float) +
           (t->graph ? graph_model_bytes(t->graph) : 0);
}
