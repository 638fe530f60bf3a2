/* A collection against an oracle: thousands of random operations in random order, every answer
 * compared, and what a copy of the file at any moment, as after a kill, opens to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collection_rig.h"

enum {
    OPERATIONS = 1000,
    BATCH_MAX = 56,     /* of SEAL_ROWS and more a batch is a segment at once */
    HISTORY = 64,           /* states since the last sync that are remembered */
    SEAL_ROWS = 40,
};

struct model {
    struct rig rig;
    struct rng rng;
    struct oracle now;
    struct oracle *history;             /* [HISTORY]: any may be what a kill leaves; the first is
                                         * what was promised */
    size_t history_count;
    bool history_full;
    struct collection *c;
    int stamp;
};

static void remember(struct model *m)
{
    if (m->history_count == HISTORY) {
        m->history_full = true;         /* nothing can be said until the next sync */
        return;
    }
    m->history[m->history_count++] = m->now;
}

static void promise(struct model *m)
{
    m->history_count = 0;
    m->history_full = false;
    remember(m);
}

/* ---- comparing --------------------------------------------------------------------------- */

static bool agrees(const struct model *m, const struct collection *c, const struct oracle *o,
                   const float *query, size_t k, int stamp_min)
{
    struct oracle_hit hits[ORACLE_ROWS_MAX];
    int64_t ids[ORACLE_ROWS_MAX + 8];
    float scores[ORACLE_ROWS_MAX + 8];
    struct akin_error error = { 0 };
    char filter[32];
    struct akin_index_query asked = { .vectors = query, .count = 1, .k = k, .exact = true };
    size_t count = oracle_search(o, m->rig.host.backend, query, stamp_min, hits);
    snprintf(filter, sizeof filter, "stamp>=%d", stamp_min);
    if (stamp_min >= 0)
        asked.filter = filter;
    if (collection_search(c, &asked, ids, scores, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    for (size_t i = 0; i < k; i++) {
        if (i >= count && ids[i] == -1 && scores[i] == -INFINITY)
            continue;
        if (i >= count || ids[i] != hits[i].id || memcmp(&scores[i], &hits[i].score, 4))
            return false;
    }
    return true;
}

static void search(struct model *m)
{
    float query[ORACLE_DIM_MAX];
    random_row(&m->rng, m->now.dim, query);
    size_t k = rng_below(&m->rng, 4) ? rng_below(&m->rng, 20) : ORACLE_ROWS_MAX + 8;
    int stamp_min = rng_below(&m->rng, 3) ? -1 : (int)rng_below(&m->rng, (uint64_t)m->stamp + 1);
    assert_true(agrees(m, m->c, &m->now, query, k, stamp_min));
}

static void look_up(struct model *m)
{
    int64_t id = (int64_t)rng_below(&m->rng, ORACLE_ROWS_MAX);
    char text[64], wanted[64];
    enum akin_status status =
        collection_text(m->c, id, COLLECTION_METADATA, text, sizeof text, NULL);
    assert_int_equal(status, m->now.alive[id] ? AKIN_OK : AKIN_NOT_FOUND);
    snprintf(wanted, sizeof wanted, "{\"stamp\": %d}", m->now.stamp[id]);
    if (m->now.alive[id])
        assert_string_equal(text, m->now.stamp[id] < 0 ? "" : wanted);
}

/* The file as a kill would leave it. */
static void open_copy(struct model *m)
{
    struct bytes bytes = { 0 };
    struct collection *copy = NULL;
    char path[160];
    float query[ORACLE_DIM_MAX];
    bool found = m->history_full;
    snprintf(path, sizeof path, "%s/copy.akx", m->rig.folder);
    rig_ok(&m->rig, file_read(m->rig.path, 64 << 20, &bytes, &m->rig.error));
    rig_ok(&m->rig, file_write(path, bytes.data, bytes.count, &m->rig.error));
    enum akin_index_mode mode = rng_below(&m->rng, 2) ? AKIN_INDEX_WRITE : AKIN_INDEX_READ;
    rig_ok(&m->rig, collection_open(&m->rig.host, path, mode, &copy, &m->rig.error));
    rig_ok(&m->rig, collection_validate(copy, &m->rig.error));
    random_row(&m->rng, m->now.dim, query);
    for (size_t i = m->history_count; i-- > 0 && !found;)
        found = agrees(m, copy, &m->history[i], query, ORACLE_ROWS_MAX, -1);
    assert_true(found);
    collection_close(&copy);
    rig_ok(&m->rig, collection_check(&m->rig.host, path, &m->rig.error));
    bytes_deinit(&bytes);
}

/* ---- changing ---------------------------------------------------------------------------- */

static void add(struct model *m, bool update)
{
    float vectors[BATCH_MAX][ORACLE_DIM_MAX], *flat = memory_alloc(BATCH_MAX, sizeof vectors[0]);
    int64_t ids[BATCH_MAX];
    char texts[BATCH_MAX][32];
    const char *metadata[BATCH_MAX];
    size_t count = 0, wanted = 1 + rng_below(&m->rng, BATCH_MAX), dim = m->now.dim;
    bool with_metadata = rng_below(&m->rng, 3) > 0;
    assert_non_null(flat);
    for (size_t tries = 0; tries < 4 * BATCH_MAX && count < wanted; tries++) {
        int64_t id = (int64_t)rng_below(&m->rng, ORACLE_ROWS_MAX);
        bool taken = m->now.alive[id] && !update;
        for (size_t i = 0; i < count; i++)
            taken = taken || ids[i] == id;
        if (taken)
            continue;
        random_row(&m->rng, dim, vectors[count]);
        memcpy(flat + count * dim, vectors[count], dim * sizeof *flat);
        snprintf(texts[count], sizeof texts[count], "{\"stamp\": %d}", m->stamp + (int)count);
        metadata[count] = texts[count];
        ids[count++] = id;
    }
    struct akin_index_rows rows = { .vectors = flat, .ids = ids, .count = count,
                                    .metadata = with_metadata ? metadata : NULL };
    rig_ok(&m->rig, collection_add(m->c, &rows, update, &m->rig.error));
    for (size_t i = 0; i < count; i++) {
        m->now.alive[ids[i]] = true;
        m->now.stamp[ids[i]] = with_metadata ? m->stamp + (int)i : -1;
        memcpy(m->now.rows[ids[i]], vectors[i], dim * sizeof(float));
    }
    m->stamp += (int)count;
    memory_free(flat);
    remember(m);
}

/* One id that is there already: nothing may happen. */
static void add_wrongly(struct model *m)
{
    float vectors[2 * ORACLE_DIM_MAX] = { 0 };
    int64_t ids[2] = { ORACLE_ROWS_MAX + 5, (int64_t)rng_below(&m->rng, ORACLE_ROWS_MAX) };
    struct akin_index_rows rows = { .vectors = vectors, .ids = ids, .count = 2 };
    if (m->now.alive[ids[1]])
        assert_int_equal(collection_add(m->c, &rows, false, NULL), AKIN_ARGUMENT);
}

static void delete(struct model *m)
{
    int64_t ids[BATCH_MAX];
    size_t count = rng_below(&m->rng, BATCH_MAX), gone = 0, deleted = 0;
    for (size_t i = 0; i < count; i++) {
        ids[i] = (int64_t)rng_below(&m->rng, ORACLE_ROWS_MAX);
        gone += m->now.alive[ids[i]];
        m->now.alive[ids[i]] = false;
    }
    rig_ok(&m->rig, collection_delete(m->c, ids, NULL, count, &deleted, &m->rig.error));
    assert_int_equal(deleted, gone);
    remember(m);
}

static void sync(struct model *m)
{
    size_t rows = 0, live = 0;
    rig_ok(&m->rig, collection_sync(m->c, &rows, &m->rig.error));
    for (size_t i = 0; i < ORACLE_ROWS_MAX; i++)
        live += m->now.alive[i];
    assert_int_equal(rows, live);
    promise(m);
}

static void reopen(struct model *m)
{
    collection_close(&m->c);
    promise(m);
    m->c = rig_open(&m->rig, AKIN_INDEX_WRITE);
    rig_seal_rows(m->c, SEAL_ROWS);
}

static void step(struct model *m)
{
    switch (rng_below(&m->rng, 40)) {
    case 0: rig_ok(&m->rig, collection_seal(m->c, &m->rig.error)); break;
    case 1: reopen(m); break;
    case 2: sync(m); break;
    case 3: open_copy(m); break;
    case 4: add_wrongly(m); break;
    case 5: rig_ok(&m->rig, collection_validate(m->c, &m->rig.error)); break;
    case 6:
        if (rng_below(&m->rng, 4))
            break;
        rig_ok(&m->rig, collection_compact(m->c, NULL, &m->rig.error));
        promise(m);
        break;
    case 7: case 8: case 9: case 10: add(m, false); break;
    case 11: case 12: case 13: add(m, true); break;
    case 14: case 15: case 16: delete(m); break;
    case 17: case 18: look_up(m); break;
    default: search(m);
    }
}

static void run_model(uint64_t seed, enum akin_metric metric, const char *kind)
{
    struct model *m = memory_alloc(1, sizeof *m);
    assert_non_null(m);
    m->history = memory_alloc(HISTORY, sizeof *m->history);
    assert_non_null(m->history);
    rig_begin(&m->rig, 2);
    rng_seed(&m->rng, seed);
    m->now.dim = 3 + rng_below(&m->rng, ORACLE_DIM_MAX - 3);
    m->now.metric = metric;
    struct akin_index_settings settings;
    struct akin_index_rows none = { 0 };
    collection_settings_default(&settings);
    settings.metric = metric;
    settings.kind = kind;
    print_message("seed %llu, metric %d, %zu dimensions, %s\n", (unsigned long long)seed,
                  (int)metric, m->now.dim, kind);
    rig_ok(&m->rig, collection_build(&m->rig.host, m->rig.path, &none, m->now.dim, &settings,
                                     &m->rig.error));
    m->c = rig_open(&m->rig, AKIN_INDEX_WRITE);
    rig_seal_rows(m->c, SEAL_ROWS);
    promise(m);
    for (int i = 0; i < OPERATIONS; i++)
        step(m);
    collection_close(&m->c);
    rig_ok(&m->rig, collection_check(&m->rig.host, m->rig.path, &m->rig.error));
    rig_end(&m->rig);
    memory_free(m->history);
    memory_free(m);
}

static void inner_product(void **state)
{
    (void)state;
    run_model(1, AKIN_METRIC_INNER_PRODUCT, "flat");
    run_model(2, AKIN_METRIC_INNER_PRODUCT, "auto");
}

static void cosine(void **state)
{
    (void)state;
    run_model(3, AKIN_METRIC_COSINE, "flat");
}

static void l2(void **state)
{
    (void)state;
    run_model(4, AKIN_METRIC_L2, "flat");
}

/* Their segments are made by compact only; exact search must be exact there too. */
static void graph(void **state)
{
    (void)state;
    run_model(5, AKIN_METRIC_COSINE, "graph");
    run_model(6, AKIN_METRIC_L2, "graph");
}

static void ivfpq(void **state)
{
    (void)state;
    run_model(7, AKIN_METRIC_INNER_PRODUCT, "ivfpq");
    run_model(8, AKIN_METRIC_L2, "ivfpq");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inner_product),
        cmocka_unit_test(cosine),
        cmocka_unit_test(l2),
        cmocka_unit_test(graph),
        cmocka_unit_test(ivfpq),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
