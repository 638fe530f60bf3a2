/* Requests that explore: nothing changes without, what is drawn is kept with its true probability
 * and paid once, whichever process does what and dies when, and every mistake. */
#include "parts_rig.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "catalog/choice_store.h"
#include "recommend/explore.h"

enum { K = 10, ARMS_MAX = 400, TODAY = 1700000000 };

/* A recommender whose people are kept in a database of its own. */
struct station {
    struct recommender *recommender;
    struct users *users;
    struct explore *explore;
};

static const char *store_path(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s.db", rig_folder, name);
    return path;
}

static struct station open_station(const char *name, uint64_t seed)
{
    struct station s = { 0 };
    struct akin_error error = { 0 };
    const struct kernels *kernels = cpu_kernels(rig_backend);
    must(recommender_open(rig_backend, rig_catalog, &s.recommender, &error), &error);
    struct users_settings live = { .catalog = rig_catalog, .dim = DIM, .kernels = kernels,
                                   .find_vectors = rig_space_vectors,
                                   .vectors_context = s.recommender,
                                   .store_path = store_path(name) };
    users_settings_default(&live.live);
    live.live.max_active_users = 100;
    live.live.durable = false;
    must(users_open(&live, &s.users, &error), &error);
    recommender_use_live(s.recommender, s.users);
    struct explore_settings settings = { kernels, rig_catalog, s.users, seed };
    must(explore_create(&settings, &s.explore, &error), &error);
    recommender_use_explore(s.recommender, s.explore);
    return s;
}

static void close_station(struct station *s)
{
    explore_destroy(&s->explore);
    users_close(&s->users);
    recommender_close(&s->recommender);
}

static struct akin_request exploring(const char *user, size_t k)
{
    struct akin_request request = rig_request(k);
    request.user = user;
    request.explore = true;
    request.now = TODAY;
    return request;
}

static size_t ask(const struct station *s, const struct akin_request *request,
                  struct akin_recommendation *results)
{
    struct akin_error error = { 0 };
    size_t found = 0;
    must(recommend(s->recommender, request, NULL, results, NULL, &found, NULL, &error), &error);
    return found;
}

static void rate(const struct station *s, const char *user, size_t row, float rating)
{
    char item[24];
    struct akin_error error = { 0 };
    snprintf(item, sizeof item, "f%zu", row);
    struct akin_feedback feedback = { user, item, rating, TODAY };
    must(users_update(s->users, &feedback, &error), &error);
}

/* What is known of an arm; zeros where nothing is. */
static struct akin_arm arm_of(const struct station *s, const char *segment, const char *name,
                              int64_t now)
{
    static struct akin_arm arms[ARMS_MAX];
    struct akin_error error = { 0 };
    size_t count;
    must(explore_arms(s->explore, now, arms, ARMS_MAX, &count, &error), &error);
    assert_true(count <= ARMS_MAX);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(arms[i].segment, segment) && !strcmp(arms[i].name, name))
            return arms[i];
    return (struct akin_arm){ 0 };
}

static uint64_t paid_in_all(const struct station *s, int64_t now)
{
    uint64_t paid = 0;
    for (int arm = 0; arm < EXPLORE_ARMS; arm++)
        paid += arm_of(s, "all", explore_arm_name((enum explore_arm)arm), now).rewards;
    return paid;
}

