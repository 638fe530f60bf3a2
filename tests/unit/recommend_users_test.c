/* Live users: the fold against a plain one, who leaves and comes back bit for bit, nothing lost
 * among threads, processes and kills, and every mistake. */
#include "live_rig.h"

#include "base/cpu.h"
#include "compute/cpu/kernels.h"
#include "recommend/users.h"

enum { DIM = 23, MANY = 2000 };

static struct kernels kernels;
static float vectors[RIG_ITEMS * DIM];

static struct users_settings settings(const char *path, size_t most)
{
    struct users_settings s = { .catalog = rig_catalog, .vectors = vectors, .dim = DIM,
                                .kernels = &kernels, .store_path = path };
    users_settings_default(&s.live);
    s.live.max_active_users = most;
    s.live.store = path != NULL;
    s.live.durable = false;
    return s;
}

static struct users *open_with(const struct users_settings *s)
{
    struct akin_error error = { 0 };
    struct users *users = NULL;
    must(users_open(s, &users, &error), &error);
    return users;
}

static struct users *open_users(const char *path, size_t most)
{
    struct users_settings s = settings(path, most);
    return open_with(&s);
}

static void rate(struct users *users, const char *user, const char *item, float rating,
                 int64_t timestamp)
{
    struct akin_feedback feedback = { user, item, rating, timestamp };
    struct akin_error error = { 0 };
    must(users_update(users, &feedback, &error), &error);
}

static void get(struct users *users, const char *user, struct user_profile *profile)
{
    struct akin_error error = { 0 };
    must(users_read(users, user, profile, &error), &error);
}

static bool same_profile(const struct user_profile *a, const struct user_profile *b)
{
    return a->count == b->count && a->live == b->live && a->recent_count == b->recent_count &&
           a->seen_count == b->seen_count &&
           !memcmp(a->recent, b->recent, a->recent_count * sizeof *a->recent) &&
           !memcmp(a->fast, b->fast, DIM * sizeof *a->fast) &&
           !memcmp(a->slow, b->slow, DIM * sizeof *a->slow) &&
           (a->seen_count == 0 ||
            !memcmp(a->seen, b->seen, a->seen_count * sizeof *a->seen));
}

/* Both know the same of a user. */
static void same_user(struct users *a, struct users *b, const char *user)
{
    struct user_profile x, y;
    assert_true(user_profile_init(&x, DIM) && user_profile_init(&y, DIM));
    get(a, user, &x);
    get(b, user, &y);
    if (!same_profile(&x, &y))
        fail_msg("user %s: %llu and %llu ratings, %llu and %llu of them live", user,
                 (unsigned long long)x.count, (unsigned long long)y.count,
                 (unsigned long long)x.live, (unsigned long long)y.live);
    user_profile_deinit(&x);
    user_profile_deinit(&y);
}

/* Event n of the sequence that tests use: who, what, how good. */
static struct akin_feedback feedback_at(uint64_t n, size_t people, char *names)
{
    uint64_t mixed = n * 0x9e3779b97f4a7c15u >> 20;
    snprintf(names, 32, mixed % 5 ? "u%zu" : "c%zu", (size_t)(mixed / 7 % people));
    snprintf(names + 32, 32, "i%d", (int)(mixed / 1009 % RIG_ITEMS));
    return (struct akin_feedback){ names, names + 32, (float)(mixed % 11) / 10, (int64_t)n };
}

static void play(struct users *users, uint64_t first, uint64_t end, size_t people)
{
    char names[64];
    struct akin_error error = { 0 };
    for (uint64_t n = first; n < end; n++) {
        struct akin_feedback feedback = feedback_at(n, people, names);
        must(users_update(users, &feedback, &error), &error);
    }
}

static void same_people(struct users *a, struct users *b, size_t people)
{
    char name[32];
    for (size_t i = 0; i < people; i++) {
        snprintf(name, sizeof name, "u%zu", i);
        same_user(a, b, name);
        snprintf(name, sizeof name, "c%zu", i);
        same_user(a, b, name);
    }
}

/* Rows of a table of a database; 0 also where a kill came before the table. */
static uint64_t rows_in(const char *path, const char *table)
{
    char sql[64];
    sqlite3 *db = NULL;
    sqlite3_stmt *count = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    uint64_t rows = 0;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    if (sqlite3_prepare_v2(db, sql, -1, &count, NULL) == SQLITE_OK &&
        sqlite3_step(count) == SQLITE_ROW)
        rows = (uint64_t)sqlite3_column_int64(count, 0);
    sqlite3_finalize(count);
    sqlite3_close(db);
    return rows;
}

