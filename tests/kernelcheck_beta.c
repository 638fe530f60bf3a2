/* The check of the draws of the Beta distribution (see kernelcheck.h). That they follow it is
 * tests/unit/compute_beta_test.c's. */
#include <math.h>

#include "kernelcheck.h"

/* Shapes of every size, equal ones, and what is none. */
static float shape_of(size_t i, int kind)
{
    static const float odd[] = { 0, -1, NAN, INFINITY, -INFINITY, 1e-30f, 1e30f, 0.01f, 1e7f };
    if (kind == 1)
        return odd[(i + rng_below(&rng, 3)) % COUNT_OF(odd)];
    return kind == 2 ? 1 : expf(16.1f * rng_float(&rng) - 4.6f);
}

static void draw_one(const struct kernels *k, size_t count, int kind)
{
    struct beta_key key = { { (uint32_t)rng_next(&rng), (uint32_t)rng_next(&rng) },
                            { (uint32_t)rng_next(&rng), 1 }, 0xffff, 1023, UINT32_MAX - 5 };
    at(count, (size_t)kind, 0);
    float *alpha = guarded(count), *beta = guarded(count), *out = guarded(count),
          *same = guarded(count);
    for (size_t i = 0; i < count; i++) {
        alpha[i] = shape_of(i, kind);
        beta[i] = kind == 0 && i % 5 == 0 ? alpha[i] : shape_of(i + 1, kind);
    }
    k->draw_beta_f32(out, alpha, beta, count, &key);
    bool right = true, alone = true;
    for (size_t i = 0; i < count; i++)
        right &= out[i] >= 0 && out[i] <= 1;
    expect(right, "not from 0 to 1");
    expect(canary_intact(out), "wrote in front of the output");
    reference.draw_beta_f32(same, alpha, beta, count, &key);
    expect(same_bits(out, same, count), "other bits than the reference");
    if (count > 8) {    /* neighbours change nothing */
        key.arm += 7;
        k->draw_beta_f32(same, alpha + 7, beta + 7, count - 8, &key);
        for (size_t i = 0; i < count - 8; i++)
            alone &= same_bits(&same[i], &out[i + 7], 1);
    }
    expect(alone, "depends on the arms beside");
    release_all();
}

void check_draw_beta_f32(const struct kernels *k)
{
    for (int kind = 0; kind < 3; kind++) {
        for (size_t count = 0; count < 70; count++)
            draw_one(k, count, kind);
        draw_one(k, 1000, kind);
        draw_one(k, 5003, kind);
    }
}
