/* Appending to a store of events, and what keeps several processes that do so in step. */
#include "watch/event_store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "watch/event_store_state.h"

/* ---- labels ---------------------------------------------------------------------------------- */

enum { LABEL_BYTES = 24 };

static uint64_t label_check(const unsigned char *record)
{
    return hash_bytes(record, LABEL_BYTES - 8);
}

/* Whole records; false: `record` is none. */
static bool take_label(struct event_store *s, const unsigned char *record, bool *memory)
{
    uint64_t number = load_u64(record), label = load_u64(record + 8);
    if (load_u64(record + 16) != label_check(record) || label > 2)
        return false;
    if (!number_map_set(&s->labels, number, label))
        *memory = false;
    return true;
}

static enum akin_status open_labels(struct event_store *s, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/labels.log", s->folder);
    enum akin_status status = file_at_open(
        path, s->settings.read_only ? FILE_AT_READ : FILE_AT_WRITE, &s->label_log, error);
    return status == AKIN_NOT_FOUND ? AKIN_OK : status;
}

enum akin_status store_take_labels(struct event_store *s, bool exclusive,
                                   struct akin_error *error)
{
    uint64_t size, taken = 0;
    bool memory = true;
    if (s->label_log.fd < 0)
        TRY(open_labels(s, error));
    if (s->label_log.fd < 0)
        return AKIN_OK;
    TRY(file_at_size(&s->label_log, &size, error));
    if (size <= s->label_end)
        return AKIN_OK;
    size_t bytes = (size_t)(size - s->label_end);
    unsigned char *data = memory_alloc_aligned(bytes, 1);
    if (!data)
        return error_memory(error);
    enum akin_status status = file_at_read(&s->label_log, s->label_end, data, bytes, error);
    turnstile_enter(s->state);
    for (size_t at = 0; status == AKIN_OK && bytes - at >= LABEL_BYTES; at += LABEL_BYTES)
        if (take_label(s, data + at, &memory))
            taken = at + LABEL_BYTES;
    s->label_end += status == AKIN_OK ? taken : 0;
    turnstile_leave(s->state);
    memory_free(data);
    if (!memory)
        return error_memory(error);
    if (status == AKIN_OK && exclusive && s->label_end < size) {
        store_tell(s, "%s: %" PRIu64 " bytes of an append that did not end were cut off",
                   s->label_log.path, size - s->label_end);
        status = file_at_truncate(&s->label_log, s->label_end, error);
    }
    return status;
}

int store_label_of(const struct event_store *s, uint64_t number)
{
    uint64_t label;
    return number_map_get(&s->labels, number, &label) ? (int)label - 1 : 0;
}

static bool has_event(const struct event_store *s, uint64_t number)
{
    for (size_t i = s->segment_count; i-- > 0;)
        if (s->segments[i]->first <= number)
            return segment_find_row(s->segments[i], number) != ROW_NONE;
    return false;
}

static enum akin_status append_label(struct event_store *s, uint64_t number, int label,
                                     struct akin_error *error)
{
    struct bytes record = { 0 };
    if (s->label_log.fd < 0) {
        char path[PATH_BYTES_MAX];
        snprintf(path, sizeof path, "%s/labels.log", s->folder);
        TRY(file_write(path, "", 0, error));
        TRY(open_labels(s, error));
    }
    bytes_append_u64(&record, number);
    bytes_append_u64(&record, (uint64_t)(label + 1));
    if (!record.failed)
        bytes_append_u64(&record, label_check((unsigned char *)record.data));
    enum akin_status status = record.failed ? error_memory(error) : AKIN_OK;
    if (status == AKIN_OK)
        status = file_at_write(&s->label_log, s->label_end,
                               &(struct file_part){ record.data, record.count }, 1, error);
    if (status == AKIN_OK && s->settings.durable)
        status = file_at_sync(&s->label_log, error);
    if (status == AKIN_OK) {
        turnstile_enter(s->state);
        s->label_end += record.count;
        if (!number_map_set(&s->labels, number, (uint64_t)(label + 1)))
            status = error_memory(error);
        turnstile_leave(s->state);
    } else if (s->label_log.fd >= 0) {
        file_at_truncate(&s->label_log, s->label_end, NULL);
    }
    bytes_deinit(&record);
    return status;
}

static enum akin_status refuse_reader(const struct event_store *s, struct akin_error *error)
{
    return error_set(error, AKIN_ARGUMENT, "%s: was opened for reading only", s->folder);
}

