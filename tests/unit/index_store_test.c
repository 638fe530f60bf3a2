/* The .akx file of version 2: what is appended is what is read, one writer at a time, and what was
 * promised is told from what was not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/thread.h"
#include "store_rig.h"

static struct rig rig;

static int set_up(void **state)
{
    (void)state;
    return rig_begin(&rig);
}

static int tear_down(void **state)
{
    (void)state;
    return rig_end(&rig);
}

static enum akin_status check(struct store_report *report, struct akin_error *error)
{
    struct akin_error ours = { 0 };
    enum akin_status status = store_check(rig.path, report, &ours);
    if (error)
        *error = ours;
    else if (status != AKIN_OK)
        fail_msg("%s", ours.message);
    return status;
}

/* ---- what is written is what is read ----------------------------------------------------- */

static void an_empty_file_opens(void **state)
{
    struct store *store = rig_create(&rig);
    assert_int_equal(rig_files(&rig), 1);       /* under its temporary name */
    assert_false(path_exists(rig.path));
    assert_ok(store_appear(store, NULL, &rig.error));
    assert_true(path_exists(rig.path));
    assert_int_equal(rig_files(&rig), 1);
    store_close(&store);
    store = rig_open(&rig, STORE_READ);
    const struct store_settings *s = store_settings(store);
    assert_int_equal(s->dimension, RIG_DIM);
    assert_int_equal(s->metric, AKIN_METRIC_INNER_PRODUCT);
    assert_int_equal(s->creation_bytes, 5);
    assert_memory_equal(s->creation, "hello", 5);
    assert_int_equal(store_version(store), 2);
    assert_int_equal(store_layout(store)->segment_count, 0);
    assert_int_equal(store_operations(store), 0);
    store_close(&store);
    struct store_report report;
    check(&report, NULL);
    assert_int_equal(report.frames, 0);
    assert_int_equal(report.promised_bytes, STORE_FRAMES);
    (void)state;
}

static void a_file_that_never_appeared_leaves_nothing(void **state)
{
    struct store *store = rig_create(&rig);
    rig_add(&rig, store, 0, 3);
    assert_ok(store_sync(store, NULL, &rig.error));
    store_close(&store);
    assert_int_equal(rig_files(&rig), 0);
    (void)state;
}

static void the_tail_comes_back_in_order(void **state)
{
    struct store *store = rig_new(&rig);
    uint64_t first;
    rig_add(&rig, store, 0, 10);
    assert_ok(store_append_delete(store, (int64_t[]){ 3, 9 }, 2, &first, &rig.error));
    assert_int_equal(first, 10);
    struct segment_block extra[] = { { 7, "keys and so on", 14 }, { 8, NULL, 0 } };
    float vectors[2 * RIG_DIM] = { 1, 2, 3 };
    struct store_rows rows = { (int64_t[]){ 70, 60 }, vectors, 2, extra, 2 };
    assert_ok(store_append_rows(store, &rows, &first, &rig.error));
    assert_int_equal(first, 12);
    uint64_t durable;
    assert_ok(store_sync(store, &durable, &rig.error));
    assert_int_equal(durable, 14);
    store_close(&store);

    for (int mode = STORE_READ; mode <= STORE_WRITE; mode++) {
        store = rig_open(&rig, (enum store_mode)mode);
        assert_int_equal(store_operations(store), 14);
        struct store_tail *tail;
        struct store_operation op;
        bool more;
        assert_ok(store_tail_open(store, &tail, &rig.error));
        assert_ok(store_tail_next(tail, &op, &more, &rig.error));
        assert_true(more && !op.is_delete);
        assert_int_equal(op.count, 10);
        rig_expect_rows(&op, 0);
        assert_ok(store_tail_next(tail, &op, &more, &rig.error));
        assert_true(more && op.is_delete);
        assert_int_equal(op.first, 10);
        assert_memory_equal(op.ids, ((int64_t[]){ 3, 9 }), 16);
        assert_null(op.vectors);
        assert_ok(store_tail_next(tail, &op, &more, &rig.error));
        assert_true(more && !op.is_delete);
        assert_int_equal(op.first, 12);
        assert_memory_equal(op.ids, rows.ids, 16);
        assert_memory_equal(op.vectors, vectors, sizeof vectors);
        assert_int_equal((uintptr_t)op.vectors % 64, 0);
        assert_int_equal(op.blocks.count, 4);
        assert_int_equal(op.blocks.blocks[2].type, 7);
        assert_memory_equal(op.blocks.blocks[2].data, "keys and so on", 14);
        assert_int_equal(op.blocks.blocks[3].bytes, 0);
        assert_ok(store_tail_next(tail, &op, &more, &rig.error));
        assert_false(more);
        store_tail_close(&tail);
        store_close(&store);
    }
    check(NULL, NULL);
    (void)state;
}

