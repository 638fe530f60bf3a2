/* New .akx files: made beside their place under another name, and put there by a rename. The
 * writer's lock is on the file from its first moment, so a file under such a name that nobody has
 * locked was left behind by a process that died. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"
#include "index/index.h"
#include "index/store_file.h"

enum { NAME_TRIES = 1000 };

/* NAME.<digits>-<digits>.new */
static bool is_new_name(const char *name, const char *target)
{
    size_t length = strlen(target);
    if (strncmp(name, target, length) || name[length] != '.')
        return false;
    const char *at = name + length + 1;
    size_t pid = strspn(at, "0123456789");
    if (pid == 0 || at[pid] != '-')
        return false;
    at += pid + 1;
    size_t number = strspn(at, "0123456789");
    return number && !strcmp(at + number, ".new");
}

/* Removes what killed writers left behind. Whatever goes wrong here is no reason not to go on. */
static void remove_abandoned(const char *path)
{
    char folder[PATH_BYTES_MAX], other[PATH_BYTES_MAX];
    const char *name = path_last(path);
    size_t length = (size_t)(name - path);
    snprintf(folder, sizeof folder, "%.*s", length ? (int)length : 1, length ? path : ".");
    struct names names = { 0 };
    if (path_list(folder, &names, NULL) != AKIN_OK)
        names_deinit(&names);
    for (size_t i = 0; i < names.count; i++) {
        struct file_at file;
        if (!is_new_name(names.items[i], name) ||
            path_join(other, sizeof other, folder, names.items[i], NULL) != AKIN_OK ||
            file_at_open(other, FILE_AT_WRITE, &file, NULL) != AKIN_OK)
            continue;
        if (file_at_lock(&file, NULL) == AKIN_OK && file_at_is_current(&file))
            path_remove(other, NULL);
        file_at_close(&file);
    }
    names_deinit(&names);
}

static enum akin_status open_new(const char *path, struct file_at *file, struct akin_error *error)
{
    char name[PATH_BYTES_MAX];
    for (int attempt = 0; attempt < NAME_TRIES; attempt++) {
        int length = snprintf(name, sizeof name, "%s.%ld-%d.new", path, (long)getpid(), attempt);
        if (length < 0 || (size_t)length >= sizeof name)
            return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", path);
        enum akin_status status = file_at_open(name, FILE_AT_CREATE, file, error);
        if (status == AKIN_BUSY)
            continue;
        TRY(status);
        status = file_at_lock(file, error);
        /* Between creation and lock somebody may have taken it for an abandoned one. */
        if (status == AKIN_OK && file_at_is_current(file))
            return AKIN_OK;
        if (status != AKIN_BUSY && status != AKIN_OK)
            path_remove(name, NULL);
        file_at_close(file);
        if (status != AKIN_BUSY)
            TRY(status);
    }
    return error_set(error, AKIN_BUSY, "%s: no free name for a new file beside it", path);
}

/* Header and both marks in one write. */
static enum akin_status put_header(struct store *store, struct akin_error *error)
{
    struct store_header *h = &store->header;
    h->checksum = hash_bytes(h, offsetof(struct store_header, checksum));
    unsigned char pages[2 * STORE_PAGE_BYTES] = { 0 };
    for (size_t number = 0; number < 2; number++) {
        struct store_mark mark = {
            .number = number, .bytes = STORE_FRAMES, .operations = h->first_operation,
        };
        mark.checksum = hash_bytes(&mark, offsetof(struct store_mark, checksum));
        memcpy(pages + number * STORE_PAGE_BYTES, &mark, sizeof mark);
        store->mark = mark;
    }
    struct file_part parts[] = { { h, sizeof *h }, { pages, sizeof pages } };
    return file_at_write(&store->file, 0, parts, 2, error);
}

