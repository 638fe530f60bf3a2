/* Logs as callers have them: made, opened, asked, closed. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "audit/audit_log.h"

/* ---- making one -------------------------------------------------------------------------- */

static enum akin_status write_text(const char *folder, const char *name, struct bytes *text,
                                   struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    enum akin_status status = text->failed ? error_memory(error)
                                           : log_path(path, folder, name, error);
    if (status == AKIN_OK)
        status = file_write(path, text->data, text->count, error);
    bytes_clear(text);
    return status;
}

static enum akin_status make_folder(const char *folder, const char *name,
                                    struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(log_path(path, folder, name, error));
    return path_make_folders(path, error);
}

static enum akin_status fill_folder(const char *folder, const struct signer *signer,
                                    struct akin_error *error)
{
    char key[AKIN_AUDIT_KEY_TEXT_BYTES], path[PATH_BYTES_MAX];
    struct bytes text = {0};
    struct tree_hash root, history = {{0}};
    enum akin_status status = AKIN_OK;
    TRY_DONE(make_folder(folder, "checkpoints", error));
    TRY_DONE(make_folder(folder, "tile", error));
    TRY_DONE(make_folder(folder, "records", error));
    TRY_DONE(log_path(path, folder, "key", error));
    TRY_DONE(signer_save(path, signer, error));
    public_key_text(&signer->key, key);
    bytes_printf(&text, "%s\n", key);
    TRY_DONE(write_text(folder, "key.pub", &text, error));
    TRY_DONE(write_text(folder, "lock", &text, error));
    history_add(&history, 0);
    journal_header(&text, signer, 0, &history, &(struct cursors){0});
    TRY_DONE(write_text(folder, "journal", &text, error));
    tree_edge_root(&(struct tree_edge){0}, &root);
    TRY_DONE(log_write_checkpoint(folder, signer, 0, &root, error));
    format_text(&text, signer->key.name);
    TRY_DONE(write_text(folder, "format", &text, error));
    TRY_DONE(path_sync_all(folder, error));
done:
    bytes_deinit(&text);
    return status;
}

static enum akin_status check_empty(const char *folder, struct akin_error *error)
{
    struct names names = {0};
    if (!path_exists(folder))
        return AKIN_OK;
    if (!path_is_folder(folder))
        return error_set(error, AKIN_BUSY, "%s: is a file; a log needs a new folder", folder);
    TRY(path_list(folder, &names, error));
    size_t count = names.count;
    names_deinit(&names);
    return count ? error_set(error, AKIN_BUSY, "%s: is not empty; a log needs a new folder", folder)
                 : AKIN_OK;
}

/* Put together beside its place and renamed, so that there is a whole log or none. */
enum akin_status akin_audit_create(const char *folder, const char *origin,
                                   struct akin_error *error)
{
    char target[PATH_BYTES_MAX], new[PATH_BYTES_MAX + 16];
    struct signer signer = {0};
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/')
        length--;
    if (length == 0 || length + 8 >= sizeof target)
        return error_set(error, AKIN_ARGUMENT, "'%.80s': not the name of a folder", folder);
    snprintf(target, sizeof target, "%.*s", (int)length, folder);
    snprintf(new, sizeof new, "%s.new", target);
    if (origin && !origin_valid(origin, strlen(origin)))
        return error_set(error, AKIN_ARGUMENT,
                         "origin '%.80s': expected a name of at most %d bytes without blanks and "
                         "'+', such as example.com/log", origin, AKIN_AUDIT_ORIGIN_BYTES_MAX);
    TRY(check_empty(target, error));
    TRY(path_remove_tree(new, error));
    TRY(path_make_folders(new, error));
    enum akin_status status = signer_create(origin, &signer, error);
    if (status == AKIN_OK)
        status = fill_folder(new, &signer, error);
    signer_forget(&signer);
    if (status == AKIN_OK)
        status = path_rename(new, target, error);
    if (status != AKIN_OK)
        (void)path_remove_tree(new, NULL);
    return status == AKIN_OK ? path_sync_folder(target, error) : status;
}

/* ---- open and close ---------------------------------------------------------------------- */

static void destroy(struct akin_audit *audit)
{
    file_at_close(&audit->journal);
    file_at_close(&audit->lock_file);
    growth_deinit(&audit->growth);
    queue_clear(&audit->queue);
    queue_clear(&audit->taken);
    bytes_deinit(&audit->queue.entries);
    bytes_deinit(&audit->taken.entries);
    memory_free(audit->queue.larges);
    memory_free(audit->taken.larges);
    memory_free(audit->leaves);
    mutex_destroy(&audit->lock);
    condition_destroy(&audit->changed);
    signer_forget(&audit->signer);
    memory_free(audit);
}

