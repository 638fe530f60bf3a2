/* Batches that become segments when they are added: found at once, whole or not there at all,
 * whatever is wrong with them, whichever write fails and wherever the file ends after a crash. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file_at.h"
#include "collection_rig.h"

enum { DIM = 8, SEAL_ROWS = 50, BATCH = 120, FEW = 9, TRIALS = 10, ACKED = 5 };

static struct rig rig;

static int set_up(void **state)
{
    struct akin_index_rows none = { 0 };
    struct akin_index_settings settings;
    (void)state;
    rig_begin(&rig, 1);         /* no threads before the forks */
    collection_settings_default(&settings);
    settings.metric = AKIN_METRIC_L2;
    settings.kind = "flat";
    rig_ok(&rig, collection_build(&rig.host, rig.path, &none, DIM, &settings, &rig.error));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_end(&rig);
    return 0;
}

static void row_of(int64_t id, int version, float row[DIM])
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)id * 8 + (uint64_t)version + 1);
    for (size_t k = 0; k < DIM; k++)
        row[k] = rng_normal(&rng);
}

/* Rows from `first` on, backwards. */
static enum akin_status change(struct collection *c, int64_t first, size_t count, int version,
                               bool update)
{
    float vectors[BATCH * DIM];
    int64_t ids[BATCH];
    assert_true(count <= BATCH);
    for (size_t i = 0; i < count; i++) {
        ids[i] = first + (int64_t)(count - 1 - i);
        row_of(ids[i], version, vectors + i * DIM);
    }
    struct akin_index_rows rows = { .vectors = vectors, .ids = ids, .count = count };
    return collection_add(c, &rows, update, &rig.error);
}

static struct collection *open_writer(void)
{
    struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);
    rig_seal_rows(c, SEAL_ROWS);
    return c;
}

/* Each row is its own nearest, and of this version. */
static void expect_rows(struct collection *c, int64_t first, int64_t count, int version)
{
    for (int64_t id = first; id < first + count; id++) {
        float row[DIM], score;
        int64_t found;
        row_of(id, version, row);
        struct akin_index_query query = { .vectors = row, .count = 1, .k = 1, .exact = true };
        rig_ok(&rig, collection_search(c, &query, &found, &score, &rig.error));
        assert_int_equal(found, id);
        assert_true(score == 0);
    }
}

static void expect_info(struct collection *c, size_t count, size_t segments, size_t tail)
{
    struct akin_index_info info;
    collection_info(c, &info);
    assert_int_equal(info.count, count);
    assert_int_equal(info.segments, segments);
    assert_int_equal(info.tail_rows, tail);
    rig_ok(&rig, collection_validate(c, &rig.error));
}

/* With the tail before it; what it replaces in the tail, and in a segment, is gone. */
static void a_batch_is_a_segment(void **state)
{
    (void)state;
    struct collection *c = open_writer();
    rig_ok(&rig, change(c, 0, FEW, 0, false));
    expect_info(c, FEW, 0, FEW);
    rig_ok(&rig, change(c, FEW, BATCH, 0, false));
    expect_info(c, FEW + BATCH, 1, 0);
    rig_ok(&rig, change(c, 1000, FEW, 0, false));
    rig_ok(&rig, change(c, 1000 - BATCH + 3, BATCH, 1, true));      /* three of the tail's rows */
    expect_info(c, FEW + BATCH + BATCH + FEW - 3, 2, 0);
    rig_ok(&rig, change(c, 0, SEAL_ROWS, 1, true));                 /* of the first segment */
    rig_ok(&rig, collection_sync(c, NULL, &rig.error));
    for (int opened = 0; opened < 2; opened++) {
        rig_ok(&rig, collection_validate(c, &rig.error));
        expect_rows(c, 0, SEAL_ROWS, 1);
        expect_rows(c, SEAL_ROWS, FEW + BATCH - SEAL_ROWS, 0);
        expect_rows(c, 1000 - BATCH + 3, BATCH, 1);
        expect_rows(c, 1003, FEW - 3, 0);
        collection_close(&c);
        rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
        c = open_writer();
    }
    float row[DIM] = { 0 };
    struct akin_index_rows one = { .vectors = row, .count = 1 };
    rig_ok(&rig, collection_add(c, &one, false, &rig.error));
    struct place place;
    assert_true(collection_find(c, c->current, 1000 + FEW, &place));    /* behind the largest id */
    collection_close(&c);
}

