/* What the tests of audit logs share: a folder, a log in it, and changes to its files. Include
 * after cmocka.h. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "akin/audit.h"
#include "base/file.h"
#include "base/memory.h"

struct rig {
    char folder[64], log[128], other[128];
    struct akin_error error;
};

#define assert_ok(rig, call)                                                             \
    do {                                                                                 \
        enum akin_status status_ = (call);                                               \
        if (status_ != AKIN_OK)                                                          \
            fail_msg("%s:%d: %s: status %d, \"%s\"", __FILE__, __LINE__, #call, status_, \
                     (rig)->error.message);                                              \
    } while (0)

static inline int rig_begin(void **state)
{
    struct rig *rig = memory_alloc(1, sizeof *rig);
    snprintf(rig->folder, sizeof rig->folder, "/tmp/akin_audit_XXXXXX");
    if (!mkdtemp(rig->folder))
        return -1;
    snprintf(rig->log, sizeof rig->log, "%s/log", rig->folder);
    snprintf(rig->other, sizeof rig->other, "%s/other", rig->folder);
    *state = rig;
    return akin_audit_create(rig->log, "example.com/log", &rig->error);
}

static inline int rig_end(void **state)
{
    struct rig *rig = *state;
    int status = path_remove_tree(rig->folder, NULL);
    memory_free(rig);
    return status;
}

static inline struct akin_audit *rig_open(struct rig *rig, const char *folder)
{
    struct akin_audit *audit = NULL;
    assert_ok(rig, akin_audit_open(folder, &audit, &rig->error));
    return audit;
}

/* Records "record 7 of source x" and so on; source and cursor for every third one. */
static inline void rig_append(struct rig *rig, struct akin_audit *audit, size_t first,
                              size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        char text[64], cursor[24];
        uint64_t at;
        snprintf(cursor, sizeof cursor, "%zu", i);
        struct akin_audit_record record = {
            .data = text, .bytes = (size_t)snprintf(text, sizeof text, "record %zu", i)};
        if (i % 3 == 0) {
            record.source = "x";
            record.cursor = cursor;
        }
        assert_ok(rig, akin_audit_append(audit, &record, 1, &at, &rig->error));
    }
}

static inline void rig_fill(struct rig *rig, size_t first, size_t count)
{
    struct akin_audit *audit = rig_open(rig, rig->log);
    rig_append(rig, audit, first, count);
    assert_ok(rig, akin_audit_checkpoint(audit, NULL, &rig->error));
    akin_audit_close(&audit);
}

static inline enum akin_status rig_verify(struct rig *rig, const char *folder,
                                          struct akin_audit_verdict *verdict)
{
    return akin_audit_verify(folder, NULL, verdict, &rig->error);
}

/* The folder as a kill would leave it: its files, not what a writer holds. */
static inline void rig_copy(const char *from, const char *to)
{
    struct names names = {0};
    assert_int_equal(path_make_folders(to, NULL), AKIN_OK);
    assert_int_equal(path_list(from, &names, NULL), AKIN_OK);
    for (size_t i = 0; i < names.count; i++) {
        char a[512], b[512];
        struct stat info;
        snprintf(a, sizeof a, "%s/%s", from, names.items[i]);
        snprintf(b, sizeof b, "%s/%s", to, names.items[i]);
        if (path_is_folder(a)) {
            rig_copy(a, b);
            continue;
        }
        struct file_map map;
        assert_int_equal(file_map_open(a, &map, NULL), AKIN_OK);
        assert_int_equal(file_write(b, map.data, map.bytes, NULL), AKIN_OK);
        file_map_close(&map);
        assert_int_equal(stat(a, &info), 0);
        assert_int_equal(chmod(b, info.st_mode & 0777), 0);
    }
    names_deinit(&names);
}

static inline void rig_read(const char *path, struct bytes *out)
{
    bytes_clear(out);
    assert_int_equal(file_read(path, (size_t)1 << 30, out, NULL), AKIN_OK);
}

static inline void rig_write(const char *path, const void *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}
