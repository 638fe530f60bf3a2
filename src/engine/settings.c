/* Settings and where each came from: defaults < akin.ini < environment < flags. The only home of
 * getenv. A later, stronger origin overwrites; nothing else does. */
#include "akin/settings.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/csv.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/numa.h"
#include "base/status.h"

#include "akin/model.h"
#include "engine/engine.h"

enum setting { HOME, DATA, MODEL, DEVICE, PRECISION, THREADS, PIN, NUMA, CPU, PLACE, CUDA_LIBRARY,
               HUB, SETTINGS };

static const struct {
    const char *key, *environment, *help;
} known[SETTINGS] = {
    [HOME]      = { "home", "AKIN_HOME", "folder of models, data and caches" },
    [DATA]      = { "data", "AKIN_DATA", "catalogue folder (default: data under home)" },
    [MODEL]     = { "model", "AKIN_MODEL", "model folder, or its name under home/models" },
    [DEVICE]    = { "device", "AKIN_DEVICE", "auto, cpu, cuda, cuda:N or cuda:all" },
    [PRECISION] = { "precision", "AKIN_PRECISION", "auto, fp32, bf16, fp16 or int8" },
    [THREADS]   = { "threads", "AKIN_THREADS", "0 for one per CPU" },
    [PIN]       = { "pin", "AKIN_PIN", "threads bound to auto (NUMA nodes), cores or off" },
    [NUMA]      = { "numa", "AKIN_NUMA", "NUMA nodes: auto, off, or the number of one to stay on" },
    [CPU]       = { "cpu", "AKIN_CPU", "highest kernel level: ref, avx2, avx512 or amx" },
    [PLACE]     = { "place", "AKIN_PLACE",
                    "parts on GPUs of their own: encoder=0,users=1,graph=cpu" },
    [CUDA_LIBRARY] = { "cuda_library", "AKIN_CUDA_LIBRARY", "path of libakin-cuda.so" },
    [HUB]       = { "hub", "AKIN_HUB", "base URL of a hub with the Hugging Face layout" },
};

struct akin_settings {
    char *values[SETTINGS];     /* NULL: unset */
    char *origins[SETTINGS];
};

static int find(const char *key)
{
    for (int i = 0; i < SETTINGS; i++)
        if (!strcmp(known[i].key, key))
            return i;
    return -1;
}

/* NULL when `value` is fine for the setting, otherwise what is. */
static const char *expectation(int setting, const char *value)
{
    uint64_t number;
    enum akin_precision precision;
    switch (setting) {
    case THREADS:
        return parse_uint64(value, strlen(value), &number) && number <= THREADS_MAX
                   ? NULL
                   : "a number from 0 to 1024";
    case PIN:
        return !strcmp(value, "auto") || !strcmp(value, "cores") || !strcmp(value, "off")
                   ? NULL
                   : "auto, cores or off";
    case NUMA:
        return numa_is_choice(value) ? NULL : "auto, off or the number of a node";
    case PRECISION:
        return akin_precision_parse(value, &precision) ? NULL : "auto, fp32, bf16, fp16 or int8";
    case CPU:
        return !*value || !strcmp(value, "ref") || !strcmp(value, "avx2") ||
                       !strcmp(value, "avx512") || !strcmp(value, "amx")
                   ? NULL
                   : "ref, avx2, avx512 or amx";
    case DEVICE:
        return !strcmp(value, "auto") || !strcmp(value, "cpu") || !strncmp(value, "cuda", 4)
                   ? NULL
                   : "auto, cpu, cuda, cuda:N or cuda:all";
    case PLACE:
        return engine_place_is_known(value)
                   ? NULL
                   : "PART=N or PART=cpu, separated by commas, each part once: encoder, search, "
                     "cache, users, bandits, graph; N is the number of a GPU";
    case HOME:
    case DATA:
    case MODEL:
        return *value ? NULL : "a name that is not empty";
    default:
        return NULL;
    }
}

static enum akin_status store(struct akin_settings *settings, int setting, const char *value,
                              const char *origin, struct akin_error *error)
{
    const char *expected = expectation(setting, value);
    if (expected)
        return error_set(error, AKIN_ARGUMENT, "%s: \"%s\" is not a value for %s: expected %s",
                         origin, value, known[setting].key, expected);
    char *value_copy = memory_copy_string(value), *origin_copy = memory_copy_string(origin);
    if (!value_copy || !origin_copy) {
        memory_free(value_copy);
        memory_free(origin_copy);
        return error_memory(error);
    }
    memory_free(settings->values[setting]);
    memory_free(settings->origins[setting]);
    settings->values[setting] = value_copy;
    settings->origins[setting] = origin_copy;
    return AKIN_OK;
}

/* Where data live follows home unless it is set itself. */
static enum akin_status derive_data(struct akin_settings *settings, struct akin_error *error)
{
    if (settings->origins[DATA] && strcmp(settings->origins[DATA], "default"))
        return AKIN_OK;
    char path[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, settings->values[HOME], "data", error));
    return store(settings, DATA, path, "default", error);
}

