/* Items placed by both hops: neighbours are those that the header says, means and towers by the
 * formula, the same bits for any threads; on a card that there is not, what it is asked for, and
 * what follows where it fails. And a tower with weights of eight bits beside the same in floats. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "recommend/graph_bytes.h"
#include "recommend/graph_place.h"
#include "backends_rig.h"

enum { DIM = 48, ITEMS = 90, PEOPLE = 70, MANY = 60 };

static float texts_block[ITEMS][DIM];
static const float *texts[ITEMS];
static struct graph_sage sage;
static struct histories histories;

/* Person 0 chose MANY items, person 1 nothing; item 7 was chosen by nearly all, items from ITEMS -
 * 10 on by nobody. */
static int set_up(void **state)
{
    static struct history_event events[PEOPLE * MANY];
    size_t count = 0;
    struct rng rng;
    (void)state;
    rng_seed(&rng, 3);
    for (size_t i = 0; i < ITEMS; i++) {
        for (size_t d = 0; d < DIM; d++)
            texts_block[i][d] = rng_normal(&rng) / 7;
        texts[i] = texts_block[i];
    }
    for (uint32_t u = 0; u < PEOPLE; u++)
        for (uint32_t e = 0; e < (u == 0 ? MANY : u == 1 ? 0 : 4); e++)
            events[count++] = (struct history_event){
                u, e == 0 ? 7 : (uint32_t)rng_below(&rng, ITEMS - 10), (int64_t)e };
    if (histories_create(events, count, PEOPLE, ITEMS, &histories, NULL) != AKIN_OK ||
        graph_sage_init(DIM, &sage, NULL) != AKIN_OK || backends_open())
        return -1;
    for (size_t i = 0; i < GRAPH_TOWERS * graph_tower_values(DIM); i++)
        sage.values[i] = rng_normal(&rng) / 7;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    histories_deinit(&histories);
    graph_sage_deinit(&sage);
    backends_close();
    return 0;
}

static struct graph_placing placing_of(int threads)
{
    return (struct graph_placing){ .kernels = cpu_kernels(backends[threads]),
                                   .pool = cpu_threads(backends[threads]), .sage = &sage,
                                   .histories = &histories, .texts = texts };
}

/* ---- neighbours ------------------------------------------------------------------------- */

static bool chose(size_t user, uint32_t item)
{
    size_t count;
    const uint32_t *items = histories_of(&histories, user, &count);
    for (size_t e = 0; e < count; e++)
        if (items[e] == item)
            return true;
    return false;
}

static void neighbours(void **state)
{
    (void)state;
    struct graph_lists l;
    size_t first_count;
    const uint32_t *first = histories_of(&histories, 0, &first_count);
    assert_int_equal(graph_lists_make(&histories, &l, NULL), AKIN_OK);
    assert_int_equal(l.items.count, ITEMS);
    assert_true(l.people.count > 5 && l.people.count < PEOPLE);
    for (uint32_t i = 0; i < ITEMS; i++) {
        uint32_t count = l.items.offsets[i + 1] - l.items.offsets[i];
        size_t fans = 0;
        for (size_t e = 0; e < histories.event_count; e++)
            fans += histories.items[e] == i;
        assert_int_equal(count, fans < GRAPH_PEOPLE ? fans : GRAPH_PEOPLE);
        for (uint32_t e = l.items.offsets[i]; e < l.items.offsets[i + 1]; e++)
            assert_true(l.items.members[e] < l.people.count);
    }
    /* the first of all people is taken, for something only they chose */
    assert_int_equal(l.people.offsets[1], GRAPH_ITEMS);
    for (size_t e = 0; e < GRAPH_ITEMS; e++)
        assert_int_equal(l.people.members[e],
                         first[(2 * e + 1) * first_count / (2 * GRAPH_ITEMS)]);
    for (size_t p = 0; p < l.people.count; p++)
        assert_true(l.people.offsets[p + 1] > l.people.offsets[p]);
    /* of five at even distances among those who chose item 7, in their order */
    uint32_t begin = l.items.offsets[7];
    for (uint32_t e = 1; e < GRAPH_PEOPLE; e++)
        assert_true(l.items.members[begin + e] > l.items.members[begin + e - 1]);
    assert_true(chose(0, 7));
    graph_lists_free(&l);
}

