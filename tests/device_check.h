/* What the programs that check a device have in common: counting, failing, the plug-in that they
 * check and, for most, the command line NAME [cuda [--bench]]. Built with AKIN_CUDA_EMULATED the
 * plug-in is that of the tests, whose kernels run on the CPU. */
#pragma once

#include "compute/cuda_plugin.h"

/* Kernels on the CPU are slow under a sanitizer: only what is small is checked then. */
#if defined AKIN_CUDA_EMULATED && (defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__)
enum { CHECK_LARGE = 0 };
#else
enum { CHECK_LARGE = 1 };
#endif

extern int checks, failures;
extern struct akin_error error;

/* Counts a check; one that failed ends the program. */
void must(enum akin_status status);
/* Ends the program where memory is NULL. */
void *must_have(void *memory);

/* The plug-in, `path` as of cuda_plugin_load. Where there is none, or no card, that is told and
 * the program ends as skipped. */
const struct cuda_plugin *device_check_plugin(const char *path);

/* Of a program with that command line: `check` is called with its plug-in and with whether it is to
 * measure. `usage` begins with the program's name. Returns the exit status: 0 fine, 1 failed,
 * 2 wrong use. */
int device_check_main(int argc, char **argv, const char *usage,
                      void (*check)(const struct cuda_plugin *plugin, bool rates));

/* Of x [dim]: scaled to length one. */
void unit(float *x, size_t dim);
/* Of a found vector and the right one, [dim] each. */
double cosine(const float *found, const double *right, size_t dim);
/* For qsort: uint64_t of base/clock.h, and double. */
int by_clock(const void *a, const void *b);
int by_seconds(const void *a, const void *b);
