/* A monitor of D-Bus through sd-bus: org.freedesktop.DBus.Monitoring.BecomeMonitor of the D-Bus
 * specification. The bus never drops what a monitor does not read, it grows; so everything that has
 * come is read before anything is handed out, into a ring of our own, and what finds no room there
 * is counted in `lost`. A monitor may send nothing any more, or it is thrown off the bus.
 *
 * Ids: sender and serial do not do. Unique names begin again with each start of the bus, and the
 * bus numbers what it says itself by connection. A message comes to a monitor once, so its number
 * on our connection, with a hash of the bus' GUID, our name on it and when we came, is unique for
 * good. */
#include "events/source_dbus.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "events/dbus_text.h"
#include "events/event_ring.h"
#include "events/source_kinds.h"

#define MS ((uint64_t)1000000)
enum {
    DRAIN_MESSAGES = 4096,      /* read at most before one event is handed out */
    JOIN_MS = 10000,            /* the bus has so long to let us in */
    RETRY_MS_MIN = 50,
    RETRY_MS_MAX = 5000,
    ID_BYTES = 64,
};

static const char bus_name[] = "org.freedesktop.DBus", bus_path[] = "/org/freedesktop/DBus";
/* Of our own alarms (docs/watch-alerts.md). They are no events: each would bring the next. */
static const char alarm_interface[] = "org.akin.Watch1";

enum header { HEADER_USUAL, SENDER, DESTINATION, PATH, INTERFACE, MEMBER, HEADERS };
static const char *const header_names[HEADERS] = {
    [SENDER] = "sender",       [DESTINATION] = "destination", [PATH] = "path",
    [INTERFACE] = "interface", [MEMBER] = "member",
};

enum state { AWAY, JOINING, REFUSED, MONITORING };

struct dbus_source {
    struct event_source base;
    struct source_note note;
    char *name, *address;
    const char **rules;             /* borrowed from `texts`, or the usual ones */
    struct string_pool texts;
    size_t rule_count;
    bool returns;                   /* a rule asks for method returns */
    enum header source, session;

    enum state state;
    sd_bus *bus;                    /* NULL: away */
    const char *unique;             /* our name on the bus; bus owns it */
    uint64_t connection, number;    /* ids: which connection; messages on it */
    uint64_t deadline_ns;           /* of joining */
    uint64_t retry_ns, retry_ms;    /* when away: the next try, and the pause behind it */
    uint64_t lost_ns;               /* since when away; 0: never was in */
    char reason[256], told[256];    /* why not in; the last reason that the note heard */
    char error_name[128];           /* of the bus' refusal; "" if it is none */

    char alarms[64];                /* who said our own alarms last */
    struct event_ring ring;
    bool overflowing;
    uint64_t events;
    struct bytes text;
};

/* ---- joining and leaving ------------------------------------------------------------------- */

static void leave(struct dbus_source *s)
{
    sd_bus_close_unref(s->bus);
    s->bus = NULL;
    s->unique = NULL;
    s->state = AWAY;
}

static void give_reason(struct dbus_source *s, const char *name, const char *reason)
{
    snprintf(s->error_name, sizeof s->error_name, "%s", name);
    snprintf(s->reason, sizeof s->reason, "%s", reason);
}

/* The bus is gone, or did not let us in: told once for each reason, and tried again. That nobody
 * answers while it is gone is no news. */
static void stay_away(struct dbus_source *s)
{
    uint64_t now = clock_monotonic_ns();
    if (s->bus && strcmp(s->told, s->reason)) {
        source_tell(&s->note, s->name, "%s %s (%s): what is said there is not seen; it is tried "
                    "again until it answers", s->address,
                    s->state == MONITORING ? "is gone" : "does not let us in", s->reason);
        snprintf(s->told, sizeof s->told, "%s", s->reason);
    }
    if (s->state == MONITORING) {
        s->lost_ns = now;
        s->retry_ms = RETRY_MS_MIN;
    }
    leave(s);
    s->retry_ns = now + s->retry_ms * MS;
    s->retry_ms = s->retry_ms * 2 < RETRY_MS_MAX ? s->retry_ms * 2 : RETRY_MS_MAX;
}