static enum akin_status check_settings(const char *path, const struct store_settings *s,
                                       struct akin_error *error)
{
    if (s->dimension == 0 || s->dimension > INDEX_DIMENSION_MAX)
        return error_set(error, s->dimension ? AKIN_LIMIT : AKIN_ARGUMENT,
                         "%s: vectors of dimension %zu: an index takes 1 to %d", path, s->dimension,
                         INDEX_DIMENSION_MAX);
    if ((unsigned)s->metric > AKIN_METRIC_L2)
        return error_set(error, AKIN_ARGUMENT, "%s: metric %d: there is no such metric", path,
                         (int)s->metric);
    if (s->element != ELEMENT_F32 && s->element != ELEMENT_F16)
        return error_set(error, AKIN_ARGUMENT, "%s: element %d: float32 and float16 are supported",
                         path, (int)s->element);
    if (s->creation_bytes > STORE_CREATION_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%s: %zu bytes of settings: there is room for %d", path,
                         s->creation_bytes, STORE_CREATION_BYTES_MAX);
    if (s->first_operation > INT64_MAX)
        return error_set(error, AKIN_ARGUMENT, "%s: impossible number of an operation", path);
    return AKIN_OK;
}

enum akin_status store_create(const char *path, const struct store_settings *settings,
                              struct store **store, struct akin_error *error)
{
    TRY(check_settings(path, settings, error));
    char resolved[PATH_BYTES_MAX];
    TRY(path_resolve(path, resolved, error));   /* a link stays a link */
    path = resolved;
    if (path_is_folder(path))
        return error_set(error, AKIN_IO, "%s: is a folder, not a file to write", path);
    remove_abandoned(path);
    struct store *made = memory_alloc(1, sizeof *made);
    if (!made)
        return error_memory(error);
    enum akin_status status = AKIN_OK;
    made->file.fd = -1;
    made->header = (struct store_header){
        .version = STORE_VERSION, .metric = settings->metric, .element = settings->element,
        .dimension = (uint32_t)settings->dimension, .first_operation = settings->first_operation,
        .creation_bytes = settings->creation_bytes,
    };
    memcpy(made->header.magic, index_magic, sizeof index_magic);
    if (settings->creation_bytes)
        memcpy(made->header.creation, settings->creation, settings->creation_bytes);
    store_take_header(made);
    char *target = memory_copy_string(path);
    if (!target)
        TRY_DONE(error_memory(error));
    status = open_new(path, &made->file, error);
    if (status != AKIN_OK) {
        memory_free(target);
        goto done;
    }
    made->target = target;
    made->layout.sealed = made->next = settings->first_operation;
    made->end = STORE_FRAMES;
    made->writable = made->dirty = true;
    TRY_DONE(put_header(made, error));
    *store = made;
    made = NULL;
done:
    store_close(&made);
    return status;
}

enum akin_status store_appear(struct store *store, struct store *old, struct akin_error *error)
{
    ASSERT(store->target);
    TRY(store_sync(store, NULL, error));
    TRY(store_write_mark(store, error));    /* both marks promise all of it */
    struct file_at present = { .fd = -1 };
    if (!old) {
        enum akin_status status = file_at_open(store->target, FILE_AT_WRITE, &present, error);
        if (status == AKIN_OK)
            status = file_at_lock(&present, error);
        if (status != AKIN_OK && status != AKIN_NOT_FOUND) {
            file_at_close(&present);
            return status;
        }
    }
    const struct file_at *replaced = old ? &old->file : &present;
    if (replaced->fd >= 0)
        file_at_take_mode(&store->file, replaced);
    enum akin_status status = path_rename(store->file.path, store->target, error);
    file_at_close(&present);
    TRY(status);
    memory_free(store->file.path);
    store->file.path = store->target;
    store->target = NULL;
    if (old)
        old->writable = false;
    struct akin_error failure = { 0 };
    if (path_sync_folder(store->file.path, &failure) != AKIN_OK)
        return store_give_up(store, &failure, error);
    return AKIN_OK;
}

enum akin_status store_start_at(struct store *store, uint64_t operation, struct akin_error *error)
{
    TRY(store_writable(store, error));
    ASSERT(store->target && !store->tail_count && !store->manifest && !store->streaming);
    store->header.first_operation = operation;
    TRY(put_header(store, error));
    store_take_header(store);
    store->layout.sealed = store->next = operation;
    store->dirty = true;
    return AKIN_OK;
}

bool store_appeared(const struct store *store)
{
    return !store->target;
}

/* ---- compaction ------------------------------------------------------------------------- */

