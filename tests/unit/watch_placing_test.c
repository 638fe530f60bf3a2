/* The near kinds of each kind are the nearest there are, with their ties, however many were placed
 * together, on however many threads, and after kinds were forgotten. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/cpu/kernels.h"
#include "watch/score.h"

enum { DIMENSION = 64, KINDS_MAX = 3000, BATCH = 150, BATCHES = 21 };

static struct kernels kernels;

struct one {
    uint32_t slot;
    float distance;
};

static int compare(const void *a, const void *b)
{
    const struct one *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return (x->slot > y->slot) - (x->slot < y->slot);
}

static void assert_nearest(struct event_model *m, uint32_t slot)
{
    static struct one all[KINDS_MAX];
    const struct template *t = templates_at(m->templates, slot);
    size_t count = 0;
    for (uint32_t i = 0; i < templates_slots(m->templates); i++) {
        const struct template *other = templates_at(m->templates, i);
        float cosine;
        if (i == slot || !other->id)
            continue;
        kernels.score_dot_f32(&cosine, t->vector, 1, (const float *const[]){other->vector}, 1,
                              DIMENSION);
        all[count++] = (struct one){ i, 1 - cosine > 0 ? 1 - cosine : 0 };
    }
    qsort(all, count, sizeof *all, compare);
    for (size_t i = 0; i < TEMPLATE_NEAREST; i++) {
        if (i >= count) {
            assert_int_equal(t->nearest_id[i], 0);
            continue;
        }
        assert_int_equal(t->nearest[i], all[i].slot);
        assert_int_equal(t->nearest_id[i], templates_at(m->templates, all[i].slot)->id);
        assert_memory_equal(&t->distance[i], &all[i].distance, sizeof(float));
    }
}

/* Few different vectors, so that there are ties. */
static uint32_t add_kind(struct event_model *m, struct rng *rng, uint64_t number)
{
    char text[64];
    bool added;
    size_t bytes = (size_t)snprintf(text, sizeof text, "k%llu is %llu of %llu",
                                    (unsigned long long)number, (unsigned long long)number * 7,
                                    (unsigned long long)number * 13);
    uint32_t slot = templates_find(m->templates, text, bytes, &added);
    assert_true(slot != UINT32_MAX && added);
    struct template *t = templates_at(m->templates, slot);
    struct rng same;
    rng_seed(&same, rng_below(rng, 700));
    t->vector = memory_alloc_aligned(DIMENSION, sizeof *t->vector);
    assert_non_null(t->vector);
    double square = 0;
    for (size_t i = 0; i < DIMENSION; i++) {
        t->vector[i] = (float)rng_normal(&same);
        square += (double)t->vector[i] * (double)t->vector[i];
    }
    for (size_t i = 0; i < DIMENSION; i++)
        t->vector[i] = (float)((double)t->vector[i] / sqrt(square));
    return slot;
}

static void check(struct thread_pool *pool, size_t max, size_t together)
{
    struct event_model m = { .kernels = &kernels, .pool = pool, .dimension = DIMENSION,
                             .placing = placing_create(DIMENSION),
                             .templates = templates_create(max) };
    struct rng rng;
    uint32_t fresh[BATCH], all[KINDS_MAX];
    rng_seed(&rng, max + together);
    assert_true(m.placing && m.templates);
    for (size_t batch = 0; batch < BATCHES; batch++) {
        for (size_t i = 0; i < BATCH; i++)
            fresh[i] = add_kind(&m, &rng, batch * BATCH + i);
        for (size_t i = 0; i < BATCH; i += together)
            event_model_place(&m, fresh + i, BATCH - i < together ? BATCH - i : together);
        if (batch % 7 < 5)          /* some go stale for longer than others */
            continue;
        size_t count = 0;
        for (uint32_t i = 0; i < templates_slots(m.templates); i++)
            if (templates_at(m.templates, i)->id)
                all[count++] = i;
        event_model_renew(&m, all, count);
        for (size_t i = 0; i < count; i += 7)
            assert_nearest(&m, all[i]);
    }
    assert_true(templates_forgotten(m.templates) > BATCH);
    templates_destroy(&m.templates);
    placing_destroy(&m.placing);
}

static void all_near_kinds_are_found(void **state)
{
    static const size_t together[] = {1, 7, 32, BATCH};
    (void)state;
    for (size_t i = 0; i < sizeof together / sizeof together[0]; i++)
        check(NULL, 1000, together[i]);
}

static void threads_change_nothing(void **state)
{
    struct thread_pool *pool = thread_pool_create(3);
    (void)state;
    assert_non_null(pool);
    check(pool, 2500, BATCH);
    check(pool, 1000, 20);
    thread_pool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_near_kinds_are_found), cmocka_unit_test(threads_change_nothing)
    };
    kernels_select(&kernels, cpu_detect());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