static void name_connection(struct dbus_source *s)
{
    sd_id128_t guid = SD_ID128_NULL;
    char text[256];
    sd_bus_get_bus_id(s->bus, &guid);
    if (sd_bus_get_unique_name(s->bus, &s->unique) < 0)
        s->unique = "";
    int count = snprintf(text, sizeof text, SD_ID128_FORMAT_STR " %s %lld",
                         SD_ID128_FORMAT_VAL(guid), s->unique, (long long)clock_unix_us());
    s->connection = hash_bytes(text, (size_t)count);
    s->number = 0;
}

/* The answer to BecomeMonitor. */
static int on_answer(sd_bus_message *answer, void *cookie, sd_bus_error *unused)
{
    struct dbus_source *s = cookie;
    const sd_bus_error *refusal = sd_bus_message_get_error(answer);
    (void)unused;
    if (refusal) {
        give_reason(s, refusal->name ? refusal->name : "",
                    refusal->message ? refusal->message : "");
        s->state = REFUSED;
        return 1;
    }
    s->state = MONITORING;
    name_connection(s);
    if (s->lost_ns) {
        source_tell(&s->note, s->name, "%s is back after %.1f s; what was said there meanwhile is "
                    "not known", s->address, seconds_since(s->lost_ns));
        s->lost_ns = 0;
    }
    s->told[0] = 0;
    return 1;
}

static int ask_to_monitor(struct dbus_source *s, const char *const *rules, size_t count)
{
    sd_bus_message *call = NULL;
    int r = sd_bus_message_new_method_call(s->bus, &call, bus_name, bus_path,
                                           "org.freedesktop.DBus.Monitoring", "BecomeMonitor");
    if (r >= 0)
        r = sd_bus_message_open_container(call, 'a', "s");
    for (size_t i = 0; r >= 0 && i < count; i++)
        r = sd_bus_message_append_basic(call, 's', rules[i]);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r >= 0)
        r = sd_bus_message_append(call, "u", (uint32_t)0);
    if (r >= 0)
        r = sd_bus_call_async(s->bus, NULL, call, on_answer, s, JOIN_MS * (uint64_t)1000);
    sd_bus_message_unref(call);
    return r;
}

/* Begins to join; how it ends, the state tells later. Negative: an errno, nothing was begun. */
static int join(struct dbus_source *s, const char *const *rules, size_t count)
{
    int r = sd_bus_new(&s->bus);
    if (r >= 0)
        r = sd_bus_set_address(s->bus, s->address);
    if (r >= 0)
        r = sd_bus_set_bus_client(s->bus, 1);
    if (r >= 0)
        r = sd_bus_set_monitor(s->bus, 1);      /* or sd-bus would answer calls of others */
    if (r >= 0)
        r = sd_bus_start(s->bus);
    if (r >= 0)
        r = ask_to_monitor(s, rules, count);
    if (r < 0) {
        give_reason(s, "", strerror(-r));
        leave(s);
        return r;
    }
    s->state = JOINING;
    s->deadline_ns = clock_monotonic_ns() + JOIN_MS * MS;
    return 0;
}

/* ---- messages ------------------------------------------------------------------------------ */

static const char *header_text(sd_bus_message *message, enum header header)
{
    const char *text = NULL;
    switch (header) {
    case SENDER: text = sd_bus_message_get_sender(message); break;
    case DESTINATION: text = sd_bus_message_get_destination(message); break;
    case PATH: text = sd_bus_message_get_path(message); break;
    case INTERFACE: text = sd_bus_message_get_interface(message); break;
    case MEMBER: text = sd_bus_message_get_member(message); break;
    case HEADER_USUAL: case HEADERS: break;
    }
    return text ? text : "";
}

/* An alarm, and the call by which it is known to have arrived. No more is left out of who says
 * alarms, or that would be a way to hide from us. */
