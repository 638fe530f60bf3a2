/* Requests on a card against the same on the CPU, alone and many at once; a card that fails at each
 * of its calls, that cannot be opened, that knows nothing. The card is made up, and in a build with
 * AKIN_CUDA_EMULATED the kernels of the CUDA device, run on the CPU. */
#define RIG_DIM 64
#include "parts_rig.h"

#include "base/limits.h"
#include "recommend/personal.h"
#ifdef AKIN_CUDA_EMULATED
#include "recommend/fit_events.h"
#include "recommend/speaker.h"
#include "compute/cuda/cuda_devices.h"
#else
#include "personal_rig.h"
#endif

#ifdef AKIN_CUDA_EMULATED       /* which takes its time */
enum { FAILING = 3, COUNT = 9, TIMES = 1 };
#else
enum { FAILING = 8, COUNT = 40, TIMES = 2 };
#endif

enum { K = 7, KINDS = 12 };

/* What the card computes is off by so much at most. */
#define ROUNDING 4e-6f

/* ---- a card that is made up ------------------------------------------------------------- */

static size_t calls, fail_at;           /* the call that fails, from 1; 0: none */
static size_t asked_for;                /* requests of all calls */

static const struct search_device_ops *the_search(void)
{
#ifdef AKIN_CUDA_EMULATED
    return cuda_search_ops();
#else
    return &search_ops;
#endif
}

static const struct personal_device_ops *inner(void)
{
#ifdef AKIN_CUDA_EMULATED
    return cuda_personal_ops();
#else
    return &plain_ops;
#endif
}

/* ---- that fails when it is told --------------------------------------------------------- */

static bool fails(void)
{
    return ++calls == fail_at;
}

static enum akin_status told_create(int ordinal, const struct search_device *rows,
                                    const struct personal_items *items,
                                    struct personal_device **device, struct akin_error *error)
{
    if (fails())
        return error_set(error, AKIN_MEMORY, "a card that is full");
    return inner()->create(ordinal, rows, items, device, error);
}

static void told_destroy(struct personal_device **device)
{
    inner()->destroy(device);
}

static size_t reserved;                 /* rooms that were made or grew, */
static size_t listed;                   /* with room for so many numbers of lists at most, */
static bool full;                       /* and there is no memory for them */

static bool told_lay_out(const struct personal_device *device, const struct personal_sizes *sizes,
                         struct personal_room *room)
{
    return inner()->lay_out(device, sizes, room);
}

static enum akin_status told_reserve(struct personal_device *device,
                                     const struct personal_sizes *sizes,
                                     struct personal_room *room, struct akin_error *error)
{
    reserved++;
    listed = sizes->lists > listed ? sizes->lists : listed;
    if (full)
        return error_set(error, AKIN_MEMORY, "a host that is full");
    return inner()->reserve(device, sizes, room, error);
}

static void told_release(struct personal_device *device, struct personal_room *room)
{
    inner()->release(device, room);
}

static enum akin_status told_check(const struct personal_device *device,
                                   const struct personal_room *room, size_t number,
                                   size_t mask_count, struct akin_error *error)
{
    return inner()->check(device, room, number, mask_count, error);
}

static enum akin_status told_answer(struct personal_device *device,
                                    const struct personal_batch *batch,
                                    struct personal_room *room, struct akin_error *error)
{
    asked_for += batch->count;
    if (fails())
        return error_set(error, AKIN_IO, "a card that is lost");
    return inner()->answer(device, batch, room, error);
}

static enum akin_status told_nearest(struct personal_device *device, size_t count, size_t k,
                                     const uint64_t *mask, struct personal_room *room,
                                     struct akin_error *error)
{
    if (fails())
        return error_set(error, AKIN_IO, "a card that is lost");
    return inner()->nearest(device, count, k, mask, room, error);
}

