/* Sources by their kind, and what they share. */
#include "events/source.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "events/source_dbus.h"
#include "events/source_journal.h"
#include "events/source_kinds.h"

/* ---- settings -------------------------------------------------------------------------------- */

void source_settings_default(enum akin_source_kind kind, struct akin_watch_source *settings)
{
    *settings = (struct akin_watch_source){.kind = kind, .priority = 7};
    switch (kind) {
    case AKIN_SOURCE_LINES:
        settings->address = "-";
        break;
    case AKIN_SOURCE_DBUS:
        settings->address = "system";
        break;
    case AKIN_SOURCE_NATS:
        settings->address = "nats://127.0.0.1:4222";
        settings->consumer = "akin";
        break;
    case AKIN_SOURCE_SOCKET:
    case AKIN_SOURCE_JOURNAL:
        break;
    }
}

static bool is_text(const char *text)
{
    return text && *text;
}

static enum akin_status check(const struct akin_watch_source *s, struct akin_error *error)
{
    if ((s->kind == AKIN_SOURCE_LINES || s->kind == AKIN_SOURCE_SOCKET
         || s->kind == AKIN_SOURCE_NATS || s->kind == AKIN_SOURCE_DBUS) && !is_text(s->address))
        return error_set(error, AKIN_ARGUMENT, "address: a source needs one: %s",
                         s->kind == AKIN_SOURCE_LINES    ? "a file, or - for standard input"
                         : s->kind == AKIN_SOURCE_SOCKET ? "the path of a socket"
                         : s->kind == AKIN_SOURCE_DBUS   ? "system, session or unix:path=..."
                                                         : "nats://HOST:PORT");
    if (s->kind == AKIN_SOURCE_NATS && (!is_text(s->stream) || !is_text(s->consumer)))
        return error_set(error, AKIN_ARGUMENT, "%s: a source of NATS needs the name of a %s",
                         is_text(s->stream) ? "consumer" : "stream",
                         is_text(s->stream) ? "durable consumer, which is made if it is not there"
                                            : "JetStream stream");
    if (s->priority < 0 || s->priority > 7)
        return error_set(error, AKIN_ARGUMENT, "priority is %d; it is 0 to 7", s->priority);
    if (s->name && (!*s->name || strlen(s->name) > SOURCE_NAME_BYTES_MAX
                    || s->name[strcspn(s->name, "\t\r\n")]))
        return error_set(error, AKIN_ARGUMENT, "name: the name of a source is one line of 1 to %d "
                         "bytes", SOURCE_NAME_BYTES_MAX);
    return AKIN_OK;
}

/* Long addresses are cut to what tells them apart. */
static void make_name(const struct akin_watch_source *s, char name[SOURCE_NAME_BYTES_MAX + 1])
{
    static const char *const kinds[] = {
        [AKIN_SOURCE_LINES] = "lines", [AKIN_SOURCE_SOCKET] = "socket",
        [AKIN_SOURCE_DBUS] = "dbus", [AKIN_SOURCE_JOURNAL] = "journal",
        [AKIN_SOURCE_NATS] = "nats",
    };
    if (s->name) {
        snprintf(name, SOURCE_NAME_BYTES_MAX + 1, "%s", s->name);
    } else if (s->kind == AKIN_SOURCE_NATS) {
        snprintf(name, SOURCE_NAME_BYTES_MAX + 1, "nats:%.100s/%.100s", s->stream, s->consumer);
    } else {
        const char *address = s->address ? s->address : "system";
        size_t bytes = strlen(address), room = SOURCE_NAME_BYTES_MAX - 16;
        snprintf(name, SOURCE_NAME_BYTES_MAX + 1, "%s:%s", kinds[s->kind],
                 bytes > room ? address + bytes - room : address);
    }
    for (char *c = name; *c; c++)
        if (*c == '\n' || *c == '\r' || *c == '\t')
            *c = ' ';
}

