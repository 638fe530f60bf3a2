/* akin bench audit: how fast an audit log takes records, beside how often the disk under it makes
 * anything durable at all; how long it takes to be open again after a crash; how long to verify. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file_at.h"
#include "base/thread.h"
#include "cli/bench.h"
#include "cli/report.h"

enum { WRITERS_MAX = 1024, LATENCIES_MAX = 1 << 20, GROUP_MAX = 100000, RUNS = 3 };

static const struct option bench_options[] = {
    {"folder", 0, OPTION_TEXT, "DIR", ".", "on the disk to measure; a log is made in it", 0, 0},
    {"records", 0, OPTION_COUNT, "N", "1000000", "of one writer, in groups", 1000, 1e9},
    {"group", 0, OPTION_COUNT, "N", "1000", "records that it submits at once", 1, GROUP_MAX},
    {"bytes", 0, OPTION_COUNT, "N", "160", "of a record", 1, 60000},
    {"writers", 0, OPTION_COUNT, "N", "64", "that each wait for each record", 1, WRITERS_MAX},
    {"seconds", 0, OPTION_NUMBER, "S", "2", "for each timed run; there are three", 0.1, 600},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results", "folder of the report", 0, 0},
};

struct audit_bench {
    struct cli *cli;
    char log[PATH_BYTES_MAX], raw[PATH_BYTES_MAX];
    size_t bytes, group, writers;
    uint64_t records;
    double seconds;
    char *data;                             /* [bytes], what a record is filled with */
    double raw_rate[RUNS], waiting_rate[RUNS];
    double group_rate, open_s, recover_s, verify_s;
    uint64_t recovered;
    double latency_us_p50, latency_us_p99;
};

/* ---- the disk ---------------------------------------------------------------------------- */

static enum akin_status measure_raw(struct audit_bench *b, double *rate)
{
    struct file_at file;
    uint64_t count = 0, begin = clock_monotonic_ns();
    double elapsed = 0;
    TRY(path_remove(b->raw, &b->cli->error));
    TRY(file_at_open(b->raw, FILE_AT_CREATE, &file, &b->cli->error));
    enum akin_status status = AKIN_OK;
    while (status == AKIN_OK && elapsed < b->seconds) {
        struct file_part part = {b->data, b->bytes};
        status = file_at_write(&file, count * b->bytes, &part, 1, &b->cli->error);
        if (status == AKIN_OK)
            status = file_at_sync(&file, &b->cli->error);
        count++;
        elapsed = (double)(clock_monotonic_ns() - begin) / 1e9;
    }
    file_at_close(&file);
    TRY(path_remove(b->raw, &b->cli->error));
    *rate = (double)count / elapsed;
    return status;
}

/* ---- one writer -------------------------------------------------------------------------- */

static void fill_records(const struct audit_bench *b, struct akin_audit_record *records)
{
    for (size_t i = 0; i < b->group; i++)
        records[i] = (struct akin_audit_record){.data = b->data, .bytes = b->bytes};
}

static enum akin_status submit_groups(struct audit_bench *b, struct akin_audit *audit,
                                      uint64_t count)
{
    struct akin_audit_record *records = memory_alloc(b->group, sizeof *records);
    uint64_t end = 0;
    enum akin_status status = records ? AKIN_OK : error_memory(&b->cli->error);
    if (records)
        fill_records(b, records);
    for (uint64_t left = count; left && status == AKIN_OK;) {
        size_t group = left < b->group ? (size_t)left : b->group;
        status = check_interrupted(b->cli);
        if (status == AKIN_OK)
            status = akin_audit_submit(audit, records, group, &end, &b->cli->error);
        left -= group;
    }
    memory_free(records);
    return status == AKIN_OK ? akin_audit_wait(audit, end, NULL, &b->cli->error) : status;
}

static enum akin_status measure_groups(struct audit_bench *b)
{
    struct akin_audit *audit = NULL;
    TRY(akin_audit_open(b->log, &audit, &b->cli->error));
    uint64_t begin = clock_monotonic_ns();
    enum akin_status status = submit_groups(b, audit, b->records);
    b->group_rate = (double)b->records / ((double)(clock_monotonic_ns() - begin) / 1e9);
    akin_audit_close(&audit);
    return status;
}

/* ---- many writers that wait -------------------------------------------------------------- */

struct waiting_writer {
    struct audit_bench *bench;
    struct akin_audit *audit;
    struct thread *thread;
    uint64_t until_ns, count;
    float *latencies;                       /* [latency_max] */
    size_t latency_max;
    bool failed;
};

