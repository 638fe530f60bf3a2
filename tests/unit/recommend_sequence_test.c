/* The sequence model: it learns an order that can be learned, from nothing but lists; its gradients
 * are right, because one step goes where finite differences say; threads change no bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "compute/cpu/kernels.h"
#include "recommend/sequence.h"
#include "backends_rig.h"

enum { ITEMS = 67, LISTS = 150, LENGTH = 20 };

static size_t offsets[LISTS + 1];
static uint32_t items[LISTS * LENGTH];
static double counts[ITEMS];
static const struct item_lists lists = { LISTS, ITEMS, offsets, items };

static int set_up(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 4);
    for (size_t u = 0; u < LISTS; u++) {
        uint64_t at = rng_below(&rng, ITEMS);
        for (size_t e = 0; e < LENGTH; e++) {
            at = (at + 2) % ITEMS;              /* around a ring, by twos */
            items[u * LENGTH + e] = (uint32_t)at;
            counts[at]++;
        }
        offsets[u + 1] = (u + 1) * LENGTH;
    }
    return backends_open();
}

static int tear_down(void **state)
{
    (void)state;
    backends_close();
    return 0;
}

static struct sequence_settings small(void)
{
    struct sequence_settings s;
    sequence_settings_default(&s);
    s.dim = 12;
    s.epochs = 30;
    s.batch = 60;
    s.rate = 0.02f;
    s.dropout = 0.1f;
    return s;
}

static void the_order_is_learned(void **state)
{
    (void)state;
    struct sequence_model one, three;
    struct sequence_settings s = small();
    const struct kernels *k = cpu_kernels(backends[0]);
    assert_int_equal(sequence_train(k, pools[0], &lists, counts, &s, &one, NULL), AKIN_OK);
    assert_int_equal(sequence_train(cpu_kernels(backends[THREADS_TRIED - 1]),
                                    pools[THREADS_TRIED - 1], &lists, counts, &s, &three, NULL),
                     AKIN_OK);
    assert_memory_equal(one.history, three.history, ITEMS * s.dim * sizeof(float));
    assert_memory_equal(one.output, three.output,
                        one.panel_count * one.nr * (s.dim + 1) * sizeof(float));
    assert_memory_equal(one.scale, three.scale, sizeof one.scale);
    size_t right = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        float logits[ITEMS + GEMM_NR_MAX];
        uint32_t history[3] = { i, (i + 2) % ITEMS, (i + 4) % ITEMS };
        size_t best = ITEMS;
        sequence_logits(&one, k, history, 3, logits);
        for (size_t j = 0; j < ITEMS; j++)
            if (j != history[0] && j != history[1] && j != history[2] &&
                (best == ITEMS || logits[j] > logits[best]))
                best = j;
        right += best == (i + 6) % ITEMS;
    }
    assert_true(right >= ITEMS * 9 / 10);
    sequence_model_deinit(&one);
    sequence_model_deinit(&three);
}

/* Cross-entropy over all positions, from the definition, in double. */
static double loss(const struct sequence_model *m)
{
    double total = 0;
    size_t positions = 0;
    for (size_t u = 0; u < LISTS; u++)
        for (size_t c = 1; c < LENGTH; c++, positions++) {
            const uint32_t *list = items + u * LENGTH;
            double user[SEQUENCE_DIM_MAX] = { 0 }, sum = 0, wanted = 0;
            bool seen[ITEMS] = { false };
            for (size_t h = 0; h < SEQUENCE_HEADS; h++) {
                double weights = 0, mean[SEQUENCE_DIM_MAX] = { 0 };
                for (size_t k = 0; k < c; k++) {
                    double w = (double)sequence_weight(h, c - 1 - k);
                    weights += w;
                    for (size_t d = 0; d < m->dim; d++)
                        mean[d] += w * (double)m->history[list[k] * m->dim + d];
                    seen[list[k]] = true;
                }
                for (size_t d = 0; d < m->dim; d++)
                    user[d] += (double)m->scale[h][d] * mean[d] / weights;
            }
            for (size_t j = 0; j < ITEMS; j++) {
                double logit = (double)*sequence_output(m, j, m->dim);
                for (size_t d = 0; d < m->dim; d++)
                    logit += user[d] * (double)*sequence_output(m, j, d);
                sum += seen[j] ? 0 : exp(logit);
                wanted = j == list[c] ? logit : wanted;
            }
            total += log(sum) - wanted;
        }
    return total / (double)positions;
}

