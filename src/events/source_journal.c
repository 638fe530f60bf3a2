/* The journal through sd-journal. What libsystemd does not promise, and what is done about it:
 *   - after sd_journal_seek_cursor the first sd_journal_next may bring the entry of the cursor or
 *     one behind it: it is compared, and left out only if it is the same;
 *   - a cursor that is behind the end of everything brings nothing, ever: see find_place;
 *   - a file that cannot be opened is left out without a word: journal_handle_check names it;
 *   - a broken entry is skipped, but a broken table of entries looks like the end of its file, or
 *     is an error that comes again and again. So at the end it is asked, with a handle of its own,
 *     what the last entry is; when that is not the one we had, the rest is looked for by time, in
 *     steps that double. Of several files, only what is newer than all that was read is found so.
 */
#include "events/source_journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "events/journal_handle.h"
#include "events/source_kinds.h"

#define MS ((uint64_t)1000000)
enum {
    PAUSE_MS = 200,             /* after an error, before it is tried again */
    CHECK_MS = 5000,            /* at least, between two looks for what is behind the end */
    STEPS_MAX = 50,             /* doublings of a microsecond: 35 years */
};

/* What is taken of an entry. The usual sources are taken together: which is there is known last. */
enum part { TEXT, TIME, LEVEL, SESSION, ID, SOURCE, SOURCE_2, SOURCE_3, PARTS };

struct journal_source {
    struct event_source base;
    struct source_note note;
    struct journal_what what;       /* owned by `texts` and `match` */
    const char **match;
    char *name;
    struct string_pool texts;
    const char *fields[PARTS];      /* names; "": not taken */
    size_t field_bytes[PARTS];
    sd_journal *journal;
    bool pending;                   /* the entry that the journal stands on was not handed out */
    uint64_t entries;
    uint64_t time_us;               /* of the entry read last; 0: none yet */
    bool moved;                     /* the journal, since it was asked what its last entry is */
    uint64_t checked_ns;            /* when that was; 0: it may be asked at once */
    char *last;                     /* what it was; libsystemd's allocation */
    int told;                       /* the last error that the note heard; 0: none, or it is over */
    char *cursor;                   /* of the entry handed out; libsystemd's allocation */
    char id[EVENT_ID_BYTES_MAX], time[40];
    struct bytes values[PARTS];     /* of the entry handed out; TEXT is in the event */
};

/* ---- where to go on ------------------------------------------------------------------------ */

/* Of "s=...;i=...;b=...;m=...;t=...;x=...", a cursor: the time. false: it has none. */
static bool cursor_time(const char *cursor, uint64_t *us)
{
    const char *field = strstr(cursor, ";t=");
    const char *at = !strncmp(cursor, "t=", 2) ? cursor + 2 : field ? field + 3 : NULL;
    int read = 0;
    return at && sscanf(at, "%" SCNx64 "%n", us, &read) == 1 && read > 0 &&
           (!at[read] || at[read] == ';');
}

/* Whether the journal stands on the entry of the cursor. Boot, times and content are enough: the
 * numbering (s, i) changes when an entry is copied to another file. */
static bool is_same(sd_journal *journal, const char *cursor)
{
    char *here = NULL;
    if (sd_journal_test_cursor(journal, cursor) > 0)
        return true;
    const char *a = strstr(cursor, ";b=");
    const char *b = sd_journal_get_cursor(journal, &here) >= 0 ? strstr(here, ";b=") : NULL;
    bool same = a && b && !strcmp(a, b);
    memory_free(here);
    return same;
}

/* Behind the newest entry. In an empty journal the start is as good; what sd_journal_next does
 * after sd_journal_seek_tail alone is not defined. */
static int go_to_end(struct journal_source *s)
{
    int r = sd_journal_seek_tail(s->journal);
    if (r >= 0)
        r = sd_journal_previous(s->journal);
    if (r == 0)
        r = sd_journal_seek_head(s->journal);
    return r < 0 ? sd_journal_seek_realtime_usec(s->journal, (uint64_t)clock_unix_us()) : r;
}