/* ---- the fold --------------------------------------------------------------------------- */

/* The formula of users.h in double; a rating is on the 0-1 scale. */
static void plain_step(double *u, double rate, uint64_t t, uint32_t row, double rating)
{
    double a = 1.0 / (double)t > rate ? 1.0 / (double)t : rate;
    for (int d = 0; d < DIM; d++)
        u[d] = (1 - a) * u[d] + a * rating * (double)vectors[row * DIM + d];
}

static void near_plain(const float *u, const double *plain)
{
    for (int d = 0; d < DIM; d++)
        assert_true(fabs((double)u[d] - plain[d]) < 1e-5);
}

static void test_formula(void **state)
{
    struct users *users = open_users(NULL, 10);
    struct user_profile p;
    double fast[DIM] = { 0 }, slow[DIM] = { 0 };
    size_t user, rated;
    (void)state;
    assert_true(user_profile_init(&p, DIM));
    must(catalog_find_user(rig_catalog, "c2", &user, NULL), NULL);
    const struct akin_rating *ratings = catalog_user_ratings(rig_catalog, user, &rated);
    assert_int_equal(rated, RIG_RATED);
    for (uint64_t t = 1; t <= rated; t++) {
        plain_step(fast, 0.3, t, ratings[t - 1].row, ratings[t - 1].rating / 5);
        plain_step(slow, 0.02, t, ratings[t - 1].row, ratings[t - 1].rating / 5);
    }
    get(users, "c2", &p);
    near_plain(p.fast, fast);
    near_plain(p.slow, slow);
    assert_int_equal(p.count, rated);
    assert_int_equal(p.live, 0);
    assert_int_equal(p.seen_count, 0);
    assert_int_equal(p.recent_count, USER_RECENT);
    assert_int_equal(p.recent[USER_RECENT - 1].row, ratings[rated - 1].row);
    assert_true(p.recent[0].rating == ratings[rated - USER_RECENT].rating / 5);
    for (uint64_t i = 0; i < 30; i++) {
        char item[16];
        snprintf(item, sizeof item, "i%d", (int)(i % 20));
        rate(users, "c2", item, 0.75f, 5000 + (int64_t)i);
        plain_step(fast, 0.3, rated + i + 1, (uint32_t)(i % 20), 0.75);
        plain_step(slow, 0.02, rated + i + 1, (uint32_t)(i % 20), 0.75);
        get(users, "c2", &p);       /* at once */
        assert_int_equal(p.live, i + 1);
        assert_int_equal(p.count, rated + i + 1);
        near_plain(p.fast, fast);
        near_plain(p.slow, slow);
        assert_int_equal(p.recent[USER_RECENT - 1].timestamp, 5000 + i);
    }
    assert_int_equal(p.seen_count, 20);     /* each once, in order */
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(p.seen[i], i);
    user_profile_deinit(&p);
    users_close(&users);
    assert_null(users);
    users_close(&users);
}

static void test_new_people(void **state)
{
    struct users *users = open_users(NULL, 10);
    struct users_counts counts;
    struct user_profile p;
    char long_name[USER_NAME_BYTES_MAX + 2];
    (void)state;
    assert_true(user_profile_init(&p, DIM));
    get(users, "c1", &p);
    get(users, "stranger", &p);             /* an unknown one is empty, and takes no place */
    assert_int_equal(p.count + p.recent_count + p.seen_count + p.live, 0);
    assert_true(p.fast[0] == 0 && p.slow[DIM - 1] == 0);
    memset(long_name, 'n', sizeof long_name);
    long_name[USER_NAME_BYTES_MAX + 1] = 0;
    get(users, long_name, &p);
    get(users, "", &p);
    users_count(users, &counts);
    assert_int_equal(counts.active, 1);
    long_name[USER_NAME_BYTES_MAX] = 0;
    rate(users, long_name, "i7", 1, 0);
    get(users, long_name, &p);
    assert_int_equal(p.count, 1);           /* the first rating counts in full */
    assert_memory_equal(p.fast, vectors + 7 * DIM, DIM * sizeof *p.fast);
    assert_memory_equal(p.slow, vectors + 7 * DIM, DIM * sizeof *p.slow);
    user_profile_deinit(&p);
    users_close(&users);
}