static const struct personal_device_ops told = {
    .create = told_create, .destroy = told_destroy, .lay_out = told_lay_out,
    .reserve = told_reserve, .release = told_release, .check = told_check, .answer = told_answer,
    .nearest = told_nearest,
};

/* ---- requests --------------------------------------------------------------------------- */

static const char *const past[] = { "f90", "f14", "f200" };
static const char *const excluded[] = { "f300", "f301" };

/* Everything that the card takes, and at the end what it does not. */
static void set_request(size_t kind, struct akin_request *request, const float **query)
{
    static float words[DIM];
    for (size_t i = 0; i < DIM; i++)
        words[i] = rig_vectors[3 * DIM + i] + 0.3f * rig_vectors[400 * DIM + i];
    *request = rig_request(kind == 5 ? 1 : K);
    request->recall = 1;
    *query = kind % 2 || kind == 6 ? words : NULL;
    request->query = *query ? "words" : NULL;
    request->user = kind < 2 ? "p3" : kind < 4 ? "p17" : kind == 8 ? "nobody" : NULL;
    request->history = past;
    request->history_count = kind == 4 || kind == 5 || kind == 9 ? 3 : 0;
    request->exclude = excluded;
    request->exclude_count = kind == 2 || kind == 7 ? 2 : 0;
    request->filter = kind == 3 ? "year>=1973" : kind == 6 ? "genre=Comedy OR genre=Drama" : NULL;
    request->include_seen = kind == 1;
    request->popularity = kind == 9 ? 0.4f : -1;
    request->query_weight = kind == 1 ? 0.25f : -1;
    request->similar = kind == 10 ? "f100" : NULL;
    request->diversity = kind == 11 ? 0.3f : 0;
}

static bool goes_to_card(size_t kind)
{
    return kind < 10;
}

static void check_same(size_t kind, const struct akin_recommendation *one,
                       const struct akin_recommendation *other, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool near = fabsf(one[i].score - other[i].score) < ROUNDING &&
                    fabsf(one[i].similarity - other[i].similarity) < ROUNDING &&
                    fabsf(one[i].parts.text - other[i].parts.text) < ROUNDING &&
                    fabsf(one[i].parts.taste - other[i].parts.taste) < ROUNDING &&
                    fabsf(one[i].parts.popularity - other[i].parts.popularity) < ROUNDING;
        bool tied = (i > 0 && one[i - 1].score - one[i].score < ROUNDING) ||
                    (i + 1 < count && one[i].score - one[i + 1].score < ROUNDING);
        if (!near || (one[i].row != other[i].row && !tied))
            fail_msg("kind %zu, rank %zu: %zu %.8g, %zu %.8g", kind, i, one[i].row,
                     (double)one[i].score, other[i].row, (double)other[i].score);
    }
}

struct lists {
    struct akin_recommendation results[KINDS][K];
    size_t found[KINDS];
};

static void ask_all(struct lists *lists)
{
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct akin_request request;
        struct akin_error error = { 0 };
        const float *query;
        set_request(kind, &request, &query);
        must(recommend(rig, &request, query, lists->results[kind], NULL, &lists->found[kind], NULL,
                       &error), &error);
    }
}

static void ask_batch(struct lists *lists, size_t times)
{
    struct akin_request *requests = memory_alloc(times * KINDS, sizeof *requests);
    struct akin_answer *answers = memory_alloc(times * KINDS, sizeof *answers);
    struct lists *all = memory_alloc(times, sizeof *all);
    const float **queries = memory_alloc(times * KINDS, sizeof *queries);
    struct akin_error error = { 0 };
    assert_true(requests && answers && all && queries);
    for (size_t i = 0; i < times * KINDS; i++) {
        set_request(i % KINDS, &requests[i], &queries[i]);
        answers[i] = (struct akin_answer){ .results = all[i / KINDS].results[i % KINDS],
                                           .found = 99, .status = AKIN_IO };
    }
    must(recommend_batch(rig, requests, queries, times * KINDS, answers, &error), &error);
    for (size_t i = 0; i < times * KINDS; i++) {
        assert_int_equal(answers[i].status, AKIN_OK);
        all[i / KINDS].found[i % KINDS] = answers[i].found;
        assert_int_equal(answers[i].found, all[0].found[i % KINDS]);
        assert_true(rig_same(all[i / KINDS].results[i % KINDS], all[0].results[i % KINDS],
                             answers[i].found));
    }
    *lists = all[0];
    memory_free(requests);
    memory_free(answers);
    memory_free(all);
    memory_free(queries);
}