/* The place of the cursor is not there. By its time, if that is one which can have been read. */
static int go_by_time(struct journal_source *s, const char *cursor)
{
    uint64_t us = 0;
    char when[40];
    if (!cursor_time(cursor, &us) || us > (uint64_t)clock_unix_us()) {
        source_tell(&s->note, s->name, "the cursor \"%.200s\" %s: reading starts at the oldest "
                    "entry", cursor, us ? "is of the future" : "is none of a journal");
        return sd_journal_seek_head(s->journal);
    }
    clock_iso_us((int64_t)us, when, sizeof when);
    int r = sd_journal_seek_realtime_usec(s->journal, us);
    if (r >= 0)
        r = sd_journal_next(s->journal);
    if (r > 0) {
        s->pending = !is_same(s->journal, cursor);
        source_tell(&s->note, s->name, "the cursor \"%.200s\" leads nowhere: reading goes on at "
                    "its time, %s", cursor, when);
        return r;
    }
    source_tell(&s->note, s->name, "the cursor \"%.200s\" leads nowhere, and the journal holds "
                "nothing of its time, %s, or later: reading goes on with what is written from now "
                "on", cursor, when);
    return go_to_end(s);
}

static int find_place(struct journal_source *s, const char *cursor)
{
    if (!cursor || !*cursor)
        return s->what.folder ? sd_journal_seek_head(s->journal) : go_to_end(s);
    int r = sd_journal_seek_cursor(s->journal, cursor);
    if (r >= 0)
        r = sd_journal_next(s->journal);
    if (r <= 0 && strncmp(cursor, "t=", 2))
        return go_by_time(s, cursor);
    if (r <= 0)
        return go_to_end(s);
    s->pending = !is_same(s->journal, cursor);
    if (s->pending && strncmp(cursor, "t=", 2))
        source_tell(&s->note, s->name, "the entry of the cursor \"%.200s\" is not there, or not "
                    "for these filters: reading goes on with the first behind it", cursor);
    return r;
}

/* ---- what cannot be read ------------------------------------------------------------------- */

/* Stands behind what is broken, or on the last entry at least; *end_us is the last one's time. */
static bool look_behind(struct journal_source *s, uint64_t end_us)
{
    const char *refused;
    for (unsigned step = 0; step <= STEPS_MAX; step++) {
        sd_journal *fresh;      /* each time: a file with an error is let go of for good */
        if (journal_handle_open(&s->what, &fresh, &refused) < 0)
            return false;
        uint64_t to = s->time_us;
        if (!to)
            sd_journal_get_cutoff_realtime_usec(fresh, &to, NULL);
        to += (uint64_t)1 << step;
        bool last = to >= end_us;
        int r = last ? sd_journal_seek_tail(fresh) : sd_journal_seek_realtime_usec(fresh, to);
        if (r >= 0)
            r = last ? sd_journal_previous(fresh) : sd_journal_next(fresh);
        if (r > 0) {
            sd_journal_close(s->journal);
            s->journal = fresh;
            s->pending = true;
            return true;
        }
        sd_journal_close(fresh);
        if (last)
            return false;
    }
    return false;
}

/* The time of the last entry, if it is not the one that was read last or was here the last time. */
static bool has_more(struct journal_source *s, uint64_t *end_us)
{
    const char *refused;
    sd_journal *fresh;
    char *last = NULL;
    *end_us = 0;
    if (journal_handle_open(&s->what, &fresh, &refused) < 0)
        return false;
    bool here = sd_journal_seek_tail(fresh) >= 0 && sd_journal_previous(fresh) > 0 &&
                sd_journal_get_realtime_usec(fresh, end_us) >= 0 &&
                sd_journal_get_cursor(fresh, &last) >= 0;
    bool more = here && *end_us > s->time_us && (!s->last || strcmp(s->last, last));
    sd_journal_close(fresh);
    memory_free(s->last);
    s->last = last;
    return more;
}

