#include "cli/watch_live.h"

#include <string.h>

#include "base/csv.h"
#include "cli/moment.h"
#include "cli/watch_sources.h"

struct live_run {
    struct cli *cli;
    double report_seconds;          /* 0: only where SIGUSR1 asks */
    double reported;
};

/* ---- reports ----------------------------------------------------------------------------- */

static json_t *sources_json(const struct akin_watch_live_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->source_count; i++) {
        const struct akin_source_report *s = &r->sources[i];
        json_t *one = json_object();
        json_object_set_new(one, "name", json_of_text(s->name));
        json_object_set_new(one, "received", json_of_count(s->received));
        json_object_set_new(one, "dropped", json_of_count(s->dropped));
        json_object_set_new(one, "lost", json_of_count(s->lost));
        json_object_set_new(one, "bad", json_of_count(s->bad));
        json_object_set_new(one, "waiting", json_of_count(s->waiting));
        json_object_set_new(one, "ended", json_boolean(s->ended));
        json_array_append_new(list, one);
    }
    return list;
}

static void print_report(const struct akin_watch_live_report *r, bool final)
{
    json_t *root = json_object();
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"received", r->received}, {"learned", r->counts.learned}, {"scored", r->counts.scored},
        {"stored", r->stored}, {"again", r->again}, {"dropped", r->dropped}, {"lost", r->lost},
        {"bad", r->bad}, {"alerts", r->counts.alerts}, {"sessions", r->counts.sessions},
        {"session_alerts", r->counts.session_alerts},
        {"sessions_refused", r->counts.sessions_refused}, {"embedded", r->counts.embedded},
        {"kinds", r->counts.kinds}, {"relearned", r->relearned},
        {"alerts_told", r->alerts_told}, {"alerts_repeated", r->alerts_repeated},
        {"alerts_delivered", r->alerts_delivered}, {"alerts_failed", r->alerts_failed},
        {"alerts_dropped", r->alerts_dropped}, {"rss_bytes", r->rss_bytes},
    };
    json_object_set_new(root, "report", json_string(final ? "final" : "now"));
    json_object_set_new(root, "seconds", json_of_double(r->seconds));
    json_object_set_new(root, "learning", json_boolean(r->learning));
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        json_object_set_new(root, counts[i].name, json_of_count(counts[i].value));
    json_object_set_new(root, "lag_seconds", json_of_double(r->lag_seconds));
    json_object_set_new(root, "latency_us_p50", json_of_double(r->latency_us_p50));
    json_object_set_new(root, "latency_us_p99", json_of_double(r->latency_us_p99));
    json_object_set_new(root, "latency_us_max", json_of_double(r->latency_us_max));
    json_object_set_new(root, "stored_us_p50", json_of_double(r->stored_us_p50));
    json_object_set_new(root, "stored_us_p99", json_of_double(r->stored_us_p99));
    json_object_set_new(root, "sources", sources_json(r));
    json_dumpf(root, stderr, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(root);
    putc('\n', stderr);
}

static void tell_end(struct cli *cli, const struct akin_watch_live_report *r)
{
    print_note(cli, "%llu events, %llu of them history, %llu scored, %llu alerts, %llu told",
               (unsigned long long)r->received, (unsigned long long)r->counts.learned,
               (unsigned long long)r->counts.scored, (unsigned long long)r->counts.alerts,
               (unsigned long long)r->alerts_told);
    if (r->counts.sessions)
        print_note(cli, "%llu sessions judged, %llu alerts",
                   (unsigned long long)r->counts.sessions,
                   (unsigned long long)r->counts.session_alerts);
    if (r->bad)
        print_note(cli, "%llu lines were no events and were left out", (unsigned long long)r->bad);
    if (r->again)
        print_note(cli, "%llu events were delivered again, and are stored once",
                   (unsigned long long)r->again);
    if (r->dropped || r->lost)
        print_note(cli, "%llu events DROPPED for want of room, %llu lost before they came",
                   (unsigned long long)r->dropped, (unsigned long long)r->lost);
    print_note(cli, "%zu kinds of events, %llu texts embedded, %.2f s, %.0f events/s; verdicts "
               "after %.2f ms, p99 %.2f ms", r->counts.kinds,
               (unsigned long long)r->counts.embedded, r->seconds,
               r->seconds > 0 ? (double)r->received / r->seconds : 0.0,
               r->latency_us_p50 / 1e3, r->latency_us_p99 / 1e3);
}

/* ---- what the watch calls ---------------------------------------------------------------- */

static bool take_alarm(void *cookie, const char *json, size_t bytes)
{
    (void)cookie;
    fwrite(json, 1, bytes, stdout);
    putchar('\n');
    fflush(stdout);
    return !ferror(stdout);
}

static bool take_tick(void *cookie, const struct akin_watch_live_report *report)
{
    struct live_run *run = cookie;
    bool due = run->report_seconds > 0 && report->seconds - run->reported >= run->report_seconds;
    if (due)
        run->reported = report->seconds;
    if (signals_report_asked() || due)
        print_report(report, false);
    return !signals_interrupted();
}

