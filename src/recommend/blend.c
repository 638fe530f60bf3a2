/* The weights. */
#include "recommend/blend.h"

#include <stdio.h>

#define UNTOLD SITUATION_NONE, 0, 0
#define PARTS(...) BLEND_TEXT_NONE, { 0, { __VA_ARGS__ } }, UNTOLD
#define TEXT(kind) kind, { 1, { 0 } }, UNTOLD
#define POPULARITY { "popularity", "pop", PARTS([TASTE_POPULARITY] = 1) }
#define RECENT { "recent popularity", "recent", PARTS([TASTE_RECENT] = 1) }
#define TEXT_ITEM { "text only", "cosine to the last item's text", TEXT(BLEND_TEXT_ITEM) }
#define TASTE { "+ taste", "ease", PARTS([TASTE_EASE] = 1) }
#define RECENCY { "+ recency", "ease_recent", PARTS([TASTE_EASE_RECENT] = 1) }

#define NEXT_FORMULA "0.5 sequence + 11.5 local + 1.2 next + 0.65 pop + 0.15 recent"
#define NEXT_PARTS                                                                       \
    [TASTE_SEQUENCE] = 0.5f, [TASTE_LOCAL] = 11.5f, [TASTE_NEXT] = 1.2f,                 \
    [TASTE_POPULARITY] = 0.65f, [TASTE_RECENT] = 0.15f

static const struct blend next_table[] = {
    POPULARITY, RECENT, TEXT_ITEM,
    { "+ user vector", "cosine to the user's fast and slow text", TEXT(BLEND_TEXT_BOTH) },
    TASTE, RECENCY,
    { "+ what was close in time", "local", PARTS([TASTE_LOCAL] = 1) },
    { "+ popularity prior", "11.5 local + 0.65 pop + 0.15 recent",
      PARTS([TASTE_LOCAL] = 11.5f, [TASTE_POPULARITY] = 0.65f, [TASTE_RECENT] = 0.15f) },
    { "sequence model alone", "sequence + pop",
      PARTS([TASTE_SEQUENCE] = 1, [TASTE_POPULARITY] = 1) },
    { "reranker alone", "attention + pop", PARTS([TASTE_ATTENTION] = 1, [TASTE_POPULARITY] = 1) },
    { "+ reranker", NEXT_FORMULA " + text + 0.25 attention", BLEND_TEXT_BOTH,
      { 1, { NEXT_PARTS, [TASTE_ATTENTION] = 0.25f } }, UNTOLD },
    { "+ context", NEXT_FORMULA " + text + context, sitting under way", BLEND_TEXT_BOTH,
      { 1, { NEXT_PARTS } }, SITUATION_UNDER_WAY, 1, 0 },
    { "+ graph", NEXT_FORMULA " + text, new items by the graph",
      BLEND_TEXT_BOTH | BLEND_TEXT_GRAPH, { 1, { NEXT_PARTS } }, UNTOLD },
    { "blended without text", NEXT_FORMULA, PARTS(NEXT_PARTS) },
    { "blended", NEXT_FORMULA " + text", BLEND_TEXT_BOTH, { 1, { NEXT_PARTS } }, UNTOLD },
};

#define SITUATION(kind, lift, match) BLEND_TEXT_BOTH, { 1, { NEXT_PARTS } }, kind, lift, match

static const struct blend situation_table[] = {
    { "context: hour", "blended + lift", SITUATION(SITUATION_HOUR, 1, 0) },
    { "context: others, later", "blended + lift", SITUATION(SITUATION_OTHERS, 1, 0) },
    { "context: told, by hand", "blended + 2 match", SITUATION(SITUATION_TOLD, 0, BLEND_MATCH) },
    { "context: told", "blended + lift", SITUATION(SITUATION_TOLD, 1, 0) },
    { "context: exactly, by hand", "blended + 2 match",
      SITUATION(SITUATION_TOLD_EXACTLY, 0, BLEND_MATCH) },
    { "context: told exactly", "blended + lift", SITUATION(SITUATION_TOLD_EXACTLY, 1, 0) },
};

const struct blend *blend_situations(size_t *count)
{
    *count = sizeof situation_table / sizeof *situation_table;
    return situation_table;
}

#define RETURN_FORMULA "recent + 0.2 young + 0.8 back + 0.3 ease_scaled"
#define RETURN_PARTS                                                                     \
    [TASTE_RECENT] = 1, [TASTE_YOUNG] = 0.2f, [TASTE_BACK] = 0.8f, [TASTE_EASE_SCALED] = 0.3f

static const struct blend return_table[] = {
    POPULARITY, RECENT, TEXT_ITEM,
    { "+ user vector", "cosine to the user's slow text", TEXT(BLEND_TEXT_SLOW) },
    TASTE, RECENCY,
    { "+ popularity prior", "0.3 ease_scaled + recent",
      PARTS([TASTE_EASE_SCALED] = 0.3f, [TASTE_RECENT] = 1) },
    { "what was close in time", "back + recent", PARTS([TASTE_BACK] = 1, [TASTE_RECENT] = 1) },
    { "reranker alone", "attention + recent", PARTS([TASTE_ATTENTION] = 1, [TASTE_RECENT] = 1) },
    { "+ reranker", RETURN_FORMULA " + text + 0.25 attention", BLEND_TEXT_SLOW,
      { 1, { RETURN_PARTS, [TASTE_ATTENTION] = 0.25f } }, UNTOLD },
    { "+ context", RETURN_FORMULA " + text + context, sitting under way", BLEND_TEXT_SLOW,
      { 1, { RETURN_PARTS } }, SITUATION_UNDER_WAY, 1, 0 },
    { "+ graph", RETURN_FORMULA " + text, new items by the graph",
      BLEND_TEXT_SLOW | BLEND_TEXT_GRAPH, { 1, { RETURN_PARTS } }, UNTOLD },
    { "blended without text", RETURN_FORMULA, PARTS(RETURN_PARTS) },
    { "blended", RETURN_FORMULA " + text", BLEND_TEXT_SLOW, { 1, { RETURN_PARTS } }, UNTOLD },
};

const struct blend *blend_table(enum blend_context context, size_t *count)
{
    bool next = context == BLEND_NEXT;
    *count = next ? sizeof next_table / sizeof *next_table
                  : sizeof return_table / sizeof *return_table;
    return next ? next_table : return_table;
}

const struct taste_weights *blend_default(enum blend_context context)
{
    size_t count;
    const struct blend *table = blend_table(context, &count);
    return &table[count - 1].weights;
}

enum blend_text blend_text_of(enum blend_context context)
{
    return context == BLEND_NEXT ? BLEND_TEXT_BOTH : BLEND_TEXT_SLOW;
}

void blend_formula(const struct taste_weights *weights, char *text, size_t bytes)
{
    size_t at = 0;
    *text = 0;
    for (int p = TASTE_PARTS; p >= 0; p--) {
        float weight = p == TASTE_PARTS ? weights->text : weights->part[p];
        if (weight == 0 || at >= bytes)
            continue;
        at += (size_t)snprintf(text + at, bytes - at, "%s%g %s", at ? " + " : "", (double)weight,
                               p == TASTE_PARTS ? "text" : taste_part_name((enum taste_part)p));
    }
}
