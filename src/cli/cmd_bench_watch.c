/* akin bench watch: events a second that are embedded, cached, stored; latency at a rate; search
 * while events come in; memory over time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/bench_watch.h"
#include "cli/moment.h"
#include "cli/report.h"

enum { SEARCHES_MAX = 1 << 16, SEARCH_K = 10 };

static const struct option bench_options[] = {
    {"events", 0, OPTION_TEXT, "E.jsonl", NULL,
     "a real log, over and over, for what is cached; without it events are made up", 0, 0},
    {"folder", 0, OPTION_TEXT, "DIR", ".", "on the disk to measure; a store is made in it", 0, 0},
    {"seconds", 0, OPTION_NUMBER, "S", "10", "for each part", 1, 3600},
    {"rate", 0, OPTION_NUMBER, "R", "1000", "events a second where latency is measured", 1, 1e6},
    {"stored", 0, OPTION_COUNT, "N", "200000", "events in the store that is searched; 0: none", 0,
     1e9},
    {"soak", 0, OPTION_NUMBER, "S", NULL, "seconds at 556 events/s, whether memory grows", 1, 1e6},
    {"keep", 0, OPTION_TEXT, "TIME", NULL, "of the soak's store: events are kept so long", 0, 0},
    {"no-model", 0, OPTION_FLAG, "", NULL, "counts and sessions only", 0, 0},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results", "folder of the report", 0, 0},
};

struct figures {
    struct watch_run distinct, cached, kept, steady, idle, filled, searched, soaked;
    bool has_search, has_soak;
    double search_us_p50, search_us_p99, embed_us_p50;
    size_t searches;
    uint64_t events;            /* in the store at the end of the searches */
};

static double rate_of(const struct watch_run *run)
{
    return run->report.seconds > 0 ? (double)run->report.received / run->report.seconds : 0;
}

/* ---- lines ------------------------------------------------------------------------------- */

static enum akin_status keep_line(struct watch_bench *b, size_t *capacity, const char *line,
                                  size_t bytes)
{
    if (!array_reserve((void **)&b->lines, capacity, b->line_count + 1, sizeof *b->lines))
        return error_memory(&b->cli->error);
    b->lines[b->line_count] = string_pool_add(&b->texts, line, bytes);
    return b->lines[b->line_count++] ? AKIN_OK : error_memory(&b->cli->error);
}

static enum akin_status make_lines(struct watch_bench *b, size_t *capacity)
{
    static const char *const texts[] = {
        "plugged port tap%08x-%02x into bridge br-int", "instance %08x-0000 went to state %u",
        "took %u.%02u seconds to build the instance", "request from 10.0.%u.%u was served",
        "volume vol-%08x was attached, attempt %u", "lease of %u for 192.168.0.%u was renewed"};
    char line[256];
    for (unsigned i = 0; i < 10000; i++) {
        size_t n = (size_t)snprintf(line, sizeof line, "{\"level\":\"info\",\"text\":\"");
        n += (size_t)snprintf(line + n, sizeof line - n, texts[i * 7 % 6], i * 2654435761u,
                              i % 100);
        n += (size_t)snprintf(line + n, sizeof line - n, "\"}");
        TRY(keep_line(b, capacity, line, n));
    }
    return AKIN_OK;
}

static enum akin_status read_lines(struct watch_bench *b)
{
    const char *path = options_text(&b->cli->options, "events"), *line;
    struct line_reader *reader = NULL;
    size_t capacity = 0, bytes;
    if (!path)
        return make_lines(b, &capacity);
    TRY(line_reader_open(path, &reader, &b->cli->error));
    enum akin_status status;
    do {
        status = line_reader_next(reader, &line, &bytes, &b->cli->error);
        if (status == AKIN_OK && line && bytes)
            status = keep_line(b, &capacity, line, bytes);
    } while (status == AKIN_OK && line);
    line_reader_close(&reader);
    if (status == AKIN_OK && !b->line_count)
        status = error_set(&b->cli->error, AKIN_FORMAT, "%s: there are no events", path);
    return status;
}

/* ---- searching while events come in ------------------------------------------------------- */

struct searching {
    struct watch_bench *bench;
    double *search_us, *embed_us;       /* [SEARCHES_MAX] */
    size_t count, dimension;
    uint64_t events;
    enum akin_status status;
};

