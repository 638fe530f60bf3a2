/* See users_warm.h. */
#include "recommend/users_warm.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "recommend/users_state.h"

/* People of a chunk, whose vectors a card has at once; of these, whose ratings a thread writes at
 * once. */
enum { CHUNK = 16384, WRITTEN_AT_ONCE = 64, WOKEN_AT_ONCE = 1024 };

struct visitor {
    int64_t last;               /* when they rated last */
    uint32_t user;
};

struct warmer {
    struct users *users;
    const struct users_warming *warming;
    struct users_view view;
    struct visitor *visitors;   /* [count] who rated last first */
    size_t count, first;        /* first: of the chunk */
    enum akin_status *statuses; /* [WOKEN_AT_ONCE] */
    bool *woken;                /* likewise */
    struct user_device *device;
    size_t *offsets;            /* [CHUNK + 1] ratings of the people before, in the chunk */
    float *vectors;             /* [CHUNK][2][dim]; NULL: on the CPU */
    struct users_warmed warmed;
};

/* ---- who --------------------------------------------------------------------------------- */

static int last_first(const void *a, const void *b)
{
    const struct visitor *x = a, *y = b;
    if (x->last != y->last)
        return x->last > y->last ? -1 : 1;
    return x->user < y->user ? -1 : x->user > y->user;
}

static enum akin_status list_visitors(struct warmer *w, struct akin_error *error)
{
    size_t all = w->view.user_count, most = w->warming->users_max;
    struct users_counts counts;
    w->visitors = memory_alloc(all + 1, sizeof *w->visitors);
    if (!w->visitors)
        return error_memory(error);
    for (size_t u = 0; u < all; u++) {
        size_t count;
        const struct akin_rating *ratings = catalog_user_ratings(w->view.catalog, u, &count);
        if (count && !users_active(w->users, u))
            w->visitors[w->count++] = (struct visitor){ ratings[count - 1].timestamp,
                                                        (uint32_t)u };
    }
    qsort(w->visitors, w->count, sizeof *w->visitors, last_first);
    users_count(w->users, &counts);
    size_t room = (size_t)(counts.capacity - counts.active);
    w->count = w->count < most ? w->count : most;
    w->count = w->count < room ? w->count : room;
    return AKIN_OK;
}

/* ---- on a card --------------------------------------------------------------------------- */

/* Ratings [begin, begin + count) of the chunk on their way, those of people from `user` on. */
struct sending {
    const struct warmer *warmer;
    struct device_rating *room; /* [count] */
    size_t begin, count, user, user_end;
};

static void write_user(const struct sending *s, size_t number)
{
    const struct warmer *w = s->warmer;
    size_t count, from = w->offsets[number], to = w->offsets[number + 1];
    const struct akin_rating *ratings =
        catalog_user_ratings(w->view.catalog, w->visitors[w->first + number].user, &count);
    size_t first = from < s->begin ? s->begin : from;
    size_t end = to < s->begin + s->count ? to : s->begin + s->count;
    for (size_t at = first; at < end; at++)
        s->room[at - s->begin] = (struct device_rating){
            (uint32_t)number, ratings[at - from].row, ratings[at - from].rating };
}

static void write_some(void *context, size_t group, int worker)
{
    const struct sending *s = context;
    size_t user = s->user + group * WRITTEN_AT_ONCE, end = user + WRITTEN_AT_ONCE;
    (void)worker;
    for (; user < end && user < s->user_end; user++)
        write_user(s, user);
}

static enum akin_status send(struct warmer *w, struct sending *s, struct akin_error *error)
{
    const struct user_device_ops *ops = w->warming->card.ops;
    while (w->offsets[s->user + 1] <= s->begin)
        s->user++;
    s->user_end = s->user + 1;
    while (w->offsets[s->user_end] < s->begin + s->count)
        s->user_end++;
    thread_pool_each(w->warming->pool,
                     (s->user_end - s->user + WRITTEN_AT_ONCE - 1) / WRITTEN_AT_ONCE, write_some,
                     s);
    TRY(ops->apply(w->device, s->count, error));
    w->warmed.card_ms += ops->elapsed_ms(w->device);
    return AKIN_OK;
}

static enum akin_status fold_chunk(struct warmer *w, size_t count, struct akin_error *error)
{
    const struct user_device_ops *ops = w->warming->card.ops;
    for (size_t i = 0; i < count; i++) {
        size_t ratings;
        catalog_user_ratings(w->view.catalog, w->visitors[w->first + i].user, &ratings);
        w->offsets[i + 1] = w->offsets[i] + ratings;
    }
    ops->clear(w->device);
    struct sending s = { .warmer = w, .room = ops->room(w->device) };
    for (size_t all = w->offsets[count]; s.begin < all; s.begin += s.count) {
        s.count = all - s.begin < USER_DEVICE_TOGETHER ? all - s.begin : USER_DEVICE_TOGETHER;
        TRY(send(w, &s, error));
    }
    return ops->read(w->device, 0, count, w->vectors, error);
}

