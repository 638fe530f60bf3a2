/* The journal of a log that nobody writes, against the tree that the tiles gave. */
#include <inttypes.h>
#include <string.h>

#include "audit/verify.h"

static enum akin_status bad(struct verifier *v, size_t at, const char *what)
{
    return error_set(v->error, AKIN_FORMAT, "%s/journal: byte %zu, record %" PRIu64 ": %s",
                     v->folder, at, v->edge.size, what);
}

/* In force for tree heads of so many records; before any change of keys that is the only key. */
static const struct public_key *key_at(const struct verifier *v, uint64_t size)
{
    const struct public_key *key = key_chain_at(&v->chain, size);
    return key ? key : &v->key;
}

static enum akin_status check_header(struct verifier *v, const unsigned char *data, size_t bytes,
                                     struct journal_header *header)
{
    struct bytes cursors = {0};
    const char *wrong = journal_header_read(data, bytes, header);
    if (wrong)
        return bad(v, 0, wrong);
    if (header->base < v->checkpoint.size)
        return bad(v, 0, "a crash came between the checkpoint and it: 'akin audit checkpoint' puts "
                         "that right");
    if (header->base != v->checkpoint.size)
        return bad(v, 0, "the records between the checkpoint and it are missing");
    if (!journal_header_valid(data, header, key_at(v, header->base)))
        return bad(v, 0, "the header is not signed by the key of this log");
    struct tree_hash history = {{0}};
    for (size_t i = 0; i < v->history_count; i++)
        history_add(&history, v->history[i]);
    if (!tree_hash_equal(&history, &header->history))
        return bad(v, 0, "the checkpoints of the history are not those that were made");
    cursors_append(&v->cursors, &cursors);
    bool same = !cursors.failed && cursors.count == header->cursor_bytes &&
                (cursors.count == 0 || !memcmp(cursors.data, header->cursors, cursors.count));
    bytes_deinit(&cursors);
    return same ? AKIN_OK : bad(v, 0, "the cursors are not those of the records");
}

static enum akin_status check_frame(struct verifier *v, const struct frame *frame, size_t begin,
                                    struct tree_hash **leaves, size_t *capacity)
{
    const struct public_key *key = key_at(v, v->edge.size);
    struct tree_edge edge = v->edge;
    size_t at = 0;
    if (!array_reserve((void **)leaves, capacity, frame->count, sizeof **leaves))
        return error_memory(v->error);
    const char *wrong = frame_check(frame, &edge, *leaves);
    if (wrong)
        return bad(v, begin, wrong);
    if (!frame_signed(frame, key))
        return bad(v, begin, "a group of records is not signed by the key of this log");
    for (uint32_t i = 0; i < frame->count; i++) {
        struct entry entry;
        const unsigned char *leaf;
        size_t bytes;
        (void)entry_next(frame->body, frame->body_bytes, &at, &entry, &leaf, &bytes);
        TRY(verify_entry(v, frame->first + i, &entry));
    }
    v->edge = edge;
    return AKIN_OK;
}

static enum akin_status check_frames(struct verifier *v, const unsigned char *data, size_t bytes)
{
    struct journal_header header;
    struct tree_hash *leaves = NULL;
    size_t capacity = 0;
    enum akin_status status = AKIN_OK;
    TRY(check_header(v, data, bytes, &header));
    for (size_t at = header.bytes; at < bytes;) {
        struct frame frame;
        const char *wrong = frame_read(data + at, bytes - at, &frame);
        if (wrong)
            TRY_DONE(error_set(v->error, AKIN_FORMAT,
                               "%s/journal: byte %zu, record %" PRIu64
                               ": %s: an unfinished append, "
                               "which 'akin audit checkpoint' cuts off, or damage",
                               v->folder, at, v->edge.size, wrong));
        TRY_DONE(check_frame(v, &frame, at, &leaves, &capacity));
        at += frame.bytes;
    }
done:
    memory_free(leaves);
    return status;
}

enum akin_status verify_journal(struct verifier *v)
{
    char path[PATH_BYTES_MAX];
    struct file_map map;
    TRY(log_path(path, v->folder, "journal", v->error));
    enum akin_status status = file_map_open(path, &map, v->error);
    if (status == AKIN_NOT_FOUND)
        return error_set(v->error, AKIN_FORMAT, "%s: is missing", path);
    TRY(status);
    status = check_frames(v, map.data, map.bytes);
    file_map_close(&map);
    return status;
}
