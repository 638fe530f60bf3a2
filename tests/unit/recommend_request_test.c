/* Recommendations by vectors over a small made-up catalogue, written and read as any other: against
 * scores computed in double, with filters, items left out, every mistake, and any number of
 * threads. */
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
#include "base/limits.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "recommend/recommend.h"

enum { ITEMS = 3000, DIM = 12, USERS = 5, RATED = 40, THREADS_TRIED = 2 };

static const char *const genres[] = { "Drama", "Sci-Fi", "Horror", "Film-Noir" };
static char folder[] = "/tmp/akin_recommend_XXXXXX";
static float vectors[ITEMS * DIM];
static struct catalog *catalog;
static struct thread_pool *pools[THREADS_TRIED];
static struct backend *backends[THREADS_TRIED];
static struct recommender *recommenders[THREADS_TRIED];    /* with 1 and 2 threads */
static struct recommender *r;

/* Item i: title, year, genres; some lack a year or genres. */
static int year_of(size_t i)
{
    return i % 10 == 9 ? 0 : 1980 + (int)(i * 7 % 40);
}

static bool has_genre(size_t i, size_t genre)
{
    return i % 5 && ((i + i / 4) >> genre & 1);
}

static void write_items(const char *path)
{
    struct bytes text = { 0 };
    for (size_t i = 0; i < ITEMS; i++) {
        bytes_printf(&text, "{\"id\":\"i%zu\",\"title\":\"Quest %zu\",\"text\":\"t\",\"genres\":[",
                     i, i);
        for (size_t g = 0, count = 0; g < 4; g++)
            if (has_genre(i, g))
                bytes_printf(&text, "%s\"%s\"", count++ ? "," : "", genres[g]);
        bytes_append_text(&text, i % 3 ? "]" : "],\"tags\":[\"slow burn\",\"space\"]");
        if (year_of(i))
            bytes_printf(&text, ",\"year\":%d", year_of(i));
        bytes_append_text(&text, "}\n");
    }
    assert_false(text.failed);
    assert_int_equal(file_write(path, text.data, text.count, NULL), AKIN_OK);
    bytes_deinit(&text);
}

static size_t rated_item(size_t user, size_t i)
{
    return (user * 997 + i * 31) % ITEMS;
}

/* The last user has rated one thing with 0 and so has no vector. */
static void write_interactions(const char *path)
{
    struct bytes text = { 0 };
    for (size_t u = 0; u < USERS; u++)
        for (size_t i = 0; i < RATED; i++)
            bytes_printf(&text,
                         "{\"user\":\"u%zu\",\"item\":\"i%zu\",\"rating\":%zu,\"timestamp\":%zu}\n",
                         u, rated_item(u, i), 1 + (u + i) % 5, i);
    bytes_append_text(&text,
                      "{\"user\":\"nobody\",\"item\":\"i3\",\"rating\":0,\"timestamp\":1}\n");
    assert_false(text.failed);
    assert_int_equal(file_write(path, text.data, text.count, NULL), AKIN_OK);
    bytes_deinit(&text);
}

/* Quarters of small numbers: inner products are exact in float32, and ties are many. */
static void draw_vectors(void)
{
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < ITEMS * DIM; i++)
        vectors[i] = ((float)rng_below(&rng, 7) - 3) / 4;
}

