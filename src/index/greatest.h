/* The greatest of many, as numbers of 64 bits: a score above an inverted row, so that all differ
 * and ties go to the lower row. */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t int_key(int32_t score, uint32_t row)
{
    return (uint64_t)((uint32_t)score ^ 0x80000000u) << 32 | (uint32_t)~row;
}

static inline int32_t key_score(uint64_t key)
{
    return (int32_t)((uint32_t)(key >> 32) ^ 0x80000000u);
}

static inline uint32_t key_row(uint64_t key)
{
    return ~(uint32_t)key;
}

/* A float as a number of the same order; NaN is the least. */
static inline uint64_t float_key(float score, uint32_t row)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    bits = isnan(score) ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)bits << 32 | (uint32_t)~row;
}

/* Moves the `keep` greatest of x [count] to the front, in any order, the least of them to
 * x[keep - 1]. 1 <= keep <= count. Equal numbers are fine. */
void keep_greatest(uint64_t *x, size_t count, size_t keep);