static bool is_alarm(struct dbus_source *s, sd_bus_message *message, uint8_t type)
{
    const char *sender = header_text(message, SENDER);
    if (type == SD_BUS_MESSAGE_METHOD_CALL)
        return *s->alarms && !strcmp(sender, s->alarms) &&
               sd_bus_message_is_method_call(message, bus_name, "GetId") > 0;
    if (type != SD_BUS_MESSAGE_SIGNAL || strcmp(header_text(message, INTERFACE), alarm_interface))
        return false;
    snprintf(s->alarms, sizeof s->alarms, "%s", sender);
    return true;
}

static bool is_wanted(struct dbus_source *s, sd_bus_message *message, uint8_t type)
{
    if (type == SD_BUS_MESSAGE_METHOD_RETURN && !s->returns)
        return false;
    /* That we lose our name, being a monitor now. */
    if (!strcmp(header_text(message, SENDER), bus_name) &&
        !strcmp(header_text(message, DESTINATION), s->unique))
        return false;
    return !is_alarm(s, message, type);
}

static void overflow(struct dbus_source *s)
{
    s->base.lost++;
    if (s->overflowing)
        return;
    s->overflowing = true;
    source_tell(&s->note, s->name, "%s says more than is taken: no room in %zu MB, events are "
                "dropped and counted (%llu so far)", s->address, s->ring.capacity >> 20,
                (unsigned long long)s->base.lost);
}

static void take_message(struct dbus_source *s, sd_bus_message *message)
{
    char time[40], id[ID_BYTES];
    uint8_t type = 0;
    sd_bus_message_get_type(message, &type);
    if (s->state != MONITORING || !is_wanted(s, message, type))
        return;
    s->number++;
    if (s->overflowing && event_ring_used(&s->ring) <= s->ring.capacity / 2)
        s->overflowing = false;     /* a burst of drops ends here, not with the first bit of room */
    if (s->overflowing || !dbus_text(message, &s->text)) {
        overflow(s);
        return;
    }
    clock_iso_us(clock_unix_us(), time, sizeof time);
    snprintf(id, sizeof id, "%016llx-%llu", (unsigned long long)s->connection,
             (unsigned long long)s->number);
    const char *session = header_text(message, s->session);
    const char *source = header_text(message, s->source == HEADER_USUAL ? INTERFACE : s->source);
    if (!*source && s->source == HEADER_USUAL)
        source = header_text(message, SENDER);
    struct event event = {
        .seq = s->events, .text = s->text.data, .text_bytes = s->text.count, .time = time,
        .source = source, .level = type == SD_BUS_MESSAGE_METHOD_ERROR ? "error" : "info",
        .session = session, .session_bytes = strlen(session), .id = id, .cursor = "",
    };
    if (event_ring_put(&s->ring, &event))
        s->events++;
    else
        overflow(s);
}

/* What has come, but not without an end: who is faster than we are would keep us here. */
static void drain(struct dbus_source *s)
{
    for (size_t i = 0; s->bus && i < DRAIN_MESSAGES; i++) {
        sd_bus_message *message = NULL;
        int r = sd_bus_process(s->bus, &message);
        bool gone = r < 0;
        if (gone)
            give_reason(s, "", strerror(-r));
        if (message) {
            gone = sd_bus_message_is_signal(message, "org.freedesktop.DBus.Local",
                                            "Disconnected") > 0;
            if (gone)
                give_reason(s, "", "it closed the connection");
            else
                take_message(s, message);
            sd_bus_message_unref(message);
        }
        if (s->state == JOINING && clock_monotonic_ns() > s->deadline_ns) {
            give_reason(s, "", "it does not answer");
            gone = true;
        }
        if (gone || s->state == REFUSED) {
            stay_away(s);
            return;
        }
        if (r == 0)
            return;
    }
}

/* ---- the table of functions ---------------------------------------------------------------- */

static void wait_until(struct dbus_source *s, uint64_t now, uint64_t until)
{
    if (!s->bus) {
        uint64_t end = s->retry_ns < until ? s->retry_ns : until;
        if (end > now)
            clock_sleep_us((unsigned)((end - now) / 1000 + 1));
        return;
    }
    if (s->state == JOINING && s->deadline_ns < until)
        until = s->deadline_ns;
    if (until > now)
        sd_bus_wait(s->bus, (until - now) / 1000 + 1);  /* what is wrong, the next drain hears */
}

