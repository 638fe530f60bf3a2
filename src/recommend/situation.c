/* See situation.h. */
#include "recommend/situation.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/rng.h"
#include "catalog/catalog.h"
#include "recommend/blend.h"
#include "recommend/context.h"

static const char *const time_names[SITUATION_TIMES] = {
    "time_of_day.morning", "time_of_day.afternoon", "time_of_day.evening"
};
static const char *const social_names[] = { "social_signal.alone", "social_signal.together" };

/* ---- terms ------------------------------------------------------------------------------ */

static size_t find_term(const struct situation_term *names, size_t terms, const char *name)
{
    for (size_t t = 1; t <= terms; t++)
        if (!strcasecmp(names[t].text, name))
            return t;
    return 0;
}

/* 0: there is no room for it. */
static size_t genre_term(struct situations *s, const char *genre)
{
    struct situation_term name;
    if (snprintf(name.text, sizeof name.text, "genre.%s", genre) >= (int)sizeof name.text)
        return 0;
    size_t term = find_term(s->names, s->terms, name.text);
    if (term || s->terms == SITUATION_TERMS_MAX)
        return term;
    s->names[++s->terms] = name;
    return s->terms;
}

static enum akin_status make(const struct catalog *catalog, const uint32_t *rows, size_t count,
                             struct situations *s, struct akin_error *error)
{
    size_t capacity = 0, used = 0;
    for (size_t t = 0; t < SITUATION_TIMES; t++)
        snprintf(s->names[++s->terms].text, SITUATION_TERM_BYTES, "%s", time_names[t]);
    for (size_t i = 0; i < count; i++) {
        struct akin_item item = { 0 };
        size_t row = rows ? rows[i] : i;
        if (row < catalog_item_count(catalog))
            catalog_item(catalog, row, &item);
        if (!array_reserve((void **)&s->of, &capacity, used + item.genre_count, sizeof *s->of))
            return error_memory(error);
        for (size_t g = 0; g < item.genre_count; g++) {
            size_t term = genre_term(s, item.genres[g]);
            s->of[used] = (uint16_t)term;
            used += term != 0;
        }
        s->offsets[i + 1] = used;
    }
    return AKIN_OK;
}

enum akin_status situations_create(const struct catalog *catalog, const uint32_t *rows,
                                   size_t count, struct situations *situations,
                                   struct akin_error *error)
{
    struct situations s = { .items = count };
    s.names = memory_alloc(SITUATION_TERMS_MAX + 1, sizeof *s.names);
    s.offsets = memory_alloc(count + 1, sizeof *s.offsets);
    enum akin_status status =
        s.names && s.offsets ? make(catalog, rows, count, &s, error) : error_memory(error);
    if (status == AKIN_OK)
        *situations = s;
    else
        situations_deinit(&s);
    return status;
}

enum akin_status situations_pick(const struct situations *from, const uint32_t *items,
                                 size_t count, struct situations *situations,
                                 struct akin_error *error)
{
    struct situations s = { .items = count, .terms = from->terms };
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += from->offsets[items[i] + 1] - from->offsets[items[i]];
    s.names = memory_alloc(from->terms + 1, sizeof *s.names);
    s.offsets = memory_alloc(count + 1, sizeof *s.offsets);
    s.of = memory_alloc(used + 1, sizeof *s.of);
    if (!s.names || !s.offsets || !s.of) {
        situations_deinit(&s);
        return error_memory(error);
    }
    memcpy(s.names, from->names, (from->terms + 1) * sizeof *s.names);
    for (size_t i = 0; i < count; i++) {
        size_t begin = from->offsets[items[i]], own = from->offsets[items[i] + 1] - begin;
        s.offsets[i + 1] = s.offsets[i] + own;
        for (size_t g = 0; g < own; g++)
            s.of[s.offsets[i] + g] = from->of[begin + g];
    }
    *situations = s;
    return AKIN_OK;
}

void situations_deinit(struct situations *situations)
{
    memory_free(situations->names);
    memory_free(situations->offsets);
    memory_free(situations->of);
    *situations = (struct situations){ 0 };
}

/* ---- what happened ---------------------------------------------------------------------- */

enum { DAY_SECONDS = 86400, HOUR_SECONDS = 3600, MORNING = 5, AFTERNOON = 12, EVENING = 18 };

static void add_hour(int64_t when, float *wanted)
{
    int64_t hour = ((when % DAY_SECONDS + DAY_SECONDS) % DAY_SECONDS) / HOUR_SECONDS;
    size_t time = hour < MORNING || hour >= EVENING ? 2 : hour < AFTERNOON ? 0 : 1;
    wanted[time] = 1;
}

static size_t genres_of(const struct situations *s, uint32_t item)
{
    return s->offsets[item + 1] - s->offsets[item];
}

