/* Opening a store of events: what its files hold, into memory. Sealed segments come from their
 * sidecars, or from themselves where a sidecar is missing or wrong; the last one is read whole. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "watch/event_store_state.h"

static const char store_line[] = "akin event store 1\n";

void store_tell(const struct event_store *store, const char *format, ...)
{
    char line[PATH_BYTES_MAX + 512];
    if (!store->note.tell)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    store->note.tell(store->note.cookie, line);
}

void store_segment_path(const struct event_store *store, uint64_t first, int which,
                        char path[PATH_BYTES_MAX])
{
    snprintf(path, PATH_BYTES_MAX, "%s/events-%020" PRIu64 ".%s", store->folder, first,
             which == LOG_FILE ? "log" : "idx");
}

/* "events-N.log" or ".idx" -> N, which is at least 1; 0: no such name. */
static uint64_t segment_of_name(const char *name, const char *ending)
{
    uint64_t first = 0;
    size_t digits = 0;
    if (strncmp(name, "events-", 7))
        return 0;
    for (name += 7; *name >= '0' && *name <= '9'; name++, digits++)
        if (first > (UINT64_MAX - 9) / 10)
            return 0;
        else
            first = 10 * first + (uint64_t)(*name - '0');
    return digits == 20 && !strcmp(name, ending) ? first : 0;
}

/* ---- the last segment ------------------------------------------------------------------------ */

static struct origin_cursor *cursor_of(struct event_store *s, const char *origin)
{
    for (size_t i = 0; i < s->cursor_count; i++)
        if (!strcmp(s->cursors[i].origin, origin))
            return &s->cursors[i];
    if (!array_reserve((void **)&s->cursors, &s->cursor_capacity, s->cursor_count + 1,
                       sizeof *s->cursors))
        return NULL;
    struct origin_cursor *made = &s->cursors[s->cursor_count];
    *made = (struct origin_cursor){ .origin = memory_copy_string(origin) };
    if (!made->origin)
        return NULL;
    s->cursor_count++;
    return made;
}

static void set_cursor(struct event_store *s, const char *origin, const char *cursor)
{
    struct origin_cursor *at = cursor_of(s, origin);
    if (!at) {
        s->cursors_failed = true;
        return;
    }
    bytes_clear(&at->cursor);
    bytes_append_text(&at->cursor, cursor);
    s->cursors_failed = s->cursors_failed || at->cursor.failed;
}

void store_see_event(void *cookie, const struct stored_event *event, uint64_t id)
{
    struct event_store *s = cookie;
    if (event->cursor[0])
        set_cursor(s, event->origin, event->cursor);
    if (event_ids_reserve(&s->ids, 1))
        event_ids_put(&s->ids, id);
    else
        s->cursors_failed = true;
    s->next = event->number + 1;
}

enum akin_status store_take_log(struct event_store *s, bool exclusive, struct akin_error *error)
{
    struct event_segment *segment = s->segments[s->segment_count - 1];
    uint64_t size, damaged = segment->damaged, begin = segment->end;
    TRY(file_at_size(&s->log, &size, error));
    if (size <= begin)
        return AKIN_OK;
    unsigned char *data = memory_alloc_aligned((size_t)(size - begin), 1);
    if (!data)
        return error_memory(error);
    enum akin_status status = file_at_read(&s->log, begin, data, (size_t)(size - begin), error);
    if (status == AKIN_OK) {
        turnstile_enter(s->state);
        status = segment_take(segment, data, (size_t)(size - begin), false,
                              (struct segment_sink){ s, store_see_event }, error);
        if (status == AKIN_OK && s->cursors_failed)
            status = error_memory(error);
        turnstile_leave(s->state);
    }
    memory_free(data);
    if (status != AKIN_OK)
        return status;
    s->unsynced = s->unsynced || segment->end > begin;
    if (segment->damaged > damaged)
        store_tell(s, "%s: %" PRIu64 " bytes of it are damaged and are left out; what lies behind "
                   "them is served", s->log.path, segment->damaged - damaged);
    if (!exclusive || segment->end >= size)
        return AKIN_OK;
    TRY(file_at_truncate(&s->log, segment->end, error));
    s->unsynced = true;
    store_tell(s, "%s: %" PRIu64 " bytes of an append that did not end were cut off", s->log.path,
               size - segment->end);
    return AKIN_OK;
}

/* "origin\0cursor\0" each. */
static void take_cursors(struct event_store *s, const char *at, size_t bytes)
{
    const char *end = at + bytes;
    while (at < end) {
        const char *cursor = at + strlen(at) + 1;
        if (cursor >= end)
            return;
        set_cursor(s, at, cursor);
        at = cursor + strlen(cursor) + 1;
    }
}

