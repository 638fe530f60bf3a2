/* Which cards an engine computes on, and which part of it on which: asked for once, when a model is
 * first opened, because asking the driver takes long and a process that has asked must not fork. */
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
enum { NOT_PLACED = -1, ON_CPU = -2, CAPABILITY_MIN = 80 };

struct engine_cards {
    struct mutex *lock;
    enum asked asked;
    char *library;              /* NULL: it is looked for */
    bool all;                   /* cuda:all */
    int ordinal;                /* of parts that are not placed */
    int places[CARD_PARTS];     /* a card's number, ON_CPU or NOT_PLACED */
    bool known;                 /* what follows is; under the lock */
    struct encoder_cards cards; /* count 0: none */
    const struct cuda_plugin *plugin;
    char name[32];              /* "cuda:0", "cuda:all", "cpu" */
    char devices[CARD_PARTS][32];
};

static const char *const part_names[CARD_PARTS] = {
    [CARD_ENCODER] = "encoder", [CARD_SEARCH] = "search",   [CARD_CACHE] = "cache",
    [CARD_USERS] = "users",     [CARD_BANDITS] = "bandits", [CARD_GRAPH] = "graph",
};

/* ---- what was asked for ------------------------------------------------------------------ */

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

/* One PART=CARD of `bytes`. */
static enum akin_status parse_place(const char *text, size_t bytes, int places[CARD_PARTS],
                                    struct akin_error *error)
{
    int shown = bytes < 60 ? (int)bytes : 60, end = 0, part = 0;
    const char *equals = memchr(text, '=', bytes);
    size_t name = equals ? (size_t)(equals - text) : bytes;
    while (part < CARD_PARTS &&
           (strlen(part_names[part]) != name || memcmp(part_names[part], text, name) != 0))
        part++;
    if (part == CARD_PARTS)
        return error_set(error, AKIN_ARGUMENT, "place \"%.*s\": there is no such part; there are "
                         "encoder, search, cache, users, bandits and graph", shown, text);
    if (places[part] != NOT_PLACED)
        return error_set(error, AKIN_ARGUMENT, "place \"%.*s\": %s has a place already", shown,
                         text, part_names[part]);
    const char *card = equals ? equals + 1 : text + bytes;
    size_t length = bytes - (size_t)(card - text);
    if (length == 3 && !memcmp(card, "cpu", 3)) {
        places[part] = ON_CPU;
        return AKIN_OK;
    }
    if (length >= 1 && length <= 3 && *card >= '0' && *card <= '9' &&
        sscanf(card, "%3d%n", &places[part], &end) == 1 && (size_t)end == length)
        return AKIN_OK;
    return error_set(error, AKIN_ARGUMENT, "place \"%.*s\": expected %s=N, the number of a GPU, or "
                     "%s=cpu", shown, text, part_names[part], part_names[part]);
}

static enum akin_status parse_places(const char *text, int places[CARD_PARTS],
                                     struct akin_error *error)
{
    for (int i = 0; i < CARD_PARTS; i++)
        places[i] = NOT_PLACED;
    while (text && *text) {
        size_t bytes = strcspn(text, ",");
        TRY(parse_place(text, bytes, places, error));
        text += bytes + (text[bytes] == ',');
    }
    return AKIN_OK;
}

bool engine_place_is_known(const char *text)
{
    int places[CARD_PARTS];
    return parse_places(text, places, NULL) == AKIN_OK;
}

