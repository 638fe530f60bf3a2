/* Opening and closing a collection, and making a snapshot of what its file says. */
#include <stdio.h>
#include <string.h>

#include "index/collection_parts.h"

/* ---- settings ---------------------------------------------------------------------------- */

void collection_settings_default(struct akin_index_settings *settings)
{
    *settings = (struct akin_index_settings){
        .kind = "auto", .metric = AKIN_METRIC_COSINE, .recall = COLLECTION_RECALL, .seed = 1,
    };
}

static enum akin_status parse_kind(const char *name, uint32_t *kind, struct akin_error *error)
{
    static const enum segment_kind kinds[] = { SEGMENT_FLAT, SEGMENT_IVFPQ, SEGMENT_GRAPH };
    *kind = 0;
    if (!name || !strcmp(name, "auto"))
        return AKIN_OK;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (!strcmp(name, segment_kind_name(kinds[i])))
            *kind = kinds[i];
    if (!*kind)
        return error_set(error, AKIN_UNSUPPORTED,
                         "index kind \"%.40s\": there are auto, flat, ivfpq and graph", name);
    return AKIN_OK;
}

enum akin_status collection_set_creation(struct collection *c, size_t dimension,
                                         const struct akin_index_settings *settings,
                                         struct akin_error *error)
{
    if ((unsigned)settings->metric > AKIN_METRIC_L2)
        return error_set(error, AKIN_ARGUMENT, "metric %d: there is no such metric",
                         (int)settings->metric);
    if (dimension == 0 || dimension > INDEX_DIMENSION_MAX)
        return error_set(error, dimension ? AKIN_LIMIT : AKIN_ARGUMENT,
                         "vectors of dimension %zu: an index takes 1 to %d", dimension,
                         INDEX_DIMENSION_MAX);
    if (!(settings->recall > 0 && settings->recall <= 1))
        return error_set(error, AKIN_ARGUMENT, "recall %g: expected a share above 0, at most 1",
                         (double)settings->recall);
    const size_t sizes[] = { settings->nlist, settings->pq_bytes, settings->degree,
                             settings->beam };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i] > UINT16_MAX + 1)
            return error_set(error, AKIN_LIMIT,
                             "%zu cells, bytes, neighbours or candidates: at most 65536",
                             sizes[i]);
    if (settings->pq_bits && settings->pq_bits != 4 && settings->pq_bits != 8)
        return error_set(error, AKIN_ARGUMENT, "pq_bits %zu: product codes have 4 or 8 bits",
                         settings->pq_bits);
    c->creation = (struct collection_creation){
        .version = 1, .seed = settings->seed, .nlist = (uint32_t)settings->nlist,
        .pq_bytes = (uint32_t)settings->pq_bytes, .degree = (uint32_t)settings->degree,
        .beam = (uint32_t)settings->beam, .recall = settings->recall,
        .pq_bits = (uint16_t)settings->pq_bits, .storage = (uint16_t)settings->storage,
    };
    c->metric = settings->metric;
    c->dim = dimension;
    TRY(parse_kind(settings->kind, &c->creation.kind, error));
    return check_storage(settings->storage, c->creation.kind, error);
}

struct store_settings collection_store_settings(const struct collection *c)
{
    return (struct store_settings){
        .metric = c->metric, .element = ELEMENT_F32, .dimension = c->dim,
        .creation = &c->creation, .creation_bytes = sizeof c->creation,
    };
}

