/* How the parts of a score are put together: weights that are constants of the program, chosen on
 * validation data (docs/evaluation.md), one set for all catalogues. A session that goes on and a
 * person who comes back want different things, hence two. */
#pragma once

#include "recommend/taste.h"

enum blend_context {
    BLEND_NEXT,         /* the history's last event was just now */
    BLEND_RETURN,       /* it was some time ago */
};

/* A gap longer than this is a return. Not tuned. */
enum { BLEND_SESSION_SECONDS = 3600 };

enum blend_text { BLEND_TEXT_NONE, BLEND_TEXT_ITEM, BLEND_TEXT_USER };

struct blend {
    const char *name, *formula;
    enum blend_text text;           /* not NONE: similarity of texts alone, and no weights */
    float weights[TASTE_PARTS];
};

/* What is shipped. */
const struct blend *blend_default(enum blend_context context);
/* The rows of the ablation table: popularity first, the default last. */
const struct blend *blend_table(enum blend_context context, size_t *count);