static void use_card(size_t failing)
{
    struct akin_error error = { 0 };
    const struct recommend_inputs none = { 0 };
    recommender_use_inputs(rig, &none);         /* and the card before is gone */
    calls = asked_for = 0;
    fail_at = failing;
    must(recommender_prepare(rig, (struct akin_progress){ 0 }, &error), &error);
    must(recommender_use_card(rig, the_search(), 0, &error), &error);
    must(recommender_use_personal(rig, &told, 0, &error), &error);
}

/* ---- tests ------------------------------------------------------------------------------ */

static struct lists on_cpu;

static void cpu_answers_many_as_one(void **state)
{
    struct lists many;
    struct akin_error error = { 0 };
    (void)state;
    must(recommender_prepare(rig, (struct akin_progress){ 0 }, &error), &error);
    ask_all(&on_cpu);
    ask_batch(&many, 3);
    for (size_t kind = 0; kind < KINDS; kind++) {
        assert_int_equal(many.found[kind], on_cpu.found[kind]);
        assert_true(rig_same(many.results[kind], on_cpu.results[kind], on_cpu.found[kind]));
    }
}

static void card_answers_as_cpu(void **state)
{
    struct lists one, many;
    size_t taken = 0;
    (void)state;
    use_card(0);
    ask_all(&one);
    for (size_t kind = 0; kind < KINDS; kind++) {
        taken += goes_to_card(kind);
        assert_int_equal(one.found[kind], on_cpu.found[kind]);
        check_same(kind, one.results[kind], on_cpu.results[kind], on_cpu.found[kind]);
    }
    assert_int_equal(asked_for, taken);
    assert_int_equal(calls, 1 + taken);         /* one made it */
    calls = asked_for = 0;
    ask_batch(&many, TIMES);
    for (size_t kind = 0; kind < KINDS; kind++) {
        assert_int_equal(many.found[kind], one.found[kind]);
        assert_true(rig_same(many.results[kind], one.results[kind], one.found[kind]));
    }
    assert_int_equal(asked_for, TIMES * taken);
    assert_int_equal(calls, 2);                 /* one for each k */
}

/* Whatever the call, the answers are those of the CPU, and the card is not asked again. */
static void card_that_fails_is_left(void **state)
{
    struct akin_error why = { 0 };
    struct lists one;
    (void)state;
    for (size_t failing = 2; failing < FAILING; failing += 2) {
        use_card(failing);
        assert_false(recommender_card_failed(rig, &why));
        ask_all(&one);
        for (size_t kind = 0; kind < KINDS; kind++) {
            assert_int_equal(one.found[kind], on_cpu.found[kind]);
            check_same(kind, one.results[kind], on_cpu.results[kind], on_cpu.found[kind]);
        }
        assert_int_equal(calls, failing);
        assert_true(recommender_card_failed(rig, &why));
        assert_string_equal(why.message, "a card that is lost");
        assert_false(recommender_card_failed(rig, &why));       /* told once */
    }
    for (size_t failing = 2; failing < 4; failing++) {
        use_card(failing);
        ask_batch(&one, 1);
        assert_int_equal(calls, failing);
        for (size_t kind = 0; kind < KINDS; kind++)
            check_same(kind, one.results[kind], on_cpu.results[kind], on_cpu.found[kind]);
    }
}

