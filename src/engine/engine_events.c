/* include/akin/events.h over src/watch. */
#include "akin/events.h"

#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "compute/backend.h"
#include "compute/cuda_plugin.h"
#include "engine/engine.h"
#include "model/model.h"
#include "watch/event_snapshot.h"
#include "watch/event_store.h"

struct akin_events {
    struct event_store *store;
    struct akin_model *model;   /* NULL: none */
    char *folder;
};

/* Where the card is not to be had, a warning was given; where one was asked for, the model that the
 * watch needs has failed for it before. */
static const struct search_device_ops *find_card(void *cookie, int *ordinal)
{
    const struct cuda_plugin *plugin = NULL;
    if (engine_card_of(cookie, CARD_SEARCH, &plugin, ordinal, NULL) != AKIN_OK)
        return NULL;
    return plugin ? plugin->search : NULL;
}

enum akin_status akin_events_open(struct akin_engine *engine, struct akin_model *model,
                                  const struct akin_events_settings *settings,
                                  struct akin_events **events, struct akin_error *error)
{
    char identity[MODEL_IDENTITY_BYTES] = "";
    struct event_store_settings inner = { .folder = settings->folder, .durable = true,
                                          .read_only = !settings->label,
                                          .kernels = cpu_kernels(engine->backend),
                                          .backend = engine->backend,
                                          .card = { find_card, engine,
                                                    engine_cards_required(engine) } };
    struct akin_events *e = memory_alloc(1, sizeof *e);
    if (!e)
        return error_memory(error);
    if (model) {
        e->model = model;
        model_identity(model->model, identity);
        inner.model = identity;
    }
    e->folder = memory_copy_string(settings->folder);
    enum akin_status status = AKIN_OK;
    if (!e->folder)
        status = error_memory(error);
    else if (settings->label && !event_store_is_there(settings->folder))
        status = error_set(error, AKIN_NOT_FOUND, "%s: no store of events", settings->folder);
    else
        status = event_store_open(&inner, (struct event_store_note){ settings->cookie,
                                                                     settings->note },
                                  &e->store, error);
    if (status == AKIN_OK)
        *events = e;
    else
        akin_events_close(&e);
    return status;
}

void akin_events_close(struct akin_events **events)
{
    struct akin_events *e = *events;
    if (!e)
        return;
    event_store_close(&e->store);
    memory_free(e->folder);
    memory_free(e);
    *events = NULL;
}

enum akin_status akin_events_refresh(struct akin_events *events, struct akin_error *error)
{
    return event_store_refresh(events->store, error);
}

/* ---- searching ------------------------------------------------------------------------------- */

struct taking {
    bool (*take)(void *cookie, const struct akin_stored_event *event);
    void *cookie;
    float similarity;
    uint64_t number;            /* the only one that is wanted; 0: any */
    size_t left;
    bool stopped;
};

static bool hand_out(void *cookie, const struct stored_event *e)
{
    struct taking *t = cookie;
    if (t->number && t->number != e->number)
        return false;           /* removed since it was found */
    struct akin_stored_event out = {
        .number = e->number, .time_us = e->time_us, .text = e->text, .time = e->time,
        .source = e->source, .level = e->level, .session = e->session,
        .text_bytes = e->text_bytes, .session_bytes = e->session_bytes, .origin = e->origin,
        .id = e->id, .kind = e->kind, .score = (double)e->score, .alert = e->alert,
        .label = e->label, .similarity = t->similarity };
    t->stopped = !t->take(t->cookie, &out);
    return !t->stopped && --t->left > 0;
}

static enum akin_status embed(struct akin_events *e, const char *query, float **vector,
                              struct akin_error *error)
{
    struct akin_model_info model;
    struct event_store_info store;
    struct akin_embed_settings settings;
    struct akin_text text = { query, strlen(query) };
    if (!e->model)
        return error_set(error, AKIN_ARGUMENT, "%s: a search by text needs the model", e->folder);
    akin_model_info(e->model, &model);
    event_store_info(e->store, &store);
    if (store.dimension != model.dimension)
        return error_set(error, AKIN_NOT_FOUND,
                         "%s: no vectors by %s in this store: search with the model that the watch "
                         "had", e->folder, model.name);
    *vector = memory_alloc(model.dimension, sizeof **vector);
    if (!*vector)
        return error_memory(error);
    akin_embed_settings_default(&settings);
    enum akin_status status = akin_model_embed(e->model, &text, 1, &settings, *vector, NULL, error);
    if (status != AKIN_OK) {
        memory_free(*vector);
        *vector = NULL;
    }
    return status;
}