static void bad_batches_change_nothing(void **state)
{
    (void)state;
    static const char *const keys[BATCH];
    float vectors[BATCH * DIM] = { 0 };
    int64_t ids[BATCH];
    const char *metadata[BATCH] = { 0 };
    struct collection *c = open_writer();
    struct akin_index_rows rows = { .vectors = vectors, .ids = ids, .count = BATCH };
    for (int i = 0; i < BATCH; i++)
        ids[i] = i;
    uint64_t next = (uint64_t)c->next_id;
    ids[7] = -1;
    assert_int_equal(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT);
    ids[7] = 8;
    assert_int_equal(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT);
    ids[7] = 7;
    vectors[5 * DIM] = NAN;
    assert_int_equal(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT);
    vectors[5 * DIM] = 0;
    metadata[BATCH - 2] = "{\"year\":";
    rows.metadata = metadata;
    assert_int_equal(collection_add(c, &rows, false, &rig.error), AKIN_FORMAT);
    assert_non_null(strstr(rig.error.message, "row 118"));
    rows.metadata = NULL;
    rows.ids = NULL;
    rows.keys = keys;
    assert_int_equal(collection_add(c, &rows, false, &rig.error), AKIN_ARGUMENT);
    assert_int_equal(c->next_id, next);
    expect_info(c, 0, 0, 0);
    rig_ok(&rig, change(c, 0, BATCH, 0, false));
    assert_int_equal(change(c, BATCH - 1, BATCH, 0, false), AKIN_ARGUMENT);     /* is there */
    expect_info(c, BATCH, 1, 0);
    collection_close(&c);
}

/* A kind that trains is left to the background, which such batches must wait for as others do. */
static void batches_for_the_background_wait(void **state)
{
    (void)state;
    enum { ROWS = 20000, BATCHES = 4 };
    struct akin_index_rows none = { 0 };
    struct akin_index_settings settings;
    struct akin_index_info info;
    collection_settings_default(&settings);
    settings.metric = AKIN_METRIC_L2;
    settings.kind = "ivfpq";
    rig_ok(&rig, collection_build(&rig.host, rig.path, &none, DIM, &settings, &rig.error));
    struct collection *c = open_writer();
    float *vectors = memory_alloc_aligned(ROWS * DIM, sizeof *vectors);
    for (int64_t i = 0; i < ROWS; i++)
        row_of(i, 0, vectors + i * DIM);
    struct akin_index_rows rows = { .vectors = vectors, .count = ROWS };
    for (int i = 0; i < BATCHES; i++) {
        rig_ok(&rig, collection_add(c, &rows, false, &rig.error));
        collection_info(c, &info);
        assert_true(info.tail_rows <= ROWS);
    }
    collection_close(&c);
    rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
    memory_free(vectors);
}

static void set_busy(struct collection *c, bool sealer, bool merger)
{
    mutex_lock(c->writing);
    c->sealer.busy = sealer;
    c->merger.busy = merger;
    condition_wake(c->changed);
    mutex_unlock(c->writing);
}

/* While merging is behind, batches are sealed together again. */
static void segments_stay_few(void **state)
{
    (void)state;
    enum { SEGMENTS = 64 };
    struct collection *c = open_writer();
    set_busy(c, false, true);
    for (int64_t i = 0; i < SEGMENTS; i++)
        rig_ok(&rig, change(c, i * BATCH, BATCH, 0, false));
    expect_info(c, SEGMENTS * BATCH, SEGMENTS, 0);
    set_busy(c, true, true);
    for (int64_t i = SEGMENTS; i < SEGMENTS + 2; i++)
        rig_ok(&rig, change(c, i * BATCH, BATCH, 0, false));
    expect_info(c, (SEGMENTS + 2) * BATCH, SEGMENTS, 2 * BATCH);
    expect_rows(c, SEGMENTS * BATCH, 2 * BATCH, 0);
    set_busy(c, false, false);
    collection_close(&c);
    rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
}

static uint64_t file_bytes(void)
{
    struct file_at file;
    uint64_t bytes;
    rig_ok(&rig, file_at_open(rig.path, FILE_AT_READ, &file, &rig.error));
    rig_ok(&rig, file_at_size(&file, &bytes, &rig.error));
    file_at_close(&file);
    return bytes;
}

