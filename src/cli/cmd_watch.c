/* akin watch: events as they come, and what is strange among them. */
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/watch_live.h"

static const struct option watch_options[] = {
    {"source", 0, OPTION_CHOICE, "jsonl|text|socket|dbus|journal|nats", NULL,
     "watch this as it comes; may be given several times. With --replay: what FILE has", 0, 0},
    {"replay", 0, OPTION_TEXT, "FILE", NULL, "read a file of events instead, as fast as it goes", 0,
     0},
    {"speed", 0, OPTION_NUMBER, "X", NULL, "replay at X times the events' own times", 0.001, 1e9},
    {"train-until", 0, OPTION_COUNT, "SEQ", "1000",
     "events with a lower seq (else: line, from 0) are history", 0, 1e15},
    {"scores", 0, OPTION_TEXT, "S.jsonl", NULL,
     "write every verdict there, and those of sessions to S.sessions.jsonl", 0, 0},
    {"batch", 0, OPTION_COUNT, "N", "256", "of a replay: events looked at together", 1, 4096},
    {"session", 0, OPTION_TEXT, "FIELD", "session", "the field that sessions are told apart by", 0,
     0},
    {"session-idle", 0, OPTION_COUNT, "N", NULL,
     "judge a session after N events without one of it; live 10000, a file at its end", 1, 1e15},
    {"alarm", 0, OPTION_NUMBER, "P", "0.0001",
     "alert on an event where normal traffic has one so strange with probability P", 0, 0.49},
    {"session-alarm", 0, OPTION_NUMBER, "P", "0.001", "the same for a session", 0, 0.49},
    {"learn", 0, OPTION_TEXT, "N|TIME", NULL,
     "live: so many events (1000), or so long (10m, 2h), are history", 0, 0},
    {"no-model", 0, OPTION_FLAG, "", NULL, "no distances between texts: counts and sessions only",
     0, 0},
    {"explain", 0, OPTION_FLAG, "", NULL, "say with an alert which parts fired, and what is near",
     0, 0},
    {"file", 0, OPTION_TEXT, "F", NULL, "of jsonl, text: a file, not standard input", 0, 0},
    {"follow", 0, OPTION_FLAG, "", NULL, "of jsonl, text: go on as the file grows and rotates", 0,
     0},
    {"listen", 0, OPTION_TEXT, "PATH", NULL, "of socket: a UNIX socket that others send to", 0, 0},
    {"bus", 0, OPTION_TEXT, "B", NULL, "of dbus: system, session or unix:path=...", 0, 0},
    {"directory", 0, OPTION_TEXT, "DIR", NULL, "of journal: not the system's", 0, 0},
    {"unit", 0, OPTION_TEXT, "U", NULL, "of journal: only of this unit; several times", 0, 0},
    {"priority", 0, OPTION_COUNT, "0-7", NULL, "of journal: this and more urgent ones", 0, 7},
    {"match", 0, OPTION_TEXT, "RULE", NULL,
     "of dbus: a match rule; of journal: FIELD=value; several times", 0, 0},
    {"server", 0, OPTION_TEXT, "URL,...", NULL, "of nats", 0, 0},
    {"stream", 0, OPTION_TEXT, "S", NULL, "of nats: the JetStream stream", 0, 0},
    {"consumer", 0, OPTION_TEXT, "C", NULL,
     "of nats: the durable consumer, which several processes share", 0, 0},
    {"subject", 0, OPTION_TEXT, "S", NULL, "of nats: only this subject", 0, 0},
    {"format", 0, OPTION_CHOICE, "jsonl|text", NULL, "of socket, nats: what a line is", 0, 0},
    {"field", 0, OPTION_TEXT, "X=F", NULL,
     "its text, time, source, level, session or id is field F; several times", 0, 0},
    {"name", 0, OPTION_TEXT, "N", NULL, "what the source is remembered under", 0, 0},
    {"store", 0, OPTION_TEXT, "DIR", NULL, "keep events, verdicts, vectors and labels there", 0, 0},
    {"keep", 0, OPTION_TEXT, "TIME", NULL, "of the store: so long, such as 30d", 0, 0},
    {"keep-bytes", 0, OPTION_TEXT, "SIZE", NULL, "of the store: at most this, such as 10G", 0, 0},
    {"audit", 0, OPTION_TEXT, "DIR", NULL, "write all of it to this audit log", 0, 0},
    {"alert-file", 0, OPTION_TEXT, "F", NULL, "append alarms to this file", 0, 0},
    {"alert-socket", 0, OPTION_TEXT, "PATH", NULL, "send alarms to this UNIX socket", 0, 0},
    {"webhook", 0, OPTION_TEXT, "URL", NULL, "POST alarms there", 0, 0},
    {"alert-bus", 0, OPTION_TEXT, "B", NULL, "a D-Bus signal for each alarm", 0, 0},
    {"severity", 0, OPTION_CHOICE, "low|medium|high|critical", "low",
     "alarms below this are silent", 0, 0},
    {"repeat", 0, OPTION_NUMBER, "S", "60",
     "the same alarm is told again, with its count, after so many seconds; 0: each", 0, 1e6},
    {"deadline", 0, OPTION_NUMBER, "MS", "5", "live: an event waits so long for others", 0, 10000},
    {"queue", 0, OPTION_COUNT, "N", "8192", "live: events that wait, of each source", 16, 1 << 20},
    {"report", 0, OPTION_NUMBER, "S", NULL,
     "live: counters as a line of JSON on standard error every S seconds (or at SIGUSR1)", 0.1,
     1e6},
};