enum akin_status source_name(const struct akin_watch_source *settings, char *name,
                             struct akin_error *error)
{
    if ((unsigned)settings->kind > AKIN_SOURCE_NATS)
        return error_set(error, AKIN_ARGUMENT, "kind: there is no kind %d of sources",
                         (int)settings->kind);
    TRY(check(settings, error));
    make_name(settings, name);
    return AKIN_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

#if !defined AKIN_SYSTEMD || !defined AKIN_NATS
static enum akin_status left_out(const char *what, struct akin_error *error)
{
    return error_set(error, AKIN_UNSUPPORTED, "this akin was built without %s", what);
}
#endif

enum akin_status source_open(const struct akin_watch_source *settings, const char *cursor,
                             struct source_note note, struct event_source **source,
                             struct akin_error *error)
{
    struct akin_watch_source s = *settings;
    char name[SOURCE_NAME_BYTES_MAX + 1];
    TRY(source_name(&s, name, error));
    s.name = name;
    cursor = cursor ? cursor : "";
    switch (s.kind) {
    case AKIN_SOURCE_LINES:
        return source_lines_open(&s, cursor, note, source, error);
    case AKIN_SOURCE_SOCKET:
        return source_socket_open(&s, cursor, note, source, error);
#ifdef AKIN_SYSTEMD
    case AKIN_SOURCE_DBUS:
        return source_dbus_open(&s, cursor, note, source, error);
    case AKIN_SOURCE_JOURNAL:
        return source_journal_open(&s, cursor, note, source, error);
#else
    case AKIN_SOURCE_DBUS:
    case AKIN_SOURCE_JOURNAL:
        return left_out("libsystemd", error);
#endif
    case AKIN_SOURCE_NATS:
        break;
    }
#ifdef AKIN_NATS
    return source_nats_open(&s, cursor, note, source, error);
#else
    return left_out("libnats", error);
#endif
}

void source_close(struct event_source **source)
{
    if (*source)
        (*source)->close(*source);
    *source = NULL;
}

/* ---- what kinds share ------------------------------------------------------------------------ */

enum akin_status source_form_init(struct source_form *form,
                                  const struct akin_watch_source *settings,
                                  struct akin_error *error)
{
    const struct akin_event_fields *f = &settings->fields;
    const char *const from[] = {f->text, f->time, f->source, f->level, f->session, f->id};
    enum { FIELDS = sizeof from / sizeof from[0] };
    const char *to[FIELDS] = {0};
    struct bytes texts = {0};
    size_t places[FIELDS];
    for (size_t i = 0; i < FIELDS; i++) {
        places[i] = texts.count;
        if (from[i])
            bytes_append(&texts, from[i], strlen(from[i]) + 1);
    }
    bytes_append(&texts, "", 1);
    if (texts.failed) {
        bytes_deinit(&texts);
        return error_memory(error);
    }
    for (size_t i = 0; i < FIELDS; i++)
        to[i] = from[i] ? texts.data + places[i] : NULL;
    *form = (struct source_form){
        .form = settings->plain ? EVENT_PLAIN : EVENT_JSONL,
        .fields = {to[0], to[1], to[2], to[3], to[4], to[5]},
        .texts = texts.data,
    };
    return AKIN_OK;
}

void source_form_deinit(struct source_form *form)
{
    memory_free(form->texts);
    *form = (struct source_form){0};
}

static void make_place(char *place, size_t bytes, const char *name, uint64_t number)
{
    snprintf(place, bytes, "%s:%llu", name, (unsigned long long)number);
}

enum akin_status source_form_parse(const struct source_form *form, const char *line, size_t bytes,
                                   const char *name, uint64_t number, struct event *event,
                                   enum source_state *state, struct akin_error *error)
{
    char place[SOURCE_NAME_BYTES_MAX + 32];
    enum akin_status status = event_parse(event, form->form, line, bytes, &form->fields,
                                          number - 1, "", NULL);
    *state = SOURCE_EVENT;
    if (status == AKIN_OK || status == AKIN_MEMORY)
        return status == AKIN_OK ? AKIN_OK : error_memory(error);
    make_place(place, sizeof place, name, number);
    status = event_parse(event, form->form, line, bytes, &form->fields, number - 1, place, error);
    *state = SOURCE_BAD;
    return status == AKIN_MEMORY ? status : AKIN_OK;
}

void source_too_long(const char *name, uint64_t number, size_t limit, enum source_state *state,
                     struct akin_error *error)
{
    char place[SOURCE_NAME_BYTES_MAX + 32];
    make_place(place, sizeof place, name, number);
    error_set(error, AKIN_LIMIT, "%s: the event has more than %zu bytes, which is the limit", place,
              limit);
    *state = SOURCE_BAD;
}

void source_tell(const struct source_note *note, const char *name, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    if (!note->tell)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    note->tell(note->cookie, name, line);
}
