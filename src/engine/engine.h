/* What an open engine holds; shared by the files of this module only. */
#pragma once

#include "akin/engine.h"
#include "base/numa.h"
#include "base/topology.h"

struct backend;
struct cuda_plugin;
struct encoder_cards;
struct engine_cards;
struct thread_pool;

struct akin_engine {
    struct akin_log log;
    struct topology *topology;
    struct thread_pool *pool;
    enum topology_pin pin;  /* asked for */
    struct numa_choice numa;
    struct backend *backend;
    struct engine_cards *cards;     /* that models may be opened on */
    unsigned cpu_flags;     /* base/cpu.h: what kernels may use */
    char kernels[16];       /* the level chosen */
    char instruction_sets[128];
    char *home;             /* NULL: none */
};

struct akin_model {
    struct model *model;
};

struct akin_index {
    const struct akin_engine *engine;
    struct collection *collection;
};

struct akin_catalog {
    struct catalog *catalog;
};

struct akin_recommender {
    const struct akin_engine *engine;
    const struct catalog *catalog;
    struct recommender *recommender;
    struct users *users;
    struct explore *explore;    /* NULL: without a store */
    struct taste *taste;        /* what `akin fit` learned; NULL: nothing, or not asked for yet */
    struct speaker *speaker;    /* of it */
    struct neighbors *neighbors;    /* the cache that answers, or NULL */
    struct model *model;        /* NULL: requests with a query are refused */
    size_t dimension;
};

/* engine_device.c: `device` is auto (or NULL), cpu, cuda, cuda:N or cuda:all; AKIN_ARGUMENT. */
enum akin_status engine_cards_create(const char *device, struct engine_cards **cards,
                                     struct akin_error *error);
void engine_cards_destroy(struct engine_cards **cards);
/* Looked for by the first call. *cards NULL: none, and with "auto" that is no error.
 * AKIN_NOT_FOUND, AKIN_UNSUPPORTED: a card was asked for, and why there is none. Any thread. */
enum akin_status engine_cards_find(const struct akin_engine *engine,
                                   const struct encoder_cards **cards, struct akin_error *error);
/* What may lie on a card of its own. */
enum card_part {
    CARD_ENCODER,
    CARD_SEARCH,    /* vectors that requests search */
    CARD_CACHE,     /* lists of neighbours */
    CARD_USERS,
    CARD_BANDITS,
    CARD_GRAPH,
    CARD_PARTS
};
/* The same for one card: that of a part. *plugin NULL: none. */
enum akin_status engine_card_of(const struct akin_engine *engine, enum card_part part,
                                const struct cuda_plugin **plugin, int *ordinal,
                                struct akin_error *error);
/* Whether the CPU will not do instead. */
bool engine_cards_required(const struct akin_engine *engine);

/* engine_recommend.c: whether queries of this model may be compared with the catalogue's vectors.
 */
enum akin_status engine_check_model(const struct catalog *catalog, const struct model *model,
                                    const struct akin_log *log, struct akin_error *error);