static void write_and_wait(void *context)
{
    struct waiting_writer *w = context;
    struct akin_audit_record record = {.data = w->bench->data, .bytes = w->bench->bytes};
    for (uint64_t now = clock_monotonic_ns(); now < w->until_ns && !w->failed;) {
        w->failed = akin_audit_append(w->audit, &record, 1, NULL, NULL) != AKIN_OK;
        uint64_t end = clock_monotonic_ns();
        if (w->count < w->latency_max)
            w->latencies[w->count] = (float)(end - now) / 1e3f;
        w->count++;
        now = end;
    }
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void take_latencies(struct audit_bench *b, struct waiting_writer *writers, float *all)
{
    size_t count = 0;
    for (size_t i = 0; i < b->writers; i++) {
        size_t have = writers[i].count < writers[i].latency_max ? (size_t)writers[i].count
                                                                : writers[i].latency_max;
        memmove(all + count, writers[i].latencies, have * sizeof *all);
        count += have;
    }
    if (count == 0)
        return;
    qsort(all, count, sizeof *all, compare_floats);
    b->latency_us_p50 = (double)all[count / 2];
    b->latency_us_p99 = (double)all[count - 1 - count / 100];
}

static enum akin_status measure_waiting(struct audit_bench *b, double *rate)
{
    struct akin_audit *audit = NULL;
    struct waiting_writer *writers = memory_alloc(b->writers, sizeof *writers);
    float *latencies = memory_alloc(LATENCIES_MAX, sizeof *latencies);
    enum akin_status status = AKIN_OK;
    uint64_t total = 0;
    if (!writers || !latencies)
        TRY_DONE(error_memory(&b->cli->error));
    TRY_DONE(akin_audit_open(b->log, &audit, &b->cli->error));
    uint64_t begin = clock_monotonic_ns();
    for (size_t i = 0; i < b->writers; i++) {
        size_t share = LATENCIES_MAX / b->writers;
        writers[i] = (struct waiting_writer){.bench = b,
                                             .audit = audit,
                                             .until_ns = begin + (uint64_t)(b->seconds * 1e9),
                                             .latencies = latencies + i * share,
                                             .latency_max = share};
        writers[i].thread = thread_start(write_and_wait, &writers[i], false);
        writers[i].failed = !writers[i].thread;
    }
    for (size_t i = 0; i < b->writers; i++) {
        thread_join(&writers[i].thread);
        total += writers[i].count;
        if (writers[i].failed)
            status = error_set(&b->cli->error, AKIN_IO, "%s: a writer could not append", b->log);
    }
    *rate = (double)total / ((double)(clock_monotonic_ns() - begin) / 1e9);
    take_latencies(b, writers, latencies);
done:
    akin_audit_close(&audit);
    memory_free(writers);
    memory_free(latencies);
    return status;
}

/* ---- after a crash ----------------------------------------------------------------------- */

/* A process that ends without closing what it has appended: as much as a journal holds. */
static enum akin_status crash(struct audit_bench *b)
{
    enum { JOURNAL_RECORDS = 65000 };
    int result = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct akin_audit *audit = NULL;
        bool fine = akin_audit_open(b->log, &audit, &b->cli->error) == AKIN_OK &&
                    submit_groups(b, audit, JOURNAL_RECORDS) == AKIN_OK;
        _exit(fine ? 0 : 1);
    }
    if (child < 0 || waitpid(child, &result, 0) != child || result != 0)
        return error_set(&b->cli->error, AKIN_IO, "%s: the process that was to crash failed",
                         b->log);
    return AKIN_OK;
}

static enum akin_status time_open(struct audit_bench *b, double *seconds)
{
    struct akin_audit *audit = NULL;
    struct akin_audit_info info;
    uint64_t begin = clock_monotonic_ns();
    TRY(akin_audit_open(b->log, &audit, &b->cli->error));
    *seconds = (double)(clock_monotonic_ns() - begin) / 1e9;
    akin_audit_info(audit, &info);
    b->recovered = info.recovered;
    akin_audit_close(&audit);
    return AKIN_OK;
}

static enum akin_status measure_all(struct audit_bench *b)
{
    TRY(measure_groups(b));
    for (int i = 0; i < RUNS; i++) {
        TRY(check_interrupted(b->cli));
        TRY(measure_raw(b, &b->raw_rate[i]));
        TRY(measure_waiting(b, &b->waiting_rate[i]));
    }
    TRY(time_open(b, &b->open_s));
    TRY(crash(b));
    TRY(time_open(b, &b->recover_s));
    uint64_t begin = clock_monotonic_ns();
    TRY(akin_audit_verify(b->log, NULL, NULL, &b->cli->error));
    b->verify_s = (double)(clock_monotonic_ns() - begin) / 1e9;
    return AKIN_OK;
}

/* ---- the report -------------------------------------------------------------------------- */

