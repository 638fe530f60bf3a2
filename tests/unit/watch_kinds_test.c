/* Searches among many kinds: by bytes, by a card that is made up, and by comparing all, with the
 * same answers, bit for bit; a card that fails is left out, or told where one was asked for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/thread.h"
#include "compute/backend.h"
#include "compute/search_device.h"
#include "event_store_rig.h"
#include "watch/kind_card.h"
#include "watch/kind_index.h"

enum { DIM = 64, GROUP = 1000, FEW = KIND_INDEX_MIN + 500, MANY = KIND_CARD_MIN + 1500, K = 300 };

/* ---- the card ----------------------------------------------------------------------------- */

struct search_device {
    float *rows;
    size_t count;
};

static int calls, fail_at, devices, searches;  /* fail_at 0: never */

static bool falls_out(void)
{
    return fail_at && ++calls >= fail_at;
}

static enum akin_status card_append(struct search_device *d, const float *rows, size_t count,
                                    struct akin_error *error)
{
    if (falls_out())
        return error_set(error, AKIN_MEMORY, "the card is full");
    d->rows = realloc(d->rows, (d->count + count) * DIM * sizeof *rows);
    assert_non_null(d->rows);
    memcpy(d->rows + d->count * DIM, rows, count * DIM * sizeof *rows);
    d->count += count;
    return AKIN_OK;
}

static void card_destroy(struct search_device **device)
{
    free((*device)->rows);
    free(*device);
    *device = NULL;
    devices--;
}

static enum akin_status card_create(int ordinal, const float *rows, size_t count, size_t dim,
                                    struct search_device **device, struct akin_error *error)
{
    assert_int_equal(ordinal, 3);
    assert_int_equal(dim, DIM);
    struct search_device *d = calloc(1, sizeof *d);
    assert_non_null(d);
    devices++;
    enum akin_status status = card_append(d, rows, count, error);
    if (status == AKIN_OK)
        *device = d;
    else
        card_destroy(&d);
    return status;
}

/* Sums the other way round, so that scores differ from the CPU's in their last bits. */
static enum akin_status card_search(struct search_device *d, const struct device_query *query,
                                    struct hit *hits, size_t *found, struct search_counts *counts,
                                    struct akin_error *error)
{
    struct best best = { .hits = hits, .capacity = query->k };
    (void)counts;
    if (falls_out())
        return error_set(error, AKIN_IO, "the card fell out");
    for (size_t row = 0; row < d->count; row++) {
        float sum = 0;
        for (size_t k = DIM; k-- > 0;)
            sum += d->rows[row * DIM + k] * query->queries[k];
        best_offer(&best, (struct hit){ sum, (uint32_t)row });
    }
    *found = best.count;
    best_drain(&best, hits);
    searches++;
    return AKIN_OK;
}

static const struct search_device_ops card = {
    .create = card_create, .destroy = card_destroy, .search = card_search, .append = card_append
};

static const struct search_device_ops *find_card(void *cookie, int *ordinal)
{
    ++*(int *)cookie;
    *ordinal = 3;
    return &card;
}

/* ---- the store ---------------------------------------------------------------------------- */

struct sides {
    struct rig *rig;
    struct thread_pool *pool;
    struct backend *backend;
    struct event_store *plain;      /* compares all */
    struct rng rng;
    size_t kinds;
    int asked;                      /* for a card */
};

/* Some texts are alike, some equal, some have no direction. */
static void make_vector(size_t kind, float *vector)
{
    struct rng rng;
    rng_seed(&rng, kind % 9 == 4 ? kind / 1000 : kind);
    for (size_t i = 0; i < DIM; i++) {
        double common = cos((double)(i * (kind % 17)));
        vector[i] = kind % 701 == 3 ? 0 : (float)(rng_normal(&rng) * 0.4 + common);
    }
    if (kind % 1009 == 7)
        vector[5] = INFINITY;
}

static void fill(struct sides *s, size_t kinds)
{
    static char texts[GROUP][32];
    static struct stored_event events[GROUP];
    uint64_t numbers[GROUP];
    float vector[DIM];
    for (; s->kinds < kinds; s->kinds += GROUP) {
        for (size_t i = 0; i < GROUP; i++) {
            size_t kind = s->kinds + i;
            int bytes = snprintf(texts[i], sizeof texts[i], "kind %zu", kind);
            make_vector(kind, vector);
            assert_ok(s->rig, event_store_put_kind(s->rig->store, kind + 1, texts[i], vector, DIM,
                                                   &s->rig->error));
            events[i] = (struct stored_event){ .time_us = (int64_t)kind, .origin = "o", .id = "",
                                               .cursor = "", .text = texts[i], .time = "",
                                               .source = kind % 50 ? "net" : "disk",
                                               .level = "", .session = "", .kind = kind + 1,
                                               .text_bytes = (size_t)bytes,
                                               .alert = kind % 1000 == 77 };
        }
        assert_ok(s->rig, event_store_append(s->rig->store, events, GROUP, numbers,
                                             &s->rig->error));
    }
    assert_ok(s->rig, event_store_refresh(s->plain, &s->rig->error));
}

