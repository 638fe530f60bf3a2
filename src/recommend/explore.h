/* Exploring in requests: some places of a list are given to whichever of several proposers a bandit
 * draws, so that it is learned which of them people of a kind like best, and so that items nobody
 * rated are shown at all. What was drawn is kept with its probability (catalog/choice_store.h), and
 * what the person rates the item afterwards is the reward of the arm that proposed it.
 *
 * A segment of people has one bandit (bandit.h) each: how much is known of them by the dominant
 * genre of their last items. A segment that is new starts with a little of what all people taught.
 *
 * An arm is drawn from the shares of SHARE_DRAWS Thompson draws, a twentieth of it evenly over what
 * can be drawn; so the probability that is kept is exact, and never below 0.01. It is a function of
 * seed, user, number of the request and place, and of what was learned so far. */
#pragma once

#include "akin/recommend.h"
#include "base/status.h"

struct asked;
struct catalog;
struct explore;
struct kernels;
struct users;

enum explore_arm { ARM_BLEND, ARM_TEXT, ARM_TASTE, ARM_POPULAR, ARM_NEW, EXPLORE_ARMS };

enum {
    EXPLORE_PLACES_MAX = 20,    /* of one list; one in five of a shorter one */
    EXPLORE_NEW_RATINGS = 5,    /* an item with as many is new */
    EXPLORE_NEW_POOL = 20,      /* new items nearest to the person, among which lot decides */
    EXPLORE_EXPIRES = 7 * 24 * 3600,    /* seconds, after which an item not rated was not liked */
};

struct explore_settings {
    const struct kernels *kernels;
    const struct catalog *catalog;
    struct users *users;        /* whose store is used; all outlive it */
    uint64_t seed;
};

enum akin_status explore_create(const struct explore_settings *settings, struct explore **explore,
                                struct akin_error *error);
void explore_destroy(struct explore **explore);

size_t explore_places(size_t k);
const char *explore_arm_name(enum explore_arm arm);

/* ---- one request ------------------------------------------------------------------------ */

/* The name of a segment, from a person's past: rows [count], what each weighs, and how many are
 * known in all. */
void explore_segment(struct explore *explore, const uint32_t *rows, const float *weights,
                     size_t count, size_t known, char segment[64]);

struct explore_round {
    const char *user;
    const char *segment;
    uint64_t request;           /* 0: gets a number */
    int64_t now;
};

/* Pays what is due, and learns from it; others wait until the end. */
enum akin_status explore_begin(struct explore *explore, struct explore_round *round,
                               struct akin_error *error);
/* Writes all of it down where `status` is AKIN_OK, or nothing. */
enum akin_status explore_end(struct explore *explore, enum akin_status status,
                             struct akin_error *error);

/* Between them: the arm for a place, among those with something to propose. *lot: 0 to 1, for what
 * else is drawn there. */
struct explore_draw {
    enum explore_arm arm;
    float shares[EXPLORE_ARMS]; /* the probability of each */
    float lot;
};
enum akin_status explore_draw(struct explore *explore, const struct explore_round *round,
                              size_t place, const bool can[EXPLORE_ARMS],
                              struct explore_draw *draw, struct akin_error *error);

/* Keeps a choice: the item of `row` at `place` (from 0), which any arm would have shown with
 * probability item_share. */
enum akin_status explore_keep(struct explore *explore, const struct explore_round *round,
                              size_t place, const struct explore_draw *draw, size_t row,
                              float item_share, struct akin_error *error);

/* ---- reading ---------------------------------------------------------------------------- */

/* As akin_recommender_arms. */
enum akin_status explore_arms(struct explore *explore, int64_t now, struct akin_arm *arms,
                              size_t capacity, size_t *count, struct akin_error *error);

/* ---- explore_list.c: a request that explores -------------------------------------------- */

/* Offers what arms may propose and nobody else did. */
enum akin_status request_offer_unknown(struct asked *asked, struct akin_error *error);
/* The list, from scored candidates, for asked->wanted results. */
enum akin_status request_explore(struct asked *asked, struct akin_recommendation *results,
                                 size_t *found, struct akin_error *error);
