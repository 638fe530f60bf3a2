/* The neighbour cache: what is computed first, what is kept, that a refresh is never seen half
 * done, with readers on other threads; and lists from vectors against a plain sort. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/search_device.h"
#include "recommend/event_queue.h"
#include "recommend/neighbors.h"
#include "recommend/neighbors_blocks.h"

enum { ITEMS = 500, THREADS = 3 };

/* ---- a source whose lists tell the row and the version that they were made from ----------- */

struct made {
    struct neighbors_source source;
    atomic_int version;
    atomic_bool broken;
    uint32_t order[4 * ITEMS];      /* as they were asked for */
    size_t asked;
    size_t batch, largest;          /* wished for; asked for at once */
    size_t most;                    /* done at once; 0: all */
};

static enum akin_status make_lists(void *context, const uint32_t *rows, size_t count,
                                   const struct neighbors_sink *sink, size_t *done,
                                   struct akin_error *error)
{
    struct made *m = context;
    if (atomic_load(&m->broken))
        return error_set(error, AKIN_MEMORY, "broken on purpose");
    int version = atomic_load(&m->version);
    m->largest = count > m->largest ? count : m->largest;
    count = m->most && m->most < count ? m->most : count;
    for (size_t i = 0; i < count; i++) {
        if (m->asked < 4 * ITEMS)
            m->order[m->asked++] = rows[i];
        size_t found = rows[i] % (AKIN_NEIGHBORS_MAX + 1);
        struct akin_neighbor *list = sink->begin(sink->context);
        for (size_t j = 0; j < found; j++)
            list[j] = (struct akin_neighbor){ rows[i] + (uint32_t)j, (float)version };
        sink->end(sink->context, rows[i], found);
    }
    *done = count;
    return AKIN_OK;
}

static struct made *new_source(void)
{
    struct made *m = memory_alloc(1, sizeof *m);
    assert_non_null(m);
    m->source = (struct neighbors_source){ .compute = make_lists, .context = m, .items = ITEMS };
    return m;
}

/* The version of a list that is right in itself, -1 for one that is not. */
static int version_of(const struct akin_neighbor *list, size_t found, uint32_t row)
{
    if (found != row % (AKIN_NEIGHBORS_MAX + 1))
        return -1;
    for (size_t j = 0; j < found; j++)
        if (list[j].row != row + j || list[j].score != list[0].score)
            return -1;
    return found ? (int)list[0].score : 0;
}

static struct neighbors *open_cache(struct made *made, size_t capacity,
                                    const struct akin_cache_event *history, size_t count)
{
    struct akin_neighbors_settings settings;
    struct neighbors *n = NULL;
    struct akin_error error = { 0 };
    neighbors_settings_default(&settings);
    settings.capacity = capacity;
    if (neighbors_open(&made->source, &settings, history, count, &n, &error))
        fail_msg("%s", error.message);
    return n;
}

static struct akin_neighbors_counts counts_of(struct neighbors *n)
{
    struct akin_neighbors_counts counts;
    assert_int_equal(neighbors_wait(n, NULL), AKIN_OK);
    neighbors_count(n, &counts);
    return counts;
}

/* ---- what is there ---------------------------------------------------------------------- */