static void open_sides(struct sides *s, struct rig *rig, const struct event_store_card *from)
{
    *s = (struct sides){ .rig = rig, .pool = thread_pool_create(2) };
    rng_seed(&s->rng, 11);
    assert_non_null(s->pool);
    assert_ok(rig, cpu_backend_create(cpu_detect(), s->pool, &s->backend, &rig->error));
    rig->settings.backend = s->backend;
    if (from)
        rig->settings.card = *from;
    rig->settings.card.cookie = &s->asked;
    rig_open(rig);
    struct event_store_settings plain = { .folder = rig->path, .read_only = true,
                                          .kernels = &rig->kernels, .model = "model" };
    assert_ok(rig, event_store_open(&plain, (struct event_store_note){ 0 }, &s->plain,
                                    &rig->error));
}

static void close_sides(struct sides *s)
{
    event_store_close(&s->rig->store);
    event_store_close(&s->plain);
    cpu_backend_destroy(&s->backend);
    thread_pool_destroy(&s->pool);
    assert_int_equal(devices, 0);
}

static void expect_same(struct sides *s, size_t k, const struct event_filter *filter)
{
    struct event_hit a[K], b[K];
    size_t found_a = 0, found_b = 0;
    float query[DIM];
    make_vector(rng_below(&s->rng, 3 * s->kinds), query);
    assert_ok(s->rig, event_store_search(s->rig->store, query, k, filter, a, &found_a,
                                         &s->rig->error));
    assert_ok(s->rig, event_store_search(s->plain, query, k, filter, b, &found_b, &s->rig->error));
    assert_int_equal(found_a, found_b);
    for (size_t i = 0; i < found_a; i++) {
        assert_int_equal(a[i].number, b[i].number);
        assert_memory_equal(&a[i].similarity, &b[i].similarity, sizeof(float));
    }
}

static void expect_all_same(struct sides *s, int rounds)
{
    static const struct event_filter filters[] = {
        {0}, {.source = "disk"}, {.alerts = true}, {.source = "nobody"}};
    static const size_t ks[] = {1, 10, 60, K};
    for (int round = 0; round < rounds; round++)
        for (size_t f = 0; f < sizeof filters / sizeof filters[0]; f++)
            for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++)
                expect_same(s, ks[i], &filters[f]);
}

/* ---- tests -------------------------------------------------------------------------------- */

static void by_bytes(void **state)
{
    struct sides s;
    open_sides(&s, *state, NULL);
    fill(&s, FEW);
    expect_all_same(&s, 6);
    fill(&s, FEW + 3000);           /* the index grows with them */
    expect_all_same(&s, 2);
    float nothing[DIM] = {0};
    struct event_hit hits[K];
    size_t found;
    assert_ok(s.rig, event_store_search(s.rig->store, nothing, 10, NULL, hits, &found,
                                        &s.rig->error));
    assert_int_equal(found, 10);
    close_sides(&s);
}

static void by_a_card(void **state)
{
    const struct event_store_card from = { .find = find_card };
    struct sides s;
    fail_at = searches = 0;
    open_sides(&s, *state, &from);
    fill(&s, FEW);
    expect_all_same(&s, 1);
    assert_int_equal(s.asked, 0);   /* few kinds */
    fill(&s, MANY);
    expect_all_same(&s, 1);
    assert_int_equal(s.asked, 1);
    assert_true(searches >= 12);
    fill(&s, MANY + 2000);
    expect_same(&s, 10, NULL);
    assert_int_equal(s.asked, 1);
    /* it fails in the middle: the CPU goes on, and it is not asked again */
    fail_at = 1;
    calls = searches = 0;
    expect_same(&s, 10, NULL);
    assert_non_null(strstr(s.rig->told.data, "compared on the CPU: the card fell out"));
    expect_same(&s, 10, NULL);
    assert_int_equal(calls, 1);
    assert_int_equal(devices, 0);
    close_sides(&s);
}

static void a_card_that_is_full(void **state)
{
    struct event_store_card from = { .find = find_card };
    struct sides s;
    struct event_hit hits[10];
    size_t found;
    float query[DIM];
    open_sides(&s, *state, &from);
    fail_at = 3;
    calls = searches = 0;
    fill(&s, MANY);
    expect_same(&s, 10, NULL);
    expect_same(&s, 10, NULL);
    expect_same(&s, 10, NULL);
    assert_non_null(strstr(s.rig->told.data, "the card is full"));
    assert_int_equal(searches, 0);
    assert_int_equal(calls, 3);
    /* the same where one was asked for */
    s.rig->settings.card.required = true;
    calls = 0;
    rig_open(s.rig);
    make_vector(5, query);
    assert_ok(s.rig, event_store_search(s.rig->store, query, 10, NULL, hits, &found,
                                        &s.rig->error));   /* once: no card is needed */
    assert_int_equal(event_store_search(s.rig->store, query, 10, NULL, hits, &found,
                                        &s.rig->error), AKIN_MEMORY);
    assert_string_equal(s.rig->error.message, "the card is full");
    fail_at = 0;
    assert_ok(s.rig, event_store_search(s.rig->store, query, 10, NULL, hits, &found,
                                        &s.rig->error));
    assert_int_equal(searches, 1);
    close_sides(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(by_bytes, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(by_a_card, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_card_that_is_full, rig_setup, rig_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
