/* Where models lie: HOME/models/<name>, one folder each. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "model/model.h"

/* A folder is a model when it says how to read itself. Staging folders of a download start with a
 * dot. */
static bool is_model(const char *folder)
{
    char path[PATH_BYTES_MAX];
    static const char *const files[] = { "config.json", "modules.json" };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (path_join(path, sizeof path, folder, files[i], NULL) == AKIN_OK && path_exists(path))
            return true;
    return false;
}

static enum akin_status give_path(const char *found, char *path, size_t path_bytes,
                                  struct akin_error *error)
{
    int needed = snprintf(path, path_bytes, "%s", found);
    if (needed < 0 || (size_t)needed >= path_bytes)
        return error_set(error, AKIN_LIMIT, "%.200s: the path is too long", found);
    return AKIN_OK;
}

/* Names differ in case between hubs, packages and habits: "all-MiniLM-L6-v2". */
struct search {
    const char *name;
    char path[PATH_BYTES_MAX];      /* "" until it is found */
};

static void match_name(void *cookie, const char *name, const char *path)
{
    struct search *search = cookie;
    if (!search->path[0] && !strcasecmp(name, search->name))
        snprintf(search->path, sizeof search->path, "%s", path);
}

enum akin_status model_locate(const char *home, const char *name, char *path, size_t path_bytes,
                              struct akin_error *error)
{
    if (!name || !name[0])
        return error_set(error, AKIN_ARGUMENT,
                         "no model is named; give a folder or a name (--model)");
    if (path_is_folder(name) && (is_model(name) || strchr(name, '/')))
        return give_path(name, path, path_bytes, error);
    char models[PATH_BYTES_MAX], folder[PATH_BYTES_MAX];
    TRY(path_join(models, sizeof models, home, "models", error));
    TRY(path_join(folder, sizeof folder, models, path_last(name), error));
    bool plain =
        name[0] != '.' && name[0] != '/' && path_last(name)[0] && path_last(name)[0] != '.';
    if (plain && path_is_folder(folder))
        return give_path(folder, path, path_bytes, error);
    struct search search = { .name = path_last(name), .path = "" };
    if (plain && model_list(home, &search, match_name, NULL) == AKIN_OK && search.path[0])
        return give_path(search.path, path, path_bytes, error);
    return error_set(error, AKIN_NOT_FOUND,
                     "%s: no such model folder, and none of that name in %s; get it with "
                     "'akin model pull %s', or all-MiniLM-L6-v2 with 'make demo'",
                     name, models, plain ? name : "NAME");
}

enum akin_status model_list(const char *home, void *cookie,
                            void (*visit)(void *cookie, const char *name, const char *path),
                            struct akin_error *error)
{
    char models[PATH_BYTES_MAX], folder[PATH_BYTES_MAX];
    TRY(path_join(models, sizeof models, home, "models", error));
    if (!path_exists(models))
        return AKIN_OK;
    struct names names = { 0 };
    enum akin_status status = path_list(models, &names, error);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        status = path_join(folder, sizeof folder, models, names.items[i], error);
        if (status == AKIN_OK && names.items[i][0] != '.' && is_model(folder))
            visit(cookie, names.items[i], folder);
    }
    names_deinit(&names);
    return status;
}
