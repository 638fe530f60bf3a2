#include "watch/keeper.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/status.h"
#include "watch/verdict_json.h"

enum {
    BACK_OFF_MIN_MS = 50,
    BACK_OFF_MAX_MS = 2000,
    SLICE_MS = 50,              /* of a wait, so that it may be stopped */
};

/* Where the trail begins for an origin that had no cursor then: a cursor cannot be empty. */
static const char no_cursor[] = "-";

bool keeper_is_no_cursor(const char *cursor)
{
    return !strcmp(cursor, no_cursor);
}

__attribute__((format(printf, 2, 3)))
static void tell(struct keeper *keeper, const char *format, ...)
{
    char line[1200];
    va_list list;
    if (!keeper->note.tell)
        return;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    keeper->note.tell(keeper->note.cookie, line);
}

/* ---- a disk that is not well ------------------------------------------------------------- */

struct patience {
    int wait_ms;
    bool last;                  /* it was to stop; one more try was made */
};

/* After AKIN_IO: tells it once, waits; false where there is nothing left to wait for. */
static bool wait_for_disk(struct keeper *keeper, struct patience *patience,
                          const struct akin_error *error)
{
    if (!keeper->troubled)
        tell(keeper, "nothing is acknowledged until this is mended: %s", error->message);
    keeper->troubled = true;
    if (patience->last)
        return false;
    patience->wait_ms = patience->wait_ms ? 2 * patience->wait_ms : BACK_OFF_MIN_MS;
    if (patience->wait_ms > BACK_OFF_MAX_MS)
        patience->wait_ms = BACK_OFF_MAX_MS;
    for (int waited = 0; waited < patience->wait_ms && !atomic_load(keeper->stopping);
         waited += SLICE_MS)
        clock_sleep_us(1000 * SLICE_MS);
    patience->last = atomic_load(keeper->stopping);
    return true;
}

static void all_is_well(struct keeper *keeper)
{
    if (keeper->troubled)
        tell(keeper, "the disk takes events again");
    keeper->troubled = false;
}

/* ---- the trail --------------------------------------------------------------------------- */

enum akin_status keeper_open(struct keeper *keeper, struct akin_error *error)
{
    struct names names = {0};
    if (!keeper->audit_folder)
        return AKIN_OK;
    bool empty = !path_exists(keeper->audit_folder);
    if (!empty && path_is_folder(keeper->audit_folder)) {
        TRY(path_list(keeper->audit_folder, &names, error));
        empty = names.count == 0;
        names_deinit(&names);
    }
    if (empty)
        TRY(akin_audit_create(keeper->audit_folder, NULL, error));
    return akin_audit_open(keeper->audit_folder, &keeper->audit, error);
}

void keeper_close(struct keeper *keeper)
{
    akin_audit_close(&keeper->audit);
    bytes_deinit(&keeper->record);
}

/* A log that failed takes nothing more until it is opened again, which also finds out what of the
 * last group is there. */
static enum akin_status submit(struct keeper *keeper, const struct akin_audit_record *records,
                               size_t count, size_t *done, struct akin_error *error)
{
    struct akin_audit_info info;
    if (!keeper->audit)
        TRY(akin_audit_open(keeper->audit_folder, &keeper->audit, error));
    akin_audit_info(keeper->audit, &info);
    uint64_t first = info.records, end = 0;
    enum akin_status status = akin_audit_submit(keeper->audit, records, count, &end, error);
    if (status == AKIN_OK)
        status = akin_audit_wait(keeper->audit, end, NULL, error);
    if (status == AKIN_OK) {
        *done = count;
        return AKIN_OK;
    }
    if (status != AKIN_IO)
        return status;
    akin_audit_close(&keeper->audit);
    if (akin_audit_open(keeper->audit_folder, &keeper->audit, NULL) != AKIN_OK)
        return status;
    akin_audit_info(keeper->audit, &info);
    *done = info.records > first ? (size_t)(info.records - first) : 0;
    return *done >= count ? AKIN_OK : status;
}

