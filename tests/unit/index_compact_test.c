/* A process that adds, makes durable and compacts at once is killed at any moment: what is left
 * opens, is whole, and has every row that was acknowledged. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "collection_rig.h"

enum { DIM = 8, TRIALS = 12, SEAL_ROWS = 40, WAIT_ACKED = 60 };

static void row_of(int64_t id, float row[DIM])
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)id + 1);
    for (size_t k = 0; k < DIM; k++)
        row[k] = rng_normal(&rng);
}

struct child {
    struct collection *c;
    atomic_bool failed;
};

static void compactor(void *context)
{
    struct child *child = context;
    while (!atomic_load(&child->failed))
        if (collection_compact(child->c, NULL, NULL) != AKIN_OK)
            atomic_store(&child->failed, true);
}

/* Adds the rows from `first` on, one by one, until it is killed; each id goes out once it is
 * durable. Threads are its own. */
static void child_main(const char *path, int64_t first, int out)
{
    struct collection_host host = { .cpu_flags = cpu_detect(), .pool = thread_pool_create(2) };
    struct child child = { .failed = false };
    struct akin_error error = { .message = "no backend" };
    if (cpu_backend_create(host.cpu_flags, host.pool, &host.backend, NULL) != AKIN_OK ||
        collection_open(&host, path, AKIN_INDEX_WRITE, &child.c, &error) != AKIN_OK) {
        fprintf(stderr, "child: %s\n", error.message);
        _exit(1);
    }
    rig_seal_rows(child.c, SEAL_ROWS);
    thread_start(compactor, &child, false);
    for (int64_t id = first; !atomic_load(&child.failed); id++) {
        float row[DIM];
        row_of(id, row);
        struct akin_index_rows one = { .vectors = row, .ids = &id, .count = 1 };
        if (collection_add(child.c, &one, false, NULL) != AKIN_OK ||
            collection_sync(child.c, NULL, NULL) != AKIN_OK ||
            write(out, &id, sizeof id) != sizeof id)
            break;
    }
    _exit(1);
}

/* Returns how many rows were acknowledged in all. */
static int64_t run_and_kill(const char *path, int64_t first, uint64_t more)
{
    int ends[2], status;
    int64_t id, acked = first;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        close(ends[0]);
        child_main(path, first, ends[1]);
    }
    close(ends[1]);
    while (acked < first + WAIT_ACKED && read(ends[0], &id, sizeof id) == sizeof id)
        acked = id + 1;
    assert_int_equal(acked, first + WAIT_ACKED);
    uint64_t begin = clock_monotonic_ns();
    while (clock_monotonic_ns() - begin < more)
        ;
    kill(pid, SIGKILL);
    while (read(ends[0], &id, sizeof id) == sizeof id)
        acked = id + 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    close(ends[0]);
    return acked;
}

static void look(struct rig *rig, int64_t acked)
{
    rig_ok(rig, collection_check(&rig->host, rig->path, &rig->error));
    struct collection *c = rig_open(rig, AKIN_INDEX_READ);
    struct akin_index_info info;
    collection_info(c, &info);
    assert_true((int64_t)info.count >= acked && (int64_t)info.count <= acked + 1);
    for (int64_t id = 0; id < acked; id++) {    /* each is its own nearest */
        float row[DIM], score;
        int64_t found;
        row_of(id, row);
        struct akin_index_query query = { .vectors = row, .count = 1, .k = 1, .exact = true };
        rig_ok(rig, collection_search(c, &query, &found, &score, &rig->error));
        assert_int_equal(found, id);
    }
    collection_close(&c);
}

static void kills(void **state)
{
    struct rig rig;
    struct rng rng;
    struct akin_index_rows none = { 0 };
    struct akin_index_settings settings;
    int64_t acked = 0;
    (void)state;
    rng_seed(&rng, 9);
    rig_begin(&rig, 1);         /* no threads before the forks */
    collection_settings_default(&settings);
    settings.metric = AKIN_METRIC_L2;
    rig_ok(&rig, collection_build(&rig.host, rig.path, &none, DIM, &settings, &rig.error));
    for (int trial = 0; trial < TRIALS; trial++) {
        acked = run_and_kill(rig.path, acked, rng_below(&rng, 20000000));
        look(&rig, acked);
        struct collection *c = rig_open(&rig, AKIN_INDEX_WRITE);    /* a row may have got in */
        acked = (int64_t)c->current->live;
        collection_close(&c);
    }
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(kills) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
