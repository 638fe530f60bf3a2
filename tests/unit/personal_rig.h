/* A card that is made up: it answers personal requests by the formula, in double, over the items of
 * parts_rig.h. */
#pragma once

#include "compute/best.h"
#include "parts_rig.h"
#include "recommend/personal.h"

struct search_device {
    const float *rows;
};

struct personal_device {
    const float *rows;
    struct personal_items items;
    uint64_t texted[ITEMS / 64 + 1];
};

static enum akin_status plain_search_create(int ordinal, const float *rows, size_t row_count,
                                            size_t dim, struct search_device **device,
                                            struct akin_error *error)
{
    (void)ordinal;
    (void)row_count;
    (void)dim;
    *device = memory_alloc(1, sizeof **device);
    if (!*device)
        return error_memory(error);
    (*device)->rows = rows;
    return AKIN_OK;
}

static void plain_search_destroy(struct search_device **device)
{
    memory_free(*device);
    *device = NULL;
}

static enum akin_status plain_search(struct search_device *device, const struct device_query *query,
                                     struct hit *hits, size_t *found, struct search_counts *counts,
                                     struct akin_error *error)
{
    (void)device;
    (void)query;
    (void)hits;
    (void)found;
    (void)counts;
    return error_set(error, AKIN_UNSUPPORTED, "the CPU searches");
}

static enum akin_status plain_create(int ordinal, const struct search_device *rows,
                                     const struct personal_items *items,
                                     struct personal_device **device, struct akin_error *error)
{
    struct personal_device *d = memory_alloc(1, sizeof *d);
    (void)ordinal;
    assert_null(items->taste);          /* that one is for the kernels */
    if (!d)
        return error_memory(error);
    d->rows = rows->rows;
    d->items = *items;
    memcpy(d->texted, items->texted, (ITEMS + 63) / 64 * sizeof *d->texted);
    *device = d;
    return AKIN_OK;
}

static void plain_destroy(struct personal_device **device)
{
    memory_free(*device);
    *device = NULL;
}

static bool to_unit(double *x)
{
    double squares = 0;
    for (size_t i = 0; i < DIM; i++)
        squares += x[i] * x[i];
    for (size_t i = 0; i < DIM; i++)
        x[i] /= sqrt(squares);
    return squares > 1e-12 && isfinite(squares);
}

/* Either may be NULL. */
static bool plain_fuse(const struct personal_device *d, const float *asked, const float *who,
                       float weight, double *out)
{
    double query[DIM], person[DIM], share = !asked ? 0 : who ? (double)weight : 1;
    bool right = true;
    for (size_t i = 0; i < DIM; i++)
        query[i] = asked ? (double)asked[i] : 1;
    right &= to_unit(query);
    for (size_t i = 0; i < DIM; i++) {
        query[i] -= (double)d->items.mean[i];
        person[i] = who ? (double)who[i] : 1;
    }
    right &= to_unit(query) && to_unit(person);
    for (size_t i = 0; i < DIM; i++)
        out[i] = share * query[i] + (1 - share) * person[i];
    return right && to_unit(out);
}

static float text_of(const struct personal_device *d, const double *vector, size_t row)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++)
        sum += vector[i] * (double)d->rows[row * DIM + i];
    return (float)sum;
}

static bool has_bit(const uint64_t *bits, size_t row)
{
    return bits[row / 64] >> row % 64 & 1;
}

/* Rows of hits [count] whose score is not 0 and that may be found, the best of them, are wanted. */
static void want(struct hit *hits, const bool *allowed, size_t most, bool *wanted)
{
    size_t count = 0;
    for (size_t row = 0; row < ITEMS; row++)
        if (allowed[row] && hits[row].score != 0)
            hits[count++] = hits[row];
    best_sort(hits, count);
    for (size_t i = 0; i < count && i < most; i++)
        wanted[hits[i].row] = true;
}