static void card_that_cannot_be_opened(void **state)
{
    struct akin_error error = { 0 };
    struct lists one;
    (void)state;
    use_card(0);
    recommender_use_inputs(rig, &(struct recommend_inputs){ 0 });
    calls = 0;
    fail_at = 1;
    assert_int_equal(recommender_use_personal(rig, &told, 0, &error), AKIN_MEMORY);
    assert_string_equal(error.message, "a card that is full");
    ask_all(&one);
    assert_int_equal(calls, 1);
    for (size_t kind = 0; kind < KINDS; kind++)
        assert_true(rig_same(one.results[kind], on_cpu.results[kind], on_cpu.found[kind]));
}

/* Each is refused as it would be alone; the others are answered. */
static void wrong_requests_are_told(void **state)
{
    static const float zero[DIM] = { 0 };
    struct akin_request requests[6];
    struct akin_answer answers[6];
    struct akin_recommendation results[6][K];
    struct akin_error error = { 0 };
    const float *queries[6];
    (void)state;
    for (int card = 0; card < 2; card++) {
        if (card)
            use_card(0);
        for (size_t i = 0; i < 6; i++) {
            set_request(i == 5 ? 1 : 0, &requests[i], &queries[i]);
            answers[i].results = results[i];
        }
        requests[1].filter = "yaer=1";
        requests[2].history = &(const char *const){ "no such film at all" };
        requests[2].history_count = 1;
        requests[3].query = "nothing";
        queries[3] = zero;
        requests[4].k = K_MAX + 1;
        assert_int_equal(recommend_batch(rig, requests, queries, 6, answers, &error),
                         AKIN_ARGUMENT);
        assert_non_null(strstr(error.message, "request 1: filter"));
        assert_int_equal(answers[0].status, AKIN_OK);
        assert_int_equal(answers[1].status, AKIN_ARGUMENT);
        assert_int_equal(answers[2].status, AKIN_NOT_FOUND);
        assert_int_equal(answers[3].status, AKIN_ARGUMENT);
        assert_int_equal(answers[4].status, AKIN_LIMIT);
        assert_int_equal(answers[5].status, AKIN_OK);
        assert_int_equal(answers[0].found + answers[5].found, 2 * K);
        assert_int_equal(answers[1].found + answers[2].found + answers[3].found + answers[4].found,
                         0);
        check_same(0, results[0], on_cpu.results[0], K);
        check_same(1, results[5], on_cpu.results[1], K);
    }
    assert_int_equal(recommend_batch(rig, requests, queries, 0, answers, &error), AKIN_OK);
}

/* Rooms stay: whoever asks again, alone or with others, has memory already. One that cannot be made
 * leaves all to the CPU. */
static void rooms_are_kept(void **state)
{
    struct akin_error why = { 0 };
    struct lists lists;
    (void)state;
    use_card(0);
    reserved = 0;
    ask_batch(&lists, 1);
    size_t grown = reserved;
    assert_true(grown > 0);
    uint64_t had = memory_allocations();
    ask_batch(&lists, 1);
    assert_true(memory_allocations() - had < 8 * KINDS);
    ask_all(&lists);
    assert_int_equal(reserved, grown);
    full = true;
    use_card(0);
    ask_batch(&lists, 1);
    full = false;
    assert_true(recommender_card_failed(rig, &why));
    assert_string_equal(why.message, "a host that is full");
    for (size_t kind = 0; kind < KINDS; kind++)
        assert_true(rig_same(lists.results[kind], on_cpu.results[kind], on_cpu.found[kind]));
}

