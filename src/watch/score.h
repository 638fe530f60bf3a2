/* How strange one event is: how rare its kind is, whether it comes in a burst like none before, how
 * far its text is from that of the kinds that are common, and how bad its source says it is. */
#pragma once

#include "watch/tail.h"
#include "watch/template.h"

struct kernels;
struct placing;
struct thread_pool;

enum { EVENT_RARITY, EVENT_BURST, EVENT_DISTANCE, EVENT_SEVERITY, EVENT_PARTS, BURST_BITS = 32 };

struct event_model {
    const struct kernels *kernels;
    struct thread_pool *pool;       /* shares out comparisons, which changes no bit; NULL: none */
    struct placing *placing;        /* where they are done; NULL where there are no vectors */
    struct templates *templates;
    size_t dimension;       /* of the templates' vectors; 0: there are none */
    double half_life;       /* of counts, in events */
    double total;           /* decayed count of all events */
    uint64_t clock;         /* events so far, learned or not */
    uint32_t bursts[BURST_BITS];    /* of the history, by half powers of two */
    double burst_limit;     /* nats; 0: to be found anew */
    int worst;              /* severity so far; a source may have none */
    struct tail tail;
};

/* The next event, of kind `slot`: its parts in nats, their sum returned. Nothing is learned. */
double event_model_measure(struct event_model *model, uint32_t slot, int severity,
                           double parts[EVENT_PARTS]);
/* The same without moving the clock, and without bursts: for what is already known. */
double event_model_rarity(struct event_model *model, uint32_t slot);
/* What an error of a kind that was never seen adds up to, unlike no other text; where the source
 * tells no severities, an event of such a kind. */
double event_model_new_error(const struct event_model *model);
/* Counts the event that was measured last. `weight` below 1 counts it for less. During the history
 * `history` notes how strong its burst was. */
void event_model_learn(struct event_model *model, uint32_t slot, double weight, bool history);
struct placing *placing_create(size_t dimension);   /* NULL: no memory */
void placing_destroy(struct placing **placing);
/* These slots have vectors by now: each finds its near kinds, and is offered to theirs. The same
 * however many are placed together. */
void event_model_place(struct event_model *model, const uint32_t *slots, size_t count);
/* Places those of them again that lack a near kind, because it was forgotten. */
void event_model_renew(struct event_model *model, const uint32_t *slots, size_t count);
/* Brings the counts of `slot` up to date and returns its decayed count. */
double event_model_count(struct event_model *model, uint32_t slot);