/* Where verdicts go: alerts to standard output, all of them to files. */
struct verdicts {
    struct cli *cli;
    struct file_writer *events, *sessions;
    struct bytes line;
    enum akin_status status;
};

static bool finish_line(struct verdicts *v, struct file_writer *writer)
{
    if (v->line.failed)
        v->status = error_memory(&v->cli->error);
    else if (writer)
        v->status = file_writer_write(writer, v->line.data, v->line.count, &v->cli->error);
    return v->status == AKIN_OK;
}

/* One line each, at once. */
static bool take_alarm(void *cookie, const char *json, size_t bytes)
{
    struct verdicts *v = cookie;
    if (v->events)
        return true;
    progress_end(&v->cli->progress);
    fwrite(json, 1, bytes, stdout);
    putchar('\n');
    fflush(stdout);
    v->status = check_output(v->cli);
    return v->status == AKIN_OK;
}

static bool take_event(void *cookie, const struct akin_event_verdict *e)
{
    struct verdicts *v = cookie;
    bytes_clear(&v->line);
    bytes_printf(&v->line, "{\"seq\":%llu,\"score\":%.9g,\"alert\":%s}\n",
                 (unsigned long long)e->seq, e->score, e->alert ? "true" : "false");
    return finish_line(v, v->events);
}

static bool take_session(void *cookie, const struct akin_session_verdict *s)
{
    struct verdicts *v = cookie;
    bytes_clear(&v->line);
    bytes_append_text(&v->line, "{\"session\":");
    json_append_string(&v->line, s->name, s->name_bytes);
    bytes_printf(&v->line, ",\"score\":%.9g,\"alert\":%s}\n", s->score,
                 s->alert ? "true" : "false");
    return finish_line(v, v->sessions);
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
    akin_watch_input_default(input);
    input->path = options_text(o, "replay");
    input->plain = options_given(o, "source") && !strcmp(options_text(o, "source"), "text");
    input->session_field = options_text(o, "session");
    input->train_until = options_count(o, "train-until");
    input->batch = options_count(o, "batch");
    if (options_given(o, "session-idle"))
        input->session_idle = options_count(o, "session-idle");
    input->explain = options_flag(o, "explain");
    input->progress = progress_begin(&cli->progress, "B");
}

