/* Live users over the block and the store.
 *
 * Locks, in the order in which they are taken: whoever leads the store's commits (live_append.c), a
 * shard, then whoever finds the vectors, the store's reader, the states that wait, or the
 * fingerprint. So nobody who holds a shard ever waits for a commit: a state that must leave its
 * slot is copied to a queue, which the next commit writes. A queue that is full loses the state,
 * and nothing with it. */
#include "recommend/users.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "catalog/catalog.h"
#include "catalog/live_store.h"
#include "recommend/users_state.h"

enum {
    SHARDS = 16, SHARDED_FROM = 1024,   /* below, one shard: its order of use is then exact */
    WAITING_MAX = 256,                  /* states */
    LONG_PAST = 32,                     /* events: as many are folded again as soon as read */
    BUSY_MS = 5000,
};

static const uint64_t refresh_ns = 20000000;            /* between looks at other processes */
static const int64_t timestamp_max = 253402300799;      /* the end of the year 9999 */

struct waiting_state {
    char name[USER_NAME_BYTES_MAX + 1];
    uint64_t number;
    struct bytes bytes;
};

struct users {
    struct users_settings settings;
    char path[PATH_BYTES_MAX];
    struct user_fold fold;      /* its vectors are there once `ready` */
    atomic_bool ready;
    double rating_max;

    struct shard shards[SHARDS];
    size_t shard_count;
    unsigned char *block;
    size_t block_bytes;

    struct mutex *finding;              /* guards the finding of the vectors */
    struct mutex *opening;              /* guards the making of the store */
    _Atomic(struct live_store *) store; /* NULL: none yet */
    atomic_uint_fast64_t refreshed_ns;

    struct mutex *fingerprinting;       /* guards the next two */
    uint64_t fingerprint;
    bool fingerprinted;

    struct mutex *waiting_lock;         /* guards the next four */
    struct waiting_state waiting[WAITING_MAX];
    size_t waiting_first;
    atomic_size_t waiting_count;        /* read without it as well */
    bool handed;                        /* the first one is with whoever commits */
};

/* ---- profiles --------------------------------------------------------------------------- */

bool user_profile_init(struct user_profile *profile, size_t dim)
{
    *profile = (struct user_profile){ .dim = dim };
    profile->fast = memory_alloc(2 * dim, sizeof *profile->fast);
    profile->slow = profile->fast ? profile->fast + dim : NULL;
    return profile->fast != NULL;
}

void user_profile_deinit(struct user_profile *profile)
{
    memory_free(profile->fast);
    memory_free(profile->seen);
    *profile = (struct user_profile){ 0 };
}

static void clear_profile(struct user_profile *profile)
{
    memset(profile->fast, 0, profile->dim * sizeof *profile->fast);
    memset(profile->slow, 0, profile->dim * sizeof *profile->slow);
    profile->recent_count = profile->seen_count = 0;
    profile->count = profile->live = 0;
}

static struct akin_rating scaled(const struct akin_rating *rating, double rating_max)
{
    struct akin_rating out = *rating;
    out.rating = (float)((double)rating->rating / rating_max);
    return out;
}

/* Before anything is folded, or the fingerprint is taken. */
static enum akin_status find_vectors(struct users *users, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    if (atomic_load(&users->ready))
        return AKIN_OK;
    mutex_lock(users->finding);
    if (!users->fold.vectors)
        status = users->settings.find_vectors(users->settings.vectors_context,
                                              &users->fold.vectors, error);
    if (status == AKIN_OK)
        atomic_store(&users->ready, true);
    mutex_unlock(users->finding);
    return status;
}

enum akin_status users_fold(struct users *users, const struct akin_rating *ratings, size_t count,
                            double rating_max, struct user_profile *profile,
                            struct akin_error *error)
{
    TRY(find_vectors(users, error));
    size_t kept = count < USER_RECENT ? count : USER_RECENT;
    clear_profile(profile);
    for (size_t i = 0; i < count; i++) {
        struct akin_rating rating = scaled(&ratings[i], rating_max);
        user_fold_step(&users->fold, profile->fast, profile->slow, ++profile->count, &rating);
        if (i >= count - kept)
            profile->recent[profile->recent_count++] = rating;
    }
    return AKIN_OK;
}

void users_rates(const struct users *users, float *fast, float *slow)
{
    *fast = users->fold.fast;
    *slow = users->fold.slow;
}