static void test_all_lists_come_in_order_of_demand(void **state)
{
    (void)state;
    struct made *made = new_source();
    struct akin_cache_event history[60];
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
    size_t found;
    for (size_t i = 0; i < 60; i++)     /* 30 thrice, 20 twice, 10 once */
        history[i] = (struct akin_cache_event){ 0, 1, i % 6 < 3 ? 30 : i % 6 < 5 ? 20 : 10 };
    struct neighbors *n = open_cache(made, 0, history, 60);
    struct akin_neighbors_counts counts = counts_of(n);
    assert_int_equal(counts.lists, ITEMS);
    assert_int_equal(counts.built, ITEMS);
    assert_int_equal(made->asked, ITEMS);
    static const uint32_t first[] = { 30, 20, 10, 0, 1, 2 };
    assert_memory_equal(made->order, first, sizeof first);
    for (uint32_t row = 0; row < ITEMS; row++) {
        assert_true(neighbors_lookup(n, row, list, &found));
        assert_int_equal(version_of(list, found, row), 0);
    }
    assert_false(neighbors_lookup(n, ITEMS, list, &found));
    assert_false(neighbors_lookup(n, SIZE_MAX, list, &found));
    counts = counts_of(n);
    assert_int_equal(counts.hits, ITEMS);
    assert_int_equal(counts.misses, 0);
    assert_true(counts.age_seconds_max >= counts.age_seconds_mean);
    assert_true(counts.bytes > ITEMS * AKIN_NEIGHBORS_MAX * sizeof *list);
    neighbors_close(&n);
    assert_null(n);
    memory_free(made);
}

static void test_a_miss_is_admitted_when_in_demand(void **state)
{
    (void)state;
    struct made *made = new_source();
    struct akin_cache_event history[4] = { { 0, 1, 7 }, { 0, 1, 7 }, { 0, 1, 8 }, { 0, 1, 8 } };
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
    size_t found;
    struct neighbors *n = open_cache(made, 2, history, 4);
    assert_int_equal(counts_of(n).lists, 2);
    assert_false(neighbors_lookup(n, 9, list, &found));
    struct akin_neighbors_counts counts = counts_of(n);
    assert_int_equal(counts.bypassed, 1);       /* once is less than twice */
    assert_true(neighbors_lookup(n, 8, list, &found));
    for (int i = 0; i < 3; i++)
        assert_int_equal(neighbors_record(n, 9, 0.9, 0, NULL), AKIN_OK);
    counts = counts_of(n);
    assert_int_equal(counts.admitted, 1);
    assert_int_equal(counts.evicted, 1);
    assert_int_equal(counts.lists, 2);
    assert_false(neighbors_lookup(n, 7, list, &found));
    assert_true(neighbors_lookup(n, 9, list, &found));
    assert_int_equal(version_of(list, found, 9), 0);
    counts = counts_of(n);
    assert_int_equal(counts.hits, 2);
    assert_int_equal(counts.misses, 2);
    assert_int_equal(counts.capacity, 2);
    neighbors_close(&n);
    memory_free(made);
}

static void test_what_is_wrong_is_refused(void **state)
{
    (void)state;
    struct made *made = new_source();
    struct akin_neighbors_settings settings;
    struct neighbors *n = NULL;
    struct akin_error error = { 0 };
    neighbors_settings_default(&settings);
    settings.window = NAN;
    assert_int_equal(neighbors_open(&made->source, &settings, NULL, 0, &n, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "window"));
    assert_null(n);
    struct akin_cache_event strange = { 0, 1, ITEMS + 5 };      /* passed over */
    n = open_cache(made, 3, &strange, 1);
    static const double bad[] = { -0.1, 1.1, NAN, INFINITY };
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(neighbors_record(n, 1, bad[i], 0, &error), AKIN_ARGUMENT);
        assert_non_null(strstr(error.message, "rating"));
    }
    assert_int_equal(neighbors_record(n, ITEMS, 0.5, 0, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "item"));
    struct akin_neighbors_counts counts = counts_of(n);
    assert_int_equal(counts.admitted + counts.bypassed, 0);
    neighbors_close(&n);
    memory_free(made);
}

static void test_a_failure_is_told_and_mended_by_a_refresh(void **state)
{
    (void)state;
    struct made *made = new_source();
    struct akin_error error = { 0 };
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
    size_t found;
    atomic_store(&made->broken, true);
    struct neighbors *n = open_cache(made, 50, NULL, 0);
    assert_int_equal(neighbors_wait(n, &error), AKIN_MEMORY);
    assert_non_null(strstr(error.message, "on purpose"));
    assert_false(neighbors_lookup(n, 3, list, &found));
    atomic_store(&made->broken, false);
    neighbors_refresh(n);
    assert_int_equal(counts_of(n).lists, 50);
    assert_true(neighbors_lookup(n, 3, list, &found));
    neighbors_close(&n);
    memory_free(made);
}