static enum akin_status run_replay(struct cli *cli, struct akin_watch *watch)
{
    struct verdicts v = {.cli = cli};
    struct akin_watch_input input;
    struct akin_watch_report report;
    const char *scores = options_text(&cli->options, "scores");
    struct akin_watch_sink sink = {.cookie = &v, .alarm = take_alarm};
    enum akin_status status = AKIN_OK;
    read_input(cli, &input);
    if (scores) {
        sink.event = take_event;
        sink.session = take_session;
        TRY_DONE(open_scores(cli, &v, scores));
    }
    status = akin_watch_run(watch, &input, &sink, &report, &cli->error);
    TRY_DONE(v.status != AKIN_OK ? v.status : status);
    if (scores) {
        TRY_DONE(file_writer_commit(&v.events, &cli->error));
        TRY_DONE(file_writer_commit(&v.sessions, &cli->error));
    }
    tell_report(cli, &report);
done:
    file_writer_abort(&v.events);
    file_writer_abort(&v.sessions);
    bytes_deinit(&v.line);
    return status;
}

/* What only the live half has, which a file can go through as well. */
static bool is_live(const struct options *o)
{
    static const char *const names[] = {"speed", "store", "audit", "alert-file", "alert-socket",
                                        "webhook", "alert-bus", "report"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (options_given(o, names[i]))
            return true;
    return !options_given(o, "replay");
}

static enum akin_status run_watch(struct cli *cli)
{
    const struct options *o = &cli->options;
    struct akin_watch_settings settings;
    struct akin_model *model = NULL;
    struct akin_watch *watch = NULL;
    if (!options_given(o, "source") && !options_given(o, "replay"))
        return wrong_use(cli, "watch needs --source jsonl|text|socket|dbus|journal|nats, or "
                         "--replay FILE");
    if (is_live(o) && options_given(o, "scores"))
        return wrong_use(cli, "--scores is of a plain --replay; live, --store keeps verdicts");
    if (is_live(o))
        TRY(watch_live_check(cli, options_text(o, "replay")));
    akin_watch_settings_default(&settings);
    settings.event_alarm = options_number(o, "alarm");
    settings.session_alarm = options_number(o, "session-alarm");
    enum akin_status status = cli_engine(cli);
    if (status == AKIN_OK && !options_flag(o, "no-model"))
        status = cli_model(cli, NULL, &model);
    if (status == AKIN_OK)
        status = akin_watch_open(cli->engine, model, &settings, &watch, &cli->error);
    if (status == AKIN_OK)
        status = is_live(o) ? watch_live_run(cli, watch, options_text(o, "replay"))
                            : run_replay(cli, watch);
    akin_watch_close(&watch);
    akin_model_close(&model);
    return status;
}

const struct command command_watch = {
    .name = "watch",
    .arguments = "--source KIND [its options] [--source ...] | --replay FILE [options]",
    .summary = "events as they come, compared with what came before; alerts as JSON lines",
    .details =
        "An event is a JSON object with \"text\" (or \"message\"), and perhaps seq, time, source,\n"
        "level and session; with --source text it is a line. Numbers, addresses, paths and other\n"
        "identifiers are masked; then it is scored by how rare its kind is, how far its text is\n"
        "from common ones, by bursts and by its level, and a session by what it is made of, in\n"
        "which order, and what is missing. Nothing needs labels, and the history may hold\n"
        "trouble. Live, an event is acknowledged to its source once it is in --store and --audit;\n"
        "a line that is no event is counted and left out, in a --replay it is an error. Options\n"
        "of a source follow its --source. SIGTERM judges and stores what was received, then ends.\n"
        "With --device auto the CPU goes on where a GPU fails; events are not lost. akin watch\n"
        "search, label, info and snapshot work on a --store. docs/watch.md tells all.\n",
    .examples =
        "  journalctl -f -o cat | akin watch --source text --explain\n"
        "  akin watch --source dbus --bus system --source journal --priority 4 \\\n"
        "      --store events --audit trail --learn 1d --webhook http://localhost/alarm\n"
        "  akin watch --source jsonl --file app.log --follow --field text=msg --store events\n"
        "  akin watch --replay events.jsonl --train-until 12700 --scores scores.jsonl\n"
        "  akin watch --source nats --server nats://10.0.0.1 --stream logs --consumer akin \\\n"
        "      --store events --device cuda:all\n",
    .options = {watch_options, sizeof watch_options / sizeof watch_options[0]},
    .run = run_watch,
};
