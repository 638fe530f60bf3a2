/* What the programs that check a device have in common. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"

static int checks, failures;
static struct akin_error error;

static inline void must(enum akin_status status)
{
    checks++;
    if (status == AKIN_OK)
        return;
    printf("FAILED: %s\n", error.message);
    exit(1);
}

static inline void *must_have(void *memory)
{
    if (!memory) {
        fputs("memory ran out\n", stderr);
        exit(2);
    }
    return memory;
}