/* At what seems to be the end, or at an error that sd_journal_next keeps giving. */
static void check_end(struct journal_source *s, int failure)
{
    uint64_t now = clock_monotonic_ns(), end_us, from_us = 0;
    char from[40], to[40];
    if ((!s->moved && !failure) || (s->checked_ns && now - s->checked_ns < CHECK_MS * MS))
        return;
    s->moved = false;
    s->checked_ns = now;
    if (!has_more(s, &end_us)) {
        if (failure && failure != s->told)
            source_tell(&s->note, s->name, "the journal cannot be read here (%s): it is tried "
                        "again until it can", strerror(-failure));
        s->told = failure;
        return;
    }
    sd_journal_process(s->journal);
    if (sd_journal_next(s->journal) > 0) {      /* it came since */
        s->pending = true;
        return;
    }
    if (!look_behind(s, end_us))
        return;
    s->checked_ns = 0;
    sd_journal_get_realtime_usec(s->journal, &from_us);
    clock_iso_us((int64_t)s->time_us, from, sizeof from);
    clock_iso_us((int64_t)from_us, to, sizeof to);
    source_tell(&s->note, s->name, "the journal is damaged: what it holds between %s and %s cannot "
                "be read; reading goes on behind it (`journalctl --verify` names the file)",
                s->time_us ? from : "its start", to);
}

/* ---- an entry ------------------------------------------------------------------------------ */

static enum akin_status take_text(struct journal_source *s, struct event *event, const char *data,
                                  size_t bytes, struct akin_error *error)
{
    static const char rest[] = " ...";
    struct bytes *cut = &s->values[TEXT];
    if (bytes <= EVENT_BYTES_MAX)
        return event_parse(event, EVENT_PLAIN, data, bytes, NULL, s->entries, s->name, error);
    bytes_clear(cut);
    bytes_append(cut, data, EVENT_BYTES_MAX - sizeof rest);
    bytes_append_text(cut, rest);
    if (cut->failed)
        return error_memory(error);
    return event_parse(event, EVENT_PLAIN, cut->data, cut->count, NULL, s->entries, s->name, error);
}

/* Copies the fields of the entry; *found: it has a text. Fields of broken data are left out by
 * libsystemd, or are an error, which ends the entry. */
static enum akin_status take_fields(struct journal_source *s, struct event *event, bool *found,
                                    struct akin_error *error)
{
    const void *data;
    size_t bytes;
    *found = false;
    for (int i = 0; i < PARTS; i++)
        bytes_clear(&s->values[i]);
    sd_journal_restart_data(s->journal);
    while (sd_journal_enumerate_available_data(s->journal, &data, &bytes) > 0) {
        for (int i = 0; i < PARTS; i++) {
            size_t name = s->field_bytes[i];
            const char *value = (const char *)data + name + 1;
            if (!name || bytes <= name || value[-1] != '=' || memcmp(data, s->fields[i], name))
                continue;
            if (i != TEXT && !s->values[i].count) {     /* the first, where there are several */
                bytes_append(&s->values[i], value, bytes - name - 1);
            } else if (i == TEXT && !*found && bytes > name + 1) {
                *found = true;
                TRY(take_text(s, event, value, bytes - name - 1, error));
            }
        }
    }
    return AKIN_OK;
}

static const char *value_text(const struct journal_source *s, enum part part)
{
    return s->values[part].count ? s->values[part].data : "";
}

static const char *level_name(const char *priority)
{
    static const char *const names[] = {"emerg", "alert", "crit", "err", "warning", "notice",
                                        "info", "debug"};
    bool digit = *priority >= '0' && *priority <= '7' && !priority[1];
    return digit ? names[*priority - '0'] : priority;
}

/* "s=A;i=B;..." is A-B: which numbering, and the number. */
static void write_id(struct journal_source *s)
{
    const char *number = strstr(s->cursor, ";i=");
    if (s->values[ID].count)
        snprintf(s->id, sizeof s->id, "%s", value_text(s, ID));
    else if (number && !strncmp(s->cursor, "s=", 2))
        snprintf(s->id, sizeof s->id, "%.*s-%.*s", (int)(number - s->cursor - 2), s->cursor + 2,
                 (int)strcspn(number + 3, ";"), number + 3);
    else
        snprintf(s->id, sizeof s->id, "%s", s->cursor);
}