static void what_was_not_synced_is_not_there(void **state)
{
    struct store *store = rig_new(&rig);
    rig_add(&rig, store, 0, 10);
    assert_ok(store_sync(store, NULL, &rig.error));
    rig_add(&rig, store, 10, 5);
    store_close(&store);
    struct store_report report;
    check(&report, NULL);
    assert_true(report.unpromised_bytes > 0);
    store = rig_open(&rig, STORE_READ);
    assert_int_equal(store_operations(store), 10);
    store_close(&store);
    store = rig_open(&rig, STORE_WRITE);
    assert_int_equal(store_operations(store), 10);
    rig_add(&rig, store, 10, 2);
    assert_ok(store_sync(store, NULL, &rig.error));
    store_close(&store);
    check(&report, NULL);
    assert_int_equal(report.unpromised_bytes, 0);
    assert_int_equal(report.rows, 12);
    rig_expect_tail(&rig, 12);
    (void)state;
}

static void sync_of_nothing_does_nothing(void **state)
{
    struct store *store = rig_new(&rig);
    uint64_t durable;
    rig_add(&rig, store, 0, 1);
    assert_ok(store_sync(store, NULL, &rig.error));
    size_t bytes;
    unsigned char *before = rig_load(rig.path, &bytes);
    assert_ok(store_sync(store, &durable, &rig.error));
    assert_ok(store_append_rows(store, &(struct store_rows){ 0 }, NULL, &rig.error));
    assert_ok(store_append_delete(store, NULL, 0, NULL, &rig.error));
    assert_ok(store_sync(store, &durable, &rig.error));
    assert_int_equal(durable, 1);
    unsigned char *after = rig_load(rig.path, &bytes);
    assert_memory_equal(before, after, bytes);
    memory_free(before);
    memory_free(after);
    store_close(&store);
    (void)state;
}

/* ---- segments and layouts ----------------------------------------------------------------- */

static void a_segment_is_streamed_and_mapped(void **state)
{
    enum { BYTES = 3 * STORE_GRANULE_BYTES + 777 };
    unsigned char *big = memory_alloc_aligned(BYTES, 1);
    for (size_t i = 0; i < BYTES; i++)
        big[i] = (unsigned char)(i * 31 + i / 4096);
    /* Into a file that has appeared, through a spool, and into one that has not. */
    for (int fresh = 0; fresh < 2; fresh++) {
        struct store *store = fresh ? rig_create(&rig) : rig_new(&rig);
        struct store_segment_writer *writer;
        uint64_t frame;
        rig_add(&rig, store, 0, 4);
        assert_ok(store_segment_begin(store, &writer, &rig.error));
        struct segment_sink sink = store_segment_sink(writer);
        assert_ok(sink.begin(sink.context, 17, &rig.error));
        for (size_t at = 0, step = 1; at < BYTES; at += step, step = step * 3 + 1) {
            step = step < BYTES - at ? step : BYTES - at;
            assert_ok(sink.append(sink.context, big + at, step, &rig.error));
        }
        if (!fresh)
            rig_add(&rig, store, 4, 3);     /* while the segment is being built */
        assert_ok(sink.begin(sink.context, 18, &rig.error));
        assert_ok(sink.begin(sink.context, 19, &rig.error));
        assert_ok(sink.append(sink.context, "abc", 3, &rig.error));
        assert_ok(store_segment_end(&writer, 5, 4, &frame, &rig.error));
        assert_null(writer);
        struct store_segment_ref ref = { .frame = frame };
        struct store_layout layout = { &ref, 1, 4, "state", 5 };
        assert_ok(store_publish(store, &layout, &rig.error));
        if (fresh)
            assert_ok(store_appear(store, NULL, &rig.error));
        assert_ok(store_sync(store, NULL, &rig.error));
        struct store_segment *segment;
        assert_ok(store_segment_open(store, frame, &segment, &rig.error));
        store_close(&store);
        assert_int_equal(segment->rows, 4);
        assert_int_equal(segment->kind, 5);
        assert_int_equal(segment->blocks.count, 3);
        assert_int_equal(segment->blocks.blocks[0].bytes, BYTES);
        assert_int_equal((uintptr_t)segment->blocks.blocks[0].data % 64, 0);
        assert_memory_equal(segment->blocks.blocks[0].data, big, BYTES);
        assert_int_equal(store_segment_find(segment, 18)->bytes, 0);
        assert_memory_equal(store_segment_find(segment, 19)->data, "abc", 3);
        assert_null(store_segment_find(segment, 20));
        store_segment_close(&segment);
        store = rig_open(&rig, STORE_READ);
        const struct store_layout *now = store_layout(store);
        assert_int_equal(now->segment_count, 1);
        assert_int_equal(now->segments[0].frame, frame);
        assert_int_equal(now->sealed, 4);
        assert_memory_equal(now->state, "state", 5);
        struct store_stats stats;
        store_stats(store, &stats);
        assert_int_equal(stats.tail_operations, fresh ? 0 : 3);
        assert_int_equal(stats.live_bytes + stats.dead_bytes, stats.file_bytes);
        assert_true(stats.dead_bytes > 0 && stats.dead_bytes < 1024);
        store_close(&store);
        check(NULL, NULL);
        assert_int_equal(rig_files(&rig), 1);
        assert_ok(path_remove(rig.path, NULL));
    }
    memory_free(big);
    (void)state;
}

