/* The situation of a request, as JSON:
 *
 *   {"time_of_day": [morning, afternoon, evening], "genre_prefs": {"Sci-Fi": 0.8, ...},
 *    "social_signal": [alone, together]}
 *
 * All fields may be missing; numbers are 0 to 1. genre_prefs may be three numbers, which are those
 * of Action, Drama and Comedy. Today only genre_prefs changes an answer; the others are read,
 * checked and kept for a model that was trained on situations, of which there is none yet. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "akin/catalog.h"
#include "base/status.h"

enum { CONTEXT_GENRES_MAX = 64, CONTEXT_GENRE_BYTES = 64 };

struct context {
    bool has_time, has_genres, has_social;
    float time_of_day[3], social_signal[2];
    size_t genre_count;
    char genres[CONTEXT_GENRES_MAX][CONTEXT_GENRE_BYTES];   /* folded: case does not matter */
    float wanted[CONTEXT_GENRES_MAX];
};

/* AKIN_ARGUMENT names the field: "context: genre_prefs: Drama: 1.5: expected a number from 0 to 1".
 * `text` NULL: an empty context. */
enum akin_status context_parse(const char *text, struct context *context,
                               struct akin_error *error);

/* 0 to 1: the mean of what is wanted of the item's genres; 0 without genre_prefs. */
float context_match(const struct context *context, const struct akin_item *item);
