/* What a writer does with what it finds. The checkpoint says what is in tiles. The journal goes on
 * from there: whole frames were, or may have been, acknowledged, and stay; what does not check at
 * its end is an append that a crash has cut off, and goes. Files that nothing refers to yet go too.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "audit/audit_log.h"

/* Temporary files of writes that a crash has cut off. */
static enum akin_status remove_parts(const char *folder, const char *inner,
                                     struct akin_error *error)
{
    char path[PATH_BYTES_MAX], part[PATH_BYTES_MAX];
    struct names names = {0};
    TRY(log_path(path, folder, inner, error));
    if (!path_is_folder(path))
        return AKIN_OK;
    enum akin_status status = path_list(path, &names, error);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        size_t length = strlen(names.items[i]);
        if (length < 5 || strcmp(names.items[i] + length - 5, ".part"))
            continue;
        status = path_join(part, sizeof part, path, names.items[i], error);
        if (status == AKIN_OK)
            status = path_remove(part, error);
    }
    names_deinit(&names);
    return status;
}

/* Files of large records that no frame came to name. */
static enum akin_status remove_large(const struct akin_audit *audit, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], file[PATH_BYTES_MAX];
    struct names names = {0};
    uint64_t index;
    TRY(log_path(path, audit->folder, "records", error));
    if (!path_is_folder(path))
        return AKIN_OK;
    enum akin_status status = path_list(path, &names, error);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        if (!parse_number_name(names.items[i], &index) || index < audit->growth.edge.size)
            continue;
        status = path_join(file, sizeof file, path, names.items[i], error);
        if (status == AKIN_OK)
            status = path_remove(file, error);
    }
    names_deinit(&names);
    return status;
}

static enum akin_status load_checkpoint(struct akin_audit *audit, const struct public_key *old,
                                        struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes note = {0};
    struct checkpoint checkpoint;
    struct tree_hash root;
    enum akin_status status = AKIN_OK;
    TRY(log_path(path, audit->folder, "checkpoint", error));
    TRY_DONE(checkpoint_read(path, &note, &checkpoint, error));
    if (!checkpoint_has(&checkpoint, &audit->signer.key) && !checkpoint_has(&checkpoint, old))
        TRY_DONE(error_set(error, AKIN_FORMAT,
                           "%s: is not signed by the key of this log: 'akin audit verify' tells "
                           "what was changed", path));
    TRY_DONE(growth_load(&audit->growth, audit->folder, checkpoint.size, error));
    tree_edge_root(&audit->growth.edge, &root);
    if (!tree_hash_equal(&root, &checkpoint.root))
        TRY_DONE(error_set(error, AKIN_FORMAT,
                           "%s: the tiles give another root: 'akin audit verify' tells what was "
                           "changed", path));
    audit->integrated = checkpoint.size;
done:
    bytes_deinit(&note);
    return status;
}

/* ---- the journal ------------------------------------------------------------------------- */

struct replay {
    struct akin_audit *audit;
    const struct public_key *key;
    const char *path;
    const unsigned char *data;
    size_t bytes, at;               /* at: where the last whole frame ended */
    uint64_t next;                  /* number of the record behind it */
    struct frame last;              /* its signature covers all before it */
};

static enum akin_status damaged(const struct replay *replay, const char *what,
                                struct akin_error *error)
{
    return error_set(error, AKIN_FORMAT, "%s: byte %zu: %s: 'akin audit verify' tells more",
                     replay->path, replay->at, what);
}

/* Of a frame that is in tiles already. The header of its journal is older than it. */
static enum akin_status take_cursors(struct akin_audit *audit, const struct frame *frame,
                                     struct akin_error *error)
{
    struct entry entry;
    const unsigned char *begin;
    size_t count;
    for (size_t at = 0; at < frame->body_bytes;) {
        if (entry_next(frame->body, frame->body_bytes, &at, &entry, &begin, &count))
            break;
        TRY(cursors_take(&audit->growth.cursors, &entry, error));
    }
    return AKIN_OK;
}

/* Frames that are in tiles already give no more than their cursors: a crash came before the journal
 * was begun anew. */