enum akin_status event_store_label(struct event_store *s, uint64_t number, int label,
                                   struct akin_error *error)
{
    if (s->settings.read_only)
        return refuse_reader(s, error);
    if (label < -1 || label > 1)
        return error_set(error, AKIN_ARGUMENT, "label: -1, 0 or 1, not %d", label);
    mutex_lock(s->writing);
    enum akin_status status = file_at_wait_lock(&s->lock, false, error);
    if (status == AKIN_OK) {
        status = store_catch_up(s, true, error);
        if (status == AKIN_OK && !has_event(s, number))
            status = error_set(error, AKIN_NOT_FOUND, "%s: no event has number %" PRIu64,
                               s->folder, number);
        if (status == AKIN_OK)
            status = append_label(s, number, label, error);
        file_at_unlock(&s->lock);
    }
    mutex_unlock(s->writing);
    return status;
}

/* ---- in step with others --------------------------------------------------------------------- */

/* The last segment has ended: its sidecar takes the place of what is in memory. */
static void take_sidecar(struct event_store *s, struct event_segment *ended)
{
    char path[PATH_BYTES_MAX];
    struct event_segment mapped;
    store_segment_path(s, ended->first, SIDECAR_FILE, path);
    if (sidecar_open(path, ended->first, ended->end, &mapped, NULL) != AKIN_OK)
        return;
    turnstile_enter(s->state);
    segment_deinit(ended);
    *ended = mapped;
    turnstile_leave(s->state);
}

static enum akin_status take_segments(struct event_store *s, bool exclusive,
                                      struct akin_error *error)
{
    char next[PATH_BYTES_MAX];
    for (;;) {
        struct event_segment *last =
            s->segment_count ? s->segments[s->segment_count - 1] : NULL;
        if (last) {
            uint64_t size;
            TRY(file_at_size(&s->log, &size, error));
            if (size < last->end && last->end > SEGMENT_HEAD_BYTES)
                return store_load(s, error);    /* cut behind our back: all anew */
            TRY(store_take_log(s, exclusive, error));
        }
        store_segment_path(s, s->next, LOG_FILE, next);
        if ((last && !last->count) || !path_exists(next))
            return AKIN_OK;
        TRY(store_follow(s, s->next, error));
        if (last)
            take_sidecar(s, last);
    }
}

enum akin_status store_catch_up(struct event_store *s, bool exclusive, struct akin_error *error)
{
    uint64_t cut = 0;
    if (s->stale)
        TRY(store_load(s, error));
    enum akin_status status = take_segments(s, exclusive, error);
    s->stale = s->stale || s->cursors_failed;
    if (status != AKIN_OK)
        return status;
    TRY(store_take_labels(s, exclusive, error));
    if (!s->settings.kernels)
        return AKIN_OK;
    turnstile_enter(s->state);
    status =
        event_kinds_catch_up(&s->kinds, s->settings.kernels, exclusive, &cut, error);
    turnstile_leave(s->state);
    return status;
}

/* Segments that others have removed. */
static void drop_removed(struct event_store *s)
{
    char path[PATH_BYTES_MAX];
    while (s->segment_count > 1) {
        struct event_segment *oldest = s->segments[0];
        store_segment_path(s, oldest->first, LOG_FILE, path);
        if (path_exists(path))
            return;
        turnstile_enter(s->state);
        memmove(s->segments, s->segments + 1, --s->segment_count * sizeof *s->segments);
        segment_deinit(oldest);
        memory_free(oldest);
        turnstile_leave(s->state);
    }
}

enum akin_status event_store_refresh(struct event_store *s, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    mutex_lock(s->writing);
    if (s->lock.fd >= 0)
        status = file_at_wait_lock(&s->lock, true, error);
    if (status == AKIN_OK) {
        status = store_catch_up(s, false, error);
        if (s->lock.fd >= 0)
            file_at_unlock(&s->lock);
    }
    if (status == AKIN_OK)
        drop_removed(s);
    mutex_unlock(s->writing);
    return status;
}

/* ---- segments -------------------------------------------------------------------------------- */

static uint64_t segment_disk_bytes(const struct event_segment *segment)
{
    return segment->end + segment->map.bytes;
}

void store_retain(struct event_store *s)
{
    int64_t now = clock_unix_us();
    uint64_t sum = s->kinds.end + s->label_end;
    for (size_t i = 0; i < s->segment_count; i++)
        sum += segment_disk_bytes(s->segments[i]);
    while (s->segment_count > 1) {
        struct event_segment *oldest = s->segments[0];
        char path[PATH_BYTES_MAX], sidecar[PATH_BYTES_MAX];
        bool old = s->settings.keep_seconds && oldest->time_max < now
                   && (uint64_t)(now - oldest->time_max) / 1000000 >= s->settings.keep_seconds;
        if (!old && !(s->settings.keep_bytes && sum > s->settings.keep_bytes))
            return;
        sum -= segment_disk_bytes(oldest);
        store_segment_path(s, oldest->first, LOG_FILE, path);
        store_segment_path(s, oldest->first, SIDECAR_FILE, sidecar);
        if (path_remove(path, NULL) != AKIN_OK)
            return;
        path_remove(sidecar, NULL);
        drop_removed(s);
    }
}