static enum akin_status copy_profile(const struct shard *shard, const struct user_slot *u,
                                     struct user_profile *profile, struct akin_error *error)
{
    if (!array_reserve((void **)&profile->seen, &profile->seen_capacity, u->seen_count,
                       sizeof *profile->seen))
        return error_memory(error);
    memcpy(profile->fast, u->vectors, profile->dim * sizeof *profile->fast);
    memcpy(profile->slow, u->vectors + profile->dim, profile->dim * sizeof *profile->slow);
    profile->recent_count = user_slot_recent(u, profile->recent);
    profile->count = u->count;
    profile->live = u->live;
    profile->seen_count = u->seen_count;
    if (u->seen_count)
        shard_seen(shard, u, profile->seen);
    return AKIN_OK;
}

/* ---- states on their way to the store --------------------------------------------------- */

static uint64_t fingerprint_of(struct users *users)
{
    mutex_lock(users->fingerprinting);
    if (!users->fingerprinted)
        users->fingerprint = user_state_fingerprint(&users->fold, users->settings.catalog);
    users->fingerprinted = true;
    uint64_t fingerprint = users->fingerprint;
    mutex_unlock(users->fingerprinting);
    return fingerprint;
}

/* With the shard locked. */
static void queue_state(struct users *users, const struct shard *shard, struct user_slot *u)
{
    mutex_lock(users->waiting_lock);
    if (users->waiting_count < WAITING_MAX) {
        size_t at = (users->waiting_first + users->waiting_count) % WAITING_MAX;
        struct waiting_state *state = &users->waiting[at];
        bytes_clear(&state->bytes);
        state->number = u->number;
        memcpy(state->name, u->name, sizeof state->name);
        user_state_encode(&users->fold, shard, u, &state->bytes);
        users->waiting_count += !state->bytes.failed;
        u->unsaved = state->bytes.failed ? u->unsaved : 0;
    }
    mutex_unlock(users->waiting_lock);
}

/* A hook of the store. */
static bool next_state(void *context, struct live_state *out)
{
    struct users *users = context;
    mutex_lock(users->waiting_lock);
    if (users->handed) {
        users->waiting_first = (users->waiting_first + 1) % WAITING_MAX;
        users->waiting_count--;
    }
    users->handed = users->waiting_count > 0;
    bool handed = users->handed;
    const struct waiting_state *state = &users->waiting[users->waiting_first];
    mutex_unlock(users->waiting_lock);
    if (handed)     /* nobody touches it before the next call */
        *out = (struct live_state){ .user = state->name, .number = state->number,
                                    .fingerprint = fingerprint_of(users),
                                    .bytes = state->bytes.data, .count = state->bytes.count };
    return handed;
}

static size_t states_waiting(struct users *users)
{
    return atomic_load(&users->waiting_count);
}

/* ---- slots ------------------------------------------------------------------------------ */

static uint64_t hash_name(const char *name)
{
    return hash_bytes(name, strlen(name));
}

static struct shard *shard_of(struct users *users, uint64_t hash)
{
    return &users->shards[hash % users->shard_count];
}

/* A rating since the import. false: no memory, and nothing is changed. */
static bool apply(const struct users *users, struct shard *shard, struct user_slot *u,
                  const struct akin_rating *rating)
{
    if (!shard_see(shard, u, rating->row))
        return false;
    user_slot_step(&users->fold, u, rating);
    u->live++;
    u->unsaved++;
    return true;
}

/* A slot that is being filled. */
struct loading {
    const struct users *users;
    struct shard *shard;
    struct user_slot *slot;
    const float *folded;        /* [2][dim] what those fold to, or NULL */
    bool begun, failed;         /* begun: the catalogue's ratings are in it */
    bool in_catalog;
};

static void begin(struct loading *l)
{
    const struct users *users = l->users;
    size_t user, count;
    if (l->begun)
        return;
    l->begun = true;
    if (catalog_find_user(users->settings.catalog, l->slot->name, &user, NULL) != AKIN_OK)
        return;
    l->in_catalog = true;
    const struct akin_rating *ratings =
        catalog_user_ratings(users->settings.catalog, user, &count);
    if (l->folded)
        memcpy(l->slot->vectors, l->folded, 2 * users->fold.dim * sizeof *l->folded);
    for (size_t i = 0; i < count; i++) {
        struct akin_rating rating = scaled(&ratings[i], users->rating_max);
        if (l->folded)
            l->slot->recent[l->slot->count++ % USER_RECENT] = rating;
        else
            user_slot_step(&users->fold, l->slot, &rating);
    }
}