/* ---- the formula ------------------------------------------------------------------------ */

static void add_mean(const struct device_lists *l, size_t node, const double *rows, double *to)
{
    uint32_t count = l->offsets[node + 1] - l->offsets[node];
    for (uint32_t e = l->offsets[node]; e < l->offsets[node + 1]; e++)
        for (size_t d = 0; d < DIM; d++)
            to[d] += rows[l->members[e] * DIM + d] / count;
}

static void pass_tower(enum graph_tower tower, double *x)
{
    float row[DIM], scratch[2 * DIM];
    for (size_t d = 0; d < DIM; d++)
        row[d] = (float)x[d];
    graph_sage_tower(&sage, cpu_kernels(backends[0]), tower, row, scratch);
    for (size_t d = 0; d < DIM; d++)
        x[d] = (double)row[d];
}

static void by_the_formula(void **state)
{
    (void)state;
    enum { STRIDE = DIM + 5 };
    static double rows[ITEMS * DIM], near[PEOPLE * DIM], x[DIM];
    static float one[ITEMS * STRIDE], three[ITEMS * STRIDE];
    struct graph_lists l;
    struct graph_placing p = placing_of(0), q = placing_of(THREADS_TRIED - 1);
    one[DIM] = 77;
    assert_int_equal(graph_place(&p, one, STRIDE, NULL), AKIN_OK);
    assert_int_equal(graph_place(&q, three, STRIDE, NULL), AKIN_OK);
    assert_true(one[DIM] > 76);
    one[DIM] = 0;
    assert_memory_equal(one, three, sizeof one);
    assert_int_equal(graph_lists_make(&histories, &l, NULL), AKIN_OK);
    for (size_t i = 0; i < ITEMS * DIM; i++)
        rows[i] = (double)texts_block[i / DIM][i % DIM];
    for (size_t n = 0; n < l.people.count; n++) {
        add_mean(&l.people, n, rows, near + n * DIM);
        pass_tower(GRAPH_NEAR, near + n * DIM);
    }
    for (size_t i = 0; i < ITEMS; i++) {
        memcpy(x, rows + i * DIM, sizeof x);
        add_mean(&l.items, i, near, x);
        pass_tower(GRAPH_ITEM, x);
        for (size_t d = 0; d < DIM; d++)
            assert_true(fabs((double)one[i * STRIDE + d] - x[d]) < 1e-4);
    }
    graph_lists_free(&l);
}

/* ---- a card that there is not ------------------------------------------------------------- */

static enum akin_status answer;     /* of create, then of forward where create is fine */
static int opened, asked;

static enum akin_status fake_create(int ordinal, const struct device_graph *graph,
                                    struct graph_device **device, struct akin_error *error)
{
    assert_int_equal(ordinal, 2);
    assert_int_equal(graph->dim, DIM);
    assert_ptr_equal(graph->texts, texts);
    assert_int_equal(graph->items.count, ITEMS);
    assert_ptr_equal(graph->towers[DEVICE_TOWER_NEAR], sage.values);
    assert_ptr_equal(graph->towers[DEVICE_TOWER_ITEM], sage.values + graph_tower_values(DIM));
    if (answer == AKIN_MEMORY)
        return error_set(error, AKIN_MEMORY, "no room on the card");
    opened++;
    *device = (struct graph_device *)&opened;
    return AKIN_OK;
}

static void fake_destroy(struct graph_device **device)
{
    opened--;
    *device = NULL;
}

static enum akin_status fake_forward(struct graph_device *device, const uint32_t *list,
                                     size_t count, float *vectors, struct akin_error *error)
{
    (void)count;
    assert_ptr_equal(device, &opened);
    assert_null(list);
    asked++;
    if (answer != AKIN_OK)
        return error_set(error, answer, "the card fell off");
    for (size_t i = 0; i < ITEMS * DIM; i++)
        vectors[i] = (float)i;
    return AKIN_OK;
}