static void test_history_folds_alike(void **state)
{
    struct users *users = open_users(NULL, 10);
    struct user_profile p, q;
    size_t user, rated;
    (void)state;
    assert_true(user_profile_init(&p, DIM) && user_profile_init(&q, DIM));
    must(catalog_find_user(rig_catalog, "c4", &user, NULL), NULL);
    const struct akin_rating *ratings = catalog_user_ratings(rig_catalog, user, &rated);
    must(users_fold(users, ratings, rated, 5, &p, NULL), NULL);
    get(users, "c4", &q);
    assert_true(same_profile(&p, &q));
    must(users_fold(users, ratings, 3, 5, &p, NULL), NULL);
    assert_int_equal(p.recent_count, 3);
    must(users_fold(users, NULL, 0, 5, &p, NULL), NULL);
    assert_int_equal(p.count, 0);
    user_profile_deinit(&p);
    user_profile_deinit(&q);
    users_close(&users);
}

/* ---- mistakes --------------------------------------------------------------------------- */

static void test_mistakes(void **state)
{
    static char too_long[USER_NAME_BYTES_MAX + 2];
    memset(too_long, 'n', sizeof too_long - 1);
    const struct {
        struct akin_feedback feedback;
        enum akin_status status;
        const char *field;
    } wrong[] = {
        { { "u", "i400", 0.5f, 0 }, AKIN_NOT_FOUND, "item" },
        { { "u", "", 0.5f, 0 }, AKIN_NOT_FOUND, "item" },
        { { "u", NULL, 0.5f, 0 }, AKIN_ARGUMENT, "item" },
        { { "", "i1", 0.5f, 0 }, AKIN_ARGUMENT, "user" },
        { { NULL, "i1", 0.5f, 0 }, AKIN_ARGUMENT, "user" },
        { { too_long, "i1", 0.5f, 0 }, AKIN_ARGUMENT, "user" },
        { { "\xff", "i1", 0.5f, 0 }, AKIN_ARGUMENT, "user" },
        { { "u", "i1", -0.01f, 0 }, AKIN_ARGUMENT, "rating" },
        { { "u", "i1", 1.01f, 0 }, AKIN_ARGUMENT, "rating" },
        { { "u", "i1", NAN, 0 }, AKIN_ARGUMENT, "rating" },
        { { "u", "i1", INFINITY, 0 }, AKIN_ARGUMENT, "rating" },
        { { "u", "i1", 0.5f, -1 }, AKIN_ARGUMENT, "timestamp" },
        { { "u", "i1", 0.5f, 1700000000000 }, AKIN_ARGUMENT, "timestamp" },
    };
    (void)state;
    for (int stored = 0; stored < 2; stored++) {
        const char *path = stored ? rig_store("mistakes") : NULL;
        struct users *users = open_users(path, 10);
        struct akin_feedback batch[3] = { { "u", "i1", 0, 0 }, { "u", "i2", 1, 0 } };
        struct akin_error error = { 0 };
        struct user_profile p;
        size_t refused;
        assert_true(user_profile_init(&p, DIM));
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            assert_int_equal(users_update(users, &wrong[i].feedback, &error), wrong[i].status);
            assert_non_null(strstr(error.message, wrong[i].field));
            assert_int_equal(users_update(users, &wrong[i].feedback, NULL), wrong[i].status);
            batch[2] = wrong[i].feedback;
            assert_int_equal(users_update_batch(users, batch, 3, &refused, &error),
                             wrong[i].status);
            assert_int_equal(refused, 2);
            assert_non_null(strstr(error.message, "feedback 2: "));
            assert_non_null(strstr(error.message, wrong[i].field));
        }
        assert_true(!stored || !path_exists(path));
        get(users, "u", &p);
        assert_int_equal(p.count, 0);
        must(users_update_batch(users, batch, 2, &refused, &error), &error);
        must(users_update_batch(users, NULL, 0, &refused, &error), &error);
        get(users, "u", &p);
        assert_int_equal(p.count, 2);
        user_profile_deinit(&p);
        users_close(&users);
    }
}

static void refuses(struct users_settings s, enum akin_status status, const char *words)
{
    struct akin_error error = { 0 };
    struct users *users = NULL;
    assert_int_equal(users_open(&s, &users, &error), status);
    assert_null(users);
    if (!strstr(error.message, words))
        fail_msg("\"%s\" does not say \"%s\"", error.message, words);
}

