/* See explore.h. What the store keeps of an arm is its evidence: alpha and beta beyond the prior of
 * the bandit. */
#include "recommend/explore.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/philox.h"
#include "base/thread.h"
#include "base/utf8.h"
#include "catalog/catalog.h"
#include "catalog/choice_store.h"
#include "recommend/bandit.h"
#include "recommend/users.h"

enum {
    GENRES = 32,                /* the most common ones have segments of their own */
    GENRE_BYTES = 40,
    GENRES_LOOKED_AT = 4096,    /* different ones of a catalogue */
    SHARE_DRAWS = 256,
    PLACES_SHIFT = 5,           /* places of one request have rounds of their own */
};

#define EVEN_SHARE 0.05f        /* of the probability, spread over all arms that can be drawn */
#define BORROWED_MAX 4.0        /* rewards of an arm that a new segment starts with, at most */

static const char everybody[] = "all";

static const char *const arm_names[EXPLORE_ARMS] = { "blend", "text", "taste", "popular", "new" };

/* The arms of one segment while a transaction lasts: each is read once and written once, however
 * much is paid and chosen in between. */
struct held {
    bool is_here;
    bool is_new;                /* not in the store; written as a whole, with what it borrowed */
    bool changed[EXPLORE_ARMS];
    uint64_t rewards;
    struct choice_arm arms[EXPLORE_ARMS];
};

enum { HELD_ALL, HELD_SEGMENT, HELD };

struct explore {
    struct explore_settings settings;
    struct mutex *lock;         /* guards the rest, from begin to end */
    struct choice_store *store; /* NULL: not opened yet */
    struct bandits *bandits;    /* one, which takes the place of the segment's */
    struct akin_bandits_settings bandit;
    struct held held[HELD];     /* everybody, and the segment that was asked for last */
    bool genres_known;
    char genres[GENRES][GENRE_BYTES];
    size_t genre_count;
};

size_t explore_places(size_t k)
{
    size_t places = k / 5 ? k / 5 : 1;
    return k == 0 ? 0 : places < EXPLORE_PLACES_MAX ? places : EXPLORE_PLACES_MAX;
}

const char *explore_arm_name(enum explore_arm arm)
{
    return arm_names[arm];
}

enum akin_status explore_create(const struct explore_settings *settings, struct explore **explore,
                                struct akin_error *error)
{
    struct explore *e = memory_alloc(1, sizeof *e);
    if (!e)
        return error_memory(error);
    e->settings = *settings;
    bandits_settings_default(&e->bandit);
    e->bandit.bandits = 1;
    e->bandit.arms = EXPLORE_ARMS;
    e->bandit.seed = settings->seed;
    e->bandit.open_rate = 0;
    e->lock = mutex_create();
    enum akin_status status = e->lock ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK)
        status = bandits_create(settings->kernels, &e->bandit, &e->bandits, error);
    if (status == AKIN_OK)
        *explore = e;
    else
        explore_destroy(&e);
    return status;
}

void explore_destroy(struct explore **explore)
{
    if (!*explore)
        return;
    choice_store_close(&(*explore)->store);
    bandits_destroy(&(*explore)->bandits);
    if ((*explore)->lock)
        mutex_destroy(&(*explore)->lock);
    memory_free(*explore);
    *explore = NULL;
}

/* ---- segments --------------------------------------------------------------------------- */

static void cut_name(char to[GENRE_BYTES], const char *name)
{
    size_t bytes = strlen(name);
    bytes = bytes < GENRE_BYTES ? bytes : GENRE_BYTES - 1;
    while (bytes && !utf8_valid(name, bytes))
        bytes--;
    memcpy(to, name, bytes);
    to[bytes] = 0;
}

struct counted {
    const char *name;
    size_t items;
};

