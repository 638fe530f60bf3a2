/* akin watch search, label, info, snapshot: what was watched, kept in a store. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/cmd_audit.h"
#include "cli/moment.h"

static void note_line(void *cookie, const char *line)
{
    struct cli *cli = cookie;
    print_note(cli, "%s", line);
}

/* `model` (NULL: none is wanted) is the caller's to close, behind the events. */
static enum akin_status open_events(struct cli *cli, struct akin_model **model, bool label,
                                    struct akin_events **events)
{
    struct akin_events_settings settings = {.label = label, .cookie = cli, .note = note_line};
    TRY(need_text(cli, "store", &settings.folder));
    TRY(cli_engine(cli));
    if (model)
        TRY(cli_model(cli, NULL, model));
    return akin_events_open(cli->engine, model ? *model : NULL, &settings, events, &cli->error);
}

static const char *label_name(int label)
{
    return label > 0 ? "anomaly" : label < 0 ? "normal" : "";
}

/* ---- search ------------------------------------------------------------------------------- */

static const struct option search_options[] = {
    {"store", 0, OPTION_TEXT, "DIR", NULL, "what akin watch --store wrote", 0, 0},
    {"k", 'k', OPTION_COUNT, "N", "10", "events", 1, 1e6},
    {"since", 0, OPTION_TEXT, "WHEN", NULL,
     "only events that came since: 90s, 15m, 2h, 3d, 1w ago, or a date of UTC", 0, 0},
    {"until", 0, OPTION_TEXT, "WHEN", NULL, "only events that came before", 0, 0},
    {"anomalous", 0, OPTION_FLAG, "", NULL, "only events that raised an alarm", 0, 0},
    {"label", 0, OPTION_CHOICE, "normal|anomaly", NULL, "only events that were labelled so", 0, 0},
    {"score", 0, OPTION_NUMBER, "S", NULL, "only events that score at least S", -1e9, 1e9},
    {"source", 0, OPTION_TEXT, "NAME", NULL, "only events of this source", 0, 0},
    {"session", 0, OPTION_TEXT, "ID", NULL, "only events of this session", 0, 0},
    {"level", 0, OPTION_TEXT, "LEVEL", NULL, "only events of this level", 0, 0},
    {"origin", 0, OPTION_TEXT, "NAME", NULL, "only events that came through this input", 0, 0},
};

struct found {
    struct cli *cli;
    json_t *results;
    size_t count;
    bool similar;
};

/* Bytes that are no UTF-8, and NUL, may be in a text. */
static json_t *text_json(const char *text, size_t bytes)
{
    struct bytes quoted = {0};
    json_append_string(&quoted, text, bytes);
    json_t *value = quoted.failed ? NULL
                                  : json_loadb(quoted.data, quoted.count,
                                               JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    bytes_deinit(&quoted);
    return value;
}

static json_t *event_json(const struct akin_stored_event *e, size_t rank, bool similar)
{
    char when[40];
    json_t *one = json_object();
    audit_time_text(e->time_us, when);
    json_object_set_new(one, "rank", json_of_count(rank));
    json_object_set_new(one, "number", json_of_count(e->number));
    json_object_set_new(one, "received", json_of_text(when));
    if (similar)
        json_object_set_new(one, "similarity", json_of_double((double)e->similarity));
    json_object_set_new(one, "score", json_of_double(e->score));
    json_object_set_new(one, "alert", json_boolean(e->alert));
    json_object_set_new(one, "label", json_of_known(label_name(e->label)));
    json_object_set_new(one, "time", json_of_known(e->time));
    json_object_set_new(one, "source", json_of_known(e->source));
    json_object_set_new(one, "level", json_of_known(e->level));
    json_object_set_new(one, "session",
                        e->session_bytes ? text_json(e->session, e->session_bytes) : json_null());
    json_object_set_new(one, "origin", json_of_known(e->origin));
    json_object_set_new(one, "id", json_of_known(e->id));
    json_object_set_new(one, "text", text_json(e->text, e->text_bytes));
    return one;
}

/* Control characters could move the cursor of a terminal. */
static void print_text(const char *text, size_t bytes)
{
    bool valid = utf8_valid(text, bytes);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        putchar(c < 32 || c == 127 ? ' ' : c > 127 && !valid ? '?' : c);
    }
    putchar('\n');
}

static bool take_event(void *cookie, const struct akin_stored_event *e)
{
    struct found *f = cookie;
    char when[40];
    f->count++;
    if (f->results) {
        json_array_append_new(f->results, event_json(e, f->count, f->similar));
        return true;
    }
    audit_time_text(e->time_us, when);
    printf("%8" PRIu64 "  %.19sZ  ", e->number, when);
    if (f->similar)
        printf("%5.3f  ", (double)e->similarity);
    printf("%5.2f%s  ", e->score, e->alert ? " alert" : e->label ? "      " : "");
    if (e->label)
        printf("[%s]  ", label_name(e->label));
    print_text(e->text, e->text_bytes);
    return output_reader_gone() == false;
}

