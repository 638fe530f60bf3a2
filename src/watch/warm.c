#include "watch/warm.h"

#include "base/limits.h"
#include "base/memory.h"
#include "watch/arrivals.h"

/* Events that come out of the store, judged a batch at a time: their texts last for one call. */
struct relearning {
    struct scorer *scorer;
    double alarmed_weight;
    struct arrivals queue;
    struct judged *batch;       /* [SCORER_BATCH_MAX] */
    struct warm *warm;
    enum akin_status status;
    struct akin_error *error;
};

struct event stored_event_view(const struct stored_event *s)
{
    return (struct event){ .seq = s->number, .text = s->text, .time = s->time,
                           .source = s->source, .level = s->level, .session = s->session,
                           .text_bytes = s->text_bytes, .session_bytes = s->session_bytes,
                           .id = "", .cursor = "" };
}

static enum akin_status flush(struct relearning *r)
{
    const struct scorer_sink nobody = {0};
    struct akin_watch_report report = {0};
    size_t count = r->queue.count;
    for (size_t i = 0; i < count; i++)
        r->batch[i].event = &arrivals_at(&r->queue, i)->event;
    enum akin_status status = scorer_batch(r->scorer, r->batch, count, 0, &nobody, &report,
                                          r->error);
    arrivals_pop(&r->queue, count);
    r->warm->learned += count;
    return status;
}

static bool take_event(void *cookie, const struct stored_event *stored)
{
    struct relearning *r = cookie;
    struct event event = stored_event_view(stored);
    struct arrival *slot = arrivals_slot(&r->queue);
    if (!slot) {
        r->status = flush(r);
        if (r->status != AKIN_OK)
            return false;
        slot = arrivals_slot(&r->queue);
    }
    if (!arrival_fill(slot, &event)) {
        r->status = error_memory(r->error);
        return false;
    }
    double weight = stored->label < 0   ? 1
                    : stored->label > 0 ? 0
                    : stored->alert     ? r->alarmed_weight : 1;
    r->batch[r->queue.count] = (struct judged){.history = true, .weight = weight};
    arrivals_push(&r->queue);
    return true;
}

static bool take_first(void *cookie, const struct stored_event *stored)
{
    struct relearning *r = cookie;
    r->warm->first_us = stored->time_us;
    return false;
}

static bool take_kind(void *cookie, uint64_t kind, const char *text, const float *vector,
                      size_t dimension)
{
    struct relearning *r = cookie;
    (void)text;
    (void)dimension;
    r->status = scorer_know(r->scorer, kind, vector, r->error);
    return r->status == AKIN_OK;
}

static enum akin_status relearn(struct relearning *r, struct event_store *store, size_t events)
{
    struct event_store_info info;
    event_store_info(store, &info);
    if (!info.last || !events)
        return AKIN_OK;
    uint64_t from = info.last >= events ? info.last - events + 1 : 1;
    if (scorer_dimension(r->scorer))
        TRY(event_store_kinds(store, take_kind, r, r->error));
    TRY(r->status);
    TRY(event_store_read(store, info.first, false, NULL, take_first, r, r->error));
    TRY(event_store_read(store, from > info.first ? from : info.first, false, NULL, take_event, r,
                         r->error));
    TRY(r->status);
    return flush(r);
}

enum akin_status warm_start(struct scorer *scorer, struct event_store *store, size_t events,
                            double alarmed_weight, struct warm *warm, struct akin_error *error)
{
    struct relearning r = { .scorer = scorer, .alarmed_weight = alarmed_weight, .warm = warm,
                            .error = error };
    enum akin_status status = AKIN_OK;
    *warm = (struct warm){0};
    r.batch = memory_alloc(SCORER_BATCH_MAX, sizeof *r.batch);
    if (arrivals_init(&r.queue, SCORER_BATCH_MAX, EVENT_QUEUE_BYTES_MAX) && r.batch)
        status = relearn(&r, store, events);
    else
        status = error_memory(error);
    arrivals_deinit(&r.queue);
    memory_free(r.batch);
    return status;
}
