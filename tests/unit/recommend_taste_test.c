/* The solver against plain elimination in double precision, the Gram matrices and the closed form
 * against their definitions, primal against dual, and a taste on disk. */
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
#include "base/file.h"
#include "base/rng.h"
#include "catalog/catalog.h"
#include "recommend/fit_events.h"
#include "recommend/solve.h"
#include "recommend/taste.h"
#include "recommend/taste_store.h"
#include "backends_rig.h"

static const struct kernels *kernels;
static char folder[] = "/tmp/akin_taste_XXXXXX";

static int set_up(void **state)
{
    (void)state;
    if (backends_open() != 0)
        return -1;
    kernels = cpu_kernels(backends[0]);
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    backends_close();
    return path_remove_tree(folder, NULL) == AKIN_OK ? 0 : -1;
}

/* Gauss-Jordan, plain. */
static void invert_naively(double *a, double *inverse, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            inverse[i * n + j] = i == j;
    for (size_t k = 0; k < n; k++) {
        double pivot = a[k * n + k];
        for (size_t j = 0; j < n; j++) {
            a[k * n + j] /= pivot;
            inverse[k * n + j] /= pivot;
        }
        for (size_t i = 0; i < n; i++) {
            double factor = a[i * n + k];
            for (size_t j = 0; i != k && j < n; j++) {
                a[i * n + j] -= factor * a[k * n + j];
                inverse[i * n + j] -= factor * inverse[k * n + j];
            }
        }
    }
}

/* A Gram matrix of random rows and a ridge. */
static float *positive_definite(size_t n, struct rng *rng)
{
    float *x = memory_alloc(n * n, sizeof *x), *a = memory_alloc(n * n, sizeof *a);
    for (size_t i = 0; i < n * n; i++)
        x[i] = rng_below(rng, 5) == 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = i == j ? 10 : 0;
            for (size_t k = 0; k < n; k++)
                sum += (double)x[i * n + k] * (double)x[j * n + k];
            a[i * n + j] = (float)sum;
        }
    memory_free(x);
    return a;
}

static void inverses(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 2, 31, 64, 127, 128, 129, 200, 300 };
    struct rng rng;
    rng_seed(&rng, 3);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        float *a = positive_definite(n, &rng), *b = memory_alloc(n * n, sizeof *b);
        double *wide = memory_alloc(n * n, sizeof *wide),
               *exact = memory_alloc(n * n, sizeof *exact);
        double largest = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                wide[i * n + j] = (double)a[i * n + j];
                b[i * n + j] = j <= i ? a[i * n + j] : NAN;     /* only the lower half is read */
            }
        invert_naively(wide, exact, n);
        for (size_t i = 0; i < n * n; i++)
            largest = fmax(largest, fabs(exact[i]));
        assert_int_equal(symmetric_invert(kernels, pools[0], a, n, NULL), AKIN_OK);
        assert_int_equal(symmetric_invert(kernels, pools[THREADS_TRIED - 1], b, n, NULL), AKIN_OK);
        assert_memory_equal(a, b, n * n * sizeof *a);
        for (size_t i = 0; i < n * n; i++)
            if (!(fabs((double)a[i] - exact[i]) <= 2e-5 * largest))
                fail_msg("n %zu, %zu: %g, expected %g", n, i, (double)a[i], exact[i]);
        memory_free(a);
        memory_free(b);
        memory_free(wide);
        memory_free(exact);
    }
    float indefinite[] = { 1, 2, 2, 1 };
    struct akin_error error;
    assert_int_equal(symmetric_invert(kernels, pools[0], indefinite, 2, &error), AKIN_FORMAT);
    float odd[] = { NAN };
    assert_int_equal(symmetric_invert(kernels, pools[0], odd, 1, &error), AKIN_FORMAT);
}

/* Against a plain stable sort, with ties, far times and negative ones. */
static void events_in_order(void **state)
{
    (void)state;
    enum { COUNT = 500, PEOPLE_HERE = 7 };
    static const int64_t spans[] = { 1, 20, 5000, INT64_MAX };
    struct history_event events[COUNT];
    struct rng rng;
    rng_seed(&rng, 6);
    for (size_t s = 0; s < sizeof spans / sizeof *spans; s++) {
        struct histories h;
        bool taken[COUNT] = { false };
        for (size_t e = 0; e < COUNT; e++) {
            int64_t time = (int64_t)rng_below(&rng, (uint64_t)spans[s]);
            events[e] = (struct history_event){ (uint32_t)rng_below(&rng, PEOPLE_HERE), (uint32_t)e,
                                                e % 2 ? time : -time };
        }
        assert_int_equal(histories_create(events, COUNT, PEOPLE_HERE + 1, COUNT, &h, NULL),
                         AKIN_OK);
        for (size_t at = 0; at < COUNT; at++) {
            size_t best = COUNT;
            for (size_t e = 0; e < COUNT; e++)
                if (!taken[e] && (best == COUNT || events[e].timestamp < events[best].timestamp))
                    best = e;
            taken[best] = true;
            assert_int_equal(h.sequence[at], best);
        }
        for (size_t u = 0; u <= PEOPLE_HERE; u++) {
            size_t count, at = 0;
            const uint32_t *own = histories_of(&h, u, &count);
            for (size_t e = 0; e < COUNT; e++)
                if (events[e].user == u)
                    assert_int_equal(own[at++], e);
            assert_int_equal(at, count);
        }
        histories_deinit(&h);
    }
}

