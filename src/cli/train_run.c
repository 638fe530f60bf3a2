/* Runs the training benchmark: one process, or several that train one model together. Each opens
 * what it needs; the first one speaks and writes. */
#include <assert.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "cli/bench_train.h"
#include "cli/report.h"
#include "train/distributed.h"
#include "train/gpu_monitor.h"
#include "train/samples.h"

enum { STEP_TIMES_MAX = 1 << 20, MONITOR_MS = 200, OUTLOOK_STEPS = 10, LONG_SECONDS = 3600 };

struct session {
    struct cli *cli;
    struct train_asked *asked;
    struct process_group *group;
    size_t rank, world;
    struct train_place place;
    struct trainer *trainer;
    struct samples *samples;
    struct gpu_monitor *monitor;        /* NULL on a CPU */
    struct train_record record;
    struct train_device_record mine;
    int32_t *source, *target;   /* [batch][seq_len] */
    size_t step_stride;         /* of the steps whose times are kept */
    enum akin_status status;
};

/* ---- opening ----------------------------------------------------------------------------- */

/* Processes of one machine divide its CPUs, unless told how many threads each has. */
static enum akin_status open_engine(struct session *s)
{
    struct cli *cli = s->cli;
    int threads = -1, local = (int)process_group_local_world(s->group);
    if (s->asked->reference || s->asked->cuda)
        threads = 1;
    else if (local > 1 && !strcmp(cli_setting(cli, "threads"), "0"))
        threads = thread_cpus() > local ? thread_cpus() / local : 1;
    return threads < 0 ? cli_engine(cli) : cli_engine_open(cli, threads, &cli->engine);
}

static enum akin_status open_trainer(struct session *s)
{
    struct cli *cli = s->cli;
    struct trainer_settings *settings = &s->asked->trainer;
    const char *library = cli_setting(cli, "cuda_library");
    settings->reducer = process_group_reducer(s->group);
    s->place.ordinal = process_group_local_rank(s->group);
    TRY(train_place_open(cli, s->asked, &s->place));
    TRY(train_place_fits(cli, &s->place, settings, process_group_local_world(s->group),
                         &s->record.planned));
    if (s->asked->cuda && settings->reducer) {
        TRY(gpu_reducer_create(library, s->place.device, settings->reducer,
                               s->record.planned.gradients / sizeof(float), &s->place.reducer,
                               &cli->error));
        settings->reducer = gpu_reducer_of(s->place.reducer);
    }
    TRY(trainer_create(s->place.device, settings, &s->trainer, &cli->error));
    if (s->asked->init)
        TRY(trainer_load(s->trainer, s->asked->init, &cli->error));
    s->record.parameters = trainer_parameters(s->trainer)->trained;
    return AKIN_OK;
}

/* Waits for all ranks. */
static enum akin_status meet(struct session *s)
{
    double nothing = 0;
    return process_group_sum(s->group, &nothing, 1, &s->cli->error);
}

/* The first process of each machine makes the set whole; the others then find it so. */
static enum akin_status prepare_shards(struct session *s, struct shard_layout *layout)
{
    struct cli *cli = s->cli;
    struct shards_report report;
    struct shards_settings settings = {.folder = s->asked->data_dir, .layout = *layout,
                                       .seed = s->asked->trainer.seed,
                                       .workers = (int)s->asked->workers};
    if (process_group_local_rank(s->group) == 0) {
        settings.progress = progress_begin(&cli->progress, "bytes");
        TRY(shards_prepare(&settings, &report, &cli->error));
        progress_end(&cli->progress);
    }
    return meet(s);
}

static enum akin_status open_data(struct session *s)
{
    const struct train_asked *asked = s->asked;
    const struct transformer_shape *shape = &asked->trainer.shape;
    struct shard_layout layout = {
        .sample_count = asked->samples, .seq_len = shape->seq_len, .vocab = shape->vocab,
        .shard_count = asked->shards, .token_type = asked->narrow ? TOKEN_U16 : TOKEN_I64};
    struct samples_settings settings = {
        .data_dir = asked->data_dir, .seed = asked->trainer.seed, .sample_count = asked->samples,
        .seq_len = shape->seq_len, .vocab = shape->vocab, .token_type = layout.token_type,
        .workers = (int)asked->workers, .rank = s->rank, .world = s->world,
        .batch = asked->trainer.batch, .shuffle = true};
    size_t tokens = asked->trainer.batch * shape->seq_len;
    TRY(shard_layout_complete(&layout, &s->cli->error));
    s->record.data_bytes = (double)shard_set_bytes(&layout);
    if (asked->data_dir) {
        s->record.shards = settings.shard_count = layout.shard_count;
        TRY(prepare_shards(s, &layout));
    }
    TRY(samples_open(&settings, &s->samples, &s->cli->error));
    s->source = memory_alloc(tokens, sizeof *s->source);
    s->target = memory_alloc(tokens, sizeof *s->target);
    return s->source && s->target ? AKIN_OK : error_memory(&s->cli->error);
}