static void test_settings(void **state)
{
    struct users_settings s = settings(NULL, 1), bad;
    const float rates[] = { 0, -1, 1.5f, NAN, INFINITY };
    (void)state;
    struct users *users = open_with(&s);
    users_close(&users);
    bad = settings(NULL, 0);
    refuses(bad, AKIN_ARGUMENT, "max_active_users");
    bad = settings(NULL, USERS_ACTIVE_MAX + 1);
    refuses(bad, AKIN_ARGUMENT, "max_active_users");
    for (size_t i = 0; i < 5; i++) {
        bad = s;
        bad.live.fast_rate = rates[i];
        refuses(bad, AKIN_ARGUMENT, "fast_rate");
        bad = s;
        bad.live.slow_rate = rates[i];
        refuses(bad, AKIN_ARGUMENT, "slow_rate");
    }
    const char *path = rig_store("rubbish");
    must(file_write(path, "no database at all, not even nearly", 35, NULL), NULL);
    bad = settings(path, 5);
    refuses(bad, AKIN_FORMAT, "rubbish.db");
}

/* ---- leaving and coming back ------------------------------------------------------------ */

static void test_order_of_use(void **state)
{
    struct users *users = open_users(NULL, 3);
    struct users_counts counts;
    struct user_profile p;
    (void)state;
    assert_true(user_profile_init(&p, DIM));
    rate(users, "a", "i1", 1, 0);
    rate(users, "b", "i1", 1, 0);
    rate(users, "c", "i1", 1, 0);
    get(users, "a", &p);                    /* now b is the one used longest ago */
    rate(users, "d", "i1", 1, 0);
    users_count(users, &counts);
    assert_int_equal(counts.active, 3);
    assert_int_equal(counts.evictions, 1);
    get(users, "b", &p);
    assert_int_equal(p.count, 0);           /* nothing is kept, and asking takes no place */
    get(users, "a", &p);
    assert_int_equal(p.count, 1);
    rate(users, "e", "i1", 1, 0);
    get(users, "c", &p);
    assert_int_equal(p.count, 0);
    get(users, "d", &p);
    assert_int_equal(p.count, 1);
    for (int i = 0; i < 500; i++) {         /* the map stays right however many come and go */
        char name[16];
        snprintf(name, sizeof name, "n%d", i * 7 % 90);
        rate(users, name, "i2", 1, 0);
        get(users, name, &p);
        assert_true(p.count >= 1);
    }
    users_count(users, &counts);
    assert_int_equal(counts.active, 3);
    user_profile_deinit(&p);
    users_close(&users);
}

enum { PEOPLE = 60, LONG = 12000 };

/* Few places, many people, updates and questions mixed: as if all had been active all the time. */
static void test_return_bit_equal(void **state)
{
    const char *path = rig_store("return");
    struct users *small = open_users(path, 20), *all = open_users(NULL, 1000);
    struct users_counts counts;
    struct akin_error error = { 0 };
    (void)state;
    for (uint64_t n = 0; n < LONG; n += LONG / 8) {
        play(small, n, n + LONG / 8, PEOPLE);
        play(all, n, n + LONG / 8, PEOPLE);
        same_people(small, all, PEOPLE);
    }
    users_count(small, &counts);
    assert_int_equal(counts.active, 20);
    assert_true(counts.evictions > PEOPLE);
    assert_true(rows_in(path, "states") > 0);
    must(users_checkpoint(small, &error), &error);
    users_close(&small);
    small = open_users(path, 1000);         /* all from states and a few events */
    same_people(small, all, PEOPLE);
    play(small, LONG, LONG + 100, PEOPLE);
    play(all, LONG, LONG + 100, PEOPLE);
    same_people(small, all, PEOPLE);
    users_close(&small);
    rig_sql(path, "UPDATE states SET state = zeroblob(length(state)) WHERE user % 3 = 0");
    rig_sql(path, "UPDATE states SET state = x'0102' WHERE user % 3 = 1");
    small = open_users(path, 7);            /* from the events alone */
    same_people(small, all, PEOPLE);
    users_close(&small);
    users_close(&all);
    struct users_settings s = settings(path, 100), none = settings(NULL, 1000);
    s.live.fast_rate = none.live.fast_rate = 0.5f;
    small = open_with(&s);                  /* states of another rate are not taken for these */
    all = open_with(&none);
    play(all, 0, LONG + 100, PEOPLE);
    same_people(small, all, PEOPLE);
    users_close(&small);
    vectors[5] += 1;                        /* nor those of other vectors */
    small = open_users(path, 100);
    users_close(&all);
    all = open_users(NULL, 1000);
    play(all, 0, LONG + 100, PEOPLE);
    same_people(small, all, PEOPLE);
    vectors[5] -= 1;
    users_close(&small);
    users_close(&all);
}