static enum akin_status dbus_next(struct event_source *source, int timeout_ms, struct event *event,
                                  enum source_state *state, struct akin_error *error)
{
    struct dbus_source *s = (struct dbus_source *)source;
    uint64_t now = clock_monotonic_ns();
    uint64_t until = now + (timeout_ms > 0 ? (uint64_t)timeout_ms : 0) * MS;
    (void)error;
    event_ring_release(&s->ring);
    for (;; now = clock_monotonic_ns()) {
        if (!s->bus && now >= s->retry_ns && join(s, s->rules, s->rule_count) < 0)
            stay_away(s);
        drain(s);
        if (event && event_ring_take(&s->ring, event)) {
            *state = SOURCE_EVENT;
            return AKIN_OK;
        }
        if (now >= until) {
            *state = SOURCE_QUIET;
            return AKIN_OK;
        }
        wait_until(s, now, until);
    }
}

static enum akin_status dbus_stored(struct event_source *source, uint64_t ticket,
                                    struct akin_error *error)
{
    (void)source, (void)ticket, (void)error;    /* a bus has nothing to let go of */
    return AKIN_OK;
}

static void dbus_close(struct event_source *source)
{
    struct dbus_source *s = (struct dbus_source *)source;
    event_ring_release(&s->ring);
    if (s->ring.count)
        source_tell(&s->note, s->name, "%zu events that %s said were not taken before the end",
                    s->ring.count, s->address);
    leave(s);
    event_ring_deinit(&s->ring);
    bytes_deinit(&s->text);
    string_pool_deinit(&s->texts);
    memory_free(s->rules);
    memory_free(s->name);
    memory_free(s->address);
    memory_free(s);
}

/* ---- opening ------------------------------------------------------------------------------- */

/* A name that no message has is told, not refused: it may be for the other sources of a watch. */
static enum header find_header(const struct dbus_source *s, const char *field, const char *wanted)
{
    if (!wanted || !*wanted || !strcmp(wanted, field))
        return HEADER_USUAL;
    for (int i = SENDER; i < HEADERS; i++)
        if (!strcmp(wanted, header_names[i]))
            return (enum header)i;
    source_tell(&s->note, s->name, "a message of a bus has no field \"%s\", so %s is not taken "
                "from it; use sender, destination, path, interface or member", wanted, field);
    return HEADER_USUAL;
}

static enum akin_status take_settings(struct dbus_source *s,
                                      const struct akin_watch_source *settings,
                                      struct akin_error *error)
{
    static const char *const usual[] = {"type='signal'", "type='method_call'", "type='error'"};
    const char *const *match = settings->match_count ? settings->match : usual;
    s->rule_count = settings->match_count ? settings->match_count : sizeof usual / sizeof *usual;
    s->rules = memory_alloc(s->rule_count, sizeof *s->rules);
    for (size_t i = 0; s->rules && i < s->rule_count; i++) {
        if (!utf8_valid(match[i], strlen(match[i])))
            return error_set(error, AKIN_ARGUMENT, "%s: match: rule %zu is not UTF-8", s->name,
                             i + 1);
        s->rules[i] = string_pool_add(&s->texts, match[i], strlen(match[i]));
        if (!s->rules[i])
            return error_memory(error);
        s->returns |= strstr(match[i], "method_return") != NULL;
    }
    if (!s->rules || !event_ring_init(&s->ring, EVENT_RING_BYTES_MAX))
        return error_memory(error);
    const struct akin_event_fields *fields = &settings->fields;
    s->source = find_header(s, "source", fields->source);
    s->session = find_header(s, "session", fields->session);
    if (fields->text || fields->time || fields->level || fields->id)
        source_tell(&s->note, s->name, "of a message of a bus only source and session can be taken "
                    "from another field");
    return AKIN_OK;
}

