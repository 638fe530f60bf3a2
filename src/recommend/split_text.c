/* See split_text.h: in the space, and by the vectors of people, that requests use (space.h,
 * users.h). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "catalog/catalog.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "recommend/space.h"
#include "recommend/split_text.h"
#include "recommend/users.h"
#include "recommend/users_state.h"

static bool find(const struct catalog *catalog, const char *name, size_t *row)
{
    char id[512];
    if (snprintf(id, sizeof id, "ml_%s", name) < (int)sizeof id &&
        catalog_find_id(catalog, id, row, NULL) == AKIN_OK)
        return true;
    return catalog_find_id(catalog, name, row, NULL) == AKIN_OK;
}

enum akin_status split_text_create(const struct backend *backend, const struct catalog *catalog,
                                   const struct split *split, struct split_text *text,
                                   struct akin_error *error)
{
    *text = (struct split_text){ .items = split ? split->item_count : 0 };
    if (!catalog || !catalog_item_vectors(catalog) || !catalog_item_count(catalog))
        return AKIN_OK;
    text->items = split ? split->item_count : catalog_item_count(catalog);
    TRY(space_create(backend, catalog, &text->space, error));
    text->dim = text->space->dim;
    text->places = memory_alloc(text->items, sizeof *text->places);
    text->rows = memory_alloc(text->items, sizeof *text->rows);
    text->nothing = memory_alloc(text->dim, sizeof *text->nothing);
    if (!text->places || !text->rows || !text->nothing) {
        split_text_deinit(text);
        return error_memory(error);
    }
    for (size_t i = 0; i < text->items; i++) {
        size_t row = i;
        bool known = !split || find(catalog, split->items[i], &row);
        text->places[i] = known ? (uint32_t)row : UINT32_MAX;
        text->rows[i] = known ? text->space->vectors + row * text->dim : text->nothing;
    }
    return situations_create(catalog, text->places, text->items, &text->situations, error);
}

void split_text_deinit(struct split_text *text)
{
    space_destroy(&text->space);
    memory_free(text->places);
    memory_free(text->rows);
    memory_free(text->nothing);
    situations_deinit(&text->situations);
    *text = (struct split_text){ 0 };
}

static void add_unit(const struct kernels *kernels, float *sum, const float *x, size_t dim)
{
    float squares;
    kernels->score_dot_f32(&squares, x, 1, &x, 1, dim);
    if (squares > 0)
        kernels->add_scaled_f32(sum, x, 1 / sqrtf(squares), dim);
}

void split_text_read(const struct split_text *text, const struct kernels *kernels,
                     const uint32_t *history, size_t count, float *person)
{
    struct akin_recommender_settings rates;
    users_settings_default(&rates);
    struct user_fold fold = { .kernels = kernels, .vectors = text->space->vectors,
                              .dim = text->dim, .items = text->space->items,
                              .fast = rates.fast_rate, .slow = rates.slow_rate };
    size_t dim = text->dim;
    float *fast = person, *slow = person + dim;
    memset(person, 0, 2 * dim * sizeof *person);
    for (size_t e = 0, known = 0; e < count; e++) {
        struct akin_rating liked = { text->places[history[e]], 1, 0 };
        if (liked.row != UINT32_MAX)
            user_fold_step(&fold, fast, slow, ++known, &liked);
    }
}

void split_text_say(const struct split_text *text, const struct kernels *kernels,
                    enum blend_text kind, uint32_t last, const float *person, float *vector,
                    float *scores)
{
    size_t dim = text->dim;
    memset(vector, 0, dim * sizeof *vector);
    if (kind == BLEND_TEXT_ITEM)
        add_unit(kernels, vector, text->rows[last], dim);
    if (kind == BLEND_TEXT_BOTH)
        add_unit(kernels, vector, person, dim);
    if (kind == BLEND_TEXT_BOTH || kind == BLEND_TEXT_SLOW)
        add_unit(kernels, vector, person + dim, dim);
    float squares;
    const float *only = vector;
    kernels->score_dot_f32(&squares, vector, 1, &only, 1, dim);
    if (squares > 0)
        kernels->scale_f32(vector, 1 / sqrtf(squares), dim);
    kernels->score_dot_f32(scores, vector, 1, text->rows, text->items, dim);
}
