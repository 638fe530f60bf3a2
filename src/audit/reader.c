/* Records in order: from bundles as far as the checkpoint goes, then from the journal. */
#include <inttypes.h>
#include <string.h>

#include "audit/journal.h"
#include "audit/tiles.h"

struct akin_audit_reader {
    char folder[PATH_BYTES_MAX], origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1];
    uint64_t next, size;            /* next to read; under the checkpoint */
    uint64_t bundle_number;
    bool bundle_known;
    struct bytes bundle;
    size_t at;                      /* in the bundle */
    struct file_map journal, record;
    size_t journal_at;              /* of the next frame; 0: the journal is not open */
    struct frame frame;
    size_t frame_at;                /* of the next entry */
    uint32_t frame_left;
    struct bytes texts;             /* source and cursor of the entry, with NULs */
};

static enum akin_status bad_bundle(const struct akin_audit_reader *r, const char *what,
                                   struct akin_error *error)
{
    return error_set(error, AKIN_FORMAT,
                     "%s: record %" PRIu64 ": %s: 'akin audit verify' tells what "
                     "was changed",
                     r->folder, r->next, what);
}

/* Entry `next` of the tiles. */
static enum akin_status from_bundle(struct akin_audit_reader *r, struct entry *entry,
                                    struct akin_error *error)
{
    uint64_t number = r->next / TILE_WIDTH;
    const unsigned char *begin;
    size_t bytes, skip = 0;
    if (!r->bundle_known || r->bundle_number != number) {
        size_t width = tile_width(TILE_ENTRIES, number, r->size);
        r->bundle_known = false;
        TRY(bundle_read(r->folder, number, width, &r->bundle, error));
        r->bundle_known = true;
        r->bundle_number = number;
        r->at = 0;
        skip = (size_t)(r->next % TILE_WIDTH);
    }
    for (size_t i = 0; i <= skip; i++) {
        const char *wrong = entry_next((const unsigned char *)r->bundle.data, r->bundle.count,
                                       &r->at, entry, &begin, &bytes);
        if (wrong)
            return bad_bundle(r, wrong, error);
    }
    return AKIN_OK;
}

static enum akin_status open_journal(struct akin_audit_reader *r, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct journal_header header;
    TRY(log_path(path, r->folder, "journal", error));
    TRY(file_map_open(path, &r->journal, error));
    const char *wrong = journal_header_read(r->journal.data, r->journal.bytes, &header);
    if (wrong)
        return error_set(error, AKIN_FORMAT, "%s: %s", path, wrong);
    r->journal_at = header.bytes;
    return AKIN_OK;
}

/* Entry `next` of the journal; *more false behind the last whole frame. */
static enum akin_status from_journal(struct akin_audit_reader *r, struct entry *entry, bool *more,
                                     struct akin_error *error)
{
    const unsigned char *begin;
    size_t bytes;
    *more = false;
    if (r->journal_at == 0)
        TRY(open_journal(r, error));
    for (;;) {
        if (r->frame_left == 0) {
            if (frame_read(r->journal.data + r->journal_at, r->journal.bytes - r->journal_at,
                           &r->frame))
                return AKIN_OK;
            r->journal_at += r->frame.bytes;
            r->frame_at = 0;
            r->frame_left = r->frame.count;
        }
        uint64_t index = r->frame.first + (r->frame.count - r->frame_left);
        if (index > r->next)
            return AKIN_OK;             /* a newer journal: what is between is in tiles by now */
        const char *wrong = entry_next(r->frame.body, r->frame.body_bytes, &r->frame_at, entry,
                                       &begin, &bytes);
        if (wrong)
            return bad_bundle(r, wrong, error);
        r->frame_left--;
        if (index == r->next)
            break;
    }
    *more = true;
    return AKIN_OK;
}

enum akin_status akin_audit_reader_open(const char *folder, uint64_t from,
                                        struct akin_audit_reader **reader,
                                        struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes note = {0};
    struct checkpoint checkpoint;
    struct akin_audit_reader *r = memory_alloc(1, sizeof *r);
    enum akin_status status = AKIN_OK;
    if (!r)
        return error_memory(error);
    r->journal.data = r->record.data = (const unsigned char *)"";
    r->next = from;
    TRY_DONE(path_join(r->folder, sizeof r->folder, folder, "", error));
    TRY_DONE(format_read(folder, r->origin, error));
    TRY_DONE(log_path(path, folder, "checkpoint", error));
    TRY_DONE(checkpoint_read(path, &note, &checkpoint, error));
    r->size = checkpoint.size;
done:
    bytes_deinit(&note);
    if (status == AKIN_OK)
        *reader = r;
    else
        akin_audit_reader_close(&r);
    return status;
}

static enum akin_status fill(struct akin_audit_reader *r, const struct entry *entry,
                             struct akin_audit_entry *out, struct akin_error *error)
{
    bytes_clear(&r->texts);
    bytes_append(&r->texts, entry->source, entry->source_bytes);
    bytes_append(&r->texts, "", 1);
    bytes_append(&r->texts, entry->cursor, entry->cursor_bytes);
    if (r->texts.failed)
        return error_memory(error);
    *out = (struct akin_audit_entry){
        .index = r->next,
        .kind = entry->kind,
        .time_us = entry->time_us,
        .source = r->texts.data,
        .cursor = r->texts.data + entry->source_bytes + 1,
        .data = entry->data,
        .bytes = (size_t)entry->bytes,
    };
    if (entry->large) {
        file_map_close(&r->record);
        TRY(record_file_open(r->folder, r->next, entry, &r->record, error));
        out->data = r->record.data;
    }
    return AKIN_OK;
}

enum akin_status akin_audit_reader_next(struct akin_audit_reader *r,
                                        struct akin_audit_entry *entry, bool *more,
                                        struct akin_error *error)
{
    struct entry read;
    bool found = true;
    if (r->next < r->size)
        TRY(from_bundle(r, &read, error));
    else
        TRY(from_journal(r, &read, &found, error));
    *more = found;
    if (!found)
        return AKIN_OK;
    TRY(fill(r, &read, entry, error));
    r->next++;
    return AKIN_OK;
}

void akin_audit_reader_close(struct akin_audit_reader **reader)
{
    struct akin_audit_reader *r = *reader;
    if (!r)
        return;
    file_map_close(&r->journal);
    file_map_close(&r->record);
    bytes_deinit(&r->bundle);
    bytes_deinit(&r->texts);
    memory_free(r);
    *reader = NULL;
}