/* Several ranks divide an epoch. */
static enum akin_status plan_steps(struct session *s)
{
    struct train_asked *asked = s->asked;
    struct train_record *record = &s->record;
    size_t whole = (size_t)(samples_per_epoch(s->samples) / asked->trainer.batch);
    if (whole == 0)
        return error_set(&s->cli->error, AKIN_ARGUMENT,
                         "%zu samples are no whole batch of %zu for each of %zu processes",
                         asked->samples, asked->trainer.batch, s->world);
    if (asked->epoch_steps > whole)
        asked->epoch_steps = whole;
    if (!size_mul(asked->epoch_steps, asked->epochs, &record->steps))
        return error_set(&s->cli->error, AKIN_LIMIT, "%zu epochs of %zu steps are too many",
                         asked->epochs, asked->epoch_steps);
    s->step_stride = record->steps / STEP_TIMES_MAX + 1;
    record->epochs = memory_alloc(asked->epochs, sizeof *record->epochs);
    record->step_ms = memory_alloc(record->steps / s->step_stride + 1, sizeof *record->step_ms);
    record->devices = memory_alloc(s->world, sizeof *record->devices);
    return record->epochs && record->step_ms && record->devices ? AKIN_OK
                                                                : error_memory(&s->cli->error);
}

/* On GPUs the share is one of what the data sheet says. */
static void describe_gpu(struct session *s)
{
    struct train_record *record = &s->record;
    const struct gpu_info *gpu = &s->place.gpu;
    const char *precision = train_precision_name(s->asked->trainer.precision);
    snprintf(record->device, sizeof record->device, "cuda");
    snprintf(record->device_name, sizeof record->device_name, "%s", gpu->name);
    snprintf(record->cuda, sizeof record->cuda, "%s", gpu->cuda);
    snprintf(record->blas, sizeof record->blas, "%s", gpu->blas);
    snprintf(record->driver, sizeof record->driver, "%s", gpu->driver);
    s->mine.peak_flops = gpu_peak_flops(gpu->name, s->asked->trainer.precision);
    if (s->mine.peak_flops > 0)
        snprintf(record->peak_source, sizeof record->peak_source,
                 "data sheet: dense %s of this card", precision);
    else
        snprintf(record->peak_source, sizeof record->peak_source, "no data sheet of this card");
}

/* What speeds are a share of: on CPUs measured by all ranks at once. */
static enum akin_status measure_machine(struct session *s)
{
    struct train_record *record = &s->record;
    struct akin_machine machine;
    struct process_group_speed speed = {0};
    size_t count = trainer_parameters(s->trainer)->values;
    enum train_precision precision = s->asked->trainer.precision;
    akin_machine_describe(&machine);
    snprintf(record->device, sizeof record->device, "cpu");
    snprintf(record->device_name, sizeof record->device_name, "%s", machine.cpu);
    snprintf(record->link, sizeof record->link, "%s", process_group_link(s->group));
    record->count = s->world;
    record->threads = akin_engine_threads(s->cli->engine);
    record->reduced_bytes = (double)count * sizeof(float);
    if (s->place.reducer) {     /* the processes' own link says nothing of the cards' */
        snprintf(record->link, sizeof record->link, "%s", gpu_reducer_link(s->place.reducer));
        speed.expected_seconds = speed.measured_seconds = NAN;
    } else if (s->world > 1)
        TRY(process_group_measure(s->group, count, &speed, &s->cli->error));
    record->expected_allreduce_ms = 1000 * speed.expected_seconds;
    record->measured_allreduce_ms = 1000 * speed.measured_seconds;
    TRY(meet(s));
    if (s->asked->cuda) {
        describe_gpu(s);
        return AKIN_OK;
    }
    s->mine.peak_flops =
        1e9 * akin_engine_peak_gflops(s->cli->engine, precision == TRAIN_BF16
                                                          ? AKIN_PRECISION_BF16
                                                          : AKIN_PRECISION_FP32);
    snprintf(record->peak_source, sizeof record->peak_source,
             "measured: %s multiply-adds in registers, %zu thread%s",
             train_precision_name(precision), s->world * (size_t)record->threads,
             s->world * (size_t)record->threads == 1 ? "" : "s");
    return AKIN_OK;
}

/* ---- training ---------------------------------------------------------------------------- */

static enum akin_status take_step(struct session *s, double *loss)
{
    const struct trainer_settings *t = &s->asked->trainer;
    struct step_result result;
    size_t got = 0;
    TRY(samples_next(s->samples, t->batch, s->source, s->target, &got, &s->cli->error));
    ASSERT(got == t->batch);
    TRY(trainer_step(s->trainer, s->source, s->target, &result, &s->cli->error));
    *loss = result.loss;
    return AKIN_OK;
}