static float want_taste(const struct personal_device *d, const struct personal_request *r,
                        const bool *allowed, size_t most, float *taste, bool *wanted)
{
    struct hit hits[ITEMS];
    bool all[ITEMS];
    double sum = 0;
    size_t best = 0;
    memset(taste, 0, ITEMS * sizeof *taste);
    for (size_t i = 0; i < r->past_count; i++)
        for (uint64_t e = d->items.similar.starts[r->past[i]];
             e < d->items.similar.starts[r->past[i] + 1]; e++) {
            float value = r->past_weights[i] * d->items.similar.entries[e].weight;
            taste[d->items.similar.entries[e].row] += value > 0 ? value : 0;
        }
    for (size_t row = 0; row < ITEMS; row++) {
        hits[row] = (struct hit){ taste[row], (uint32_t)row };
        all[row] = true;
    }
    want(hits, allowed, most, wanted);
    for (size_t row = 0; row < ITEMS; row++)
        hits[row] = (struct hit){ taste[row], (uint32_t)row };
    want(hits, all, 0, wanted);
    for (; best < 10 && hits[best].score > 0; best++)
        sum += (double)hits[best].score;
    return best ? (float)(sum / (double)best) : 1;
}

static const float *vector_of(const struct personal_room *room, uint32_t number)
{
    return number == PERSONAL_NONE ? NULL : room->vectors + number * DIM;
}

static size_t plain_one(const struct personal_device *d, const struct personal_batch *batch,
                        const struct personal_room *room, size_t q,
                        struct personal_result *results)
{
    const struct personal_request *r = &room->requests[q];
    const float *query = vector_of(room, r->query), *person = vector_of(room, r->person);
    struct hit hits[ITEMS];
    bool allowed[ITEMS], texted[ITEMS], wanted[ITEMS] = { false };
    float taste[ITEMS], text[ITEMS] = { 0 };
    double vector[DIM];
    bool points = query || person;
    size_t popular = 0, count = 0, words = (ITEMS + 63) / 64;
    if (points && !plain_fuse(d, query, person, r->share, vector))
        return PERSONAL_NOWHERE;
    for (size_t row = 0; row < ITEMS; row++)
        allowed[row] = r->mask == UINT32_MAX || has_bit(batch->masks + r->mask * words, row);
    for (size_t i = 0; i < r->skip_count; i++)
        allowed[room->lists[r->skip_first + i]] = false;
    float scale = want_taste(d, r, allowed, batch->offers, taste, wanted);
    for (size_t row = 0; row < ITEMS; row++) {
        texted[row] = allowed[row] && has_bit(d->texted, row);
        text[row] = points ? text_of(d, vector, row) : 0;
        hits[row] = (struct hit){ text[row], (uint32_t)row };
    }
    want(hits, texted, points ? batch->text_offers : 0, wanted);
    for (size_t i = 0; i < d->items.popular_count && r->popularity != 0; i++) {
        uint32_t row = d->items.by_popularity[i];
        wanted[row] |= allowed[row] && popular < batch->offers;
        popular += allowed[row];
    }
    for (size_t row = 0; row < ITEMS; row++)
        if (wanted[row])
            hits[count++] = (struct hit){ r->text * text[row] + r->taste * (taste[row] / scale) +
                                          r->popularity * d->items.popularity[row],
                                          (uint32_t)row };
    best_sort(hits, count);
    count = count < batch->k ? count : batch->k;
    for (size_t i = 0; i < count; i++)
        results[i] = (struct personal_result){
            hits[i].row, hits[i].score, text[hits[i].row], r->text * text[hits[i].row],
            r->taste * (taste[hits[i].row] / scale),
            r->popularity * d->items.popularity[hits[i].row] };
    return count;
}

