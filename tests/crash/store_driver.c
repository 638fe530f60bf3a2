/* A writer whose every state is known by one number, for tests that kill it, fail its system calls
 * or cut its power.
 *
 *   store_driver write PATH OPERATIONS BATCHES_PER_SYNC   prints "synced N" after each durable N
 *   store_driver verify PATH ACKED                        a fresh look: N >= ACKED, and all of N
 *   store_driver follow PATH OPERATIONS                   reads while another process writes, until
 *                                                         there are so many
 *   store_driver rate PATH ROWS DIMENSION BATCH           rows synced after each batch, then sealed
 *   store_driver open PATH                                how long that takes
 *
 * Operation n: batches of BATCH; each eighth batch deletes, the others add row n with id n. What is
 * deleted and what a vector holds are functions of n, so that N operations are one state. Rows are
 * sealed into segments, segments merged, the file compacted, on the way. After a failed append it
 * tries again; after a failed sync it makes sure that the handle refuses to write, and opens the
 * file again: exit 0 if that went well, 1 if the system let it do nothing, 2 for a wrong result. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "index/store.h"
#include "driver.h"

enum { DIM = 24, BATCH = 16, SEAL_EVERY = 6 * BATCH, COMPACT_EVERY = 20 * BATCH, SEGMENTS = 4 };

struct model {
    unsigned char *live;        /* [count] by id: one operation, one id */
    uint64_t count;
};

static bool deletes(uint64_t n)
{
    return n / BATCH % 8 == 7;
}

static int64_t victim(uint64_t n)
{
    return (int64_t)(mix(n) % n);
}

static void vector_of(uint64_t id, float *out)
{
    for (size_t i = 0; i < DIM; i++)
        out[i] = (float)(mix(id * DIM + i) % 2001) / 1000 - 1;
}

static struct model model_of(uint64_t operations)
{
    struct model m = { .live = memory_alloc(operations + 1, 1), .count = operations };
    for (uint64_t n = 0; n < operations; n++)
        m.live[deletes(n) ? (uint64_t)victim(n) : n] = !deletes(n);
    return m;
}

static void say(const char *what, uint64_t number)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%s %" PRIu64 "\n", what, number);
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        die(1, "standard output is gone");
}

/* ---- verifying -------------------------------------------------------------------------- */

static void count_row(const char *what, uint64_t frame, int64_t id, const float *vector,
                      struct model *seen)
{
    float expected[DIM];
    if (id < 0 || (uint64_t)id >= seen->count || seen->live[id])
        die(2, "%s at byte %" PRIu64 ": id %" PRId64 " is not one, or there twice", what, frame,
            id);
    vector_of((uint64_t)id, expected);
    if (memcmp(expected, vector, sizeof expected))
        die(2, "%s at byte %" PRIu64 ": id %" PRId64 " has another vector", what, frame, id);
    seen->live[id] = 1;
}

static void collect_segment(const struct store *store, const struct store_segment_ref *ref,
                            struct model *seen)
{
    struct store_segment *segment;
    size_t dead_count;
    MUST(store_segment_open(store, ref->frame, &segment, &error));
    uint64_t *dead = memory_alloc((segment->rows + 63) / 64, sizeof *dead);
    MUST(store_read_dead(store, ref->dead, segment->rows, dead, &dead_count, &error));
    const int64_t *ids = store_segment_find(segment, STORE_BLOCK_IDS)->data;
    const float *vectors = store_segment_find(segment, STORE_BLOCK_VECTORS)->data;
    for (size_t i = 0; i < segment->rows; i++)
        if (!(dead[i / 64] >> i % 64 & 1))
            count_row("segment", ref->frame, ids[i], vectors + i * DIM, seen);
    memory_free(dead);
    store_segment_close(&segment);
}

