/* See explore.h: a list some of whose places a bandit gave away. The list by score goes on around
 * them. At such a place each arm has something to propose that the list does not have yet:
 *
 *   blend     what would stand there anyway
 *   text      the nearest by text
 *   taste     the best by taste
 *   popular   the most popular
 *   new       one of the nearest by text among items that hardly anybody rated, by lot; of somebody
 *             new any of them
 *
 * An arm whose part says nothing, as text of somebody new, is not drawn. */
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/memory.h"
#include "catalog/catalog.h"
#include "index/filter.h"
#include "recommend/explore.h"
#include "recommend/request.h"

/* ---- offers ----------------------------------------------------------------------------- */

static bool is_new(const struct asked *a, size_t row)
{
    return catalog_item_ratings(a->r->catalog, row) <= EXPLORE_NEW_RATINGS;
}

/* New rows that are allowed, to `allowed`; how many. */
static size_t find_new(const struct asked *a, uint64_t *allowed)
{
    const struct scratch *s = a->s;
    size_t words = filter_words(a->r->items), count = 0;
    memcpy(allowed, s->allowed, words * sizeof *allowed);
    for (size_t w = 0; w < words; w++)
        for (uint64_t word = s->allowed[w]; word; word &= word - 1) {
            size_t row = 64 * w + (size_t)__builtin_ctzll(word);
            bool in = is_new(a, row) && (!a->points || a->space->inverse[row] > 0);
            count += in;
            if (!in)
                allowed[w] &= ~(1ull << row % 64);
        }
    return count;
}

/* Evenly spread over all of them, from another one on for each user. */
static enum akin_status offer_any(struct asked *a, const uint64_t *allowed, size_t count,
                                  struct akin_error *error)
{
    const char *user = a->request->user;
    size_t pool = count < EXPLORE_NEW_POOL ? count : EXPLORE_NEW_POOL;
    size_t step = pool ? count / pool : 1, at = 0;
    size_t first = (size_t)(hash_bytes(user, strlen(user)) % (step ? step : 1));
    for (size_t w = 0; w < filter_words(a->r->items); w++)
        for (uint64_t word = allowed[w]; word; word &= word - 1, at++) {
            if (at % step != first || a->new_count == pool)
                continue;
            uint32_t row = (uint32_t)(64 * w + (size_t)__builtin_ctzll(word));
            a->new_rows[a->new_count++] = row;
            TRY(request_offer(a->s, row, error));
        }
    return AKIN_OK;
}

static enum akin_status offer_new(struct asked *a, uint64_t *allowed, struct akin_error *error)
{
    struct scratch *s = a->s;
    size_t count = find_new(a, allowed), found = 0;
    size_t k = count < EXPLORE_NEW_POOL ? count : EXPLORE_NEW_POOL;
    if (k == 0)
        return AKIN_OK;
    if (!a->points)
        return offer_any(a, allowed, count, error);
    if (!array_reserve((void **)&s->hits, &s->hit_capacity, k, sizeof *s->hits))
        return error_memory(error);
    struct space_query query = { .vectors = s->vector, .count = 1, .k = k, .allowed = allowed,
                                 .allowed_count = count, .recall = a->request->recall };
    TRY(space_search(a->space, a->r->backend, a->r->index, &query, s->hits, &found, error));
    a->new_count = found < EXPLORE_NEW_POOL ? found : EXPLORE_NEW_POOL;
    for (size_t i = 0; i < a->new_count; i++) {
        a->new_rows[i] = s->hits[i].row;
        TRY(request_offer(s, s->hits[i].row, error));
    }
    return AKIN_OK;
}

enum akin_status request_offer_unknown(struct asked *a, struct akin_error *error)
{
    size_t popular = a->request->k;     /* wide enough for the list and its places */
    for (size_t i = 0; i < a->r->items && popular; i++) {
        uint32_t row = a->aids->by_popularity[i];
        popular -= is_allowed(a->s, row);
        TRY(request_offer(a->s, row, error));
    }
    uint64_t *allowed = memory_alloc(filter_words(a->r->items) + 1, sizeof *allowed);
    enum akin_status status = allowed ? offer_new(a, allowed, error) : error_memory(error);
    memory_free(allowed);
    return status;
}

/* ---- the list --------------------------------------------------------------------------- */

struct exploring {
    struct asked *a;
    struct akin_recommendation *base;   /* [base_count] the list by score */
    size_t base_count, base_next;       /* those before base_next are used or passed */
    bool *used;                         /* [candidates] */
    struct explore_round round;
};

static bool *used_of(const struct exploring *x, uint32_t row)
{
    return &x->used[x->a->s->slots[row] - 1];
}

/* The next of the list by score; SIZE_MAX: there is none. */
static size_t next_of_base(struct exploring *x)
{
    while (x->base_next < x->base_count && *used_of(x, (uint32_t)x->base[x->base_next].row))
        x->base_next++;
    return x->base_next < x->base_count ? x->base[x->base_next].row : SIZE_MAX;
}

/* The best by one part alone, ties by row; SIZE_MAX: the part says nothing of what is left. */
static size_t best_by_part(const struct exploring *x, enum part part)
{
    const struct scratch *s = x->a->s;
    size_t best = SIZE_MAX;
    float most = 0;
    for (size_t i = 0; i < s->candidate_count; i++) {
        const struct candidate *c = &s->candidates[i];
        float value = c->values[part];
        if (!x->used[i] && value > 0 &&
            (value > most || (value == most && c->row < best))) {
            most = value;
            best = c->row;
        }
    }
    return best;
}

