/* The text space against sums in double; the index against the scan; titles; and that a request
 * allocates nothing once it is warm. */
#include "parts_rig.h"

#include "catalog/catalog.h"

enum { ROWS = 9000, WIDE = 40, QUERIES = 60, K = 10 };

static double product(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* x [ITEMS][DIM]: items less the shrunk mean, not renormalised, in double. */
static void centre(double *x)
{
    double mean[DIM] = { 0 };
    for (size_t row = 0; row < ITEMS; row++)
        for (size_t k = 0; k < DIM; k++)
            mean[k] += (double)rig_vectors[row * DIM + k] / (ITEMS - 1 + SPACE_PRIOR);
    for (size_t row = 0; row < ITEMS; row++)
        for (size_t k = 0; k < DIM; k++)
            x[row * DIM + k] =
                row == BLANK ? 0 : (double)rig_vectors[row * DIM + k] - mean[k];
}

static double length(const double *x)
{
    double sum = 0;
    for (size_t k = 0; k < DIM; k++)
        sum += x[k] * x[k];
    return sqrt(sum);
}

static const struct space *rig_space(void)
{
    const struct space *space = NULL;
    must(recommender_space(rig, &space, NULL), NULL);
    return space;
}

static void space_is_centred(void **state)
{
    static double x[ITEMS * DIM];
    const struct space *s = rig_space();
    float mapped[DIM];
    (void)state;
    centre(x);
    assert_int_equal(s->blank_count, 1);
    assert_true(s->blank[BLANK / 64] >> BLANK % 64 & 1);
    for (size_t row = 0; row < ITEMS; row++)
        for (size_t k = 0; k < DIM; k++) {
            double wanted = row == BLANK ? 0 : x[row * DIM + k] / length(x + row * DIM);
            assert_true(fabs((double)s->vectors[row * DIM + k] - wanted) < 1e-5);
        }
    float doubled[DIM], zero[DIM] = { 0 };
    for (size_t k = 0; k < DIM; k++)
        doubled[k] = 2 * rig_vectors[5 * DIM + k];
    assert_true(space_map(s, rig_backend, doubled, mapped));    /* whatever its length */
    for (size_t k = 0; k < DIM; k++)
        assert_true(fabsf(mapped[k] - s->vectors[5 * DIM + k]) < 1e-5f);
    assert_false(space_map(s, rig_backend, zero, mapped));
    assert_false(space_item(s, rig_backend, BLANK, mapped));
}

/* The form without years, by its definition. */
static void years_are_taken_off(void **state)
{
    static double x[ITEMS * DIM], means[3000][DIM];
    static size_t counts[3000];
    const struct space *s = rig_space();
    float a[DIM], terms[YEARS + 2];
    (void)state;
    centre(x);
    for (size_t row = 0; row < ITEMS; row++) {
        counts[rig_year(row)] += row != BLANK;
        for (size_t k = 0; k < DIM; k++)
            means[rig_year(row)][k] += x[row * DIM + k];
    }
    for (size_t row = 0; row < ITEMS; row++)
        for (size_t k = 0; k < DIM; k++)
            x[row * DIM + k] -= row == BLANK ? 0 : means[rig_year(row)][k] /
                                                     (double)(counts[rig_year(row)] + SPACE_PRIOR);
    assert_int_equal(s->years, YEARS + 1);
    for (size_t q = 0; q < 40; q++) {
        double *mine = x + q * DIM;
        assert_true(space_item(s, rig_backend, q, a));
        space_year_terms(s, rig_backend, a, terms);
        for (size_t row = 0; row < ITEMS; row++) {
            double wanted = 0;
            for (size_t k = 0; k < DIM && row != BLANK; k++)
                wanted += mine[k] * x[row * DIM + k] / length(mine) / length(x + row * DIM);
            double got = (double)space_without_year(
                s, terms, row, (float)product(a, s->vectors + row * DIM, DIM));
            assert_true(fabs(got - wanted) < 1e-4);
        }
    }
}

/* Any number of threads makes the same bits. */
static void space_is_one(void **state)
{
    struct backend *backend = NULL;
    struct space *other = NULL;
    const struct space *s = rig_space();
    struct thread_pool *pool = thread_pool_create(1);
    (void)state;
    must(cpu_backend_create(cpu_detect(), pool, &backend, NULL), NULL);
    must(space_create(backend, rig_catalog, &other, NULL), NULL);
    assert_memory_equal(other->vectors, s->vectors, sizeof rig_vectors);
    assert_memory_equal(other->stretch, s->stretch, ITEMS * sizeof(float));
    assert_memory_equal(other->year_means, s->year_means, s->years * DIM * sizeof(float));
    space_destroy(&other);
    assert_null(other);
    cpu_backend_destroy(&backend);
    thread_pool_destroy(&pool);
}

/* ---- the index -------------------------------------------------------------------------- */

/* Rows around 300 centres, queries between two of them. */
static void draw(float *rows, float *queries)
{
    static float centres[300][WIDE];
    struct rng rng;
    rng_seed(&rng, 2);
    draw_normal(&rng, centres, 300 * WIDE);
    for (size_t i = 0; i < ROWS + QUERIES; i++) {
        float *x = i < ROWS ? rows + i * WIDE : queries + (i - ROWS) * WIDE;
        const float *one = centres[rng_below(&rng, 300)], *two = centres[rng_below(&rng, 300)];
        double squares = 0;
        for (size_t k = 0; k < WIDE; k++) {
            x[k] = one[k] + (i < ROWS ? 0.3f : 0.7f) * two[k] + 0.7f * rng_normal(&rng);
            squares += (double)x[k] * (double)x[k];
        }
        for (size_t k = 0; k < WIDE; k++)
            x[k] /= (float)sqrt(squares);
    }
}

/* More rows than one step of the screen, in no order; the bounds are of use. */
static void bounds_hold(const struct space_index *index, const float *rows, const float *queries)
{
    enum { LISTED = 1200 };
    static uint32_t list[LISTED];
    static float values[LISTED], errors[LISTED];
    float zero[WIDE] = { 0 };
    for (size_t i = 0; i < LISTED; i++)
        list[i] = (uint32_t)(i * 7919 % ROWS);
    for (size_t q = 0; q < QUERIES; q++) {
        assert_true(space_bound(index, queries + q * WIDE, list, LISTED, values, errors));
        for (size_t i = 0; i < LISTED; i++) {
            double score = product(queries + q * WIDE, rows + list[i] * WIDE, WIDE);
            assert_true(fabs(score - (double)values[i]) <= (double)errors[i]);
            assert_true(errors[i] < 0.05f);
        }
    }
    assert_false(space_bound(index, zero, list, LISTED, values, errors));
}

/* ---- a card, made up ------------------------------------------------------------------- */

struct search_device {
    size_t rows;
};

static size_t card_asked, card_fails_at, cards_open;

static enum akin_status card_create(int ordinal, const float *rows, size_t row_count, size_t dim,
                                    struct search_device **device, struct akin_error *error)
{
    (void)ordinal, (void)rows;
    if (dim % 8)
        return error_set(error, AKIN_UNSUPPORTED, "not this dimension");
    *device = memory_alloc(1, sizeof **device);
    (*device)->rows = row_count;
    cards_open++;
    return AKIN_OK;
}

static void card_destroy(struct search_device **device)
{
    memory_free(*device);
    *device = NULL;
    cards_open--;
}

/* Answers that nobody else gives: the last rows that pass. */
static enum akin_status card_search(struct search_device *device, const struct device_query *query,
                                    struct hit *hits, size_t *found, struct search_counts *counts,
                                    struct akin_error *error)
{
    (void)counts;
    if (++card_asked == card_fails_at)
        return error_set(error, AKIN_IO, "fell out");
    for (size_t q = 0; q < query->query_count; q++) {
        found[q] = 0;
        for (size_t row = device->rows; row-- > 0 && found[q] < query->k;)
            if (!query->masks || query->masks[row / 64] >> row % 64 & 1)
                hits[q * query->k + found[q]++] = (struct hit){ 1, (uint32_t)row };
    }
    return AKIN_OK;
}

static const struct search_device_ops card_ops = { .create = card_create, .destroy = card_destroy,
                                                   .search = card_search };

/* It answers while it works, in the same call the index does when it fails, and it is not asked
 * again. */
static void a_card_searches_until_it_fails(void **state)
{
    static struct hit truth[QUERIES * K], hits[QUERIES * K];
    static uint64_t allowed[ROWS / 64 + 1];
    size_t found[QUERIES];
    float *rows = memory_alloc_aligned(ROWS, WIDE * sizeof(float));
    float *queries = memory_alloc_aligned(QUERIES, WIDE * sizeof(float));
    struct space space = { .items = ROWS, .dim = WIDE, .vectors = rows };
    struct space_index *index = NULL;
    struct akin_error error = { 0 };
    (void)state;
    draw(rows, queries);
    must(space_index_create(rig_backend, &space, (struct akin_progress){ 0 }, &index, &error),
         &error);
    struct space_query query = { .vectors = queries, .count = QUERIES, .k = K,
                                 .allowed_count = ROWS, .recall = 1 };
    must(space_search(&space, rig_backend, index, &query, truth, found, &error), &error);
    must(space_index_use_card(index, &space, &card_ops, 0, &error), &error);
    must(space_search(&space, rig_backend, index, &query, hits, found, &error), &error);
    assert_int_equal(hits[0].row, ROWS - 1);
    memset(allowed, 0xff, sizeof allowed);
    allowed[(ROWS - 1) / 64] = 0;
    query.allowed = allowed;
    must(space_search(&space, rig_backend, index, &query, hits, found, &error), &error);
    assert_int_equal(hits[0].row, (ROWS - 1) / 64 * 64 - 1);
    query.allowed = NULL;
    query.k = SEARCH_DEVICE_K_MAX + 1;      /* more than it knows how to find */
    struct hit *many = memory_alloc(QUERIES * query.k, sizeof *many);
    must(space_search(&space, rig_backend, index, &query, many, found, &error), &error);
    assert_int_equal(many[0].row, truth[0].row);
    memory_free(many);
    query.k = K;
    card_fails_at = card_asked + 1;
    assert_false(space_index_card_failed(index, &error));
    for (int turn = 0; turn < 2; turn++) {
        must(space_search(&space, rig_backend, index, &query, hits, found, &error), &error);
        assert_memory_equal(hits, truth, sizeof hits);
    }
    assert_int_equal(card_asked, card_fails_at);
    assert_true(space_index_card_failed(index, &error));
    assert_string_equal(error.message, "fell out");
    assert_false(space_index_card_failed(index, &error));       /* told once */
    space_index_destroy(&index);
    assert_int_equal(cards_open, 0);
    memory_free(rows);
    memory_free(queries);
}

static void index_keeps_its_promise(void **state)
{
    static struct hit truth[QUERIES * K], hits[QUERIES * K], one[K];
    static uint64_t allowed[ROWS / 64 + 1];
    size_t found[QUERIES], alone, same = 0;
    float *rows = memory_alloc_aligned(ROWS, WIDE * sizeof(float));
    float *queries = memory_alloc_aligned(QUERIES, WIDE * sizeof(float));
    struct space space = { .items = ROWS, .dim = WIDE, .vectors = rows };
    struct space_index *index = NULL;
    struct akin_error error = { 0 };
    (void)state;
    draw(rows, queries);
    must(space_index_create(rig_backend, &space, (struct akin_progress){ 0 }, &index, &error),
         &error);
    assert_true(space_index_bytes(index) > ROWS * WIDE);
    struct space_query query = { .vectors = queries, .count = QUERIES, .k = K,
                                 .allowed_count = ROWS, .recall = 1 };
    must(space_search(&space, rig_backend, NULL, &query, truth, found, &error), &error);
    must(space_search(&space, rig_backend, index, &query, hits, found, &error), &error);
    assert_memory_equal(hits, truth, sizeof hits);
    query.recall = 0.9f;
    must(space_search(&space, rig_backend, index, &query, hits, found, &error), &error);
    for (size_t i = 0; i < QUERIES; i++) {
        struct space_query single = query;
        single.vectors = queries + i * WIDE;
        single.count = 1;
        must(space_search(&space, rig_backend, index, &single, one, &alone, &error), &error);
        assert_memory_equal(one, hits + i * K, sizeof one);
        for (size_t j = 0; j < K; j++)
            for (size_t t = 0; t < K; t++)
                same += hits[i * K + j].row == truth[i * K + t].row;
    }
    assert_true(same >= 0.8 * QUERIES * K);
    for (size_t row = 0; row < ROWS; row += 3)
        allowed[row / 64] |= 1ull << row % 64;
    query.allowed = allowed;
    query.allowed_count = ROWS / 3;
    must(space_search(&space, rig_backend, index, &query, hits, found, &error), &error);
    for (size_t i = 0; i < QUERIES * K; i++)
        assert_int_equal(hits[i].row % 3, 0);
    bounds_hold(index, rows, queries);
    space_index_destroy(&index);
    assert_null(index);
    memory_free(rows);
    memory_free(queries);
}

/* A prepared recommender answers as before: what is exact stays so. */
static void prepared(void **state)
{
    struct akin_recommendation before[K], after[K];
    struct akin_request request = rig_request(K);
    struct akin_recommender_memory memory;
    struct akin_error error = { 0 };
    (void)state;
    request.recall = 1;
    request.similar = "f8";
    rig_ask(&request, before);
    must(recommender_prepare(rig, (struct akin_progress){ 0 }, &error), &error);
    must(recommender_prepare(rig, (struct akin_progress){ 0 }, &error), &error);
    rig_ask(&request, after);
    assert_true(rig_same(before, after, K));
    recommender_memory(rig, &memory);
    assert_true(memory.index > ITEMS * DIM);
}

/* struct recommend_rescorer: leaves all as it is, but has to see every candidate. */
static enum akin_status count_all(void *context, const struct asked *asked,
                                  struct candidate *candidates, size_t count,
                                  struct akin_error *error)
{
    (void)asked, (void)candidates, (void)error;
    *(size_t *)context += count;
    return AKIN_OK;
}

/* Candidates that are dropped before their text is compared are none of the best. */
static void dropped_are_missed_by_nobody(void **state)
{
    static const char *const history[] = { "f12", "f80", "f13" };
    struct akin_recommendation all[K], best[K];
    size_t seen = 0, found, again, dropped = 0;
    struct recommend_rescorer rescorer = { &seen, count_all }, none = { 0 };
    (void)state;
    must(recommender_prepare(rig, (struct akin_progress){ 0 }, NULL), NULL);
    for (size_t i = 0; i < 240; i++) {
        struct akin_request request = rig_request(i % 3 ? K : 1);
        char user[16];
        snprintf(user, sizeof user, "p%zu", i % PEOPLE);
        request.query = i & 1 ? "words" : NULL;
        request.user = i & 2 ? user : NULL;
        request.history = history;
        request.history_count = i & 3 && i & 4 ? 0 : 3;
        request.popularity = i % 5 ? -1 : 0.5f;
        const float *vector = i & 1 ? rig_vectors + i * 3 % OTHERS * DIM : NULL;
        seen = 0;
        recommender_use_rescorer(rig, &rescorer);
        must(recommend(rig, &request, vector, all, NULL, &found, NULL, NULL), NULL);
        recommender_use_rescorer(rig, &none);
        must(recommend(rig, &request, vector, best, NULL, &again, NULL, NULL), NULL);
        assert_int_equal(found, again);
        assert_true(rig_same(all, best, found));
        dropped += seen > 4 * request.k;
    }
    assert_true(dropped > 200);
}

/* ---- titles ----------------------------------------------------------------------------- */

static void titles_share_rare_words(void **state)
{
    struct titles *titles;
    struct gather words;
    struct akin_error error = { 0 };
    (void)state;
    must(titles_create(rig_catalog, &titles, &error), &error);
    assert_true(gather_init(&words, ITEMS));
    titles_gather(titles, EPISODES, &words);    /* of a series by title */
    assert_true(fabsf(words.values[EPISODES] - 1) < 1e-5f);
    assert_int_equal(words.count, EPISODES);
    for (size_t i = 1; i < EPISODES - 1; i++)
        assert_true(fabsf(words.values[EPISODES + i] - 1) < 1e-5f);
    assert_true(words.values[2 * EPISODES - 1] > 0.5f && words.values[2 * EPISODES - 1] < 0.9f);
    gather_clear(&words);
    for (size_t row = 0; row < ITEMS; row++)
        assert_true(words.values[row] == 0);
    assert_true(titles_skip("the", 3) && titles_skip("iii", 3) && titles_skip("12", 2));
    assert_true(!titles_skip("them", 4) && !titles_skip("2001", 4) && titles_skip("", 0));
    gather_deinit(&words);
    titles_destroy(&titles);
}

/* ---- who rated what --------------------------------------------------------------------- */

static void cosines_of_raters(void **state)
{
    static bool by[ITEMS][PEOPLE];
    struct cooccur *cooccur;
    struct gather counting, out;
    struct item_rows rows;
    struct akin_error error = { 0 };
    (void)state;
    for (size_t p = 0; p < PEOPLE; p++)
        for (size_t i = 0; i < RATED; i++)
            by[rig_rated(p, i)][p] = true;
    must(cooccur_create(rig_catalog, &cooccur, &error), &error);
    must(cooccur_rows(cooccur, rig_pool, &rows, &error), &error);
    assert_true(gather_init(&counting, ITEMS) && gather_init(&out, ITEMS));
    for (size_t row = 0; row < ITEMS; row += 5) {
        double left_out = 0, kept = 2;
        struct item_weight made[COOCCUR_ROW];
        size_t count = cooccur_row(cooccur, row, &counting, made);
        assert_int_equal(counting.count, 0);
        item_rows_gather(&rows, row, 2, &out);
        assert_int_equal(out.count, count);
        for (size_t other = 0; other < ITEMS; other++) {
            double both = 0, mine = 0, theirs = 0;
            for (size_t p = 0; p < PEOPLE; p++) {
                both += by[row][p] && by[other][p];
                mine += by[row][p];
                theirs += by[other][p];
            }
            double wanted = other == row ? 0 : both / sqrt((mine + 5) * (theirs + 5));
            if (out.values[other] == 0) {
                left_out = fmax(left_out, wanted);
                continue;
            }
            kept = fmin(kept, wanted);
            assert_true(fabs((double)out.values[other] - 2 * wanted) < 1e-5);
        }
        assert_true(left_out == 0 || (count == COOCCUR_ROW && left_out <= kept + 1e-6));
        gather_clear(&out);
    }
    gather_deinit(&counting);
    gather_deinit(&out);
    item_rows_free(&rows);
    cooccur_destroy(&cooccur);
}

/* ---- memory ----------------------------------------------------------------------------- */

static void warm_requests_allocate_nothing(void **state)
{
    static const char *const history[] = { "f12", "f80", "f13" };
    struct akin_recommendation results[K];
    struct akin_explanation why[K];
    struct akin_request requests[3] = { rig_request(K), rig_request(K), rig_request(K) };
    size_t found;
    (void)state;
    requests[0].similar = "f1";
    requests[1].user = "p3";
    requests[2].history = history;
    requests[2].history_count = 3;
    requests[2].diversity = 0.5f;
    requests[2].no_near_duplicates = true;
    uint64_t allocations = 0;
    for (int round = 0; round < 4; round++) {
        if (round == 2)
            allocations = memory_allocations();
        for (int i = 0; i < 3; i++)
            must(recommend(rig, &requests[i], NULL, results, why, &found, NULL, NULL), NULL);
    }
    assert_int_equal(memory_allocations(), allocations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(space_is_centred),
        cmocka_unit_test(years_are_taken_off),
        cmocka_unit_test(space_is_one),
        cmocka_unit_test(a_card_searches_until_it_fails),
        cmocka_unit_test(index_keeps_its_promise),
        cmocka_unit_test(prepared),
        cmocka_unit_test(dropped_are_missed_by_nobody),
        cmocka_unit_test(titles_share_rare_words),
        cmocka_unit_test(cosines_of_raters),
        cmocka_unit_test(warm_requests_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
