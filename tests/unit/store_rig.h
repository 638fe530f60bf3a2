/* What the tests of the .akx file share: a folder, a store in it, rows whose content is known by
 * their number. Include after cmocka.h. */
#pragma once

#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "index/store.h"

enum { RIG_DIM = 6 };

struct rig {
    char folder[64], path[128];
    struct akin_error error;
};

static const unsigned char rig_pattern[64] = { 1, 2, 3, 5, 8, 13, 21, 34, 55, 89 };

#define assert_ok(call)                                                                  \
    do {                                                                                 \
        enum akin_status status_ = (call);                                               \
        if (status_ != AKIN_OK)                                                          \
            fail_msg("%s:%d: %s: status %d, \"%s\"", __FILE__, __LINE__, #call, status_, \
                     rig.error.message);                                                 \
    } while (0)

static inline void rig_ok(const struct rig *rig, enum akin_status status)
{
    if (status != AKIN_OK)
        fail_msg("status %d, \"%s\"", status, rig->error.message);
}

static inline int rig_begin(struct rig *rig)
{
    *rig = (struct rig){ .folder = "/tmp/akin_store_XXXXXX" };
    if (!mkdtemp(rig->folder))
        return -1;
    snprintf(rig->path, sizeof rig->path, "%s/x.akx", rig->folder);
    return 0;
}

static inline int rig_end(struct rig *rig)
{
    return path_remove_tree(rig->folder, NULL);
}

static inline size_t rig_files(const struct rig *rig)
{
    struct names names = { 0 };
    assert_int_equal(path_list(rig->folder, &names, NULL), AKIN_OK);
    size_t count = names.count;
    names_deinit(&names);
    return count;
}

/* Not yet under its name. */
static inline struct store *rig_create(struct rig *rig)
{
    struct store *store;
    struct store_settings settings = {
        .metric = AKIN_METRIC_INNER_PRODUCT, .dimension = RIG_DIM, .creation = "hello",
        .creation_bytes = 5,
    };
    if (store_create(rig->path, &settings, &store, &rig->error) != AKIN_OK)
        fail_msg("%s", rig->error.message);
    return store;
}

static inline struct store *rig_new(struct rig *rig)
{
    struct store *store = rig_create(rig);
    if (store_appear(store, NULL, &rig->error) != AKIN_OK)
        fail_msg("%s", rig->error.message);
    return store;
}

static inline struct store *rig_open(struct rig *rig, enum store_mode mode)
{
    struct store *store;
    if (store_open(rig->path, mode, &store, &rig->error) != AKIN_OK)
        fail_msg("%s", rig->error.message);
    return store;
}

static inline float rig_value(size_t row, size_t col)
{
    return (float)(row * 10 + col);
}

/* Rows [first, first + count): id and content are their number. */
static inline void rig_add(struct rig *rig, struct store *store, size_t first, size_t count)
{
    int64_t *ids = memory_alloc(count, sizeof *ids);
    float *vectors = memory_alloc(count * RIG_DIM, sizeof *vectors);
    for (size_t i = 0; i < count; i++) {
        ids[i] = (int64_t)(first + i);
        for (size_t j = 0; j < RIG_DIM; j++)
            vectors[i * RIG_DIM + j] = rig_value(first + i, j);
    }
    struct store_rows rows = { .ids = ids, .vectors = vectors, .count = count };
    if (store_append_rows(store, &rows, NULL, &rig->error) != AKIN_OK)
        fail_msg("%s", rig->error.message);
    memory_free(ids);
    memory_free(vectors);
}

static inline uint64_t rig_segment(struct rig *rig, struct store *store, size_t rows)
{
    struct store_segment_writer *writer;
    uint64_t frame;
    if (store_segment_begin(store, &writer, &rig->error) != AKIN_OK)
        fail_msg("%s", rig->error.message);
    struct segment_sink sink = store_segment_sink(writer);
    sink.begin(sink.context, 16, NULL);
    for (size_t i = 0; i < rows; i++)
        sink.append(sink.context, rig_pattern, sizeof rig_pattern, NULL);
    if (store_segment_end(&writer, 1, rows, &frame, &rig->error) != AKIN_OK)
        fail_msg("%s", rig->error.message);
    return frame;
}