static bool load_state(void *context, const struct live_state *state)
{
    struct loading *l = context;
    l->begun = user_state_decode(&l->users->fold, l->shard, l->slot, state->bytes, state->count);
    return l->begun;
}

static void load_event(void *context, const struct live_event *event)
{
    struct loading *l = context;
    struct akin_rating rating = { event->row, event->rating, event->timestamp };
    begin(l);
    if (l->failed || !apply(l->users, l->shard, l->slot, &rating))
        l->failed = true;
    l->slot->number = event->number;
}

/* A slot for a user who has none, filled; SLOT_NONE for an unknown one, unless `new_too`. */
static enum akin_status load(struct users *users, struct shard *shard, uint64_t hash,
                             const char *name, bool new_too, const float *folded, uint32_t *slot,
                             struct akin_error *error)
{
    TRY(find_vectors(users, error));
    struct live_store *store = atomic_load(&users->store);
    uint32_t taken = shard_take(shard, hash, name);
    struct loading l = { .users = users, .shard = shard, .slot = shard_slot(shard, taken),
                         .folded = folded };
    struct live_reader reader = { &l, load_state, load_event };
    enum akin_status status = AKIN_OK;
    bool in_store = false;
    if (store)
        status = live_store_read(store, name, fingerprint_of(users), &reader, &in_store, error);
    if (status == AKIN_OK && l.failed)
        status = error_memory(error);
    begin(&l);
    *slot = SLOT_NONE;
    if (status != AKIN_OK || !(in_store || l.in_catalog || new_too)) {
        shard_return(shard, taken);
        return status;
    }
    if (shard->count == shard->capacity) {
        struct user_slot *oldest = shard_slot(shard, shard->oldest);
        if (store && oldest->unsaved >= LONG_PAST && !live_store_read_only(store))
            queue_state(users, shard, oldest);
        shard_forget(shard, shard->oldest);
        shard->evictions++;
    }
    shard_keep(shard, taken);
    shard->loads++;
    *slot = taken;
    return AKIN_OK;
}

/* The slot of a user, as the one used last. */
static enum akin_status activate(struct users *users, struct shard *shard, uint64_t hash,
                                 const char *name, bool new_too, uint32_t *slot,
                                 struct akin_error *error)
{
    *slot = shard_find(shard, hash, name);
    if (*slot == SLOT_NONE)
        return load(users, shard, hash, name, new_too, NULL, slot, error);
    shard_use(shard, *slot);
    shard->hits++;
    return AKIN_OK;
}

/* A hook of the store. For a user without a slot the event is found when one is loaded. */
static void happened(void *context, const char *name, const struct live_event *event)
{
    struct users *users = context;
    uint64_t hash = hash_name(name);
    struct shard *shard = shard_of(users, hash);
    struct akin_rating rating = { event->row, event->rating, event->timestamp };
    mutex_lock(shard->lock);
    uint32_t slot = shard_find(shard, hash, name);
    struct user_slot *u = slot == SLOT_NONE ? NULL : shard_slot(shard, slot);
    if (u && event->number > u->number) {   /* otherwise loaded after the commit */
        shard_use(shard, slot);
        shard->hits++;
        u->number = event->number;
        if (!apply(users, shard, u, &rating))
            shard_forget(shard, slot);
    }
    mutex_unlock(shard->lock);
}

/* ---- the store -------------------------------------------------------------------------- */

static enum akin_status open_store(struct users *users, bool late, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct live_settings settings = {
        .catalog = users->settings.catalog,
        .durable = users->settings.live.durable,
        .from_start = late,
        .busy_ms = users->settings.busy_ms,
        .hooks = { users, happened, next_state },
    };
    mutex_lock(users->opening);
    struct live_store *store = atomic_load(&users->store);
    if (!store)
        status = live_store_open(users->path, &settings, &store, error);
    if (status == AKIN_OK)
        atomic_store(&users->store, store);
    mutex_unlock(users->opening);
    return status;
}

enum akin_status users_store(struct users *users, bool make, struct live_store **store,
                             struct akin_error *error)
{
    if (!users->settings.store_path)
        return error_set(error, AKIN_ARGUMENT, "people live without a store here");
    if (!atomic_load(&users->store) && (make || path_exists(users->path)))
        TRY(open_store(users, true, error));
    *store = atomic_load(&users->store);
    return AKIN_OK;
}

