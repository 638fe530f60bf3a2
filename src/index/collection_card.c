/* Sealed parts on a card: brought there by the first search that meets them, one search at a time
 * for each part. Where nobody insists on the card, a part that it refuses, or fails at, is searched
 * on the CPU from then on; otherwise the next search brings it there anew. */
#include <math.h>

#include "base/log.h"
#include "index/collection_parts.h"

enum { CARD_UNASKED, CARD_NONE, CARD_THERE };

struct collection_card {
    struct mutex *lock;         /* while it is asked for */
    atomic_int state;
    struct index_card card;     /* once THERE */
};

bool collection_card_create(struct collection *c)
{
    if (!c->host.find_card)
        return true;
    c->card = memory_alloc(1, sizeof *c->card);
    if (!c->card)
        return false;
    atomic_init(&c->card->state, CARD_UNASKED);
    c->card->lock = mutex_create();
    return c->card->lock != NULL;
}

void collection_card_destroy(struct collection *c)
{
    if (c->card)
        mutex_destroy(&c->card->lock);
    memory_free(c->card);
    c->card = NULL;
}

/* *card NULL: there is none. */
static enum akin_status find(const struct collection *c, const struct index_card **card,
                             struct akin_error *error)
{
    struct collection_card *own = c->card;
    enum akin_status status = AKIN_OK;
    *card = NULL;
    if (!own || atomic_load(&own->state) == CARD_NONE)
        return AKIN_OK;
    mutex_lock(own->lock);
    if (atomic_load(&own->state) == CARD_UNASKED) {
        status = c->host.find_card(c->host.card_context, &own->card, error);
        if (status == AKIN_OK)
            atomic_store(&own->state, own->card.search ? CARD_THERE : CARD_NONE);
    }
    if (atomic_load(&own->state) == CARD_THERE)
        *card = &own->card;
    mutex_unlock(own->lock);
    return status;
}

/* ---- a part ----------------------------------------------------------------------------- */

bool part_card_create(const struct collection *c, struct part *part)
{
    if (!c->card)
        return true;
    atomic_init(&part->card_state, CARD_UNASKED);
    part->card_lock = mutex_create();
    return part->card_lock != NULL;
}

void part_card_destroy(struct part *part)
{
    segment_card_destroy(&part->card);
    mutex_destroy(&part->card_lock);
}

size_t part_card_bytes(struct part *part)
{
    if (!part->card_lock)
        return 0;
    mutex_lock(part->card_lock);
    size_t bytes = part->card ? segment_card_bytes(part->card) : 0;
    mutex_unlock(part->card_lock);
    return bytes;
}

static enum akin_status bring(struct part *part, const struct index_card *card,
                              struct akin_error *error)
{
    if (atomic_load(&part->card_state) != CARD_UNASKED)
        return AKIN_OK;
    if (!card->required && !segment_card_wanted(part->segment)) {
        atomic_store(&part->card_state, CARD_NONE);
        return AKIN_OK;
    }
    TRY(segment_card_create(part->segment, card, &part->card, error));
    atomic_store(&part->card_state, CARD_THERE);
    return AKIN_OK;
}

static enum akin_status search_on_card(const struct collection *c, const struct index_card *card,
                                       struct part *part, const struct segment_query *query,
                                       uint64_t number, const struct segment_hits *hits,
                                       bool *answered, struct akin_error *error)
{
    struct akin_error reason = { 0 };
    if (atomic_load(&part->card_state) == CARD_NONE)
        return AKIN_OK;
    mutex_lock(part->card_lock);
    enum akin_status status = bring(part, card, &reason);
    if (status == AKIN_OK && part->card)
        status = segment_card_search(part->card, query, number, hits, answered, &reason);
    if (status != AKIN_OK) {            /* nothing of it can be relied on any more */
        segment_card_destroy(&part->card);
        atomic_store(&part->card_state, card->required ? CARD_UNASKED : CARD_NONE);
    }
    if (status != AKIN_OK && !card->required)
        log_write(card->log, AKIN_LOG_WARNING, "%s: searching %zu rows on the CPU: %s", c->path,
                  part->rows, reason.message);
    mutex_unlock(part->card_lock);
    if (status == AKIN_OK || !card->required)
        return AKIN_OK;
    return error_set(error, status, "%s: searching %zu rows on the card: %s (device auto or cpu "
                     "searches them on the CPU)", c->path, part->rows, reason.message);
}

enum akin_status part_search(const struct collection *c, struct part *part,
                             const struct segment_query *query, uint64_t number,
                             const struct segment_hits *hits, struct akin_error *error)
{
    const struct index_card *card;
    bool answered = false;
    TRY(find(c, &card, error));
    if (card)
        TRY(search_on_card(c, card, part, query, number, hits, &answered, error));
    return answered ? AKIN_OK : segment_search(part->segment, query, hits, error);
}

/* ---- its own clock ---------------------------------------------------------------------- */

/* All sealed parts of a snapshot, which were brought to the card before. */
static enum akin_status measure(const struct snapshot *s, const struct segment_query *asked,
                                const struct segment_hits *hits, double *seconds,
                                struct akin_error *error)
{
    *seconds = s->sealed ? 0 : NAN;
    for (size_t i = 0; i < s->sealed; i++) {
        const struct view *view = &s->views[i];
        struct segment_query query = *asked;
        double own = NAN;
        bool answered = false;
        enum akin_status status = AKIN_OK;
        query.allowed = view->bits ? view->bits->alive : NULL;
        query.allowed_count = view_live(view);
        query.k = asked->k < query.allowed_count ? asked->k : query.allowed_count;
        if (!view->part->card_lock)
            break;
        mutex_lock(view->part->card_lock);
        if (view->part->card)
            status = segment_card_measure(view->part->card, &query,
                                          view->bits ? view->bits->number : 0, hits, &own,
                                          &answered, error);
        mutex_unlock(view->part->card_lock);
        *seconds += own;
        TRY(status);
    }
    return AKIN_OK;
}

enum akin_status collection_card_seconds(const struct collection *c,
                                         const struct akin_index_query *query, double *seconds,
                                         struct akin_error *error)
{
    size_t hits_count, numbers;
    *seconds = NAN;
    if (!c->card || atomic_load(&c->card->state) != CARD_THERE || !query->count || !query->k)
        return AKIN_OK;
    if (!size_mul(query->count, query->k, &hits_count) || !size_mul(query->count, c->dim, &numbers))
        return error_memory(error);
    float *unit = memory_alloc_aligned(numbers, sizeof *unit);
    struct segment_hits hits = { memory_alloc(hits_count, sizeof(struct hit)),
                                 memory_alloc(query->count, sizeof(size_t)) };
    struct snapshot *snapshot = snapshot_take(c);
    enum akin_status status = unit && hits.hits && hits.found ? AKIN_OK : error_memory(error);
    for (size_t q = 0; status == AKIN_OK && q < query->count; q++)
        if (c->metric == AKIN_METRIC_COSINE)
            unit_row(query->vectors + q * c->dim, c->dim, unit + q * c->dim);
    struct segment_query asked = {
        .queries = c->metric == AKIN_METRIC_COSINE ? unit : query->vectors, .count = query->count,
        .k = query->k, .exact = query->exact,
        .recall = query->recall > 0 ? query->recall : COLLECTION_RECALL,
    };
    if (status == AKIN_OK)
        status = measure(snapshot, &asked, &hits, seconds, error);
    snapshot_release(snapshot);
    memory_free(hits.found);
    memory_free(hits.hits);
    memory_free(unit);
    return status;
}