static double number_in(const char *name, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_open(store_path(name), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    double number = sqlite3_column_double(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return number;
}

static void change(const char *name, const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(store_path(name), &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* ---- lists ------------------------------------------------------------------------------ */

static void test_nothing_without(void **state)
{
    (void)state;
    struct akin_recommendation plain[K], beside[K];
    struct station s = open_station("without", 1);
    for (int round = 0; round < 2; round++) {
        struct akin_request request = exploring("p3", K);
        request.explore = false;
        assert_int_equal(rig_ask(&request, plain), K);
        assert_int_equal(ask(&s, &request, beside), K);
        assert_true(rig_same(plain, beside, K));
        assert_null(beside[4].arm);
        request.explore = true;
        ask(&s, &request, beside);      /* and none of it afterwards */
    }
    close_station(&s);
}

static void test_places(void **state)
{
    (void)state;
    struct akin_recommendation plain[2 * K], list[2 * K];
    struct station s = open_station("places", 1);
    struct akin_request request = exploring("p3", K), base = exploring("p3", 2 * K);
    base.explore = false;
    rig_ask(&base, plain);
    for (int round = 0; round < 20; round++) {
        size_t next = 0;
        assert_int_equal(ask(&s, &request, list), K);
        for (size_t i = 0; i < K; i++) {
            assert_true((list[i].arm != NULL) == (i == 4 || i == 9));
            for (size_t j = 0; j < i; j++)
                assert_true(list[i].row != list[j].row);
            if (list[i].arm) {
                assert_true(list[i].propensity >= 0.01f && list[i].propensity <= 1);
                continue;
            }
            while (rig_among(list, i, plain[next].row))
                next++;
            assert_int_equal(list[i].row, plain[next].row);
        }
    }
    assert_true(number_in("places", "SELECT count(*) FROM bandit_choices") == 40);
    assert_true(number_in("places", "SELECT count(*) FROM bandit_choices WHERE arm = 'new'") > 0);
    assert_true(number_in("places", "SELECT count(DISTINCT arm) FROM bandit_choices") >= 4);
    assert_true(number_in("places", "SELECT min(item_share - arm_share * "
                          "CASE arm WHEN 'new' THEN 0.049 ELSE 0.999 END) FROM bandit_choices") >=
                0);
    for (size_t k = 0; k < 30; k++)
        assert_int_equal(explore_places(k), k == 0 ? 0 : k < 10 ? 1 : k / 5);
    assert_int_equal(explore_places(100000), EXPLORE_PLACES_MAX);
    request = exploring("somebody new", 1);
    assert_int_equal(ask(&s, &request, list), 1);
    assert_non_null(list[0].arm);
    for (request.request_number = 1; strcmp(list[0].arm, "new") != 0; request.request_number++)
        ask(&s, &request, list);
    assert_true(catalog_item_ratings(rig_catalog, list[0].row) <= EXPLORE_NEW_RATINGS);
    assert_true(request.request_number < 60);
    request.k = 0;
    assert_int_equal(ask(&s, &request, list), 0);
    request = exploring("p3", 5);
    request.filter = "title=nothing";
    assert_int_equal(ask(&s, &request, list), 0);
    close_station(&s);
}

/* The same seed, user and number: the same list, another day, in another store. */
static void test_repeats(void **state)
{
    (void)state;
    struct station one = open_station("one", 7), two = open_station("two", 7),
                   other = open_station("other", 8);
    size_t differ = 0, users = 0;
    for (uint64_t n = 1; n < 40; n++) {
        struct akin_recommendation a[K], b[K], c[K];
        struct akin_request request = exploring("p5", K);
        request.request_number = n;
        ask(&one, &request, a);
        ask(&one, &request, b);
        assert_true(rig_same(a, b, K));
        request.now += 1000;
        ask(&two, &request, b);
        assert_true(rig_same(a, b, K));
        assert_true(a[4].propensity == b[4].propensity && !strcmp(a[9].arm, b[9].arm));
        ask(&other, &request, c);
        differ += !rig_same(a, c, K);
        request.user = "p6";
        ask(&two, &request, c);
        users += strcmp(a[4].arm, c[4].arm) != 0;
    }
    assert_true(differ > 10 && users > 10);
    assert_true(number_in("one", "SELECT count(*) FROM bandit_choices") == 2 * 39);
    close_station(&one);
    close_station(&two);
    close_station(&other);
}

/* A number that is used again, after something was learned: what was shown last is what is kept,
 * until it is paid. */
static void test_again(void **state)
{
    (void)state;
    char sql[160];
    struct akin_recommendation first[1], last[1];
    struct station s = open_station("again", 1);
    struct akin_request request = exploring("p3", 1);
    request.request_number = 77;
    ask(&s, &request, first);
    for (int i = 0; i < 2; i++) {
        snprintf(sql, sizeof sql, "UPDATE bandit_arms SET alpha = CASE arm = '%s' WHEN 1 THEN 0 "
                 "ELSE 500 END, beta = 500", first[0].arm);
        change("again", sql);
        ask(&s, &request, last);
        assert_true(strcmp(first[0].arm, last[0].arm) != 0);
        snprintf(sql, sizeof sql, "SELECT count(*) + 10 * (arm = '%s') FROM bandit_choices",
                 i ? first[0].arm : last[0].arm);
        assert_true(number_in("again", sql) == 11);
        if (i == 0) {
            rate(&s, "p3", last[0].row, 1);
            assert_int_equal(paid_in_all(&s, TODAY), 1);
            first[0] = last[0];
        }
    }
    assert_true(number_in("again", "SELECT sum(choices) FROM bandit_arms WHERE segment = 'all'") ==
                1);
    close_station(&s);
}

/* ---- rewards ---------------------------------------------------------------------------- */

static void test_paid_once(void **state)
{
    (void)state;
    struct akin_recommendation list[K];
    struct station s = open_station("paid", 1);
    struct akin_request request = exploring("p3", K);
    ask(&s, &request, list);
    rate(&s, "p4", list[4].row, 1);     /* somebody else */
    rate(&s, "p3", list[3].row, 1);     /* something else */
    assert_int_equal(paid_in_all(&s, TODAY), 0);
    rate(&s, "p3", list[4].row, 0.75f);
    rate(&s, "p3", list[4].row, 0.25f);
    for (int again = 0; again < 3; again++) {
        struct akin_arm arm = arm_of(&s, "all", list[4].arm, TODAY);
        assert_true(arm.rewards == 1 && fabs(arm.reward - 0.75) < 1e-6 && arm.choices >= 1);
        assert_true(fabs(arm.alpha - (1 + 8 * 0.75)) < 1e-3 && fabs(arm.beta - 3) < 1e-3);
        assert_int_equal(paid_in_all(&s, TODAY), 1);
        assert_int_equal(arm_of(&s, "some/Comedy", list[4].arm, TODAY).rewards +
                         arm_of(&s, "some/Drama", list[4].arm, TODAY).rewards +
                         arm_of(&s, "some/Action", list[4].arm, TODAY).rewards +
                         arm_of(&s, "some/Western", list[4].arm, TODAY).rewards, 1);
        close_station(&s);
        s = open_station("paid", 1);
    }
    /* what is not rated for a week was not liked, and a rating after that is too late */
    assert_int_equal(paid_in_all(&s, TODAY + EXPLORE_EXPIRES), 1);
    assert_int_equal(paid_in_all(&s, TODAY + EXPLORE_EXPIRES + 1), 2);
    rate(&s, "p3", list[9].row, 1);
    assert_int_equal(paid_in_all(&s, TODAY + EXPLORE_EXPIRES + 1), 2);
    assert_true(number_in("paid", "SELECT sum(reward) FROM bandit_choices") == 0.75);
    close_station(&s);
}

/* A process chooses, says so, and is killed; another rates; a third one knows. */
static void test_killed(void **state)
{
    (void)state;
    enum { ROUNDS = 6 };
    uint64_t expected = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int told[2], status;
        size_t row = 0;
        assert_int_equal(pipe(told), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {       /* the threads of the pool are not here */
            struct akin_recommendation list[K];
            rig_pool = thread_pool_create(1);
            if (cpu_backend_create(cpu_detect(), rig_pool, &rig_backend, NULL) != AKIN_OK)
                _exit(1);
            struct station s = open_station("killed", 1);
            struct akin_request request = exploring("p9", K);
            alarm(60);
            for (;;) {
                ask(&s, &request, list);
                if (write(told[1], &list[4].row, sizeof list[4].row) < 0)
                    _exit(1);
            }
        }
        close(told[1]);
        assert_int_equal(read(told[0], &row, sizeof row), sizeof row);
        usleep((useconds_t)(round * 3000));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        close(told[0]);
        struct station s = open_station("killed", 1);
        uint64_t before = paid_in_all(&s, TODAY);
        assert_int_equal(before, expected);
        char sql[128];
        snprintf(sql, sizeof sql, "SELECT count(*) FROM bandit_choices WHERE item = 'f%zu' AND "
                 "reward IS NULL", row);
        double open = number_in("killed", sql);
        assert_true(open >= 1);         /* what was shown is kept */
        rate(&s, "p9", row, 1);
        close_station(&s);
        s = open_station("killed", 1);
        expected = paid_in_all(&s, TODAY);
        assert_true(expected == before + (uint64_t)open);
        close_station(&s);
    }
}

/* Two recommenders on one store, as two processes have it. */
static void test_both_learn(void **state)
{
    (void)state;
    struct akin_recommendation list[K];
    struct station one = open_station("both", 1), two = open_station("both", 1);
    struct akin_request request = exploring("p3", K);
    for (int i = 0; i < 10; i++) {
        const struct station *asks = i % 2 ? &one : &two, *rates = i % 2 ? &two : &one;
        ask(asks, &request, list);
        rate(rates, "p3", list[4].row, 1);
        rate(asks, "p3", list[9].row, 0);
    }
    assert_int_equal(paid_in_all(&one, TODAY), 20);
    assert_int_equal(paid_in_all(&two, TODAY), 20);
    assert_true(number_in("both", "SELECT sum(rewards) FROM bandit_arms WHERE segment <> 'all'") ==
                20);
    close_station(&one);
    close_station(&two);
}

static void explore_often(void *context, size_t begin, size_t end, int worker)
{
    const struct station *s = context;
    (void)worker;
    for (size_t i = begin; i < end; i++) {
        struct akin_recommendation list[K];
        struct akin_request request = exploring("p7", K);
        size_t found;
        assert_int_equal(recommend(s->recommender, &request, NULL, list, NULL, &found, NULL,
                                   NULL), AKIN_OK);
    }
}

static void test_threads(void **state)
{
    (void)state;
    struct station s = open_station("threads", 1);
    struct thread_pool *pool = thread_pool_create(4);
    thread_pool_run(pool, 60, explore_often, &s);
    assert_true(number_in("threads", "SELECT count(*) FROM bandit_choices") == 120);
    assert_true(number_in("threads", "SELECT count(DISTINCT request) FROM bandit_choices") == 60);
    assert_true(number_in("threads", "SELECT sum(choices) FROM bandit_arms WHERE segment = 'all'")
                == 120);
    thread_pool_destroy(&pool);
    close_station(&s);
}

/* ---- what it is for --------------------------------------------------------------------- */

/* A made-up truth: what people give items that an arm proposed. Weighed with inverse propensities,
 * the rewards of the one list that was shown tell what each arm gives, whatever was drawn. */
static void test_unbiased(void **state)
{
    (void)state;
    enum { REQUESTS = 1500 };
    static const float truth[EXPLORE_ARMS] = { 0.5f, 0.3f, 0.6f, 0.2f, 0.9f };
    double weights[EXPLORE_ARMS] = { 0 }, sums[EXPLORE_ARMS] = { 0 }, squares[EXPLORE_ARMS] = { 0 },
           spread[EXPLORE_ARMS] = { 0 }, late[EXPLORE_ARMS] = { 0 };
    struct station s = open_station("unbiased", 1);
    struct rng rng;
    rng_seed(&rng, 5);
    for (int n = 0; n < REQUESTS; n++) {
        struct akin_recommendation list[1];
        char user[16];
        int arm = 0;
        snprintf(user, sizeof user, "p%d", n % PEOPLE);
        struct akin_request request = exploring(user, 1);
        assert_int_equal(ask(&s, &request, list), 1);
        while (strcmp(explore_arm_name((enum explore_arm)arm), list[0].arm) != 0)
            arm++;
        float reward = rng_float(&rng) < truth[arm];
        double weight = 1 / (double)list[0].propensity;
        weights[arm] += weight / REQUESTS;
        squares[arm] += weight * weight / REQUESTS;
        sums[arm] += (double)reward * weight / REQUESTS;
        spread[arm] += (double)reward * weight * weight / REQUESTS;
        late[arm] += n >= REQUESTS / 2;
        rate(&s, user, list[0].row, reward);
    }
    for (int arm = 0; arm < EXPLORE_ARMS; arm++) {
        double error = sqrt(fmax(squares[arm] - 1, 0.01) / REQUESTS);
        assert_true(fabs(weights[arm] - 1) < 3.5 * error);
        error = sqrt((spread[arm] - sums[arm] * sums[arm]) / REQUESTS);
        assert_true(fabs(sums[arm] - (double)truth[arm]) < 3.5 * error && error < 0.4);
        assert_true(arm == ARM_NEW || late[arm] < late[ARM_NEW] / 2);
    }
    assert_true(late[ARM_NEW] > REQUESTS / 2 * 0.6);    /* and the best arm is found */
    assert_true(arm_of(&s, "all", "new", TODAY).share > 0.5);
    close_station(&s);
}

/* A segment that is new starts with a little of what others taught. */
static void test_borrows(void **state)
{
    (void)state;
    struct akin_recommendation list[1];
    struct station s = open_station("borrows", 1);
    struct akin_request request = exploring("p3", 1);
    ask(&s, &request, list);
    change("borrows", "UPDATE bandit_arms SET alpha = 90, beta = 10 WHERE arm = 'taste'");
    request.user = "nobody knows";
    ask(&s, &request, list);
    struct akin_arm arm = arm_of(&s, "new/none", "taste", TODAY);
    assert_true(fabs(arm.alpha - (1 + 0.9 * 32)) < 1e-6 && fabs(arm.beta - (1 + 0.1 * 32)) < 1e-6);
    close_station(&s);
}

static void test_segments(void **state)
{
    (void)state;
    char segment[64];
    const uint32_t rows[] = { 0, 4, 1 };        /* Drama, Drama, Comedy */
    const float weights[] = { 0.4f, 0.3f, 0.5f };
    struct station s = open_station("segments", 1);
    explore_segment(s.explore, rows, weights, 3, 3, segment);
    assert_string_equal(segment, "few/Drama");
    explore_segment(s.explore, rows + 2, weights, 1, 200, segment);
    assert_string_equal(segment, "many/Comedy");
    explore_segment(s.explore, NULL, NULL, 0, 0, segment);
    assert_string_equal(segment, "new/none");
    close_station(&s);
}

/* ---- limits and mistakes ---------------------------------------------------------------- */

static void test_bounded(void **state)
{
    (void)state;
    struct akin_recommendation list[1];
    struct station s = open_station("bounded", 1);
    struct akin_request request = exploring("p3", 1);
    ask(&s, &request, list);
    change("bounded", "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
           "100050) INSERT INTO bandit_choices(user, request, place, item, segment, arm, "
           "arm_share, item_share, timestamp, reward) SELECT 'x', 1000 + i, 1, 'f1', 'few/Drama', "
           "CASE i WHEN 7 THEN 'no such arm' ELSE 'text' END, 0.5, 0.5, 1700000000, "
           "CASE i > 60 WHEN 1 THEN 0.5 END FROM n");
    assert_int_equal(paid_in_all(&s, TODAY), 51 - 1);   /* the rest is there, or nobody's */
    assert_true(number_in("bounded", "SELECT count(*) FROM bandit_choices") == CHOICES_KEPT);
    ask(&s, &request, list);
    assert_true(number_in("bounded", "SELECT count(*) FROM bandit_choices") <= CHOICES_KEPT + 1);
    close_station(&s);
}

static void refused(const struct recommender *r, const struct akin_request *request,
                    enum akin_status status, const char *word)
{
    struct akin_recommendation list[K];
    struct akin_error error = { 0 };
    size_t found = 0;
    assert_int_equal(recommend(r, request, NULL, list, NULL, &found, NULL, &error), status);
    if (!strstr(error.message, word))
        fail_msg("%s: without \"%s\"", error.message, word);
}

static void test_refused(void **state)
{
    (void)state;
    char longest[300];
    struct station s = open_station("refused", 1);
    struct akin_request request = exploring("p3", K);
    refused(rig, &request, AKIN_ARGUMENT, "store");
    request.ranking = AKIN_RANK_VECTORS;
    refused(s.recommender, &request, AKIN_ARGUMENT, "parts");
    request.ranking = AKIN_RANK_AUTO;
    request.now = -1;
    refused(s.recommender, &request, AKIN_ARGUMENT, "now");
    request.now = TODAY;
    memset(longest, 'x', sizeof longest);
    longest[257] = 0;
    const char *const users[] = { NULL, "", longest, "\xff" };
    for (size_t i = 0; i < 4; i++) {
        request.user = users[i];
        request.similar = "f1";
        refused(s.recommender, &request, AKIN_ARGUMENT, "user");
    }
    longest[256] = 0;
    request = exploring(longest, K);
    struct akin_recommendation list[K];
    ask(&s, &request, list);
    close_station(&s);
}

/* A damaged or a newer store, and one that somebody else holds: said, and nothing is changed. */
static void test_bad_store(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *word;
        enum akin_status status;
    } damage[] = {
        { "UPDATE bandit_meta SET version = 2", "newer", AKIN_UNSUPPORTED },
        { "UPDATE bandit_meta SET version = 0", "version 0", AKIN_FORMAT },
        { "DELETE FROM bandit_meta WHERE 0; UPDATE bandit_arms SET alpha = -1", "evidence",
          AKIN_FORMAT },
        { "UPDATE bandit_arms SET beta = 9e999", "evidence", AKIN_FORMAT },
        { "UPDATE events SET rating = 7", "rating", AKIN_FORMAT },
        { "DROP TABLE bandit_arms; CREATE TABLE bandit_arms(x)", "as akin makes it", AKIN_FORMAT },
    };
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        char name[16];
        struct akin_recommendation list[K];
        struct akin_request request = exploring("p3", K);
        snprintf(name, sizeof name, "bad%zu", i);
        struct station s = open_station(name, 1);
        ask(&s, &request, list);
        if (damage[i].word[0] == 'r') {
            rate(&s, "p3", list[4].row, 1);
            ask(&s, &request, list);
            rate(&s, "p3", list[4].row, 1);
        }
        close_station(&s);
        change(name, damage[i].sql);
        s = open_station(name, 1);
        request.user = damage[i].word[0] == 'r' ? "p4" : "p3";
        double before = number_in(name, "SELECT count(*) FROM bandit_choices");
        refused(s.recommender, &request, damage[i].status, damage[i].word);
        assert_true(number_in(name, "SELECT count(*) FROM bandit_choices") == before);
        request.explore = false;        /* the rest goes on */
        if (damage[i].word[0] != 'r')
            assert_int_equal(ask(&s, &request, list), K);
        close_station(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_without), cmocka_unit_test(test_places),
        cmocka_unit_test(test_repeats),         cmocka_unit_test(test_paid_once),
        cmocka_unit_test(test_killed),          cmocka_unit_test(test_both_learn),
        cmocka_unit_test(test_threads),         cmocka_unit_test(test_unbiased),
        cmocka_unit_test(test_borrows),         cmocka_unit_test(test_segments),
        cmocka_unit_test(test_bounded),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bad_store),
        cmocka_unit_test(test_again),
    };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