/* What a file says; one of version 1 is flat. */
static enum akin_status read_creation(struct collection *c, struct akin_error *error)
{
    const struct store_settings *s = store_settings(c->store);
    c->metric = s->metric;
    c->dim = s->dimension;
    c->creation = (struct collection_creation){ .version = 1, .kind = SEGMENT_FLAT,
                                                .recall = COLLECTION_RECALL };
    if (store_version(c->store) < STORE_VERSION)
        return AKIN_OK;
    if (s->creation_bytes != sizeof c->creation)
        return error_set(error, AKIN_FORMAT, "%s: its settings have %zu bytes instead of %zu",
                         c->path, s->creation_bytes, sizeof c->creation);
    memcpy(&c->creation, s->creation, sizeof c->creation);
    const struct collection_creation *x = &c->creation;
    if (x->version != 1)
        return error_set(error, AKIN_UNSUPPORTED, "%s: settings of version %u", c->path,
                         (unsigned)x->version);
    bool kind = x->kind == 0 || (x->kind != SEGMENT_PLAIN && segment_kind_name(x->kind));
    bool bits = x->pq_bits == 0 || x->pq_bits == 4 || x->pq_bits == 8;
    if (!kind || !bits || !(x->recall > 0 && x->recall <= 1) || s->element != ELEMENT_F32 ||
        c->dim > INDEX_DIMENSION_MAX ||
        check_storage((enum akin_storage)x->storage, x->kind, NULL) != AKIN_OK)
        return error_set(error, AKIN_FORMAT, "%s: its settings contradict themselves", c->path);
    return AKIN_OK;
}

/* ---- the snapshot of a file -------------------------------------------------------------- */

static enum akin_status load_segment(struct collection *c, const struct store_segment_ref *ref,
                                     struct view *view, struct akin_error *error)
{
    TRY(part_open(c, ref->frame, &view->part, error));
    struct part *part = view->part;
    part->number = c->next_part++;
    view->frame = ref->frame;
    view->rows = part->rows;
    int64_t last = part->rows ? part_id(part, part->rows - 1) : -1;
    take_id(c, last);
    if (!ref->dead)
        return AKIN_OK;
    struct bits *bits = bits_create(part->rows);
    if (!bits)
        return error_memory(error);
    size_t tail = part->rows % 64;
    enum akin_status status =
        store_read_dead(c->store, ref->dead, part->rows, bits->alive, &bits->dead, error);
    for (size_t i = 0; i < bits->words; i++)
        bits->alive[i] = ~bits->alive[i];
    if (tail)
        bits->alive[bits->words - 1] &= ((uint64_t)1 << tail) - 1;
    view->bits = bits;
    view->dead_frame = ref->dead;
    view->dead_written = bits->dead;
    return status;
}

static enum akin_status read_state(struct collection *c, const struct store_layout *layout,
                                   struct akin_error *error)
{
    struct collection_state state = { .version = 1 };
    if (layout->state_bytes == sizeof state)
        memcpy(&state, layout->state, sizeof state);
    else if (layout->state_bytes)
        state.version = 0;
    if (state.version != 1 || state.zero || state.next_id < 0)
        return error_set(error, AKIN_FORMAT, "%s: the state of its rows makes no sense", c->path);
    if (state.next_id > c->next_id)
        c->next_id = state.next_id;
    return AKIN_OK;
}

enum akin_status collection_load(struct collection *c, struct akin_error *error)
{
    const struct store_layout *layout = store_layout(c->store);
    struct snapshot *s = snapshot_create(layout->segment_count + 1);
    if (!s)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    number_map_deinit(&c->tail_ids);
    string_map_deinit(&c->tail_keys);
    c->open = NULL;
    c->open_rows = 0;
    TRY_DONE(read_state(c, layout, error));
    for (size_t i = 0; i < layout->segment_count; i++) {
        struct view view = { 0 };
        status = load_segment(c, &layout->segments[i], &view, error);
        if (view.part)
            s->views[s->count++] = view;
        TRY_DONE(status);
    }
    s->sealed = s->count;
    if (store_version(c->store) == STORE_VERSION)
        TRY_DONE(tail_replay(c, &s, error));
    edit_count(s);
    snapshot_put(c, s);
    s = NULL;
done:
    if (s)
        c->open = NULL;
    snapshot_release(s);
    return status;
}

/* ---- open, close ------------------------------------------------------------------------- */