struct side_by_side {
    struct store *store;
    struct store_segment_writer *writer;
};

/* Item 0 streams a segment, item 1 appends, syncs and compacts meanwhile. */
static void do_item(void *context, size_t item, int worker)
{
    struct side_by_side *s = context;
    struct akin_error error;
    (void)worker;
    if (item == 0) {
        struct segment_sink sink = store_segment_sink(s->writer);
        sink.begin(sink.context, 16, NULL);
        for (size_t i = 0; i < 40000; i++)
            sink.append(sink.context, rig_pattern, sizeof rig_pattern, NULL);
        return;
    }
    for (size_t i = 0; i < 20; i++) {
        rig_add(&rig, s->store, i * 5, 5);
        if (store_sync(s->store, NULL, &error) != AKIN_OK ||
            (i == 10 && store_compact(s->store, &error) != AKIN_OK))
            fail_msg("%s", error.message);
    }
}

static void a_segment_is_built_while_rows_arrive(void **state)
{
    struct side_by_side s = { .store = rig_new(&rig) };
    struct thread_pool *pool = thread_pool_create(2);
    assert_non_null(pool);
    assert_ok(store_segment_begin(s.store, &s.writer, &rig.error));
    thread_pool_each(pool, 2, do_item, &s);
    thread_pool_destroy(&pool);
    uint64_t frame;
    assert_ok(store_segment_end(&s.writer, 1, 40000, &frame, &rig.error));
    struct store_segment_ref ref = { frame, 0 };
    assert_ok(store_publish(s.store, &(struct store_layout){ &ref, 1, 5, NULL, 0 }, &rig.error));
    assert_ok(store_sync(s.store, NULL, &rig.error));
    store_close(&s.store);
    struct store_report report;
    check(&report, NULL);
    assert_int_equal(report.rows, 100);
    s.store = rig_open(&rig, STORE_READ);
    rig_expect_tail_from(s.store, 5, 95);
    store_close(&s.store);
    (void)state;
}

static void an_abandoned_segment_is_gone(void **state)
{
    struct store *store = rig_create(&rig);
    struct store_segment_writer *writer;
    assert_ok(store_segment_begin(store, &writer, &rig.error));
    struct segment_sink sink = store_segment_sink(writer);
    assert_ok(sink.begin(sink.context, 16, &rig.error));
    char bytes[5000] = { 1 };
    assert_ok(sink.append(sink.context, bytes, sizeof bytes, &rig.error));
    store_segment_abort(&writer);
    rig_add(&rig, store, 0, 2);
    assert_ok(store_appear(store, NULL, &rig.error));
    store_close(&store);
    struct store_report report;
    check(&report, NULL);
    assert_int_equal(report.frames, 1);
    (void)state;
}