static size_t wished(void *context)
{
    struct made *m = context;
    return m->batch;
}

static void test_a_source_says_how_many_at_once(void **state)
{
    static const size_t batches[] = { 0, 1, 7, 300, NEIGHBORS_BATCH_MAX + 5 };
    (void)state;
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        struct made *made = new_source();
        made->batch = batches[i];
        if (batches[i])
            made->source.batch = wished;
        struct neighbors *n = open_cache(made, 0, NULL, 0);
        assert_int_equal(counts_of(n).lists, ITEMS);
        assert_int_equal(made->asked, ITEMS);
        assert_int_equal(made->largest, batches[i] == 0 ? NEIGHBORS_BATCH
                                        : batches[i] < ITEMS ? batches[i] : ITEMS);
        neighbors_close(&n);
        memory_free(made);
    }
}

static void test_no_items(void **state)
{
    (void)state;
    struct made *made = new_source();
    struct akin_neighbor list[1];
    size_t found;
    made->source.items = 0;
    struct neighbors *n = open_cache(made, 10, NULL, 0);
    assert_false(neighbors_lookup(n, 0, list, &found));
    assert_int_equal(counts_of(n).lists, 0);
    neighbors_close(&n);
    memory_free(made);
}

/* ---- threads ---------------------------------------------------------------------------- */

struct reader {
    struct neighbors *neighbors;
    struct thread *thread;
    atomic_bool *stop;
    uint64_t seed, lookups, hits, torn, went_back;
};

static void read_lists(void *context)
{
    struct reader *r = context;
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
    int *newest = memory_alloc(ITEMS, sizeof *newest);
    struct rng rng;
    size_t found;
    rng_seed(&rng, r->seed);
    while (newest && !atomic_load(r->stop)) {
        uint32_t row = (uint32_t)rng_below(&rng, 1 + rng_below(&rng, ITEMS));
        r->lookups++;
        if (rng_below(&rng, 8) == 0)
            (void)neighbors_record(r->neighbors, row, 0.5, 0, NULL);
        if (!neighbors_lookup(r->neighbors, row, list, &found))
            continue;
        int version = version_of(list, found, row);
        r->hits++;
        r->torn += version < 0;
        r->went_back += version < newest[row];
        newest[row] = version;
    }
    memory_free(newest);
}

/* Whoever reads sees whole lists, of versions that only grow, while they are all replaced and some
 * come and go. `most`: of so many rows that are asked for, what is no longer kept may be left. */
static void check_readers(size_t capacity, size_t most)
{
    struct made *made = new_source();
    struct reader readers[THREADS] = { 0 };
    struct akin_neighbors_counts counts;
    atomic_bool stop = false;
    made->most = most;
    made->batch = ITEMS;
    made->source.batch = most ? wished : NULL;
    struct neighbors *n = open_cache(made, capacity, NULL, 0);
    for (size_t i = 0; i < THREADS; i++) {
        readers[i] = (struct reader){ .neighbors = n, .stop = &stop, .seed = i };
        readers[i].thread = thread_start(read_lists, &readers[i], false);
        assert_non_null(readers[i].thread);
    }
    for (int version = 1; version <= 12; version++) {
        atomic_store(&made->version, version);
        neighbors_refresh(n);
        if (version % 4 == 0)
            assert_int_equal(neighbors_wait(n, NULL), AKIN_OK);
    }
    atomic_store(&stop, true);
    uint64_t lookups = 0, hits = 0;
    for (size_t i = 0; i < THREADS; i++) {
        thread_join(&readers[i].thread);
        assert_int_equal(readers[i].torn, 0);
        assert_int_equal(readers[i].went_back, 0);
        lookups += readers[i].lookups;
        hits += readers[i].hits;
    }
    neighbors_refresh(n);
    counts = counts_of(n);
    assert_int_equal(counts.hits, hits);
    assert_int_equal(counts.hits + counts.misses, lookups);
    assert_int_equal(counts.lists, capacity ? capacity : ITEMS);
    neighbors_close(&n);
    memory_free(made);
}