static enum akin_status read_head(struct event_store *s, const struct file_at *log,
                                  struct event_segment *segment, struct akin_error *error)
{
    uint64_t size;
    const char *cursors;
    size_t cursor_bytes, bytes;
    TRY(file_at_size(log, &size, error));
    size_t some = size < SEGMENT_HEAD_BYTES ? (size_t)size : SEGMENT_HEAD_BYTES;
    unsigned char fixed[SEGMENT_HEAD_BYTES] = { 0 };
    TRY(file_at_read(log, 0, fixed, some, error));
    uint64_t wanted = load_u64(fixed + 24);
    wanted = wanted < size ? wanted + SEGMENT_HEAD_BYTES + RECORD_STEP : size;
    wanted = wanted < size ? wanted : size;
    unsigned char *data = memory_alloc_aligned((size_t)wanted + 1, 1);
    if (!data)
        return error_memory(error);
    enum akin_status status = file_at_read(log, 0, data, (size_t)wanted, error);
    if (status == AKIN_OK) {
        const char *wrong = segment_head_read(data, (size_t)wanted, segment->first, &cursors,
                                              &cursor_bytes, &bytes);
        segment->end = bytes;
        take_cursors(s, cursors, cursor_bytes);
        if (wrong)
            store_tell(s, "%s: %s: what lies behind it is served; sources that do not write "
                       "may begin anew", log->path, wrong);
        segment->damaged += wrong ? bytes : 0;
        if (s->cursors_failed)
            status = error_memory(error);
    }
    memory_free(data);
    return status;
}

enum akin_status store_follow(struct event_store *s, uint64_t first, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct file_at log = { .fd = -1 };
    struct event_segment *segment = memory_alloc(1, sizeof *segment);
    if (!segment)
        return error_memory(error);
    segment_begin(segment, first);
    store_segment_path(s, first, LOG_FILE, path);
    enum akin_status status = file_at_open(
        path, s->settings.read_only ? FILE_AT_READ : FILE_AT_WRITE, &log, error);
    turnstile_enter(s->state);
    if (status == AKIN_OK && !array_reserve((void **)&s->segments, &s->segment_capacity,
                                            s->segment_count + 1, sizeof *s->segments))
        status = error_memory(error);
    if (status == AKIN_OK)
        status = read_head(s, &log, segment, error);
    if (status == AKIN_OK) {
        file_at_close(&s->log);
        s->log = log;
        s->segments[s->segment_count++] = segment;
        s->next = first > s->next ? first : s->next;
    } else {
        file_at_close(&log);
        memory_free(segment);
    }
    turnstile_leave(s->state);
    return status;
}

/* ---- the sealed ones ------------------------------------------------------------------------- */

/* From its own bytes; the sidecar is made anew where we may. */
static enum akin_status rebuild(struct event_store *s, const char *path, const char *sidecar,
                                struct event_segment *segment, struct akin_error *error)
{
    struct file_map map;
    const char *cursors;
    size_t cursor_bytes, bytes;
    TRY(file_map_open(path, &map, error));
    uint64_t first = segment->first;
    const char *wrong = segment_head_read(map.data, map.bytes, first, &cursors, &cursor_bytes,
                                          &bytes);
    segment->end = bytes < map.bytes ? bytes : map.bytes;
    segment->damaged = wrong ? segment->end : 0;
    enum akin_status status = segment_take(segment, map.data + segment->end,
                                           map.bytes - (size_t)segment->end, true,
                                           (struct segment_sink){ 0 }, error);
    file_map_close(&map);
    if (status == AKIN_OK && !s->settings.read_only && segment->count
        && sidecar_write(segment, sidecar, NULL) == AKIN_OK) {
        struct event_segment mapped;
        if (sidecar_open(sidecar, first, segment->end, &mapped, NULL) == AKIN_OK) {
            segment_deinit(segment);
            *segment = mapped;
        }
    }
    return status;
}