static void take_note(void *cookie, const char *line)
{
    struct live_run *run = cookie;
    if (!run->cli->quiet)
        print_message("", line);
}

/* ---- settings ---------------------------------------------------------------------------- */

static enum akin_status read_learning(struct cli *cli, struct akin_watch_live *live)
{
    const struct options *o = &cli->options;
    const char *learn = options_given(o, "learn") ? options_text(o, "learn")
                                                  : options_text(o, "train-until");
    if (parse_uint64(learn, strlen(learn), &live->learn_events))
        return AKIN_OK;
    if (duration_parse(learn, &live->learn_seconds) && live->learn_seconds > 0)
        return AKIN_OK;
    return wrong_use(cli, "--learn %.40s: it is a number of events, or a time such as 10m, 2h or "
                     "1d", learn);
}

static enum akin_severity severity_of(const char *word)
{
    static const char *const names[] = {"low", "medium", "high", "critical"};
    size_t i = 0;
    while (i < AKIN_SEVERITY_CRITICAL && strcmp(names[i], word))
        i++;
    return (enum akin_severity)i;
}

static enum akin_status read_settings(struct cli *cli, struct akin_watch_live *live)
{
    const struct options *o = &cli->options;
    double seconds = 0;
    akin_watch_live_default(live);
    live->store = options_text(o, "store");
    live->audit = options_text(o, "audit");
    live->deadline_ms = options_number(o, "deadline");
    live->queue_events = options_count(o, "queue");
    live->speed = options_given(o, "speed") ? options_number(o, "speed") : 0;
    if (options_given(o, "session-idle"))
        live->session_idle = options_count(o, "session-idle");
    live->alerts.file = options_text(o, "alert-file");
    live->alerts.socket = options_text(o, "alert-socket");
    live->alerts.webhook = options_text(o, "webhook");
    live->alerts.bus = options_text(o, "alert-bus");
    live->alerts.severity_min = severity_of(options_text(o, "severity"));
    live->alerts.repeat_seconds = options_number(o, "repeat");
    live->alerts.explain = options_flag(o, "explain");
    if (options_given(o, "keep") && !duration_parse(options_text(o, "keep"), &seconds))
        return wrong_use(cli, "--keep: '%.40s' is no time such as 30d", options_text(o, "keep"));
    live->keep_seconds = (uint64_t)seconds;
    if (options_given(o, "keep-bytes")
        && !read_bytes(options_text(o, "keep-bytes"), &live->keep_bytes))
        return wrong_use(cli, "--keep-bytes: '%.40s' is no size such as 10G",
                         options_text(o, "keep-bytes"));
    if (!live->store && (live->keep_seconds || live->keep_bytes))
        return wrong_use(cli, "--keep and --keep-bytes are of a --store");
    return read_learning(cli, live);
}

static enum akin_status read_all(struct cli *cli, const char *replay, struct akin_watch_live *live,
                                 struct watch_sources *sources)
{
    TRY(read_settings(cli, live));
    TRY(watch_sources_read(cli, sources));
    if (replay) {
        bool plain = sources->count && sources->items[0].plain;
        akin_watch_source_default(AKIN_SOURCE_LINES, &sources->items[0]);
        sources->items[0].address = replay;
        sources->items[0].fields.session = options_text(&cli->options, "session");
        sources->items[0].plain = plain;
        sources->count = 1;
    }
    live->sources = sources->items;
    live->source_count = sources->count;
    return AKIN_OK;
}

enum akin_status watch_live_check(struct cli *cli, const char *replay)
{
    struct akin_watch_live live;
    struct watch_sources *sources = memory_alloc(1, sizeof *sources);
    enum akin_status status = sources ? read_all(cli, replay, &live, sources)
                                      : error_memory(&cli->error);
    if (sources)
        watch_sources_deinit(sources);
    memory_free(sources);
    return status;
}

static enum akin_status run(struct cli *cli, struct akin_watch *watch,
                            struct akin_watch_live *live, struct akin_watch_live_report *report)
{
    struct live_run run = {.cli = cli};
    if (options_given(&cli->options, "report"))
        run.report_seconds = options_number(&cli->options, "report");
    live->cookie = live->alerts.cookie = &run;
    live->tick = take_tick;
    live->note = take_note;
    live->alerts.print = take_alarm;
    signals_take_reports();
    enum akin_status status = akin_watch_live(watch, live, report, &cli->error);
    if (run.report_seconds > 0)
        print_report(report, true);
    if (report->received || status == AKIN_OK)
        tell_end(cli, report);
    return status == AKIN_OK ? check_output(cli) : status;
}

enum akin_status watch_live_run(struct cli *cli, struct akin_watch *watch, const char *replay)
{
    struct akin_watch_live live;
    struct watch_sources *sources = memory_alloc(1, sizeof *sources);
    struct akin_watch_live_report *report = memory_alloc(1, sizeof *report);
    enum akin_status status = sources && report ? read_all(cli, replay, &live, sources)
                                                : error_memory(&cli->error);
    if (status == AKIN_OK)
        status = run(cli, watch, &live, report);
    if (sources)
        watch_sources_deinit(sources);
    memory_free(sources);
    memory_free(report);
    return status;
}
