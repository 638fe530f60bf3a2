/* akin.db: what is acknowledged is there, in order, whoever else writes; and every mistake. */
#include "live_rig.h"

#include <sys/resource.h>

#include "catalog/live_store.h"

enum { BUSY_MS = 3000, SEEN_MAX = 1 << 16 };

/* What a store told and was told. */
struct witness {
    struct live_event events[SEEN_MAX];
    char users[SEEN_MAX][8];
    size_t count;
    const struct live_state *states;
    size_t state_count;
};

static struct witness *witness;

static void saw(void *context, const char *user, const struct live_event *event)
{
    struct witness *w = context;
    if (w->count == SEEN_MAX)
        return;
    snprintf(w->users[w->count], sizeof w->users[0], "%s", user);
    w->events[w->count++] = *event;
}

static bool give_state(void *context, struct live_state *state)
{
    struct witness *w = context;
    if (w->state_count == 0)
        return false;
    *state = w->states[--w->state_count];
    return true;
}

static struct live_settings settings(void)
{
    return (struct live_settings){ .catalog = rig_catalog, .busy_ms = BUSY_MS,
                                   .hooks = { witness, saw, give_state } };
}

static struct live_store *open_at(const char *path)
{
    struct live_settings s = settings();
    struct akin_error error = { 0 };
    struct live_store *store = NULL;
    memset(witness, 0, sizeof *witness);
    must(live_store_open(path, &s, &store, &error), &error);
    return store;
}

/* Event number n (from 1) of the sequence that tests write. */
static struct live_rating rating_at(uint64_t n)
{
    static const char *const users[] = { "ann", "bob", "c0", "Zoë" };
    return (struct live_rating){ users[n * 7 % 11 % 4], (uint32_t)(n * 31 % RIG_ITEMS),
                                 (float)(n % 101) / 100, (int64_t)(1000 + n) };
}

static void append(struct live_store *store, uint64_t first, size_t count)
{
    struct akin_error error = { 0 };
    struct live_rating ratings[256];
    assert_true(count <= 256);
    for (size_t i = 0; i < count; i++)
        ratings[i] = rating_at(first + i);
    must(live_store_append(store, ratings, count, &error), &error);
}

static void check_event(const char *user, const struct live_event *event)
{
    struct live_rating expected = rating_at(event->number);
    assert_string_equal(user, expected.user);
    assert_int_equal(event->row, expected.row);
    assert_true(event->rating == expected.rating);
    assert_int_equal(event->timestamp, expected.timestamp);
}

/* ---- reading back ----------------------------------------------------------------------- */

struct history {
    const char *user;
    struct live_event events[4096];
    size_t count;
    char state[64];
    bool refuse_state;
};

static bool read_state(void *context, const struct live_state *state)
{
    struct history *h = context;
    assert_string_equal(state->user, h->user);
    snprintf(h->state, sizeof h->state, "%llu:%.*s", (unsigned long long)state->number,
             (int)state->count, (const char *)state->bytes);
    return !h->refuse_state;
}

static void read_event(void *context, const struct live_event *event)
{
    struct history *h = context;
    if (h->count < 4096)
        h->events[h->count++] = *event;
}

static bool read_back(struct live_store *store, const char *user, uint64_t fingerprint,
                      struct history *h)
{
    struct akin_error error = { 0 };
    struct live_reader reader = { h, read_state, read_event };
    bool known = false;
    h->user = user;
    h->count = 0;
    h->state[0] = 0;
    must(live_store_read(store, user, fingerprint, &reader, &known, &error), &error);
    return known;
}

static struct history history;