static enum akin_status store_defaults(struct akin_settings *settings, struct akin_error *error)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[PATH_BYTES_MAX];
    if (cache && cache[0] == '/') {
        TRY(path_join(path, sizeof path, cache, "akin", error));
    } else {
        TRY(path_join(path, sizeof path, home && *home ? home : ".", ".cache/akin", error));
    }
    TRY(store(settings, HOME, path, "default", error));
    TRY(store(settings, MODEL, "all-minilm-l6-v2", "default", error));
    TRY(store(settings, DEVICE, "auto", "default", error));
    TRY(store(settings, PRECISION, "fp32", "default", error));
    TRY(store(settings, THREADS, "0", "default", error));
    TRY(store(settings, PIN, "auto", "default", error));
    TRY(store(settings, NUMA, "auto", "default", error));
    TRY(store(settings, CPU, "", "default", error));
    TRY(store(settings, PLACE, "", "default", error));
    TRY(store(settings, CUDA_LIBRARY, "", "default", error));
    TRY(store(settings, HUB, "", "default", error));
    return derive_data(settings, error);
}

enum akin_status akin_settings_create(struct akin_settings **settings, struct akin_error *error)
{
    struct akin_settings *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    enum akin_status status = store_defaults(s, error);
    if (status == AKIN_OK)
        *settings = s;
    else
        akin_settings_destroy(&s);
    return status;
}

void akin_settings_destroy(struct akin_settings **settings)
{
    struct akin_settings *s = *settings;
    if (!s)
        return;
    for (int i = 0; i < SETTINGS; i++) {
        memory_free(s->values[i]);
        memory_free(s->origins[i]);
    }
    memory_free(s);
    *settings = NULL;
}

enum akin_status akin_settings_set(struct akin_settings *settings, const char *key,
                                   const char *value, const char *origin, struct akin_error *error)
{
    int setting = find(key);
    if (setting < 0)
        return error_set(error, AKIN_ARGUMENT, "%s: there is no setting \"%s\"", origin, key);
    TRY(store(settings, setting, value, origin, error));
    return setting == HOME ? derive_data(settings, error) : AKIN_OK;
}

/* ---- akin.ini --------------------------------------------------------------------------- */

struct ini_load {
    struct akin_settings *settings;
    const char *path;
    struct akin_error error;    /* of the first bad line; inih goes on, we do not look further */
};

static int ini_line(void *cookie, const char *section, const char *name, const char *value)
{
    struct ini_load *load = cookie;
    if (load->error.status != AKIN_OK)
        return 0;
    if (*section && strcmp(section, "akin"))
        error_set(&load->error, AKIN_FORMAT, "section [%s] is not known: expected [akin]", section);
    else
        akin_settings_set(load->settings, name, value ? value : "", load->path, &load->error);
    return load->error.status == AKIN_OK;
}

enum akin_status akin_settings_load(struct akin_settings *settings, const char *path, bool optional,
                                    struct akin_error *error)
{
    FILE *file = fopen(path, "re");
    if (!file && errno == ENOENT && optional)
        return AKIN_OK;
    if (!file)
        return error_system(error, "%s", path);
    struct ini_load load = { .settings = settings, .path = path };
    int line = ini_parse_file(file, ini_line, &load);
    fclose(file);
    if (line == 0)
        return AKIN_OK;
    if (line < 0)
        return error_set(error, AKIN_IO, "%s: cannot be read", path);
    return error_set(error, AKIN_FORMAT, "%s:%d: %s", path, line,
                     load.error.status != AKIN_OK ? load.error.message : "expected key = value");
}

enum akin_status akin_settings_load_environment(struct akin_settings *settings,
                                                struct akin_error *error)
{
    for (int i = 0; i < SETTINGS; i++) {
        const char *value = getenv(known[i].environment), *origin = known[i].environment;
        if (i == HUB && !value)                 /* what other programs of the field read */
            value = getenv(origin = "HF_ENDPOINT");
        if (value && *value)
            TRY(akin_settings_set(settings, known[i].key, value, origin, error));
    }
    return AKIN_OK;
}

enum akin_status akin_settings_resolve(struct akin_settings *settings, struct akin_error *error)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char path[PATH_BYTES_MAX] = "";
    if (config && config[0] == '/')
        TRY(path_join(path, sizeof path, config, "akin/akin.ini", error));
    else if (home && *home)
        TRY(path_join(path, sizeof path, home, ".config/akin/akin.ini", error));
    if (*path)
        TRY(akin_settings_load(settings, path, true, error));
    return akin_settings_load_environment(settings, error);
}

/* ---- reading ---------------------------------------------------------------------------- */

const char *akin_settings_get(const struct akin_settings *settings, const char *key)
{
    int setting = find(key);
    return setting < 0 ? NULL : settings->values[setting];
}

bool akin_settings_at(const struct akin_settings *settings, size_t i, struct akin_setting *setting)
{
    if (i >= SETTINGS)
        return false;
    *setting = (struct akin_setting){ known[i].key, settings->values[i], settings->origins[i],
                                      known[i].help };
    return true;
}

void akin_settings_engine(const struct akin_settings *settings, struct akin_engine_settings *engine)
{
    uint64_t threads = 0;
    parse_uint64(settings->values[THREADS], strlen(settings->values[THREADS]), &threads);
    engine->threads = (int)threads;
    engine->device = settings->values[DEVICE];
    engine->place = settings->values[PLACE];
    engine->cuda_library = *settings->values[CUDA_LIBRARY] ? settings->values[CUDA_LIBRARY] : NULL;
    engine->pin = settings->values[PIN];
    engine->numa = settings->values[NUMA];
    engine->home = settings->values[HOME];
    engine->cpu = *settings->values[CPU] ? settings->values[CPU] : NULL;
}