static enum akin_status append_records(struct keeper *keeper,
                                       const struct akin_audit_record *records, size_t count,
                                       struct akin_error *error)
{
    struct patience patience = {0};
    struct akin_error why;
    while (count) {
        size_t done = 0;
        enum akin_status status = submit(keeper, records, count, &done, &why);
        records += done;
        count -= done;
        if (status == AKIN_OK)
            continue;
        if (status != AKIN_IO || !wait_for_disk(keeper, &patience, &why)) {
            if (error)
                *error = why;
            return status;
        }
    }
    all_is_well(keeper);
    return AKIN_OK;
}

enum akin_status keeper_records(struct keeper *keeper, const struct akin_audit_record *records,
                                size_t count, struct akin_error *error)
{
    return keeper->audit_folder ? append_records(keeper, records, count, error) : AKIN_OK;
}

/* ---- events ------------------------------------------------------------------------------ */

static enum akin_status store_events(struct keeper *keeper, struct kept_event *events,
                                     size_t count, struct akin_error *error)
{
    struct patience patience = {0};
    struct akin_error why;
    struct stored_event *plain = memory_alloc(count, sizeof *plain);
    uint64_t *numbers = memory_alloc(count, sizeof *numbers);
    enum akin_status status = plain && numbers ? AKIN_OK : error_memory(&why);
    for (size_t i = 0; status == AKIN_OK && i < count; i++)
        plain[i] = events[i].event;
    while (status == AKIN_OK) {
        status = event_store_append(keeper->store, plain, count, numbers, &why);
        if (status != AKIN_IO)
            break;
        if (wait_for_disk(keeper, &patience, &why))
            status = AKIN_OK;
    }
    for (size_t i = 0; status == AKIN_OK && i < count; i++)
        events[i].event.number = numbers[i];
    if (status == AKIN_OK)
        all_is_well(keeper);
    else if (error)
        *error = why;
    memory_free(plain);
    memory_free(numbers);
    return status;
}

/* The object that the trail has of an event. */
static void write_event(struct bytes *out, const struct kept_event *kept, bool again)
{
    const struct stored_event *e = &kept->event;
    bytes_append_text(out, "{\"watch\":\"event\",\"number\":");
    if (e->number)
        bytes_printf(out, "%" PRIu64, e->number);
    else
        bytes_append_text(out, "null");
    json_member_text(out, ",", "origin", e->origin, strlen(e->origin));
    json_member_text(out, ",", "id", e->id, strlen(e->id));
    bytes_printf(out, ",\"kind\":\"%016" PRIx64 "\",\"alert\":%s%s%s", e->kind,
                 e->alert ? "true" : "false", kept->history ? ",\"history\":true" : "",
                 again ? ",\"again\":true" : "");
    if (kept->members_bytes) {
        bytes_append_text(out, ",");
        bytes_append(out, kept->members, kept->members_bytes);
    } else {
        json_member_text(out, ",", "time", e->time, strlen(e->time));
        json_member_text(out, ",", "source", e->source, strlen(e->source));
        json_member_text(out, ",", "level", e->level, strlen(e->level));
        json_member_text(out, ",", "session", e->session, e->session_bytes);
        json_member_text(out, ",", "text", e->text, e->text_bytes);
        if (!kept->history)
            bytes_printf(out, ",\"score\":%.6g", (double)e->score);
    }
    bytes_append_text(out, "}");
}

/* Names and cursors that a trail cannot hold are left out of its fields. */
static struct akin_audit_record record_of(const struct kept_event *kept)
{
    const struct stored_event *e = &kept->event;
    struct akin_audit_record record = { .time_us = e->time_us };
    if (strlen(e->origin) <= AKIN_AUDIT_SOURCE_BYTES_MAX) {
        record.source = e->origin;
        if (*e->origin && strlen(e->cursor) <= AKIN_AUDIT_CURSOR_BYTES_MAX)
            record.cursor = e->cursor;
    }
    return record;
}