/* An epoch of millions of samples may be days: who waits for it should know, and know a way out. */
static void tell_outlook(struct session *s, double seconds)
{
    const struct train_asked *asked = s->asked;
    char text[NUMBER_BYTES];
    double epochs = (double)(asked->warmups + asked->epochs);
    double all = seconds / OUTLOOK_STEPS * (double)asked->epoch_steps * epochs;
    if (all > LONG_SECONDS && s->rank == 0)
        print_note(s->cli, "at this speed %.0f epochs take %s hours; --steps N makes them shorter",
                   epochs, format_seconds(text, all));
}

/* `first`: of the measured steps; SIZE_MAX: this one is not measured. */
static enum akin_status run_epoch(struct session *s, size_t number, const char *name, size_t first,
                                  struct train_epoch *epoch)
{
    struct cli *cli = s->cli;
    const struct train_asked *asked = s->asked;
    struct akin_progress progress = progress_begin(&cli->progress, "steps");
    double losses = 0;
    TRY(meet(s));
    uint64_t begin = clock_monotonic_ns(), before = begin;
    samples_epoch(s->samples, (uint32_t)number);
    for (size_t i = 0; i < asked->epoch_steps; i++) {
        double loss = 0;
        enum akin_status status = take_step(s, &loss);
        if (status != AKIN_OK)
            return status == AKIN_NUMERIC   /* the trainer says at which step */
                       ? error_context(&cli->error, status, "%s", name)
                       : error_context(&cli->error, status, "%s, step %zu", name, i + 1);
        uint64_t now = clock_monotonic_ns();
        losses += loss;
        if (first != SIZE_MAX && (first + i) % s->step_stride == 0)
            s->record.step_ms[s->record.step_count++] = (double)(now - before) / 1e6;
        before = now;
        if (number == 0 && i + 1 == OUTLOOK_STEPS)
            tell_outlook(s, (double)(now - begin) / 1e9);
        if (s->rank == 0 && !progress.update(progress.cookie, name, i + 1, asked->epoch_steps))
            return check_interrupted(cli);
        if (s->rank != 0)
            TRY(check_interrupted(cli));
    }
    *epoch = (struct train_epoch){.seconds = (double)(before - begin) / 1e9,
                                  .loss = losses / (double)asked->epoch_steps,
                                  .samples = asked->epoch_steps * asked->trainer.batch * s->world};
    progress_clear(&cli->progress);
    return AKIN_OK;
}

static enum akin_status run_epochs(struct session *s)
{
    const struct train_asked *asked = s->asked;
    struct process_group_report waited;
    struct gpu_usage usage;
    struct train_epoch epoch;
    char name[64];
    bool shown = s->rank == 0 && !s->cli->json;
    for (size_t i = 0; i < asked->warmups; i++) {
        TRY(run_epoch(s, i, "warm-up", SIZE_MAX, &epoch));
        if (shown)
            train_print_epoch(asked, &epoch, 0);
    }
    process_group_report(s->group, &waited);    /* from here on it is measured */
    if (!strcmp(s->place.device->ops->name, "cuda"))
        s->monitor = gpu_monitor_start(NULL, process_group_local_rank(s->group), MONITOR_MS);
    for (size_t i = 0; i < asked->epochs; i++) {
        struct samples_stats stats;
        snprintf(name, sizeof name, "epoch %zu of %zu", i + 1, asked->epochs);
        uint64_t cpu = clock_process_cpu_ns();
        TRY(run_epoch(s, asked->warmups + i, name, i * asked->epoch_steps,
                      &s->record.epochs[i]));
        s->mine.cpu_s += (double)(clock_process_cpu_ns() - cpu) / 1e9;
        samples_stats(s->samples, &stats);
        s->mine.data_wait_s += stats.wait_seconds;
        s->mine.read_bytes += (double)stats.bytes_read;
        if (shown)
            train_print_epoch(asked, &s->record.epochs[i], i + 1);
    }
    process_group_report(s->group, &waited);
    gpu_monitor_stop(&s->monitor, &usage);
    s->mine.busy_pct = usage.busy_pct;
    s->mine.energy_j = usage.energy_j;
    s->mine.sm_mhz = usage.sm_mhz;
    s->mine.comm_s = waited.waited_seconds;
    s->mine.peak_memory_bytes =
        s->asked->cuda
            ? (double)gpu_peak_bytes(cli_setting(s->cli, "cuda_library"), s->place.device)
            : (double)akin_peak_rss_bytes();
    return AKIN_OK;
}

/* ---- the end ----------------------------------------------------------------------------- */

