/* What akin bench train shows to people. */
#include <math.h>

#include "cli/bench_train.h"
#include "cli/report.h"

/* A process that has its CPUs for itself is busy, waits for data or waits for its fellows. */
enum { BUSY_PCT_MIN = 70 };

static void print_model(const struct train_asked *asked, const struct train_record *record)
{
    const struct transformer_shape *s = &asked->trainer.shape;
    char a[NUMBER_BYTES], b[NUMBER_BYTES];
    report_line("model", "%s parameters: width %zu, %zu heads, %zu + %zu layers, feed-forward %zu",
                format_count(a, record->parameters), s->d_model, s->nhead, s->encoder_layers,
                s->decoder_layers, s->feed_forward);
    report_line("batch", "%zu samples of %zu + %zu tokens, vocabulary %s, dropout %g",
                asked->trainer.batch * record->count, s->seq_len, s->seq_len,
                format_count(a, s->vocab), (double)asked->trainer.dropout);
    if (asked->cuda)
        report_line("GPUs", "%zu %s, CUDA %s, driver %s%s%s", record->count, record->device_name,
                    record->cuda, record->driver[0] ? record->driver : "unknown",
                    record->count > 1 ? ", gradients summed by " : "",
                    record->count > 1 ? record->link : "");
    else if (record->count > 1)
        report_line("processes", "%zu of %d thread%s, %zu samples each, joined by %s",
                    record->count, record->threads, record->threads == 1 ? "" : "s",
                    asked->trainer.batch, record->link);
    const char *amp = asked->cuda ? ", sums in fp32" : ", sums in fp32 (--amp on a CPU is bf16)";
    report_line("products", "%s%s", train_precision_name(asked->trainer.precision),
                asked->amp ? amp : "");
    if (asked->data_dir)
        report_line("data", "%s samples (%s) in %zu shards of %s", format_count(a, asked->samples),
                    format_bytes(b, (uint64_t)record->data_bytes), record->shards,
                    asked->data_dir);
    else
        report_line("data", "%s samples, made in memory as they are needed",
                    format_count(a, asked->samples));
    report_line("epochs", "%zu to warm up, %zu measured, of %s steps", asked->warmups,
                asked->epochs, format_count(a, asked->epoch_steps));
}

static void print_memory(const struct trainer_bytes *b)
{
    char total[NUMBER_BYTES], learned[NUMBER_BYTES], passing[NUMBER_BYTES];
    report_line("memory planned", "%s: %s for parameters, gradients and moments, %s for a pass",
                format_bytes(total, b->total),
                format_bytes(learned, b->parameters + b->gradients + b->moments),
                format_bytes(passing, b->activations + b->scratch));
}

void train_print_begin(struct cli *cli, const struct train_asked *asked,
                       const struct train_record *record)
{
    report_machine(cli);
    print_model(asked, record);
    print_memory(&record->planned);
    printf("\n  %-8s %10s %12s %12s %12s %10s\n", "epoch", "time", "samples", "samples/s",
           "tokens/s", "loss");
    fflush(stdout);
}

void train_print_epoch(const struct train_asked *asked, const struct train_epoch *epoch,
                       size_t number)
{
    char name[24] = "warm-up", count[NUMBER_BYTES], tokens[NUMBER_BYTES];
    double rate = epoch->seconds > 0 ? (double)epoch->samples / epoch->seconds : 0;
    if (number > 0)
        snprintf(name, sizeof name, "%zu", number);
    printf("  %-8s %8.2f s %12s %12.1f %12s %10.4f\n", name, epoch->seconds,
           format_count(count, epoch->samples), rate,
           format_count(tokens,
                        (uint64_t)(rate * 2 * (double)asked->trainer.shape.seq_len + 0.5)),
           epoch->loss);
    fflush(stdout);
}

static void print_speed(const struct train_sums *s)
{
    char tokens[NUMBER_BYTES];
    report_line("throughput", "%.1f samples/s, %s tokens/s", s->samples_per_s,
                format_count(tokens, (uint64_t)(s->tokens_per_s + 0.5)));
    report_line("time per epoch", "%.2f s", s->epoch_seconds);
    report_line("step", "p50 %.2f ms, p95 %.2f ms, p99 %.2f ms", s->step_p50_ms, s->step_p95_ms,
                s->step_p99_ms);
}

static void print_use(const struct train_asked *asked, const struct train_record *record,
                      const struct train_sums *s)
{
    if (!asked->cuda) {
        report_line("CPUs busy", "%.1f %% of %d thread%s%s", s->utilisation_pct, record->threads,
                    record->threads == 1 ? "" : "s", record->count > 1 ? " each" : "");
        if (s->utilisation_pct + s->data_wait_pct + s->comm_pct < BUSY_PCT_MIN)
            report_line("", "the CPUs were at other work as well: the figures are too low");
        return;
    }
    for (size_t i = 0; i < record->count; i++) {
        const struct train_device_record *d = &record->devices[i];
        if (isfinite(d->busy_pct))
            report_line(i ? "" : "GPUs busy", "%.1f %%, %.0f MHz, %.0f J", d->busy_pct, d->sm_mhz,
                        d->energy_j);
        else
            report_line(i ? "" : "GPUs busy", "not known: the driver's library does not say");
    }
}

void train_print_end(const struct train_asked *asked, const struct train_record *record,
                     const struct train_sums *s)
{
    char memory[NUMBER_BYTES];
    printf("\nSummary of %zu measured epoch%s\n", asked->epochs, asked->epochs == 1 ? "" : "s");
    print_speed(s);
    if (isfinite(s->mfu_pct))
        report_line("model FLOP/s", "%.4f TFLOP/s, %.1f %% of %.4f (%s)", s->model_tflops,
                    s->mfu_pct, s->peak_tflops, record->peak_source);
    else
        report_line("model FLOP/s", "%.4f TFLOP/s", s->model_tflops);
    if (asked->data_dir)
        report_line("waited for data", "%.1f %% of the time, %.3f GB/s read", s->data_wait_pct,
                    s->read_gb_per_s);
    else
        report_line("waited for data", "%.1f %% of the time", s->data_wait_pct);
    if (record->count > 1 && !isfinite(record->measured_allreduce_ms))
        report_line("waited for sums", "%.1f %% of the time", s->comm_pct);
    else if (record->count > 1)
        report_line("waited for sums",
                    "%.1f %% of the time; a sum of all gradients by %s takes %.2f ms, expected "
                    "%.2f", s->comm_pct, record->link, record->measured_allreduce_ms,
                    record->expected_allreduce_ms);
    print_use(asked, record, s);
    report_line("peak memory", "%s%s", format_bytes(memory, (uint64_t)s->peak_memory_bytes),
                record->count == 1 ? ""
                : asked->cuda      ? " on one GPU"
                                   : " in one process");
}