static void test_readers_never_see_half_a_list(void **state)
{
    (void)state;
    check_readers(0, 0);
    check_readers(ITEMS / 10, 0);
    check_readers(ITEMS / 10, 3);
}

static void test_a_busy_cache_closes(void **state)
{
    (void)state;
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
    size_t found;
    for (int i = 0; i < 50; i++) {
        struct made *made = new_source();
        struct neighbors *n = open_cache(made, 20, NULL, 0);
        for (size_t row = 0; row < (size_t)i; row++)
            neighbors_lookup(n, row, list, &found);
        neighbors_close(&n);
        memory_free(made);
    }
}

/* ---- queue and blocks ------------------------------------------------------------------- */

enum { SENT = 20000 };

struct sender {
    struct event_queue *queue;
    struct thread *thread;
    uint32_t number;
};

static void send_all(void *context)
{
    struct sender *s = context;
    for (int64_t i = 0; i < SENT;)
        i += event_queue_put(s->queue, (struct akin_cache_event){ i, 0, s->number });
}

static void test_queue_keeps_every_event_and_the_order_of_each_sender(void **state)
{
    (void)state;
    struct event_queue *queue = event_queue_create(64);
    struct sender senders[THREADS];
    struct akin_cache_event event;
    int64_t next[THREADS] = { 0 };
    assert_non_null(queue);
    for (size_t i = 0; i < 64; i++)
        assert_true(event_queue_put(queue, (struct akin_cache_event){ 0, 0, 0 }));
    assert_false(event_queue_put(queue, (struct akin_cache_event){ 0, 0, 0 }));
    for (size_t i = 0; i < 64; i++)
        assert_true(event_queue_take(queue, &event));
    assert_false(event_queue_take(queue, &event));
    for (uint32_t i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){ .queue = queue, .number = i };
        senders[i].thread = thread_start(send_all, &senders[i], false);
        assert_non_null(senders[i].thread);
    }
    for (size_t taken = 0; taken < THREADS * SENT;) {
        if (!event_queue_take(queue, &event))
            continue;
        assert_int_equal(event.timestamp, next[event.row]++);
        taken++;
    }
    for (size_t i = 0; i < THREADS; i++)
        thread_join(&senders[i].thread);
    assert_int_equal(event_queue_puts(queue), event_queue_takes(queue));
    event_queue_destroy(&queue);
    assert_null(queue);
}

static void test_blocks_are_used_again(void **state)
{
    (void)state;
    struct blocks *blocks = blocks_create(10, 2, 1);
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX];
    size_t found;
    double mean, max;
    assert_non_null(blocks);
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t row = i % 10, other = (i + 8) % 10;
        if (i >= 2)
            blocks_withdraw(blocks, other);
        assert_false(blocks_has(blocks, row));
        for (int again = 0; again < 3; again++) {
            struct akin_neighbor *blank = blocks_blank(blocks);
            blank[0] = (struct akin_neighbor){ 4, (float)(i * 3 + (uint32_t)again) };
            assert_ptr_equal(blocks_blank(blocks), blank);
            blocks_publish(blocks, row, 1, (uint64_t)1e9 * (i + 1));
            assert_true(blocks_read(blocks, row, list, &found));
            assert_int_equal(found, 1);
            assert_true(list[0].score == (float)(i * 3 + (uint32_t)again));
        }
        assert_int_equal(blocks_count(blocks), i ? 2 : 1);
    }
    blocks_ages(blocks, (uint64_t)103e9, &mean, &max);
    assert_true(fabs(mean - 3.5) < 1e-6 && fabs(max - 4) < 1e-6);
    assert_false(blocks_read(blocks, 10, list, &found));
    blocks_destroy(&blocks);
    assert_null(blocks);
}

