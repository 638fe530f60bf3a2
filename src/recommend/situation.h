/* The situation of a choice: the time of day and genres that are wanted. What of it can be told has
 * a number, from 1 on, which is a row of the reranker's C; and what is told of events that were
 * recorded, for training and for evaluation, is made here, one way for both (docs/evaluation.md).
 */
#pragma once

#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

struct catalog;
struct context;
struct rng;

enum {
    SITUATION_TERMS_MAX = 256,
    SITUATION_TERM_BYTES = 80,  /* of a name: "time_of_day.morning", "genre.Drama" */
    SITUATION_TIMES = 3,        /* terms 1 to 3: morning, afternoon, evening */
    SITUATION_NEAR = 5,         /* choices just before that count as the sitting under way */
    SITUATION_AHEAD = 3,        /* choices that somebody who is asked has in mind */
};

struct situation_term {
    char text[SITUATION_TERM_BYTES];
};

struct situations {
    size_t terms, items;
    struct situation_term *names;   /* [terms + 1]; the first is empty */
    size_t *offsets;            /* [items + 1] into of: the genres of each item */
    uint16_t *of;
};

/* Genres of the catalogue, of items [count] that are rows of it (UINT32_MAX: unknown; `rows` NULL:
 * item i is row i). Beyond SITUATION_TERMS_MAX terms those found last cannot be told. */
enum akin_status situations_create(const struct catalog *catalog, const uint32_t *rows,
                                   size_t count, struct situations *situations,
                                   struct akin_error *error);
/* The same terms, of items [count] of those there. */
enum akin_status situations_pick(const struct situations *from, const uint32_t *items,
                                 size_t count, struct situations *situations,
                                 struct akin_error *error);
void situations_deinit(struct situations *situations);

/* Of what happened. The hour is that of UTC: morning from 5, afternoon from 12, evening from 18 to
 * 5. A sitting goes on while no hour passes without a choice. */
enum situation_kind {
    SITUATION_NONE,
    SITUATION_HOUR,
    SITUATION_UNDER_WAY,        /* the genres of up to NEAR choices before: shares */
    SITUATION_OTHERS,           /* one genre of one of the AHEAD choices behind */
    SITUATION_TOLD,             /* likewise, the choice itself being one of the AHEAD */
    SITUATION_TOLD_EXACTLY,     /* of the choice itself */
    SITUATION_KINDS
};

/* Of one person: events oldest first, of which `at` is asked for. */
struct situation_events {
    const uint32_t *items;      /* [count] */
    const int64_t *times;       /* [count] */
    size_t count, at;
    int64_t when;               /* the time of event `at`, which may be behind the last */
};

/* wanted [terms]: 0 to 1, of term 1 and on. The same generator gives the same. */
void situation_of(const struct situations *situations, enum situation_kind kind,
                  const struct situation_events *events, struct rng *rng, float *wanted);

/* Of training: nothing with 1 - share; otherwise the hour, genres, or both: a quarter
 * of these as UNDER_WAY, the others one to three as TOLD. */
void situation_draw(const struct situations *situations, float share,
                    const struct situation_events *events, struct rng *rng, float *wanted);

/* Of a request, by the names [terms + 1]; genres that add up to more than 1 are divided by that.
 * The hour is not minded: what was learned of it makes lists worse (docs/results/recommend.md).
 * false: nothing of it has a term. */
bool situation_asked(const struct situation_term *names, size_t terms,
                     const struct context *context, float *wanted);

/* The mean over an item's genres of what is wanted of them. */
float situation_match(const struct situations *situations, const float *wanted, uint32_t item);
