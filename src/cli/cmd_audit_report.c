/* akin audit report: who did what and when in a period, what is odd about it, which keys and
 * checkpoints there were, and whether the log verifies. One JSON object; the page is made of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "cli/cmd_audit.h"

enum { NAMES_MAX = 10000, SHOWN_MAX = 50, ODD_MAX = 100 };

static const struct option report_options[] = {
    {"from", 0, OPTION_TEXT, "TIME", NULL, "2026-01-31 or 2026-01-31T12:00:00Z", 0, 0},
    {"to", 0, OPTION_TEXT, "TIME", NULL, "up to, not including it", 0, 0},
    {"gap", 0, OPTION_NUMBER, "HOURS", "24", "silence that is worth telling", 0.001, 1e6},
    {"html", 0, OPTION_TEXT, "FILE", NULL, "write a page as well", 0, 0},
    {"public-key", 0, OPTION_TEXT, "KEY", NULL, "the key or a file of it; else DIR/key.pub", 0, 0},
    {"since", 0, OPTION_TEXT, "FILE", NULL, "a checkpoint kept from earlier", 0, 0},
};

/* How often each name came; what comes after NAMES_MAX names is counted together. */
struct tally {
    struct string_map map;
    struct string_pool pool;
    struct name_count {
        const char *name;
        uint64_t count;
    } *items;
    size_t count, capacity;
    uint64_t others;
    bool failed;
};

struct audit_report {
    struct cli *cli;
    const char *folder;
    int64_t from_us, to_us;
    double gap_s;
    uint64_t records, bytes;
    int64_t first_us, last_us, before_us;
    bool any_before;
    struct tally sources, actors, actions, days;
    json_t *odd, *keys;
    uint64_t odd_count;
};

/* ---- time -------------------------------------------------------------------------------- */

/* Days since 1970 of a date of the Gregorian calendar. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = year - (month <= 2), era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400, of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 1 - 719468;
}

static enum akin_status read_time(struct cli *cli, const char *option, int64_t standard,
                                  int64_t *time_us)
{
    const char *text = options_text(&cli->options, option);
    int year, month, day, hour = 0, minute = 0, second = 0, end = 0;
    *time_us = standard;
    if (!text)
        return AKIN_OK;
    int read = sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &end);
    if (read == 3 && text[end] == 'T') {
        const char *rest = text + end;
        end = 0;
        read = sscanf(rest, "T%2d:%2d:%2dZ%n", &hour, &minute, &second, &end);
        text = rest;
    }
    if (read != 3 || end == 0 || text[end] || month < 1 || month > 12 || day < 1 || day > 31 ||
        hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return wrong_use(cli, "--%s: '%.40s': expected a time such as 2026-01-31 or "
                         "2026-01-31T12:00:00Z", option, options_text(&cli->options, option));
    *time_us = (days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second) * 1000000;
    return AKIN_OK;
}

/* ---- counting ---------------------------------------------------------------------------- */

static void tally_add(struct tally *tally, const char *name, size_t bytes)
{
    uint64_t at = tally->count;
    if (tally->count && string_map_get(&tally->map, name, bytes, &at)) {
        tally->items[at].count++;
        return;
    }
    if (tally->count == NAMES_MAX) {
        tally->others++;
        return;
    }
    char *copy = string_pool_add(&tally->pool, name, bytes);
    if (!copy || !array_reserve((void **)&tally->items, &tally->capacity, tally->count + 1,
                                sizeof *tally->items) ||
        !string_map_put(&tally->map, copy, bytes, tally->count, NULL, NULL)) {
        tally->failed = true;
        return;
    }
    tally->items[tally->count++] = (struct name_count){copy, 1};
}

static void tally_deinit(struct tally *tally)
{
    string_map_deinit(&tally->map);
    string_pool_deinit(&tally->pool);
    memory_free(tally->items);
}

static int by_count(const void *a, const void *b)
{
    const struct name_count *left = a, *right = b;
    if (left->count != right->count)
        return left->count < right->count ? 1 : -1;
    return strcmp(left->name, right->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct name_count *)a)->name, ((const struct name_count *)b)->name);
}