/* ---- the closed form --------------------------------------------------------------------- */

enum { LISTS = 40, ITEMS = 70, LENGTH_MAX = 30 };

struct lists {
    struct item_lists lists;
    size_t offsets[LISTS + 1];
    uint32_t items[LISTS * LENGTH_MAX];
};

static void random_lists(struct lists *l)
{
    struct rng rng;
    rng_seed(&rng, 9);
    size_t at = 0;
    for (size_t u = 0; u < LISTS; u++) {
        bool had[ITEMS] = { false };
        size_t length = rng_below(&rng, LENGTH_MAX);
        for (size_t e = 0; e < length; e++) {
            uint32_t item = (uint32_t)(rng_below(&rng, ITEMS) * rng_below(&rng, ITEMS) / ITEMS);
            if (!had[item])
                l->items[at++] = item;
            had[item] = true;
        }
        l->offsets[u + 1] = at;
    }
    l->lists = (struct item_lists){ LISTS, ITEMS, l->offsets, l->items };
}

static void gram_by_definition(void **state)
{
    (void)state;
    static struct lists l;
    static float g[ITEMS * ITEMS], same[ITEMS * ITEMS];
    static double exact[ITEMS * ITEMS];
    random_lists(&l);
    const float kernel[4] = { 1.3f, 0.8f, 0.55f, 0.4f };
    struct closed_form one = {kernels, pools[0], &l.lists},
                       three = {kernels, pools[THREADS_TRIED - 1], &l.lists};
    proximity_gram(&one, kernel, 4, 0.3f, g);
    proximity_gram(&three, kernel, 4, 0.3f, same);
    assert_memory_equal(g, same, sizeof g);
    for (size_t u = 0; u < LISTS; u++)
        for (size_t a = l.offsets[u]; a < l.offsets[u + 1]; a++)
            for (size_t b = l.offsets[u]; b < l.offsets[u + 1]; b++) {
                size_t distance = a > b ? a - b : b - a;
                exact[l.items[a] * ITEMS + l.items[b]] += distance < 4 ? (double)kernel[distance]
                                                                       : (double)0.3f;
            }
    for (size_t i = 0; i < ITEMS * ITEMS; i++)
        assert_true(fabs((double)g[i] - exact[i]) <= 1e-4);
    closed_form_share(&one, g, same);
    for (size_t i = 0; i < ITEMS; i++) {
        double sum = 1;
        for (size_t j = 0; j < ITEMS; j++)
            sum += i == j ? 0 : exact[i * ITEMS + j];
        for (size_t j = 0; j < ITEMS; j++)
            assert_true(fabs((double)same[i * ITEMS + j] -
                             (i == j ? 0 : exact[i * ITEMS + j] / sum)) <= 1e-5);
    }
}

static void closed_form_by_definition(void **state)
{
    (void)state;
    static struct lists l;
    static float primal[ITEMS * ITEMS], dual[ITEMS * ITEMS], again[ITEMS * ITEMS];
    static double a[ITEMS * ITEMS], p[ITEMS * ITEMS];
    const double ridge = 20;
    random_lists(&l);
    struct closed_form form = {kernels, pools[0], &l.lists},
                       three = {kernels, pools[THREADS_TRIED - 1], &l.lists};
    proximity_gram(&form, NULL, 0, 1, primal);
    for (size_t i = 0; i < ITEMS * ITEMS; i++)
        a[i] = (double)primal[i] + (i / ITEMS == i % ITEMS ? ridge : 0);
    invert_naively(a, p, ITEMS);
    assert_int_equal(closed_form_solve(&form, primal, (float)ridge, NULL), AKIN_OK);
    assert_int_equal(closed_form_dual(&form, dual, (float)ridge, NULL), AKIN_OK);
    assert_int_equal(closed_form_dual(&three, again, (float)ridge, NULL), AKIN_OK);
    assert_memory_equal(dual, again, sizeof dual);
    for (size_t i = 0; i < ITEMS; i++)
        for (size_t j = 0; j < ITEMS; j++) {
            double exact = i == j ? 0 : -p[i * ITEMS + j] / p[j * ITEMS + j];
            assert_true(fabs((double)primal[i * ITEMS + j] - exact) <= 1e-5);
            assert_true(fabs((double)dual[i * ITEMS + j] - exact) <= 1e-5);
        }
}