static enum akin_status load_sealed(struct event_store *s, uint64_t first,
                                    struct akin_error *error)
{
    char path[PATH_BYTES_MAX], sidecar[PATH_BYTES_MAX];
    struct akin_error why = { 0 };
    uint64_t bytes;
    struct event_segment *segment = memory_alloc(1, sizeof *segment);
    if (!segment)
        return error_memory(error);
    segment_begin(segment, first);
    store_segment_path(s, first, LOG_FILE, path);
    store_segment_path(s, first, SIDECAR_FILE, sidecar);
    enum akin_status status = path_bytes(path, &bytes, &why);
    if (status == AKIN_OK)
        status = sidecar_open(sidecar, first, bytes, segment, &why);
    if (status == AKIN_FORMAT)
        store_tell(s, "%s; it is made anew", why.message);
    if (status != AKIN_OK)
        status = rebuild(s, path, sidecar, segment, &why);
    if (status == AKIN_MEMORY || (status == AKIN_OK && segment->count
                                  && !array_reserve((void **)&s->segments, &s->segment_capacity,
                                                    s->segment_count + 1, sizeof *s->segments))) {
        segment_deinit(segment);
        memory_free(segment);
        return error_memory(error);
    }
    if (status != AKIN_OK || !segment->count) {
        store_tell(s, "%s: nothing in it can be read%s%s; the other segments are served", path,
                   status == AKIN_OK ? "" : ": ", status == AKIN_OK ? "" : why.message);
        segment_deinit(segment);
        memory_free(segment);
        s->lost_segments++;
        return AKIN_OK;
    }
    if (segment->damaged)
        store_tell(s, "%s: %" PRIu64 " bytes of it are damaged and are left out; the rest is "
                   "served", path, segment->damaged);
    s->segments[s->segment_count++] = segment;
    s->next = segment_last(segment) + 1;
    return AKIN_OK;
}

static enum akin_status load_ids(struct event_store *s, struct akin_error *error)
{
    size_t begin = s->segment_count, rows = 0;
    while (begin && rows < EVENT_IDS_MAX)
        rows += s->segments[--begin]->count;
    for (; begin < s->segment_count; begin++) {
        const struct event_segment *segment = s->segments[begin];
        if (!event_ids_reserve(&s->ids, segment->count))
            return error_memory(error);
        for (size_t i = 0; i < segment->count; i++)
            event_ids_put(&s->ids, segment->rows[i].id);
    }
    return AKIN_OK;
}

static void forget_all(struct event_store *s)
{
    for (size_t i = 0; i < s->segment_count; i++) {
        segment_deinit(s->segments[i]);
        memory_free(s->segments[i]);
    }
    for (size_t i = 0; i < s->cursor_count; i++) {
        memory_free(s->cursors[i].origin);
        bytes_deinit(&s->cursors[i].cursor);
    }
    s->segment_count = s->cursor_count = s->lost_segments = 0;
    s->next = 1;
    s->label_end = 0;
    s->cursors_failed = false;
    s->stale = true;
    number_map_deinit(&s->labels);
    event_ids_deinit(&s->ids);
    file_at_close(&s->log);
}

/* What a process that was killed left half made, and sidecars of what is gone. */
static void tidy_up(struct event_store *s, const struct names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        const char *name = names->items[i];
        size_t length = strlen(name);
        uint64_t first = segment_of_name(name, ".idx");
        char path[PATH_BYTES_MAX], log[PATH_BYTES_MAX];
        if (path_join(path, sizeof path, s->folder, name, NULL) != AKIN_OK)
            continue;
        store_segment_path(s, first, LOG_FILE, log);
        bool part = length > 5 && !strcmp(name + length - 5, ".part");
        if (part || (first && !path_exists(log)))
            path_remove(path, NULL);
    }
}

enum akin_status store_load(struct event_store *s, struct akin_error *error)
{
    struct names names = { 0 };
    uint64_t last = 0;
    turnstile_enter(s->state);
    forget_all(s);
    turnstile_leave(s->state);
    enum akin_status status = path_list(s->folder, &names, error);
    if (status == AKIN_OK && !s->settings.read_only)
        tidy_up(s, &names);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        uint64_t first = segment_of_name(names.items[i], ".log");
        if (!first)
            continue;
        if (last) {
            turnstile_enter(s->state);
            status = load_sealed(s, last, error);
            turnstile_leave(s->state);
        }
        last = first;
    }
    names_deinit(&names);
    if (status == AKIN_OK)
        status = load_ids(s, error);
    if (status == AKIN_OK && last)
        status = store_follow(s, last, error);
    if (status == AKIN_OK && last)
        status = store_take_log(s, !s->settings.read_only, error);
    if (status == AKIN_OK)
        status = store_take_labels(s, !s->settings.read_only, error);
    s->stale = status != AKIN_OK;
    return status;
}

/* ---- the folder ------------------------------------------------------------------------------ */

static enum akin_status open_lock(struct event_store *s, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, s->folder, "lock", error));
    enum akin_status status;
    if (s->settings.read_only) {
        status = file_at_open(path, FILE_AT_READ, &s->lock, error);
        return status == AKIN_NOT_FOUND ? AKIN_OK : status;
    }
    do {
        status = file_at_open(path, FILE_AT_WRITE, &s->lock, error);
        if (status == AKIN_NOT_FOUND)
            status = file_at_open(path, FILE_AT_CREATE, &s->lock, error);
    } while (status == AKIN_BUSY);      /* another process was first */
    return status;
}

bool event_store_is_there(const char *folder)
{
    char path[PATH_BYTES_MAX];
    return path_join(path, sizeof path, folder, "store", NULL) == AKIN_OK && path_exists(path);
}