static enum akin_status lock_folder(struct akin_audit *audit, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(log_path(path, audit->folder, "lock", error));
    TRY(file_at_open(path, FILE_AT_WRITE, &audit->lock_file, error));
    return file_at_lock(&audit->lock_file, error);
}

static enum akin_status open_log(struct akin_audit *audit, struct akin_error *error)
{
    char origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1], path[PATH_BYTES_MAX];
    TRY(format_read(audit->folder, origin, error));
    TRY(lock_folder(audit, error));
    TRY(log_path(path, audit->folder, "key", error));
    TRY(signer_load(path, &audit->signer, error));
    if (strcmp(audit->signer.key.name, origin))
        return error_set(error, AKIN_FORMAT, "%s: is the key of the log %s, and this one is %s",
                         path, audit->signer.key.name, origin);
    audit->lock = mutex_create();
    audit->changed = condition_create();
    if (!audit->lock || !audit->changed)
        return error_memory(error);
    TRY(log_recover(audit, error));
    audit->next = audit->durable = audit->growth.edge.size;
    audit->checkpoint = audit->integrated;
    audit->flusher = thread_start(log_flush_loop, audit, false);
    return audit->flusher ? AKIN_OK : error_memory(error);
}

enum akin_status akin_audit_open(const char *folder, struct akin_audit **audit,
                                 struct akin_error *error)
{
    struct akin_audit *opened = memory_alloc(1, sizeof *opened);
    if (!opened)
        return error_memory(error);
    opened->journal.fd = opened->lock_file.fd = -1;
    enum akin_status status = AKIN_OK;
    if (strlen(folder) >= sizeof opened->folder - TILE_PATH_BYTES)
        status = error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", folder);
    snprintf(opened->folder, sizeof opened->folder, "%s", folder);
    if (status == AKIN_OK)
        status = open_log(opened, error);
    if (status == AKIN_OK)
        *audit = opened;
    else
        destroy(opened);
    return status;
}

void akin_audit_close(struct akin_audit **audit)
{
    struct akin_audit *closing = *audit;
    if (!closing)
        return;
    (void)akin_audit_checkpoint(closing, NULL, NULL);
    mutex_lock(closing->lock);
    closing->stopping = true;
    condition_wake(closing->changed);
    mutex_unlock(closing->lock);
    thread_join(&closing->flusher);
    destroy(closing);
    *audit = NULL;
}

/* ---- questions --------------------------------------------------------------------------- */

void akin_audit_info(struct akin_audit *audit, struct akin_audit_info *info)
{
    *info = (struct akin_audit_info){0};
    mutex_lock(audit->lock);
    snprintf(info->origin, sizeof info->origin, "%s", audit->signer.key.name);
    public_key_text(&audit->signer.key, info->public_key);
    info->records = audit->durable;
    info->checkpoint = audit->checkpoint;
    info->recovered = audit->recovered;
    info->cut_bytes = audit->cut_bytes;
    mutex_unlock(audit->lock);
}

static enum akin_status run_checkpoint(struct akin_audit *audit, void *context,
                                       struct akin_error *error)
{
    uint64_t *size = context;
    TRY(log_integrate(audit, error));
    *size = audit->integrated;
    return AKIN_OK;
}

enum akin_status akin_audit_checkpoint(struct akin_audit *audit, uint64_t *size,
                                       struct akin_error *error)
{
    uint64_t made = 0;
    TRY(log_request(audit, run_checkpoint, &made, error));
    if (size)
        *size = made;
    return AKIN_OK;
}

struct cursor_question {
    const char *source;
    char *text;
    size_t bytes;
};

static enum akin_status run_cursor(struct akin_audit *audit, void *context,
                                   struct akin_error *error)
{
    struct cursor_question *q = context;
    const struct cursor *cursor =
        cursors_find(&audit->growth.cursors, q->source, strlen(q->source));
    size_t bytes = cursor ? cursor->bytes : 0;
    if (bytes >= q->bytes)
        return error_set(error, AKIN_LIMIT, "source %.200s: its cursor has %zu bytes", q->source,
                         bytes);
    if (bytes)
        memcpy(q->text, cursor->text, bytes);
    q->text[bytes] = 0;
    return AKIN_OK;
}

enum akin_status akin_audit_cursor(struct akin_audit *audit, const char *source, char *text,
                                   size_t bytes, struct akin_error *error)
{
    struct cursor_question question = {source, text, bytes};
    return log_request(audit, run_cursor, &question, error);
}
