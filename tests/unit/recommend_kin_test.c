/* New items by what they are kin to: the space is the closed form's, a new item's place the
 * formula's, both written out in double; threads change no bit; nothing to learn from, and an
 * interruption. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "compute/cpu/kernels.h"
#include "recommend/graph_kin.h"
#include "backends_rig.h"

/* The last NEW items are chosen by nobody. */
enum { CHOSEN = 40, NEW = 5, ITEMS = CHOSEN + NEW, PEOPLE = 300, EACH = 12, DIM = 16 };

#define RIDGE 200.0
#define NOISE 2.0

static float vectors[ITEMS * DIM];
static struct kin_item items[ITEMS];
static struct histories histories;

static int set_up(void **state)
{
    static struct history_event events[PEOPLE * EACH];
    static const char *const names[] = { "Drama", "Comedy", "Film-Noir" };
    struct rng rng;
    (void)state;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < ITEMS; i++) {
        float *v = vectors + i * DIM, squares = 0;
        for (size_t d = 0; d < DIM; d++) {
            v[d] = rng_normal(&rng) + (d == i % 3 ? 3 : 0);
            squares += v[d] * v[d];
        }
        for (size_t d = 0; d < DIM; d++)
            v[d] /= i == 7 ? INFINITY : sqrtf(squares);     /* one has no text */
        items[i] = (struct kin_item){ v, kin_genres(names + i % 2, i % 5 ? 2 : 0),
                                      i % 4 ? 1980 + (int)i % 50 : 0 };
    }
    for (size_t p = 0; p < PEOPLE; p++)
        for (size_t e = 0; e < EACH; e++) {
            uint64_t kind = p % 3, item = rng_below(&rng, CHOSEN);
            item = rng_below(&rng, 4) ? item / 3 * 3 + kind : item;
            events[p * EACH + e] = (struct history_event){
                (uint32_t)p, (uint32_t)(item < CHOSEN ? item : kind), (int64_t)e };
        }
    if (histories_create(events, PEOPLE * EACH, PEOPLE, ITEMS, &histories, NULL) != AKIN_OK)
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

static enum akin_status learn(int threads, struct akin_progress progress, struct kin *kin,
                              float **placed, struct akin_error *error)
{
    struct kin_lesson lesson = { .kernels = cpu_kernels(backends[threads]),
                                 .pool = pools[threads], .histories = &histories, .items = items,
                                 .dim = DIM, .progress = progress };
    return kin_learn(&lesson, kin, placed, error);
}

/* x := a^-1 x for x [n][width], a is lost; plain elimination, a being positive definite. */
static void solve(double *a, double *x, size_t n, size_t width)
{
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < n; i++) {
            double factor = a[i * n + k] / a[k * n + k];
            if (i == k)
                continue;
            for (size_t j = 0; j < n; j++)
                a[i * n + j] -= factor * a[k * n + j];
            for (size_t j = 0; j < width; j++)
                x[i * width + j] -= factor * x[k * width + j];
        }
    for (size_t k = 0; k < n; k++)
        for (size_t j = 0; j < width; j++)
            x[k * width + j] /= a[k * n + k];
}

/* (G + ridge)^-1 G of the items that were chosen, which all are of the basis. */
static void smooth(double *out)
{
    static double g[CHOSEN * CHOSEN], a[CHOSEN * CHOSEN];
    memset(g, 0, sizeof g);
    for (size_t u = 0; u < PEOPLE; u++) {
        size_t count;
        const uint32_t *own = histories_of(&histories, u, &count);
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < count; j++)
                g[own[i] * CHOSEN + own[j]] += 1;
    }
    memcpy(a, g, sizeof a);
    memcpy(out, g, sizeof g);
    for (size_t i = 0; i < CHOSEN; i++)
        a[i * CHOSEN + i] += RIDGE;
    solve(a, out, CHOSEN, CHOSEN);
}

static double alike(const struct kin_item *a, const struct kin_item *b)
{
    double text = 0, both = __builtin_popcountll(a->genres & b->genres), years = a->year - b->year;
    for (size_t d = 0; d < DIM; d++)
        text += (double)a->text[d] * (double)b->text[d];
    if (both > 0)
        both /= sqrt((double)__builtin_popcountll(a->genres) *
                     (double)__builtin_popcountll(b->genres));
    years = a->year && b->year ? exp(-years * years / 50) : 0;
    return exp(2 * (text - 1) + 0.6 * (both - 1) + 0.6 * (years - 1));
}