/* Everything that the file holds equals everything that N operations make. */
static void compare(const struct store *store)
{
    uint64_t operations = store_operations(store);
    struct model expected = model_of(operations), seen = expected;
    seen.live = memory_alloc(operations + 1, 1);
    const struct store_layout *layout = store_layout(store);
    for (size_t i = 0; i < layout->segment_count; i++)
        collect_segment(store, &layout->segments[i], &seen);
    struct store_tail *tail;
    struct store_operation op;
    bool more = true;
    MUST(store_tail_open(store, &tail, &error));
    for (;;) {
        MUST(store_tail_next(tail, &op, &more, &error));
        if (!more)
            break;
        for (size_t i = 0; i < op.count; i++) {
            uint64_t n = op.first + i;
            if (op.is_delete != deletes(n) || op.ids[i] != (deletes(n) ? victim(n) : (int64_t)n))
                die(2, "operation %" PRIu64 " is not what it was", n);
            if (op.is_delete)
                seen.live[op.ids[i]] = 0;
            else
                count_row("tail", n, op.ids[i], (const float *)op.vectors + i * DIM, &seen);
        }
    }
    store_tail_close(&tail);
    for (uint64_t id = 0; id < operations; id++)
        if (seen.live[id] != expected.live[id])
            die(2, "after %" PRIu64 " operations id %" PRIu64 " should be %s", operations, id,
                expected.live[id] ? "there" : "gone");
    memory_free(expected.live);
    memory_free(seen.live);
}

static int verify(const char *path, uint64_t acked)
{
    struct store *store;
    enum akin_status status = store_open(path, STORE_READ, &store, &error);
    if (status == AKIN_NOT_FOUND && acked == 0)
        return 0;
    if (status != AKIN_OK)
        die(2, "it does not open: %s", error.message);
    if (store_operations(store) < acked || store_operations(store) % BATCH)
        die(2, "%" PRIu64 " operations where %" PRIu64 " were acknowledged",
            store_operations(store), acked);
    compare(store);
    store_close(&store);
    struct store_report report;
    if (store_check(path, &report, &error) != AKIN_OK && !report.in_tail)
        die(2, "check: %s", error.message);
    if (store_open(path, STORE_WRITE, &store, &error) != AKIN_OK)
        die(2, "it does not open for writing: %s", error.message);
    compare(store);
    store_close(&store);
    if (store_check(path, &report, &error) != AKIN_OK || report.unpromised_bytes)
        die(2, "check after opening for writing: %s", error.message);
    return 0;
}

/* Every state that it meets is one that a number of operations makes, and numbers only grow. */
static int follow(const char *path, uint64_t operations)
{
    struct store *store = NULL;
    struct store_segment *kept = NULL;
    uint64_t seen = 0, looks = 0, replacements = 0;
    bool changed = true, replaced = false;
    while (seen < operations) {
        if (!store) {
            enum akin_status status = store_open(path, STORE_READ, &store, &error);
            if (status == AKIN_NOT_FOUND)
                continue;
            MUST(status);
            changed = true;
        }
        if (changed) {
            if (store_operations(store) < seen)
                die(2, "%" PRIu64 " operations after %" PRIu64, store_operations(store), seen);
            seen = store_operations(store);
            compare(store);
            if (++looks % 16 == 0)
                MUST(store_check(path, NULL, &error));
        }
        if (!kept && store_layout(store)->segment_count)
            MUST(store_segment_open(store, store_layout(store)->segments[0].frame, &kept, &error));
        MUST(store_refresh(store, &changed, &replaced, &error));
        if (replaced) {
            store_close(&store);
            replacements++;
        }
    }
    /* The first segment that it saw is long out of the file, or of a file long replaced. */
    float expected[DIM];
    const int64_t *ids = kept ? store_segment_find(kept, STORE_BLOCK_IDS)->data : NULL;
    vector_of(kept ? (uint64_t)ids[0] : 0, expected);
    if (kept && memcmp(store_segment_find(kept, STORE_BLOCK_VECTORS)->data, expected,
                       sizeof expected))
        die(2, "the memory of a segment changed");
    if (kept)
        store_segment_close(&kept);
    store_close(&store);
    printf("%" PRIu64 " looks, %" PRIu64 " new files\n", looks, replacements);
    return 0;
}

/* ---- writing ---------------------------------------------------------------------------- */

/* Rows of the segment that [from, to) live operations make, into the file. */
static enum akin_status put_segment(struct store *store, const struct model *m, uint64_t from,
                                    uint64_t to, uint64_t *frame)
{
    struct store_segment_writer *writer;
    enum akin_status status = store_segment_begin(store, &writer, &error);
    if (status != AKIN_OK)
        return status;
    struct segment_sink sink = store_segment_sink(writer);
    size_t rows = 0;
    float vector[DIM];
    sink.begin(sink.context, STORE_BLOCK_VECTORS, NULL);
    for (uint64_t id = from; id < to; id++) {
        if (!m->live[id])
            continue;
        vector_of(id, vector);
        sink.append(sink.context, vector, sizeof vector, NULL);
        rows++;
    }
    sink.begin(sink.context, STORE_BLOCK_IDS, NULL);
    for (uint64_t id = from; id < to; id++)
        if (m->live[id])
            sink.append(sink.context, &(int64_t){ (int64_t)id }, sizeof(int64_t), NULL);
    return store_segment_end(&writer, 1, rows, frame, &error);
}