static bool ignore_event(void *cookie, const struct akin_stored_event *event)
{
    (void)cookie;
    (void)event;
    return true;
}

static enum akin_status search_once(struct searching *s, struct akin_events *events,
                                    float *vector)
{
    static const char *const queries[] = {
        "a bridge was deleted", "the instance could not be started", "network port attached",
        "disk is full", "user request refused", "waiting for a lock", "address lease"};
    const char *query = queries[s->count % (sizeof queries / sizeof queries[0])];
    struct akin_text text = {query, strlen(query)};
    struct akin_embed_settings settings;
    struct akin_error *error = &s->bench->cli->error;
    akin_embed_settings_default(&settings);
    uint64_t began = clock_monotonic_ns();
    TRY(akin_model_embed(s->bench->model, &text, 1, &settings, vector, NULL, error));
    uint64_t embedded = clock_monotonic_ns();
    TRY(akin_events_nearest(events, vector, s->dimension, SEARCH_K, NULL, ignore_event, NULL,
                            error));
    uint64_t end = clock_monotonic_ns();
    s->embed_us[s->count] = (double)(embedded - began) / 1e3;
    s->search_us[s->count++] = (double)(end - embedded) / 1e3;
    return AKIN_OK;
}

static enum akin_status search_store(struct searching *s, const bool *over)
{
    struct akin_events_settings settings = {0};
    struct akin_events *events = NULL;
    struct akin_model_info model;
    struct akin_events_info info;
    char folder[PATH_BYTES_MAX];
    struct watch_bench *b = s->bench;
    TRY(path_join(folder, sizeof folder, b->folder, "store", &b->cli->error));
    settings.folder = folder;
    akin_model_info(b->model, &model);
    s->dimension = model.dimension;
    float *vector = memory_alloc(model.dimension, sizeof *vector);
    enum akin_status status = vector ? akin_events_open(b->cli->engine, b->model, &settings,
                                                        &events, &b->cli->error)
                                     : error_memory(&b->cli->error);
    while (status == AKIN_OK && s->count < SEARCHES_MAX
           && !__atomic_load_n(over, __ATOMIC_ACQUIRE)) {
        status = akin_events_refresh(events, &b->cli->error);
        if (status == AKIN_OK)
            status = search_once(s, events, vector);
        clock_sleep_us(2000);
    }
    if (status == AKIN_OK)
        status = akin_events_info(events, &info, &b->cli->error);
    if (status == AKIN_OK)
        s->events = info.events;
    akin_events_close(&events);
    memory_free(vector);
    return status;
}