/* Learns now and then what other processes did. */
static enum akin_status refresh(struct users *users, struct akin_error *error)
{
    if (!users->settings.store_path)
        return AKIN_OK;
    uint64_t now = clock_monotonic_ns(), last = atomic_load(&users->refreshed_ns);
    if (last && now - last < refresh_ns)
        return AKIN_OK;
    atomic_store(&users->refreshed_ns, now);
    if (!atomic_load(&users->store)) {
        if (!path_exists(users->path))
            return AKIN_OK;
        TRY(open_store(users, true, error));
    }
    return live_store_refresh(atomic_load(&users->store), error);
}

/* Queues the states with at least so many events that are not stored, and commits the queue. */
static enum akin_status save(struct users *users, uint32_t unsaved_min, struct akin_error *error)
{
    struct live_store *store = atomic_load(&users->store);
    if (!store || live_store_read_only(store))
        return AKIN_OK;
    for (size_t i = 0; i < users->shard_count; i++) {
        struct shard *shard = &users->shards[i];
        mutex_lock(shard->lock);
        for (uint32_t slot = shard->oldest; slot != SLOT_NONE;) {
            struct user_slot *u = shard_slot(shard, slot);
            if (u->unsaved >= unsaved_min)
                queue_state(users, shard, u);
            slot = u->newer;
            if (states_waiting(users) < WAITING_MAX)
                continue;
            mutex_unlock(shard->lock);
            TRY(live_store_append(store, NULL, 0, error));
            mutex_lock(shard->lock);
            slot = shard->oldest;   /* the order may have changed meanwhile */
        }
        mutex_unlock(shard->lock);
    }
    return states_waiting(users) ? live_store_append(store, NULL, 0, error) : AKIN_OK;
}

enum akin_status users_checkpoint(struct users *users, struct akin_error *error)
{
    return save(users, 1, error);
}

/* ---- open and close --------------------------------------------------------------------- */

void users_settings_default(struct akin_recommender_settings *settings)
{
    *settings = (struct akin_recommender_settings){
        .max_active_users = 100000, .fast_rate = 0.3f, .slow_rate = 0.02f,
        .store = true, .durable = true, .explore_seed = 1,
    };
}

static enum akin_status check_settings(const struct akin_recommender_settings *s,
                                       struct akin_error *error)
{
    if (s->max_active_users < 1 || s->max_active_users > USERS_ACTIVE_MAX)
        return error_set(error, AKIN_ARGUMENT, "max_active_users is %zu: it is a number from 1 to "
                         "%d", s->max_active_users, USERS_ACTIVE_MAX);
    if (!(s->fast_rate > 0 && s->fast_rate <= 1))
        return error_set(error, AKIN_ARGUMENT, "fast_rate is %g: it is a number above 0, at most "
                         "1", (double)s->fast_rate);
    if (!(s->slow_rate > 0 && s->slow_rate <= 1))
        return error_set(error, AKIN_ARGUMENT, "slow_rate is %g: it is a number above 0, at most "
                         "1", (double)s->slow_rate);
    return AKIN_OK;
}

static enum akin_status make_block(struct users *users, struct akin_error *error)
{
    size_t most = users->settings.live.max_active_users, slot_bytes, begun = 0;
    users->shard_count = most < SHARDED_FROM ? 1 : SHARDS;
    slot_bytes = shard_slot_bytes(users->fold.dim);
    if (size_mul(most + users->shard_count, slot_bytes, &users->block_bytes))
        users->block = memory_alloc_aligned(users->block_bytes, 1);
    bool made = users->block != NULL;
    for (size_t i = 0; made && i < users->shard_count; i++) {
        size_t capacity = most / users->shard_count + (i < most % users->shard_count);
        made = shard_init(&users->shards[i], users->block + begun * slot_bytes, users->fold.dim,
                          capacity);
        begun += capacity + 1;
    }
    if (!made)
        return error_set(error, AKIN_MEMORY, "memory ran out: %zu active users take %zu MB; lower "
                         "max_active_users", most, users->block_bytes >> 20);
    return AKIN_OK;
}

static enum akin_status open_users(struct users *users, struct akin_error *error)
{
    users->finding = mutex_create();
    users->opening = mutex_create();
    users->fingerprinting = mutex_create();
    users->waiting_lock = mutex_create();
    if (!users->finding || !users->opening || !users->fingerprinting || !users->waiting_lock)
        return error_memory(error);
    TRY(make_block(users, error));
    if (users->settings.store_path && path_exists(users->path))
        TRY(open_store(users, false, error));
    return AKIN_OK;
}

