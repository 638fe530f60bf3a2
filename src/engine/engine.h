/* What an open engine holds; shared by the files of this module only. */
#pragma once

#include "akin/engine.h"
#include "base/numa.h"
#include "base/topology.h"

struct backend;
struct cuda_description;
struct cuda_plugin;
struct encoder_cards;
struct engine_cards;
struct mutex;
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
    struct akin_engine *engine;
    char *directory;            /* of one on cards that the CPU may stand in for; else NULL */
    enum akin_precision spare_precision;
    struct mutex *spare_lock;
    struct model *spare;        /* the same on the CPU, once the cards have failed */
    bool spare_tried;
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
    struct akin_model *model;        /* NULL: requests with a query are refused */
    size_t dimension;
};

/* engine_device.c: of device, place and cuda_library; AKIN_ARGUMENT. Where the library is told,
 * whether there is a driver is for it to say. */
enum akin_status engine_cards_create(const struct akin_engine_settings *settings,
                                     struct engine_cards **cards, struct akin_error *error);
void engine_cards_destroy(struct engine_cards **cards);
bool engine_place_is_known(const char *text);   /* whether it is a value of the setting */
/* The encoder's. Looked for by the first call. *cards NULL: none, and with "auto" that is no error.
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
/* The same for one card: that of a part. *plugin NULL: none, or it is placed on the CPU. */
enum akin_status engine_card_of(const struct akin_engine *engine, enum card_part part,
                                const struct cuda_plugin **plugin, int *ordinal,
                                struct akin_error *error);
/* Whether the CPU will not do instead. */
bool engine_cards_required(const struct akin_engine *engine);
/* The CUDA part, whatever device was asked for; without a driver it is not loaded: AKIN_NOT_FOUND.
 */
enum akin_status engine_plugin_load(const struct akin_engine *engine,
                                    const struct cuda_plugin **plugin, struct akin_error *error);
/* What a card is; AKIN_UNSUPPORTED: there are no kernels for it. */
enum akin_status engine_gpu_check(const struct cuda_plugin *plugin, int ordinal,
                                  struct cuda_description *description, struct akin_error *error);

/* engine_model.c: the model has failed with `status`: the same on the CPU, which `model` keeps,
 * with a warning when it is first needed. NULL: it was on the CPU already, a card was asked for,
 * the fault is not the card's, or it cannot be opened. Any thread. */
struct model *engine_model_spare(struct akin_model *model, enum akin_status status,
                                 const struct akin_error *why);

/* engine_recommend.c: whether queries of this model may be compared with the catalogue's vectors.
 */
enum akin_status engine_check_model(const struct catalog *catalog, const struct model *model,
                                    const struct akin_log *log, struct akin_error *error);
