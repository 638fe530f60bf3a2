/* akin watch: events as they come, and what is strange among them. */
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"

static const struct option watch_options[] = {
    {"source", 0, OPTION_CHOICE, "jsonl|text", NULL,
     "read standard input as it comes, as this; with --replay: what FILE has (jsonl)", 0, 0},
    {"replay", 0, OPTION_TEXT, "FILE", NULL, "read a file of events instead, as fast as it goes", 0,
     0},
    {"train-until", 0, OPTION_COUNT, "SEQ", "1000",
     "events with a lower seq (else: line, from 0) are history", 0, 1e15},
    {"scores", 0, OPTION_TEXT, "S.jsonl", NULL,
     "write every verdict there, and those of sessions to S.sessions.jsonl", 0, 0},
    {"session", 0, OPTION_TEXT, "FIELD", "session", "the field that sessions are told apart by", 0,
     0},
    {"session-idle", 0, OPTION_COUNT, "N", NULL,
     "judge a session after N events without one of it; live 10000, a file at its end", 1, 1e15},
    {"alarm", 0, OPTION_NUMBER, "P", "0.0001",
     "alert on an event where normal traffic has one so strange with probability P", 0, 0.49},
    {"session-alarm", 0, OPTION_NUMBER, "P", "0.001", "the same for a session", 0, 0.49},
    {"batch", 0, OPTION_COUNT, "N", NULL, "events looked at together; live 1, a file 256", 1, 4096},
    {"no-model", 0, OPTION_FLAG, "", NULL, "no distances between texts: counts and sessions only",
     0, 0},
    {"explain", 0, OPTION_FLAG, "", NULL, "say with an alert which parts fired, and what is near",
     0, 0},
};

/* Where verdicts go: alerts to standard output, all of them to files. */
struct verdicts {
    struct cli *cli;
    struct file_writer *events, *sessions;
    struct bytes line;
    bool explain;
    enum akin_status status;
};

static json_t *parts_json(const double *parts, size_t count, const char *(*name)(size_t))
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++)
        json_object_set_new(object, name(i), json_of_double(parts[i]));
    return object;
}

static bool finish_line(struct verdicts *v, struct file_writer *writer)
{
    if (v->line.failed)
        v->status = error_memory(&v->cli->error);
    else if (writer)
        v->status = file_writer_write(writer, v->line.data, v->line.count, &v->cli->error);
    return v->status == AKIN_OK;
}