/* ---- all of a taste ---------------------------------------------------------------------- */

enum { PEOPLE = 60, FILMS = 50, EVENTS = 15 };

static void make_catalog(struct catalog **catalog)
{
    char items[PATH_BYTES_MAX], events[PATH_BYTES_MAX];
    struct bytes text = { 0 }, seen = { 0 };
    struct rng rng;
    rng_seed(&rng, 2);
    for (size_t i = 0; i < FILMS; i++)
        bytes_printf(&text, "{\"id\":\"f%zu\",\"title\":\"Film %zu\"}\n", i, i);
    for (size_t u = 0; u < PEOPLE; u++) {
        size_t at = rng_below(&rng, FILMS);
        for (size_t e = 0; e < EVENTS; e++) {
            at = (at + 1 + rng_below(&rng, 2)) % (FILMS - 2);      /* two that nobody chose */
            bytes_printf(&seen, "{\"user\":\"p%zu\",\"item\":\"f%zu\",\"rating\":4,"
                         "\"timestamp\":%zu}\n", u, at, u * 100 + e);
        }
    }
    path_join(items, sizeof items, folder, "i.jsonl", NULL);
    path_join(events, sizeof events, folder, "e.jsonl", NULL);
    assert_int_equal(file_write(items, text.data, text.count, NULL), AKIN_OK);
    assert_int_equal(file_write(events, seen.data, seen.count, NULL), AKIN_OK);
    struct akin_progress silent = { 0 };
    assert_int_equal(catalog_import_jsonl(items, events, NULL, folder, silent, NULL, NULL),
                     AKIN_OK);
    assert_int_equal(catalog_open(folder, CATALOG_WITHOUT_EMBEDDINGS, catalog, NULL), AKIN_OK);
    bytes_deinit(&text);
    bytes_deinit(&seen);
}

static struct taste *learned(const struct catalog *catalog, int threads, size_t items_max)
{
    struct histories histories;
    struct fit_events events;
    struct taste_settings settings;
    struct taste *taste;
    taste_settings_default(&settings);
    settings.items_max = items_max;
    settings.sequence.dim = 8;
    assert_int_equal(fit_events_read(catalog, &events, NULL), AKIN_OK);
    assert_int_equal(fit_histories(catalog, &events, &histories, NULL), AKIN_OK);
    fit_events_deinit(&events);
    assert_int_equal(taste_learn(cpu_kernels(backends[threads]), pools[threads], &histories,
                                 &settings, &taste, NULL), AKIN_OK);
    histories_deinit(&histories);
    return taste;
}

static void scores_of(const struct taste *taste, const uint32_t *history, size_t count,
                      float *scores)
{
    struct taste_features features;
    const float weights[TASTE_PARTS] = { 0.6f, 0.1f, 1, 1, 1, 10, 1, 1, 0.5f };
    assert_int_equal(taste_features_init(taste, &features, NULL), AKIN_OK);
    taste_say(taste, kernels, history, count, taste->parts, &features);
    taste_blend(taste, kernels, &features, weights, scores);
    taste_features_deinit(&features);
}

static void kept_on_disk(void **state)
{
    (void)state;
    struct catalog *catalog;
    struct taste *read = NULL;
    const uint32_t history[] = { 48, 3, 4, 6, 7 };
    float before[FILMS], cut[FILMS], after[FILMS], empty[FILMS];
    make_catalog(&catalog);
    assert_int_equal(taste_open(kernels, folder, catalog, &read, NULL), AKIN_NOT_FOUND);
    struct taste *taste = learned(catalog, 0, 0), *same = learned(catalog, THREADS_TRIED - 1, 0);
    assert_int_equal(taste->size, FILMS - 2);
    scores_of(taste, history, 5, before);
    scores_of(same, history, 5, after);
    assert_memory_equal(before, after, sizeof before);      /* one thread or three */
    assert_true(before[8] > before[20] && before[9] > before[30]);  /* what comes next */
    scores_of(taste, history, 0, empty);
    for (size_t i = 0; i < FILMS; i++)
        assert_true(isfinite(before[i]) && isfinite(empty[i]));
    assert_int_equal(taste_cut(taste, TASTE_ROW_MAX, NULL), AKIN_OK);   /* wider than the rows */
    scores_of(taste, history, 5, cut);
    for (size_t i = 0; i < FILMS; i++)
        assert_true(fabsf(cut[i] - before[i]) < 1e-4f);
    taste->query_weight = 0.3f;
    for (int p = 0; p < TASTE_ATTENTION; p++)       /* there is no reranker */
        taste->weights[p % 2].part[p] = (float)p / 7 - 1;
    taste->weights[1].text = 1.1f;
    for (int round = 0; round < 2; round++) {               /* the second replaces the first */
        assert_int_equal(taste_write(taste, folder, catalog, NULL), AKIN_OK);
        assert_int_equal(taste_open(kernels, folder, catalog, &read, NULL), AKIN_OK);
        scores_of(read, history, 5, after);
        assert_memory_equal(cut, after, sizeof cut);
        assert_int_equal(taste_bytes(read), taste_bytes(taste));
        assert_memory_equal(read->weights, taste->weights, sizeof read->weights);
        assert_true(read->query_weight == 0.3f);
        taste_destroy(&read);
    }
    taste_destroy(&taste);
    taste_destroy(&same);
    catalog_close(&catalog);
}