static void test_events_come_back(void **state)
{
    const char *path = rig_store("back");
    struct live_store *store = open_at(path);
    struct live_counts counts;
    (void)state;
    append(store, 1, 1);
    append(store, 2, 200);
    append(store, 202, 0);
    assert_int_equal(witness->count, 201);
    for (size_t i = 0; i < witness->count; i++) {
        assert_int_equal(witness->events[i].number, i + 1);
        check_event(witness->users[i], &witness->events[i]);
    }
    for (int again = 0; again < 2; again++) {
        size_t sum = 0;
        static const char *const users[] = { "ann", "bob", "c0", "Zoë" };
        for (size_t u = 0; u < 4; u++) {
            assert_true(read_back(store, users[u], 1, &history));
            for (size_t i = 0; i < history.count; i++) {
                check_event(users[u], &history.events[i]);
                assert_true(i == 0 || history.events[i].number > history.events[i - 1].number);
            }
            sum += history.count;
        }
        assert_int_equal(sum, 201);
        assert_false(read_back(store, "nobody", 1, &history));
        assert_false(read_back(store, "i1", 1, &history));
        assert_int_equal(live_store_count(store, &counts, NULL), AKIN_OK);
        assert_int_equal(counts.events, 201);
        assert_int_equal(counts.users, 4);
        live_store_close(&store);
        store = open_at(path);
        assert_int_equal(witness->count, 0);
    }
    append(store, 202, 1);
    assert_int_equal(witness->events[0].number, 202);
    live_store_close(&store);
    assert_null(store);
    live_store_close(&store);
}

static void test_from_start_tells_all(void **state)
{
    const char *path = rig_store("start");
    struct live_store *store = open_at(path);
    struct live_settings s = settings();
    (void)state;
    append(store, 1, 50);
    live_store_close(&store);
    memset(witness, 0, sizeof *witness);
    s.from_start = true;
    must(live_store_open(path, &s, &store, NULL), NULL);
    assert_int_equal(live_store_refresh(store, NULL), AKIN_OK);
    assert_int_equal(witness->count, 50);
    assert_int_equal(live_store_refresh(store, NULL), AKIN_OK);
    assert_int_equal(witness->count, 50);
    live_store_close(&store);
}

static void put_states(struct live_store *store, const struct live_state *states, size_t count)
{
    witness->states = states;
    witness->state_count = count;
    append(store, 0, 0);
    assert_int_equal(witness->state_count, 0);
}

static void test_states(void **state)
{
    struct live_store *store = open_at(rig_store("states"));
    const struct live_state first[] = { { "ann", 20, 7, "old", 3 }, { "bob", 9, 7, "bobs", 4 },
                                        { "stranger", 1, 7, "no", 2 } };
    const struct live_state newer = { "ann", 30, 7, "new", 3 }, older = { "ann", 25, 7, "mid", 3 };
    const struct live_state other = { "ann", 2, 8, "other", 5 };
    (void)state;
    append(store, 1, 40);
    put_states(store, first, 3);
    assert_true(read_back(store, "ann", 7, &history));
    assert_string_equal(history.state, "20:old");
    assert_true(history.count > 0 && history.events[0].number > 20);
    size_t after = history.count;
    history.refuse_state = true;    /* then all events come */
    read_back(store, "ann", 7, &history);
    assert_true(history.count > after);
    history.refuse_state = false;
    read_back(store, "ann", 8, &history);
    assert_string_equal(history.state, "");
    assert_true(history.count > after);
    assert_false(read_back(store, "stranger", 7, &history));
    put_states(store, &newer, 1);
    put_states(store, &older, 1);
    read_back(store, "ann", 7, &history);
    assert_string_equal(history.state, "30:new");
    put_states(store, &other, 1);   /* of other vectors: it takes the place */
    read_back(store, "ann", 8, &history);
    assert_string_equal(history.state, "2:other");
    read_back(store, "bob", 7, &history);
    assert_string_equal(history.state, "9:bobs");
    live_store_close(&store);
}

/* ---- together --------------------------------------------------------------------------- */

enum { WRITERS = 4, EACH = 120 };

struct writer {
    struct live_store *store;
    uint32_t row;
    bool ok;
};

static void write_some(void *context)
{
    struct writer *w = context;
    struct live_rating rating = { .user = "ann", .row = w->row, .rating = 0.5f };
    for (int i = 0; i < EACH; i++) {
        rating.timestamp = i;
        w->ok &= live_store_append(w->store, &rating, 1, NULL) == AKIN_OK;
    }
}