static bool far_apart(int64_t earlier, int64_t later)
{
    return (double)later - (double)earlier > BLEND_SESSION_SECONDS;
}

/* Shares of genres among the choices of the sitting before. */
static void add_under_way(const struct situations *s, const struct situation_events *e,
                          float *wanted)
{
    size_t near = 0;
    int64_t later = e->when;
    while (near < SITUATION_NEAR && near < e->at && !far_apart(e->times[e->at - 1 - near], later))
        later = e->times[e->at - 1 - near++];
    size_t total = 0;
    for (size_t n = 0; n < near; n++)
        total += genres_of(s, e->items[e->at - 1 - n]);
    for (size_t n = 0; n < near; n++) {
        uint32_t item = e->items[e->at - 1 - n];
        for (size_t g = s->offsets[item]; g < s->offsets[item + 1]; g++)
            wanted[s->of[g] - 1] += 1 / (float)total;
    }
}

/* One genre of one of events [at + skip, at + skip + ahead) of the sitting; without one, nothing.
 */
static void add_told(const struct situations *s, const struct situation_events *e, size_t skip,
                     size_t ahead, float weight, struct rng *rng, float *wanted)
{
    size_t end = e->at < e->count ? e->at + 1 : e->count;
    while (end < e->count && end < e->at + skip + ahead &&
           !far_apart(e->times[end - 1], e->times[end]))
        end++;
    if (end <= e->at + skip)
        return;
    size_t event = e->at + skip + rng_below(rng, end - e->at - skip);
    size_t genres = genres_of(s, e->items[event]);
    if (genres)
        wanted[s->of[s->offsets[e->items[event]] + rng_below(rng, genres)] - 1] += weight;
}

void situation_of(const struct situations *s, enum situation_kind kind,
                  const struct situation_events *events, struct rng *rng, float *wanted)
{
    memset(wanted, 0, s->terms * sizeof *wanted);
    if (kind == SITUATION_HOUR)
        add_hour(events->when, wanted);
    if (kind == SITUATION_UNDER_WAY)
        add_under_way(s, events, wanted);
    if (kind == SITUATION_OTHERS)
        add_told(s, events, 1, SITUATION_AHEAD, 1, rng, wanted);
    if (kind == SITUATION_TOLD)
        add_told(s, events, 0, SITUATION_AHEAD, 1, rng, wanted);
    if (kind == SITUATION_TOLD_EXACTLY)
        add_told(s, events, 0, 1, 1, rng, wanted);
}

void situation_draw(const struct situations *s, float share, const struct situation_events *events,
                    struct rng *rng, float *wanted)
{
    enum { HOUR = 1, GENRES = 2, CHOICES = 3, GENRES_MAX = 3, KINDS = 4 };
    memset(wanted, 0, s->terms * sizeof *wanted);
    if (rng_float(rng) >= share)
        return;
    unsigned told = 1 + (unsigned)rng_below(rng, CHOICES);
    if (told & HOUR)
        add_hour(events->when, wanted);
    bool known = told & GENRES && rng_below(rng, KINDS) == 0;
    if (known)
        add_under_way(s, events, wanted);
    size_t genres = told & GENRES && !known ? 1 + rng_below(rng, GENRES_MAX) : 0;
    for (size_t g = 0; g < genres; g++)
        add_told(s, events, 0, SITUATION_AHEAD, 1 / (float)genres, rng, wanted);
}

/* ---- what is asked ---------------------------------------------------------------------- */

static bool put(const struct situation_term *names, size_t terms, const char *name, float value,
                float *wanted)
{
    size_t term = value > 0 ? find_term(names, terms, name) : 0;
    if (term)
        wanted[term - 1] += value;
    return term != 0;
}

bool situation_asked(const struct situation_term *names, size_t terms,
                     const struct context *context, float *wanted)
{
    bool any = false;
    float sum = 0;
    memset(wanted, 0, terms * sizeof *wanted);
    for (size_t g = 0; g < context->genre_count; g++)
        sum += context->wanted[g];
    for (size_t g = 0; g < context->genre_count; g++) {
        struct situation_term name;
        snprintf(name.text, sizeof name.text, "genre.%s", context->genres[g]);
        any |= put(names, terms, name.text, context->wanted[g] / (sum > 1 ? sum : 1), wanted);
    }
    for (size_t i = 0; context->has_social && i < sizeof social_names / sizeof *social_names; i++)
        any |= put(names, terms, social_names[i], context->social_signal[i], wanted);
    return any;
}

float situation_match(const struct situations *s, const float *wanted, uint32_t item)
{
    float sum = 0;
    for (size_t g = s->offsets[item]; g < s->offsets[item + 1]; g++)
        sum += wanted[s->of[g] - 1];
    return genres_of(s, item) ? sum / (float)genres_of(s, item) : 0;
}