/* What of an older segment died since. */
static enum akin_status put_dead(struct store *store, const struct model *m,
                                 struct store_segment_ref *ref)
{
    struct store_segment *segment;
    enum akin_status status = store_segment_open(store, ref->frame, &segment, &error);
    if (status != AKIN_OK)
        return status;
    uint64_t *dead = memory_alloc((segment->rows + 63) / 64, sizeof *dead);
    const int64_t *ids = store_segment_find(segment, STORE_BLOCK_IDS)->data;
    for (size_t i = 0; i < segment->rows; i++)
        if (!m->live[ids[i]])
            dead[i / 64] |= (uint64_t)1 << i % 64;
    status = store_append_dead(store, dead, segment->rows, &ref->dead, &error);
    memory_free(dead);
    store_segment_close(&segment);
    return status;
}

/* All operations so far go into segments; every fifth time all segments into one. */
static enum akin_status seal(struct store *store)
{
    const struct store_layout *old = store_layout(store);
    struct store_segment_ref refs[SEGMENTS + 1] = { { 0 } };
    uint64_t next = store_operations(store), from = old->sealed;
    struct model m = model_of(next);
    size_t kept = old->segment_count < SEGMENTS ? old->segment_count : 0;
    enum akin_status status = AKIN_OK;
    if (kept)
        memcpy(refs, old->segments, kept * sizeof *refs);
    for (size_t i = 0; i < kept && status == AKIN_OK; i++)
        status = put_dead(store, &m, &refs[i]);
    if (status == AKIN_OK)
        status = put_segment(store, &m, kept ? from : 0, next, &refs[kept].frame);
    struct store_layout layout = { refs, kept + 1, next, &next, sizeof next };
    if (status == AKIN_OK)
        status = store_publish(store, &layout, &error);
    memory_free(m.live);
    return status;
}

static enum akin_status add_batch(struct store *store)
{
    uint64_t first = store_operations(store);
    int64_t ids[BATCH];
    float vectors[BATCH * DIM];
    for (uint64_t i = 0; i < BATCH; i++) {
        ids[i] = deletes(first) ? victim(first + i) : (int64_t)(first + i);
        vector_of(first + i, vectors + i * DIM);
    }
    if (deletes(first))
        return store_append_delete(store, ids, BATCH, NULL, &error);
    struct store_rows rows = { .ids = ids, .vectors = vectors, .count = BATCH };
    return store_append_rows(store, &rows, NULL, &error);
}

static enum akin_status open_or_create(const char *path, struct store **store)
{
    enum akin_status status = store_open(path, STORE_WRITE, store, &error);
    if (status != AKIN_NOT_FOUND)
        return status;
    struct store_settings settings = { .metric = AKIN_METRIC_L2, .dimension = DIM };
    status = store_create(path, &settings, store, &error);
    if (status != AKIN_OK)
        return status;
    status = store_appear(*store, NULL, &error);
    if (status != AKIN_OK)
        store_close(store);
    return status;
}

/* What opening for writing finds is durable afterwards. */
static void reopen(const char *path, struct store **store)
{
    store_close(store);
    if (open_or_create(path, store) != AKIN_OK)
        die(1, "%s", error.message);
    say("synced", store_durable(*store));
}

/* After a failure: tries the same once more, and once more with the file opened again. */
static void again(const char *path, struct store **store, enum akin_status (*step)(struct store *))
{
    uint64_t before = store_operations(*store);
    error = (struct akin_error){ 0 };
    if (step(*store) == AKIN_OK)
        return;
    fprintf(stderr, "failed: %s\n", error.message);
    if (store_operations(*store) != before)
        die(2, "a failed step added operations");
    compare(*store);
    if (step(*store) == AKIN_OK)
        return;
    fprintf(stderr, "failed again: %s\n", error.message);
    if (!strstr(error.message, "earlier failure"))
        die(1, "twice the same");
    reopen(path, store);
}

static void sync_or_reopen(const char *path, struct store **store)
{
    uint64_t durable;
    if (store_sync(*store, &durable, &error) == AKIN_OK) {
        if (durable != store_operations(*store))
            die(2, "synced less than there is");
        say("synced", durable);
        return;
    }
    fprintf(stderr, "failed: %s\n", error.message);
    if (add_batch(*store) != AKIN_IO || store_sync(*store, NULL, &error) != AKIN_IO)
        die(2, "a handle goes on writing after a failed sync");
    reopen(path, store);
}