enum akin_status collection_init(const struct collection_host *host, const char *path,
                                 struct collection **out, struct akin_error *error)
{
    struct collection *c = memory_alloc(1, sizeof *c);
    if (!c)
        return error_memory(error);
    c->host = *host;
    c->path = memory_copy_string(path);
    c->gate = mutex_create();
    c->writing = mutex_create();
    c->changed = condition_create();
    atomic_init(&c->stopping, false);
    bool card = collection_card_create(c);
    if (card && c->path && c->gate && c->writing && c->changed) {
        *out = c;
        return AKIN_OK;
    }
    collection_close(&c);
    return error_memory(error);
}

static enum akin_status start_background(struct collection *c, struct background *b,
                                         struct akin_error *error)
{
    b->c = c;
    b->pool = thread_pool_create(1);
    if (!b->pool)
        return error_memory(error);
    TRY(cpu_backend_create(c->host.cpu_flags, b->pool, &b->backend, error));
    b->thread = thread_start(seal_background, b, true);
    if (!b->thread)
        return error_set(error, AKIN_MEMORY, "%s: a thread cannot be started", c->path);
    return AKIN_OK;
}

enum akin_status collection_open(const struct collection_host *host, const char *path,
                                 enum akin_index_mode mode, struct collection **collection,
                                 struct akin_error *error)
{
    struct collection *c = NULL;
    enum akin_status status = AKIN_OK;
    bool write = mode == AKIN_INDEX_WRITE;
    TRY(collection_init(host, path, &c, error));
    TRY_DONE(store_open(path, write ? STORE_WRITE : STORE_READ, &c->store, error));
    TRY_DONE(read_creation(c, error));
    c->seal_rows = plan_seal_rows(c->dim);
    TRY_DONE(collection_load(c, error));
    c->writable = write;
    c->merger.merges = true;
    if (write)
        TRY_DONE(start_background(c, &c->sealer, error));
    if (write)
        TRY_DONE(start_background(c, &c->merger, error));
    *collection = c;
    c = NULL;
done:
    collection_close(&c);
    return status;
}

enum akin_status collection_refresh(struct collection *c, struct akin_error *error)
{
    if (c->writable)
        return AKIN_OK;                 /* sees its own work anyway */
    bool changed = false, replaced = false;
    enum akin_status status = AKIN_OK;
    struct store *fresh = NULL, *old;
    mutex_lock(c->writing);
    TRY_DONE(store_refresh(c->store, &changed, &replaced, error));
    if (replaced) {
        TRY_DONE(store_open(c->path, STORE_READ, &fresh, error));
        if (store_settings(fresh)->dimension != c->dim ||
            store_settings(fresh)->metric != c->metric) {
            status = error_set(error, AKIN_FORMAT,
                               "%s: now has other dimensions or another metric; open it anew",
                               c->path);
            goto done;
        }
        old = c->store;
        c->store = fresh;
        fresh = old;
        status = collection_load(c, error);
        if (status != AKIN_OK) {
            fresh = c->store;
            c->store = old;
        }
    } else if (changed) {
        status = collection_load(c, error);
    }
done:
    store_close(&fresh);
    mutex_unlock(c->writing);
    return status;
}

static void stop_background(struct collection *c)
{
    struct background *all[] = { &c->sealer, &c->merger };
    if (c->writing && c->changed) {
        mutex_lock(c->writing);
        atomic_store(&c->stopping, true);
        condition_wake(c->changed);
        mutex_unlock(c->writing);
    }
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        thread_join(&all[i]->thread);
        cpu_backend_destroy(&all[i]->backend);
        thread_pool_destroy(&all[i]->pool);
    }
}

void collection_close(struct collection **collection)
{
    struct collection *c = *collection;
    if (!c)
        return;
    stop_background(c);
    if (c->writable)
        store_sync(c->store, NULL, NULL);
    snapshot_release(c->current);
    store_close(&c->store);
    number_map_deinit(&c->tail_ids);
    string_map_deinit(&c->tail_keys);
    condition_destroy(&c->changed);
    mutex_destroy(&c->writing);
    mutex_destroy(&c->gate);
    collection_card_destroy(c);
    memory_free(c->path);
    memory_free(c);
    *collection = NULL;
}
