#include "audit/settle.h"

#include <stdio.h>
#include <string.h>

#include "audit/audit_log.h"

struct settling {
    const char *folder;
    struct checkpoint checkpoint;
    uint64_t end;                   /* records, those in the journal included */
};

static enum akin_status remove_file(const struct settling *s, const char *name,
                                    struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(log_path(path, s->folder, name, error));
    return path_remove(path, error);
}

/* Whether a file belongs to the log as it was. */
static bool belongs(const struct settling *s, const char *name)
{
    int level;
    uint64_t number;
    size_t width, length = strlen(name);
    if (length > 5 && !strcmp(name + length - 5, ".part"))
        return false;
    if (!strncmp(name, "checkpoints/", 12))
        return parse_number_name(name + 12, &number) && number <= s->checkpoint.size;
    if (!strncmp(name, "records/", 8))
        return parse_number_name(name + 8, &number) && number < s->end;
    if (tile_path_parse(name, &level, &number, &width))
        return width <= tile_width(level, number, s->checkpoint.size);
    return true;
}

/* Everything below folder/inner, which is "" or ends in '/'. */
static enum akin_status sweep(const struct settling *s, const char *inner, unsigned depth,
                              struct akin_error *error)
{
    char path[PATH_BYTES_MAX], name[256];
    struct names names = {0};
    TRY(log_path(path, s->folder, inner, error));
    enum akin_status status = path_list(path, &names, error);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        int length = snprintf(name, sizeof name, "%s%s", inner, names.items[i]);
        status = length < 0 || (size_t)length >= sizeof name - 2 || depth > 10
                     ? error_set(error, AKIN_FORMAT, "%s/%s: is no part of a log", s->folder, name)
                     : log_path(path, s->folder, name, error);
        if (status == AKIN_OK && path_is_folder(path)) {
            name[length] = '/';
            name[length + 1] = 0;
            status = sweep(s, name, depth + 1, error);
        } else if (status == AKIN_OK && !belongs(s, name)) {
            status = remove_file(s, name, error);
        }
    }
    names_deinit(&names);
    return status;
}

/* While a change of keys is in the journal, keys and tiles are about to follow. */
static bool changes_key(const struct frame *frame)
{
    struct entry entry;
    const unsigned char *begin;
    size_t at = 0, bytes;
    while (at < frame->body_bytes
           && !entry_next(frame->body, frame->body_bytes, &at, &entry, &begin, &bytes))
        if (entry.kind == AKIN_AUDIT_KEY)
            return true;
    return false;
}

/* The bytes of the journal up to its last frame that is whole. */
static enum akin_status whole_frames(struct settling *s, const struct file_map *map,
                                     size_t begin, size_t *end, bool *settled,
                                     struct akin_error *error)
{
    struct growth growth = {0};
    struct tree_hash *leaves = NULL;
    size_t capacity = 0;
    enum akin_status status = growth_load(&growth, s->folder, s->checkpoint.size, error);
    *end = begin;
    while (status == AKIN_OK && *end < map->bytes) {
        struct frame frame;
        struct tree_edge edge = growth.edge;
        if (frame_read(map->data + *end, map->bytes - *end, &frame))
            break;
        if (!array_reserve((void **)&leaves, &capacity, frame.count, sizeof *leaves)) {
            status = error_memory(error);
            break;
        }
        if (frame_check(&frame, &edge, leaves))
            break;
        *settled = *settled && !changes_key(&frame);
        growth.edge = edge;
        *end += frame.bytes;
    }
    s->end = growth.edge.size;
    memory_free(leaves);
    growth_deinit(&growth);
    return status;
}

static enum akin_status settle_journal(struct settling *s, bool *settled,
                                       struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct file_map map;
    struct file_at file;
    struct journal_header header;
    size_t end = 0;
    TRY(log_path(path, s->folder, "journal", error));
    TRY(file_map_open(path, &map, error));
    uint64_t size = map.bytes;
    *settled = !journal_header_read(map.data, map.bytes, &header)
               && header.base == s->checkpoint.size;
    enum akin_status status =
        *settled ? whole_frames(s, &map, header.bytes, &end, settled, error) : AKIN_OK;
    file_map_close(&map);
    if (status != AKIN_OK || !*settled || end == size)
        return status;
    TRY(file_at_open(path, FILE_AT_WRITE, &file, error));
    status = file_at_truncate(&file, end, error);
    file_at_close(&file);
    return status;
}

/* A cosignature goes into both files, one after the other. */
static bool same_as_history(const struct settling *s, const struct bytes *note)
{
    char name[TILE_PATH_BYTES], path[PATH_BYTES_MAX];
    struct bytes other = {0};
    history_path(name, s->checkpoint.size);
    bool same = log_path(path, s->folder, name, NULL) == AKIN_OK
                && file_read(path, NOTE_BYTES_MAX, &other, NULL) == AKIN_OK
                && other.count == note->count && !memcmp(other.data, note->data, note->count);
    bytes_deinit(&other);
    return same;
}

/* Partial tiles go when a whole one has been written, perhaps while they were copied. */
static enum akin_status find_edges(const struct settling *s, bool *settled,
                                   struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct names names = {0};
    uint64_t size;
    TRY(log_path(path, s->folder, "checkpoints", error));
    enum akin_status status = path_list(path, &names, error);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++)
        if (parse_number_name(names.items[i], &size) && size <= s->checkpoint.size)
            status = edge_check(s->folder, size, s->checkpoint.size, error);
    names_deinit(&names);
    *settled = status == AKIN_OK;
    return status == AKIN_FORMAT ? AKIN_OK : status;
}

enum akin_status audit_settle(const char *folder, bool *settled, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes note = {0};
    struct settling s = {.folder = folder};
    *settled = false;
    TRY(log_path(path, folder, "key.next", error));
    if (path_exists(path))
        return AKIN_OK;                     /* the key is being changed */
    TRY(log_path(path, folder, "checkpoint", error));
    enum akin_status status = checkpoint_read(path, &note, &s.checkpoint, error);
    if (status == AKIN_OK && same_as_history(&s, &note))
        status = settle_journal(&s, settled, error);
    if (status == AKIN_OK && *settled)
        status = find_edges(&s, settled, error);
    if (status == AKIN_OK && *settled)
        status = sweep(&s, "", 0, error);
    bytes_deinit(&note);
    return status;
}
