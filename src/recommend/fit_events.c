/* See fit_events.h. Ratings of which there is a later one are left out here, so that an item counts
 * once for a person, where it came last. */
#include "recommend/fit_events.h"

#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "catalog/catalog.h"
#include "catalog/live_store.h"

enum { BUSY_MS = 10000 };

struct reading {
    const struct catalog *catalog;
    size_t users;
    struct string_map names;        /* of people whom the catalogue does not know, to numbers */
    struct string_pool pool;
    struct history_event *live;     /* in the order in which they were made */
    size_t live_count, live_capacity;
    struct number_map latest;       /* person << 32 | item to the place in live */
    bool failed;
};

static uint64_t pair_of(uint32_t user, uint32_t item)
{
    return (uint64_t)user << 32 | item;
}

/* The number of a person; SIZE_MAX: no memory. */
static size_t number_user(struct reading *f, const char *name)
{
    size_t number, bytes = strlen(name);
    uint64_t known;
    if (catalog_find_user(f->catalog, name, &number, NULL) == AKIN_OK)
        return number;
    if (string_map_get(&f->names, name, bytes, &known))
        return (size_t)known;
    const char *copy = string_pool_add(&f->pool, name, bytes);
    if (!copy || !string_map_put(&f->names, copy, bytes, f->users, NULL, NULL))
        return SIZE_MAX;
    return f->users++;
}

/* live_hooks.happened */
static void take_event(void *context, const char *user, const struct live_event *event)
{
    struct reading *f = context;
    size_t number = f->failed ? SIZE_MAX : number_user(f, user);
    if (number >= UINT32_MAX ||
        !array_reserve((void **)&f->live, &f->live_capacity, f->live_count + 1, sizeof *f->live) ||
        !number_map_set(&f->latest, pair_of((uint32_t)number, event->row), f->live_count)) {
        f->failed = true;
        return;
    }
    f->live[f->live_count++] = (struct history_event){ (uint32_t)number, event->row,
                                                       event->timestamp };
}

static enum akin_status read_live(struct reading *f, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct live_store *store;
    TRY(path_join(path, sizeof path, catalog_folder(f->catalog), "akin.db", error));
    if (!path_exists(path))
        return AKIN_OK;
    struct live_settings settings = { .catalog = f->catalog, .from_start = true,
                                      .busy_ms = BUSY_MS,
                                      .hooks = { .context = f, .happened = take_event } };
    TRY(live_store_open(path, &settings, &store, error));
    enum akin_status status = live_store_refresh(store, error);
    live_store_close(&store);
    return status == AKIN_OK && f->failed ? error_memory(error) : status;
}

/* Of the catalogue what was not rated again since, then what was made live; person by person in
 * order, because histories_create takes the events of each in the order given. */
static size_t join(const struct reading *f, size_t catalog_users, struct history_event *events)
{
    size_t at = 0;
    uint64_t place;
    for (size_t user = 0; user < catalog_users; user++) {
        size_t count = 0;
        const struct akin_rating *ratings = catalog_user_ratings(f->catalog, user, &count);
        for (size_t r = 0; r < count; r++)
            if (!f->live_count ||
                !number_map_get(&f->latest, pair_of((uint32_t)user, ratings[r].row), &place))
                events[at++] = (struct history_event){ (uint32_t)user, ratings[r].row,
                                                       ratings[r].timestamp };
    }
    for (size_t e = 0; e < f->live_count; e++)
        if (number_map_get(&f->latest, pair_of(f->live[e].user, f->live[e].item), &place) &&
            place == e)
            events[at++] = f->live[e];
    return at;
}

static enum akin_status make(struct reading *f, struct fit_events *made, struct akin_error *error)
{
    struct akin_catalog_info info;
    catalog_info(f->catalog, &info);
    f->users = info.users;
    TRY(read_live(f, error));
    size_t most = info.ratings + f->live_count;
    if (most > UINT32_MAX)
        return error_set(error, AKIN_LIMIT, "%zu ratings; at most %u can be learned from", most,
                         UINT32_MAX);
    struct history_event *events = memory_alloc(most, sizeof *events);
    if (!events)
        return error_memory(error);
    *made = (struct fit_events){ .events = events, .count = join(f, info.users, events),
                                 .users = f->users, .live = f->latest.count };
    return AKIN_OK;
}

enum akin_status fit_events_read(const struct catalog *catalog, struct fit_events *events,
                                 struct akin_error *error)
{
    struct reading f = { .catalog = catalog };
    enum akin_status status = make(&f, events, error);
    string_map_deinit(&f.names);
    string_pool_deinit(&f.pool);
    number_map_deinit(&f.latest);
    memory_free(f.live);
    return status;
}

void fit_events_deinit(struct fit_events *events)
{
    memory_free(events->events);
    *events = (struct fit_events){ 0 };
}

enum akin_status fit_histories(const struct catalog *catalog, const struct fit_events *events,
                               struct histories *histories, struct akin_error *error)
{
    return histories_create(events->events, events->count, events->users,
                            catalog_item_count(catalog), histories, error);
}