/* What a user takes does not depend on how many there are besides. */
static void test_memory_is_of_the_active(void **state)
{
    struct users *users = open_users(rig_store("memory"), 100);
    struct users_counts before, after;
    struct user_profile p;
    struct akin_feedback *batch = memory_alloc(MANY, sizeof *batch);
    char (*people)[16] = memory_alloc(MANY, sizeof *people);
    (void)state;
    assert_true(batch && people && user_profile_init(&p, DIM));
    users_count(users, &before);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < MANY; i++) {
            snprintf(people[i], sizeof people[i], "p%d", round * MANY + i);
            batch[i] = (struct akin_feedback){ people[i], "i3", 1, 0 };
        }
        must(users_update_batch(users, batch, MANY, NULL, NULL), NULL);
        get(users, people[round], &p);
        assert_int_equal(p.count, 1);
    }
    users_count(users, &after);
    assert_int_equal(before.block_bytes, after.block_bytes);
    assert_true(after.used_bytes < before.used_bytes + before.block_bytes);
    assert_true(after.active <= 100);
    memory_free(batch);
    memory_free(people);
    user_profile_deinit(&p);
    users_close(&users);
}

static void test_updates_allocate_nothing(void **state)
{
    struct users *users = open_users(NULL, 100);
    struct user_profile p;
    (void)state;
    assert_true(user_profile_init(&p, DIM));
    play(users, 0, 3000, 80);
    get(users, "u1", &p);
    uint64_t before = memory_allocations();
    play(users, 0, 3000, 80);
    get(users, "u1", &p);
    assert_int_equal(memory_allocations(), before);
    user_profile_deinit(&p);
    users_close(&users);
}

/* ---- together --------------------------------------------------------------------------- */

enum { THREADS = 4, EACH = 500 };

struct rater {
    struct users *users;
    int number;
    bool ok;
};

/* Item vectors are constant over their dimensions, so a torn vector shows. */
static bool whole_vector(const float *u)
{
    bool whole = true;
    for (int d = 1; d < DIM; d++)
        whole &= u[d] == u[0];
    return whole;
}

static void rate_one(void *context)
{
    struct rater *r = context;
    char item[16], own[16];
    struct user_profile p;
    uint64_t last = 0;
    r->ok = user_profile_init(&p, DIM);
    snprintf(own, sizeof own, "own%d", r->number);
    for (int i = 0; i < EACH && r->ok; i++) {
        snprintf(item, sizeof item, "i%d", (i * THREADS + r->number) % RIG_ITEMS);
        struct akin_feedback shared = { "shared", item, 0.5f, i }, mine = { own, item, 1, i };
        r->ok = users_update(r->users, &shared, NULL) == AKIN_OK &&
                users_update(r->users, &mine, NULL) == AKIN_OK &&
                users_read(r->users, "shared", &p, NULL) == AKIN_OK && whole_vector(p.fast) &&
                whole_vector(p.slow) && p.count > last &&
                p.recent_count == (p.count < USER_RECENT ? p.count : USER_RECENT);
        last = p.count;
    }
    user_profile_deinit(&p);
}