static int most_items_first(const void *a, const void *b)
{
    const struct counted *x = a, *y = b;
    if (x->items != y->items)
        return x->items > y->items ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* With the lock held. Without memory there are fewer genres, and "other" is larger. */
static void find_genres(struct explore *e)
{
    struct counted *counted = memory_alloc(GENRES_LOOKED_AT, sizeof *counted);
    struct string_map places = { 0 };
    size_t count = 0, items = catalog_item_count(e->settings.catalog);
    for (size_t row = 0; counted && row < items; row++) {
        struct akin_item item;
        catalog_item(e->settings.catalog, row, &item);
        for (size_t g = 0; g < item.genre_count; g++) {
            const char *name = item.genres[g];
            uint64_t at = count;
            bool added = false;
            if (*name == '(' || (count == GENRES_LOOKED_AT &&
                                 !string_map_get(&places, name, strlen(name), &at)))
                continue;       /* "(no genres listed)" */
            if (!string_map_put(&places, name, strlen(name), count, &at, &added))
                continue;
            if (added)
                counted[count++] = (struct counted){ name, 0 };
            counted[at].items++;
        }
    }
    if (count)
        qsort(counted, count, sizeof *counted, most_items_first);
    e->genre_count = count < GENRES ? count : GENRES;
    for (size_t i = 0; i < e->genre_count; i++)
        cut_name(e->genres[i], counted[i].name);
    string_map_deinit(&places);
    memory_free(counted);
    e->genres_known = true;
}

/* Each item shares its weight among its genres; the first of equal ones. */
static const char *dominant_genre(const struct explore *e, const uint32_t *rows,
                                  const float *weights, size_t count)
{
    double sums[GENRES + 1] = { 0 };
    size_t best = GENRES;
    for (size_t i = 0; i < count; i++) {
        struct akin_item item;
        catalog_item(e->settings.catalog, rows[i], &item);
        for (size_t g = 0; g < item.genre_count; g++) {
            char name[GENRE_BYTES];
            size_t at = 0;
            cut_name(name, item.genres[g]);
            while (at < e->genre_count && strcmp(name, e->genres[at]) != 0)
                at++;
            sums[at < e->genre_count ? at : GENRES] +=
                (double)weights[i] / (double)item.genre_count;
        }
    }
    for (size_t at = 0; at < e->genre_count; at++)
        if (sums[at] > sums[best])
            best = at;
    return count == 0 ? "none" : best < e->genre_count ? e->genres[best] : "other";
}

void explore_segment(struct explore *e, const uint32_t *rows, const float *weights, size_t count,
                     size_t known, char segment[64])
{
    mutex_lock(e->lock);
    if (!e->genres_known)
        find_genres(e);
    mutex_unlock(e->lock);
    snprintf(segment, 64, "%s/%s",
             known == 0 ? "new" : known < 20 ? "few" : known < 200 ? "some" : "many",
             dominant_genre(e, rows, weights, count));
}

/* ---- the bandit of a segment ------------------------------------------------------------ */

static enum akin_status let_go(struct explore *e, struct held *held, struct akin_error *error)
{
    bool any = false;
    for (int i = 0; i < EXPLORE_ARMS; i++)
        any |= held->changed[i];
    for (int i = 0; held->is_here && any && i < EXPLORE_ARMS; i++)
        if (held->changed[i] || held->is_new)
            TRY(choice_store_put(e->store, &held->arms[i], error));
    *held = (struct held){ 0 };
    return AKIN_OK;
}

static enum akin_status let_all_go(struct explore *e, struct akin_error *error)
{
    TRY(let_go(e, &e->held[HELD_ALL], error));
    return let_go(e, &e->held[HELD_SEGMENT], error);
}

static enum akin_status find_arms(struct explore *e, const char *segment, struct held *held,
                                  struct akin_error *error)
{
    bool any = false, known;
    for (int i = 0; i < EXPLORE_ARMS; i++) {
        TRY(choice_store_find(e->store, segment, arm_names[i], &held->arms[i], &known, error));
        any |= known;
        held->rewards += held->arms[i].rewards;
    }
    held->is_here = true;
    held->is_new = !any;
    return AKIN_OK;
}

/* The arms of a segment, for the rest of the transaction or until another segment is asked for. */
static enum akin_status hold(struct explore *e, const char *segment, struct held **found,
                             struct akin_error *error)
{
    bool is_all = !strcmp(segment, everybody);
    struct held *held = &e->held[is_all ? HELD_ALL : HELD_SEGMENT], *all;
    *found = held;
    if (held->is_here && !strcmp(held->arms[0].segment, segment))
        return AKIN_OK;
    TRY(let_go(e, held, error));
    TRY(find_arms(e, segment, held, error));
    if (is_all || !held->is_new)
        return AKIN_OK;
    TRY(hold(e, everybody, &all, error));
    for (int i = 0; i < EXPLORE_ARMS; i++) {
        double most = BORROWED_MAX * (double)e->bandit.sharpness;
        double scale = fmin(1, most / fmax(all->arms[i].alpha + all->arms[i].beta, 1e-9));
        held->arms[i].alpha = scale * all->arms[i].alpha;
        held->arms[i].beta = scale * all->arms[i].beta;
    }
    return AKIN_OK;
}

/* The bandit becomes that of a segment. */
static enum akin_status wake(struct explore *e, const struct held *held, struct akin_error *error)
{
    struct akin_bandit_posterior posterior[EXPLORE_ARMS];
    for (int i = 0; i < EXPLORE_ARMS; i++)
        posterior[i] = (struct akin_bandit_posterior){
            (float)fmin(held->arms[i].alpha + (double)e->bandit.prior_alpha, 1e7),
            (float)fmin(held->arms[i].beta + (double)e->bandit.prior_beta, 1e7) };
    return bandits_restore(e->bandits, 0, posterior, held->rewards, error);
}

static enum akin_status reward(struct explore *e, const char *segment, int arm, double value,
                               struct akin_error *error)
{
    struct held *held;
    struct akin_bandit_posterior posterior[EXPLORE_ARMS];
    TRY(hold(e, segment, &held, error));
    TRY(wake(e, held, error));
    TRY(bandits_reward(e->bandits, 0, (size_t)arm, (float)value, error));
    TRY(bandits_posterior(e->bandits, 0, posterior, &held->rewards, error));
    held->arms[arm].rewards++;
    held->arms[arm].reward += value;
    for (int i = 0; i < EXPLORE_ARMS; i++) {
        held->arms[i].alpha = fmax(0, (double)(posterior[i].alpha - e->bandit.prior_alpha));
        held->arms[i].beta = fmax(0, (double)(posterior[i].beta - e->bandit.prior_beta));
        held->changed[i] = true;
    }
    return AKIN_OK;
}

/* Choices of an arm that this program does not have are paid to nobody. */
static enum akin_status settle(struct explore *e, int64_t now, struct akin_error *error)
{
    for (;;) {
        struct choice_due due;
        bool any;
        int arm = 0;
        TRY(choice_store_next_due(e->store, now - EXPLORE_EXPIRES, &due, &any, error));
        if (!any)
            return AKIN_OK;
        while (arm < EXPLORE_ARMS && strcmp(due.arm, arm_names[arm]) != 0)
            arm++;
        if (arm == EXPLORE_ARMS)
            continue;
        TRY(reward(e, everybody, arm, due.reward, error));
        TRY(reward(e, due.segment, arm, due.reward, error));
    }
}

/* ---- one request ------------------------------------------------------------------------ */

static enum akin_status open_store(struct explore *e, bool make, struct akin_error *error)
{
    struct live_store *live = NULL;
    if (e->store)
        return AKIN_OK;
    TRY(users_store(e->settings.users, make, &live, error));
    return live ? choice_store_open(live, &e->store, error) : AKIN_OK;
}

/* With the lock held; left with an open transaction, or an error. */
static enum akin_status begin(struct explore *e, struct explore_round *round,
                              struct akin_error *error)
{
    struct held *held;
    TRY(open_store(e, true, error));
    TRY(choice_store_begin(e->store, error));
    memset(e->held, 0, sizeof e->held);     /* others may have written since */
    enum akin_status status = settle(e, round->now, error);
    if (status == AKIN_OK && round->request == 0)
        status = choice_store_request(e->store, &round->request, error);
    if (status == AKIN_OK)
        status = hold(e, round->segment, &held, error);
    if (status == AKIN_OK)
        status = wake(e, held, error);
    return status == AKIN_OK ? AKIN_OK : choice_store_end(e->store, status, error);
}

enum akin_status explore_begin(struct explore *e, struct explore_round *round,
                               struct akin_error *error)
{
    mutex_lock(e->lock);
    enum akin_status status = begin(e, round, error);
    if (status != AKIN_OK)
        mutex_unlock(e->lock);
    return status;
}

enum akin_status explore_end(struct explore *e, enum akin_status status, struct akin_error *error)
{
    if (status == AKIN_OK)
        status = let_all_go(e, error);
    status = choice_store_end(e->store, status, error);
    mutex_unlock(e->lock);
    return status;
}

/* Where `lot` falls among the shares. */
static enum explore_arm arm_by_lot(const float *shares, float lot)
{
    float sum = 0;
    int last = 0;
    for (int i = 0; i < EXPLORE_ARMS; i++) {
        if (!(shares[i] > 0))
            continue;
        last = i;
        sum += shares[i];
        if (lot < sum)
            break;
    }
    return (enum explore_arm)last;
}

enum akin_status explore_draw(struct explore *e, const struct explore_round *round, size_t place,
                              const bool can[EXPLORE_ARMS], struct explore_draw *draw,
                              struct akin_error *error)
{
    uint64_t of_place = (round->request << PLACES_SHIFT) + place % EXPLORE_PLACES_MAX;
    uint64_t number = hash_bytes_seed(round->user, strlen(round->user), of_place);
    struct akin_bandit_round asked = { .round = number, .replicas = SHARE_DRAWS - 1 };
    const uint32_t counter[4] = { (uint32_t)number, (uint32_t)(number >> 32), 0, 0x65 };
    const uint32_t key[2] = { (uint32_t)e->bandit.seed, (uint32_t)(e->bandit.seed >> 32) };
    uint32_t words[4];
    float count = 0;
    for (int i = 0; i < EXPLORE_ARMS; i++)
        count += can[i];
    TRY(bandits_shares(e->bandits, &asked, can, draw->shares, error));
    for (int i = 0; i < EXPLORE_ARMS; i++)
        draw->shares[i] = can[i] ? (1 - EVEN_SHARE) * draw->shares[i] + EVEN_SHARE / count : 0;
    philox_4x32(counter, key, words);
    draw->arm = arm_by_lot(draw->shares, (float)(words[0] >> 8) * 0x1p-24f);
    draw->lot = (float)(words[1] >> 8) * 0x1p-24f;
    return AKIN_OK;
}

enum akin_status explore_keep(struct explore *e, const struct explore_round *round, size_t place,
                              const struct explore_draw *draw, size_t row, float item_share,
                              struct akin_error *error)
{
    struct akin_item item;
    struct held *held;
    bool added;
    catalog_item(e->settings.catalog, row, &item);
    struct choice choice = {
        .user = round->user, .item = item.id, .segment = round->segment,
        .arm = arm_names[draw->arm], .request = round->request, .place = (uint32_t)place + 1,
        .arm_share = (double)draw->shares[draw->arm], .item_share = (double)item_share,
        .timestamp = round->now,
    };
    TRY(choice_store_add(e->store, &choice, &added, error));
    if (!added)
        return AKIN_OK;
    const char *const segments[] = { round->segment, everybody };
    for (int s = 0; s < 2; s++) {
        TRY(hold(e, segments[s], &held, error));
        held->arms[draw->arm].choices++;
        held->changed[draw->arm] = true;
    }
    return AKIN_OK;
}

/* ---- reading ---------------------------------------------------------------------------- */

struct listing {
    struct akin_arm *arms;
    size_t capacity, count;
    const struct akin_bandits_settings *bandit;
};

static enum akin_status list_arm(void *context, const struct choice_arm *arm,
                                 struct akin_error *error)
{
    struct listing *l = context;
    (void)error;
    if (l->count++ >= l->capacity)
        return AKIN_OK;
    struct akin_arm *to = &l->arms[l->count - 1];
    *to = (struct akin_arm){ .alpha = arm->alpha + (double)l->bandit->prior_alpha,
                             .beta = arm->beta + (double)l->bandit->prior_beta,
                             .choices = arm->choices, .rewards = arm->rewards,
                             .reward = arm->reward, .share = NAN };
    snprintf(to->segment, sizeof to->segment, "%s", arm->segment);
    snprintf(to->name, sizeof to->name, "%s", arm->arm);
    return AKIN_OK;
}

/* The shares of listed arms of one segment, all of whose arms are allowed. */
static enum akin_status list_shares(struct explore *e, struct akin_arm *arms, size_t count,
                                    struct akin_error *error)
{
    const struct akin_bandit_round asked = { .replicas = AKIN_BANDIT_REPLICAS_MAX };
    for (size_t i = 0; i < count; i++) {
        struct held *held;
        float shares[EXPLORE_ARMS];
        if (i && !strcmp(arms[i].segment, arms[i - 1].segment))
            continue;
        TRY(hold(e, arms[i].segment, &held, error));
        TRY(wake(e, held, error));
        TRY(bandits_shares(e->bandits, &asked, NULL, shares, error));
        for (size_t j = i; j < count && !strcmp(arms[j].segment, arms[i].segment); j++)
            for (int a = 0; a < EXPLORE_ARMS; a++)
                if (!strcmp(arms[j].name, arm_names[a]))
                    arms[j].share = (1 - EVEN_SHARE) * shares[a] + EVEN_SHARE / EXPLORE_ARMS;
    }
    return AKIN_OK;
}

static enum akin_status list(struct explore *e, int64_t now, struct akin_arm *arms,
                             size_t capacity, size_t *count, struct akin_error *error)
{
    struct listing listing = { arms, capacity, 0, &e->bandit };
    TRY(open_store(e, false, error));
    if (!e->store)
        return AKIN_OK;
    TRY(choice_store_begin(e->store, error));
    memset(e->held, 0, sizeof e->held);
    enum akin_status status = settle(e, now, error);
    if (status == AKIN_OK)
        status = let_all_go(e, error);
    if (status == AKIN_OK)
        status = choice_store_each(e->store, list_arm, &listing, error);
    size_t listed = listing.count < capacity ? listing.count : capacity;
    if (status == AKIN_OK)
        status = list_shares(e, arms, listed, error);
    *count = listing.count;
    return choice_store_end(e->store, status, error);
}

enum akin_status explore_arms(struct explore *e, int64_t now, struct akin_arm *arms,
                              size_t capacity, size_t *count, struct akin_error *error)
{
    *count = 0;
    mutex_lock(e->lock);
    enum akin_status status = list(e, now, arms, capacity, count, error);
    mutex_unlock(e->lock);
    return status;
}
