/* Sealed parts on a card: brought there by the first search that meets them, one search at a time
 * for each part. Where nobody insists on the card, a part that it refuses, or fails at, is searched
 * on the CPU from then on. */
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
    if (status != AKIN_OK && !card->required) {
        segment_card_destroy(&part->card);
        atomic_store(&part->card_state, CARD_NONE);
        log_write(card->log, AKIN_LOG_WARNING, "%s: searching %zu rows on the CPU: %s", c->path,
                  part->rows, reason.message);
    }
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