/* The most chosen items, and of each the widest weights. */
static void small_models(void **state)
{
    (void)state;
    struct catalog *catalog;
    const uint32_t history[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    float scores[FILMS];
    make_catalog(&catalog);
    struct taste *taste = learned(catalog, 0, 11);
    assert_int_equal(taste->size, 11);
    for (size_t i = 0; i < FILMS; i++)
        for (size_t j = 0; j < taste->size; j++)
            if (taste->places[i] == UINT32_MAX)
                assert_true(taste->chosen[i] <= taste->chosen[taste->items[j]]);
    scores_of(taste, history, 9, scores);
    assert_int_equal(taste_cut(taste, 3, NULL), AKIN_OK);
    assert_int_equal(taste->local.width, 3);
    scores_of(taste, history, 9, scores);
    for (size_t i = 0; i < FILMS; i++)
        assert_true(isfinite(scores[i]));
    taste_destroy(&taste);
    struct histories none = { .item_count = 3 };
    struct taste_settings settings;
    struct akin_error error;
    taste_settings_default(&settings);
    assert_int_equal(taste_learn(kernels, pools[0], &none, &settings, &taste, &error),
                     AKIN_ARGUMENT);
    none.event_count = 1;       /* refused before it is looked at */
    settings.items_max = TASTE_COLUMNS_MAX + 1;
    assert_int_equal(taste_learn(kernels, pools[0], &none, &settings, &taste, &error), AKIN_LIMIT);
    catalog_close(&catalog);
}

static void damage(void **state)
{
    (void)state;
    static const char *const files[] = {
        "model.json", "items.npy", "popularity.npy", "local_columns.npy", "local_values.npy",
        "next_columns.npy", "back_values.npy", "ease_columns.npy", "sequence_output.npy",
        "sequence_history.npy", "sequence_scale.npy", "weights.json"
    };
    struct catalog *catalog;
    struct taste *read;
    struct akin_error error;
    make_catalog(&catalog);
    struct taste *taste = learned(catalog, 0, 20);
    assert_int_equal(taste_cut(taste, 5, NULL), AKIN_OK);
    assert_int_equal(taste_write(taste, folder, catalog, NULL), AKIN_OK);
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char name[PATH_BYTES_MAX], path[PATH_BYTES_MAX];
        struct bytes whole = { 0 };
        snprintf(name, sizeof name, "taste/%s", files[f]);
        path_join(path, sizeof path, folder, name, NULL);
        assert_int_equal(file_read(path, 1 << 20, &whole, NULL), AKIN_OK);
        assert_int_equal(file_write(path, whole.data, whole.count - 3, NULL), AKIN_OK);
        assert_int_not_equal(taste_open(kernels, folder, catalog, &read, &error), AKIN_OK);
        assert_non_null(strstr(error.message, files[f]));
        if (f) {        /* numbers that lead out of the tables: refused, or harmless */
            memset(whole.data + whole.count - 8, 0x7f, 8);
            assert_int_equal(file_write(path, whole.data, whole.count, NULL), AKIN_OK);
            bool harmless = strstr(files[f], "values") || strstr(files[f], "sequence");
            enum akin_status status = taste_open(kernels, folder, catalog, &read, &error);
            assert_int_equal(status, harmless ? AKIN_OK : AKIN_FORMAT);
            if (status == AKIN_OK)
                taste_destroy(&read);
            memset(whole.data + whole.count - 8, 0, 8);
        }
        assert_int_equal(taste_write(taste, folder, catalog, NULL), AKIN_OK);
        bytes_deinit(&whole);
    }
    taste_destroy(&taste);
    catalog_close(&catalog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inverses),
        cmocka_unit_test(events_in_order),
        cmocka_unit_test(gram_by_definition),
        cmocka_unit_test(closed_form_by_definition),
        cmocka_unit_test(kept_on_disk),
        cmocka_unit_test(small_models),
        cmocka_unit_test(damage),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