static enum akin_status trail_events(struct keeper *keeper, const struct kept_event *events,
                                     size_t count, struct akin_error *error)
{
    struct akin_audit_record *records = memory_alloc(count, sizeof *records);
    struct bytes *out = &keeper->record;
    enum akin_status status = AKIN_OK;
    bytes_clear(out);
    out->failed = false;
    for (size_t i = 0; records && i < count; i++) {
        size_t begin = out->count;
        write_event(out, &events[i], keeper->store && !events[i].event.number);
        records[i] = record_of(&events[i]);
        records[i].bytes = out->count - begin;
    }
    if (!records || out->failed)
        status = error_memory(error);
    for (size_t i = 0, at = 0; status == AKIN_OK && i < count; at += records[i++].bytes)
        records[i].data = out->data + at;
    if (status == AKIN_OK)
        status = append_records(keeper, records, count, error);
    memory_free(records);
    return status;
}

enum akin_status keeper_keep(struct keeper *keeper, struct kept_event *events, size_t count,
                             struct akin_error *error)
{
    if (keeper->store)
        TRY(store_events(keeper, events, count, error));
    return keeper->audit_folder ? trail_events(keeper, events, count, error) : AKIN_OK;
}

/* ---- after a crash ----------------------------------------------------------------------- */

struct catching_up {
    struct keeper *keeper;
    uint64_t end;               /* of the trail, once all is durable */
    const char *until;          /* the trail's cursor; NULL: everything is missing */
    uint64_t from;              /* number of the oldest that is missing; 0: none */
    uint64_t added;
    enum akin_status status;
    struct akin_error *error;
};

static bool find_oldest(void *cookie, const struct stored_event *event)
{
    struct catching_up *c = cookie;
    if (c->until && !strcmp(event->cursor, c->until))
        return false;
    c->from = event->number;
    return true;
}

static bool add_missing(void *cookie, const struct stored_event *event)
{
    struct catching_up *c = cookie;
    struct kept_event kept = {.event = *event};
    struct bytes *out = &c->keeper->record;
    struct akin_audit_record record = record_of(&kept);
    bytes_clear(out);
    write_event(out, &kept, false);
    record.data = out->data;
    record.bytes = out->count;
    c->status = out->failed ? error_memory(c->error)
                            : akin_audit_submit(c->keeper->audit, &record, 1, &c->end, c->error);
    c->added += c->status == AKIN_OK;
    return c->status == AKIN_OK;
}

enum akin_status keeper_catch_up(struct keeper *keeper, const char *origin, uint64_t *added,
                                 struct akin_error *error)
{
    char trail[AKIN_AUDIT_CURSOR_BYTES_MAX + 1], stored[AKIN_AUDIT_CURSOR_BYTES_MAX + 1];
    const struct event_filter filter = {.origin = origin};
    struct catching_up c = {.keeper = keeper, .error = error};
    *added = 0;
    if (!keeper->audit || strlen(origin) > AKIN_AUDIT_SOURCE_BYTES_MAX)
        return AKIN_OK;
    TRY(akin_audit_cursor(keeper->audit, origin, trail, sizeof trail, error));
    stored[0] = '\0';
    if (keeper->store)
        TRY(event_store_cursor(keeper->store, origin, stored, sizeof stored, error));
    if (!*trail) {      /* the trail is new: it begins here */
        static const char json[] = "{\"watch\":\"source\"}";
        return keeper_records(keeper, &(struct akin_audit_record){
            .data = json, .bytes = sizeof json - 1, .source = origin,
            .cursor = *stored ? stored : no_cursor }, 1, error);
    }
    if (!*stored || !strcmp(trail, stored))
        return AKIN_OK;
    c.until = keeper_is_no_cursor(trail) ? NULL : trail;
    TRY(event_store_read(keeper->store, 0, true, &filter, find_oldest, &c, error));
    if (!c.from)
        return AKIN_OK;
    TRY(event_store_read(keeper->store, c.from, false, &filter, add_missing, &c, error));
    TRY(c.status);
    *added = c.added;
    return akin_audit_wait(keeper->audit, c.end, NULL, error);
}
