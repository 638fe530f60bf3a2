/* Draws of the Beta distribution: which random numbers they have, and their limits, on every
 * device. */
#pragma once

#include <stdint.h>

#include "base/philox.h"

/* Which random numbers a draw has: the Philox block (base/philox.h) of key seed and counter (arm,
 * round, stream with replica and attempt above it). */
struct beta_key {
    uint32_t seed[2], round[2];
    uint32_t stream, replica;           /* below 2^16 and 2^10 */
    uint32_t arm;                       /* of the first draw */
};

PHILOX_INLINE uint32_t beta_word(const struct beta_key *key, uint32_t attempt)
{
    return key->stream | attempt << 16 | key->replica << 22;
}

#define BETA_SHAPE_MIN 0.01f
#define BETA_SHAPE_MAX 1e7f
/* Attempts at a draw, of which one in nine fails: then the first one stands, with probability
 * 1e-61. */
enum { BETA_ATTEMPTS = 64, BETA_ROOT_HALF = 0x3f3504f3 };    /* the bits of sqrt(1/2) */