static double median(const double values[RUNS])
{
    double a = values[0], b = values[1], c = values[2];
    return fmax(fmin(a, b), fmin(fmax(a, b), c));
}

static enum akin_status report(struct audit_bench *b)
{
    char count[NUMBER_BYTES];
    double raw = median(b->raw_rate), waiting = median(b->waiting_rate);
    struct bench_target targets[] = {
        {"one writer in groups", "records/s", BENCH_AT_LEAST, b->group_rate, 50000, NULL},
        {"writers that wait, beside the raw disk", "times", BENCH_AT_LEAST, waiting / raw, 20,
         NULL},
        {"open again after a crash", "s", BENCH_BELOW, b->recover_s, 2, NULL},
    };
    if (b->writers < 64)
        targets[1].value = NAN, targets[1].reason = "fewer than 64 writers";
    json_t *root = json_object();
    TRY(cli_engine(b->cli));
    report_common(b->cli, root);
    json_object_set_new(root, "records", json_of_count(b->records));
    json_object_set_new(root, "record_bytes", json_of_count(b->bytes));
    json_object_set_new(root, "group", json_of_count(b->group));
    json_object_set_new(root, "writers", json_of_count(b->writers));
    json_object_set_new(root, "raw_fdatasync_per_s", json_of_double(raw));
    json_object_set_new(root, "group_records_per_s", json_of_double(b->group_rate));
    json_object_set_new(root, "waiting_records_per_s", json_of_double(waiting));
    json_object_set_new(root, "waiting_per_raw", json_of_double(waiting / raw));
    json_object_set_new(root, "waiting_us_p50", json_of_double(b->latency_us_p50));
    json_object_set_new(root, "waiting_us_p99", json_of_double(b->latency_us_p99));
    json_object_set_new(root, "open_s", json_of_double(b->open_s));
    json_object_set_new(root, "recover_s", json_of_double(b->recover_s));
    json_object_set_new(root, "recovered", json_of_count(b->recovered));
    json_object_set_new(root, "verify_s", json_of_double(b->verify_s));
    json_object_set_new(root, "targets",
                        bench_targets_json(targets, sizeof targets / sizeof targets[0]));
    if (!b->cli->json) {
        report_line("fdatasync of the disk", "%.0f/s", raw);
        report_line("one writer, groups", "%.0f records/s", b->group_rate);
        report_line("writers that wait", "%.0f records/s, %.0f times the disk; p50 %.1f ms, "
                    "p99 %.1f ms", waiting, waiting / raw, b->latency_us_p50 / 1e3,
                    b->latency_us_p99 / 1e3);
        report_line("open", "%.3f s", b->open_s);
        report_line("open after a crash", "%.3f s, %s records in the journal", b->recover_s,
                    format_count(count, b->recovered));
        report_line("verify", "%.2f s", b->verify_s);
        bench_targets_print(targets, sizeof targets / sizeof targets[0]);
    }
    return report_write(b->cli, "audit", root);
}

static enum akin_status run_bench_audit(struct cli *cli)
{
    struct audit_bench b = {.cli = cli};
    const struct options *o = &cli->options;
    char name[64];
    enum akin_status status = AKIN_OK;
    b.records = options_count(o, "records");
    b.group = options_count(o, "group");
    b.bytes = options_count(o, "bytes");
    b.writers = options_count(o, "writers");
    b.seconds = options_number(o, "seconds");
    b.data = memory_alloc(b.bytes, 1);
    if (!b.data)
        return error_memory(&cli->error);
    memset(b.data, 'r', b.bytes);
    snprintf(name, sizeof name, "akin_bench_audit.%ld", (long)getpid());
    TRY_DONE(path_join(b.log, sizeof b.log, options_text(o, "folder"), name, &cli->error));
    snprintf(name, sizeof name, "akin_bench_raw.%ld", (long)getpid());
    TRY_DONE(path_join(b.raw, sizeof b.raw, options_text(o, "folder"), name, &cli->error));
    TRY_DONE(akin_audit_create(b.log, NULL, &cli->error));
    status = measure_all(&b);
    (void)path_remove_tree(b.log, NULL);
    if (status == AKIN_OK)
        status = report(&b);
done:
    memory_free(b.data);
    return status;
}

const struct command command_bench_audit = {
    .name = "bench audit",
    .arguments = "[options]",
    .summary = "how fast an audit log takes records, beside the fdatasync rate of the disk",
    .details = "Raw disk and waiting writers take turns, three times; medians are told. The crash\n"
               "is a process that ends with 65,000 records in its journal.\n",
    .examples = "  akin bench audit\n"
                "  akin bench audit --folder /data --writers 256 --seconds 10\n",
    .options = {bench_options, sizeof bench_options / sizeof bench_options[0]},
    .run = run_bench_audit,
};