/* Whether the next append begins a segment: by size, and by age so that what is old can go. */
static bool ends(const struct event_store *s, const struct event_segment *last)
{
    int64_t now = clock_unix_us();
    if (!last->count)
        return false;
    if (last->end >= s->settings.segment_bytes)
        return true;
    uint64_t age = last->time_min < now ? (uint64_t)(now - last->time_min) / 1000000 : 0;
    return s->settings.keep_seconds && age > s->settings.keep_seconds / 8
           && age > 60;
}

static enum akin_status begin_segment(struct event_store *s, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes cursors = { 0 }, head = { 0 };
    struct event_segment *ended = s->segment_count ? s->segments[s->segment_count - 1] : NULL;
    for (size_t i = 0; i < s->cursor_count; i++) {
        bytes_append(&cursors, s->cursors[i].origin, strlen(s->cursors[i].origin) + 1);
        bytes_append(&cursors, s->cursors[i].cursor.data, s->cursors[i].cursor.count);
        bytes_append(&cursors, "", 1);
    }
    segment_head(&head, s->next, &cursors);
    enum akin_status status = cursors.failed || head.failed ? error_memory(error) : AKIN_OK;
    if (status == AKIN_OK && ended && s->unsynced && s->settings.durable)
        status = file_at_sync(&s->log, error);
    if (ended) {
        store_segment_path(s, ended->first, SIDECAR_FILE, path);
        if (status == AKIN_OK && sidecar_write(ended, path, NULL) != AKIN_OK)
            store_tell(s, "%s: cannot be written now: it is made when the store is opened", path);
    }
    store_segment_path(s, s->next, LOG_FILE, path);
    if (status == AKIN_OK)
        status = file_write(path, head.data, head.count, error);
    if (status == AKIN_OK)
        status = store_follow(s, s->next, error);
    if (status == AKIN_OK && ended)
        take_sidecar(s, ended);
    bytes_deinit(&cursors);
    bytes_deinit(&head);
    return status;
}

/* ---- appending ------------------------------------------------------------------------------- */

/* The records of those that are new, into scratch; numbers[i] is given. */
static enum akin_status make_records(struct event_store *s, const struct stored_event *events,
                                     size_t count, uint64_t *numbers, struct akin_error *error)
{
    struct number_map now = { 0 };      /* ids of this call */
    uint64_t next = s->next;
    enum akin_status status = AKIN_OK;
    bytes_clear(&s->scratch);
    s->scratch.failed = false;
    for (size_t i = 0; i < count && status == AKIN_OK; i++) {
        struct stored_event event = events[i];
        uint64_t id = event_id_hash(event.id), seen;
        numbers[i] = 0;
        if (id && (event_ids_has(&s->ids, id) || number_map_get(&now, id, &seen)))
            continue;
        size_t bytes = event_record_bytes(&event);
        if (bytes == SIZE_MAX || bytes > EVENT_APPEND_BYTES_MAX - s->scratch.count)
            status = error_set(error, AKIN_LIMIT,
                               "%s: event %zu of an append is beyond the limit of %zu bytes for "
                               "one, or %zu for all", s->folder, i, EVENT_RECORD_BYTES_MAX,
                               EVENT_APPEND_BYTES_MAX);
        else if (id && !number_map_set(&now, id, 0))
            status = error_memory(error);
        if (status != AKIN_OK)
            break;
        event.number = numbers[i] = next++;
        event_record_append(&s->scratch, &event);
    }
    number_map_deinit(&now);
    if (status == AKIN_OK && s->scratch.failed)
        status = error_memory(error);
    if (status == AKIN_OK && !event_ids_reserve(&s->ids, count))
        status = error_memory(error);
    return status;
}

static enum akin_status flush_kinds(struct event_store *s, struct akin_error *error)
{
    if (!s->settings.kernels)
        return AKIN_OK;
    turnstile_enter(s->state);
    enum akin_status status = event_kinds_flush(&s->kinds, false, error);
    bool unsynced = s->kinds.unsynced;
    turnstile_leave(s->state);
    if (status == AKIN_OK && unsynced && s->settings.durable) {
        status = file_at_sync(&s->kinds.file, error);
        s->kinds.unsynced = status != AKIN_OK;
    }
    return status;
}