static json_t *tally_json(struct tally *tally, bool ordered_by_name, size_t most)
{
    json_t *list = json_array();
    uint64_t others = tally->others;
    if (tally->count)
        qsort(tally->items, tally->count, sizeof *tally->items,
              ordered_by_name ? by_name : by_count);
    for (size_t i = 0; i < tally->count; i++) {
        if (i >= most) {
            others += tally->items[i].count;
            continue;
        }
        json_array_append_new(list, json_pack("{s:o, s:o}", "name",
                                              json_of_text(tally->items[i].name), "records",
                                              json_of_count(tally->items[i].count)));
    }
    if (others)
        json_array_append_new(list, json_pack("{s:n, s:o}", "name", "records",
                                              json_of_count(others)));
    return list;
}

/* The first of some fields that a record, as a JSON object, has as text. */
static void tally_field(struct tally *tally, const json_t *record, const char *const *names)
{
    for (; *names; names++) {
        const json_t *value = json_object_get(record, *names);
        if (json_is_string(value)) {
            tally_add(tally, json_string_value(value), json_string_length(value));
            return;
        }
    }
}

/* ---- one record -------------------------------------------------------------------------- */

static void add_odd(struct audit_report *r, const struct akin_audit_entry *entry, const char *kind,
                    double seconds)
{
    char when[40];
    if (r->odd_count++ >= ODD_MAX)
        return;
    audit_time_text(entry->time_us, when);
    json_array_append_new(r->odd, json_pack("{s:o, s:s, s:s, s:o}", "index",
                                            json_of_count(entry->index), "time", when, "kind", kind,
                                            "seconds", json_of_double(seconds)));
}

static void add_key(struct audit_report *r, const struct akin_audit_entry *entry)
{
    char when[40];
    struct bytes text = {0};
    audit_time_text(entry->time_us, when);
    bytes_append(&text, entry->data, entry->bytes);
    json_array_append_new(r->keys, json_pack("{s:o, s:s, s:s, s:o}", "index",
                                             json_of_count(entry->index), "time", when, "kind",
                                             akin_audit_kind_name(entry->kind), "record",
                                             json_of_text(text.failed ? "" : text.data)));
    bytes_deinit(&text);
}

static void take_record(struct audit_report *r, const struct akin_audit_entry *entry)
{
    static const char *const who[] = {"who", "user", "actor", "principal", NULL};
    static const char *const what[] = {"what", "action", "event", "type", NULL};
    char when[40];
    if (entry->kind != AKIN_AUDIT_RECORD)
        add_key(r, entry);
    double passed = ((double)entry->time_us - (double)r->before_us) / 1e6;
    if (r->any_before && entry->time_us < r->before_us)
        add_odd(r, entry, "clock went back", -passed);
    if (r->any_before && passed >= r->gap_s)
        add_odd(r, entry, "silence before", passed);
    r->before_us = entry->time_us;
    r->any_before = true;
    if (r->records++ == 0)
        r->first_us = r->last_us = entry->time_us;
    r->first_us = entry->time_us < r->first_us ? entry->time_us : r->first_us;
    r->last_us = entry->time_us > r->last_us ? entry->time_us : r->last_us;
    r->bytes += entry->bytes;
    audit_time_text(entry->time_us, when);
    tally_add(&r->days, when, strcspn(when, "T"));
    tally_add(&r->sources, entry->source, strlen(entry->source));
    json_t *record = json_loadb(entry->data, entry->bytes, 0, NULL);
    if (json_is_object(record)) {
        tally_field(&r->actors, record, who);
        tally_field(&r->actions, record, what);
    }
    json_decref(record);
}

static enum akin_status read_records(struct audit_report *r)
{
    struct akin_audit_reader *reader = NULL;
    enum akin_status status = AKIN_OK;
    TRY(akin_audit_reader_open(r->folder, 0, &reader, &r->cli->error));
    for (;;) {
        struct akin_audit_entry entry;
        bool more = true;
        TRY_DONE(check_interrupted(r->cli));
        TRY_DONE(akin_audit_reader_next(reader, &entry, &more, &r->cli->error));
        if (!more)
            break;
        if (entry.time_us >= r->from_us && entry.time_us < r->to_us)
            take_record(r, &entry);
    }
    if (r->days.failed || r->sources.failed || r->actors.failed || r->actions.failed)
        status = error_memory(&r->cli->error);
done:
    akin_audit_reader_close(&reader);
    return status;
}

/* ---- the report -------------------------------------------------------------------------- */

static json_t *period_json(const struct audit_report *r)
{
    char first[40] = "", last[40] = "";
    if (r->records) {
        audit_time_text(r->first_us, first);
        audit_time_text(r->last_us, last);
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "from",
                     json_of_known(options_text(&r->cli->options, "from")
                                       ? options_text(&r->cli->options, "from") : ""),
                     "to",
                     json_of_known(options_text(&r->cli->options, "to")
                                       ? options_text(&r->cli->options, "to") : ""),
                     "first", json_of_known(first), "last", json_of_known(last));
}