/* The first step of Adam goes by rate * sign(gradient): with a step from which all lists are seen,
 * the sign must be that of the difference quotient wherever that is clear. */
static void gradients_are_right(void **state)
{
    (void)state;
    struct sequence_model start, stepped;
    struct sequence_settings s = small();
    const struct kernels *k = cpu_kernels(backends[0]);
    s.dim = 5;
    s.batch = LISTS * LENGTH;
    s.dropout = 0;
    s.decay = 0;
    s.rate = 1e-3f;
    s.epochs = 0;
    assert_int_equal(sequence_train(k, pools[0], &lists, counts, &s, &start, NULL), AKIN_OK);
    s.epochs = 1;
    assert_int_equal(sequence_train(k, pools[0], &lists, counts, &s, &stepped, NULL), AKIN_OK);
    size_t checked = 0;
    for (size_t i = 0; i < ITEMS; i += 5)
        for (size_t d = 0; d <= s.dim + 1; d++) {
            float *at = d == s.dim + 1 ? &start.history[i * s.dim + i % s.dim]
                                       : sequence_output(&start, i, d);
            float moved = d == s.dim + 1 ? stepped.history[i * s.dim + i % s.dim]
                                         : *sequence_output(&stepped, i, d);
            float was = *at;
            *at = was + 1e-3f;
            double up = loss(&start);
            *at = was - 1e-3f;
            double slope = (up - loss(&start)) / 2e-3;
            *at = was;
            if (fabs(slope) < 1e-5)
                continue;
            checked++;
            assert_true((moved > was) == (slope < 0) && moved != was);
        }
    for (size_t h = 0; h < SEQUENCE_HEADS; h++)
        for (size_t d = 0; d < s.dim; d++) {
            start.scale[h][d] = 1.001f;
            double up = loss(&start);
            start.scale[h][d] = 0.999f;
            double slope = (up - loss(&start)) / 2e-3;
            start.scale[h][d] = 1;
            if (fabs(slope) < 1e-5)
                continue;
            checked++;
            assert_true((stepped.scale[h][d] > 1) == (slope < 0));
        }
    assert_true(checked > 50);
    sequence_model_deinit(&start);
    sequence_model_deinit(&stepped);
}

static bool stop(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage;
    (void)total;
    return done < *(uint64_t *)cookie;
}

static void odd_lists_and_stops(void **state)
{
    (void)state;
    const size_t short_offsets[] = { 0, 0, 1, 3 };
    const uint32_t few[] = { 2, 0, 1 };
    const double chosen[] = { 1, 1, 1 };
    const struct item_lists short_lists = { 3, 3, short_offsets, few };
    struct sequence_model model;
    struct sequence_settings s = small();
    uint64_t limit = 200;
    const struct kernels *k = cpu_kernels(backends[0]);
    assert_int_equal(sequence_train(k, pools[0], &short_lists, chosen, &s, &model, NULL), AKIN_OK);
    sequence_model_deinit(&model);
    const struct item_lists none = { 0, 3, short_offsets, few };
    assert_int_equal(sequence_train(k, pools[0], &none, chosen, &s, &model, NULL), AKIN_OK);
    sequence_model_deinit(&model);
    s.progress = (struct akin_progress){ &limit, stop };
    assert_int_equal(sequence_train(k, pools[0], &lists, counts, &s, &model, NULL), AKIN_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_is_learned),
        cmocka_unit_test(gradients_are_right),
        cmocka_unit_test(odd_lists_and_stops),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
