/* The graph of people and items: a tower computes its formula; what people of one kind choose is
 * foretold for items that nobody chose; threads change no bit; odd input is refused or stopped. */
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
#include "recommend/graph_sage.h"
#include "backends_rig.h"

/* Items of four kinds by text; people of two kinds choose the first two or the last two, which
 * have nothing in common as texts. The last item of each kind is chosen by nobody. */
enum { KINDS = 4, EACH = 12, ITEMS = KINDS * EACH, PEOPLE = 60, CHOSEN = 8, DIM = 32 };

static float vectors[ITEMS * DIM];
static const float *texts[ITEMS];
static struct histories histories;

static void make_texts(struct rng *rng)
{
    for (size_t i = 0; i < ITEMS; i++) {
        float *v = vectors + i * DIM, squares = 0;
        for (size_t d = 0; d < DIM; d++)
            v[d] = 0.1f * rng_normal(rng) + (d == i / EACH ? 1 : 0);
        for (size_t d = 0; d < DIM; d++)
            squares += v[d] * v[d];
        for (size_t d = 0; d < DIM; d++)
            v[d] /= sqrtf(squares);
        texts[i] = v;
    }
}

static int set_up(void **state)
{
    (void)state;
    struct history_event events[PEOPLE * CHOSEN];
    struct rng rng;
    rng_seed(&rng, 9);
    make_texts(&rng);
    for (size_t p = 0; p < PEOPLE; p++)
        for (size_t c = 0; c < CHOSEN; c++) {
            size_t kind = p % 2 * 2 + rng_below(&rng, 2);
            events[p * CHOSEN + c] = (struct history_event){
                (uint32_t)p, (uint32_t)(kind * EACH + rng_below(&rng, EACH - 1)), (int64_t)c };
        }
    if (histories_create(events, PEOPLE * CHOSEN, PEOPLE, ITEMS, &histories, NULL) != AKIN_OK)
        return -1;
    return backends_open();
}

static int tear_down(void **state)
{
    (void)state;
    histories_deinit(&histories);
    backends_close();
    return 0;
}

static struct graph_settings small(void)
{
    struct graph_settings s;
    graph_settings_default(&s);
    s.batch = 32;
    s.epochs = 12;
    s.rate = 3e-3f;
    return s;
}

static enum akin_status train(int threads, const struct graph_settings *settings, size_t dim,
                              struct graph_sage *graph, struct akin_error *error)
{
    struct graph_lesson lesson = { .cpu_flags = cpu_detect(), .pool = pools[threads],
                                   .kernels = cpu_kernels(backends[threads]),
                                   .histories = &histories, .texts = texts, .dim = dim };
    return graph_sage_train(&lesson, settings, graph, error);
}

static void new_items_are_placed(void **state)
{
    (void)state;
    struct graph_sage one, three;
    struct graph_settings s = small();
    const struct kernels *k = cpu_kernels(backends[0]);
    assert_int_equal(train(0, &s, DIM, &one, NULL), AKIN_OK);
    assert_int_equal(train(THREADS_TRIED - 1, &s, DIM, &three, NULL), AKIN_OK);
    assert_memory_equal(one.values, three.values,
                        GRAPH_TOWERS * graph_tower_values(DIM) * sizeof(float));
    /* who chose of the first kind alone will like the second: the texts do not say so */
    for (size_t kind = 0; kind < KINDS; kind++) {
        float user[DIM], item[DIM], scratch[2 * DIM], scores[KINDS];
        const uint32_t past[2] = { (uint32_t)(kind * EACH), (uint32_t)(kind * EACH + 1) };
        uint64_t before = memory_allocations();
        for (size_t d = 0; d < DIM; d++)
            user[d] = (texts[past[0]][d] + texts[past[1]][d]) / 2;
        graph_sage_tower(&one, k, GRAPH_USER, user, scratch);
        for (size_t other = 0; other < KINDS; other++) {
            const float *row = item;
            memcpy(item, texts[other * EACH + EACH - 1], sizeof item);
            graph_sage_tower(&one, k, GRAPH_ITEM, item, scratch);
            k->score_dot_f32(&scores[other], user, 1, &row, 1, DIM);
        }
        assert_int_equal(memory_allocations(), before);
        size_t partner = kind ^ 1;
        for (size_t other = 0; other < KINDS; other++)
            if (other / 2 != kind / 2)
                assert_true(scores[partner] > scores[other]);
    }
    graph_sage_deinit(&one);
    graph_sage_deinit(&three);
}

static void a_tower_by_definition(void **state)
{
    (void)state;
    struct graph_sage g;
    struct graph_settings s = small();
    s.epochs = 1;
    assert_int_equal(train(0, &s, DIM, &g, NULL), AKIN_OK);
    for (int tower = 0; tower < GRAPH_TOWERS; tower++) {
        const float *v = g.values + (size_t)tower * graph_tower_values(DIM);
        const float *up_bias = v + DIM * DIM, *down = up_bias + DIM, *down_bias = down + DIM * DIM;
        const float *gain = down_bias + DIM, *offset = gain + DIM;
        double wide[DIM], y[DIM], mean = 0, variance = 0;
        float x[DIM], scratch[2 * DIM];
        memcpy(x, texts[3], sizeof x);
        for (size_t o = 0; o < DIM; o++) {
            wide[o] = (double)up_bias[o];
            for (size_t d = 0; d < DIM; d++)
                wide[o] += (double)v[o * DIM + d] * (double)x[d];
            wide[o] = wide[o] > 0 ? wide[o] : 0;
        }
        for (size_t o = 0; o < DIM; o++) {
            y[o] = (double)x[o] + (double)down_bias[o];
            for (size_t d = 0; d < DIM; d++)
                y[o] += (double)down[o * DIM + d] * wide[d];
            mean += y[o] / DIM;
        }
        for (size_t d = 0; d < DIM; d++)
            variance += (y[d] - mean) * (y[d] - mean) / DIM;
        graph_sage_tower(&g, cpu_kernels(backends[0]), (enum graph_tower)tower, x, scratch);
        for (size_t d = 0; d < DIM; d++)
            assert_true(fabs((y[d] - mean) / sqrt(variance + 1e-5) * (double)gain[d] +
                             (double)offset[d] - (double)x[d]) < 1e-4);
    }
    graph_sage_deinit(&g);
}

static bool stop(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage;
    (void)total;
    return done < *(uint64_t *)cookie;
}

static void refused_and_stopped(void **state)
{
    (void)state;
    struct akin_error error;
    struct graph_sage g = { .values = NULL };
    struct graph_settings s = small();
    uint64_t after = 2;
    assert_int_equal(train(0, &s, DIM + 1, &g, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "33"));
    s.batch = PEOPLE * CHOSEN + 1;
    assert_int_equal(train(0, &s, DIM, &g, &error), AKIN_ARGUMENT);
    s = small();
    s.progress = (struct akin_progress){ .update = stop, .cookie = &after };
    assert_int_equal(train(0, &s, DIM, &g, &error), AKIN_CANCELLED);
    assert_null(g.values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_items_are_placed),
        cmocka_unit_test(a_tower_by_definition),
        cmocka_unit_test(refused_and_stopped),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