/* ---- lists from vectors ----------------------------------------------------------------- */

enum { DIM = 5 };

static int best_first(const void *a, const void *b)
{
    const struct akin_neighbor *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Lists by row, as they come. */
struct kept_lists {
    struct akin_neighbor list[AKIN_NEIGHBORS_MAX], of[ITEMS][AKIN_NEIGHBORS_MAX];
    size_t found[ITEMS], times[ITEMS];
};

static struct akin_neighbor *begin_kept(void *context)
{
    struct kept_lists *kept = context;
    return kept->list;
}

static void end_kept(void *context, uint32_t row, size_t found)
{
    struct kept_lists *kept = context;
    assert_true(row < ITEMS && found <= AKIN_NEIGHBORS_MAX);
    memcpy(kept->of[row], kept->list, found * sizeof *kept->list);
    kept->found[row] = found;
    kept->times[row]++;
}

static void compute_all(struct neighbors_vectors *v, const uint32_t *rows, size_t count,
                        struct kept_lists *kept)
{
    const struct neighbors_sink sink = { begin_kept, end_kept, kept };
    for (size_t first = 0, done; first < count; first += done) {
        done = 0;
        assert_int_equal(neighbors_compute_vectors(v, rows + first, count - first, &sink, &done,
                                                   NULL), AKIN_OK);
        assert_in_range(done, 1, count - first);
    }
}

/* A card that is made up: it searches on a backend, tells the answers backwards, and fails after
 * half of them when it is told. */
struct search_device {
    struct backend *backend;
    const float *vectors;
    size_t items;
    int searches, fails_at;
    bool destroyed;
};

static enum akin_status card_search(struct search_device *card, const struct device_query *query,
                                    struct hit *hits, size_t *found, struct search_counts *counts,
                                    struct akin_error *error)
{
    static float queries[ITEMS * DIM];
    static struct hit own[ITEMS * (AKIN_NEIGHBORS_MAX + 1)];
    static size_t own_found[ITEMS];
    (void)counts;
    assert_true(!query->queries && query->answer && !hits && !found);
    for (size_t q = 0; q < query->query_count; q++)
        memcpy(queries + q * DIM, card->vectors + query->rows[q] * DIM, DIM * sizeof *queries);
    struct topk_request request = {
        .rows = card->vectors, .row_count = card->items, .dim = DIM, .queries = queries,
        .query_count = query->query_count, .k = query->k, .score = SCORE_INNER_PRODUCT,
    };
    assert_true(query->k <= SEARCH_DEVICE_K_MAX);
    bool fails = ++card->searches == card->fails_at;
    TRY(cpu_topk(card->backend, &request, own, own_found, error));
    for (size_t q = query->query_count; q > (fails ? query->query_count / 2 : 0); q--)
        query->answer(query->context, q - 1, own + (q - 1) * query->k, own_found[q - 1]);
    return fails ? error_set(error, AKIN_IO, "the card fell out") : AKIN_OK;
}

static void card_destroy(struct search_device **card)
{
    (*card)->destroyed = true;
    *card = NULL;
}

/* A search on the card, one that it fails in, one without it: the same lists, though after the
 * failure some come a second time, and no more at once than a core does. */
static void test_lists_of_a_card(void **state)
{
    (void)state;
    enum { COUNT = 3 * NEIGHBORS_BATCH + 5 };
    static const struct search_device_ops ops = { .destroy = card_destroy, .search = card_search };
    static float vectors[ITEMS * DIM];
    static struct kept_lists plain, kept;
    static uint32_t rows[COUNT];
    struct thread_pool *pool = thread_pool_create(1);
    struct neighbors_vectors v = { .vectors = vectors, .items = ITEMS, .dim = DIM };
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < ITEMS * DIM; i++)
        vectors[i] = ((float)rng_below(&rng, 5) - 2) / 4;
    for (uint32_t i = 0; i < COUNT; i++)
        rows[i] = ITEMS - 1 - 2 * i;
    assert_int_equal(cpu_backend_create(cpu_detect(), pool, &v.backend, NULL), AKIN_OK);
    compute_all(&v, rows, COUNT, &plain);
    struct search_device card = { .backend = v.backend, .vectors = vectors, .items = ITEMS,
                                  .fails_at = 2 };
    v.card = &card;
    v.card_ops = &ops;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(neighbors_batch_vectors(&v), i < 2 ? NEIGHBORS_BATCH_MAX
                                                            : NEIGHBORS_BATCH);
        memset(&kept, 0, sizeof kept);
        compute_all(&v, rows, COUNT, &kept);
        assert_memory_equal(kept.found, plain.found, sizeof kept.found);
        for (size_t r = 0; r < COUNT; r++)
            assert_int_equal(kept.times[rows[r]], i == 1 && r >= COUNT / 2 ? 2 : 1);
        for (size_t r = 0; r < COUNT; r++)
            assert_memory_equal(kept.of[rows[r]], plain.of[rows[r]],
                                plain.found[rows[r]] * sizeof *kept.list);
        assert_int_equal(card.destroyed, i > 0);
    }
    assert_int_equal(card.searches, 2);
    cpu_backend_destroy(&v.backend);
    thread_pool_destroy(&pool);
}