static enum akin_status open_card(struct warmer *w, struct akin_error *error)
{
    const struct users_card *card = &w->warming->card;
    const struct user_fold *fold = w->view.fold;
    size_t chunk = w->count < CHUNK ? w->count : CHUNK;
    const struct device_people people = {
        .items = fold->vectors, .item_count = fold->items, .dim = fold->dim, .user_count = chunk,
        .fast = fold->fast, .slow = fold->slow, .rating_max = w->view.rating_max,
    };
    w->offsets = memory_alloc(chunk + 1, sizeof *w->offsets);
    w->vectors = memory_alloc_aligned(2 * chunk * fold->dim, sizeof *w->vectors);
    if (!w->offsets || !w->vectors)
        return error_memory(error);
    return card->ops->create(card->ordinal, &people, &w->device, error);
}

static void close_card(struct warmer *w)
{
    if (w->device)
        w->warming->card.ops->destroy(&w->device);
    memory_free(w->offsets);
    memory_free(w->vectors);
    w->offsets = NULL;
    w->vectors = NULL;
}

/* ---- awake ------------------------------------------------------------------------------- */

struct waking {
    struct warmer *warmer;
    size_t first;               /* in the chunk */
};

static void wake_one(void *context, size_t i, int worker)
{
    const struct waking *waking = context;
    struct warmer *w = waking->warmer;
    size_t number = waking->first + i;
    (void)worker;
    const float *vectors = w->vectors ? w->vectors + number * 2 * w->view.fold->dim : NULL;
    w->statuses[i] = users_wake(w->users, w->visitors[w->first + number].user, vectors,
                                &w->woken[i], NULL);
}

static enum akin_status count_one(struct warmer *w, size_t i, size_t user,
                                  struct akin_error *error)
{
    size_t count;
    if (w->statuses[i] != AKIN_OK)
        return error_set(error, w->statuses[i], "user %s could not be made active",
                         catalog_user_id(w->view.catalog, user));
    catalog_user_ratings(w->view.catalog, user, &count);
    w->warmed.users += w->woken[i];
    w->warmed.ratings += w->woken[i] ? count : 0;
    return AKIN_OK;
}

static enum akin_status wake_chunk(struct warmer *w, size_t count, struct akin_error *error)
{
    const struct akin_progress *progress = &w->warming->progress;
    struct waking waking = { .warmer = w };
    for (; waking.first < count; waking.first += WOKEN_AT_ONCE) {
        size_t now = count - waking.first < WOKEN_AT_ONCE ? count - waking.first : WOKEN_AT_ONCE;
        thread_pool_each(w->warming->pool, now, wake_one, &waking);
        for (size_t i = 0; i < now; i++)
            TRY(count_one(w, i, w->visitors[w->first + waking.first + i].user, error));
        if (progress->update && !progress->update(progress->cookie, "waking users",
                                                  w->first + waking.first + now, w->count))
            return error_set(error, AKIN_CANCELLED, "interrupted");
    }
    return AKIN_OK;
}

/* A card's trouble: the CPU goes on where it may. */
static enum akin_status leave_card(struct warmer *w, enum akin_status status,
                                   const struct akin_error *reason, struct akin_error *error)
{
    const struct akin_log *log = w->warming->card.log;
    close_card(w);
    w->warmed.on_card = false;
    if (!log)
        return error_set(error, status, "%s", reason->message);
    log_write(log, AKIN_LOG_WARNING, "folding users on the CPU: %s", reason->message);
    return AKIN_OK;
}

static enum akin_status take_card(struct warmer *w, struct akin_error *error)
{
    struct akin_error reason = { 0 };
    if (!w->warming->card.ops || !w->count)
        return AKIN_OK;
    enum akin_status status = open_card(w, &reason);
    if (status != AKIN_OK)
        return leave_card(w, status, &reason, error);
    w->warmed.on_card = true;
    w->warmed.card_bytes = w->warming->card.ops->memory(w->device);
    return AKIN_OK;
}

static enum akin_status fold_ahead(struct warmer *w, size_t count, struct akin_error *error)
{
    struct akin_error reason = { 0 };
    enum akin_status status = w->device ? fold_chunk(w, count, &reason) : AKIN_OK;
    return status == AKIN_OK ? AKIN_OK : leave_card(w, status, &reason, error);
}

static enum akin_status warm(struct warmer *w, struct akin_error *error)
{
    TRY(list_visitors(w, error));
    w->statuses = memory_alloc(WOKEN_AT_ONCE, sizeof *w->statuses);
    w->woken = memory_alloc(WOKEN_AT_ONCE, sizeof *w->woken);
    if (!w->statuses || !w->woken)
        return error_memory(error);
    TRY(take_card(w, error));
    for (; w->first < w->count; w->first += CHUNK) {
        size_t now = w->count - w->first < CHUNK ? w->count - w->first : CHUNK;
        TRY(fold_ahead(w, now, error));
        TRY(wake_chunk(w, now, error));
    }
    return AKIN_OK;
}

enum akin_status users_warm(struct users *users, const struct users_warming *warming,
                            struct users_warmed *warmed, struct akin_error *error)
{
    struct warmer w = { .users = users, .warming = warming };
    TRY(users_view(users, &w.view, error));
    enum akin_status status = warm(&w, error);
    close_card(&w);
    memory_free(w.visitors);
    memory_free(w.statuses);
    memory_free(w.woken);
    if (status == AKIN_OK)
        *warmed = w.warmed;
    return status;
}