static enum akin_status read_moment(struct cli *cli, const char *option, int64_t *us)
{
    const char *text = options_text(&cli->options, option);
    if (text && !moment_parse(text, clock_unix_us(), us))
        return wrong_use(cli,
                         "--%s: '%.60s' is neither a duration such as 90s, 15m, 2h or 3d nor a "
                         "date such as 2026-11-21 or 2026-11-21T10:30", option, text);
    return AKIN_OK;
}

static enum akin_status run_search(struct cli *cli)
{
    const struct options *o = &cli->options;
    const char *query = o->positional_count ? o->positionals[0] : NULL;
    const char *label = options_text(o, "label");
    struct akin_events *events = NULL;
    struct akin_model *model = NULL;
    struct akin_event_filter filter = {
        .alerts = options_flag(o, "anomalous"),
        .label = !label ? 0 : strcmp(label, "anomaly") ? -1 : 1,
        .source = options_text(o, "source"), .session = options_text(o, "session"),
        .origin = options_text(o, "origin"), .level = options_text(o, "level"),
        .score_min = options_given(o, "score") ? options_number(o, "score") : 0,
    };
    struct found found = {.cli = cli, .similar = query != NULL};
    TRY(read_moment(cli, "since", &filter.from_us));
    TRY(read_moment(cli, "until", &filter.until_us));
    enum akin_status status = open_events(cli, query ? &model : NULL, false, &events);
    uint64_t began = clock_monotonic_ns();
    if (status == AKIN_OK && cli->json)
        found.results = json_array();
    if (status == AKIN_OK)
        status = akin_events_search(events, query, options_count(o, "k"), &filter, take_event,
                                    &found, &cli->error);
    double ms = ms_since(began);
    akin_events_close(&events);
    akin_model_close(&model);
    if (status == AKIN_OK && cli->json)
        return print_json(cli, json_pack("{s:o, s:o, s:o, s:o}", "query", json_of_known(
                                             query ? query : ""), "results", found.results, "found",
                                         json_of_count(found.count), "elapsed_ms",
                                         json_of_double(ms)));
    json_decref(found.results);
    TRY(status);
    print_note(cli, "%zu event%s, %.1f ms", found.count, found.count == 1 ? "" : "s", ms);
    return check_output(cli);
}

const struct command command_watch_search = {
    .name = "watch search",
    .arguments = "[QUERY] --store DIR [options]",
    .summary = "find events that were watched, by meaning and by filters",
    .details =
        "Compares QUERY with the kinds of events and prints those of the nearest kinds, newest\n"
        "first: number, when it came, similarity, score (-log10 of probability), text. Without a\n"
        "QUERY the newest events that pass are printed. A watch may write meanwhile.\n",
    .examples = "  akin watch search \"bridge deleted\" --store events --since 2h --anomalous\n"
                "  akin watch search --store events --level ERROR --k 50 --json\n",
    .options = {search_options, sizeof search_options / sizeof search_options[0]},
    .positionals_max = 1,
    .run = run_search,
};

/* ---- label -------------------------------------------------------------------------------- */

static const struct option store_options[] = {
    {"store", 0, OPTION_TEXT, "DIR", NULL, "what akin watch --store wrote", 0, 0},
};

static enum akin_status run_label(struct cli *cli)
{
    const char *number = cli->options.positionals[0], *label = cli->options.positionals[1];
    static const char *const labels[] = {"normal", "none", "anomaly"};
    struct akin_events *events = NULL;
    char *end;
    unsigned long long id = strtoull(number, &end, 10);
    int value = -1;
    while (value <= 1 && strcmp(label, labels[value + 1]))
        value += value < 1 ? 1 : 2;
    if (number[0] < '0' || number[0] > '9' || *end || !id)
        return wrong_use(cli, "'%.60s' is not the number of an event: watch search prints them",
                         number);
    if (value > 1)
        return wrong_use(cli, "'%.60s' is no label: normal, anomaly, or none to take one back",
                         label);
    enum akin_status status = open_events(cli, NULL, true, &events);
    if (status == AKIN_OK)
        status = akin_events_label(events, id, value, &cli->error);
    akin_events_close(&events);
    TRY(status);
    if (cli->json)
        return print_json(cli, json_pack("{s:o, s:s}", "number", json_of_count(id), "label",
                                         label));
    printf("event %llu: %s\n", id, label);
    return AKIN_OK;
}

