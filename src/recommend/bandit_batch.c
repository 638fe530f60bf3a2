/* See bandit_batch.h. */
#include "recommend/bandit_batch.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"

/* Draws and hits of one call of a card, and arms that it is told of at once. */
enum { DRAWS_AT_ONCE = 1 << 16, HITS_AT_ONCE = 1 << 18, ARMS_AT_ONCE = 1 << 20 };

struct bandit_card {
    const struct bandit_device_ops *ops;
    const struct akin_log *log;
    struct bandit_device *device;
    uint64_t *known;            /* [bandits] changes that the card knows of, and 1; 0: none */
    uint32_t *open;             /* [bandits] arms that were open then, of a round with k of 1 */
    float *alpha, *beta;        /* [told][arms], one block */
    struct device_draw *draws;  /* [DRAWS_AT_ONCE] */
    struct hit *hits;           /* [HITS_AT_ONCE] */
    size_t told, bandits, arms;
    double elapsed_ms;
};

struct bandit_batch {
    struct bandits *bandits;
    struct thread_pool *pool;
    struct mutex *lock;         /* guards the card */
    struct bandit_card card;
};

/* ---- memory ----------------------------------------------------------------------------- */

static void drop_card(struct bandit_card *c)
{
    if (c->device)
        c->ops->destroy(&c->device);
    memory_free(c->known);
    memory_free(c->open);
    memory_free(c->alpha);
    memory_free(c->draws);
    memory_free(c->hits);
    *c = (struct bandit_card){ .ops = NULL };
}

enum akin_status bandit_batch_create(struct bandits *bandits, struct thread_pool *pool,
                                     struct bandit_batch **batch, struct akin_error *error)
{
    struct bandit_batch *b = memory_alloc(1, sizeof *b);
    if (!b)
        return error_memory(error);
    b->bandits = bandits;
    b->pool = pool;
    b->lock = mutex_create();
    if (!b->lock) {
        memory_free(b);
        return error_memory(error);
    }
    *batch = b;
    return AKIN_OK;
}