enum akin_status engine_cards_create(const struct akin_engine_settings *settings,
                                     struct engine_cards **cards, struct akin_error *error)
{
    struct engine_cards *c = memory_alloc(1, sizeof *c);
    if (!c)
        return error_memory(error);
    c->lock = mutex_create();
    enum akin_status status = c->lock ? parse(settings->device, c, error) : error_memory(error);
    if (status == AKIN_OK)
        status = parse_places(settings->place, c->places, error);
    const char *library = settings->cuda_library;
    if (status == AKIN_OK && library && !(c->library = memory_copy_string(library)))
        status = error_memory(error);
    snprintf(c->name, sizeof c->name, "cpu");
    for (int i = 0; i < CARD_PARTS; i++)
        snprintf(c->devices[i], sizeof c->devices[i], "cpu");
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

/* ---- what there is ----------------------------------------------------------------------- */

/* A driver leaves one of these; without, the libraries are not even loaded. */
static bool driver_here(const struct engine_cards *c)
{
    return c->library || path_exists("/dev/nvidiactl") || path_exists("/dev/nvidia0") ||
           path_exists("/dev/dxg");
}

enum akin_status engine_plugin_load(const struct akin_engine *engine,
                                    const struct cuda_plugin **plugin, struct akin_error *error)
{
    *plugin = NULL;
    if (!driver_here(engine->cards))
        return error_set(error, AKIN_NOT_FOUND, "no NVIDIA driver is loaded on this machine");
    return cuda_plugin_load(engine->cards->library, plugin, error);
}

enum akin_status engine_gpu_check(const struct cuda_plugin *plugin, int ordinal,
                                  struct cuda_description *d, struct akin_error *error)
{
    TRY(plugin->device_describe(ordinal, d, error));
    if (d->capability >= CAPABILITY_MIN)
        return AKIN_OK;
    return error_set(error, AKIN_UNSUPPORTED, "GPU %d, %s, is of compute capability %d.%d; 8.0 or "
                     "later is needed: use another one, or --device cpu", ordinal, d->name,
                     d->capability / 10, d->capability % 10);
}

/* The nodes of the machine that the encoder's cards are near. */
static void find_nodes(const struct akin_engine *engine, struct encoder_cards *cards)
{
    struct numa *numa = NULL;
    struct cuda_description d;
    bool wanted = engine->pin != PIN_OFF && topology_nodes(engine->topology) > 1;
    if (wanted && numa_open(NULL, true, &numa, NULL) != AKIN_OK)
        numa = NULL;
    for (size_t i = 0; i < cards->count; i++) {
        cards->nodes[i] = -1;
        if (numa && engine->cards->plugin->device_describe(cards->ordinals[i], &d, NULL) == AKIN_OK)
            cards->nodes[i] = topology_node_numbered(engine->topology,
                                                     numa_node_of_device(numa, d.bus));
    }
    numa_close(&numa);
}

/* The cards that the encoder has; with cuda:all those that can be used, the first of which has what
 * is not placed. */
static enum akin_status choose_encoder(const struct akin_engine *engine, int count,
                                       struct akin_error *error)
{
    struct engine_cards *c = engine->cards;
    struct cuda_description d;
    int place = c->places[CARD_ENCODER];
    if (place == ON_CPU)
        return AKIN_OK;
    snprintf(c->name, sizeof c->name, "cuda:all");
    if (!c->all || place != NOT_PLACED) {
        int ordinal = place == NOT_PLACED ? c->ordinal : place;
        TRY(engine_gpu_check(c->plugin, ordinal, &d, error));
        c->cards.ordinals[c->cards.count++] = ordinal;
        snprintf(c->name, sizeof c->name, "cuda:%d", ordinal);
        return AKIN_OK;
    }
    struct akin_error reason = { 0 };
    for (int i = 0; i < count && c->cards.count < ENCODER_CARDS_MAX; i++)
        if (engine_gpu_check(c->plugin, i, &d, &reason) == AKIN_OK)
            c->cards.ordinals[c->cards.count++] = i;
        else
            log_write(&engine->log, AKIN_LOG_WARNING, "left out: %s", reason.message);
    if (!c->cards.count)
        return error_set(error, reason.status, "%s", reason.message);
    c->ordinal = c->cards.ordinals[0];
    return AKIN_OK;
}

/* A card that a part is to have and that is not there. */
static enum akin_status check_places(const struct akin_engine *engine, int count,
                                     struct akin_error *error)
{
    struct engine_cards *c = engine->cards;
    for (int i = 0; i < CARD_PARTS; i++) {
        if (c->places[i] < count)
            continue;
        if (c->asked == ASKED_CUDA)
            return error_set(error, AKIN_NOT_FOUND, "place %s=%d: there is no GPU %d; there are %d",
                             part_names[i], c->places[i], c->places[i], count);
        log_write(&engine->log, AKIN_LOG_WARNING, "place %s=%d: there is no GPU %d; there are %d: "
                  "it is on GPU %d", part_names[i], c->places[i], c->places[i], count, c->ordinal);
        c->places[i] = NOT_PLACED;
    }
    return AKIN_OK;
}

static enum akin_status find(const struct akin_engine *engine, struct akin_error *error)
{
    struct engine_cards *c = engine->cards;
    struct cuda_description d;
    const struct cuda_plugin *plugin;
    TRY(engine_plugin_load(engine, &plugin, error));
    int count = plugin->device_count();
    if (count <= 0) {
        struct akin_error why = { 0 };      /* describing one tells */
        plugin->device_describe(0, &d, &why);
        return error_set(error, AKIN_NOT_FOUND, "CUDA finds no GPU that it can use: %.300s",
                         why.message);
    }
    if (c->ordinal >= count)
        return error_set(error, AKIN_NOT_FOUND, "there is no GPU %d; there are %d", c->ordinal,
                         count);
    TRY(check_places(engine, count, error));
    c->cards = (struct encoder_cards){ .ops = plugin->encoder };
    c->plugin = plugin;
    enum akin_status status = choose_encoder(engine, count, error);
    int checked = c->cards.count ? c->cards.ordinals[0] : -1;
    for (int i = 0; status == AKIN_OK && i < CARD_PARTS; i++) {
        int place = c->places[i] == NOT_PLACED ? c->ordinal : c->places[i];
        if (place == ON_CPU)
            continue;
        if (i != CARD_ENCODER && place != checked)
            status = engine_gpu_check(plugin, checked = place, &d, error);
        snprintf(c->devices[i], sizeof c->devices[i], "cuda:%d", place);
    }
    if (status == AKIN_OK && c->cards.count > 0)
        snprintf(c->devices[CARD_ENCODER], sizeof c->devices[CARD_ENCODER], "%s", c->name);
    if (status == AKIN_OK) {
        find_nodes(engine, &c->cards);
        return AKIN_OK;
    }
    c->cards.count = 0;
    c->plugin = NULL;
    snprintf(c->name, sizeof c->name, "cpu");
    for (int i = 0; i < CARD_PARTS; i++)
        snprintf(c->devices[i], sizeof c->devices[i], "cpu");
    return status;
}

/* Looked for by the first call. */
static enum akin_status know(const struct akin_engine *engine, struct akin_error *error)
{
    struct engine_cards *c = engine->cards;
    struct akin_error reason = { 0 };
    enum akin_status status = AKIN_OK;
    if (c->asked == ASKED_CPU)
        return AKIN_OK;
    mutex_lock(c->lock);
    if (!c->known) {
        status = find(engine, &reason);
        /* With "auto" the answer stays; who asks for a card may plug one in. */
        c->known = status == AKIN_OK || c->asked == ASKED_AUTO;
        if (status != AKIN_OK && c->asked == ASKED_AUTO)
            log_write(&engine->log, driver_here(c) ? AKIN_LOG_WARNING : AKIN_LOG_DEBUG,
                      "computing on the CPU: %s", reason.message);
    }
    mutex_unlock(c->lock);
    if (status == AKIN_OK || c->asked == ASKED_AUTO)
        return AKIN_OK;
    return error_set(error, status, "device cuda: %s", reason.message);
}

/* ---- asking ------------------------------------------------------------------------------ */

enum akin_status engine_cards_find(const struct akin_engine *engine,
                                   const struct encoder_cards **cards, struct akin_error *error)
{
    *cards = NULL;
    TRY(know(engine, error));
    if (engine->cards->cards.count)
        *cards = &engine->cards->cards;
    return AKIN_OK;
}

enum akin_status engine_card_of(const struct akin_engine *engine, enum card_part part,
                                const struct cuda_plugin **plugin, int *ordinal,
                                struct akin_error *error)
{
    const struct engine_cards *c = engine->cards;
    ASSERT(part < CARD_PARTS);
    TRY(know(engine, error));
    int place = c->places[part] == NOT_PLACED ? c->ordinal : c->places[part];
    *plugin = place == ON_CPU ? NULL : c->plugin;
    *ordinal = *plugin ? place : 0;
    return AKIN_OK;
}

bool akin_engine_gpu_memory(const struct akin_engine *engine, int gpu,
                            struct akin_gpu_memory *memory)
{
    struct engine_cards *c = engine->cards;
    mutex_lock(c->lock);
    const struct cuda_plugin *plugin = c->known ? c->plugin : NULL;
    mutex_unlock(c->lock);
    *memory = (struct akin_gpu_memory){ 0 };
    if (!plugin || gpu < 0 || gpu >= plugin->device_count())
        return false;
    uint64_t *const parts[CUDA_USES] = {
        [CUDA_USE_ENCODER] = &memory->encoder,   [CUDA_USE_SEARCH] = &memory->search,
        [CUDA_USE_INDEX] = &memory->index,       [CUDA_USE_USERS] = &memory->users,
        [CUDA_USE_PERSONAL] = &memory->personal, [CUDA_USE_BANDITS] = &memory->bandits,
        [CUDA_USE_GRAPH] = &memory->graph,       [CUDA_USE_TRAINING] = &memory->training,
        [CUDA_USE_OTHER] = &memory->other,
    };
    for (int i = 0; i < CUDA_USES; i++) {
        *parts[i] = plugin->memory(gpu, (enum cuda_use)i);
        memory->total += *parts[i];
    }
    return true;
}

bool engine_cards_required(const struct akin_engine *engine)
{
    return engine->cards->asked == ASKED_CUDA;
}

const char *akin_engine_device(const struct akin_engine *engine)
{
    return know(engine, NULL) == AKIN_OK ? engine->cards->name : "cuda";
}

const char *akin_engine_part(const struct akin_engine *engine, size_t i, const char **device)
{
    if (i >= CARD_PARTS)
        return NULL;
    *device = know(engine, NULL) == AKIN_OK ? engine->cards->devices[i] : "cuda";
    return part_names[i];
}
