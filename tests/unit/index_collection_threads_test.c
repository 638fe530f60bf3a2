/* One writer, several readers, the background sealing and a compaction, all at once. Readers know
 * what must always hold: the rows of a batch are there all or none, an updated row is there once,
 * in one of its versions, and scores are those of the rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "collection_rig.h"

enum {
    DIM = 4,
    GROUP = 8,              /* rows that come and go together */
    GROUPS = 60,
    ROWS = GROUP * GROUPS,
    READERS = 3,
    ROUNDS = 400,
    SEAL_ROWS = 100,
};

struct shared {
    struct rig rig;
    struct collection *c;
    atomic_bool stop;
    atomic_uint searches, wrong;
};

/* All rows of a group of one version have one score with the query (1, 0, 0, 0), which tells group
 * and version: exact in float32. */
static float score_of(size_t group, unsigned version)
{
    return (float)(group + GROUPS * version);
}

static void group_rows(size_t group, unsigned version, float rows[GROUP][DIM], int64_t *ids)
{
    for (size_t i = 0; i < GROUP; i++) {
        float *row = rows[i];
        row[0] = score_of(group, version);
        row[1] = (float)i;
        row[2] = row[3] = 1;
        ids[i] = (int64_t)(i * GROUPS + group);
    }
}

static bool look(struct shared *s, bool exact)
{
    static const float query[DIM] = { 1 };
    int64_t ids[ROWS + 1];
    float scores[ROWS + 1];
    int count[GROUPS] = { 0 };
    float seen[GROUPS];
    bool there[ROWS] = { 0 };
    struct akin_index_query asked = { .vectors = query, .count = 1, .k = ROWS + 1, .exact = exact,
                                      .recall = 1 };
    if (collection_search(s->c, &asked, ids, scores, NULL) != AKIN_OK)
        return false;
    for (size_t i = 0; i <= ROWS && ids[i] >= 0; i++) {
        size_t group = (size_t)ids[i] % GROUPS;
        if (ids[i] >= ROWS || there[ids[i]])
            return false;                               /* no such row, or twice */
        there[ids[i]] = true;
        if (count[group]++ && seen[group] != scores[i])
            return false;                               /* two versions at once */
        seen[group] = scores[i];
        if ((size_t)scores[i] % GROUPS != group || scores[i] != (float)(size_t)scores[i])
            return false;                               /* not this row's score */
        if (i && (scores[i] > scores[i - 1] ||
                  (scores[i] == scores[i - 1] && ids[i] < ids[i - 1])))
            return false;
    }
    for (size_t group = 0; group < GROUPS; group++)
        if (count[group] != 0 && count[group] != GROUP)
            return false;                               /* half a batch */
    return true;
}

static void reader(void *context)
{
    struct shared *s = context;
    for (unsigned i = 0; !atomic_load(&s->stop); i++) {
        struct akin_index_info info;
        if (!look(s, i % 2))
            atomic_fetch_add(&s->wrong, 1);
        atomic_fetch_add(&s->searches, 1);
        if (i % 8 == 0)
            collection_info(s->c, &info);
    }
}

static void compactor(void *context)
{
    struct shared *s = context;
    while (!atomic_load(&s->stop))
        if (collection_compact(s->c, NULL, NULL) != AKIN_OK)
            atomic_fetch_add(&s->wrong, 1);
}

static void write_rows(struct shared *s, bool *alive, unsigned *version, struct rng *rng)
{
    float rows[GROUP][DIM];
    int64_t ids[GROUP];
    size_t group = rng_below(rng, GROUPS), deleted = 0;
    group_rows(group, ++*version, rows, ids);
    struct akin_index_rows batch = { .vectors = rows[0], .ids = ids, .count = GROUP };
    if (!alive[group]) {
        rig_ok(&s->rig, collection_add(s->c, &batch, false, &s->rig.error));
        alive[group] = true;
    } else if (rng_below(rng, 3)) {
        rig_ok(&s->rig, collection_add(s->c, &batch, true, &s->rig.error));
    } else {
        rig_ok(&s->rig, collection_delete(s->c, ids, NULL, GROUP, &deleted, &s->rig.error));
        assert_int_equal(deleted, GROUP);
        alive[group] = false;
    }
}

static void run_all(bool compacting, size_t seal_rows)
{
    static struct shared s;
    struct thread *threads[READERS + 1] = { 0 };
    struct akin_index_rows none = { 0 };
    struct akin_index_settings settings;
    struct rng rng;
    bool alive[GROUPS] = { 0 };
    unsigned version = 0;
    size_t live = 0;
    rng_seed(&rng, 11);
    rig_begin(&s.rig, 2);
    atomic_store(&s.stop, false);
    collection_settings_default(&settings);
    settings.metric = AKIN_METRIC_INNER_PRODUCT;
    rig_ok(&s.rig, collection_build(&s.rig.host, s.rig.path, &none, DIM, &settings,
                                    &s.rig.error));
    s.c = rig_open(&s.rig, AKIN_INDEX_WRITE);
    rig_seal_rows(s.c, seal_rows);
    for (int i = 0; i < READERS; i++)
        threads[i] = thread_start(reader, &s, false);
    if (compacting)
        threads[READERS] = thread_start(compactor, &s, false);
    for (int round = 0; round < ROUNDS; round++) {
        write_rows(&s, alive, &version, &rng);
        if (round % 20 == 0)
            rig_ok(&s.rig, collection_sync(s.c, NULL, &s.rig.error));
    }
    uint64_t begin = clock_monotonic_ns();
    while (atomic_load(&s.searches) < 50 && clock_monotonic_ns() - begin < 120 * 1000000000ull)
        write_rows(&s, alive, &version, &rng);
    atomic_store(&s.stop, true);
    for (int i = 0; i <= READERS; i++)
        thread_join(&threads[i]);
    assert_true(atomic_load(&s.searches) >= 50);
    assert_int_equal(atomic_load(&s.wrong), 0);
    rig_ok(&s.rig, collection_validate(s.c, &s.rig.error));
    for (size_t i = 0; i < GROUPS; i++)
        live += alive[i] ? GROUP : 0;
    collection_close(&s.c);
    rig_ok(&s.rig, collection_check(&s.rig.host, s.rig.path, &s.rig.error));
    s.c = rig_open(&s.rig, AKIN_INDEX_READ);
    assert_int_equal(s.c->current->live, live);
    assert_true(look(&s, true));
    collection_close(&s.c);
    rig_end(&s.rig);
}

static void readers_beside_a_writer(void **state)
{
    (void)state;
    run_all(false, SEAL_ROWS);
}

static void and_a_compaction(void **state)
{
    (void)state;
    run_all(true, SEAL_ROWS);
}

/* Each batch is a segment when it is added; deletes make a tail beside them. */
static void batches_that_are_segments(void **state)
{
    (void)state;
    run_all(false, GROUP);
}

static void and_a_compaction_of_them(void **state)
{
    (void)state;
    run_all(true, GROUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_beside_a_writer),
        cmocka_unit_test(and_a_compaction),
        cmocka_unit_test(batches_that_are_segments),
        cmocka_unit_test(and_a_compaction_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
