/* How the parts of a score are put together: weights that are constants of the program, chosen on
 * validation data (docs/evaluation.md), one set for all catalogues, and where a catalogue's own
 * events say otherwise beyond doubt, learned from these (blend_learn.h). A session that goes on and
 * a person who comes back want different things, hence two. */
#pragma once

#include "recommend/taste.h"

enum blend_context {
    BLEND_NEXT,         /* the history's last event was just now */
    BLEND_RETURN,       /* it was some time ago */
    BLEND_CONTEXTS
};

/* A gap longer than this is a return. Not tuned. */
enum { BLEND_SESSION_SECONDS = 3600 };

/* The weight of a query beside a person, unless another was learned or asked for. */
enum { BLEND_QUERY_TENTHS = 7 };
#define BLEND_QUERY (BLEND_QUERY_TENTHS / 10.0f)
/* That of the mean over an item's genres of what is wanted, where no reranker says better. */
#define BLEND_MATCH 2.0f

/* What texts are compared with. */
enum blend_text {
    BLEND_TEXT_NONE,
    BLEND_TEXT_ITEM,    /* the last item of the history */
    BLEND_TEXT_BOTH,    /* the fast and the slow vector of the person, each at length 1 */
    BLEND_TEXT_SLOW,    /* the slow one */
    BLEND_TEXT_GRAPH = 8    /* added to one of the others: new items by the graph */
};

struct blend {
    const char *name, *formula;
    enum blend_text text;
    struct taste_weights weights;   /* that of text is 0 where text is NONE */
    enum situation_kind situation;  /* that is told, */
    float lift, match;              /* and weights of what it is worth by the reranker, and of the
                                       mean over an item's genres of what is wanted */
};

/* What is shipped, and what its text is compared with. */
const struct taste_weights *blend_default(enum blend_context context);
enum blend_text blend_text_of(enum blend_context context);

/* Rows of a situation that is told, for replays: the default with it. */
const struct blend *blend_situations(size_t *count);

/* The rows of the ablation table: popularity first, then recent popularity; the default last, and
 * before it the default without text. */
const struct blend *blend_table(enum blend_context context, size_t *count);

/* "recent + 0.2 young + 1 text"; what does not fit is left out. */
void blend_formula(const struct taste_weights *weights, char *text, size_t bytes);
