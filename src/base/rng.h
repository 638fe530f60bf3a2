/* Deterministic random numbers (xoshiro256** seeded by splitmix64). Never for secrets. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound);  /* unbiased, bound >= 1 */
/* Every order equally likely. */
void rng_shuffle(struct rng *rng, uint32_t *values, size_t count);
float rng_float(struct rng *rng);                     /* [0, 1) */
float rng_normal(struct rng *rng);                    /* mean 0, variance 1 */