static json_t *checkpoints_json(struct audit_report *r)
{
    char path[PATH_BYTES_MAX];
    struct names names = {0};
    json_t *list = json_array();
    if (path_join(path, sizeof path, r->folder, "checkpoints", NULL) == AKIN_OK &&
        path_list(path, &names, NULL) == AKIN_OK)
        for (size_t i = 0; i < names.count; i++)
            json_array_append_new(list,
                                  json_integer((json_int_t)strtoll(names.items[i], NULL, 10)));
    names_deinit(&names);
    return list;
}

static json_t *report_json(struct audit_report *r, const json_t *verification)
{
    char now[40];
    json_t *root = json_object();
    audit_time_text(clock_unix_us(), now);
    json_object_set_new(root, "audit", json_of_text(r->folder));
    json_object_set_new(root, "made", json_of_text(now));
    json_object_set_new(root, "verification", json_deep_copy(verification));
    json_object_set_new(root, "period", period_json(r));
    json_object_set_new(root, "records", json_of_count(r->records));
    json_object_set_new(root, "record_bytes", json_of_count(r->bytes));
    json_object_set_new(root, "who", tally_json(&r->actors, false, SHOWN_MAX));
    json_object_set_new(root, "what", tally_json(&r->actions, false, SHOWN_MAX));
    json_object_set_new(root, "sources", tally_json(&r->sources, false, SHOWN_MAX));
    json_object_set_new(root, "days", tally_json(&r->days, true, NAMES_MAX));
    json_object_set_new(root, "anomalies", json_of_count(r->odd_count));
    json_object_set(root, "anomaly_list", r->odd);
    json_object_set(root, "keys", r->keys);
    json_object_set_new(root, "checkpoints", checkpoints_json(r));
    return root;
}

static void append_html(struct bytes *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':
            bytes_append_text(out, "&lt;");
            break;
        case '>':
            bytes_append_text(out, "&gt;");
            break;
        case '&':
            bytes_append_text(out, "&amp;");
            break;
        case '"':
            bytes_append_text(out, "&quot;");
            break;
        default:
            bytes_append(out, text, 1);
        }
    }
}

static int take_text(const char *text, size_t bytes, void *out)
{
    bytes_append(out, text, bytes);
    return 0;
}

static void append_value(struct bytes *out, const json_t *value)
{
    if (json_is_string(value)) {
        append_html(out, json_string_value(value));
        return;
    }
    struct bytes text = {0};
    if (value && !json_is_null(value))
        json_dump_callback(value, take_text, &text, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    append_html(out, text.count && !text.failed ? text.data : "");
    bytes_deinit(&text);
}

/* An object as rows of key and value; a list of objects as a table. */
static void append_section(struct bytes *out, const char *title, const json_t *value)
{
    bytes_printf(out, "<h2>%s</h2>\n<table>\n", title);
    const char *key;
    json_t *cell, *row;
    size_t i;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, cell) {
            bytes_printf(out, "<tr><th>%s</th><td>", key);
            append_value(out, cell);
            bytes_append_text(out, "</td></tr>\n");
        }
    }
    json_array_foreach(value, i, row) {
        bytes_append_text(out, "<tr>");
        json_object_foreach(row, key, cell) {
            bytes_append_text(out, "<td>");
            append_value(out, cell);
            bytes_append_text(out, "</td>");
        }
        if (!json_is_object(row)) {
            bytes_append_text(out, "<td>");
            append_value(out, row);
            bytes_append_text(out, "</td>");
        }
        bytes_append_text(out, "</tr>\n");
    }
    bytes_append_text(out, "</table>\n");
}