static json_t *json_of_bytes(const char *text, size_t bytes)
{
    struct bytes quoted = {0};
    json_append_string(&quoted, text, bytes);
    json_t *value = quoted.failed ? NULL
                                  : json_loadb(quoted.data, quoted.count,
                                               JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    bytes_deinit(&quoted);
    return value;
}

/* One line each, at once. */
static bool print_alert(struct verdicts *v, json_t *root)
{
    progress_end(&v->cli->progress);
    json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(root);
    putchar('\n');
    fflush(stdout);
    v->status = check_output(v->cli);
    return v->status == AKIN_OK;
}

static bool take_event(void *cookie, const struct akin_event_verdict *e)
{
    struct verdicts *v = cookie;
    if (v->events) {
        bytes_clear(&v->line);
        bytes_printf(&v->line, "{\"seq\":%llu,\"score\":%.9g,\"alert\":%s}\n",
                     (unsigned long long)e->seq, e->score, e->alert ? "true" : "false");
        if (!finish_line(v, v->events))
            return false;
    }
    if (!e->alert || v->events)
        return true;
    json_t *root = json_object(), *near = json_array();
    json_object_set_new(root, "alert", json_string("event"));
    json_object_set_new(root, "seq", json_of_count(e->seq));
    json_object_set_new(root, "time", json_of_known(e->time));
    json_object_set_new(root, "source", json_of_known(e->source));
    json_object_set_new(root, "level", json_of_known(e->level));
    json_object_set_new(root, "session", json_of_known(e->session));
    json_object_set_new(root, "text", json_of_bytes(e->text, e->text_bytes));
    json_object_set_new(root, "score", json_of_double(e->score));
    json_object_set_new(root, "probability", json_of_double(e->probability));
    for (size_t i = 0; v->explain && i < e->nearest_count; i++) {
        json_t *one = json_object();
        json_object_set_new(one, "template", json_of_text(e->nearest[i].kind));
        json_object_set_new(one, "distance", json_of_double(e->nearest[i].distance));
        json_object_set_new(one, "count", json_of_double(e->nearest[i].count));
        json_array_append_new(near, one);
    }
    if (v->explain) {
        json_object_set_new(root, "template", json_of_text(e->kind));
        json_object_set_new(root, "parts", parts_json(e->parts, AKIN_WATCH_EVENT_PARTS,
                                                      akin_watch_event_part));
        json_object_set(root, "nearest", near);
    }
    json_decref(near);
    return print_alert(v, root);
}

static bool take_session(void *cookie, const struct akin_session_verdict *s)
{
    struct verdicts *v = cookie;
    if (v->sessions) {
        bytes_clear(&v->line);
        bytes_append_text(&v->line, "{\"session\":");
        json_append_string(&v->line, s->name, s->name_bytes);
        bytes_printf(&v->line, ",\"score\":%.9g,\"alert\":%s}\n", s->score,
                     s->alert ? "true" : "false");
        return finish_line(v, v->sessions);
    }
    if (!s->alert)
        return true;
    json_t *root = json_object();
    json_object_set_new(root, "alert", json_string("session"));
    json_object_set_new(root, "session", json_of_bytes(s->name, s->name_bytes));
    json_object_set_new(root, "events", json_of_count(s->events));
    json_object_set_new(root, "score", json_of_double(s->score));
    json_object_set_new(root, "probability", json_of_double(s->probability));
    if (v->explain)
        json_object_set_new(root, "parts", parts_json(s->parts, AKIN_WATCH_SESSION_PARTS,
                                                      akin_watch_session_part));
    return print_alert(v, root);
}

/* "a/S.jsonl" -> "a/S.sessions.jsonl" */
static enum akin_status open_scores(struct cli *cli, struct verdicts *v, const char *path)
{
    char sessions[PATH_BYTES_MAX];
    size_t stem = strlen(path);
    if (stem > 6 && !strcmp(path + stem - 6, ".jsonl"))
        stem -= 6;
    if (stem + sizeof ".sessions.jsonl" > sizeof sessions)
        return error_set(&cli->error, AKIN_LIMIT, "--scores: the path is too long");
    snprintf(sessions, sizeof sessions, "%.*s.sessions.jsonl", (int)stem, path);
    TRY(file_writer_open(path, &v->events, &cli->error));
    return file_writer_open(sessions, &v->sessions, &cli->error);
}

static void tell_report(struct cli *cli, const struct akin_watch_report *r)
{
    print_note(cli, "%llu events, %llu of them history, %llu scored, %llu alerts",
               (unsigned long long)r->events, (unsigned long long)r->learned,
               (unsigned long long)r->scored, (unsigned long long)r->alerts);
    if (r->sessions)
        print_note(cli, "%llu sessions judged, %llu alerts", (unsigned long long)r->sessions,
                   (unsigned long long)r->session_alerts);
    if (r->bad_lines)
        print_note(cli, "%llu lines were no events and were left out",
                   (unsigned long long)r->bad_lines);
    if (r->sessions_refused)
        print_note(cli, "%llu events of sessions beyond the limit were scored alone",
                   (unsigned long long)r->sessions_refused);
    print_note(cli, "%zu kinds of events, %llu texts embedded, %.2f s, %.0f events/s", r->kinds,
               (unsigned long long)r->embedded, r->seconds,
               r->seconds > 0 ? (double)r->events / r->seconds : 0.0);
}

static void read_input(struct cli *cli, struct akin_watch_input *input)
{
    const struct options *o = &cli->options;
    const char *replay = options_text(o, "replay");
    akin_watch_input_default(input);
    input->path = replay ? replay : "-";
    input->plain = options_given(o, "source") && !strcmp(options_text(o, "source"), "text");
    input->session_field = options_text(o, "session");
    input->train_until = options_count(o, "train-until");
    input->batch = options_given(o, "batch") ? options_count(o, "batch") : replay ? 256 : 1;
    input->session_idle = options_given(o, "session-idle") ? options_count(o, "session-idle")
                          : replay                         ? 0 : 10000;
    input->skip_bad = !replay;
    input->progress = progress_begin(&cli->progress, "B");
}

static enum akin_status run_verdicts(struct cli *cli, struct verdicts *v, struct akin_watch *watch)
{
    struct akin_watch_input input;
    struct akin_watch_report report;
    const char *scores = options_text(&cli->options, "scores");
    struct akin_watch_sink sink = {v, take_event, take_session};
    read_input(cli, &input);
    if (scores)
        TRY(open_scores(cli, v, scores));
    enum akin_status status = akin_watch_run(watch, &input, &sink, &report, &cli->error);
    TRY(v->status);
    TRY(status);
    if (scores) {
        TRY(file_writer_commit(&v->events, &cli->error));
        TRY(file_writer_commit(&v->sessions, &cli->error));
    }
    tell_report(cli, &report);
    return AKIN_OK;
}

static enum akin_status run_watch(struct cli *cli)
{
    struct verdicts v = {.cli = cli, .explain = options_flag(&cli->options, "explain")};
    struct akin_watch_settings settings;
    struct akin_model *model = NULL;
    struct akin_watch *watch = NULL;
    if (!options_given(&cli->options, "source") && !options_given(&cli->options, "replay"))
        return wrong_use(cli, "watch needs --source jsonl|text, or --replay FILE");
    akin_watch_settings_default(&settings);
    settings.event_alarm = options_number(&cli->options, "alarm");
    settings.session_alarm = options_number(&cli->options, "session-alarm");
    enum akin_status status = cli_engine(cli);
    if (status == AKIN_OK && !options_flag(&cli->options, "no-model"))
        status = cli_model(cli, NULL, &model);
    if (status == AKIN_OK)
        status = akin_watch_open(cli->engine, model, &settings, &watch, &cli->error);
    if (status == AKIN_OK)
        status = run_verdicts(cli, &v, watch);
    file_writer_abort(&v.events);
    file_writer_abort(&v.sessions);
    bytes_deinit(&v.line);
    akin_watch_close(&watch);
    akin_model_close(&model);
    return status;
}

const struct command command_watch = {
    .name = "watch",
    .arguments = "--source jsonl|text | --replay FILE [options]",
    .summary = "events as they come, compared with what came before; alerts as JSON lines",
    .details =
        "An event is a JSON object with \"text\" (or \"message\"), and perhaps seq, time, source,\n"
        "level and session; with --source text it is a line. Numbers, addresses, paths and other\n"
        "identifiers are masked; then it is scored by how rare its kind is, how far its text is\n"
        "from common ones, by bursts and by its level, and a session by what it is made of, in\n"
        "which order, and what is missing. Nothing needs labels, and the history may hold\n"
        "trouble. Live, a line that is no event is counted and left out; in a file it is an "
        "error.\n",
    .examples = "  journalctl -f -o cat | akin watch --source text --explain\n"
                "  akin watch --source jsonl --train-until 50000 --session vm < events.jsonl\n"
                "  akin watch --replay events.jsonl --train-until 12700 --scores scores.jsonl\n",
    .options = {watch_options, sizeof watch_options / sizeof watch_options[0]},
    .run = run_watch,
};
