/* Finding and loading libakin-cuda.so. The system keeps a library that is loaded twice once, so no
 * state is kept here. */
#include "compute/cuda_plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"

#define PLUGIN_NAME "libakin-cuda.so"

enum { PATH_BYTES = 4096 };

/* Where it may lie beside whatever holds this code; false: that is not known. */
static bool path_near(const char *folder, char path[PATH_BYTES])
{
    Dl_info here;
    if (dladdr(PLUGIN_NAME, &here) == 0 || !here.dli_fname)
        return false;
    const char *slash = strrchr(here.dli_fname, '/');
    int length = slash ? (int)(slash - here.dli_fname) : 1;
    const char *start = slash ? here.dli_fname : ".";
    int wanted = snprintf(path, PATH_BYTES, "%.*s/%s%s", length, start, folder, PLUGIN_NAME);
    return wanted >= 0 && wanted < PATH_BYTES;
}

/* A library that is there and cannot be loaded says why. */
static enum akin_status load_from(const char *path, void **library, struct akin_error *error)
{
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*library)
        return AKIN_OK;
    const char *reason = dlerror();
    bool blas = reason && strstr(reason, "libcublas");
    return error_set(error, AKIN_NOT_FOUND, "no CUDA: %s; %s", reason ? reason : path,
                     blas ? "install cuBLAS of CUDA 13 (libcublas-13-0), or use --device cpu"
                          : "install what it needs, or use --device cpu");
}

static enum akin_status look_for(void **library, struct akin_error *error)
{
    static const char *const folders[] = {"", "../lib/"};
    char path[2][PATH_BYTES] = {"", ""};
    for (int i = 0; i < 2; i++)
        if (path_near(folders[i], path[i]) && path_exists(path[i]))
            return load_from(path[i], library, error);
    *library = dlopen(PLUGIN_NAME, RTLD_NOW | RTLD_LOCAL);
    const char *reason = *library ? NULL : dlerror();
    if (*library)
        return AKIN_OK;
    if (reason && !strstr(reason, PLUGIN_NAME ": cannot open"))     /* it lacks something */
        return error_set(error, AKIN_NOT_FOUND, "no CUDA: %s; install what it needs, or use "
                         "--device cpu", reason);
    return error_set(error, AKIN_NOT_FOUND,
                     "no CUDA: " PLUGIN_NAME " is not at %.150s, not at %.150s, and not where the "
                     "system looks; install the CUDA part of akin, set AKIN_CUDA_LIBRARY to its "
                     "path, or use --device cpu", path[0], path[1]);
}

enum akin_status cuda_plugin_load(const char *path, const struct cuda_plugin **plugin,
                                  struct akin_error *error)
{
    *plugin = NULL;
    bool told = path && *path;
    void *library = NULL;
    if (told && !path_exists(path))
        return error_set(error, AKIN_NOT_FOUND, "no CUDA: %s is not there; set AKIN_CUDA_LIBRARY "
                         "to the path of " PLUGIN_NAME ", or not at all", path);
    TRY(told ? load_from(path, &library, error) : look_for(&library, error));
    void *symbol = dlsym(library, "akin_cuda_plugin");
    cuda_plugin_entry *entry;
    memcpy(&entry, &symbol, sizeof entry);      /* ISO C has no cast from data to code */
    const struct cuda_plugin *found = symbol ? entry() : NULL;
    if (!found || found->version != CUDA_PLUGIN_VERSION)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s is of version %u, this is %d; install both of one release",
                         told ? path : PLUGIN_NAME, found ? found->version : 0,
                         CUDA_PLUGIN_VERSION);
    *plugin = found;
    return AKIN_OK;
}

void cuda_plugin_where(const struct cuda_plugin *plugin, char *path, size_t bytes)
{
    Dl_info there;
    bool known = dladdr(plugin, &there) != 0 && there.dli_fname;
    snprintf(path, bytes, "%s", known ? there.dli_fname : "");
}

int cuda_nccl_version(void)
{
    int version = 0;
    int (*ask)(int *version);
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "ncclGetVersion") : NULL;
    memcpy(&ask, &symbol, sizeof ask);
    if (ask && ask(&version) != 0)
        version = 0;
    if (library)
        dlclose(library);
    return version;
}