/* What each arm proposes; `pool` [*pooled] is what arm NEW draws from. */
static void propose(struct exploring *x, size_t rows[EXPLORE_ARMS],
                    uint32_t pool[EXPLORE_NEW_POOL], size_t *pooled)
{
    rows[ARM_BLEND] = next_of_base(x);
    rows[ARM_TEXT] = x->a->points ? best_by_part(x, PART_TEXT) : SIZE_MAX;
    rows[ARM_TASTE] = best_by_part(x, PART_TASTE);
    rows[ARM_POPULAR] = best_by_part(x, PART_POPULARITY);
    *pooled = 0;
    for (size_t i = 0; i < x->a->new_count; i++)
        if (!*used_of(x, x->a->new_rows[i]))
            pool[(*pooled)++] = x->a->new_rows[i];
    rows[ARM_NEW] = *pooled ? pool[0] : SIZE_MAX;
}

static float share_of_item(const struct explore_draw *draw, const size_t rows[EXPLORE_ARMS],
                           const uint32_t *pool, size_t pooled, size_t row)
{
    float share = 0;
    for (int arm = 0; arm < ARM_NEW; arm++)
        share += rows[arm] == row ? draw->shares[arm] : 0;
    for (size_t i = 0; i < pooled; i++)
        share += pool[i] == row ? draw->shares[ARM_NEW] / (float)pooled : 0;
    return share;
}

static enum akin_status explore_place(struct exploring *x, size_t place,
                                      struct akin_recommendation *result, bool *filled,
                                      struct akin_error *error)
{
    size_t rows[EXPLORE_ARMS], pooled;
    uint32_t pool[EXPLORE_NEW_POOL];
    bool can[EXPLORE_ARMS];
    struct explore_draw draw;
    struct explore *explore = x->a->r->explore;
    propose(x, rows, pool, &pooled);
    *filled = false;
    for (int arm = 0; arm < EXPLORE_ARMS; arm++) {
        can[arm] = rows[arm] != SIZE_MAX;
        *filled |= can[arm];
    }
    if (!*filled)
        return AKIN_OK;
    TRY(explore_draw(explore, &x->round, place, can, &draw, error));
    if (draw.arm == ARM_NEW) {
        size_t at = (size_t)(draw.lot * (float)pooled);
        rows[ARM_NEW] = pool[at < pooled ? at : pooled - 1];
    }
    size_t row = rows[draw.arm];
    TRY(explore_keep(explore, &x->round, place, &draw, row,
                     share_of_item(&draw, rows, pool, pooled, row), error));
    request_result(x->a, (uint32_t)row, result);
    result->arm = explore_arm_name(draw.arm);
    result->propensity = draw.shares[draw.arm];
    *used_of(x, (uint32_t)row) = true;
    return AKIN_OK;
}

/* Places that a bandit gives away are the last of equal stretches of the list. */
static enum akin_status fill(struct exploring *x, struct akin_recommendation *results,
                             size_t *found, struct akin_error *error)
{
    size_t wanted = x->a->wanted < x->base_count ? x->a->wanted : x->base_count;
    size_t places = explore_places(wanted), at = 0;
    for (size_t place = 0; place < wanted; place++) {
        bool filled = false;
        if (at < places && place == (at + 1) * wanted / places - 1) {
            at++;
            TRY(explore_place(x, place, &results[*found], &filled, error));
        } else if (next_of_base(x) != SIZE_MAX) {
            const struct akin_recommendation *next = &x->base[x->base_next];
            results[*found] = *next;
            *used_of(x, (uint32_t)next->row) = filled = true;
        }
        *found += filled;
    }
    return AKIN_OK;
}

static enum akin_status run(struct exploring *x, struct akin_recommendation *results,
                            size_t *found, struct akin_error *error)
{
    struct asked *a = x->a;
    char segment[64];
    struct explore *explore = a->r->explore;
    explore_segment(explore, a->past.rows, a->past.weights, a->past.count, a->s->past_count,
                    segment);
    x->round = (struct explore_round){
        .user = a->request->user, .segment = segment, .request = a->request->request_number,
        .now = a->request->now ? a->request->now : clock_unix_seconds(),
    };
    TRY(explore_begin(explore, &x->round, error));
    return explore_end(explore, fill(x, results, found, error), error);
}

enum akin_status request_explore(struct asked *a, struct akin_recommendation *results,
                                 size_t *found, struct akin_error *error)
{
    struct exploring x = { .a = a };
    enum akin_status status = AKIN_OK;
    *found = 0;
    x.base = memory_alloc(a->request->k + 1, sizeof *x.base);
    x.used = memory_alloc(a->s->candidate_count + 1, sizeof *x.used);
    if (!x.base || !x.used)
        status = error_memory(error);
    if (status == AKIN_OK)
        status = request_pick(a, x.base, &x.base_count, error);
    if (status == AKIN_OK && x.base_count)
        status = run(&x, results, found, error);
    memory_free(x.base);
    memory_free(x.used);
    return status;
}
