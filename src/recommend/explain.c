/* Why an item is among the results: which of the items that were asked for, or of the user's past,
 * add most to its score by taste and by text, and what it has in common with these. */
#include <string.h>

#include "base/memory.h"
#include "catalog/catalog.h"
#include "recommend/request.h"

/* The item and the past. */
enum { SOURCES_MAX = PAST_MAX + 1, ROWS_STEP = 64 };

struct reasons {
    struct asked *asked;
    const struct akin_recommendation *results;
    size_t found, count;
    uint32_t rows[SOURCES_MAX];
    float weights[SOURCES_MAX]; /* of the source, against the others */
    float *shares;              /* [found][SOURCES_MAX] */
};

static void list_sources(struct reasons *w)
{
    const struct asked *a = w->asked;
    if (a->request->similar) {
        w->rows[0] = (uint32_t)a->row;
        w->weights[w->count++] = 1;
    }
    for (size_t i = 0; i < a->past.count; i++) {
        w->rows[w->count] = a->past.rows[i];
        w->weights[w->count++] = a->past.weights[i];
    }
}

static void add_text(struct reasons *w, size_t source)
{
    const struct space *space = w->asked->space;
    const float *vector = space->vectors + w->rows[source] * space->dim;
    float weight = w->asked->blend ? w->asked->weights[PART_TEXT] : 1, products[ROWS_STEP];
    uint32_t rows[ROWS_STEP];
    for (size_t i = 0; i < w->found; i += ROWS_STEP) {
        size_t live = w->found - i < ROWS_STEP ? w->found - i : ROWS_STEP;
        for (size_t j = 0; j < live; j++)
            rows[j] = (uint32_t)w->results[i + j].row;
        request_products(space, w->asked->r->backend, vector, rows, live, products);
        for (size_t j = 0; j < live; j++)
            if (products[j] > 0)
                w->shares[(i + j) * SOURCES_MAX + source] +=
                    weight * w->weights[source] * products[j];
    }
}

static void add_taste(struct reasons *w, size_t source)
{
    struct asked *a = w->asked;
    struct gather *taste = &a->s->taste;
    gather_clear(taste);
    request_gather_taste(a, w->rows[source], w->weights[source]);
    for (size_t i = 0; i < w->found; i++)
        w->shares[i * SOURCES_MAX + source] +=
            a->weights[PART_TASTE] * taste->values[w->results[i].row];
    gather_clear(taste);
}

/* ---- what is shared --------------------------------------------------------------------- */

static bool has(const char *const *list, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i], word))
            return true;
    return false;
}

static void add_shared(const char *const *mine, size_t mine_count, const char *const *theirs,
                       size_t their_count, const char **shared, size_t *count)
{
    for (size_t i = 0; i < mine_count && *count < AKIN_SHARED_MAX; i++)
        if (has(theirs, their_count, mine[i]) && !has(shared, *count, mine[i]))
            shared[(*count)++] = mine[i];
}

static void explain_one(const struct reasons *w, size_t at, struct akin_explanation *out)
{
    float *shares = w->shares + at * SOURCES_MAX, sum = 0;
    struct akin_item item, other;
    *out = (struct akin_explanation){ 0 };
    for (size_t i = 0; i < w->count; i++)
        sum += shares[i];
    catalog_item(w->asked->r->catalog, w->results[at].row, &item);
    while (out->because_count < AKIN_BECAUSE_MAX) {
        size_t most = 0;
        for (size_t i = 1; i < w->count; i++)
            most = shares[i] > shares[most] ? i : most;
        if (w->count == 0 || !(shares[most] > 0))
            break;
        out->because[out->because_count].row = w->rows[most];
        out->because[out->because_count++].share = shares[most] / sum;
        shares[most] = 0;
        catalog_item(w->asked->r->catalog, w->rows[most], &other);
        add_shared(item.genres, item.genre_count, other.genres, other.genre_count, out->genres,
                   &out->genre_count);
        add_shared(item.themes, item.theme_count, other.themes, other.theme_count, out->themes,
                   &out->theme_count);
    }
}

enum akin_status request_explain(struct asked *a, const struct akin_recommendation *results,
                                 size_t found, struct akin_explanation *explanations,
                                 struct akin_error *error)
{
    struct reasons w = { .asked = a, .results = results, .found = found };
    size_t needed;
    if (!size_mul(found, SOURCES_MAX, &needed) ||
        !array_reserve((void **)&a->s->marks, &a->s->mark_capacity, needed + 1,
                       sizeof *a->s->marks))
        return error_memory(error);
    w.shares = a->s->marks;
    memset(w.shares, 0, needed * sizeof *w.shares);
    list_sources(&w);
    for (size_t source = 0; source < w.count; source++) {
        add_text(&w, source);
        if (a->blend)
            add_taste(&w, source);
    }
    for (size_t i = 0; i < found; i++)
        explain_one(&w, i, &explanations[i]);
    return AKIN_OK;
}
