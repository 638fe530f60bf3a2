/* See device_check.h. */
#include "device_check.h"

#include <math.h>
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

void unit(float *x, size_t dim)
{
    double squares = 0;
    for (size_t i = 0; i < dim; i++)
        squares += (double)x[i] * (double)x[i];
    for (size_t i = 0; i < dim; i++)
        x[i] = (float)((double)x[i] / sqrt(squares));
}

double cosine(const float *found, const double *right, size_t dim)
{
    double product = 0, a = 0, b = 0;
    for (size_t i = 0; i < dim; i++) {
        product += (double)found[i] * right[i];
        a += (double)found[i] * (double)found[i];
        b += right[i] * right[i];
    }
    return product / sqrt(a * b);
}

int by_clock(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int by_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