/* The file may grow by so little that some write of the batch fails: each one in turn. */
static void failed_writes_change_nothing(void **state)
{
    (void)state;
    struct rlimit limit, old;
    enum akin_status status = AKIN_IO;
    int failures = 0;
    struct collection *c = open_writer();
    rig_ok(&rig, change(c, 0, FEW, 0, false));
    rig_ok(&rig, collection_sync(c, NULL, &rig.error));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    uint64_t before = file_bytes();
    for (uint64_t more = 0; status != AKIN_OK; more += 300) {
        limit = (struct rlimit){ before + more, old.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        status = change(c, 100, BATCH, 0, false);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        if (status == AKIN_OK)
            break;
        assert_int_equal(status, AKIN_IO);
        expect_info(c, FEW, 0, FEW);
        assert_int_equal(c->next_id, FEW);
        assert_int_equal(file_bytes(), before);
        failures++;
    }
    assert_true(failures > 10);
    expect_info(c, FEW + BATCH, 1, 0);
    rig_ok(&rig, collection_sync(c, NULL, &rig.error));
    collection_close(&c);
    rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
    c = open_writer();
    expect_rows(c, 0, FEW, 0);
    expect_rows(c, 100, BATCH, 0);
    collection_close(&c);
}

/* Synced rows, then a batch that is not: the file ends anywhere in it, or has holes there. */
static void what_was_not_synced_may_be_torn(void **state)
{
    (void)state;
    char torn[160];
    struct akin_index_info info;
    struct collection *c = open_writer();
    rig_ok(&rig, change(c, 0, BATCH, 0, false));
    rig_ok(&rig, collection_sync(c, NULL, &rig.error));
    uint64_t safe = file_bytes();
    rig_ok(&rig, change(c, BATCH - FEW, BATCH, 1, true));       /* too few to merge for */
    uint64_t all = file_bytes();
    struct file_at from, to;
    snprintf(torn, sizeof torn, "%s/torn.akx", rig.folder);
    rig_ok(&rig, file_at_open(rig.path, FILE_AT_READ, &from, &rig.error));
    for (uint64_t end = safe; end <= all; end += 64) {
        uint64_t hole = safe + (end - safe) / 2;
        rig_ok(&rig, path_remove(torn, &rig.error));
        rig_ok(&rig, file_at_open(torn, FILE_AT_CREATE, &to, &rig.error));
        rig_ok(&rig, file_at_copy(&from, 0, &to, 0, end % 128 ? end : hole, &rig.error));
        rig_ok(&rig, file_at_truncate(&to, end, &rig.error));
        file_at_close(&to);
        struct collection *other = NULL;
        rig_ok(&rig, collection_open(&rig.host, torn, AKIN_INDEX_WRITE, &other, &rig.error));
        collection_info(other, &info);
        assert_int_equal(info.count, BATCH);
        expect_rows(other, 0, BATCH, 0);
        rig_ok(&rig, change(other, BATCH, BATCH, 0, false));    /* it goes on from there */
        rig_ok(&rig, collection_sync(other, NULL, &rig.error));
        collection_close(&other);
        rig_ok(&rig, collection_check(&rig.host, torn, &rig.error));
    }
    file_at_close(&from);
    collection_close(&c);
}

/* Adds batch after batch until it is killed; says so once each is durable. */
static void child_main(int64_t first, int out)
{
    struct collection *c = NULL;
    rig.host.pool = thread_pool_create(2);
    if (cpu_backend_create(rig.host.cpu_flags, rig.host.pool, &rig.host.backend, NULL) ||
        collection_open(&rig.host, rig.path, AKIN_INDEX_WRITE, &c, NULL) != AKIN_OK)
        _exit(1);
    rig_seal_rows(c, SEAL_ROWS);
    for (int64_t id = first;; id += BATCH)
        if (change(c, id, BATCH, 0, false) != AKIN_OK ||
            collection_sync(c, NULL, NULL) != AKIN_OK || write(out, &id, sizeof id) != sizeof id)
            _exit(1);
}

static void kills(void **state)
{
    struct rng rng;
    int64_t count = 0, id;
    (void)state;
    rng_seed(&rng, 4);
    for (int trial = 0; trial < TRIALS; trial++) {
        int ends[2], status;
        int64_t acked = count;
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (!pid)
            child_main(count, ends[1]);
        close(ends[1]);
        for (int i = 0; i < ACKED && read(ends[0], &id, sizeof id) == sizeof id; i++)
            acked = id + BATCH;
        usleep((useconds_t)rng_below(&rng, 3000));
        kill(pid, SIGKILL);
        while (read(ends[0], &id, sizeof id) == sizeof id)
            acked = id + BATCH;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && acked >= count + ACKED * BATCH);
        close(ends[0]);
        rig_ok(&rig, collection_check(&rig.host, rig.path, &rig.error));
        struct collection *c = open_writer();
        count = (int64_t)c->current->live;
        assert_true(count == acked || count == acked + BATCH);      /* a batch is one step */
        expect_rows(c, 0, count, 0);
        collection_close(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_batch_is_a_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_batches_change_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(batches_for_the_background_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(segments_stay_few, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failed_writes_change_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_not_synced_may_be_torn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kills, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