static enum akin_status compact(struct store *store)
{
    return store_compact(store, &error);
}

static int write_all(const char *path, uint64_t operations, uint64_t batches_per_sync)
{
    struct store *store;
    if (open_or_create(path, &store) != AKIN_OK) {
        fprintf(stderr, "failed: %s\n", error.message);
        if (open_or_create(path, &store) != AKIN_OK)
            die(1, "%s", error.message);
    }
    say("synced", store_durable(store));
    while (store_durable(store) < operations) {
        uint64_t next = store_operations(store);
        again(path, &store, add_batch);
        if (next / BATCH % batches_per_sync == 0 || next + BATCH >= operations)
            sync_or_reopen(path, &store);
        if (next % SEAL_EVERY == 0)
            again(path, &store, seal);
        if (next % COMPACT_EVERY == COMPACT_EVERY - BATCH)
            again(path, &store, compact);
    }
    store_close(&store);
    return 0;
}

/* ---- rate ------------------------------------------------------------------------------- */

static double open_ms(const char *path)
{
    struct store *store;
    uint64_t begin = clock_monotonic_ns();
    MUST(store_open(path, STORE_READ, &store, &error));
    double ms = (double)(clock_monotonic_ns() - begin) * 1e-6;
    store_close(&store);
    return ms;
}

static int rate(const char *path, size_t rows, size_t dim, size_t batch)
{
    struct store *store;
    struct store_settings settings = { .dimension = dim };
    float *vectors = memory_alloc(batch * dim, sizeof *vectors);
    int64_t *ids = memory_alloc(batch, sizeof *ids);
    MUST(store_create(path, &settings, &store, &error));
    MUST(store_appear(store, NULL, &error));
    uint64_t begin = clock_monotonic_ns();
    for (size_t done = 0; done < rows; done += batch) {
        for (size_t i = 0; i < batch; i++)
            ids[i] = (int64_t)(done + i);
        struct store_rows r = { .ids = ids, .vectors = vectors, .count = batch };
        MUST(store_append_rows(store, &r, NULL, &error));
        MUST(store_sync(store, NULL, &error));
    }
    double append_s = (double)(clock_monotonic_ns() - begin) * 1e-9;
    store_close(&store);
    double tail_ms = open_ms(path);
    MUST(store_open(path, STORE_WRITE, &store, &error));
    struct store_segment_writer *writer;
    struct store_segment_ref ref = { 0 };
    MUST(store_segment_begin(store, &writer, &error));
    struct segment_sink sink = store_segment_sink(writer);
    begin = clock_monotonic_ns();
    sink.begin(sink.context, STORE_BLOCK_VECTORS, NULL);
    for (size_t done = 0; done < rows; done += batch)
        sink.append(sink.context, vectors, batch * dim * sizeof *vectors, NULL);
    double stream_s = (double)(clock_monotonic_ns() - begin) * 1e-9;
    begin = clock_monotonic_ns();
    MUST(store_segment_end(&writer, 1, rows, &ref.frame, &error));
    double copy_s = (double)(clock_monotonic_ns() - begin) * 1e-9;
    struct store_layout layout = { &ref, 1, store_operations(store), NULL, 0 };
    MUST(store_publish(store, &layout, &error));
    MUST(store_sync(store, NULL, &error));
    store_close(&store);
    printf("%.0f rows/s, opened in %.2f ms; sealed in %.2f s and %.2f s of copying, opened in %.2f "
           "ms\n",
           (double)rows / append_s, tail_ms, stream_s, copy_s, open_ms(path));
    memory_free(ids);
    memory_free(vectors);
    return 0;
}

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "write"))
        return write_all(argv[2], number(argv[3]), number(argv[4]));
    if (argc == 4 && !strcmp(argv[1], "verify"))
        return verify(argv[2], number(argv[3]));
    if (argc == 4 && !strcmp(argv[1], "follow"))
        return follow(argv[2], number(argv[3]));
    if (argc == 6 && !strcmp(argv[1], "rate"))
        return rate(argv[2], number(argv[3]), number(argv[4]), number(argv[5]));
    if (argc == 3 && !strcmp(argv[1], "open"))
        return printf("opened in %.2f ms\n", open_ms(argv[2])) < 0;
    die(64, "see the top of store_driver.c");
}
