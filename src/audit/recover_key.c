/* A change of keys that a crash came behind (rotate.c tells its steps). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "audit/audit_log.h"
#include "audit/rotation.h"

/* The change that the journal records, if any: there is at most one, and it is last. */
static void find_change(const unsigned char *data, size_t bytes, struct rotation *rotation,
                        struct key_change *change)
{
    struct journal_header header;
    struct frame frame;
    if (journal_header_read(data, bytes, &header))
        return;
    for (size_t at = header.bytes; !frame_read(data + at, bytes - at, &frame); at += frame.bytes) {
        struct entry entry;
        const unsigned char *begin;
        size_t entry_at = 0, count;
        if (frame.count != 1 || entry_next(frame.body, frame.body_bytes, &entry_at, &entry, &begin,
                                           &count))
            continue;
        if (entry.kind != AKIN_AUDIT_KEY || rotation_read(&entry, frame.first, rotation))
            continue;
        change->found = true;
        change->index = frame.first;
    }
}

enum akin_status log_find_change(struct akin_audit *audit, struct key_change *change,
                                 struct akin_error *error)
{
    char path[PATH_BYTES_MAX], next[PATH_BYTES_MAX];
    struct file_map map;
    struct rotation rotation;
    *change = (struct key_change){.old = audit->signer.key};
    TRY(log_path(path, audit->folder, "journal", error));
    TRY(log_path(next, audit->folder, "key.next", error));
    TRY(file_map_open(path, &map, error));
    find_change(map.data, map.bytes, &rotation, change);
    file_map_close(&map);
    if (!change->found)
        return AKIN_OK;
    change->old = rotation.old;
    if (public_key_equal(&audit->signer.key, &rotation.new)) {
        change->signer = audit->signer;
        return AKIN_OK;
    }
    if (!public_key_equal(&audit->signer.key, &rotation.old))
        return error_set(error, AKIN_FORMAT, "%s: names a change of keys, and %s/key is neither",
                         path, audit->folder);
    if (path_exists(next))
        TRY(signer_load(next, &change->signer, error));
    return AKIN_OK;
}

enum akin_status log_finish_change(struct akin_audit *audit, const struct key_change *change,
                                   struct akin_error *error)
{
    char next[PATH_BYTES_MAX];
    TRY(log_path(next, audit->folder, "key.next", error));
    if (!change->found || change->index >= audit->growth.edge.size)
        return path_remove(next, error);    /* the record did not become durable */
    if (change->signer.key.type != KEY_LOG)
        return error_set(error, AKIN_NOT_FOUND,
                         "%s: the secret key that record %" PRIu64 " names is missing: bring the "
                         "file back", next, change->index);
    return log_take_key(audit, &change->signer, error);
}
