/* Requests for an item that the neighbour cache answers: the same as without it, by vectors and by
 * parts; what it must not answer; and requests from several threads while lists are made anew. */
#include <stdatomic.h>

#include "recommend/neighbors.h"
#include "parts_rig.h"

enum { K = 10, THREADS = 3, TURNS = 2000 };

struct cache {
    struct neighbors_vectors vectors;
    struct neighbors_answers answers;
    struct thread_pool *pool;
    struct backend *backend;
    struct neighbors *neighbors;
};

static void open_cache(struct cache *c, bool by_parts, size_t capacity)
{
    struct akin_neighbors_settings settings;
    struct akin_error error = { 0 };
    neighbors_settings_default(&settings);
    settings.capacity = capacity;
    recommender_use_inputs(rig, &(struct recommend_inputs){ .fitted = by_parts });
    must(recommender_prepare(rig, (struct akin_progress){ 0 }, &error), &error);
    c->pool = thread_pool_create(1);
    must(cpu_backend_create(cpu_detect(), c->pool, &c->backend, &error), &error);
    c->vectors = (struct neighbors_vectors){
        .backend = c->backend, .vectors = catalog_item_vectors(rig_catalog), .items = ITEMS,
        .dim = DIM };
    c->answers = (struct neighbors_answers){ rig, rig_catalog };
    struct neighbors_source source = { .compute = neighbors_compute_vectors,
                                       .context = &c->vectors, .items = ITEMS };
    if (by_parts)
        source = (struct neighbors_source){ .compute = neighbors_compute_answers,
                                            .context = &c->answers, .items = ITEMS };
    must(neighbors_open(&source, &settings, NULL, 0, &c->neighbors, &error), &error);
    must(recommender_use_neighbors(rig, c->neighbors, &error), &error);
    must(neighbors_wait(c->neighbors, &error), &error);
}

static void close_cache(struct cache *c)
{
    must(recommender_use_neighbors(rig, NULL, NULL), NULL);
    neighbors_close(&c->neighbors);
    cpu_backend_destroy(&c->backend);
    thread_pool_destroy(&c->pool);
    recommender_use_inputs(rig, &(struct recommend_inputs){ .fitted = false });
}

static struct akin_request similar_to(size_t row, char id[16])
{
    struct akin_request request = rig_request(K);
    request.ranking = AKIN_RANK_AUTO;
    snprintf(id, 16, "f%zu", row);
    request.similar = id;
    return request;
}

static uint64_t hits_of(const struct cache *c)
{
    struct akin_neighbors_counts counts;
    neighbors_count(c->neighbors, &counts);
    return counts.hits;
}

/* ---- the same answers ------------------------------------------------------------------- */

static void assert_near(float a, float b)
{
    assert_true(fabsf(a - b) < 2e-6f);
}

/* A list is what the whole way finds of 200; asked for fewer, it looks at fewer candidates and may
 * miss one of them. Returns how many it found, too. */
static size_t compare(const struct akin_request *request)
{
    struct akin_recommendation ready[AKIN_NEIGHBORS_MAX], anew[AKIN_NEIGHBORS_MAX];
    struct akin_request most = *request;
    size_t found = rig_ask(request, ready), wanted, common = 0;
    most.k = AKIN_NEIGHBORS_MAX;
    must(recommend_anew(rig, &most, anew, &wanted, NULL), NULL);
    assert_int_equal(found, request->k < wanted ? request->k : wanted);
    assert_true(rig_same(ready, anew, found));
    for (size_t i = 0; i < found; i++) {
        assert_near(ready[i].parts.text, anew[i].parts.text);
        assert_near(ready[i].parts.title, anew[i].parts.title);
        assert_near(ready[i].parts.taste, anew[i].parts.taste);
        assert_near(ready[i].parts.popularity, anew[i].parts.popularity);
    }
    must(recommend_anew(rig, request, anew, &wanted, NULL), NULL);
    for (size_t i = 0; i < found; i++)
        common += rig_among(anew, wanted, ready[i].row);
    return common;
}

static void same_answers(bool by_parts)
{
    struct cache c;
    char id[16];
    open_cache(&c, by_parts, 0);
    uint64_t asked = 0;
    size_t results = 0, common = 0;
    for (size_t row = 0; row < ITEMS; row++) {
        struct akin_request request = similar_to(row, id);
        request.k = row % 9 == 4 ? AKIN_NEIGHBORS_MAX : row % 9 == 5 ? 0 : K;
        common += compare(&request);
        results += request.k;
        asked += !by_parts || row != BLANK;     /* which is by popularity alone */
    }
    assert_int_equal(hits_of(&c), asked);
    assert_true((double)common >= 0.999 * (double)results);
    close_cache(&c);
}

