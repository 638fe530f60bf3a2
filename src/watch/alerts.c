/* Which alarms are the same, when they are told, and to whom. Alarms are kept in a table of fixed
 * size; one that is over is forgotten, and so is the one not seen for longest when there is no
 * room, after what was counted has been told. */
#include "watch/alerts.h"

#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"
#include "watch/alert_outlet.h"

enum { OUTLETS_MAX = 4, BUCKETS = 2 * ALARM_KINDS_MAX, NOTE_BYTES = 1024 };

struct alarm {
    uint64_t key;
    uint64_t told_ns, seen_ns;  /* last */
    uint64_t count, told_count; /* since it is on; as told. count 0: free */
    struct bytes json;          /* of the last one */
    struct alarm *next;         /* of its bucket, or free */
};

struct alerts {
    struct alerts_settings settings;    /* texts are not kept */
    uint64_t period_ns;
    struct outlet *outlets[OUTLETS_MAX];
    size_t outlet_count;
    struct alarm alarms[ALARM_KINDS_MAX];
    struct alarm *buckets[BUCKETS], *free;
    size_t kept_bytes;
    struct bytes line;          /* in the making */
    atomic_uint_fast64_t taken, told, repeated, dropped;
};

static const char *const severity_names[] = { "low", "medium", "high", "critical" };

const char *alert_severity_name(enum alert_severity severity)
{
    return severity_names[severity];
}

enum alert_severity alert_severity_of(double probability, int event_severity)
{
    int level = (probability < 1e-4) + (probability < 1e-6) + (event_severity >= 2) +
                (event_severity >= 3);
    return level > ALERT_CRITICAL ? ALERT_CRITICAL : (enum alert_severity)level;
}

void alerts_settings_default(struct alerts_settings *settings)
{
    *settings = (struct alerts_settings){ .repeat_seconds = 60, .queue_max = 1024,
                                          .webhook_tries = 8, .webhook_timeout_ms = 10000 };
}

/* ---- telling ---------------------------------------------------------------------------- */

static void compose(struct bytes *line, const struct alarm *alarm)
{
    const char *json = alarm->json.data;
    size_t bytes = alarm->json.count - 1, last = bytes;     /* without the brace */
    while (last > 1 && strchr(" \t\n\r", json[last - 1]))
        last--;
    bytes_clear(line);
    bytes_append(line, json, bytes);
    bytes_printf(line, "%s\"count\":%llu%s}\n", last > 1 ? "," : "",
                 (unsigned long long)alarm->count, alarm->count > 1 ? ",\"repeated\":true" : "");
    for (size_t i = 0; !line->failed && i + 1 < line->count; i++)
        if (line->data[i] == '\n' || line->data[i] == '\r')     /* between values: one line */
            line->data[i] = ' ';
}

static void tell_notes(struct alerts *a)
{
    char text[NOTE_BYTES];
    for (size_t i = 0; i < a->outlet_count; i++)
        while (outlet_note(a->outlets[i], text, sizeof text))
            if (a->settings.note)
                a->settings.note(a->settings.note_cookie, text);
}

static bool tell(struct alerts *a, struct alarm *alarm, uint64_t now_ns)
{
    compose(&a->line, alarm);
    bool first = alarm->told_count == 0, good = true;
    alarm->told_count = alarm->count;
    alarm->told_ns = now_ns;
    if (a->line.failed) {       /* no memory */
        bytes_deinit(&a->line);
        a->dropped++;
        return true;
    }
    atomic_fetch_add(first ? &a->told : &a->repeated, 1);
    for (size_t i = 0; i < a->outlet_count; i++)
        outlet_push(a->outlets[i], a->line.data, a->line.count);
    if (a->settings.print) {
        a->line.data[--a->line.count] = 0;
        good = a->settings.print(a->settings.cookie, a->line.data, a->line.count);
    }
    return good;
}

/* ---- the table -------------------------------------------------------------------------- */

static struct alarm **bucket_of(struct alerts *a, uint64_t key)
{
    return &a->buckets[key % BUCKETS];
}

static struct alarm *find(struct alerts *a, uint64_t key)
{
    struct alarm *alarm = *bucket_of(a, key);
    while (alarm && alarm->key != key)
        alarm = alarm->next;
    return alarm;
}

