/* Draws of the Beta distribution one by one: beta_wide.h over vectors of one lane. That they follow
 * the distribution is tested against its exact function (tests/unit/compute_beta_test.c). */
#include "compute/cpu/kernels.h"

#define ALWAYS_INLINE static inline

#include "compute/cpu/beta_scalar.h"

static inline v16 v_load(const float *p) { return *p; }
static inline v16 v_load_first(const float *p, size_t n) { return n ? *p : 0; }
static inline void v_store(float *p, v16 a) { *p = a; }
static inline void v_store_first(float *p, size_t n, v16 a)
{
    if (n)
        *p = a;
}

#include "compute/cpu/beta_wide.h"

void kernels_use_beta_ref(struct kernels *k)
{
    k->draw_beta_f32 = draw_beta_f32;
}