static enum akin_status write_page(struct audit_report *r, const json_t *root, const char *path)
{
    static const char *const sections[][2] = {
        {"verification", "Verification"}, {"period", "Period"}, {"who", "Who"}, {"what", "What"},
        {"sources", "Sources"}, {"days", "Days"}, {"anomaly_list", "Anomalies"},
        {"keys", "Keys and witnesses"}, {"checkpoints", "Checkpoints"}};
    struct bytes out = {0};
    bool fine = json_is_true(json_object_get(json_object_get(root, "verification"), "ok"));
    bytes_append_text(&out,
                      "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n"
                      "<title>Audit report</title>\n<style>body{font:15px sans-serif;max-width:"
                      "60em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}td,th{"
                      "border:1px solid #ccc;padding:.2em .6em;text-align:left;overflow-wrap:"
                      "anywhere}.good{color:#060}.bad{color:#a00}</style>\n<h1>Audit report: ");
    append_html(&out, r->folder);
    bytes_printf(&out, "</h1>\n<p class=\"%s\">%s</p>\n<p>%" PRIu64 " records, %" PRIu64
                 " anomalies</p>\n", fine ? "good" : "bad",
                 fine ? "The log verifies." : "The log does NOT verify.", r->records,
                 r->odd_count);
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        append_section(&out, sections[i][1], json_object_get(root, sections[i][0]));
    bytes_append_text(&out, "</html>\n");
    enum akin_status status = out.failed
                                  ? error_memory(&r->cli->error)
                                  : file_write(path, out.data, out.count, &r->cli->error);
    bytes_deinit(&out);
    return status;
}

static void print_report(const struct audit_report *r, const json_t *root)
{
    static const char *const lists[] = {"who", "what", "sources"};
    printf("%s: %" PRIu64 " records, %" PRIu64 " bytes, %" PRIu64 " anomalies\n", r->folder,
           r->records, r->bytes, r->odd_count);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        size_t at;
        json_t *row;
        json_array_foreach(json_object_get(root, lists[i]), at, row) {
            const char *name = json_string_value(json_object_get(row, "name"));
            if (at < 10)
                printf("  %-8s %-40s %" JSON_INTEGER_FORMAT "\n", at ? "" : lists[i],
                       name ? name : "(others)",
                       json_integer_value(json_object_get(row, "records")));
        }
    }
}

static enum akin_status tell(struct audit_report *r, json_t *verification)
{
    const char *page = options_text(&r->cli->options, "html");
    json_t *root = report_json(r, verification);
    enum akin_status status = root ? AKIN_OK : error_memory(&r->cli->error);
    if (status == AKIN_OK && page)
        status = write_page(r, root, page);
    if (status == AKIN_OK && r->cli->json)
        return print_json(r->cli, root);
    if (status == AKIN_OK)
        print_report(r, root);
    json_decref(root);
    return status;
}

static enum akin_status run_report(struct cli *cli)
{
    struct audit_report r = {.cli = cli, .folder = cli->options.positionals[0]};
    struct akin_audit_verify_options options = {
        .public_key = options_text(&cli->options, "public-key"),
        .since = options_text(&cli->options, "since"),
    };
    struct akin_audit_verdict verdict;
    struct akin_error wrong = {0};
    TRY(read_time(cli, "from", INT64_MIN, &r.from_us));
    TRY(read_time(cli, "to", INT64_MAX, &r.to_us));
    r.gap_s = options_number(&cli->options, "gap") * 3600;
    r.odd = json_array();
    r.keys = json_array();
    enum akin_status verified = akin_audit_verify(r.folder, &options, &verdict, &wrong);
    json_t *verification = verified == AKIN_OK
                               ? audit_verdict_json(r.folder, &verdict)
                               : json_pack("{s:b, s:o}", "ok", 0, "error",
                                           json_of_text(wrong.message));
    enum akin_status status = read_records(&r);
    if (status == AKIN_OK)
        status = tell(&r, verification);
    json_decref(verification);
    json_decref(r.odd);
    json_decref(r.keys);
    tally_deinit(&r.sources);
    tally_deinit(&r.actors);
    tally_deinit(&r.actions);
    tally_deinit(&r.days);
    if (status == AKIN_OK && verified != AKIN_OK)
        cli->error = wrong;
    return status == AKIN_OK ? verified : status;
}

const struct command command_audit_report = {
    .name = "audit report",
    .arguments = "DIR [--from TIME] [--to TIME] [--html FILE] [options]",
    .summary = "who did what and when, what is odd, keys, checkpoints, verification",
    .details = "Who and what are read from records that are JSON objects: the first of who, user,\n"
               "actor, principal, and of what, action, event, type. Anomalies: a clock that went\n"
               "back, silence of --gap hours. Exits 1 if the log does not verify, and tells why.\n",
    .examples = "  akin audit report trail --from 2026-01-01 --to 2026-02-01 --html january.html\n"
                "  akin audit report trail --json | jq .who\n",
    .options = {report_options, sizeof report_options / sizeof report_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_report,
};
