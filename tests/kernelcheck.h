/* kernelcheck.c checks the inner loops, kernelbench.c times them: one program. */
#pragma once

#include <stdbool.h>

#include "compute/cpu/kernels.h"

/* Prints the speed of every loop of `k`, its share of what this machine can do and its ratio to
 * `below` (NULL: there is no level below), as text or as one JSON object. */
void kernelbench(const char *level, const struct kernels *k, const struct kernels *below,
                 unsigned cpu_flags, bool json);