void bandit_batch_destroy(struct bandit_batch **batch)
{
    struct bandit_batch *b = *batch;
    if (!b)
        return;
    drop_card(&b->card);
    mutex_destroy(&b->lock);
    memory_free(b);
    *batch = NULL;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Of priors: what was learned is told like any other change. */
static enum akin_status open_card(struct bandit_card *c, int ordinal, struct akin_error *error)
{
    size_t all = c->bandits * c->arms;
    c->told = ARMS_AT_ONCE / c->arms ? least(ARMS_AT_ONCE / c->arms, c->bandits) : 1;
    c->known = memory_alloc(c->bandits, sizeof *c->known);
    c->open = memory_alloc(c->bandits, sizeof *c->open);
    c->alpha = memory_alloc(2 * c->told * c->arms, sizeof *c->alpha);
    c->draws = memory_alloc(DRAWS_AT_ONCE, sizeof *c->draws);
    c->hits = memory_alloc(HITS_AT_ONCE, sizeof *c->hits);
    float *priors = memory_alloc(all, sizeof *priors);
    if (!c->known || !c->open || !c->alpha || !c->draws || !c->hits || !priors) {
        memory_free(priors);
        return error_memory(error);
    }
    c->beta = c->alpha + c->told * c->arms;
    for (size_t i = 0; i < all; i++)
        priors[i] = 1;
    enum akin_status status =
        c->ops->create(ordinal, priors, priors, c->bandits, c->arms, &c->device, error);
    memory_free(priors);
    return status;
}

enum akin_status bandit_batch_use_card(struct bandit_batch *batch,
                                       const struct bandit_device_ops *ops, int ordinal,
                                       const struct akin_log *log, struct akin_error *error)
{
    struct bandit_card card = { .ops = ops, .log = log };
    bandits_size(batch->bandits, &card.bandits, &card.arms);
    enum akin_status status = open_card(&card, ordinal, error);
    if (status != AKIN_OK) {
        drop_card(&card);
        return status;
    }
    mutex_lock(batch->lock);
    drop_card(&batch->card);
    batch->card = card;
    mutex_unlock(batch->lock);
    return AKIN_OK;
}

void bandit_batch_card(struct bandit_batch *batch, size_t *bytes, double *elapsed_ms)
{
    mutex_lock(batch->lock);
    const struct bandit_card *c = &batch->card;
    *bytes = c->device ? c->ops->memory(c->device) : 0;
    *elapsed_ms = c->elapsed_ms;
    mutex_unlock(batch->lock);
}

/* ---- on the CPU ------------------------------------------------------------------------- */

struct here {
    struct bandits *bandits;
    const struct akin_bandit_round *rounds;
    const size_t *places;       /* [count] of the first choice */
    struct akin_bandit_choice *choices;
    enum akin_status *statuses; /* [count] */
};

static void choose_one(void *context, size_t i, int worker)
{
    const struct here *h = context;
    (void)worker;
    h->statuses[i] = bandits_choose(h->bandits, &h->rounds[i], h->choices + h->places[i], NULL);
}

static enum akin_status choose_here(const struct bandit_batch *b,
                                    const struct akin_bandit_round *rounds, const size_t *places,
                                    size_t count, struct akin_bandit_choice *choices,
                                    struct akin_error *error)
{
    enum akin_status *statuses = memory_alloc(count, sizeof *statuses), status = AKIN_OK;
    if (!statuses)
        return error_memory(error);
    struct here here = { b->bandits, rounds, places, choices, statuses };
    thread_pool_each(b->pool, count, choose_one, &here);
    for (size_t i = 0; i < count && status == AKIN_OK; i++)
        status = statuses[i];
    memory_free(statuses);
    return status == AKIN_OK ? AKIN_OK : error_memory(error);   /* all rounds were checked */
}

/* ---- on a card -------------------------------------------------------------------------- */

/* Bandits of these rounds that have changed, in runs of neighbours; `wanted` [bandits] is scratch.
 */
static enum akin_status tell(struct bandit_card *c, struct bandits *bandits,
                             const struct akin_bandit_round *rounds, size_t count,
                             uint8_t *wanted, struct akin_error *error)
{
    size_t run = 0;
    memset(wanted, 0, c->bandits);
    for (size_t i = 0; i < count; i++)
        wanted[rounds[i].bandit] = 1;
    for (size_t bandit = 0; bandit <= c->bandits; bandit++) {
        size_t open = 0, at = run * c->arms;
        bool changed = bandit < c->bandits && wanted[bandit] &&
                       bandits_copy(bandits, bandit, &c->known[bandit], c->alpha + at,
                                    c->beta + at, &open);
        if (changed) {
            c->open[bandit] = (uint32_t)open;
            run++;
        }
        size_t end = changed ? bandit + 1 : bandit;
        if (run && (!changed || run == c->told)) {
            TRY(c->ops->put(c->device, end - run, run, c->alpha, c->beta, error));
            run = 0;
        }
    }
    return AKIN_OK;
}

/* Arms that a round draws; whether the card's copy is the one that it draws them from: what arms
 * have in common is in it only where all are open without the round's k. */
static size_t open_of(const struct bandit_card *c, const struct akin_bandit_round *round)
{
    size_t open = c->open[round->bandit];
    return open > round->k ? open : round->k;
}

static bool card_knows(const struct bandit_card *c, const struct akin_bandit_round *round)
{
    return (open_of(c, round) == c->arms) == (c->open[round->bandit] == c->arms) &&
           round->k * (round->replicas + 1) <= HITS_AT_ONCE;
}

/* From hits [1 + replicas][k]. */
static void read_hits(const struct bandits *bandits, const struct akin_bandit_round *round,
                      const struct hit *hits, struct akin_bandit_choice *choices)
{
    size_t k = round->k;
    for (size_t i = 0; i < k; i++) {
        size_t chosen = 1;
        for (size_t h = k; h < (round->replicas + 1) * k; h++)
            chosen += hits[h].row == hits[i].row;
        choices[i] = (struct akin_bandit_choice){
            bandits_arm_at(bandits, round->bandit, hits[i].row), hits[i].score,
            round->replicas ? (float)chosen / (float)(round->replicas + 1) : NAN };
    }
}

/* Rounds from `rounds` on with one k that fit into one call: how many, and their draws. */
static size_t gather(const struct bandit_card *c, const struct akin_bandit_round *rounds,
                     size_t count, size_t *draws)
{
    size_t taken = 0;
    *draws = 0;
    while (taken < count && rounds[taken].k == rounds->k && card_knows(c, &rounds[taken])) {
        const struct akin_bandit_round *r = &rounds[taken];
        size_t more = *draws + r->replicas + 1;
        if (more > DRAWS_AT_ONCE || more * r->k > HITS_AT_ONCE)
            break;
        for (uint32_t replica = 0; replica <= r->replicas; replica++)
            c->draws[(*draws)++] = (struct device_draw){ r->round, (uint32_t)r->bandit,
                                                         (uint32_t)open_of(c, r), replica };
        taken++;
    }
    return taken;
}

static enum akin_status choose_there(struct bandit_batch *b,
                                     const struct akin_bandit_round *rounds, const size_t *places,
                                     size_t count, uint8_t *wanted,
                                     struct akin_bandit_choice *choices, struct akin_error *error)
{
    struct bandit_card *c = &b->card;
    TRY(tell(c, b->bandits, rounds, count, wanted, error));
    c->elapsed_ms = 0;
    for (size_t first = 0; first < count;) {
        size_t draws, taken = gather(c, rounds + first, count - first, &draws);
        if (!taken) {
            TRY(bandits_choose(b->bandits, &rounds[first], choices + places[first], error));
            first++;
            continue;
        }
        TRY(c->ops->choose(c->device, bandits_seed(b->bandits), c->draws, draws, rounds[first].k,
                           c->hits, error));
        c->elapsed_ms += c->ops->elapsed_ms(c->device);
        const struct hit *hits = c->hits;
        for (size_t end = first + taken; first < end; first++) {
            read_hits(b->bandits, &rounds[first], hits, choices + places[first]);
            hits += (rounds[first].replicas + 1) * rounds[first].k;
        }
    }
    return AKIN_OK;
}

/* *done: there was a card, and it did it. */
static enum akin_status try_card(struct bandit_batch *b, const struct akin_bandit_round *rounds,
                                 const size_t *places, size_t count,
                                 struct akin_bandit_choice *choices, bool *done,
                                 struct akin_error *error)
{
    struct akin_error reason = { 0 };
    enum akin_status status = AKIN_OK;
    mutex_lock(b->lock);
    if (b->card.device) {
        uint8_t *wanted = memory_alloc(b->card.bandits, sizeof *wanted);
        status = wanted ? choose_there(b, rounds, places, count, wanted, choices, &reason)
                        : error_memory(&reason);
        memory_free(wanted);
        *done = status == AKIN_OK;
    }
    if (status != AKIN_OK && !b->card.log)      /* what was on its way has to be told again */
        memset(b->card.known, 0, b->card.bandits * sizeof *b->card.known);
    if (status != AKIN_OK && b->card.log) {
        log_write(b->card.log, AKIN_LOG_WARNING, "drawing on the CPU: %s", reason.message);
        drop_card(&b->card);
        status = AKIN_OK;
    }
    mutex_unlock(b->lock);
    return status == AKIN_OK ? AKIN_OK : error_set(error, status, "%s", reason.message);
}

/* ---- all of it -------------------------------------------------------------------------- */

enum akin_status bandit_batch_choose(struct bandit_batch *b,
                                     const struct akin_bandit_round *rounds, size_t count,
                                     bool there, struct akin_bandit_choice *choices,
                                     struct akin_error *error)
{
    size_t place = 0;
    bool done = false;
    for (size_t i = 0; i < count; i++) {
        enum akin_status status = bandits_check(b->bandits, &rounds[i], error);
        if (status != AKIN_OK)
            return error_context(error, status, "round %zu", i);
    }
    if (!count)
        return AKIN_OK;
    size_t *places = memory_alloc(count, sizeof *places);
    if (!places)
        return error_memory(error);
    for (size_t i = 0; i < count; i++) {
        places[i] = place;
        place += rounds[i].k;
    }
    enum akin_status status = AKIN_OK;
    if (there)
        status = try_card(b, rounds, places, count, choices, &done, error);
    if (status == AKIN_OK && !done)
        status = choose_here(b, rounds, places, count, choices, error);
    memory_free(places);
    return status;
}