static enum akin_status replay_frames(struct replay *replay, struct akin_error *error)
{
    struct akin_audit *audit = replay->audit;
    struct frame frame;
    while (replay->at < replay->bytes) {
        if (frame_read(replay->data + replay->at, replay->bytes - replay->at, &frame) ||
            frame.first != replay->next)
            break;
        if (frame.first + frame.count <= audit->integrated) {
            TRY(take_cursors(audit, &frame, error));
            replay->at += frame.bytes;
            replay->next += frame.count;
            continue;
        }
        struct tree_edge edge = audit->growth.edge;
        if (!array_reserve((void **)&audit->leaves, &audit->leaf_capacity, frame.count,
                           sizeof *audit->leaves))
            return error_memory(error);
        if (frame_check(&frame, &edge, audit->leaves))
            break;
        /* Its body may have reached the disk, and its signature not. */
        if (frame.bytes == replay->bytes - replay->at && !frame_signed(&frame, replay->key))
            break;
        TRY(growth_add(&audit->growth, frame.body, frame.body_bytes, audit->leaves, frame.count,
                       error));
        audit->recovered += frame.count;
        replay->last = frame;
        replay->at += frame.bytes;
        replay->next += frame.count;
    }
    return AKIN_OK;
}

/* The end that does not check may be an unfinished append, but not if something whole follows: one
 * group is under way at a time. */
static bool is_torn(const struct replay *replay)
{
    struct frame frame;
    const unsigned char *rest = replay->data + replay->at;
    size_t left = replay->bytes - replay->at;
    if (!frame_read(rest, left, &frame) && frame.bytes < left)
        return false;
    for (size_t at = 0; at < left; at++)
        if (!frame_read(rest + at, left - at, &frame) &&
            frame.first > replay->audit->growth.edge.size && frame_signed(&frame, replay->key))
            return false;
    return true;
}

static enum akin_status replay_journal(struct replay *replay, struct akin_error *error)
{
    struct akin_audit *audit = replay->audit;
    struct journal_header header;
    const char *wrong = journal_header_read(replay->data, replay->bytes, &header);
    if (wrong)
        return damaged(replay, wrong, error);
    if (!journal_header_valid(replay->data, &header, replay->key))
        return damaged(replay, "the header is not signed by the key of this log", error);
    if (header.base > audit->integrated)
        return damaged(replay, "the records between checkpoint and journal are missing", error);
    if (!cursors_read(&audit->growth.cursors, header.cursors, header.cursor_bytes))
        return damaged(replay, "the cursors are not what they should be", error);
    audit->history = header.history;
    if (header.base < audit->integrated)    /* its checkpoint is newer than it */
        history_add(&audit->history, audit->integrated);
    replay->at = header.bytes;
    replay->next = header.base;
    TRY(replay_frames(replay, error));
    if (replay->last.count && !frame_signed(&replay->last, replay->key))
        return damaged(replay, "the group of records before it is not signed by the log", error);
    if (replay->at < replay->bytes && !is_torn(replay))
        return damaged(replay, "a group of records was changed", error);
    return AKIN_OK;
}

static enum akin_status recover_journal(struct akin_audit *audit, const struct public_key *key,
                                        struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct file_map map;
    TRY(log_path(path, audit->folder, "journal", error));
    TRY(file_map_open(path, &map, error));
    struct replay replay = {
        .audit = audit, .key = key, .path = path, .data = map.data, .bytes = map.bytes};
    enum akin_status status = replay_journal(&replay, error);
    file_map_close(&map);
    TRY(status);
    TRY(file_at_open(path, FILE_AT_WRITE, &audit->journal, error));
    audit->journal_bytes = replay.at;
    audit->cut_bytes = replay.bytes - replay.at;
    if (audit->cut_bytes)
        TRY(file_at_truncate(&audit->journal, replay.at, error));
    if (audit->cut_bytes || audit->recovered)
        TRY(file_at_sync(&audit->journal, error));
    return AKIN_OK;
}

static enum akin_status recover_with(struct akin_audit *audit, const struct key_change *change,
                                     struct akin_error *error)
{
    TRY(load_checkpoint(audit, &change->old, error));
    TRY(recover_journal(audit, &change->old, error));
    TRY(remove_large(audit, error));
    TRY(log_finish_change(audit, change, error));
    if (audit->growth.edge.size > audit->integrated)
        return log_integrate(audit, error);
    /* A journal that the checkpoint has overtaken. */
    struct bytes header = {0};
    journal_header(&header, &audit->signer, audit->integrated, &audit->history,
                   &audit->growth.cursors);
    bool stale = header.failed || header.count != audit->journal_bytes;
    bytes_deinit(&header);
    return stale || change->found ? log_begin_journal(audit, error) : AKIN_OK;
}

enum akin_status log_recover(struct akin_audit *audit, struct akin_error *error)
{
    static const char *const folders[] = {".", "checkpoints", "records"};
    struct key_change change;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++)
        TRY(remove_parts(audit->folder, folders[i], error));
    enum akin_status status = log_find_change(audit, &change, error);
    if (status == AKIN_OK)
        status = recover_with(audit, &change, error);
    signer_forget(&change.signer);
    return status;
}