static uint64_t since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* Tells what was counted since it was last told. */
static bool tell_rest(struct alerts *a, struct alarm *alarm, uint64_t now_ns)
{
    return alarm->count == alarm->told_count || tell(a, alarm, now_ns);
}

static void forget(struct alerts *a, struct alarm *alarm)
{
    struct alarm **link = bucket_of(a, alarm->key);
    while (*link != alarm)
        link = &(*link)->next;
    *link = alarm->next;
    a->kept_bytes -= alarm->json.capacity;
    bytes_deinit(&alarm->json);
    *alarm = (struct alarm){ .next = a->free };
    a->free = alarm;
}

/* The alarm seen last longest ago goes; false: `print` asked to stop. */
static bool forget_one(struct alerts *a, const struct alarm *but, uint64_t now_ns)
{
    struct alarm *oldest = NULL;
    for (size_t i = 0; i < ALARM_KINDS_MAX; i++) {
        struct alarm *alarm = &a->alarms[i];
        if (alarm->count && alarm != but && (!oldest || alarm->seen_ns < oldest->seen_ns))
            oldest = alarm;
    }
    ASSERT(oldest);
    bool good = tell_rest(a, oldest, now_ns);
    forget(a, oldest);
    return good;
}

static struct alarm *add(struct alerts *a, uint64_t key, bool *good, uint64_t now_ns)
{
    if (!a->free)
        *good &= forget_one(a, NULL, now_ns);
    struct alarm *alarm = a->free, **bucket = bucket_of(a, key);
    a->free = alarm->next;
    *alarm = (struct alarm){ .key = key, .next = *bucket };
    *bucket = alarm;
    return alarm;
}

/* Keeps the text of the last one, so that what is told again is told as it is now. */
static bool keep(struct alerts *a, struct alarm *alarm, const struct alert *alert)
{
    a->kept_bytes -= alarm->json.capacity;
    if (alarm->json.capacity > 4096 && alarm->json.capacity / 2 > alert->json_bytes)
        bytes_deinit(&alarm->json);
    bytes_clear(&alarm->json);
    bytes_append(&alarm->json, alert->json, alert->json_bytes);
    if (alarm->json.failed)
        bytes_deinit(&alarm->json);
    a->kept_bytes += alarm->json.capacity;
    return alarm->json.count > 0;
}

/* ---- taking ----------------------------------------------------------------------------- */

bool alerts_take(struct alerts *alerts, const struct alert *alert, uint64_t now_ns)
{
    struct alerts *a = alerts;
    bool good = true;
    ASSERT(alert->json_bytes >= 2 && alert->json[0] == '{' &&
           alert->json[alert->json_bytes - 1] == '}');
    a->taken++;
    if (alert->severity < a->settings.severity_min)
        return true;
    if (alert->json_bytes > ALARM_BYTES_MAX) {
        a->dropped++;
        return true;
    }
    const char *source = alert->source ? alert->source : "";
    uint64_t words[2] = { alert->kind, alert->severity };
    uint64_t key = hash_bytes_seed(source, strlen(source), hash_bytes(words, sizeof words));
    struct alarm *alarm = find(a, key);
    if (alarm && since(alarm->seen_ns, now_ns) >= a->period_ns) {   /* it was over */
        good &= tell_rest(a, alarm, now_ns);
        forget(a, alarm);
        alarm = NULL;
    }
    if (!alarm)
        alarm = add(a, key, &good, now_ns);
    if (!keep(a, alarm, alert)) {
        forget(a, alarm);
        a->dropped++;
        return good;
    }
    alarm->count++;
    alarm->seen_ns = now_ns;
    if (alarm->count == 1 || since(alarm->told_ns, now_ns) >= a->period_ns)
        good &= tell(a, alarm, now_ns);
    while (a->kept_bytes > ALARM_KEPT_BYTES_MAX && a->kept_bytes > alarm->json.capacity)
        good &= forget_one(a, alarm, now_ns);
    return good;
}

bool alerts_tick(struct alerts *alerts, uint64_t now_ns)
{
    struct alerts *a = alerts;
    bool good = true;
    tell_notes(a);
    for (size_t i = 0; i < ALARM_KINDS_MAX; i++) {
        struct alarm *alarm = &a->alarms[i];
        if (!alarm->count)
            continue;
        if (since(alarm->told_ns, now_ns) >= a->period_ns)
            good &= tell_rest(a, alarm, now_ns);
        if (since(alarm->seen_ns, now_ns) >= a->period_ns && alarm->count == alarm->told_count)
            forget(a, alarm);
    }
    return good;
}

