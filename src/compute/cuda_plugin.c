/* Finding and loading libakin-cuda.so. The system keeps a library that is loaded twice once, so no
 * state is kept here. */
#include "compute/cuda_plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define PLUGIN_NAME "libakin-cuda.so"

enum { PATH_BYTES = 4096 };

/* Beside whatever holds this code. */
static void *open_near(const char *folder)
{
    Dl_info here;
    char path[PATH_BYTES];
    if (dladdr(PLUGIN_NAME, &here) == 0 || !here.dli_fname)
        return NULL;
    const char *slash = strrchr(here.dli_fname, '/');
    int length = slash ? (int)(slash - here.dli_fname) : 1;
    const char *start = slash ? here.dli_fname : ".";
    int wanted = snprintf(path, sizeof path, "%.*s/%s%s", length, start, folder, PLUGIN_NAME);
    if (wanted < 0 || wanted >= PATH_BYTES)
        return NULL;
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static void *look_for(void)
{
    void *library = open_near("");
    if (!library)
        library = open_near("../lib/");
    return library ? library : dlopen(PLUGIN_NAME, RTLD_NOW | RTLD_LOCAL);
}

enum akin_status cuda_plugin_load(const char *path, const struct cuda_plugin **plugin,
                                  struct akin_error *error)
{
    *plugin = NULL;
    bool told = path && *path;
    void *library = told ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : look_for();
    if (!library && told) {
        const char *reason = dlerror();
        return error_set(error, AKIN_NOT_FOUND,
                         "no CUDA: %s; set AKIN_CUDA_LIBRARY to the path of " PLUGIN_NAME
                         ", or not at all", reason ? reason : path);
    }
    if (!library) {
        const char *reason = dlerror();
        return error_set(error, AKIN_NOT_FOUND,
                         "no CUDA: %s; install the CUDA part of akin and NVIDIA's driver, or use "
                         "--device cpu",
                         reason ? reason : PLUGIN_NAME " is not there");
    }
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
