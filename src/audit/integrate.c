/* From the journal to tiles. Tiles and bundles are written under their final names, because nothing
 * refers to them before the checkpoint that is renamed into place behind them; after a crash the
 * same journal gives the same bytes again. One syncfs makes them all durable, however many there
 * are. */
#include <inttypes.h>
#include <string.h>

#include "audit/audit_log.h"

/* ---- tiles ------------------------------------------------------------------------------- */

static enum akin_status write_file(const char *folder, const char *name, const void *bytes,
                                   size_t count, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct file_at file;
    TRY(log_path(path, folder, name, error));
    TRY(path_remove(path, error));
    enum akin_status status = file_at_open(path, FILE_AT_CREATE, &file, error);
    if (status == AKIN_NOT_FOUND) {
        char *slash = (char *)(uintptr_t)path_last(path) - 1;
        *slash = 0;
        TRY(path_make_folders(path, error));
        *slash = '/';
        status = file_at_open(path, FILE_AT_CREATE, &file, error);
    }
    TRY(status);
    status = file_at_write(&file, 0, &(struct file_part){bytes, count}, 1, error);
    file_at_close(&file);
    return status;
}

static enum akin_status write_tiles(struct akin_audit *audit, unsigned number,
                                    struct akin_error *error)
{
    struct level *level = &audit->growth.levels[number];
    char name[TILE_PATH_BYTES];
    for (size_t at = 0; at < level->count; at += TILE_WIDTH) {
        size_t width = level->count - at < TILE_WIDTH ? level->count - at : TILE_WIDTH;
        if (at + width == level->written)
            continue;                   /* has not grown since */
        tile_path(name, (int)number, (level->first + at) / TILE_WIDTH, width);
        TRY(write_file(audit->folder, name, level->items[at].bytes, width * TREE_HASH_BYTES,
                       error));
    }
    return AKIN_OK;
}

/* Where the entry behind the next `count` ones begins. */
static size_t skip_entries(const struct bytes *entries, size_t at, size_t count)
{
    while (count--)
        at += ENTRY_LENGTH_BYTES + get_u16((const unsigned char *)entries->data + at);
    return at;
}

static enum akin_status write_bundles(struct akin_audit *audit, struct akin_error *error)
{
    const struct level *leaves = &audit->growth.levels[0];
    const struct bytes *entries = &audit->growth.entries;
    char name[TILE_PATH_BYTES];
    size_t begin = 0;
    for (size_t at = 0; at < leaves->count; at += TILE_WIDTH) {
        size_t width = leaves->count - at < TILE_WIDTH ? leaves->count - at : TILE_WIDTH;
        size_t end = skip_entries(entries, begin, width);
        tile_path(name, TILE_ENTRIES, (leaves->first + at) / TILE_WIDTH, width);
        if (at + width != leaves->written)
            TRY(write_file(audit->folder, name, entries->data + begin, end - begin, error));
        begin = end;
    }
    return AKIN_OK;
}

/* Whole tiles are on disk for good: their hashes and entries are needed no more, nor are the
 * partial tiles that they began as. What cannot be removed does no harm. */
static void drop_partial(const char *folder, int level, uint64_t number)
{
    char name[TILE_PATH_BYTES], path[PATH_BYTES_MAX];
    tile_path(name, level, number, 1);
    name[strlen(name) - 2] = 0;         /* less "/1" */
    if (log_path(path, folder, name, NULL) == AKIN_OK)
        (void)path_remove_tree(path, NULL);
}

static void forget_whole_tiles(struct akin_audit *audit)
{
    struct bytes *entries = &audit->growth.entries;
    for (unsigned i = 0; i < TILE_LEVELS; i++) {
        struct level *level = &audit->growth.levels[i];
        size_t whole = level->count / TILE_WIDTH * TILE_WIDTH;
        if (whole && level->written) {
            drop_partial(audit->folder, (int)i, level->first / TILE_WIDTH);
            if (i == 0)
                drop_partial(audit->folder, TILE_ENTRIES, level->first / TILE_WIDTH);
        }
        if (i == 0 && whole) {
            size_t bytes = skip_entries(entries, 0, whole);
            memmove(entries->data, entries->data + bytes, entries->count - bytes);
            entries->count -= bytes;
        }
        level->count -= whole;
        level->first += whole;
        level->written = level->count;
        if (whole && level->count)
            memmove(level->items, level->items + whole, level->count * sizeof *level->items);
    }
}

/* ---- the checkpoint ---------------------------------------------------------------------- */

enum akin_status log_write_checkpoint(const char *folder, const struct signer *signer,
                                      uint64_t size, const struct tree_hash *root,
                                      struct akin_error *error)
{
    char name[TILE_PATH_BYTES], path[PATH_BYTES_MAX];
    unsigned char signature[SIGNATURE_BYTES];
    struct bytes text = {0}, note = {0};
    enum akin_status status = AKIN_OK;
    history_path(name, size);
    checkpoint_text(&text, signer->key.name, size, root);
    if (text.failed)
        TRY_DONE(error_memory(error));
    signer_sign(signer, text.data, text.count, signature);
    checkpoint_note(&note, signer->key.name, size, root, &signer->key, signature);
    if (note.failed)
        TRY_DONE(error_memory(error));
    TRY_DONE(log_path(path, folder, name, error));
    TRY_DONE(file_write(path, note.data, note.count, error));
    TRY_DONE(log_path(path, folder, "checkpoint", error));
    TRY_DONE(file_write(path, note.data, note.count, error));
done:
    bytes_deinit(&text);
    bytes_deinit(&note);
    return status;
}

enum akin_status log_begin_journal(struct akin_audit *audit, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes header = {0};
    struct file_at file;
    TRY(log_path(path, audit->folder, "journal", error));
    journal_header(&header, &audit->signer, audit->growth.edge.size, &audit->history,
                   &audit->growth.cursors);
    enum akin_status status = header.failed
                                  ? error_memory(error)
                                  : file_write(path, header.data, header.count, error);
    size_t bytes = header.count;
    bytes_deinit(&header);
    TRY(status);
    TRY(file_at_open(path, FILE_AT_WRITE, &file, error));
    file_at_close(&audit->journal);
    audit->journal = file;
    audit->journal_bytes = bytes;
    return AKIN_OK;
}

enum akin_status log_integrate(struct akin_audit *audit, struct akin_error *error)
{
    struct tree_hash root;
    if (audit->growth.edge.size == audit->integrated)
        return AKIN_OK;
    for (unsigned level = 0; level < TILE_LEVELS; level++)
        TRY(write_tiles(audit, level, error));
    TRY(write_bundles(audit, error));
    TRY(path_sync_all(audit->folder, error));
    tree_edge_root(&audit->growth.edge, &root);
    TRY(log_write_checkpoint(audit->folder, &audit->signer, audit->growth.edge.size, &root,
                             error));
    history_add(&audit->history, audit->growth.edge.size);
    TRY(log_begin_journal(audit, error));
    audit->integrated = audit->growth.edge.size;
    forget_whole_tiles(audit);
    return AKIN_OK;
}