/* Where the frames of the small file begin. */
struct rig_small {
    uint64_t segment, dead, manifest, rows, deletes, end;
};

/* One frame of each type, all of it promised; with `more` a frame that is not. */
static inline struct rig_small rig_small(struct rig *rig, bool more)
{
    struct rig_small at;
    uint64_t dead[1] = { 5 };
    struct store *store = rig_create(rig);
    at.segment = rig_segment(rig, store, 4);
    rig_ok(rig, store_append_dead(store, dead, 4, &at.dead, &rig->error));
    struct store_segment_ref ref = { at.segment, at.dead };
    struct store_layout layout = { &ref, 1, 0, "abc", 3 };
    struct store_stats stats;
    store_stats(store, &stats);
    at.manifest = stats.file_bytes;
    rig_ok(rig, store_publish(store, &layout, &rig->error));
    store_stats(store, &stats);
    at.rows = stats.file_bytes;
    rig_add(rig, store, 0, 3);
    store_stats(store, &stats);
    at.deletes = stats.file_bytes;
    rig_ok(rig, store_append_delete(store, (int64_t[]){ 1, 2 }, 2, NULL, &rig->error));
    rig_ok(rig, store_appear(store, NULL, &rig->error));
    store_stats(store, &stats);
    at.end = stats.file_bytes;
    if (more)
        rig_add(rig, store, 3, 2);
    store_close(&store);
    return at;
}

static inline void rig_expect_rows(const struct store_operation *operation, size_t first)
{
    const float *vectors = operation->vectors;
    assert_false(operation->is_delete);
    for (size_t i = 0; i < operation->count; i++) {
        assert_int_equal(operation->ids[i], first + i);
        for (size_t j = 0; j < RIG_DIM; j++)
            assert_true(vectors[i * RIG_DIM + j] == rig_value(first + i, j));
    }
}

/* The tail is rows [first, first + count) and nothing else. */
static inline void rig_expect_tail_from(const struct store *store, size_t first, size_t count)
{
    struct store_tail *tail;
    struct store_operation operation;
    struct akin_error error;
    size_t end = first + count;
    assert_int_equal(store_tail_open(store, &tail, &error), AKIN_OK);
    for (bool more = true; more;) {
        if (store_tail_next(tail, &operation, &more, &error) != AKIN_OK)
            fail_msg("%s", error.message);
        if (!more)
            break;
        rig_expect_rows(&operation, first);
        first += operation.count;
    }
    assert_int_equal(first, end);
    store_tail_close(&tail);
}

static inline void rig_expect_tail_of(const struct store *store, size_t count)
{
    rig_expect_tail_from(store, 0, count);
}

static inline void rig_expect_tail(struct rig *rig, size_t count)
{
    struct store *store = rig_open(rig, STORE_READ);
    rig_expect_tail_of(store, count);
    store_close(&store);
}

/* The tail begins with `rows` known rows; `operations` is the number of the next one. */
static inline void rig_expect_tail_start(struct rig *rig, size_t rows, uint64_t operations)
{
    struct store *store = rig_open(rig, STORE_READ);
    struct store_tail *tail;
    struct store_operation operation;
    bool more = false;
    assert_int_equal(store_operations(store), operations);
    assert_int_equal(store_tail_open(store, &tail, &rig->error), AKIN_OK);
    assert_int_equal(store_tail_next(tail, &operation, &more, &rig->error), AKIN_OK);
    assert_true(more);
    assert_int_equal(operation.count, rows);
    rig_expect_rows(&operation, 0);
    store_tail_close(&tail);
    store_close(&store);
}

static inline unsigned char *rig_load(const char *from, size_t *bytes)
{
    struct file_map map;
    assert_int_equal(file_map_open(from, &map, NULL), AKIN_OK);
    unsigned char *copy = memory_alloc_aligned(map.bytes, 1);
    assert_non_null(copy);
    memcpy(copy, map.data, map.bytes);
    *bytes = map.bytes;
    file_map_close(&map);
    return copy;
}