/* Lists that are longer than they were so far: the room grows, and nothing is lost. */
static void long_lists_find_room(void **state)
{
    enum { MANY = 3, EXCLUDED = 300 };
    static char names[EXCLUDED][8];
    const char *all[EXCLUDED];
    struct akin_request requests[MANY];
    struct akin_answer answers[MANY];
    struct akin_recommendation results[MANY][K], one[K];
    struct akin_error error = { 0 };
    const float *words[MANY];
    size_t found;
    (void)state;
    for (size_t i = 0; i < EXCLUDED; i++) {
        snprintf(names[i], sizeof names[i], "f%zu", i % 150);
        all[i] = names[i];
    }
    use_card(0);
    for (size_t i = 0; i < MANY; i++) {
        set_request(1, &requests[i], &words[i]);
        requests[i].exclude = all;
        requests[i].exclude_count = EXCLUDED;
        answers[i] = (struct akin_answer){ .results = results[i] };
    }
    must(recommend_batch(rig, requests, words, MANY, answers, &error), &error);
    must(recommend(rig, &requests[0], words[0], one, NULL, &found, NULL, &error), &error);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(answers[i].found, found);
        assert_true(rig_same(results[i], one, found));
    }
    assert_int_equal(asked_for, MANY + 1);
}

/* One who rated very much makes no room large for all who come after. */
static void long_lists_are_no_rule(void **state)
{
    enum { MUCH = 1 << 20, AT_MOST = 8192 };
    struct lists lists;
    (void)state;
    use_card(0);
    personal_note_listed(rig->card, MUCH);
    listed = 0;
    ask_batch(&lists, 1);
    assert_in_range(listed, 1, AT_MOST * KINDS);
}

static void vectors_are_mapped_on_the_card(void **state)
{
    static struct akin_recommendation wanted[COUNT * K], found[COUNT * K];
    size_t wanted_count[COUNT], found_count[COUNT];
    struct akin_error error = { 0 };
    float zero[DIM] = { 0 };
    (void)state;
    for (int filtered = 0; filtered < 2; filtered++) {
        const char *filter = filtered ? "year>=1975" : NULL;
        recommender_use_inputs(rig, &(struct recommend_inputs){ 0 });
        must(recommend_vectors(rig, rig_vectors, COUNT, K, filter, wanted, wanted_count, &error),
             &error);
        use_card(0);
        must(recommend_vectors(rig, rig_vectors, COUNT, K, filter, found, found_count, &error),
             &error);
        assert_int_equal(calls, 2);
        for (size_t q = 0; q < COUNT; q++) {
            assert_int_equal(found_count[q], wanted_count[q]);
            check_same(q, found + q * K, wanted + q * K, found_count[q]);
        }
        must(recommend_vectors(rig, zero, 1, K, filter, found, found_count, &error), &error);
        assert_int_equal(found_count[0], 0);
        zero[3] = NAN;
        assert_int_equal(recommend_vectors(rig, zero, 1, K, filter, found, found_count, &error),
                         AKIN_ARGUMENT);
        zero[3] = 0;
        use_card(2);
        must(recommend_vectors(rig, rig_vectors, COUNT, K, filter, found, found_count, &error),
             &error);
        assert_int_equal(calls, 2);
        for (size_t q = 0; q < COUNT; q++)
            check_same(q, found + q * K, wanted + q * K, found_count[q]);
    }
}

#ifdef AKIN_CUDA_EMULATED

/* What a model of taste says, of a session that goes on and of who comes back, is what the CPU says
 * to a rounding of logarithms; `scaled` and the other sums as well, whose weights are 0 by default.
 */
static void learn_taste(struct taste **taste)
{
    struct taste_settings settings;
    struct histories histories;
    struct fit_events events;
    taste_settings_default(&settings);
    settings.items_max = 300;
    settings.sequence.dim = 8;
    must(fit_events_read(rig_catalog, &events, NULL), NULL);
    must(fit_histories(rig_catalog, &events, &histories, NULL), NULL);
    fit_events_deinit(&events);
    must(taste_learn(cpu_kernels(rig_backend), rig_pool, &histories, &settings, taste, NULL), NULL);
    histories_deinit(&histories);
    must(taste_cut(*taste, 50, NULL), NULL);
    for (int mood = 0; mood < 2; mood++)
        for (int part = TASTE_EASE; part < TASTE_ATTENTION; part++)
            (*taste)->weights[mood].part[part] += 0.1f;
}