enum akin_status users_open(const struct users_settings *settings, struct users **users,
                            struct akin_error *error)
{
    TRY(check_settings(&settings->live, error));
    if (settings->store_path && strlen(settings->store_path) >= PATH_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long",
                         settings->store_path);
    struct users *opened = memory_alloc(1, sizeof *opened);
    if (!opened)
        return error_memory(error);
    opened->settings = *settings;
    if (settings->store_path)
        snprintf(opened->path, sizeof opened->path, "%s", settings->store_path);
    opened->settings.busy_ms = settings->busy_ms ? settings->busy_ms : BUSY_MS;
    opened->rating_max = catalog_rating_max(settings->catalog);
    opened->fold = (struct user_fold){
        .kernels = settings->kernels, .vectors = settings->vectors, .dim = settings->dim,
        .items = catalog_item_count(settings->catalog), .fast = settings->live.fast_rate,
        .slow = settings->live.slow_rate,
    };
    enum akin_status status = open_users(opened, error);
    if (status == AKIN_OK)
        *users = opened;
    else
        users_close(&opened);
    return status;
}

void users_close(struct users **users)
{
    struct users *u = *users;
    if (!u)
        return;
    struct live_store *store = atomic_load(&u->store);
    if (store)
        (void)save(u, LONG_PAST, NULL);     /* whatever fails: the events are there */
    live_store_close(&store);
    for (size_t i = 0; i < u->shard_count; i++)
        shard_deinit(&u->shards[i]);
    for (size_t i = 0; i < WAITING_MAX; i++)
        bytes_deinit(&u->waiting[i].bytes);
    mutex_destroy(&u->finding);
    mutex_destroy(&u->opening);
    mutex_destroy(&u->fingerprinting);
    mutex_destroy(&u->waiting_lock);
    memory_free(u->block);
    memory_free(u);
    *users = NULL;
}

/* ---- updates ---------------------------------------------------------------------------- */

static enum akin_status check_feedback(const struct users *users,
                                       const struct akin_feedback *feedback,
                                       struct live_rating *rating, struct akin_error *error)
{
    size_t row, bytes = feedback->user ? strnlen(feedback->user, USER_NAME_BYTES_MAX + 1) : 0;
    if (bytes == 0 || bytes > USER_NAME_BYTES_MAX)
        return error_set(error, AKIN_ARGUMENT, "user: %s: it is a name of 1 to %d bytes",
                         bytes ? "too long" : "empty", USER_NAME_BYTES_MAX);
    if (!utf8_valid(feedback->user, bytes))
        return error_set(error, AKIN_ARGUMENT, "user: not valid UTF-8");
    if (!feedback->item)
        return error_set(error, AKIN_ARGUMENT, "item: missing");
    enum akin_status status =
        catalog_find_id(users->settings.catalog, feedback->item, &row, error);
    if (status != AKIN_OK)
        return error_context(error, status, "item");
    if (!(feedback->rating >= 0 && feedback->rating <= 1))
        return error_set(error, AKIN_ARGUMENT, "rating: %g: it is a number from 0 to 1",
                         (double)feedback->rating);
    if (feedback->timestamp < 0 || feedback->timestamp > timestamp_max)
        return error_set(error, AKIN_ARGUMENT, "timestamp: %lld: it is in seconds since 1970, "
                         "from 0 to %lld", (long long)feedback->timestamp,
                         (long long)timestamp_max);
    *rating = (struct live_rating){ feedback->user, (uint32_t)row, feedback->rating,
                                    feedback->timestamp };
    return AKIN_OK;
}

/* Where nothing is kept: straight to the slot. */
static enum akin_status apply_directly(struct users *users, const struct live_rating *rating,
                                       struct akin_error *error)
{
    uint64_t hash = hash_name(rating->user);
    struct shard *shard = shard_of(users, hash);
    struct akin_rating event = { rating->row, rating->rating, rating->timestamp };
    uint32_t slot;
    mutex_lock(shard->lock);
    enum akin_status status = activate(users, shard, hash, rating->user, true, &slot, error);
    if (status == AKIN_OK && !apply(users, shard, shard_slot(shard, slot), &event))
        status = error_memory(error);
    mutex_unlock(shard->lock);
    return status;
}

static enum akin_status take(struct users *users, const struct live_rating *ratings, size_t count,
                             struct akin_error *error)
{
    if (users->settings.store_path) {
        if (!atomic_load(&users->store))
            TRY(open_store(users, true, error));
        return live_store_append(atomic_load(&users->store), ratings, count, error);
    }
    for (size_t i = 0; i < count; i++)
        TRY(apply_directly(users, &ratings[i], error));
    return AKIN_OK;
}