static int set_up(void **state)
{
    char items[64], interactions[64], data[64];
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(items, sizeof items, "%s/items_in.jsonl", folder);
    snprintf(interactions, sizeof interactions, "%s/interactions.jsonl", folder);
    snprintf(data, sizeof data, "%s/data", folder);
    write_items(items);
    write_interactions(interactions);
    draw_vectors();
    struct akin_error error = { 0 };
    size_t users, without;
    if (catalog_import_jsonl(items, interactions, NULL, data, (struct akin_progress){0}, NULL,
                             &error) ||
        catalog_open(data, CATALOG_WITHOUT_EMBEDDINGS, &catalog, &error))
        fail_msg("%s", error.message);
    assert_int_equal(recommender_open(NULL, catalog, &r, &error), AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "akin data embed"));
    if (catalog_write_item_vectors(catalog, "none", "", vectors, DIM, &error) ||
        catalog_write_user_vectors(catalog, vectors, DIM, (struct akin_progress){0}, &users,
                                   &without, &error))
        fail_msg("%s", error.message);
    catalog_close(&catalog);
    if (catalog_open(data, CATALOG_ALL, &catalog, &error))
        fail_msg("%s", error.message);
    for (int i = 0; i < THREADS_TRIED; i++) {
        pools[i] = thread_pool_create(i + 1);
        if (cpu_backend_create(cpu_detect(), pools[i], &backends[i], &error) ||
            recommender_open(backends[i], catalog, &recommenders[i], &error))
            fail_msg("%s", error.message);
    }
    r = recommenders[1];
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < THREADS_TRIED; i++) {
        recommender_close(&recommenders[i]);
        assert_null(recommenders[i]);
        cpu_backend_destroy(&backends[i]);
        thread_pool_destroy(&pools[i]);
    }
    catalog_close(&catalog);
    return path_remove_tree(folder, NULL);
}

/* ---- the naive recommender -------------------------------------------------------------- */

struct naive {
    double score;
    size_t row;
};