static void search_beside(void *context, const bool *over)
{
    struct searching *s = context;
    s->status = search_store(s, over);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile_of(double *values, size_t count, double q)
{
    qsort(values, count, sizeof *values, by_value);
    return count ? values[(size_t)(q * (double)(count - 1))] : NAN;
}

static enum akin_status measure_search(struct watch_bench *b, struct figures *f)
{
    struct searching s = {.bench = b};
    struct watch_feed fill = {.events = options_count(&b->cli->options, "stored"),
                              .store = "store"};
    struct watch_feed feed = { .rate = options_number(&b->cli->options, "rate"),
                               .seconds = b->seconds, .store = "store", .beside = search_beside,
                               .context = &s };
    if (!fill.events || !b->model)
        return AKIN_OK;
    s.search_us = memory_alloc(SEARCHES_MAX, sizeof *s.search_us);
    s.embed_us = memory_alloc(SEARCHES_MAX, sizeof *s.embed_us);
    enum akin_status status = s.search_us && s.embed_us
                                  ? watch_bench_run(b, &fill, &f->filled)
                                  : error_memory(&b->cli->error);
    if (status == AKIN_OK)
        status = watch_bench_run(b, &feed, &f->searched);
    if (status == AKIN_OK)
        status = s.status;
    f->has_search = status == AKIN_OK && s.count > 0;
    f->embed_us_p50 = quantile_of(s.embed_us, s.count, 0.5);
    f->search_us_p50 = quantile_of(s.search_us, s.count, 0.5);
    f->search_us_p99 = quantile_of(s.search_us, s.count, 0.99);
    f->searches = s.count;
    f->events = s.events;
    memory_free(s.search_us);
    memory_free(s.embed_us);
    return status;
}

static enum akin_status measure(struct watch_bench *b, struct figures *f)
{
    const struct options *o = &b->cli->options;
    struct watch_feed feed = {.seconds = b->seconds, .distinct = true};
    if (b->model)
        TRY(watch_bench_run(b, &feed, &f->distinct));
    feed.distinct = false;
    TRY(watch_bench_run(b, &feed, &f->cached));
    feed.store = "kept";
    feed.audit = "trail";
    TRY(watch_bench_run(b, &feed, &f->kept));
    feed.rate = options_number(o, "rate");
    feed.store = "steady";
    TRY(watch_bench_run(b, &feed, &f->steady));
    feed.rate = 20;
    TRY(watch_bench_run(b, &feed, &f->idle));
    TRY(measure_search(b, f));
    f->has_soak = options_given(o, "soak");
    if (!f->has_soak)
        return AKIN_OK;
    feed.rate = 556;
    feed.store = "soak";
    feed.seconds = options_number(o, "soak");
    feed.keep_seconds = b->keep_seconds;
    return watch_bench_run(b, &feed, &f->soaked);
}

/* ---- the report -------------------------------------------------------------------------- */

static void report_run(json_t *root, const char *name, const struct watch_run *run)
{
    const struct akin_watch_live_report *r = &run->report;
    json_t *one = json_object();
    json_object_set_new(one, "events", json_of_count(r->received));
    json_object_set_new(one, "events_per_s", json_of_double(rate_of(run)));
    json_object_set_new(one, "cpu_us_per_event", json_of_double(run->cpu_us));
    json_object_set_new(one, "embedded", json_of_count(r->counts.embedded));
    json_object_set_new(one, "kinds", json_of_count(r->counts.kinds));
    json_object_set_new(one, "stored", json_of_count(r->stored));
    json_object_set_new(one, "dropped", json_of_count(r->dropped + r->lost));
    json_object_set_new(one, "verdict_us_p50", json_of_double(r->latency_us_p50));
    json_object_set_new(one, "verdict_us_p99", json_of_double(r->latency_us_p99));
    json_object_set_new(one, "stored_us_p50", json_of_double(r->stored_us_p50));
    json_object_set_new(one, "stored_us_p99", json_of_double(r->stored_us_p99));
    json_object_set_new(one, "rss_bytes_early", json_of_count(run->rss_early));
    json_object_set_new(one, "rss_bytes_late", json_of_count(run->rss_late));
    json_object_set_new(root, name, one);
    report_line(name, "%.0f events/s, %llu events, %llu embedded, %.1f us of CPU each; verdict p50 "
                "%.2f ms, p99 %.2f ms; stored p99 %.2f ms", rate_of(run),
                (unsigned long long)r->received, (unsigned long long)r->counts.embedded,
                run->cpu_us, r->latency_us_p50 / 1e3, r->latency_us_p99 / 1e3,
                r->stored_us_p99 / 1e3);
}

static double grown(const struct watch_run *run)
{
    return run->rss_early ? (double)run->rss_late / (double)run->rss_early : NAN;
}

static enum akin_status report(struct watch_bench *b, const struct figures *f)
{
    const double none = NAN;
    struct bench_target targets[] = {
        {"embedding every event", "events/s", BENCH_AT_LEAST,
         b->model ? rate_of(&f->distinct) : none, 834, "without a model"},
        {"known kinds", "events/s", BENCH_AT_LEAST, rate_of(&f->cached), 50000, NULL},
        {"verdict at the rate, p99", "ms", BENCH_BELOW, f->steady.report.latency_us_p99 / 1e3, 50,
         NULL},
        {"verdict when idle, p99", "ms", BENCH_BELOW, f->idle.report.latency_us_p99 / 1e3, 10,
         NULL},
        {"search while events come, p50", "ms", BENCH_BELOW,
         f->has_search ? f->search_us_p50 / 1e3 : none, 0.5, "nothing was searched"},
        {"memory at the end of the soak", "of that after a fifth", BENCH_BELOW,
         f->has_soak ? grown(&f->soaked) : none, 1.05, "no --soak"},
    };
    json_t *root = json_object();
    report_common(b->cli, root);
    if (b->model)
        report_run(root, "every event embedded", &f->distinct);
    report_run(root, "known kinds", &f->cached);
    report_run(root, "known kinds, stored and audited", &f->kept);
    report_run(root, "at the rate", &f->steady);
    report_run(root, "idle", &f->idle);
    if (f->has_search) {
        report_run(root, "while searched", &f->searched);
        json_object_set_new(root, "search_events", json_of_count(f->events));
        json_object_set_new(root, "searches", json_of_count(f->searches));
        json_object_set_new(root, "search_us_p50", json_of_double(f->search_us_p50));
        json_object_set_new(root, "search_us_p99", json_of_double(f->search_us_p99));
        json_object_set_new(root, "query_embed_us_p50", json_of_double(f->embed_us_p50));
        report_line("search", "p50 %.3f ms, p99 %.3f ms of %zu over %llu events, beside %.2f ms "
                    "for the text", f->search_us_p50 / 1e3, f->search_us_p99 / 1e3, f->searches,
                    (unsigned long long)f->events, f->embed_us_p50 / 1e3);
    }
    if (f->has_soak) {
        report_run(root, "soak", &f->soaked);
        report_line("memory", "%.1f MB after a fifth of the soak, %.1f MB at its end",
                    (double)f->soaked.rss_early / 1e6, (double)f->soaked.rss_late / 1e6);
    }
    json_object_set_new(root, "targets",
                        bench_targets_json(targets, sizeof targets / sizeof targets[0]));
    if (!b->cli->json)
        bench_targets_print(targets, sizeof targets / sizeof targets[0]);
    return report_write(b->cli, "watch", root);
}

static enum akin_status read_keep(struct watch_bench *b)
{
    const char *text = options_text(&b->cli->options, "keep");
    double seconds = 0;
    if (text && (!duration_parse(text, &seconds) || seconds < 1))
        return wrong_use(b->cli, "--keep is a time of at least a second, such as 20s");
    b->keep_seconds = (uint64_t)seconds;
    return AKIN_OK;
}

static enum akin_status run_bench_watch(struct cli *cli)
{
    struct watch_bench b = {.cli = cli, .seconds = options_number(&cli->options, "seconds")};
    struct figures *f = memory_alloc(1, sizeof *f);
    char name[64];
    enum akin_status status = f ? AKIN_OK : error_memory(&cli->error);
    if (!f)
        return status;
    snprintf(name, sizeof name, "akin_bench_watch.%ld", (long)getpid());
    TRY_DONE(path_join(b.folder, sizeof b.folder, options_text(&cli->options, "folder"), name,
                       &cli->error));
    TRY_DONE(read_keep(&b));
    TRY_DONE(read_lines(&b));
    TRY_DONE(cli_engine(cli));
    if (!options_flag(&cli->options, "no-model"))
        TRY_DONE(cli_model(cli, NULL, &b.model));
    TRY_DONE(path_make_folders(b.folder, &cli->error));
    status = measure(&b, f);
    (void)path_remove_tree(b.folder, NULL);
    if (status == AKIN_OK)
        status = report(&b, f);
done:
    akin_model_close(&b.model);
    string_pool_deinit(&b.texts);
    memory_free(b.lines);
    memory_free(f);
    return status;
}

const struct command command_bench_watch = {
    .name = "bench watch",
    .arguments = "[options]",
    .summary = "events a second, latency from arrival to verdict, search while events come in",
    .details =
        "Events come through a named pipe. Parts, each for --seconds: every event of a kind of\n"
        "its own, so that each is embedded; a log over and over as fast as it is taken, first\n"
        "without and then with a store and an audit trail; --rate events a second; 20 a second;\n"
        "searches in a store of --stored events while --rate events a second come in; the time\n"
        "that the query's text takes to be embedded is told beside it.\n",
    .examples = "  akin bench watch --events nova.jsonl\n"
                "  akin bench watch --seconds 30 --stored 1000000 --soak 600 --keep 1m\n"
                "  akin bench watch --device cuda:all --seconds 30\n",
    .options = {bench_options, sizeof bench_options / sizeof bench_options[0]},
    .run = run_bench_watch,
};
