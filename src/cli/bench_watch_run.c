/* A live watch at the end of a named pipe, and the thread that writes into it. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/rng.h"
#include "base/thread.h"
#include "cli/bench_watch.h"

struct feeding {
    const struct watch_bench *bench;
    const struct watch_feed *feed;
    struct watch_run *run;
    char pipe[PATH_BYTES_MAX];
    uint64_t written;
    bool over;                  /* of the watch; for who runs beside */
    bool failed;
};

/* ---- events ------------------------------------------------------------------------------ */

static void append_word(struct bytes *out, struct rng *rng)
{
    static const char *const words[] = {
        "alarm",  "bridge", "buffer", "cache",  "change", "client", "clock",  "cluster", "command",
        "config", "cpu",    "daemon", "device", "disk",   "driver", "engine", "entry",   "error",
        "event",  "failed", "file",   "flow",   "guest",  "handle", "host",   "image",   "index",
        "input",  "job",    "kernel", "key",    "lease",  "limit",  "link",   "lock",    "manager",
        "memory", "method", "module", "mount",  "name",   "network", "node",  "object",  "packet",
        "path",   "pool",   "port",   "power",  "queue",  "reader", "record", "request", "route",
        "server", "signal", "socket", "state",  "switch", "table",  "thread", "token",   "unit",
        "volume"};
    const char *word = words[rng_below(rng, sizeof words / sizeof words[0])];
    bytes_append_text(out, word);
}

/* As long as real ones are when their numbers are masked; five of their words are any of many, so
 * that hardly two are alike and no kinds are joined. */
static void append_distinct(struct bytes *out, struct rng *rng)
{
    static const char *const between[] = {" plugged ", " into bridge of ", " for the instance, ",
                                          " after the network ", " was allocated, state active"};
    bytes_append_text(out, "{\"level\":\"info\",\"source\":\"nova.virt.driver\",\"text\":\"");
    for (size_t i = 0; i < sizeof between / sizeof between[0]; i++) {
        append_word(out, rng);
        bytes_append_text(out, between[i]);
    }
    bytes_append_text(out, "\"}\n");
}

static void append_line(struct feeding *f, struct bytes *out, struct rng *rng)
{
    if (f->feed->distinct) {
        append_distinct(out, rng);
        return;
    }
    bytes_append_text(out, f->bench->lines[f->written % f->bench->line_count]);
    bytes_append_text(out, "\n");
}

/* ---- writing ----------------------------------------------------------------------------- */

static bool goes_on(const struct feeding *f, uint64_t began)
{
    if (signals_interrupted())
        return false;
    return f->feed->seconds > 0 ? seconds_since(began) < f->feed->seconds
                                : f->written < f->feed->events;
}

static void feed_pipe(void *context)
{
    enum { TOGETHER = 64 };
    struct feeding *f = context;
    struct bytes out = {0};
    struct rng rng;
    FILE *pipe = fopen(f->pipe, "w");
    rng_seed(&rng, 1);
    uint64_t began = clock_monotonic_ns();
    f->failed = !pipe;
    while (!f->failed && goes_on(f, began)) {
        size_t count = TOGETHER;
        if (f->feed->rate > 0) {
            double due = seconds_since(began) * f->feed->rate - (double)f->written;
            count = due >= 1 ? (size_t)due : 0;
        }
        bytes_clear(&out);
        for (size_t i = 0; i < count; i++, f->written++)
            append_line(f, &out, &rng);
        if (!count)
            clock_sleep_us(500);
        else if (out.failed || fwrite(out.data, 1, out.count, pipe) != out.count || fflush(pipe))
            f->failed = true;
    }
    if (pipe)
        fclose(pipe);
    bytes_deinit(&out);
}

/* ---- the watch --------------------------------------------------------------------------- */

static bool take_tick(void *cookie, const struct akin_watch_live_report *report)
{
    struct feeding *f = cookie;
    f->run->rss_late = report->rss_bytes;
    if (!f->run->rss_early && report->seconds > f->feed->seconds / 5)
        f->run->rss_early = report->rss_bytes;
    return !signals_interrupted();
}

static void take_note(void *cookie, const char *line)
{
    struct feeding *f = cookie;
    print_note(f->bench->cli, "%s", line);
}

struct beside {
    const struct watch_feed *feed;
    const bool *over;
};

static void run_beside(void *context)
{
    const struct beside *b = context;
    b->feed->beside(b->feed->context, b->over);
}

static enum akin_status run_live(struct feeding *f, struct akin_watch *watch)
{
    struct akin_watch_live live;
    struct akin_watch_source source;
    char store[PATH_BYTES_MAX], audit[PATH_BYTES_MAX];
    struct akin_error *error = &f->bench->cli->error;
    akin_watch_live_default(&live);
    akin_watch_source_default(AKIN_SOURCE_LINES, &source);
    source.address = f->pipe;
    live.sources = &source;
    live.source_count = 1;
    live.cookie = f;
    live.tick = take_tick;
    live.note = take_note;
    if (f->feed->store) {
        TRY(path_join(store, sizeof store, f->bench->folder, f->feed->store, error));
        live.store = store;
        live.keep_seconds = f->feed->keep_seconds;
    }
    if (f->feed->audit) {
        TRY(path_join(audit, sizeof audit, f->bench->folder, f->feed->audit, error));
        live.audit = audit;
    }
    struct thread *writer = thread_start(feed_pipe, f, false), *other = NULL;
    struct beside beside = {f->feed, &f->over};
    if (f->feed->beside)
        other = thread_start(run_beside, &beside, false);
    enum akin_status status = akin_watch_live(watch, &live, &f->run->report, error);
    __atomic_store_n(&f->over, true, __ATOMIC_RELEASE);
    int fd = open(f->pipe, O_RDONLY | O_NONBLOCK); /* a writer that nobody listened to */
    if (fd >= 0)
        close(fd);
    thread_join(&writer);
    thread_join(&other);
    if (status == AKIN_OK && f->failed)
        status = error_set(error, AKIN_IO, "%s: cannot be written to", f->pipe);
    return status;
}

enum akin_status watch_bench_run(struct watch_bench *bench, const struct watch_feed *feed,
                                 struct watch_run *run)
{
    struct akin_watch_settings settings;
    struct akin_watch *watch = NULL;
    struct feeding f = {.bench = bench, .feed = feed, .run = run};
    *run = (struct watch_run){0};
    TRY(check_interrupted(bench->cli));
    TRY(path_join(f.pipe, sizeof f.pipe, bench->folder, "pipe", &bench->cli->error));
    TRY(path_remove(f.pipe, &bench->cli->error));
    if (mkfifo(f.pipe, 0600))
        return error_system(&bench->cli->error, "%s", f.pipe);
    akin_watch_settings_default(&settings);
    TRY(akin_watch_open(bench->cli->engine, bench->model, &settings, &watch, &bench->cli->error));
    uint64_t cpu_ns = clock_process_cpu_ns();
    enum akin_status status = run_live(&f, watch);
    cpu_ns = clock_process_cpu_ns() - cpu_ns;
    if (run->report.received)
        run->cpu_us = (double)cpu_ns / 1e3 / (double)run->report.received;
    akin_watch_close(&watch);
    return status;
}