static enum akin_status take_entry(struct journal_source *s, struct event *event,
                                   enum source_state *state, struct akin_error *error)
{
    uint64_t us = 0;
    bool found;
    memory_free(s->cursor);
    s->cursor = NULL;
    int r = sd_journal_get_cursor(s->journal, &s->cursor);
    if (r >= 0)
        r = sd_journal_get_realtime_usec(s->journal, &us);
    if (r < 0) {
        *state = SOURCE_BAD;
        error_set(error, AKIN_FORMAT, "%s: an entry of the journal cannot be read (%s)", s->name,
                  strerror(-r));
        return AKIN_OK;
    }
    s->time_us = us;
    s->moved = true;
    s->told = 0;
    TRY(take_fields(s, event, &found, error));
    for (int i = 0; i < PARTS; i++)
        if (s->values[i].failed)
            return error_memory(error);
    if (!found) {
        *state = SOURCE_BAD;
        error_set(error, AKIN_FORMAT, "%s: the entry %s has no field %s", s->name, s->cursor,
                  s->fields[TEXT]);
        return AKIN_OK;
    }
    enum part source = s->values[SOURCE].count ? SOURCE : s->values[SOURCE_2].count ? SOURCE_2
                                                                                   : SOURCE_3;
    clock_iso_us((int64_t)us, s->time, sizeof s->time);
    write_id(s);
    event->time = s->values[TIME].count ? value_text(s, TIME) : s->time;
    event->source = value_text(s, source);
    event->level = level_name(value_text(s, LEVEL));
    event->session = value_text(s, SESSION);
    event->session_bytes = s->values[SESSION].count;
    event->id = s->id;
    event->cursor = s->cursor;
    s->entries++;
    *state = SOURCE_EVENT;
    return AKIN_OK;
}

/* ---- the table of functions ---------------------------------------------------------------- */

static enum akin_status journal_next(struct event_source *source, int timeout_ms,
                                     struct event *event, enum source_state *state,
                                     struct akin_error *error)
{
    struct journal_source *s = (struct journal_source *)source;
    uint64_t now = clock_monotonic_ns();
    uint64_t until = now + (timeout_ms > 0 ? (uint64_t)timeout_ms : 0) * MS;
    for (bool asked = false;; asked = true) {
        int r = s->pending ? 1 : sd_journal_next(s->journal);
        s->pending = false;
        if (r > 0)
            return take_entry(s, event, state, error);
        check_end(s, r);
        if (s->pending)
            continue;
        now = clock_monotonic_ns();
        if (asked && now >= until) {
            *state = SOURCE_QUIET;
            return AKIN_OK;
        }
        uint64_t left = until > now ? until - now : 0;
        int woken = r == 0 ? sd_journal_wait(s->journal, left / 1000) : r;
        s->moved |= woken > SD_JOURNAL_NOP;
        if (woken >= 0)
            continue;
        left = left < PAUSE_MS * MS ? left : PAUSE_MS * MS;
        clock_sleep_us((unsigned)(left / 1000));
    }
}

static enum akin_status journal_stored(struct event_source *source, uint64_t ticket,
                                       struct akin_error *error)
{
    (void)source, (void)ticket, (void)error;    /* the cursor is in the event */
    return AKIN_OK;
}

static void journal_close(struct event_source *source)
{
    struct journal_source *s = (struct journal_source *)source;
    sd_journal_close(s->journal);
    for (int i = 0; i < PARTS; i++)
        bytes_deinit(&s->values[i]);
    string_pool_deinit(&s->texts);
    memory_free(s->cursor);
    memory_free(s->last);
    memory_free(s->match);
    memory_free(s->name);
    memory_free(s);
}

/* ---- opening ------------------------------------------------------------------------------- */