static void dead_rows_come_back(void **state)
{
    struct store *store = rig_new(&rig);
    enum { ROWS = 1000 };
    uint64_t few[16] = { 0 }, many[16], got[16], frames[2], segment;
    few[0] = 1;
    few[15] = (uint64_t)1 << (ROWS - 1) % 64;
    for (size_t i = 0; i < 16; i++)
        many[i] = 0x5555555555555555;
    many[15] &= ((uint64_t)1 << ROWS % 64) - 1;
    assert_ok(store_append_dead(store, few, ROWS, &frames[0], &rig.error));
    assert_ok(store_append_dead(store, many, ROWS, &frames[1], &rig.error));
    segment = rig_segment(&rig, store, ROWS);
    size_t count;
    assert_ok(store_read_dead(store, frames[0], ROWS, got, &count, &rig.error));
    assert_int_equal(count, 2);
    assert_memory_equal(got, few, sizeof few);
    assert_ok(store_read_dead(store, frames[1], ROWS, got, &count, &rig.error));
    assert_int_equal(count, 500);
    assert_memory_equal(got, many, sizeof many);
    assert_ok(store_read_dead(store, 0, ROWS, got, &count, &rig.error));
    assert_int_equal(count, 0);
    assert_int_equal(got[0], 0);
    assert_int_equal(store_read_dead(store, frames[0], ROWS - 1, got, &count, &rig.error),
                     AKIN_FORMAT);
    assert_int_equal(store_read_dead(store, segment, ROWS, got, &count, &rig.error), AKIN_FORMAT);
    few[15] = (uint64_t)1 << ROWS % 64;
    assert_int_equal(store_append_dead(store, few, ROWS, &frames[0], &rig.error), AKIN_ARGUMENT);
    store_close(&store);
    (void)state;
}