static int by_score_then_row(const void *a, const void *b)
{
    const struct naive *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* All items that `keep` keeps, best first; returns how many. */
static size_t rank(const double *wanted, bool (*keep)(size_t row), struct naive *all)
{
    size_t count = 0;
    for (size_t row = 0; row < ITEMS; row++) {
        double score = 0;
        for (size_t i = 0; i < DIM; i++)
            score += wanted[i] * vectors[row * DIM + i];
        if (keep(row))
            all[count++] = (struct naive){ score, row };
    }
    qsort(all, count, sizeof *all, by_score_then_row);
    return count;
}

static void add_unit(double *sum, const float *x, double weight)
{
    double squares = 0;
    for (size_t i = 0; i < DIM; i++)
        squares += (double)x[i] * x[i];
    for (size_t i = 0; i < DIM; i++)
        sum[i] += weight * x[i] / sqrt(squares);
}

static void to_unit(double *x)
{
    double squares = 0;
    for (size_t i = 0; i < DIM; i++)
        squares += x[i] * x[i];
    for (size_t i = 0; i < DIM; i++)
        x[i] /= sqrt(squares);
}

static bool seen_by_u2(size_t row)
{
    for (size_t i = 0; i < RATED; i++)
        if (rated_item(2, i) == row)
            return true;
    return false;
}

static bool any(size_t row)
{
    return row < ITEMS;
}

static bool not_77(size_t row)
{
    return row != 77;
}

static bool not_seen(size_t row)
{
    return !seen_by_u2(row);
}

static bool not_seen_not_77(size_t row)
{
    return row != 77 && !seen_by_u2(row);
}

static bool filtered_not_77(size_t row)
{
    return row != 77 && has_genre(row, 1) && !has_genre(row, 2) && year_of(row) >= 1990;
}

/* The request's results are the first k of the naive ones: rows where scores are exact
 * (tolerance 0), scores otherwise. */
static void compare(const struct akin_request *request, const float *query, const double *wanted,
                    bool (*keep)(size_t row), double tolerance)
{
    static struct naive all[ITEMS];
    static struct akin_recommendation results[ITEMS];
    struct akin_error error = { 0 };
    struct akin_recommend_timing timing = { .total_ms = -1 };
    size_t found = 0, count = rank(wanted, keep, all);
    if (recommend(r, request, query, results, NULL, &found, &timing, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    assert_int_equal(found, count < request->k ? count : request->k);
    assert_true(timing.total_ms >= timing.search_ms && timing.search_ms >= 0);
    for (size_t i = 0; i < found; i++) {
        assert_true(keep(results[i].row));
        assert_true(fabs((double)results[i].similarity - all[i].score) <= tolerance);
        if (tolerance == 0)
            assert_int_equal(results[i].row, all[i].row);
    }
}

static struct akin_request request_of(size_t k)
{
    struct akin_request request;
    recommend_request_default(&request);
    request.k = k;
    return request;
}

static const float *user_vector(const char *id)
{
    size_t user;
    assert_int_equal(catalog_find_user(catalog, id, &user, NULL), AKIN_OK);
    return catalog_user_vector(catalog, user);
}

/* ---- what is found ---------------------------------------------------------------------- */

static void similar(void **state)
{
    double wanted[DIM];
    for (size_t i = 0; i < DIM; i++)
        wanted[i] = vectors[77 * DIM + i];  /* as it is: not brought to length 1 */
    static const size_t ks[] = { 1, 10, 500, ITEMS, K_MAX };
    for (size_t i = 0; i < sizeof ks / sizeof *ks; i++) {
        struct akin_request request = request_of(ks[i]);
        request.similar = i % 2 ? "quest 77" : "i77";
        request.query_weight = 0;
        compare(&request, NULL, wanted, not_77, 0);
    }
    (void)state;
}

static void user(void **state)
{
    double wanted[DIM] = { 0 };
    struct akin_request request = request_of(200);
    request.ranking = AKIN_RANK_VECTORS;
    request.user = "u2";
    add_unit(wanted, user_vector("u2"), 1);
    compare(&request, NULL, wanted, not_seen, 1e-6);
    request.include_seen = true;
    compare(&request, NULL, wanted, any, 1e-6);
    (void)state;
}

static void mixtures(void **state)
{
    const float query[DIM] = { 3, 0, -1, 0.5f, 0, 0, 8, 0, 0, 0, 0, -2 };
    const float *item = vectors + 77 * DIM, *person = user_vector("u2");
    double wanted[DIM] = { 0 };
    struct akin_request request = request_of(100);
    request.ranking = AKIN_RANK_VECTORS;
    request.query = "anything";
    add_unit(wanted, query, 1);
    compare(&request, query, wanted, any, 1e-6);    /* the weight does not matter then */
    request.similar = "i77";
    memset(wanted, 0, sizeof wanted);
    add_unit(wanted, query, (double)0.7f);
    add_unit(wanted, item, 1 - (double)0.7f);
    to_unit(wanted);
    compare(&request, query, wanted, not_77, 1e-6);
    request.user = "u2";
    request.query_weight = 0.25f;
    memset(wanted, 0, sizeof wanted);
    add_unit(wanted, query, 0.25);
    add_unit(wanted, item, 0.375);
    add_unit(wanted, person, 0.375);
    to_unit(wanted);
    compare(&request, query, wanted, not_seen_not_77, 1e-6);
    request.query = NULL;
    memset(wanted, 0, sizeof wanted);
    add_unit(wanted, item, 0.5);
    add_unit(wanted, person, 0.5);
    to_unit(wanted);
    compare(&request, NULL, wanted, not_seen_not_77, 1e-6);
    (void)state;
}

static void filters(void **state)
{
    double wanted[DIM];
    for (size_t i = 0; i < DIM; i++)
        wanted[i] = vectors[77 * DIM + i];
    struct akin_request request = request_of(20);
    request.similar = "i77";
    request.filter = "genre=Sci-Fi AND year>=1990 AND NOT genre=Horror";
    compare(&request, NULL, wanted, filtered_not_77, 0);
    request.k = ITEMS;      /* fewer exist */
    compare(&request, NULL, wanted, filtered_not_77, 0);
    size_t count, expected = filtered_not_77(77);
    for (size_t row = 0; row < ITEMS; row++)
        expected += filtered_not_77(row);
    assert_int_equal(recommender_count(r, request.filter, &count, NULL), AKIN_OK);
    assert_int_equal(count, expected);
    assert_int_equal(recommender_count(r, NULL, &count, NULL), AKIN_OK);
    assert_int_equal(count, ITEMS);
    assert_int_equal(recommender_count(r, "year<1900", &count, NULL), AKIN_OK);
    assert_int_equal(count, 0);
    assert_int_equal(recommender_count(r, "tag='slow burn' AND theme=space", &count, NULL),
                     AKIN_OK);
    assert_int_equal(count, ITEMS / 3);
    assert_int_equal(recommender_count(r, "title ~ 'quest 299' OR id IN (i1, i2)", &count, NULL),
                     AKIN_OK);
    assert_int_equal(count, 11 + 2);
    struct akin_recommendation results[3];
    request.filter = "id=i77";      /* the item itself passes, and is left out */
    request.k = 3;
    assert_int_equal(recommend(r, &request, NULL, results, NULL, &count, NULL, NULL), AKIN_OK);
    assert_int_equal(count, 0);
    (void)state;
}

static void no_results_asked_for(void **state)
{
    struct akin_request request = request_of(0);
    request.similar = "i77";
    size_t found = 9;
    assert_int_equal(recommend(r, &request, NULL, NULL, NULL, &found, NULL, NULL), AKIN_OK);
    assert_int_equal(found, 0);
    (void)state;
}

/* ---- batches ---------------------------------------------------------------------------- */

static void batch_is_many_requests(void **state)
{
    enum { COUNT = 130, K = 25 };
    static struct akin_recommendation batch[COUNT * K], one[K];
    size_t found[COUNT], alone;
    static const char *const filter[] = {NULL, "genre=Drama",
                                         "year=1983 AND genre=Sci-Fi AND id ~ i1"};
    for (int f = 0; f < 3; f++) {
        assert_int_equal(recommend_vectors(r, vectors, COUNT, K, filter[f], batch, found, NULL),
                         AKIN_OK);
        for (size_t q = 0; q < COUNT; q += 3) {
            assert_int_equal(recommend_vectors(recommenders[0], vectors + q * DIM, 1, K, filter[f],
                                               one, &alone, NULL),
                             AKIN_OK);
            assert_int_equal(found[q], alone);
            for (size_t i = 0; i < alone; i++) {
                assert_int_equal(batch[q * K + i].row, one[i].row);
                assert_memory_equal(&batch[q * K + i].similarity, &one[i].similarity,
                                    sizeof(float));
            }
        }
    }
    assert_true(found[0] < K);
    float bad[2 * DIM] = { 0 };
    bad[DIM + 4] = NAN;
    struct akin_error error = { 0 };
    assert_int_equal(recommend_vectors(r, bad, 2, K, NULL, batch, found, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "vector 1: column 4"));
    assert_int_equal(recommend_vectors(r, vectors, 2, K, "yaer=1", batch, found, &error),
                     AKIN_ARGUMENT);
    assert_int_equal(recommend_vectors(r, vectors, 2, K_MAX + 1, NULL, batch, found, &error),
                     AKIN_LIMIT);
    assert_int_equal(recommend_vectors(r, vectors, 0, K, NULL, batch, found, &error), AKIN_OK);
    (void)state;
}

static void threads_do_not_matter(void **state)
{
    static struct akin_recommendation results[THREADS_TRIED][ITEMS];
    size_t found[THREADS_TRIED];
    struct akin_request request = request_of(ITEMS);
    request.user = "u1";
    request.similar = "i5";
    request.filter = "NOT genre=Film-Noir";
    for (int i = 0; i < THREADS_TRIED; i++)
        assert_int_equal(
            recommend(recommenders[i], &request, NULL, results[i], NULL, &found[i], NULL, NULL),
            AKIN_OK);
    assert_int_equal(found[0], found[1]);
    for (size_t i = 0; i < found[0]; i++) {
        assert_int_equal(results[0][i].row, results[1][i].row);
        assert_memory_equal(&results[0][i].similarity, &results[1][i].similarity, sizeof(float));
    }
    (void)state;
}

struct shared {
    struct akin_request request;
    struct akin_recommendation expected[20];
    size_t differing[2];        /* by worker */
};

static void ask_again(void *context, size_t item, int worker)
{
    struct shared *shared = context;
    struct akin_recommendation results[20];
    size_t found = 0;
    (void)item;
    if (recommend(r, &shared->request, NULL, results, NULL, &found, NULL, NULL) != AKIN_OK ||
        found != 20)
        shared->differing[worker]++;
    for (size_t i = 0; i < found; i++)
        shared->differing[worker] += results[i].row != shared->expected[i].row;
}

/* Requests of several threads at once on one recommender. */
static void any_thread(void **state)
{
    struct shared shared = { .request = request_of(20) };
    size_t found;
    shared.request.user = "u3";
    shared.request.filter = "genre=Drama OR title ~ 7";
    assert_int_equal(recommend(r, &shared.request, NULL, shared.expected, NULL, &found, NULL,
                               NULL), AKIN_OK);
    assert_int_equal(found, 20);
    struct thread_pool *callers = thread_pool_create(2);
    assert_non_null(callers);
    thread_pool_each(callers, 40, ask_again, &shared);
    thread_pool_destroy(&callers);
    assert_int_equal(shared.differing[0] + shared.differing[1], 0);
    (void)state;
}

/* ---- mistakes --------------------------------------------------------------------------- */

static void refuse(const struct akin_request *request, const float *query,
                   enum akin_status expected, const char *part)
{
    struct akin_recommendation results[10];
    struct akin_error error = { 0 };
    size_t found = 77;
    enum akin_status status = recommend(r, request, query, results, NULL, &found, NULL, &error);
    if (status != expected || !strstr(error.message, part))
        fail_msg("status %d, \"%s\", expected %d, \"%s\"", status, error.message, expected, part);
    assert_int_equal(found, 77);
}

static void mistakes(void **state)
{
    const float zero[DIM] = { 0 }, infinite[DIM] = { INFINITY };
    float opposite[DIM];
    for (size_t i = 0; i < DIM; i++)
        opposite[i] = -vectors[77 * DIM + i];
    struct akin_request request = request_of(10);
    refuse(&request, NULL, AKIN_ARGUMENT, "nothing to recommend by");
    request.similar = "Qest 77";
    refuse(&request, NULL, AKIN_NOT_FOUND, "Quest 7");
    request.similar = NULL;
    request.ranking = AKIN_RANK_VECTORS;
    request.user = "u99";
    refuse(&request, NULL, AKIN_NOT_FOUND, "u99");
    request.user = "nobody";
    refuse(&request, NULL, AKIN_NOT_FOUND, "user nobody has no vector");
    request.ranking = AKIN_RANK_AUTO;
    request.user = NULL;
    request.query = "space";
    refuse(&request, NULL, AKIN_ARGUMENT, "needs a model");
    refuse(&request, zero, AKIN_ARGUMENT, "the vector of the query is zero");
    refuse(&request, infinite, AKIN_ARGUMENT, "the vector of the query is not finite");
    request.similar = "i77";
    request.query_weight = 0.5f;
    refuse(&request, opposite, AKIN_ARGUMENT, "cancels out");
    static const float weights[] = { INFINITY, 1.1f, NAN };
    for (int i = 0; i < 3; i++) {
        request.query_weight = weights[i];
        refuse(&request, opposite, AKIN_ARGUMENT, "query weight");
    }
    request = request_of(10);
    request.similar = "i77";
    request.filter = "genre=Drama AND yaer>1990";
    refuse(&request, NULL, AKIN_ARGUMENT,
           "column 17: unknown field 'yaer': the fields are genre, theme, year, ratings, title, "
           "id");
    request.filter = "";
    refuse(&request, NULL, AKIN_ARGUMENT, "the filter is empty");
    request.filter = NULL;
    request.k = K_MAX + 1;
    refuse(&request, NULL, AKIN_LIMIT, "at most");
    (void)state;
}

static void memory(void **state)
{
    struct akin_recommender_memory memory;
    recommender_memory(r, &memory);
    assert_true(memory.item_vectors >= sizeof vectors);
    assert_true(memory.user_vectors >= USERS * DIM * sizeof(float));
    assert_true(memory.ratings > 0 && memory.metadata > ITEMS * sizeof(double));
    assert_true(memory.space >= sizeof vectors);
    assert_int_equal(memory.total, memory.item_vectors + memory.user_vectors + memory.metadata +
                                       memory.ratings + memory.space + memory.index);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(similar),
        cmocka_unit_test(user),
        cmocka_unit_test(mixtures),
        cmocka_unit_test(filters),
        cmocka_unit_test(no_results_asked_for),
        cmocka_unit_test(batch_is_many_requests),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(any_thread),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