static void heard(void *cookie, enum akin_log_level level, const char *line)
{
    assert_int_equal(level, AKIN_LOG_WARNING);
    snprintf(cookie, 200, "%s", line);
}

static void on_a_card(void **state)
{
    (void)state;
    static const struct graph_device_ops ops = { .create = fake_create, .destroy = fake_destroy,
                                                 .forward = fake_forward };
    static float here[ITEMS * DIM], there[ITEMS * DIM];
    static const enum akin_status fails[] = { AKIN_MEMORY, AKIN_IO };
    char line[200] = "";
    struct akin_log log = { .cookie = line, .write = heard };
    struct akin_error error = { 0 };
    struct graph_placing p = placing_of(0);
    assert_int_equal(graph_place(&p, here, DIM, NULL), AKIN_OK);
    p.card = (struct graph_card){ &ops, 2, &log };
    answer = AKIN_OK;
    assert_int_equal(graph_place(&p, there, DIM, NULL), AKIN_OK);
    for (size_t i = 0; i < ITEMS * DIM; i++)
        assert_true(there[i] == (float)i);
    assert_string_equal(line, "");
    for (size_t i = 0; i < 2; i++) {
        answer = fails[i];
        p.card.log = NULL;
        assert_int_equal(graph_place(&p, there, DIM, &error), answer);
        assert_non_null(strstr(error.message, "the card"));
        p.card.log = &log;
        assert_int_equal(graph_place(&p, there, DIM, &error), AKIN_OK);
        assert_memory_equal(here, there, sizeof here);
        assert_non_null(strstr(line, "the card"));
    }
    assert_int_equal(asked, 3);
    assert_int_equal(opened, 0);
}

static bool stop(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)cookie;
    (void)stage;
    (void)done;
    (void)total;
    return false;
}

static void interrupted(void **state)
{
    (void)state;
    static float vectors[ITEMS * DIM];
    struct graph_placing p = placing_of(0);
    p.progress.update = stop;
    assert_int_equal(graph_place(&p, vectors, DIM, NULL), AKIN_CANCELLED);
}

/* ---- weights of eight bits ---------------------------------------------------------------- */

static void bytes_near_floats(void **state)
{
    (void)state;
    struct graph_bytes bytes;
    static float x[DIM], y[DIM], scratch[3 * DIM + 32];
    const struct kernels *k = cpu_kernels(backends[0]);
    for (int tower = 0; tower < GRAPH_TOWERS; tower++) {
        assert_int_equal(graph_bytes_make(&sage, (enum graph_tower)tower, &bytes, NULL), AKIN_OK);
        for (size_t i = 0; i < ITEMS; i++) {
            double product = 0, a = 0, b = 0;
            memcpy(x, texts[i], sizeof x);
            memcpy(y, texts[i], sizeof y);
            uint64_t before = memory_allocations();
            graph_bytes_tower(&bytes, k, y, scratch);
            assert_int_equal(memory_allocations(), before);
            graph_sage_tower(&sage, k, (enum graph_tower)tower, x, scratch);
            for (size_t d = 0; d < DIM; d++) {
                product += (double)x[d] * (double)y[d];
                a += (double)x[d] * (double)x[d];
                b += (double)y[d] * (double)y[d];
            }
            assert_true(product / sqrt(a * b) > 0.9999);
        }
        memset(x, 0, sizeof x);         /* nothing to round by */
        memset(y, 0, sizeof y);
        graph_bytes_tower(&bytes, k, y, scratch);
        graph_sage_tower(&sage, k, (enum graph_tower)tower, x, scratch);
        for (size_t d = 0; d < DIM; d++)
            assert_true(fabsf(x[d] - y[d]) < 0.02f);
        graph_bytes_deinit(&bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours),
        cmocka_unit_test(by_the_formula),
        cmocka_unit_test(on_a_card),
        cmocka_unit_test(interrupted),
        cmocka_unit_test(bytes_near_floats),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
