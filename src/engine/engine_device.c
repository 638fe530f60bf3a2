/* Which cards an engine encodes on: asked for once, when a model is first opened, because asking
 * the driver takes long and a process that has asked must not fork. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/thread.h"
#include "compute/cuda_plugin.h"
#include "engine/engine.h"

enum asked { ASKED_CPU, ASKED_AUTO, ASKED_CUDA };

struct engine_cards {
    struct mutex *lock;
    enum asked asked;
    char *library;              /* NULL: it is looked for */
    bool all;                   /* cuda:all */
    int ordinal;
    bool known;                 /* what follows is; under the lock */
    struct encoder_cards cards; /* count 0: none */
    const struct cuda_plugin *plugin;
    char name[32];              /* "cuda:0", "cuda:all", "cpu" */
};

static enum akin_status parse(const char *device, struct engine_cards *cards,
                              struct akin_error *error)
{
    if (!device || !strcmp(device, "auto")) {
        cards->asked = ASKED_AUTO;
        return AKIN_OK;
    }
    if (!strcmp(device, "cpu"))
        return AKIN_OK;
    cards->asked = ASKED_CUDA;
    if (!strcmp(device, "cuda"))
        return AKIN_OK;
    cards->all = !strcmp(device, "cuda:all");
    if (cards->all)
        return AKIN_OK;
    int end = 0;
    if (sscanf(device, "cuda:%3d%n", &cards->ordinal, &end) == 1 && end > 0 && !device[end] &&
        device[5] >= '0' && device[5] <= '9')
        return AKIN_OK;
    return error_set(error, AKIN_ARGUMENT, "device \"%.40s\" is not known: auto, cpu, cuda, cuda:N "
                     "or cuda:all", device);
}

enum akin_status engine_cards_create(const char *device, const char *library,
                                     struct engine_cards **cards, struct akin_error *error)
{
    struct engine_cards *c = memory_alloc(1, sizeof *c);
    if (!c)
        return error_memory(error);
    c->lock = mutex_create();
    enum akin_status status = c->lock ? parse(device, c, error) : error_memory(error);
    if (status == AKIN_OK && library && !(c->library = memory_copy_string(library)))
        status = error_memory(error);
    snprintf(c->name, sizeof c->name, "cpu");
    if (status == AKIN_OK)
        *cards = c;
    else
        engine_cards_destroy(&c);
    return status;
}

void engine_cards_destroy(struct engine_cards **cards)
{
    if (!*cards)
        return;
    mutex_destroy(&(*cards)->lock);
    memory_free((*cards)->library);
    memory_free(*cards);
    *cards = NULL;
}

/* A driver leaves one of these; without, the libraries are not even loaded. */
static bool driver_here(const struct engine_cards *c)
{
    return c->library || path_exists("/dev/nvidiactl") || path_exists("/dev/nvidia0") ||
           path_exists("/dev/dxg");
}

static enum akin_status find(struct engine_cards *c, struct akin_error *error)
{
    const struct cuda_plugin *plugin;
    if (!driver_here(c))
        return error_set(error, AKIN_NOT_FOUND, "no NVIDIA driver is loaded on this machine");
    TRY(cuda_plugin_load(c->library, &plugin, error));
    int count = plugin->device_count();
    if (count <= 0)
        return error_set(error, AKIN_NOT_FOUND, "CUDA finds no GPU that it can use");
    if (c->ordinal >= count)
        return error_set(error, AKIN_NOT_FOUND, "there is no GPU %d; there are %d", c->ordinal,
                         count);
    c->cards.ops = plugin->encoder;
    c->plugin = plugin;
    c->cards.count = !c->all ? 1 : count < ENCODER_CARDS_MAX ? (size_t)count : ENCODER_CARDS_MAX;
    for (size_t i = 0; i < c->cards.count; i++)
        c->cards.ordinals[i] = c->all ? (int)i : c->ordinal;
    if (c->all)
        snprintf(c->name, sizeof c->name, "cuda:all");
    else
        snprintf(c->name, sizeof c->name, "cuda:%d", c->ordinal);
    return AKIN_OK;
}

enum akin_status engine_cards_find(const struct akin_engine *engine,
                                   const struct encoder_cards **cards, struct akin_error *error)
{
    struct engine_cards *c = engine->cards;
    struct akin_error reason = { 0 };
    enum akin_status status = AKIN_OK;
    *cards = NULL;
    if (c->asked == ASKED_CPU)
        return AKIN_OK;
    mutex_lock(c->lock);
    if (!c->known) {
        status = find(c, &reason);
        /* With "auto" the answer stays; who asks for a card may plug one in. */
        c->known = status == AKIN_OK || c->asked == ASKED_AUTO;
        if (status != AKIN_OK && c->asked == ASKED_AUTO)
            log_write(&engine->log, driver_here(c) ? AKIN_LOG_WARNING : AKIN_LOG_DEBUG,
                      "computing on the CPU: %s", reason.message);
    }
    if (c->cards.count)
        *cards = &c->cards;
    mutex_unlock(c->lock);
    if (status == AKIN_OK || c->asked == ASKED_AUTO)
        return AKIN_OK;
    return error_set(error, status, "device cuda: %s", reason.message);
}

enum akin_status engine_card_of(const struct akin_engine *engine, enum card_part part,
                                const struct cuda_plugin **plugin, int *ordinal,
                                struct akin_error *error)
{
    const struct encoder_cards *cards;
    ASSERT(part < CARD_PARTS);
    TRY(engine_cards_find(engine, &cards, error));
    *plugin = cards ? engine->cards->plugin : NULL;
    *ordinal = cards ? cards->ordinals[0] : 0;
    return AKIN_OK;
}

bool engine_cards_required(const struct akin_engine *engine)
{
    return engine->cards->asked == ASKED_CUDA;
}

const char *akin_engine_device(const struct akin_engine *engine)
{
    const struct encoder_cards *cards;
    if (engine_cards_find(engine, &cards, NULL) != AKIN_OK)
        return "cuda";
    return engine->cards->name;
}