const struct command command_watch_label = {
    .name = "watch label",
    .arguments = "NUMBER normal|anomaly|none --store DIR",
    .summary = "say what an event was; a watch that goes on learns from it",
    .examples = "  akin watch label 4711 anomaly --store events\n",
    .options = {store_options, sizeof store_options / sizeof store_options[0]},
    .positionals_min = 2,
    .positionals_max = 2,
    .run = run_label,
};

/* ---- info --------------------------------------------------------------------------------- */

static json_t *moment_json(const struct akin_events_info *info, int64_t us)
{
    char when[40];
    audit_time_text(us, when);
    return info->events ? json_of_text(when) : json_null();
}

static enum akin_status run_info(struct cli *cli)
{
    struct akin_events *events = NULL;
    struct akin_events_info i;
    char first[40], last[40];
    enum akin_status status = open_events(cli, NULL, false, &events);
    if (status == AKIN_OK)
        status = akin_events_info(events, &i, &cli->error);
    akin_events_close(&events);
    TRY(status);
    if (cli->json)
        return print_json(
            cli, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "events",
                           json_of_count(i.events), "first", json_of_count(i.first), "last",
                           json_of_count(i.last), "first_received", moment_json(&i, i.first_us),
                           "last_received", moment_json(&i, i.last_us), "alerts",
                           json_of_count(i.alerts), "labels", json_of_count(i.labels), "bytes",
                           json_of_count(i.bytes), "segments", json_of_count(i.segments),
                           "damaged", json_of_count(i.damaged)));
    audit_time_text(i.first_us, first);
    audit_time_text(i.last_us, last);
    printf("%" PRIu64 " events", i.events);
    if (i.events)
        printf(", %" PRIu64 " to %" PRIu64 ", from %s to %s", i.first, i.last, first, last);
    printf("\n%" PRIu64 " alarms, %" PRIu64 " labels\n%.1f MB in %zu segment%s", i.alerts, i.labels,
           (double)i.bytes / 1e6, i.segments, i.segments == 1 ? "" : "s");
    if (i.damaged)
        printf(", %zu of them damaged", i.damaged);
    printf("\n");
    return AKIN_OK;
}

const struct command command_watch_info = {
    .name = "watch info",
    .arguments = "--store DIR",
    .summary = "what a store of events holds, and whether it is whole",
    .examples = "  akin watch info --store events\n",
    .options = {store_options, sizeof store_options / sizeof store_options[0]},
    .run = run_info,
};

/* ---- snapshot ----------------------------------------------------------------------------- */

static const struct option snapshot_options[] = {
    {"store", 0, OPTION_TEXT, "DIR", NULL, "what akin watch --store writes", 0, 0},
    {"audit", 0, OPTION_TEXT, "DIR", NULL, "the audit trail that goes with it", 0, 0},
    {"keep", 0, OPTION_COUNT, "N", NULL, "remove the oldest snapshots in DIR beyond N", 1, 1e6},
};

static enum akin_status run_snapshot(struct cli *cli)
{
    const struct options *o = &cli->options;
    struct akin_snapshot_report r;
    struct akin_snapshot_settings settings = {
        .folder = o->positionals[0],
        .audit = options_text(o, "audit"),
        .keep = options_given(o, "keep") ? options_count(o, "keep") : 0,
    };
    TRY(need_text(cli, "store", &settings.store));
    TRY(akin_snapshot_make(&settings, &r, &cli->error));
    if (cli->json)
        return print_json(cli, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "snapshot",
                                         json_of_text(r.path), "store",
                                         json_of_known(r.store_method), "audit",
                                         json_of_known(r.audit_method), "files",
                                         json_of_count(r.files), "bytes", json_of_count(r.bytes),
                                         "removed", json_of_count(r.removed), "seconds",
                                         json_of_double(r.seconds)));
    printf("%s\n", r.path);
    print_note(cli, "store: %s%s%s, %.2f s; %zu older ones removed", r.store_method,
               settings.audit ? "; audit: " : "", r.audit_method, r.seconds, r.removed);
    return AKIN_OK;
}

const struct command command_watch_snapshot = {
    .name = "watch snapshot",
    .arguments = "DIR --store S [--audit A] [--keep N]",
    .summary = "a snapshot of a store and its audit trail, while both are written",
    .details =
        "Makes DIR/snapshot-TIME with the folders store and audit, which open and verify as they\n"
        "are: by a btrfs snapshot where S (or A) is a subvolume and DIR is on the same file\n"
        "system, by reflinks where there are such, by copies otherwise. Prints its path.\n"
        "The copy of an audit trail holds the trail's secret key as well.\n",
    .examples = "  akin watch snapshot backups --store events --audit trail --keep 24\n",
    .options = {snapshot_options, sizeof snapshot_options / sizeof snapshot_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_snapshot,
};