static enum akin_status name_fields(struct journal_source *s,
                                    const struct akin_event_fields *fields,
                                    struct akin_error *error)
{
    static const char *const usual[PARTS] = {
        [TEXT] = "MESSAGE",          [LEVEL] = "PRIORITY",
        [SOURCE] = "_SYSTEMD_UNIT",  [SOURCE_2] = "SYSLOG_IDENTIFIER",
        [SOURCE_3] = "_COMM",
    };
    const char *named[PARTS] = {
        [TEXT] = fields->text,       [TIME] = fields->time,   [LEVEL] = fields->level,
        [SESSION] = fields->session, [ID] = fields->id,       [SOURCE] = fields->source,
    };
    if (fields->source)
        named[SOURCE_2] = named[SOURCE_3] = "";
    if (fields->text && !*fields->text)
        return error_set(error, AKIN_ARGUMENT, "%s: fields.text: an event needs a text", s->name);
    for (int i = 0; i < PARTS; i++) {
        const char *field = named[i] ? named[i] : usual[i] ? usual[i] : "";
        s->fields[i] = string_pool_add(&s->texts, field, strlen(field));
        s->field_bytes[i] = strlen(field);
        if (!s->fields[i])
            return error_memory(error);
    }
    return AKIN_OK;
}

static enum akin_status keep_what(struct journal_source *s,
                                  const struct akin_watch_source *settings,
                                  struct akin_error *error)
{
    const char *folder = settings->address;
    if (settings->priority < 0 || settings->priority > 7)
        return error_set(error, AKIN_ARGUMENT, "%s: priority: %d is not from 0 to 7", s->name,
                         settings->priority);
    s->match = memory_alloc(settings->match_count, sizeof *s->match);
    if (folder)
        folder = string_pool_add(&s->texts, folder, strlen(folder));
    if (!s->match || (settings->address && !folder))
        return error_memory(error);
    s->what = (struct journal_what){folder, s->match, settings->match_count, settings->priority};
    for (size_t i = 0; i < settings->match_count; i++) {
        const char *match = settings->match[i];
        s->match[i] = string_pool_add(&s->texts, match, strlen(match));
        if (!s->match[i])
            return error_memory(error);
    }
    return AKIN_OK;
}

static enum akin_status open_journal(struct journal_source *s, struct akin_error *error)
{
    const char *refused, *folder = s->what.folder;
    int r = journal_handle_open(&s->what, &s->journal, &refused);
    if (r == -ENOMEM)
        return error_memory(error);
    if (refused)
        return error_set(error, AKIN_ARGUMENT, "%s: match: \"%s\" is no filter of the journal "
                         "(%s): use FIELD=value, unit=NAME or +", s->name, refused, strerror(-r));
    if (r < 0)
        return error_set(error, r == -ENOENT || r == -ENOTDIR ? AKIN_NOT_FOUND : AKIN_IO,
                         "%s: the journal%s%s cannot be opened (%s)", s->name,
                         folder ? " in " : "", folder ? folder : "", strerror(-r));
    journal_handle_check(&s->what, &s->note, s->name);
    if (!folder && !sd_journal_has_persistent_files(s->journal) &&
        !sd_journal_has_runtime_files(s->journal))
        source_tell(&s->note, s->name, "there is no journal that this user may read: run as root, "
                    "or as one of the group systemd-journal");
    return AKIN_OK;
}

enum akin_status source_journal_open(const struct akin_watch_source *settings, const char *cursor,
                                     struct source_note note, struct event_source **source,
                                     struct akin_error *error)
{
    struct journal_source *s = memory_alloc(1, sizeof *s);
    enum akin_status status = AKIN_OK;
    if (!s)
        return error_memory(error);
    s->name = memory_copy_string(settings->name);
    s->note = note;
    s->moved = true;
    s->base = (struct event_source){.name = s->name, .waits = true, .next = journal_next,
                                    .stored = journal_stored, .close = journal_close};
    if (!s->name)
        TRY_DONE(error_memory(error));
    TRY_DONE(keep_what(s, settings, error));
    TRY_DONE(name_fields(s, &settings->fields, error));
    TRY_DONE(open_journal(s, error));
    int r = find_place(s, cursor);
    if (r > 0 && !s->pending)
        sd_journal_get_realtime_usec(s->journal, &s->time_us);
    if (r < 0)
        TRY_DONE(error_set(error, AKIN_IO, "%s: the journal cannot be read (%s)", s->name,
                           strerror(-r)));
done:
    if (status != AKIN_OK)
        journal_close(&s->base);
    else
        *source = &s->base;
    return status;
}