static void the_space_is_the_closed_form(void **state)
{
    (void)state;
    static double wanted[CHOSEN * CHOSEN];
    double worst = 0;
    struct kin kin;
    float *placed;
    assert_int_equal(learn(0, (struct akin_progress){ 0 }, &kin, &placed, NULL), AKIN_OK);
    assert_int_equal(kin.basis, CHOSEN);
    assert_int_equal(kin.rank, CHOSEN);     /* all of it: nothing is left out */
    smooth(wanted);
    for (size_t i = 0; i < CHOSEN; i++)
        for (size_t j = 0; j < CHOSEN; j++) {
            double product = 0;
            for (size_t d = 0; d < kin.rank; d++)
                product += (double)placed[i * kin.rank + d] * (double)placed[j * kin.rank + d];
            worst = fmax(worst, fabs(product - wanted[i * CHOSEN + j]));
        }
    assert_true(worst < 0.01);      /* of numbers up to 0.5; the iteration ends before it is done */
    kin_deinit(&kin);
    memory_free(placed);
}

static void new_items_by_definition(void **state)
{
    (void)state;
    static double square[CHOSEN * CHOSEN], weights[CHOSEN * CHOSEN];
    struct kin kin;
    float *placed, vector[CHOSEN], scratch[CHOSEN];
    const struct kernels *k = cpu_kernels(backends[0]);
    assert_int_equal(learn(0, (struct akin_progress){ 0 }, &kin, &placed, NULL), AKIN_OK);
    for (size_t i = 0; i < CHOSEN; i++)
        for (size_t j = 0; j < CHOSEN; j++) {
            square[i * CHOSEN + j] = alike(&items[i], &items[j]) + (i == j ? NOISE : 0);
            weights[i * CHOSEN + j] = (double)placed[i * kin.rank + j];
        }
    solve(square, weights, CHOSEN, CHOSEN);
    for (size_t i = CHOSEN; i < ITEMS; i++) {
        uint64_t before = memory_allocations();
        kin_place(&kin, k, &items[i], vector, scratch);
        assert_int_equal(memory_allocations(), before);
        assert_memory_equal(vector, placed + i * kin.rank, sizeof vector);
        for (size_t d = 0; d < kin.rank; d++) {
            double wanted = 0;
            for (size_t j = 0; j < CHOSEN; j++)
                wanted += alike(&items[i], &items[j]) * weights[j * CHOSEN + d];
            assert_true(fabs((double)vector[d] - wanted) < 1e-3 + 0.02 * fabs(wanted));
        }
    }
    kin_deinit(&kin);
    memory_free(placed);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    struct kin one, three;
    float *of_one, *of_three;
    assert_int_equal(learn(0, (struct akin_progress){ 0 }, &one, &of_one, NULL), AKIN_OK);
    assert_int_equal(learn(THREADS_TRIED - 1, (struct akin_progress){ 0 }, &three, &of_three,
                           NULL), AKIN_OK);
    assert_memory_equal(of_one, of_three, ITEMS * one.rank * sizeof *of_one);
    assert_memory_equal(one.weights, three.weights, one.basis * one.rank * sizeof(float));
    kin_deinit(&one);
    kin_deinit(&three);
    memory_free(of_one);
    memory_free(of_three);
}

static bool stop(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage;
    (void)done;
    (void)total;
    return ++*(int *)cookie < 5;
}

static void refused_and_stopped(void **state)
{
    (void)state;
    struct akin_error error;
    struct kin kin = { .dim = 0 };
    struct histories whole = histories;
    float *placed = NULL;
    int calls = 0;
    assert_int_equal(learn(0, (struct akin_progress){ .update = stop, .cookie = &calls }, &kin,
                           &placed, &error), AKIN_CANCELLED);
    assert_null(placed);
    histories.event_count = 0;
    assert_int_equal(learn(0, (struct akin_progress){ 0 }, &kin, &placed, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "nobody chose"));
    histories = whole;
    assert_null(kin.texts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_space_is_the_closed_form),
        cmocka_unit_test(new_items_by_definition),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(refused_and_stopped),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