static void test_threads_share_commits(void **state)
{
    struct live_settings s = settings();
    struct live_store *store = NULL;
    struct writer writers[WRITERS];
    struct thread *threads[WRITERS];
    int64_t next[WRITERS] = { 0 };
    (void)state;
    memset(witness, 0, sizeof *witness);
    s.durable = true;
    must(live_store_open(rig_store("threads"), &s, &store, NULL), NULL);
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){ store, i, true };
        threads[i] = thread_start(write_some, &writers[i], false);
        assert_non_null(threads[i]);
    }
    for (int i = 0; i < WRITERS; i++) {
        thread_join(&threads[i]);
        assert_true(writers[i].ok);
    }
    assert_int_equal(witness->count, WRITERS * EACH);
    for (size_t i = 0; i < witness->count; i++) {   /* in the order of each writer too */
        const struct live_event *event = &witness->events[i];
        assert_int_equal(event->number, i + 1);
        assert_int_equal(event->timestamp, next[event->row]++);
    }
    assert_true(read_back(store, "ann", 1, &history));
    assert_int_equal(history.count, WRITERS * EACH);
    live_store_close(&store);
}

static int child_writes(const char *path, uint32_t row)
{
    struct live_settings s = settings();
    struct live_store *store = NULL;
    struct writer w = { .row = row, .ok = true };
    memset(witness, 0, sizeof *witness);
    if (live_store_open(path, &s, &store, NULL) != AKIN_OK)
        return 2;
    w.store = store;
    write_some(&w);
    bool ordered = true;
    for (size_t i = 1; i < witness->count; i++)
        ordered &= witness->events[i].number == witness->events[i - 1].number + 1;
    live_store_close(&store);
    return w.ok && ordered && witness->count >= EACH ? 0 : 1;
}

/* All open a database that is not there yet, so they also race to make it. */
static void test_processes_share_a_store(void **state)
{
    const char *path = rig_store("processes");
    pid_t children[3];
    int64_t next[4] = { 0 };
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            _exit(child_writes(path, i));
    }
    struct live_store *store = open_at(path);
    struct writer w = { store, 3, true };
    write_some(&w);
    assert_true(w.ok);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rig_wait(children[i]), 0);
    assert_int_equal(live_store_refresh(store, NULL), AKIN_OK);
    uint64_t first = witness->events[0].number;     /* what was there when it was opened is known */
    for (size_t i = 0; i < witness->count; i++)
        assert_int_equal(witness->events[i].number, first + i);
    assert_int_equal(first + witness->count - 1, 4 * EACH);
    assert_true(read_back(store, "ann", 1, &history));
    assert_int_equal(history.count, 4 * EACH);
    for (size_t i = 0; i < history.count; i++)
        assert_int_equal(history.events[i].timestamp, next[history.events[i].row]++);
    live_store_close(&store);
}

/* One that opens between two steps of another's making sees all of the schema, or none of it. */
static void test_many_make_a_store(void **state)
{
    enum { STORES = 40, OPENERS = 4 };
    (void)state;
    for (int s = 0; s < STORES; s++) {
        char name[16];
        snprintf(name, sizeof name, "made%d", s);
        const char *path = rig_store(name);
        pid_t children[OPENERS];
        for (int i = 0; i < OPENERS; i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0) {
                struct live_settings settled = settings();
                struct live_store *store = NULL;
                bool opened = live_store_open(path, &settled, &store, NULL) == AKIN_OK;
                live_store_close(&store);
                _exit(opened ? 0 : 1);
            }
        }
        for (int i = 0; i < OPENERS; i++)
            assert_int_equal(rig_wait(children[i]), 0);
    }
}

/* ---- blows ------------------------------------------------------------------------------ */

/* Writes batches until it is killed, and says after each how many events are acknowledged. */
static void write_for_ever(const char *path, int acks, uint64_t seed)
{
    struct live_store *store = open_at(path);
    struct live_counts counts;
    struct rng rng;
    rng_seed(&rng, seed);
    must(live_store_count(store, &counts, NULL), NULL);
    for (uint64_t n = counts.events;;) {
        size_t count = 1 + (size_t)rng_below(&rng, 40);
        append(store, n + 1, count);
        n += count;
        if (write(acks, &n, sizeof n) != sizeof n)
            _exit(3);
    }
}