static void check_vectors(const float *vectors, size_t items)
{
    struct thread_pool *pool = thread_pool_create(1);
    struct neighbors_vectors v = { .vectors = vectors, .items = items, .dim = DIM };
    struct kept_lists *kept = memory_alloc(1, sizeof *kept);
    struct akin_neighbor *plain = memory_alloc(items, sizeof *plain);
    uint32_t rows[3] = { 0, (uint32_t)items / 2, (uint32_t)items - 1 };
    assert_int_equal(cpu_backend_create(cpu_detect(), pool, &v.backend, NULL), AKIN_OK);
    compute_all(&v, rows, 3, kept);
    for (size_t i = 0; i < 3; i++) {
        size_t count = 0;
        for (uint32_t row = 0; row < items; row++) {
            float score = 0;
            for (size_t d = 0; d < DIM; d++)
                score += vectors[row * DIM + d] * vectors[rows[i] * DIM + d];
            if (row != rows[i])
                plain[count++] = (struct akin_neighbor){ row, score };
        }
        qsort(plain, count, sizeof *plain, best_first);
        count = count < AKIN_NEIGHBORS_MAX ? count : AKIN_NEIGHBORS_MAX;
        assert_int_equal(kept->found[rows[i]], count);
        assert_memory_equal(kept->of[rows[i]], plain, count * sizeof *plain);
    }
    cpu_backend_destroy(&v.backend);
    thread_pool_destroy(&pool);
    memory_free(kept);
    memory_free(plain);
}

static void test_lists_are_the_nearest_without_the_item(void **state)
{
    (void)state;
    static float vectors[ITEMS * DIM];
    struct rng rng;
    rng_seed(&rng, 4);
    /* quarters are exact in float32; equal rows and longer ones make ties and put others first */
    for (size_t i = 0; i < ITEMS * DIM; i++)
        vectors[i] = ((float)rng_below(&rng, 5) - 2) / 4;
    check_vectors(vectors, ITEMS);
    check_vectors(vectors, 201);
    check_vectors(vectors, 7);
    check_vectors(vectors, 1);
}

/* ---- what a catalogue knows of demand --------------------------------------------------- */