enum akin_status users_update(struct users *users, const struct akin_feedback *feedback,
                              struct akin_error *error)
{
    struct live_rating rating;
    TRY(check_feedback(users, feedback, &rating, error));
    return take(users, &rating, 1, error);
}

enum akin_status users_update_batch(struct users *users, const struct akin_feedback *feedback,
                                    size_t count, size_t *refused, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    size_t checked = 0;
    if (refused)
        *refused = count;
    if (count == 0)
        return AKIN_OK;
    struct live_rating *ratings = memory_alloc(count, sizeof *ratings);
    if (!ratings)
        return error_memory(error);
    while (status == AKIN_OK && checked < count) {
        status = check_feedback(users, &feedback[checked], &ratings[checked], error);
        checked += status == AKIN_OK;
    }
    if (status != AKIN_OK) {
        error_context(error, status, "feedback %zu", checked);
        if (refused)
            *refused = checked;
    } else {
        status = take(users, ratings, count, error);
    }
    memory_free(ratings);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------- */

enum akin_status users_read(struct users *users, const char *name, struct user_profile *profile,
                            struct akin_error *error)
{
    size_t bytes = strnlen(name, USER_NAME_BYTES_MAX + 1);
    uint32_t slot;
    ASSERT(profile->dim == users->fold.dim);
    if (bytes == 0 || bytes > USER_NAME_BYTES_MAX) {
        clear_profile(profile);
        return AKIN_OK;     /* nobody can have it */
    }
    TRY(refresh(users, error));
    uint64_t hash = hash_name(name);
    struct shard *shard = shard_of(users, hash);
    mutex_lock(shard->lock);
    enum akin_status status = activate(users, shard, hash, name, false, &slot, error);
    if (status == AKIN_OK && slot != SLOT_NONE)
        status = copy_profile(shard, shard_slot(shard, slot), profile, error);
    mutex_unlock(shard->lock);
    if (status == AKIN_OK && slot == SLOT_NONE)
        clear_profile(profile);
    if (states_waiting(users) >= WAITING_MAX / 2)   /* a failure loses states, which are spare */
        (void)live_store_append(atomic_load(&users->store), NULL, 0, NULL);
    return status;
}

/* ---- ahead of requests ------------------------------------------------------------------ */

enum akin_status users_view(struct users *users, struct users_view *view,
                            struct akin_error *error)
{
    struct akin_catalog_info info;
    TRY(find_vectors(users, error));
    catalog_info(users->settings.catalog, &info);
    *view = (struct users_view){ users->settings.catalog, &users->fold, users->rating_max,
                                 info.users };
    return AKIN_OK;
}

bool users_active(struct users *users, size_t user)
{
    const char *name = catalog_user_id(users->settings.catalog, user);
    uint64_t hash = hash_name(name);
    struct shard *shard = shard_of(users, hash);
    mutex_lock(shard->lock);
    bool active = shard_find(shard, hash, name) != SLOT_NONE;
    mutex_unlock(shard->lock);
    return active;
}

enum akin_status users_wake(struct users *users, size_t user, const float *vectors, bool *woken,
                            struct akin_error *error)
{
    const char *name = catalog_user_id(users->settings.catalog, user);
    uint64_t hash = hash_name(name);
    struct shard *shard = shard_of(users, hash);
    enum akin_status status = AKIN_OK;
    mutex_lock(shard->lock);
    uint32_t slot = shard_find(shard, hash, name);
    *woken = slot == SLOT_NONE && shard->count < shard->capacity;
    if (*woken)
        status = load(users, shard, hash, name, false, vectors, &slot, error);
    mutex_unlock(shard->lock);
    return status;
}

void users_count(const struct users *users, struct users_counts *counts)
{
    *counts = (struct users_counts){ .capacity = users->settings.live.max_active_users,
                                     .block_bytes = users->block_bytes };
    for (size_t i = 0; i < users->shard_count; i++) {
        const struct shard *s = &users->shards[i];
        mutex_lock(s->lock);
        counts->active += s->count;
        counts->hits += s->hits;
        counts->loads += s->loads;
        counts->evictions += s->evictions;
        counts->used_bytes += s->count * s->slot_bytes + s->map_capacity * sizeof *s->map +
                              s->chunk_capacity * sizeof *s->chunks;
        mutex_unlock(s->lock);
    }
}
