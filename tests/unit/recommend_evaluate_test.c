/* Split files, good and bad; and the protocol: nothing of test reaches the model, ties go by the
 * order of the file, the same bits whatever the threads. */
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
#include "base/thread.h"
#include "compute/backend.h"
#include "recommend/evaluate.h"
#include "recommend/split.h"

enum { USERS = 120, ITEMS = 90, LENGTH = 24 };

static char folder[] = "/tmp/akin_evaluate_XXXXXX", path[PATH_BYTES_MAX], recs[PATH_BYTES_MAX];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    path_join(path, sizeof path, folder, "split.csv", NULL);
    path_join(recs, sizeof recs, folder, "recs.jsonl", NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL) == AKIN_OK ? 0 : -1;
}

static void write_text(const char *text)
{
    assert_int_equal(file_write(path, text, strlen(text), NULL), AKIN_OK);
}

static void refused(const char *text, const char *words)
{
    struct split split;
    struct akin_error error;
    write_text(text);
    assert_int_equal(split_read(path, &split, &error), AKIN_FORMAT);
    if (!strstr(error.message, words) || !strstr(error.message, "split.csv"))
        fail_msg("\"%s\" does not say \"%s\"", error.message, words);
}

static void good_splits(void **state)
{
    (void)state;
    struct split s;
    write_text(
        "pos,split,timestamp,movieId,userId,rating\r\n"
        "0,train,10,\"a,b\",u1,4.5\r\n\r\n1,valid,11.0,x,u1,3\r\n2,test,-5,\"a,b\",u2,1\r\n");
    assert_int_equal(split_read(path, &s, NULL), AKIN_OK);
    assert_int_equal(s.event_count, 3);
    assert_int_equal(s.user_count, 2);
    assert_int_equal(s.item_count, 2);
    assert_string_equal(s.items[0], "a,b");
    assert_string_equal(s.users[s.events[2].user], "u2");
    assert_int_equal(s.events[0].item, s.events[2].item);
    assert_int_equal(s.events[1].part, SPLIT_VALID);
    assert_int_equal(s.events[1].timestamp, 11);
    assert_int_equal(s.events[2].timestamp, -5);
    split_deinit(&s);
}

static void bad_splits(void **state)
{
    (void)state;
    const char head[] = "userId,movieId,rating,timestamp,split\n";
    char text[512];
    const struct {
        const char *rows, *words;
    } cases[] = {
        { "1,2,3,4,train\n1,2,3,4\n", "split.csv:3: split: the row ends" },
        { "1,2,3,4,train\n1,2,x,4,test\n", "split.csv:3: rating: expected a number, found 'x'" },
        { "1,2,nan,4,train\n", "split.csv:2: rating" },
        { "1,2,3,soon,train\n", "split.csv:2: timestamp: expected Unix seconds, found 'soon'" },
        { "1,2,3,1e99,train\n", "split.csv:2: timestamp" },
        { "1,2,3,4,Train\n", "split.csv:2: split: expected train, valid or test" },
        { ",2,3,4,train\n", "split.csv:2: userId: expected an id" },
        { "1,,3,4,train\n", "split.csv:2: movieId: expected an id" },
        { "1,\"2,3,4,train\n", "split.csv:2: a quote" },
        { "", "no row" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "%s%s", head, cases[i].rows);
        refused(text, cases[i].words);
    }
    refused("userId,movieId,rating,timestamp\n1,2,3,4\n", "no column split");
    refused("", "no column userId");
    struct split split;
    struct akin_error error;
    assert_int_equal(split_read("/nowhere/split.csv", &split, &error), AKIN_NOT_FOUND);
}

/* People walk along a ring of items, so that what comes next is known. */

static void write_stream(bool later, uint32_t test_shift)
{
    struct bytes text = { 0 };
    struct rng rng;
    rng_seed(&rng, 5);
    bytes_append_text(&text, "userId,movieId,rating,timestamp,split\n");
    for (size_t u = 0; u < USERS; u++) {
        uint64_t at = rng_below(&rng, ITEMS);
        for (size_t e = 0; e < LENGTH; e++) {
            const char *part = e + 1 == LENGTH ? "test" : e + 2 == LENGTH ? "valid" : "train";
            size_t time = e + 1 == LENGTH && later ? 100000 + u : 50 * u + e;
            at += 1 + (rng_below(&rng, 4) == 0);
            uint64_t item = (e + 1 == LENGTH ? at + test_shift : at) % ITEMS;
            bytes_printf(&text, "u%zu,i%llu,%d,%zu,%s\n", u, (unsigned long long)item,
                         (int)(1 + rng_below(&rng, 5)), time, part);
        }
    }
    assert_false(text.failed);
    assert_int_equal(file_write(path, text.data, text.count, NULL), AKIN_OK);
    bytes_deinit(&text);
}

static void settings_of(struct akin_evaluate_settings *settings)
{
    evaluate_settings_default(settings);
    settings->split = path;
    settings->recs = recs;
}

static void run(int threads, const struct akin_evaluate_settings *settings,
                struct akin_evaluation *e, struct bytes *written)
{
    struct thread_pool *pool = thread_pool_create(threads);
    struct backend *backend;
    struct akin_error error;
    assert_int_equal(cpu_backend_create(cpu_detect(), pool, &backend, NULL), AKIN_OK);
    enum akin_status status = evaluate(backend, NULL, NULL, settings, e, &error);
    if (status != AKIN_OK)
        fail_msg("%s", error.message);
    e->learn_seconds = e->judge_seconds = 0;
    *written = (struct bytes){ 0 };
    if (settings->recs)
        assert_int_equal(file_read(settings->recs, 1 << 24, written, NULL), AKIN_OK);
    cpu_backend_destroy(&backend);
    thread_pool_destroy(&pool);
}