/* Nothing of scratch is known to anybody before it is durable. */
static enum akin_status write_records(struct event_store *s, struct akin_error *error)
{
    struct event_segment *last = s->segments[s->segment_count - 1];
    enum akin_status status = AKIN_OK;
    if (s->scratch.count)
        status = file_at_write(&s->log, last->end,
                               &(struct file_part){ s->scratch.data, s->scratch.count }, 1, error);
    if (status == AKIN_OK && s->settings.durable && (s->scratch.count || s->unsynced))
        status = file_at_sync(&s->log, error);
    if (status != AKIN_OK && s->scratch.count) {
        file_at_truncate(&s->log, last->end, NULL);     /* or the next one does it */
        s->unsynced = true;
    }
    return status;
}

/* The same way in as for what others appended. */
static enum akin_status take_records(struct event_store *s, struct akin_error *error)
{
    struct event_segment *last = s->segments[s->segment_count - 1];
    turnstile_enter(s->state);
    enum akin_status status = segment_take(last, (unsigned char *)s->scratch.data,
                                           s->scratch.count, false,
                                           (struct segment_sink){ s, store_see_event }, error);
    if (status == AKIN_OK && s->cursors_failed)
        status = error_memory(error);
    s->stale = s->stale || status != AKIN_OK;
    turnstile_leave(s->state);
    return status;
}

static enum akin_status append_locked(struct event_store *s, const struct stored_event *events,
                                      size_t count, uint64_t *numbers, struct akin_error *error)
{
    TRY(store_catch_up(s, true, error));
    if (!s->segment_count || ends(s, s->segments[s->segment_count - 1])) {
        TRY(begin_segment(s, error));
        store_retain(s);
    }
    TRY(make_records(s, events, count, numbers, error));
    TRY(flush_kinds(s, error));
    TRY(write_records(s, error));
    if (s->settings.durable)
        s->unsynced = false;
    return s->scratch.count ? take_records(s, error) : AKIN_OK;
}

enum akin_status event_store_append(struct event_store *s, const struct stored_event *events,
                                    size_t count, uint64_t *numbers, struct akin_error *error)
{
    if (s->settings.read_only)
        return refuse_reader(s, error);
    mutex_lock(s->writing);
    enum akin_status status = file_at_wait_lock(&s->lock, false, error);
    if (status == AKIN_OK) {
        status = append_locked(s, events, count, numbers, error);
        file_at_unlock(&s->lock);
    }
    if (s->scratch.capacity > (size_t)16 << 20)
        bytes_deinit(&s->scratch);
    mutex_unlock(s->writing);
    return status;
}

/* ---- asking ---------------------------------------------------------------------------------- */

enum akin_status event_store_cursor(struct event_store *s, const char *origin, char *text,
                                    size_t bytes, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    size_t needed = 0;
    turnstile_enter(s->state);
    if (bytes)
        text[0] = 0;
    for (size_t i = 0; i < s->cursor_count; i++) {
        const struct bytes *cursor = &s->cursors[i].cursor;
        if (strcmp(s->cursors[i].origin, origin) || !cursor->data)
            continue;
        needed = cursor->count + 1;
        if (needed <= bytes)
            memcpy(text, cursor->data, needed);
    }
    turnstile_leave(s->state);
    if (needed > bytes)
        status = error_set(error, AKIN_LIMIT, "%s: the cursor of %s has %zu bytes, of %zu that "
                           "there is room for", s->folder, origin, needed, bytes);
    return status;
}

enum akin_status event_store_put_kind(struct event_store *s, uint64_t kind, const char *text,
                                      const float *vector, size_t dimension,
                                      struct akin_error *error)
{
    if (s->settings.read_only)
        return refuse_reader(s, error);
    if (!s->settings.kernels)
        return error_set(error, AKIN_ARGUMENT, "%s: was opened without kernels", s->folder);
    turnstile_enter(s->state);
    enum akin_status status = event_kinds_put(&s->kinds, s->settings.kernels, kind, text, vector,
                                              dimension, error);
    turnstile_leave(s->state);
    return status;
}

void event_store_info(struct event_store *s, struct event_store_info *info)
{
    turnstile_enter(s->state);
    *info = (struct event_store_info){ .labels = s->labels.count, .kinds = s->kinds.count,
                                       .dimension = s->kinds.dimension,
                                       .segments = s->segment_count + s->lost_segments,
                                       .damaged = s->lost_segments,
                                       .bytes = s->kinds.end + s->label_end };
    for (size_t i = 0; i < s->segment_count; i++) {
        const struct event_segment *segment = s->segments[i];
        if (segment->count && !info->first)
            info->first = segment->first + segment->rows[0].step;
        info->last = segment->count ? segment_last(segment) : info->last;
        info->events += segment->count;
        info->alerts += segment->alerts;
        info->bytes += segment_disk_bytes(segment);
        info->damaged += segment->damaged > 0;
    }
    turnstile_leave(s->state);
}