static void check_together(const char *path, size_t most)
{
    struct users *users = open_users(path, most);
    struct rater raters[THREADS];
    struct thread *threads[THREADS];
    struct user_profile p;
    assert_true(user_profile_init(&p, DIM));
    for (int i = 0; i < THREADS; i++) {
        raters[i] = (struct rater){ users, i, false };
        threads[i] = thread_start(rate_one, &raters[i], false);
        assert_non_null(threads[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        thread_join(&threads[i]);
        assert_true(raters[i].ok);
    }
    get(users, "shared", &p);
    assert_int_equal(p.count, THREADS * EACH);
    assert_int_equal(p.seen_count, RIG_ITEMS);
    get(users, "own2", &p);
    assert_int_equal(p.count, EACH);
    if (path) {
        struct users *fresh = open_users(path, 50);     /* the same bits from the events */
        same_user(users, fresh, "shared");
        same_user(users, fresh, "own0");
        users_close(&fresh);
    }
    user_profile_deinit(&p);
    users_close(&users);
}

static void constant_vectors(float *kept)
{
    memcpy(kept, vectors, sizeof vectors);
    for (int i = 0; i < RIG_ITEMS; i++)
        for (int d = 0; d < DIM; d++)
            vectors[i * DIM + d] = (float)(i % 50) / 50;
}

static void test_threads_lose_nothing(void **state)
{
    static float kept[RIG_ITEMS * DIM];
    (void)state;
    constant_vectors(kept);
    check_together(NULL, 2000);
    check_together(rig_store("together"), 2000);
    check_together(rig_store("crowded"), 2);        /* people leave all the time */
    memcpy(vectors, kept, sizeof vectors);
}

/* Another process rates: who is active here moves as well, and both end with the same bits. */
static void test_processes(void **state)
{
    const char *path = rig_store("two");
    struct users *users = open_users(path, 100);
    (void)state;
    play(users, 0, 50, 10);
    users_close(&users);
    pid_t child = fork();
    if (child == 0) {
        struct users *other = open_users(path, 3);
        play(other, 1000, 1300, 10);
        users_close(&other);
        _exit(0);
    }
    users = open_users(path, 100);
    struct users *fresh;
    for (uint64_t n = 2000; n < 2300; n += 100) {
        play(users, n, n + 100, 10);
        fresh = open_users(path, 100);
        users_close(&fresh);
    }
    assert_int_equal(rig_wait(child), 0);
    usleep(30000);
    fresh = open_users(path, 100);
    same_people(users, fresh, 10);
    users_close(&fresh);
    users_close(&users);
}

/* ---- kills ------------------------------------------------------------------------------ */

/* Rates until killed, with few places and questions between, and says what is acknowledged. */
static void rate_for_ever(const char *path, uint64_t n, int acks, uint64_t seed)
{
    struct users *users = open_users(path, 6);
    struct user_profile p;
    struct rng rng;
    char names[40][64];
    struct akin_feedback batch[40];
    rng_seed(&rng, seed);
    if (!user_profile_init(&p, DIM))
        _exit(4);
    for (;;) {
        size_t count = 1 + (size_t)rng_below(&rng, 40);
        for (size_t i = 0; i < count; i++)
            batch[i] = feedback_at(n + i, PEOPLE, names[i]);
        if (users_update_batch(users, batch, count, NULL, NULL) != AKIN_OK)
            _exit(5);
        n += count;
        if (write(acks, &n, sizeof n) != sizeof n)
            _exit(6);
        for (size_t i = 0; i < count; i += 5)
            if (users_read(users, batch[i].user, &p, NULL) != AKIN_OK)
                _exit(7);
    }
}

static void test_killed_at_any_moment(void **state)
{
    const char *path = rig_store("killed");
    struct users *reference = open_users(NULL, 1000);
    struct rng rng;
    uint64_t there = 0;
    (void)state;
    rng_seed(&rng, 29);
    for (int trial = 0; trial < 10; trial++) {
        int acks[2];
        assert_int_equal(pipe(acks), 0);
        pid_t child = fork();
        if (child == 0)
            rate_for_ever(path, there, acks[1], (uint64_t)trial);
        close(acks[1]);
        uint64_t acknowledged =
            rig_kill(child, acks[0], rng_below(&rng, 30), rng_below(&rng, 3000));
        uint64_t now = path_exists(path) ? rows_in(path, "events") : 0;
        assert_true(now >= acknowledged && now >= there);
        play(reference, there, now, PEOPLE);
        there = now;
        struct users *back = open_users(path, 30);
        same_people(back, reference, PEOPLE);
        users_close(&back);
    }
    assert_true(there > 100);
    users_close(&reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula), cmocka_unit_test(test_new_people),
        cmocka_unit_test(test_history_folds_alike), cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_settings), cmocka_unit_test(test_order_of_use),
        cmocka_unit_test(test_return_bit_equal), cmocka_unit_test(test_memory_is_of_the_active),
        cmocka_unit_test(test_updates_allocate_nothing), cmocka_unit_test(test_processes),
        cmocka_unit_test(test_killed_at_any_moment), cmocka_unit_test(test_threads_lose_nothing),
    };
    struct rng rng;
    rng_seed(&rng, 4);
    for (size_t i = 0; i < RIG_ITEMS * DIM; i++)
        vectors[i] = rng_normal(&rng) / 4;
    kernels_select(&kernels, cpu_detect());
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