static enum akin_status take_hits(struct akin_events *e, const struct event_hit *hits,
                                  size_t count, struct taking *taking, struct akin_error *error)
{
    for (size_t i = 0; i < count && !taking->stopped; i++) {
        taking->left = 1;
        taking->similarity = hits[i].similarity;
        taking->number = hits[i].number;
        TRY(event_store_read(e->store, hits[i].number, false, NULL, hand_out, taking, error));
    }
    return AKIN_OK;
}

static struct event_filter inner_filter(const struct akin_event_filter *f)
{
    return f ? (struct event_filter){ f->from_us, f->until_us, f->alerts, f->label, f->source,
                                      f->session, f->origin, f->level, f->score_min }
             : (struct event_filter){ 0 };
}

enum akin_status akin_events_nearest(struct akin_events *events, const float *query,
                                     size_t dimension, size_t k,
                                     const struct akin_event_filter *filter,
                                     bool (*take)(void *cookie,
                                                  const struct akin_stored_event *event),
                                     void *cookie, struct akin_error *error)
{
    struct taking taking = { .take = take, .cookie = cookie };
    const struct event_filter inner = inner_filter(filter);
    struct event_store_info info;
    size_t found = 0;
    event_store_info(events->store, &info);
    if (info.events && info.dimension != dimension)
        return error_set(error, AKIN_ARGUMENT, "%s: the query has %zu numbers, the vectors of this "
                         "store %zu", events->folder, dimension, info.dimension);
    k = k < info.events ? k : (size_t)info.events;
    if (!k)
        return AKIN_OK;
    struct event_hit *hits = memory_alloc(k, sizeof *hits);
    enum akin_status status =
        !hits ? error_memory(error)
              : event_store_search(events->store, query, k, &inner, hits, &found, error);
    if (status == AKIN_OK)
        status = take_hits(events, hits, found, &taking, error);
    memory_free(hits);
    return status;
}

enum akin_status akin_events_search(struct akin_events *events, const char *query, size_t k,
                                    const struct akin_event_filter *filter,
                                    bool (*take)(void *cookie,
                                                 const struct akin_stored_event *event),
                                    void *cookie, struct akin_error *error)
{
    struct taking taking = { .take = take, .cookie = cookie, .left = k };
    const struct event_filter inner = inner_filter(filter);
    struct event_store_info info;
    float *vector = NULL;
    event_store_info(events->store, &info);
    if (!k || !info.events)
        return AKIN_OK;
    if (!query)
        return event_store_read(events->store, 0, true, &inner, hand_out, &taking, error);
    TRY(embed(events, query, &vector, error));
    enum akin_status status = akin_events_nearest(events, vector, info.dimension, k, filter, take,
                                                  cookie, error);
    memory_free(vector);
    return status;
}

/* ---- the rest -------------------------------------------------------------------------------- */

enum akin_status akin_events_label(struct akin_events *events, uint64_t number, int label,
                                   struct akin_error *error)
{
    return event_store_label(events->store, number, label, error);
}

static bool take_time(void *cookie, const struct stored_event *event)
{
    *(int64_t *)cookie = event->time_us;
    return false;
}

enum akin_status akin_events_info(struct akin_events *events, struct akin_events_info *info,
                                  struct akin_error *error)
{
    struct event_store_info inner;
    int64_t first = 0, last = 0;
    event_store_info(events->store, &inner);
    TRY(event_store_read(events->store, 0, false, NULL, take_time, &first, error));
    TRY(event_store_read(events->store, 0, true, NULL, take_time, &last, error));
    *info = (struct akin_events_info){
        .first = inner.first, .last = inner.last, .events = inner.events, .alerts = inner.alerts,
        .labels = inner.labels, .kinds = inner.kinds, .bytes = inner.bytes,
        .segments = inner.segments, .damaged = inner.damaged, .dimension = inner.dimension,
        .first_us = first, .last_us = last };
    return AKIN_OK;
}

enum akin_status akin_snapshot_make(const struct akin_snapshot_settings *settings,
                                    struct akin_snapshot_report *report, struct akin_error *error)
{
    return event_snapshot_make(settings, report, error);
}
