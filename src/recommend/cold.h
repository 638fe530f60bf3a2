/* How well items are found that nobody has chosen yet: by their text, and by the graph. Whole items
 * are held back from what is learned, and people who chose some of them are asked for these. */
#pragma once

#include "akin/evaluate.h"
#include "recommend/graph_place.h"
#include "recommend/split_text.h"

struct backend;
struct catalog;

enum { COLD_K = 50, COLD_LEAST = 5 };

struct cold_lesson {
    const struct backend *backend;
    const struct catalog *catalog;
    const struct histories *histories;
    const struct split_text *text;      /* with a space */
    uint64_t seed;
    struct graph_card card;
    struct akin_progress progress;
};

/* A fifth of the items that COLD_LEAST people or more chose is drawn with the seed and taken out of
 * all histories; the rest teaches the graph. For everybody with COLD_LEAST choices left and one
 * taken out at least, what was taken out is ranked; recall is the share of theirs among the first
 * COLD_K. AKIN_ARGUMENT: nobody is left to be asked. */
enum akin_status cold_evaluate(const struct cold_lesson *lesson, struct akin_cold *cold,
                               struct akin_error *error);