static void what_comes_next_is_found(void **state)
{
    (void)state;
    struct akin_evaluate_settings settings;
    struct akin_evaluation e;
    struct bytes written;
    settings_of(&settings);
    write_stream(false, 0);
    run(2, &settings, &e, &written);
    bytes_deinit(&written);
    assert_int_equal(e.judged, USERS);
    assert_int_equal(e.learned_events, USERS * (LENGTH - 1));
    assert_false(e.later);
    assert_false(e.text);
    const struct akin_evaluation_row *ours = &e.rows[e.row_count - 1];
    assert_string_equal(e.rows[0].name, "popularity");
    assert_string_equal(ours->name, e.weights.learned ? "blended, weights learned"
                                                      : "blended without text");
    assert_true(e.weights.points == USERS && e.weights.ndcg_best >= e.weights.ndcg_default);
    assert_true(ours->ndcg.mean > 0.55 && ours->ndcg.mean > 3 * e.rows[0].ndcg.mean);
    assert_true(ours->ndcg.low <= ours->ndcg.mean && ours->ndcg.mean <= ours->ndcg.high);
    assert_true(ours->difference.low > 0);
    settings.valid = true;
    run(1, &settings, &e, &written);
    bytes_deinit(&written);
    assert_int_equal(e.learned_events, USERS * (LENGTH - 2));
    assert_true(e.rows[e.row_count - 1].ndcg.mean > 0.55);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    struct akin_evaluate_settings settings;
    static struct akin_evaluation one, three;
    struct bytes a, b;
    settings_of(&settings);
    for (int later = 0; later < 2; later++) {
        write_stream(later, 0);
        memset(&one, 0, sizeof one);
        memset(&three, 0, sizeof three);
        run(1, &settings, &one, &a);
        run(3, &settings, &three, &b);
        assert_int_equal(one.later, later);
        assert_string_equal(a.data, b.data);
        assert_memory_equal(one.rows, three.rows, sizeof one.rows);
        bytes_deinit(&a);
        bytes_deinit(&b);
    }
}

/* Other choices in test: the same lists, other metrics. */
static void test_rows_teach_nothing(void **state)
{
    (void)state;
    struct akin_evaluate_settings settings;
    struct akin_evaluation e, other;
    struct bytes a, b;
    settings_of(&settings);
    for (int later = 0; later < 2; later++) {
        write_stream(later, 0);
        run(2, &settings, &e, &a);
        write_stream(later, 13);
        run(2, &settings, &other, &b);
        assert_string_equal(a.data, b.data);
        assert_true(e.rows[e.row_count - 1].ndcg.mean != other.rows[e.row_count - 1].ndcg.mean);
        bytes_deinit(&a);
        bytes_deinit(&b);
    }
}

static void replays(void **state)
{
    (void)state;
    struct akin_evaluate_settings settings;
    struct akin_evaluation e, again;
    struct bytes none;
    settings_of(&settings);
    settings.recs = NULL;
    settings.replay = true;
    settings.replay_points = 5;
    write_stream(false, 0);
    run(2, &settings, &e, &none);
    run(1, &settings, &again, &none);
    assert_int_equal(e.learned_users, USERS / 2);
    assert_true(e.judged > USERS && e.judged <= USERS / 2 * 5);
    assert_true(e.rows[e.row_count - 1].ndcg.mean > 0.55);
    assert_true(e.rows[e.row_count - 1].ndcg.mean == again.rows[e.row_count - 1].ndcg.mean);
}

static void situations_need_more(void **state)
{
    struct akin_evaluate_settings settings;
    struct akin_evaluation evaluation;
    struct akin_error error;
    (void)state;
    write_stream(false, 0);
    settings_of(&settings);
    settings.context = settings.replay = settings.reranker = true;      /* and no catalogue */
    assert_int_equal(evaluate(NULL, NULL, NULL, &settings, &evaluation, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "catalogue"));
}

static void nothing_to_judge(void **state)
{
    (void)state;
    struct thread_pool *pool = thread_pool_create(1);
    struct backend *backend;
    struct akin_error error;
    struct akin_evaluation e;
    struct akin_evaluate_settings settings;
    settings_of(&settings);
    assert_int_equal(cpu_backend_create(cpu_detect(), pool, &backend, NULL), AKIN_OK);
    const char *const bad[] = {
        "userId,movieId,rating,timestamp,split\n1,2,3,4,train\n",       /* no test */
        "userId,movieId,rating,timestamp,split\n1,2,3,4,test\n",        /* no train */
        "userId,movieId,rating,timestamp,split\n1,2,3,4,train\n1,2,3,4,test\n", /* seen */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(bad[i]);
        assert_int_equal(evaluate(backend, NULL, NULL, &settings, &e, &error), AKIN_ARGUMENT);
        assert_non_null(strstr(error.message, "nothing to judge"));
    }
    /* The smallest that there is. */
    write_text(
        "userId,movieId,rating,timestamp,split\n1,2,3,4,train\n2,3,3,4,train\n1,3,3,5,test\n");
    assert_int_equal(evaluate(backend, NULL, NULL, &settings, &e, &error), AKIN_OK);
    assert_int_equal(e.judged, 1);
    assert_true(e.rows[e.row_count - 1].ndcg.mean == 1);
    cpu_backend_destroy(&backend);
    thread_pool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_splits),
        cmocka_unit_test(bad_splits),
        cmocka_unit_test(what_comes_next_is_found),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(test_rows_teach_nothing),
        cmocka_unit_test(replays),
        cmocka_unit_test(situations_need_more),
        cmocka_unit_test(nothing_to_judge),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
