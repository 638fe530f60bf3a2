/* See device_check.h. */
#include "device_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKIPPED = 77 };

int checks, failures;
struct akin_error error;

void must(enum akin_status status)
{
    checks++;
    if (status == AKIN_OK)
        return;
    printf("FAILED: %s\n", error.message);
    exit(1);
}

void *must_have(void *memory)
{
    if (!memory) {
        fputs("memory ran out\n", stderr);
        exit(2);
    }
    return memory;
}

#ifdef AKIN_CUDA_EMULATED

cuda_plugin_entry akin_cuda_plugin;     /* linked, not loaded */

const struct cuda_plugin *device_check_plugin(const char *path)
{
    (void)path;
    return akin_cuda_plugin();
}

#else

const struct cuda_plugin *device_check_plugin(const char *path)
{
    const struct cuda_plugin *plugin;
    if (cuda_plugin_load(path, &plugin, &error) == AKIN_OK && plugin->device_count() > 0)
        return plugin;
    printf("skipped: no card (%s)\n", error.message);
    exit(SKIPPED);
}

#endif

int device_check_main(int argc, char **argv, const char *usage,
                      void (*check)(const struct cuda_plugin *plugin, bool rates))
{
    bool rates = argc == 3 && !strcmp(argv[2], "--bench");
    if (argc > 3 || (argc > 1 && strcmp(argv[1], "cuda")) || (argc == 3 && !rates)) {
        fprintf(stderr, "usage: %s\n", usage);
        return 2;
    }
    check(device_check_plugin(NULL), rates);
    printf("%.*s: %d checks, %d failed\n", (int)strcspn(usage, " "), usage, checks, failures);
    return failures > 0;
}