static struct catalog *new_catalog(const char *folder, const char *interactions)
{
    char items_path[PATH_BYTES_MAX], path[PATH_BYTES_MAX], data[PATH_BYTES_MAX];
    static const char items[] = "{\"id\":\"a\",\"title\":\"A\"}\n{\"id\":\"b\",\"title\":\"B\"}\n"
                                "{\"id\":\"c\",\"title\":\"C\"}\n";
    struct catalog *catalog = NULL;
    struct akin_error error = { 0 };
    assert_int_equal(path_join(items_path, sizeof path, folder, "items.jsonl", NULL), AKIN_OK);
    assert_int_equal(path_join(path, sizeof path, folder, "interactions.jsonl", NULL), AKIN_OK);
    assert_int_equal(path_join(data, sizeof data, folder, "data", NULL), AKIN_OK);
    assert_int_equal(file_write(items_path, items, sizeof items - 1, NULL), AKIN_OK);
    assert_int_equal(file_write(path, interactions, strlen(interactions), NULL), AKIN_OK);
    if (catalog_import_jsonl(items_path, path, NULL, data, (struct akin_progress){ 0 }, NULL,
                             &error) ||
        catalog_open(data, CATALOG_WITHOUT_EMBEDDINGS, &catalog, &error))
        fail_msg("%s", error.message);
    return catalog;
}

static void test_history_is_in_the_order_of_time(void **state)
{
    (void)state;
    char folder[] = "/tmp/akin_history_XXXXXX";
    struct akin_cache_event *events = NULL;
    size_t count = 77;
    assert_non_null(mkdtemp(folder));
    struct catalog *c = new_catalog(folder, "");
    assert_int_equal(neighbors_history(c, &events, &count, NULL), AKIN_OK);
    assert_int_equal(count, 0);
    memory_free(events);
    catalog_close(&c);
    c = new_catalog(folder,
                    "{\"user\":\"u\",\"item\":\"a\",\"rating\":4,\"timestamp\":500}\n"
                    "{\"user\":\"u\",\"item\":\"b\",\"rating\":1,\"timestamp\":90}\n"
                    "{\"user\":\"v\",\"item\":\"c\",\"rating\":2,\"timestamp\":1000000000}\n"
                    "{\"user\":\"v\",\"item\":\"b\",\"rating\":4,\"timestamp\":200}\n"
                    "{\"user\":\"w\",\"item\":\"b\",\"rating\":3,\"timestamp\":500}\n");
    assert_int_equal(neighbors_history(c, &events, &count, NULL), AKIN_OK);
    static const struct akin_cache_event expected[] = {
        { 90, 0.25, 1 }, { 200, 1, 1 }, { 500, 1, 0 }, { 500, 0.75, 1 }, { 1000000000, 0.5, 2 },
    };
    assert_int_equal(count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(events[i].timestamp, expected[i].timestamp);
        assert_int_equal(events[i].row, expected[i].row);
        assert_true(events[i].rating == expected[i].rating);
    }
    memory_free(events);
    catalog_close(&c);
    assert_int_equal(path_remove_tree(folder, NULL), AKIN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_lists_come_in_order_of_demand),
        cmocka_unit_test(test_a_miss_is_admitted_when_in_demand),
        cmocka_unit_test(test_what_is_wrong_is_refused),
        cmocka_unit_test(test_a_failure_is_told_and_mended_by_a_refresh),
        cmocka_unit_test(test_a_source_says_how_many_at_once),
        cmocka_unit_test(test_no_items),
        cmocka_unit_test(test_readers_never_see_half_a_list),
        cmocka_unit_test(test_a_busy_cache_closes),
        cmocka_unit_test(test_queue_keeps_every_event_and_the_order_of_each_sender),
        cmocka_unit_test(test_blocks_are_used_again),
        cmocka_unit_test(test_lists_are_the_nearest_without_the_item),
        cmocka_unit_test(test_lists_of_a_card),
        cmocka_unit_test(test_history_is_in_the_order_of_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
