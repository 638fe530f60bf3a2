/* The situation of a request, as JSON:
 *
 *   {"time_of_day": [morning, afternoon, evening], "genre_prefs": {"Sci-Fi": 0.8, ...},
 *    "social_signal": [alone, together]}
 *
 * All fields may be missing; numbers are 0 to 1. genre_prefs may be three numbers, which are those
 * of Action, Drama and Comedy. Without a reranker that was trained on situations (situation.h) only
 * genre_prefs changes an answer; the others are read and checked. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "akin/catalog.h"
#include "base/status.h"

struct catalog;

enum { CONTEXT_GENRES_MAX = 64, CONTEXT_GENRE_BYTES = 64 };

struct context {
    bool has_time, has_genres, has_social;
    bool named;                 /* genres by their names, which somebody chose */
    float time_of_day[3], social_signal[2];
    size_t genre_count;
    char genres[CONTEXT_GENRES_MAX][CONTEXT_GENRE_BYTES];   /* folded: case does not matter */
    float wanted[CONTEXT_GENRES_MAX];
};

/* AKIN_ARGUMENT names the field: "context: genre_prefs: Drama: 1.5: expected a number from 0 to 1".
 * `text` NULL: an empty context. */
enum akin_status context_parse(const char *text, struct context *context,
                               struct akin_error *error);

/* AKIN_ARGUMENT where a genre that was named is wanted and no item has it, with those there are. */
enum akin_status context_check(const struct context *context, const struct catalog *catalog,
                               struct akin_error *error);

/* 0 to 1: the mean of what is wanted of the item's genres; 0 without genre_prefs. */
float context_match(const struct context *context, const struct akin_item *item);