/* Every rank learns what each did: all but its own place are zero before the sum. */
static enum akin_status gather(struct session *s)
{
    static_assert(sizeof(struct train_device_record) % sizeof(double) == 0, "doubles only");
    size_t fields = sizeof(struct train_device_record) / sizeof(double);
    double values[sizeof(struct train_device_record) / sizeof(double)];
    for (size_t rank = 0; rank < s->world; rank++) {
        memset(values, 0, sizeof values);
        if (rank == s->rank)
            memcpy(values, &s->mine, sizeof values);
        TRY(process_group_sum(s->group, values, fields, &s->cli->error));
        memcpy(&s->record.devices[rank], values, sizeof values);
    }
    return AKIN_OK;
}

static enum akin_status write_report(struct session *s)
{
    struct cli *cli = s->cli;
    struct train_sums sums;
    char name[160];
    train_record_sums(s->asked, &s->record, &sums);
    json_t *report = train_record_json(s->asked, &s->record, &sums);
    if (!report)
        return error_memory(&cli->error);
    report_common(cli, report);
    if (s->asked->reference)
        json_object_set_new(report, "kernels", json_string("reference"));
    if (s->asked->cuda) {
        json_object_set_new(report, "kernels", json_string("cuda"));
        json_object_set_new(report, "device", json_string("cuda"));
    }
    if (!cli->json)
        train_print_end(s->asked, &s->record, &sums);
    train_record_name(&s->record, name, sizeof name);
    return report_write_as(cli, name, report);
}

static enum akin_status run_benchmark(struct session *s)
{
    TRY(open_data(s));
    TRY(plan_steps(s));
    TRY(measure_machine(s));
    if (s->rank == 0 && !s->cli->json)
        train_print_begin(s->cli, s->asked, &s->record);
    TRY(run_epochs(s));
    if (s->rank == 0 && s->asked->save)
        TRY(trainer_save(s->trainer, s->asked->save, &s->cli->error));
    TRY(gather(s));
    return s->rank == 0 ? write_report(s) : AKIN_OK;
}

static void close_session(struct session *s)
{
    struct gpu_usage unused;
    gpu_monitor_stop(&s->monitor, &unused);
    samples_close(&s->samples);
    trainer_destroy(&s->trainer);
    train_place_close(&s->place);
    memory_free(s->source);
    memory_free(s->target);
    memory_free(s->record.epochs);
    memory_free(s->record.step_ms);
    memory_free(s->record.devices);
}

/* One rank, from start to end; the exit code of its process where it has one of its own. */
static int run_rank(void *context, struct process_group *group)
{
    struct session *s = context;
    s->group = group;
    s->rank = process_group_rank(group);
    s->world = process_group_world(group);
    if (s->rank > 0)
        s->cli->progress.quiet = s->cli->quiet = true;
    s->status = open_engine(s);
    if (s->status == AKIN_OK)
        s->status = open_trainer(s);
    if (s->status == AKIN_OK)
        s->status = s->asked->batch_src
                        ? train_given(s->cli, s->asked, s->trainer, s->rank, s->world)
                        : run_benchmark(s);
    if (s->status != AKIN_OK)
        process_group_fail(group, s->cli->error.message);
    close_session(s);
    if (s->status == AKIN_OK || s->world == 1)
        return s->status != AKIN_OK;
    bool told = s->asked->processes > 1 && s->status == AKIN_NETWORK;  /* by who forked this */
    if (!signals_interrupted() && !told) {
        char who[32] = "";
        if (s->rank > 0)
            snprintf(who, sizeof who, "rank %zu: ", s->rank);
        print_message(who, s->cli->error.message);
    }
    return signals_interrupted() ? 130 : 1;
}

/* A rank is lost while this one computes: there is nothing to wait for. */
static void end_lost(void *context, const struct akin_error *error)
{
    (void)context;
    print_message("", error->message);
    _exit(1);
}

static const char *environment(const char *name)
{
    return getenv(name);
}

enum akin_status train_run(struct cli *cli, struct train_asked *asked)
{
    struct session session = {.cli = cli, .asked = asked};
    const struct launch_settings launch = {
        .processes = asked->processes > 1 ? asked->processes : 0,
        .environment = asked->processes == 1 ? NULL : environment,
        .lost = end_lost};
    int code = 0;
    fflush(stdout);
    enum akin_status status =
        process_group_run(&launch, run_rank, &session, &code, &cli->error);
    if (session.status != AKIN_OK)
        return session.status;
    if (code == 130 || status == AKIN_CANCELLED)
        raise(SIGINT);          /* the ranks got it: now this process knows as well */
    if (status != AKIN_OK)
        return status;
    if (code != 0)
        return error_set(&cli->error, AKIN_NETWORK, "a process of this training failed");
    return AKIN_OK;
}