void alerts_count(struct alerts *alerts, struct alerts_counts *counts)
{
    *counts = (struct alerts_counts){ .taken = alerts->taken, .told = alerts->told,
                                      .repeated = alerts->repeated, .dropped = alerts->dropped };
    for (size_t i = 0; i < alerts->outlet_count; i++) {
        struct outlet_counts one;
        outlet_count(alerts->outlets[i], &one);
        counts->delivered += one.delivered;
        counts->failed += one.failed;
        counts->dropped += one.dropped;
    }
}

/* ---- open, close ------------------------------------------------------------------------ */

static enum akin_status check(const struct alerts_settings *s, struct akin_error *error)
{
    if (!(s->repeat_seconds >= 0))
        return error_set(error, AKIN_ARGUMENT, "alarms are repeated every %g s; it is 0 or more",
                         s->repeat_seconds);
    if (s->queue_max < 1 || s->queue_max > ALARM_QUEUE_MAX)
        return error_set(error, AKIN_ARGUMENT, "%zu alarms may wait for a sink; it is 1 to %zu",
                         s->queue_max, ALARM_QUEUE_MAX);
    if (s->webhook_tries < 1 || s->webhook_timeout_ms < 1)
        return error_set(error, AKIN_ARGUMENT, "a webhook needs at least one try and 1 ms for it");
    return AKIN_OK;
}

/* The sink number `kind`; NULL: not wanted. */
static enum akin_status open_sink(const struct alerts_settings *s, size_t kind,
                                  struct alert_sink **sink, struct akin_error *error)
{
    switch (kind) {
    case 0:
        return s->file ? alert_file_open(s->file, sink, error) : AKIN_OK;
    case 1:
        return s->socket ? alert_socket_open(s->socket, sink, error) : AKIN_OK;
    case 2:
        return s->webhook ? alert_webhook_open(s->webhook, s->webhook_tries, s->webhook_timeout_ms,
                                               sink, error)
                          : AKIN_OK;
    default:
        return s->bus ? alert_bus_open(s->bus, sink, error) : AKIN_OK;
    }
}

enum akin_status alerts_open(const struct alerts_settings *settings, struct alerts **alerts,
                             struct akin_error *error)
{
    TRY(check(settings, error));
    struct alerts *a = memory_alloc(1, sizeof *a);
    if (!a)
        return error_memory(error);
    a->settings = *settings;
    double period = settings->repeat_seconds * 1e9;
    a->period_ns = period < 1e18 ? (uint64_t)period : UINT64_MAX;
    for (size_t i = ALARM_KINDS_MAX; i--; a->free = &a->alarms[i])
        a->alarms[i].next = a->free;
    for (size_t kind = 0; kind < OUTLETS_MAX; kind++) {
        struct alert_sink *sink = NULL;
        enum akin_status status = open_sink(settings, kind, &sink, error);
        if (status == AKIN_OK && sink)
            status = outlet_open(sink, settings->queue_max, &a->outlets[a->outlet_count], error);
        if (status != AKIN_OK) {
            alerts_close(&a, 0);
            return status;
        }
        a->outlet_count += sink != NULL;
    }
    *alerts = a;
    return AKIN_OK;
}

bool alerts_flush(struct alerts *alerts, int timeout_ms)
{
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t until_ns = now_ns + (timeout_ms > 0 ? (uint64_t)timeout_ms * 1000000 : 0);
    bool all = true;
    for (size_t i = 0; i < ALARM_KINDS_MAX; i++)
        if (alerts->alarms[i].count)
            (void)tell_rest(alerts, &alerts->alarms[i], now_ns);
    for (size_t i = 0; i < alerts->outlet_count; i++)
        all &= outlet_wait(alerts->outlets[i], until_ns);
    tell_notes(alerts);
    return all;
}

void alerts_close(struct alerts **alerts, int timeout_ms)
{
    struct alerts *a = *alerts;
    if (!a)
        return;
    alerts_flush(a, timeout_ms);
    for (size_t i = 0; i < a->outlet_count; i++)
        outlet_close(&a->outlets[i]);
    for (size_t i = 0; i < ALARM_KINDS_MAX; i++)
        bytes_deinit(&a->alarms[i].json);
    bytes_deinit(&a->line);
    memory_free(a);
    *alerts = NULL;
}
