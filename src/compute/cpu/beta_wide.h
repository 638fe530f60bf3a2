/* Draws of the Beta distribution over vectors of LANES floats, until each is accepted
 * (beta_attempt.h). */
#include <stdint.h>

#include "compute/cpu/beta_attempt.h"

enum { BETA_CHUNK = 1024 };

ALWAYS_INLINE v16 beta_attempt(v16 alpha, v16 beta, const v16 uniform[3], unsigned *kept)
{
    alpha = beta_shape(alpha);
    beta = beta_shape(beta);
    struct beta_form form = beta_envelope(alpha, beta);
    return beta_attempt_in(&form, alpha, beta, uniform, kept);
}

/* The arms of a list once more, until all are accepted; `out` and the shapes from arm `first`. */
static void beta_again(float *out, const float *alpha, const float *beta, uint32_t first,
                       uint32_t *list, size_t count, const struct beta_key *key)
{
    for (uint32_t attempt = 1; attempt < BETA_ATTEMPTS && count; attempt++) {
        size_t left = 0;
        for (size_t i = 0; i < count; i += LANES) {
            size_t live = count - i < LANES ? count - i : LANES;
            uint32_t arms[LANES] = { 0 };
            float a[LANES] = { 0 }, b[LANES] = { 0 }, x[LANES];
            unsigned kept;
            v16 uniform[3];
            for (size_t j = 0; j < live; j++) {
                arms[j] = list[i + j];
                a[j] = alpha[arms[j] - first];
                b[j] = beta[arms[j] - first];
            }
            v_uniform(uniform, arms, key, attempt);
            v_store(x, beta_attempt(v_load(a), v_load(b), uniform, &kept));
            for (size_t j = 0; j < live; j++)
                if (kept >> j & 1)
                    out[arms[j] - first] = x[j];
                else
                    list[left++] = arms[j];
        }
        count = left;
    }
}

static void draw_beta_f32(float *out, const float *alpha, const float *beta, size_t count,
                          const struct beta_key *key)
{
    uint32_t list[BETA_CHUNK];
    for (size_t at = 0; at < count; at += BETA_CHUNK) {
        size_t refused = 0, end = count - at < BETA_CHUNK ? count : at + BETA_CHUNK;
        uint32_t first = key->arm + (uint32_t)at;
        for (size_t i = at; i < end; i += LANES) {
            size_t live = end - i < LANES ? end - i : LANES;
            uint32_t arms[LANES];
            unsigned kept;
            v16 uniform[3];
            for (size_t j = 0; j < LANES; j++)
                arms[j] = key->arm + (uint32_t)(i + j);
            v_uniform(uniform, arms, key, 0);
            v16 x = beta_attempt(v_load_first(alpha + i, live), v_load_first(beta + i, live),
                                 uniform, &kept);
            v_store_first(out + i, live, x);
            for (unsigned bad = ~kept & (unsigned)((1ull << live) - 1); bad; bad &= bad - 1)
                list[refused++] = arms[__builtin_ctz(bad)];
        }
        beta_again(out + at, alpha + at, beta + at, first, list, refused, key);
    }
}