/* "system" and "session" are where libsystemd looks for them; it tells once it is connected. */
static enum akin_status find_address(struct dbus_source *s, const char *address,
                                     struct akin_error *error)
{
    bool session = !strcmp(address, "session");
    const char *found = address;
    sd_bus *bus = NULL;
    int r = 0;
    if (strcmp(address, "system") && !session && !strchr(address, ':'))
        return error_set(error, AKIN_ARGUMENT, "%s: address: \"%s\" is neither system, session nor "
                         "an address of a bus, such as unix:path=/run/dbus/system_bus_socket",
                         s->name, address);
    if (session || !strcmp(address, "system")) {
        r = session ? sd_bus_open_user(&bus) : sd_bus_open_system(&bus);
        if (r >= 0)
            r = sd_bus_get_address(bus, &found);
    }
    if (r >= 0)
        s->address = memory_copy_string(found);
    sd_bus_close_unref(bus);
    if (r < 0)
        return error_set(error, AKIN_NOT_FOUND, "%s: there is no %s bus (%s): start one, or name "
                         "its address", s->name, address, strerror(-r));
    return s->address ? AKIN_OK : error_memory(error);
}

/* Joins and waits for the answer. */
static void join_now(struct dbus_source *s, const char *const *rules, size_t count)
{
    if (join(s, rules, count) < 0)
        return;
    while (s->state == JOINING) {
        sd_bus_message *message = NULL;
        int r = sd_bus_process(s->bus, &message);
        sd_bus_message_unref(message);
        if (s->state != JOINING)
            return;
        if (r == 0)
            r = sd_bus_wait(s->bus, 100000);
        if (r < 0 && r != -EINTR) {
            give_reason(s, "", strerror(-r));
            break;
        }
        if (clock_monotonic_ns() > s->deadline_ns) {
            give_reason(s, "", "it does not answer");
            break;
        }
    }
    if (s->state == JOINING)
        leave(s);
}

/* Why the bus did not let us in. Which rule it does not like it does not say: one by one. */
static enum akin_status explain(struct dbus_source *s, struct akin_error *error)
{
    bool rule = strstr(s->error_name, "MatchRule") || strstr(s->error_name, "InvalidArgs");
    if (strstr(s->error_name, "AccessDenied"))
        return error_set(error, AKIN_IO, "%s: %s does not let this user monitor it (%s): run as "
                         "root, or as the user that the bus runs as", s->name, s->address,
                         s->reason);
    if (!rule)
        return error_set(error, *s->error_name ? AKIN_UNSUPPORTED : AKIN_NOT_FOUND,
                         "%s: no bus that can be monitored answers at %s (%s%s%s): start it, or "
                         "correct the address", s->name, s->address, s->error_name,
                         *s->error_name ? ": " : "", s->reason);
    for (size_t i = 0; i < s->rule_count; i++) {
        leave(s);
        join_now(s, s->rules + i, 1);
        if (s->state == REFUSED)
            return error_set(error, AKIN_ARGUMENT, "%s: match: the bus does not take the rule "
                             "\"%s\" (%s)", s->name, s->rules[i], s->reason);
    }
    return error_set(error, AKIN_ARGUMENT, "%s: match: the bus does not take these rules together "
                     "(%s)", s->name, s->reason);
}

enum akin_status source_dbus_open(const struct akin_watch_source *settings, const char *cursor,
                                  struct source_note note, struct event_source **source,
                                  struct akin_error *error)
{
    struct dbus_source *s = memory_alloc(1, sizeof *s);
    enum akin_status status = AKIN_OK;
    (void)cursor;
    if (!s)
        return error_memory(error);
    s->name = memory_copy_string(settings->name);
    s->note = note;
    s->retry_ms = RETRY_MS_MIN;
    s->base = (struct event_source){.name = s->name, .keeps = true, .next = dbus_next,
                                    .stored = dbus_stored, .close = dbus_close};
    if (!s->name)
        TRY_DONE(error_memory(error));
    TRY_DONE(take_settings(s, settings, error));
    TRY_DONE(find_address(s, settings->address, error));
    join_now(s, s->rules, s->rule_count);
    if (s->state != MONITORING)
        status = explain(s, error);
done:
    if (status != AKIN_OK)
        dbus_close(&s->base);
    else
        *source = &s->base;
    return status;
}
