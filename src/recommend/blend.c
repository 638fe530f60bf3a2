/* The weights. */
#include "recommend/blend.h"

#define POPULARITY { "popularity", "pop", BLEND_TEXT_NONE, { [TASTE_POPULARITY] = 1 } }
#define RECENT { "recent popularity", "recent", BLEND_TEXT_NONE, { [TASTE_RECENT] = 1 } }
#define TEXT_ITEM { "text only", "cosine to the last item's text", BLEND_TEXT_ITEM, { 0 } }
#define TEXT_USER                                                                    \
    { "+ user vector", "cosine to the running mean of texts, a = 0.3", BLEND_TEXT_USER, { 0 } }
#define TASTE { "+ taste", "ease", BLEND_TEXT_NONE, { [TASTE_EASE] = 1 } }
#define RECENCY { "+ recency", "ease_recent", BLEND_TEXT_NONE, { [TASTE_EASE_RECENT] = 1 } }

static const struct blend next_table[] = {
    POPULARITY, RECENT, TEXT_ITEM, TEXT_USER, TASTE, RECENCY,
    { "+ what was close in time", "local", BLEND_TEXT_NONE, { [TASTE_LOCAL] = 1 } },
    { "+ popularity prior", "11.5 local + 0.65 pop + 0.15 recent", BLEND_TEXT_NONE,
      { [TASTE_LOCAL] = 11.5f, [TASTE_POPULARITY] = 0.65f, [TASTE_RECENT] = 0.15f } },
    { "sequence model alone", "sequence + pop", BLEND_TEXT_NONE,
      { [TASTE_SEQUENCE] = 1, [TASTE_POPULARITY] = 1 } },
    { "blended", "0.5 sequence + 11.5 local + 1.2 next + 0.65 pop + 0.15 recent", BLEND_TEXT_NONE,
      { [TASTE_SEQUENCE] = 0.5f, [TASTE_LOCAL] = 11.5f, [TASTE_NEXT] = 1.2f,
        [TASTE_POPULARITY] = 0.65f, [TASTE_RECENT] = 0.15f } },
};

static const struct blend return_table[] = {
    POPULARITY, RECENT, TEXT_ITEM, TEXT_USER, TASTE, RECENCY,
    { "+ popularity prior", "0.3 ease_scaled + recent", BLEND_TEXT_NONE,
      { [TASTE_EASE_SCALED] = 0.3f, [TASTE_RECENT] = 1 } },
    { "what was close in time", "back + recent", BLEND_TEXT_NONE,
      { [TASTE_BACK] = 1, [TASTE_RECENT] = 1 } },
    { "blended", "recent + back + 0.3 ease_scaled", BLEND_TEXT_NONE,
      { [TASTE_RECENT] = 1, [TASTE_BACK] = 1, [TASTE_EASE_SCALED] = 0.3f } },
};

const struct blend *blend_table(enum blend_context context, size_t *count)
{
    bool next = context == BLEND_NEXT;
    *count = next ? sizeof next_table / sizeof *next_table
                  : sizeof return_table / sizeof *return_table;
    return next ? next_table : return_table;
}

const struct blend *blend_default(enum blend_context context)
{
    size_t count;
    const struct blend *table = blend_table(context, &count);
    return &table[count - 1];
}