static void test_killed_at_any_moment(void **state)
{
    const char *path = rig_store("killed");
    struct rng rng;
    uint64_t acknowledged = 0, before = 0;
    (void)state;
    rng_seed(&rng, 11);
    for (int trial = 0; trial < 12; trial++) {
        int acks[2];
        assert_int_equal(pipe(acks), 0);
        pid_t child = fork();
        if (child == 0)
            write_for_ever(path, acks[1], (uint64_t)trial);
        close(acks[1]);
        uint64_t last = rig_kill(child, acks[0], rng_below(&rng, 9), rng_below(&rng, 3000));
        acknowledged = last ? last : acknowledged;
        struct live_settings s = settings();
        struct live_store *store = NULL;
        memset(witness, 0, sizeof *witness);
        s.from_start = true;
        must(live_store_open(path, &s, &store, NULL), NULL);
        must(live_store_refresh(store, NULL), NULL);
        assert_true(witness->count >= acknowledged && witness->count >= before);
        for (size_t i = 0; i < witness->count; i++) {
            assert_int_equal(witness->events[i].number, i + 1);
            check_event(witness->users[i], &witness->events[i]);
        }
        before = witness->count;
        live_store_close(&store);
    }
    assert_true(acknowledged > 0);
}

/* A file may not grow any more: the answer is an error, nothing is lost, and later it goes on. */
static void test_full_disk(void **state)
{
    struct live_store *store = open_at(rig_store("full"));
    struct live_rating ratings[256];
    struct akin_error error = { 0 };
    struct rlimit was, small;
    (void)state;
    append(store, 1, 100);
    for (size_t i = 0; i < 256; i++)
        ratings[i] = rating_at(101 + i);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small = was;
    small.rlim_cur = 64 << 10;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum akin_status status = AKIN_OK;
    size_t appended = 100;
    for (int i = 0; i < 40 && status == AKIN_OK; i++) {
        status = live_store_append(store, ratings, 256, &error);
        appended += status == AKIN_OK ? 256 : 0;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(status, AKIN_IO);
    assert_non_null(strstr(error.message, "full.db"));
    assert_int_equal(witness->count, appended);
    struct live_counts counts;
    must(live_store_count(store, &counts, &error), &error);
    assert_int_equal(counts.events, appended);
    must(live_store_append(store, ratings, 256, &error), &error);
    assert_int_equal(witness->count, appended + 256);
    live_store_close(&store);
}

/* ---- mistakes --------------------------------------------------------------------------- */

static void refuses(const char *path, enum akin_status expected, const char *words)
{
    struct live_settings s = settings();
    struct akin_error error = { 0 };
    struct live_store *store = NULL;
    s.busy_ms = 50;
    assert_int_equal(live_store_open(path, &s, &store, &error), expected);
    assert_null(store);
    if (!strstr(error.message, words) || !strstr(error.message, path))
        fail_msg("\"%s\" does not say \"%s\"", error.message, words);
}

static void test_not_a_database(void **state)
{
    char text[5000];
    const char *path = rig_store("text");
    (void)state;
    memset(text, 'x', sizeof text);
    must(file_write(path, text, sizeof text, NULL), NULL);
    refuses(path, AKIN_FORMAT, "no database");
    must(file_write(path, text, 10, NULL), NULL);
    refuses(path, AKIN_FORMAT, "no database");
    path = rig_store("foreign");
    rig_sql(path, "CREATE TABLE t(x)");
    refuses(path, AKIN_FORMAT, "another program");
    path = rig_store("newer");
    struct live_store *store = open_at(path);
    live_store_close(&store);
    rig_sql(path, "PRAGMA user_version = 2");
    refuses(path, AKIN_UNSUPPORTED, "newer akin");
    rig_sql(path, "PRAGMA user_version = 0");
    refuses(path, AKIN_FORMAT, "schema 0");
    rig_sql(path, "PRAGMA user_version = 1; DROP TABLE events");
    refuses(path, AKIN_FORMAT, "no such table");
    refuses("/nowhere/at/all/akin.db", AKIN_IO, "folder");
    path = rig_store("folder");
    must(path_make_folders(path, NULL), NULL);
    refuses(path, AKIN_IO, "opening");
    must(file_write(rig_store("empty"), "", 0, NULL), NULL);
    store = open_at(rig_store("empty"));    /* of a process that died before it wrote anything */
    append(store, 1, 3);
    live_store_close(&store);
}

static void test_damaged(void **state)
{
    struct rng rng;
    size_t refused = 0;
    char copy[160];
    struct bytes whole = { 0 };
    const char *path = rig_store("whole");
    struct live_store *store = open_at(path);
    (void)state;
    for (uint64_t n = 1; n < 2000; n += 250)
        append(store, n, 250);
    live_store_close(&store);
    must(file_read(path, 1 << 24, &whole, NULL), NULL);
    snprintf(copy, sizeof copy, "%s/copy.db", rig_folder);
    rng_seed(&rng, 3);
    for (int trial = 0; trial < 150; trial++) {
        struct live_settings s = settings();
        struct live_reader reader = { &history, read_state, read_event };
        struct live_rating rating = rating_at(1);
        bool known, bad = false;
        size_t bytes = trial % 3 ? whole.count : (size_t)rng_below(&rng, whole.count);
        unsigned char *damaged = memory_alloc(whole.count, 1);
        memcpy(damaged, whole.data, whole.count);
        for (int i = 0; i < 400; i++)
            damaged[rng_below(&rng, trial % 2 ? whole.count : 4096)] ^=
                (unsigned char)rng_next(&rng);
        must(file_write(copy, damaged, bytes, NULL), NULL);
        memory_free(damaged);
        memset(witness, 0, sizeof *witness);
        memset(&history, 0, sizeof history);
        history.user = "ann";
        s.busy_ms = 20;
        if (live_store_open(copy, &s, &store, NULL) == AKIN_OK) {
            bad |= live_store_read(store, "ann", 1, &reader, &known, NULL) != AKIN_OK;
            bad |= live_store_append(store, &rating, 1, NULL) != AKIN_OK;
            bad |= live_store_refresh(store, NULL) != AKIN_OK;
            live_store_close(&store);
            refused += bad;
        } else {
            refused++;
        }
        char log[176];
        snprintf(log, sizeof log, "%s-wal", copy);
        path_remove(log, NULL);
        snprintf(log, sizeof log, "%s-shm", copy);
        path_remove(log, NULL);
    }
    assert_true(refused > 50);
    bytes_deinit(&whole);
}

static void test_tampered_rating(void **state)
{
    const char *path = rig_store("tampered");
    struct live_reader reader = { &history, read_state, read_event };
    struct akin_error error = { 0 };
    bool known;
    (void)state;
    struct live_store *store = open_at(path);
    append(store, 1, 20);
    live_store_close(&store);
    rig_sql(path, "UPDATE events SET rating = 7 WHERE user = (SELECT id FROM users WHERE name = "
            "'ann')");
    store = open_at(path);
    history.user = "ann";
    assert_int_equal(live_store_read(store, "ann", 1, &reader, &known, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "rating 7"));
    assert_true(read_back(store, "bob", 1, &history));
    live_store_close(&store);
    rig_sql(path, "UPDATE items SET name = 'gone' || id; UPDATE events SET rating = 0.5");
    store = open_at(path);                  /* an item that the catalogue no longer has */
    assert_true(read_back(store, "ann", 1, &history));
    assert_int_equal(history.count, 0);
    live_store_close(&store);
}

static void test_locked(void **state)
{
    const char *path = rig_store("locked");
    struct live_settings s = settings();
    struct live_rating rating = rating_at(1);
    struct akin_error error = { 0 };
    struct live_store *store = NULL;
    sqlite3 *other = NULL;
    (void)state;
    s.busy_ms = 50;
    must(live_store_open(path, &s, &store, &error), &error);
    must(live_store_append(store, &rating, 1, &error), &error);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(live_store_append(store, &rating, 1, &error), AKIN_BUSY);
    assert_non_null(strstr(error.message, "locked.db"));
    assert_true(read_back(store, rating.user, 1, &history));     /* who only reads does not care */
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    must(live_store_append(store, &rating, 1, &error), &error);
    live_store_close(&store);
    assert_int_equal(sqlite3_exec(other, "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; "
                                  "INSERT INTO users(name) VALUES('x'); COMMIT", NULL, NULL, NULL),
                     SQLITE_OK);
    refuses(path, AKIN_BUSY, "another program");
    sqlite3_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_come_back), cmocka_unit_test(test_from_start_tells_all),
        cmocka_unit_test(test_states), cmocka_unit_test(test_threads_share_commits),
        cmocka_unit_test(test_processes_share_a_store), cmocka_unit_test(test_many_make_a_store),
        cmocka_unit_test(test_killed_at_any_moment),
        cmocka_unit_test(test_full_disk), cmocka_unit_test(test_not_a_database),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_tampered_rating),
        cmocka_unit_test(test_locked),
    };
    witness = memory_alloc(1, sizeof *witness);
    int failed = witness ? cmocka_run_group_tests(tests, rig_set_up, rig_tear_down) : 1;
    memory_free(witness);
    return failed;
}
