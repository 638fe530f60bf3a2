/* The loops over flat arrays of train_kernels.h, in plain C for every level: each operation on its
 * own rounding, so that all levels give the same bits, whatever vectors the compiler makes. */
#include <math.h>
#include <stdint.h>
#include <string.h>

static void mask_f32(float *restrict x, const float *restrict hidden, float scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = hidden[i] > 0 ? x[i] * scale : 0;
}

static void mask_bf16(float *restrict x, const uint16_t *restrict hidden, float scale,
                      size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (int16_t)hidden[i] > 0 ? x[i] * scale : 0;
}

static bool all_finite(const float *x, size_t count)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

static void update_adam(float *restrict values, const float *restrict gradients,
                        float *restrict first, float *restrict second,
                        const struct update_terms *terms, size_t count)
{
    const struct update_terms t = *terms;
    for (size_t i = 0; i < count; i++) {
        float g = gradients[i] * t.factor + t.decay * values[i];
        first[i] = t.beta1 * first[i] + t.take1 * g;
        second[i] = t.beta2 * second[i] + t.take2 * g * g;
        values[i] = values[i] * t.keep -
                    t.rate * first[i] / (sqrtf(second[i]) * t.root + t.epsilon);
    }
}

static void update_sgd(float *restrict values, const float *restrict gradients,
                       const struct update_terms *terms, size_t count)
{
    const struct update_terms t = *terms;
    for (size_t i = 0; i < count; i++)
        values[i] -= t.rate * (gradients[i] * t.factor + t.decay * values[i]);
}