static void layouts_that_cannot_be_are_refused(void **state)
{
    struct store *store = rig_new(&rig);
    uint64_t dead, few[2] = { 1 }, segment = rig_segment(&rig, store, 100);
    rig_add(&rig, store, 0, 10);
    rig_add(&rig, store, 10, 10);
    assert_ok(store_append_dead(store, few, 101, &dead, &rig.error));
    struct store_segment_ref refs[2] = { { segment, 0 }, { segment, 0 } };
    struct store_layout layout = { refs, 1, 10, NULL, 0 };
    assert_ok(store_publish(store, &layout, &rig.error));
    assert_int_equal(store_layout(store)->sealed, 10);
    static const struct { uint64_t frame, dead, sealed; size_t count; } bad[] = {
        { 0, 0, 15, 1 }, { 0, 0, 0, 1 }, { 0, 0, 21, 1 }, { 0, 1, 20, 1 }, { 64, 0, 20, 1 },
        { 1, 0, 20, 1 }, { UINT64_MAX - 63, 0, 20, 1 }, { 0, 0, 20, 2 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refs[0].frame = segment + bad[i].frame;
        refs[0].dead = bad[i].dead ? dead : 0;
        layout.sealed = bad[i].sealed;
        layout.segment_count = bad[i].count;
        if (store_publish(store, &layout, &rig.error) != AKIN_ARGUMENT)
            fail_msg("bad layout %zu", i);
        assert_int_equal(store_layout(store)->sealed, 10);
        assert_int_equal(store_layout(store)->segments[0].frame, segment);
    }
    refs[0] = (struct store_segment_ref){ segment, 0 };
    layout.sealed = 20;
    layout.segment_count = 1;
    assert_ok(store_publish(store, &layout, &rig.error));
    assert_ok(store_publish(store, store_layout(store), &rig.error));
    assert_ok(store_sync(store, NULL, &rig.error));
    store_close(&store);
    check(NULL, NULL);
    (void)state;
}

/* ---- one writer, many readers -------------------------------------------------------------- */

static void a_second_writer_is_refused(void **state)
{
    struct store *first = rig_new(&rig), *second;
    assert_int_equal(store_open(rig.path, STORE_WRITE, &second, &rig.error), AKIN_BUSY);
    assert_non_null(strstr(rig.error.message, "locked by another writer"));
    second = rig_open(&rig, STORE_READ);
    assert_int_equal(store_append_delete(second, (int64_t[]){ 1 }, 1, NULL, &rig.error),
                     AKIN_ARGUMENT);
    store_close(&second);
    second = rig_create(&rig);
    assert_int_equal(store_appear(second, NULL, &rig.error), AKIN_BUSY);
    store_close(&first);
    assert_ok(store_appear(second, NULL, &rig.error));
    assert_int_equal(store_open(rig.path, STORE_WRITE, &first, &rig.error), AKIN_BUSY);
    store_close(&second);
    first = rig_open(&rig, STORE_WRITE);
    store_close(&first);
    (void)state;
}

static void readers_follow_the_writer(void **state)
{
    struct store *writer = rig_new(&rig), *reader = rig_open(&rig, STORE_READ);
    bool changed, replaced;
    rig_add(&rig, writer, 0, 7);
    assert_ok(store_refresh(reader, &changed, &replaced, &rig.error));
    assert_false(changed || replaced);
    assert_ok(store_sync(writer, NULL, &rig.error));
    assert_ok(store_refresh(reader, &changed, &replaced, &rig.error));
    assert_true(changed && !replaced);
    assert_int_equal(store_operations(reader), 7);
    rig_expect_tail_of(reader, 7);
    assert_memory_equal(store_settings(reader)->creation, "hello", 5);
    assert_ok(store_compact(writer, &rig.error));
    assert_ok(store_refresh(reader, NULL, &replaced, &rig.error));
    assert_true(replaced);
    rig_expect_tail_of(reader, 7);
    store_close(&reader);
    store_close(&writer);
    (void)state;
}

/* ---- compaction ------------------------------------------------------------------------- */

static void compaction_keeps_what_is_live(void **state)
{
    struct store *store = rig_new(&rig);
    uint64_t few[2] = { 6 };
    for (int round = 0; round < 3; round++) {
        struct store_segment_ref refs[2] = { { 0 } };
        refs[0].frame = rig_segment(&rig, store, 100);
        refs[1].frame = rig_segment(&rig, store, 50);
        assert_ok(store_append_dead(store, few, 50, &refs[1].dead, &rig.error));
        rig_add(&rig, store, (size_t)round * 10, 10);
        struct store_layout layout = { refs, 2, (uint64_t)round * 10, "s", 1 };
        assert_ok(store_publish(store, &layout, &rig.error));
    }
    struct store_stats before, after;
    store_stats(store, &before);
    assert_true(before.dead_bytes > before.live_bytes - STORE_FRAMES);
    assert_ok(store_sync(store, NULL, &rig.error));
    struct store *reader = rig_open(&rig, STORE_READ);
    struct store_segment *segment;
    assert_ok(
        store_segment_open(reader, store_layout(reader)->segments[1].frame, &segment, &rig.error));
    assert_ok(store_compact(store, &rig.error));
    assert_int_equal(rig_files(&rig), 1);
    store_stats(store, &after);
    assert_int_equal(after.dead_bytes, 0);
    assert_int_equal(after.live_bytes, before.live_bytes);
    assert_int_equal(store_operations(store), 30);
    struct store *second;
    assert_int_equal(store_open(rig.path, STORE_WRITE, &second, NULL), AKIN_BUSY);
    rig_add(&rig, store, 30, 5);
    assert_ok(store_sync(store, NULL, &rig.error));
    store_close(&store);
    check(NULL, NULL);
    assert_memory_equal(segment->blocks.blocks[0].data, rig_pattern, 64);   /* the old map */
    store_segment_close(&segment);
    store_close(&reader);
    store = rig_open(&rig, STORE_READ);
    const struct store_layout *layout = store_layout(store);
    assert_int_equal(layout->segment_count, 2);
    assert_memory_equal(layout->state, "s", 1);
    uint64_t got[2];
    size_t count;
    assert_ok(store_read_dead(store, layout->segments[1].dead, 50, got, &count, &rig.error));
    assert_memory_equal(got, few, sizeof *few);
    assert_int_equal(store_settings(store)->first_operation, 20);
    assert_memory_equal(store_settings(store)->creation, "hello", 5);
    rig_expect_tail_from(store, 20, 15);
    store_close(&store);
    (void)state;
}

static void a_merge_into_a_new_file_misses_nothing(void **state)
{
    struct store *old = rig_new(&rig), *fresh;
    uint64_t few[1] = { 9 };
    struct store_segment_ref ref = { rig_segment(&rig, old, 60), 0 }, copied[2] = { { 0 } };
    assert_ok(store_append_dead(old, few, 60, &ref.dead, &rig.error));
    rig_add(&rig, old, 0, 5);
    rig_add(&rig, old, 5, 5);
    assert_ok(store_publish(old, &(struct store_layout){ &ref, 1, 5, NULL, 0 }, &rig.error));
    struct store_settings settings = *store_settings(old);
    settings.first_operation = 10;
    assert_ok(store_create(rig.path, &settings, &fresh, &rig.error));
    assert_ok(store_copy_segment(fresh, old, &ref, &copied[0], &rig.error));
    copied[1].frame = rig_segment(&rig, fresh, 7);      /* rows 0 to 9, as it were */
    rig_add(&rig, old, 10, 3);                          /* meanwhile */
    assert_ok(store_copy_tail(fresh, old, &rig.error));
    rig_add(&rig, old, 13, 2);
    assert_ok(store_copy_tail(fresh, old, &rig.error));
    assert_ok(store_copy_tail(fresh, old, &rig.error));
    assert_ok(store_publish(fresh, &(struct store_layout){ copied, 2, 10, NULL, 0 }, &rig.error));
    assert_ok(store_appear(fresh, old, &rig.error));
    assert_int_equal(store_append_delete(old, (int64_t[]){ 1 }, 1, NULL, &rig.error),
                     AKIN_ARGUMENT);
    rig_expect_tail_from(old, 5, 10);
    store_close(&old);
    rig_add(&rig, fresh, 15, 1);
    assert_ok(store_sync(fresh, NULL, &rig.error));
    store_close(&fresh);
    check(NULL, NULL);
    fresh = rig_open(&rig, STORE_READ);
    rig_expect_tail_from(fresh, 10, 6);
    uint64_t got[1];
    size_t count;
    assert_ok(store_read_dead(fresh, store_layout(fresh)->segments[0].dead, 60, got, &count,
                              &rig.error));
    assert_int_equal(got[0], 9);
    store_close(&fresh);
    old = rig_open(&rig, STORE_WRITE);
    settings = *store_settings(old);
    settings.first_operation = 3;
    assert_ok(store_create(rig.path, &settings, &fresh, &rig.error));
    assert_int_equal(store_copy_tail(fresh, old, &rig.error), AKIN_ARGUMENT);
    store_close(&fresh);
    store_close(&old);
    (void)state;
}

static void abandoned_new_files_are_removed(void **state)
{
    char name[300], other[300];
    snprintf(name, sizeof name, "%s.123-4.new", rig.path);
    snprintf(other, sizeof other, "%s.copy.new", rig.path);
    assert_ok(file_write(name, "x", 1, NULL));
    assert_ok(file_write(other, "x", 1, NULL));
    struct store *living = rig_create(&rig), *store = rig_create(&rig);
    assert_int_equal(rig_files(&rig), 3);
    assert_false(path_exists(name));
    assert_true(path_exists(other));
    assert_ok(path_remove(other, NULL));
    store_close(&store);
    store_close(&living);
    assert_int_equal(rig_files(&rig), 0);
    (void)state;
}

static void links_and_permissions_stay(void **state)
{
    char link[300];
    struct stat info;
    snprintf(link, sizeof link, "%s/link.akx", rig.folder);
    struct store *store = rig_new(&rig);
    rig_add(&rig, store, 0, 3);
    assert_ok(store_sync(store, NULL, &rig.error));
    store_close(&store);
    assert_int_equal(chmod(rig.path, 0640), 0);
    assert_int_equal(symlink(rig.path, link), 0);
    assert_ok(store_open(link, STORE_WRITE, &store, &rig.error));
    assert_ok(store_compact(store, &rig.error));
    store_close(&store);
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(lstat(rig.path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_true(S_ISREG(info.st_mode));
    rig_expect_tail(&rig, 3);
    assert_int_equal(rig_files(&rig), 2);
    (void)state;
}

/* ---- bad input ---------------------------------------------------------------------------- */

static void bad_settings_are_refused(void **state)
{
    struct store *store;
    struct store_settings s = { .dimension = 4, .creation = "", .creation_bytes = 0 };
    char creation[STORE_CREATION_BYTES_MAX + 1] = { 0 };
    s.dimension = 0;
    assert_int_equal(store_create(rig.path, &s, &store, &rig.error), AKIN_ARGUMENT);
    s.dimension = 4097;
    assert_int_equal(store_create(rig.path, &s, &store, &rig.error), AKIN_LIMIT);
    s.dimension = 4;
    s.element = ELEMENT_BF16;
    assert_int_equal(store_create(rig.path, &s, &store, &rig.error), AKIN_ARGUMENT);
    s.element = ELEMENT_F16;
    s.creation = creation;
    s.creation_bytes = sizeof creation;
    assert_int_equal(store_create(rig.path, &s, &store, &rig.error), AKIN_LIMIT);
    s.creation_bytes--;
    assert_ok(store_create(rig.path, &s, &store, &rig.error));
    store_close(&store);
    assert_int_equal(store_create(rig.folder, &s, &store, &rig.error), AKIN_IO);
    assert_int_equal(store_create("/nonexistent/x.akx", &s, &store, &rig.error), AKIN_NOT_FOUND);
    s.metric = (enum akin_metric)7;
    assert_int_equal(store_create(rig.path, &s, &store, &rig.error), AKIN_ARGUMENT);
    assert_int_equal(store_open(rig.path, STORE_READ, &store, &rig.error), AKIN_NOT_FOUND);
    assert_int_equal(store_open(rig.folder, STORE_READ, &store, &rig.error), AKIN_IO);
    assert_int_equal(rig_files(&rig), 0);
    (void)state;
}

static void version_1_opens_as_one_segment(void **state)
{
    const char *fixture = AKIN_SOURCE_DIR "/tests/fixtures/index/flat_v1.akx";
    struct store *store;
    assert_int_equal(store_open(fixture, STORE_WRITE, &store, &rig.error), AKIN_UNSUPPORTED);
    assert_non_null(strstr(rig.error.message, "build the index again"));
    assert_ok(store_open(fixture, STORE_READ, &store, &rig.error));
    assert_int_equal(store_version(store), 1);
    assert_int_equal(store_settings(store)->dimension, 6);
    assert_int_equal(store_layout(store)->segment_count, 1);
    struct store_segment *segment;
    assert_ok(
        store_segment_open(store, store_layout(store)->segments[0].frame, &segment, &rig.error));
    bool changed = true, replaced = true;
    assert_ok(store_refresh(store, &changed, &replaced, &rig.error));
    assert_false(changed || replaced);
    struct store_tail *tail;
    struct store_operation operation;
    bool more = true;
    assert_ok(store_tail_open(store, &tail, &rig.error));
    assert_ok(store_tail_next(tail, &operation, &more, &rig.error));
    assert_false(more);
    store_tail_close(&tail);
    store_close(&store);
    assert_int_equal(segment->rows, 20);
    const struct segment_block *ids = store_segment_find(segment, STORE_BLOCK_IDS);
    assert_int_equal(ids->bytes, 160);
    assert_int_equal(((const int64_t *)ids->data)[3], 1000000000003);
    assert_int_equal(store_segment_find(segment, STORE_BLOCK_VECTORS)->bytes, 480);
    store_segment_close(&segment);
    struct store_report report;
    assert_ok(store_check(fixture, &report, &rig.error));
    assert_int_equal(report.version, 1);
    assert_int_equal(report.rows, 20);
    (void)state;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_empty_file_opens),
        TEST(a_file_that_never_appeared_leaves_nothing),
        TEST(the_tail_comes_back_in_order),
        TEST(what_was_not_synced_is_not_there),
        TEST(sync_of_nothing_does_nothing),
        TEST(a_segment_is_streamed_and_mapped),
        TEST(a_segment_is_built_while_rows_arrive),
        TEST(an_abandoned_segment_is_gone),
        TEST(dead_rows_come_back),
        TEST(layouts_that_cannot_be_are_refused),
        TEST(a_second_writer_is_refused),
        TEST(readers_follow_the_writer),
        TEST(compaction_keeps_what_is_live),
        TEST(a_merge_into_a_new_file_misses_nothing),
        TEST(abandoned_new_files_are_removed),
        TEST(links_and_permissions_stay),
        TEST(bad_settings_are_refused),
        TEST(version_1_opens_as_one_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