static void check_said(size_t kind, bool returning, bool together)
{
    struct akin_recommendation wanted[K], found[K];
    struct akin_answer answers[2] = { { .results = found }, { .results = wanted } };
    struct akin_request request[2];
    struct akin_error error = { 0 };
    const float *query[2];
    size_t wanted_count, found_count;
    set_request(kind, &request[0], &query[0]);
    request[0].now = returning ? 1000000000 : 24 * 1000;
    request[1] = request[0];
    query[1] = query[0];
    struct personal_card *card = rig->card;
    rig->card = NULL;
    must(recommend(rig, &request[0], query[0], wanted, NULL, &wanted_count, NULL, &error), &error);
    rig->card = card;
    asked_for = 0;
    if (together) {
        must(recommend_batch(rig, request, query, 2, answers, &error), &error);
        found_count = answers[0].found;
    } else {
        must(recommend(rig, &request[0], query[0], found, NULL, &found_count, NULL, &error),
             &error);
    }
    assert_int_equal(asked_for, together ? 2 : 1);
    assert_int_equal(found_count, wanted_count);
    for (size_t i = 0; i < found_count; i++)
        if (found[i].row != wanted[i].row || fabsf(found[i].score - wanted[i].score) > 1e-4f ||
            fabsf(found[i].parts.text - wanted[i].parts.text) > 1e-4f ||
            fabsf(found[i].parts.taste - wanted[i].parts.taste) > 1e-4f)
            fail_msg("kind %zu, rank %zu: %zu %.8g, %zu %.8g", kind, i, found[i].row,
                     (double)found[i].score, wanted[i].row, (double)wanted[i].score);
}

static void learned_taste_on_the_card(void **state)
{
    struct taste *taste;
    struct speaker *speaker;
    struct akin_error error = { 0 };
    (void)state;
    learn_taste(&taste);
    must(speaker_create(taste, cpu_kernels(rig_backend), &speaker, NULL), NULL);
    use_card(0);
    const struct recommend_inputs inputs = { .fitted = true, .query_weight = 0.6f,
                                             .speaker = speaker };
    recommender_use_inputs(rig, &inputs);
    must(recommender_use_personal(rig, &told, 0, &error), &error);
    static const size_t kinds[] = { 0, 1, 3, 4, 9 };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        check_said(kinds[i], i % 2, i == 1);
    check_said(0, true, false);
    recommender_use_inputs(rig, &(struct recommend_inputs){ 0 });
    speaker_destroy(&speaker);
    taste_destroy(&taste);
}
#endif

/* Where the answer would be everything that is left, the CPU looks at all of it. */
static void few_that_pass_are_for_the_cpu(void **state)
{
    struct akin_recommendation results[K];
    struct akin_request request;
    struct akin_error error = { 0 };
    const float *query;
    size_t found;
    (void)state;
    use_card(0);
    set_request(1, &request, &query);
    request.filter = "year=1975";
    must(recommend(rig, &request, query, results, NULL, &found, NULL, &error), &error);
    assert_int_equal(found, K);
    assert_int_equal(asked_for, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpu_answers_many_as_one),
        cmocka_unit_test(card_answers_as_cpu),
        cmocka_unit_test(card_that_fails_is_left),
        cmocka_unit_test(card_that_cannot_be_opened),
        cmocka_unit_test(wrong_requests_are_told),
        cmocka_unit_test(rooms_are_kept),
        cmocka_unit_test(long_lists_find_room),
        cmocka_unit_test(long_lists_are_no_rule),
        cmocka_unit_test(vectors_are_mapped_on_the_card),
        cmocka_unit_test(few_that_pass_are_for_the_cpu),
#ifdef AKIN_CUDA_EMULATED
        cmocka_unit_test(learned_taste_on_the_card),
#endif
    };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