/* One frame as it is: nothing in a frame depends on where it lies. */
static enum akin_status copy_frame(const struct store *from, uint64_t at, struct store *to,
                                   uint64_t *new_at, uint64_t *bytes, struct akin_error *error)
{
    struct store_frame frame;
    TRY(file_at_read(&from->file, at, &frame, sizeof frame, error));
    TRY(store_check_frame(from, &frame, at, from->end - at, error));
    if (frame.bytes > STORE_FILE_BYTES_MAX - to->end)
        return error_set(error, AKIN_LIMIT, "%s: would be longer than %" PRIu64 " bytes",
                         to->file.path, STORE_FILE_BYTES_MAX);
    enum akin_status status =
        file_at_copy(&from->file, at, &to->file, to->end, frame.bytes, error);
    if (status != AKIN_OK) {
        file_at_truncate(&to->file, to->end, NULL);
        return status;
    }
    *new_at = to->end;
    *bytes = frame.bytes;
    to->end += frame.bytes;
    to->dirty = true;
    return AKIN_OK;
}

enum akin_status store_copy_segment(struct store *to, const struct store *from,
                                    const struct store_segment_ref *ref,
                                    struct store_segment_ref *copied, struct akin_error *error)
{
    struct store_segment_ref copy = { 0 };
    uint64_t bytes;
    TRY(store_writable(to, error));
    ASSERT(!to->streaming && !from->old.header);
    TRY(copy_frame(from, ref->frame, to, &copy.frame, &bytes, error));
    if (ref->dead)
        TRY(copy_frame(from, ref->dead, to, &copy.dead, &bytes, error));
    *copied = copy;
    return AKIN_OK;
}

enum akin_status store_copy_tail(struct store *to, const struct store *from,
                                 struct akin_error *error)
{
    TRY(store_writable(to, error));
    ASSERT(!to->streaming);
    size_t i = 0;
    while (i < from->tail_count && from->tail[i].operation < to->next)
        i++;
    if (to->next != (i < from->tail_count ? from->tail[i].operation : from->next))
        return error_set(error, AKIN_ARGUMENT,
                         "%s: the tail of %s does not go on at operation %" PRIu64, to->file.path,
                         from->file.path, to->next);
    for (; i < from->tail_count; i++) {
        const struct store_tail_frame *t = &from->tail[i];
        struct store_frame frame = { .operation = t->operation, .rows = t->count };
        uint64_t at;
        TRY(store_add_tail(to, 0, &frame, error));
        enum akin_status status = copy_frame(from, t->at, to, &at, &frame.bytes, error);
        if (status != AKIN_OK) {
            to->tail_count--;
            return status;
        }
        to->tail[to->tail_count - 1].at = at;
        to->tail[to->tail_count - 1].bytes = frame.bytes;
        to->next += t->count;
    }
    return AKIN_OK;
}

static enum akin_status copy_live(const struct store *from, struct store *to,
                                  struct store_segment_ref *refs, struct akin_error *error)
{
    struct store_layout layout = from->layout;
    for (size_t i = 0; i < layout.segment_count; i++)
        TRY(store_copy_segment(to, from, &layout.segments[i], &refs[i], error));
    TRY(store_copy_tail(to, from, error));
    layout.segments = refs;
    return store_publish(to, &layout, error);
}

enum akin_status store_compact(struct store *store, struct akin_error *error)
{
    TRY(store_writable(store, error));
    ASSERT(!store->target && !store->streaming);
    struct store_settings settings = store->settings;
    settings.first_operation = store->layout.sealed;
    struct store *fresh = NULL;
    struct store_segment_ref *refs = memory_alloc(store->layout.segment_count, sizeof *refs);
    if (!refs)
        return error_memory(error);
    enum akin_status status = store_create(store->file.path, &settings, &fresh, error);
    if (status == AKIN_OK)
        status = copy_live(store, fresh, refs, error);
    if (status == AKIN_OK)
        status = store_appear(fresh, store, error);
    memory_free(refs);
    /* Once it has the name it is the file, even if that is not known to be durable. */
    if (fresh && store_appeared(fresh)) {
        struct store old = *store;
        *store = *fresh;
        *fresh = old;
        store_take_header(store);
    }
    store_close(&fresh);
    return status;
}
