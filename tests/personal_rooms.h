/* For the check of personal requests: requests with pointers, written to rooms of their own. */
#pragma once

#include <string.h>

#include "compute/personal_device.h"
#include "device_check.h"

static const struct personal_device_ops *ops;

/* A request with what it points to. */
struct asked {
    const float *query, *person;        /* [dim], or NULL */
    float share;
    const uint32_t *past;
    const float *past_weights;
    size_t past_count;
    uint32_t mood;
    const uint32_t *history;
    size_t history_count;
    float told_text;
    const uint32_t *skip;
    size_t skip_count;
    uint32_t mask;
    float text, taste, popularity;
};

struct asked_batch {
    const struct asked *requests;
    size_t count, k, text_offers, offers;
    const uint64_t *masks;
    size_t mask_count;
};

static size_t dim_here;                 /* of the data at hand */

static uint32_t write_vector(struct personal_room *room, const float *from, uint32_t *at)
{
    if (!from)
        return PERSONAL_NONE;
    memcpy(room->vectors + *at * dim_here, from, dim_here * sizeof *from);
    return (*at)++;
}

static uint32_t write_list(struct personal_room *room, const uint32_t *from, size_t count,
                           size_t *at)
{
    uint32_t first = (uint32_t)*at;
    if (count)
        memcpy(room->lists + *at, from, count * sizeof *from);
    *at += count;
    return first;
}

static void write_request(struct personal_room *room, size_t number, const struct asked *from,
                          uint32_t *vectors, size_t *lists)
{
    struct personal_request *to = &room->requests[number];
    size_t kept = from->past_count < PERSONAL_PAST_MAX ? from->past_count : PERSONAL_PAST_MAX;
    *to = (struct personal_request){
        .share = from->share, .past_count = (uint32_t)from->past_count, .mood = from->mood,
        .history_count = (uint32_t)from->history_count, .told_text = from->told_text,
        .skip_count = (uint32_t)from->skip_count, .mask = from->mask, .text = from->text,
        .taste = from->taste, .popularity = from->popularity,
    };
    to->query = write_vector(room, from->query, vectors);
    to->person = write_vector(room, from->person, vectors);
    to->skip_first = write_list(room, from->skip, from->skip_count, lists);
    to->history_first = write_list(room, from->history, from->history_count, lists);
    for (size_t i = 0; i < kept; i++) {
        to->past[i] = from->past[i];
        to->past_weights[i] = from->past_weights[i];
    }
}

static enum akin_status write_all(struct personal_device *device, const struct asked_batch *batch,
                                  struct personal_room *room, size_t *lists)
{
    struct personal_sizes sizes = { .requests = batch->count, .vectors = 2 * batch->count,
                                    .answers = batch->count * batch->k };
    uint32_t vectors = 0;
    enum akin_status status = AKIN_OK;
    for (size_t q = 0; q < batch->count; q++)
        sizes.lists += batch->requests[q].skip_count + batch->requests[q].history_count;
    if (!ops->lay_out(device, &sizes, room))
        must(ops->reserve(device, &sizes, room, &error));
    for (size_t q = 0; q < batch->count; q++)
        write_request(room, q, &batch->requests[q], &vectors, lists);
    for (size_t q = 0; status == AKIN_OK && q < batch->count; q++)
        status = ops->check(device, room, q, batch->mask_count, &error);
    return status;
}

static enum akin_status answer_in(struct personal_device *device, struct personal_room *room,
                                  const struct asked_batch *batch, size_t lists)
{
    struct personal_batch sent = { .count = batch->count, .k = batch->k, .lists = lists,
                                   .text_offers = batch->text_offers, .offers = batch->offers,
                                   .masks = batch->masks, .mask_count = batch->mask_count };
    return ops->answer(device, &sent, room, &error);
}

/* Into a room of its own, and out of it. */
static enum akin_status answer(struct personal_device *device, const struct asked_batch *batch,
                               struct personal_result *results, size_t *found)
{
    struct personal_room room = { 0 };
    size_t lists = 0;
    enum akin_status status = write_all(device, batch, &room, &lists);
    if (status == AKIN_OK)
        status = answer_in(device, &room, batch, lists);
    for (size_t q = 0; status == AKIN_OK && q < batch->count; q++) {
        found[q] = room.found[q];
        if (found[q] != PERSONAL_NOWHERE)
            memcpy(results + q * batch->k, room.results + q * batch->k,
                   batch->k * sizeof *results);
    }
    ops->release(device, &room);
    return status;
}

static enum akin_status nearest(struct personal_device *device, const float *queries, size_t count,
                                size_t k, const uint64_t *mask, struct hit *hits, size_t *found)
{
    const struct personal_sizes sizes = { .vectors = count, .answers = count * k };
    struct personal_room room = { 0 };
    must(ops->reserve(device, &sizes, &room, &error));
    memcpy(room.vectors, queries, count * dim_here * sizeof *queries);
    enum akin_status status = ops->nearest(device, count, k, mask, &room, &error);
    for (size_t q = 0; status == AKIN_OK && q < count; q++) {
        found[q] = room.found[q];
        memcpy(hits + q * k, room.hits + q * k, found[q] * sizeof *hits);
    }
    ops->release(device, &room);
    return status;
}