/* A room is laid out for as much as it has memory for. */
static bool plain_lay_out(const struct personal_device *d, const struct personal_sizes *sizes,
                          struct personal_room *room)
{
    (void)d;
    size_t requests = sizes->requests * sizeof *room->requests;
    size_t vectors = sizes->vectors * DIM * sizeof *room->vectors;
    size_t most = sizes->requests > sizes->vectors ? sizes->requests : sizes->vectors;
    if (room->sent.bytes < requests + vectors + sizes->lists * sizeof *room->lists ||
        room->received.bytes < sizes->answers * sizeof *room->results + most * sizeof *room->found)
        return false;
    unsigned char *sent = room->sent.memory, *received = room->received.memory;
    room->requests = (void *)sent;
    room->vectors = (void *)(sent + requests);
    room->lists = (void *)(sent + requests + vectors);
    room->results = (void *)received;
    room->hits = (void *)received;
    room->found = (void *)(received + sizes->answers * sizeof *room->results);
    return true;
}

static void plain_release(struct personal_device *d, struct personal_room *room)
{
    (void)d;
    memory_free(room->sent.memory);
    memory_free(room->received.memory);
    *room = (struct personal_room){ 0 };
}

static enum akin_status plain_reserve(struct personal_device *d,
                                      const struct personal_sizes *sizes,
                                      struct personal_room *room, struct akin_error *error)
{
    plain_release(d, room);
    room->sent.bytes = sizes->requests * sizeof *room->requests +
                       sizes->vectors * DIM * sizeof *room->vectors +
                       sizes->lists * sizeof *room->lists;
    room->received.bytes = sizes->answers * sizeof *room->results +
                           (sizes->requests + sizes->vectors) * sizeof *room->found;
    room->sent.memory = memory_alloc(room->sent.bytes, 1);
    room->received.memory = memory_alloc(room->received.bytes, 1);
    if (!room->sent.memory || !room->received.memory)
        return error_memory(error);
    assert_true(plain_lay_out(d, sizes, room));
    return AKIN_OK;
}

static enum akin_status plain_check(const struct personal_device *d,
                                    const struct personal_room *room, size_t number,
                                    size_t mask_count, struct akin_error *error)
{
    const struct personal_request *r = &room->requests[number];
    (void)d;
    (void)error;
    assert_true(r->mask == PERSONAL_NONE || r->mask < mask_count);
    for (size_t i = 0; i < r->skip_count; i++)
        assert_in_range(room->lists[r->skip_first + i], 0, ITEMS - 1);
    return AKIN_OK;
}

static enum akin_status plain_answer(struct personal_device *d, const struct personal_batch *batch,
                                     struct personal_room *room, struct akin_error *error)
{
    struct personal_result *results = room->received.memory;
    uint32_t *found = (uint32_t *)(uintptr_t)room->found;
    (void)error;
    for (size_t q = 0; q < batch->count; q++) {
        size_t count = plain_one(d, batch, room, q, results + q * batch->k);
        found[q] = (uint32_t)count;
    }
    return AKIN_OK;
}

static enum akin_status plain_nearest(struct personal_device *d, size_t count, size_t k,
                                      const uint64_t *mask, struct personal_room *room,
                                      struct akin_error *error)
{
    struct hit all[ITEMS], *hits = room->received.memory;
    uint32_t *found = (uint32_t *)(uintptr_t)room->found;
    double vector[DIM];
    (void)error;
    for (size_t q = 0; q < count; q++) {
        size_t live = 0;
        found[q] = 0;
        if (!plain_fuse(d, room->vectors + q * DIM, NULL, 1, vector))
            continue;
        for (size_t row = 0; row < ITEMS; row++)
            if (!mask || has_bit(mask, row))
                all[live++] = (struct hit){ text_of(d, vector, row), (uint32_t)row };
        best_sort(all, live);
        found[q] = (uint32_t)(live < k ? live : k);
        memcpy(hits + q * k, all, found[q] * sizeof *hits);
    }
    return AKIN_OK;
}

static const struct search_device_ops search_ops = {
    .create = plain_search_create, .destroy = plain_search_destroy, .search = plain_search,
};
static const struct personal_device_ops plain_ops = {
    .create = plain_create, .destroy = plain_destroy, .lay_out = plain_lay_out,
    .reserve = plain_reserve, .release = plain_release, .check = plain_check,
    .answer = plain_answer, .nearest = plain_nearest,
};