static enum akin_status check_line(struct event_store *s, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes line = { 0 };
    TRY(path_join(path, sizeof path, s->folder, "store", error));
    enum akin_status status = file_read(path, 4096, &line, error);
    if (status == AKIN_NOT_FOUND && !s->settings.read_only) {
        status = file_write(path, store_line, sizeof store_line - 1, error);
    } else if (status == AKIN_NOT_FOUND) {
        status = error_set(error, AKIN_NOT_FOUND, "%s: no store of events", s->folder);
    } else if (status == AKIN_OK && strcmp(line.data, store_line)) {
        status = error_set(error, AKIN_FORMAT,
                           "%s: does not say that this is a store of events of version 1", path);
    }
    bytes_deinit(&line);
    if (status == AKIN_OK && !s->settings.read_only)
        status = path_sync_folder(s->folder, error);    /* its own name, that is */
    return status;
}

static enum akin_status open_locked(struct event_store *s, struct akin_error *error)
{
    uint64_t cut = 0;
    TRY(check_line(s, error));
    TRY(store_load(s, error));
    if (!s->settings.read_only)
        store_retain(s);
    if (!s->settings.kernels)
        return AKIN_OK;
    TRY(event_kinds_open(&s->kinds, s->folder, s->settings.model, s->settings.read_only, error));
    TRY(event_kinds_catch_up(&s->kinds, s->settings.kernels, !s->settings.read_only, &cut, error));
    if (cut)
        store_tell(s, "%s: %" PRIu64 " bytes of an append that did not end were cut off",
                   s->kinds.path, cut);
    if (s->kinds.damaged)
        store_tell(s, "%s: %" PRIu64 " bytes of it are damaged and are left out; their vectors can "
                   "be made again", s->kinds.path, s->kinds.damaged);
    return AKIN_OK;
}

enum akin_status event_store_open(const struct event_store_settings *settings,
                                  struct event_store_note note, struct event_store **store,
                                  struct akin_error *error)
{
    if (strlen(settings->folder) >= sizeof ((struct event_store *)0)->folder)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", settings->folder);
    if (settings->segment_bytes > UINT32_MAX / 4)
        return error_set(error, AKIN_ARGUMENT, "segment_bytes: at most 1 GiB");
    struct event_store *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    s->settings = *settings;
    if (!s->settings.segment_bytes)
        s->settings.segment_bytes = EVENT_SEGMENT_BYTES;
    s->note = note;
    s->lock.fd = s->log.fd = s->label_log.fd = -1;
    snprintf(s->folder, sizeof s->folder, "%s", settings->folder);
    event_ids_init(&s->ids, EVENT_IDS_MAX);
    event_kinds_init(&s->kinds);
    s->writing = mutex_create();
    s->state = turnstile_create();
    enum akin_status status = s->writing && s->state ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK && !settings->read_only)
        status = path_make_folders(s->folder, error);
    else if (status == AKIN_OK && !path_is_folder(s->folder))
        status = error_set(error, AKIN_NOT_FOUND, "%s: no such folder", s->folder);
    if (status == AKIN_OK)
        status = open_lock(s, error);
    if (status == AKIN_OK && s->lock.fd >= 0)
        status = file_at_wait_lock(&s->lock, settings->read_only, error);
    if (status == AKIN_OK) {
        status = open_locked(s, error);
        if (s->lock.fd >= 0)
            file_at_unlock(&s->lock);
    }
    s->settings.folder = s->settings.model = NULL;  /* copied */
    if (status == AKIN_OK)
        *store = s;
    else
        event_store_close(&s);
    return status;
}

static void close_files(struct event_store *s)
{
    bool locked = s->kinds.pending.count && !s->settings.read_only && s->lock.fd >= 0
                  && file_at_wait_lock(&s->lock, false, NULL) == AKIN_OK;
    uint64_t cut = 0;
    if (locked && event_kinds_catch_up(&s->kinds, s->settings.kernels, true, &cut, NULL) == AKIN_OK)
        event_kinds_flush(&s->kinds, s->settings.durable, NULL);
    event_kinds_close(&s->kinds);
    kind_index_destroy(&s->index);
    kind_card_close(&s->card);
    file_at_close(&s->label_log);
    file_at_close(&s->lock);
}

void event_store_close(struct event_store **store)
{
    struct event_store *s = *store;
    if (!s)
        return;
    if (s->state && s->writing) {
        forget_all(s);
        close_files(s);
    }
    turnstile_destroy(&s->state);
    mutex_destroy(&s->writing);
    memory_free(s->segments);
    memory_free(s->cursors);
    bytes_deinit(&s->scratch);
    memory_free(s);
    *store = NULL;
}