static void same_by_vectors(void **state)
{
    (void)state;
    same_answers(false);
}

static void same_by_parts(void **state)
{
    (void)state;
    same_answers(true);
}

/* ---- what is not its affair ------------------------------------------------------------- */

static void others_go_the_whole_way(void **state)
{
    static const char *const names[] = { "f3" };
    struct akin_explanation why[K];
    struct akin_recommendation results[AKIN_NEIGHBORS_MAX + 1];
    struct cache c;
    char id[16];
    size_t found;
    (void)state;
    open_cache(&c, true, 0);
    for (int i = 0; i < 11; i++) {
        struct akin_request request = similar_to(5, id);
        request.user = i == 0 ? "p3" : NULL;
        request.history = names;
        request.history_count = i == 1;
        request.exclude = names;
        request.exclude_count = i == 2;
        request.filter = i == 3 ? "year>=1900" : NULL;
        request.context = i == 4 ? "{\"genre_prefs\": {\"Comedy\": 1}}" : NULL;
        request.popularity = i == 5 ? 1 : -1;
        request.diversity = i == 6 ? 0.5f : 0;
        request.no_near_duplicates = i == 7;
        request.k = i == 8 ? AKIN_NEIGHBORS_MAX + 1 : K;
        request.ranking = i == 9 ? AKIN_RANK_VECTORS : AKIN_RANK_AUTO;
        request.recall = i == 10 ? 1 : request.recall;
        rig_ask(&request, results);
    }
    struct akin_request request = similar_to(5, id);
    must(recommend(rig, &request, NULL, results, why, &found, NULL, NULL), NULL);
    assert_true(why[0].because_count > 0);
    assert_int_equal(hits_of(&c), 0);
    rig_ask(&request, results);
    assert_int_equal(hits_of(&c), 1);
    close_cache(&c);
}

static void what_is_missing_is_computed(void **state)
{
    struct cache c;
    char id[16];
    struct akin_neighbors_counts counts;
    (void)state;
    open_cache(&c, true, 20);
    for (size_t row = 0; row < TWIN; row++) {
        struct akin_request request = similar_to(row, id);
        compare(&request);
    }
    neighbors_count(c.neighbors, &counts);
    assert_true(counts.misses > 0 && counts.hits + counts.misses == TWIN);
    close_cache(&c);
}

/* ---- threads ---------------------------------------------------------------------------- */

struct asking {
    atomic_size_t next, wrong;
};

static void ask_on(void *context)
{
    struct asking *asking = context;
    struct akin_recommendation ready[K], anew[K];
    char id[16];
    size_t found, wanted;
    for (size_t turn; (turn = atomic_fetch_add(&asking->next, 1)) < TURNS;) {
        struct akin_request request = similar_to(turn * 7 % TWIN, id);
        bool right =
            recommend(rig, &request, NULL, ready, NULL, &found, NULL, NULL) == AKIN_OK &&
            recommend_anew(rig, &request, anew, &wanted, NULL) == AKIN_OK && found == wanted &&
            rig_same(ready, anew, found);
        atomic_fetch_add(&asking->wrong, !right);
    }
}

static void asked_while_made_anew(void **state)
{
    struct thread *threads[THREADS];
    struct asking asking = { 0 };
    struct cache c;
    (void)state;
    open_cache(&c, true, 0);
    for (int i = 0; i < THREADS; i++)
        assert_non_null(threads[i] = thread_start(ask_on, &asking, false));
    while (atomic_load(&asking.next) < TURNS) {
        neighbors_refresh(c.neighbors);
        must(neighbors_wait(c.neighbors, NULL), NULL);
    }
    for (int i = 0; i < THREADS; i++)
        thread_join(&threads[i]);
    assert_int_equal(atomic_load(&asking.wrong), 0);
    assert_int_equal(hits_of(&c), TURNS);
    close_cache(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_by_vectors),
        cmocka_unit_test(same_by_parts),
        cmocka_unit_test(others_go_the_whole_way),
        cmocka_unit_test(what_is_missing_is_computed),
        cmocka_unit_test(asked_while_made_anew),
    };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
