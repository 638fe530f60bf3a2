/* The report of akin bench train: what follows from what was measured, and its JSON. The four
 * objects metadata, config, summary and epochs have the keys of the PyTorch script that this
 * benchmark is comparable with, and no others; what is ours stands beside them. docs/training.md
 * explains every key. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/train_record.h"

const char *train_precision_name(enum train_precision precision)
{
    return precision == TRAIN_FP32 ? "fp32" : precision == TRAIN_BF16 ? "bf16" : "fp16";
}

/* ---- what follows ------------------------------------------------------------------------ */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The smallest value that at least `share` of the sorted ones do not exceed. */
static double quantile(const double *sorted, size_t count, double share)
{
    if (count == 0)
        return NAN;
    size_t rank = (size_t)ceil(share * (double)count);
    return sorted[rank > 0 ? rank - 1 : 0];
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : NAN;
}

/* Per cent: of the CPUs' time, or of the time in which the GPU did anything. */
static double use_of(const struct train_record *record, const struct train_device_record *device,
                     double seconds)
{
    if (!strcmp(record->device, "cuda"))
        return device->busy_pct;
    return 100 * ratio(device->cpu_s, seconds * record->threads);
}

/* Over devices: means of shares, sums of work. */
static void add_devices(const struct train_record *record, struct train_sums *s)
{
    double n = (double)record->count;
    for (size_t i = 0; i < record->count; i++) {
        const struct train_device_record *d = &record->devices[i];
        s->peak_tflops += d->peak_flops / 1e12;
        s->data_wait_pct += 100 * ratio(d->data_wait_s, s->seconds) / n;
        s->comm_pct += 100 * ratio(d->comm_s, s->seconds) / n;
        s->utilisation_pct += use_of(record, d, s->seconds) / n;
        s->energy_j += d->energy_j;
        s->read_gb_per_s += ratio(d->read_bytes / 1e9, s->seconds);
        s->peak_memory_bytes = fmax(s->peak_memory_bytes, d->peak_memory_bytes);
    }
}

void train_record_sums(const struct train_asked *asked, struct train_record *record,
                       struct train_sums *sums)
{
    struct train_sums s = {0};
    double steps_ms = 0;
    for (size_t i = 0; i < asked->epochs; i++) {
        s.seconds += record->epochs[i].seconds;
        s.samples += (double)record->epochs[i].samples;
    }
    qsort(record->step_ms, record->step_count, sizeof *record->step_ms, compare_doubles);
    for (size_t i = 0; i < record->step_count; i++)
        steps_ms += record->step_ms[i];
    add_devices(record, &s);
    s.tokens = s.samples * 2 * (double)asked->trainer.shape.seq_len;
    s.epoch_seconds = s.seconds / (double)asked->epochs;
    s.samples_per_s = ratio(s.samples, s.seconds);
    s.tokens_per_s = ratio(s.tokens, s.seconds);
    s.model_tflops = s.samples_per_s * transformer_sample_flops(&asked->trainer.shape) / 1e12;
    s.mfu_pct = 100 * ratio(s.model_tflops, s.peak_tflops);
    s.step_p50_ms = quantile(record->step_ms, record->step_count, 0.5);
    s.step_p95_ms = quantile(record->step_ms, record->step_count, 0.95);
    s.step_p99_ms = quantile(record->step_ms, record->step_count, 0.99);
    s.step_mean_ms = ratio(steps_ms, (double)record->step_count);
    *sums = s;
}

void train_record_name(const struct train_record *record, char *name, size_t bytes)
{
    char model[64];
    size_t n = 0;
    for (const char *c = record->device_name; *c && n + 1 < sizeof model; c++) {
        if (isalnum((unsigned char)*c))
            model[n++] = *c;
        else if (n > 0 && model[n - 1] != '_')
            model[n++] = '_';
    }
    while (n > 0 && model[n - 1] == '_')
        n--;
    model[n] = '\0';
    snprintf(name, bytes, "bench_%s_%zu%s", n ? model : "unknown", record->count,
             strcmp(record->device, "cuda") ? "cpu" : "gpu");
}

/* ---- the keys of the script -------------------------------------------------------------- */

static json_t *metadata_json(const struct train_record *record)
{
    struct akin_machine machine;
    struct utsname name;
    char platform[256] = "";
    akin_machine_describe(&machine);
    if (uname(&name) == 0)
        snprintf(platform, sizeof platform, "%.60s-%.100s-%.60s", name.sysname, name.release,
                 name.machine);
    json_t *o = json_object();
    json_object_set_new(o, "timestamp", json_of_time(clock_unix_seconds()));
    json_object_set_new(o, "hostname", json_of_text(machine.hostname));
    json_object_set_new(o, "gpu_name", json_of_text(record->device_name));
    json_object_set_new(o, "gpu_count", json_of_count(record->count));
    json_object_set_new(o, "cuda_version", json_of_known(record->cuda));
    json_object_set_new(o, "pytorch_version", json_null());
    json_object_set_new(o, "python_version", json_null());
    json_object_set_new(o, "platform", json_of_known(platform));
    return o;
}

static json_t *config_json(const struct train_asked *asked, const struct train_record *record)
{
    const struct transformer_shape *s = &asked->trainer.shape;
    json_t *o = json_object();
    json_object_set_new(o, "model_params", json_of_count(record->parameters));
    json_object_set_new(o, "d_model", json_of_count(s->d_model));
    json_object_set_new(o, "nhead", json_of_count(s->nhead));
    json_object_set_new(o, "num_encoder_layers", json_of_count(s->encoder_layers));
    json_object_set_new(o, "num_decoder_layers", json_of_count(s->decoder_layers));
    json_object_set_new(o, "dim_feedforward", json_of_count(s->feed_forward));
    json_object_set_new(o, "batch_size_per_gpu", json_of_count(asked->trainer.batch));
    json_object_set_new(o, "effective_batch_size",
                        json_of_count(asked->trainer.batch * record->count));
    json_object_set_new(o, "seq_len", json_of_count(s->seq_len));
    json_object_set_new(o, "vocab_size", json_of_count(s->vocab));
    json_object_set_new(o, "num_samples", json_of_count(asked->samples));
    json_object_set_new(o, "dataset_size_gb", json_of_double(record->data_bytes / 0x1p30));
    json_object_set_new(o, "data_source", json_string(asked->data_dir ? "disk" : "memory"));
    json_object_set_new(o, "num_shards",
                        record->shards ? json_of_count(record->shards) : json_null());
    json_object_set_new(o, "amp", json_boolean(asked->amp));
    json_object_set_new(o, "num_workers", json_of_count(asked->workers));
    json_object_set_new(o, "warmup_epochs", json_of_count(asked->warmups));
    json_object_set_new(o, "measured_epochs", json_of_count(asked->epochs));
    return o;
}

static json_t *summary_json(const struct train_sums *sums)
{
    json_t *o = json_object();
    json_object_set_new(o, "avg_wall_time_per_epoch_s", json_of_double(sums->epoch_seconds));
    json_object_set_new(o, "avg_throughput_samples_per_s", json_of_double(sums->samples_per_s));
    json_object_set_new(o, "peak_gpu_memory_mb",
                        json_of_double(sums->peak_memory_bytes / 0x1p20));
    json_object_set_new(o, "avg_gpu_utilisation_pct", json_of_double(sums->utilisation_pct));
    return o;
}

static json_t *epochs_json(const struct train_asked *asked, const struct train_record *record)
{
    json_t *array = json_array();
    for (size_t i = 0; i < asked->epochs; i++) {
        const struct train_epoch *e = &record->epochs[i];
        json_t *o = json_object();
        json_object_set_new(o, "epoch", json_of_count(i + 1));
        json_object_set_new(o, "wall_time_s", json_of_double(e->seconds));
        json_object_set_new(o, "total_samples", json_of_count(e->samples));
        json_object_set_new(o, "throughput_samples_per_s",
                            json_of_double(ratio((double)e->samples, e->seconds)));
        json_object_set_new(o, "avg_loss", json_of_double(e->loss));
        json_array_append_new(array, o);
    }
    return array;
}

/* ---- what is ours ------------------------------------------------------------------------ */

/* A setting as it was given: 0.1, not the float that is nearest to it. */
static json_t *json_of_float(float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)value);
    return json_of_double(strtod(text, NULL));
}

static json_t *run_json(const struct train_asked *asked)
{
    static const char *const optimizers[] = {
        [TRAIN_ADAMW] = "adamw", [TRAIN_ADAM] = "adam", [TRAIN_SGD] = "sgd"};
    const struct trainer_settings *t = &asked->trainer;
    json_t *o = json_object();
    json_object_set_new(o, "precision", json_string(train_precision_name(t->precision)));
    json_object_set_new(o, "steps_per_epoch", json_of_count(asked->epoch_steps));
    json_object_set_new(o, "dropout", json_of_float(t->dropout));
    json_object_set_new(o, "optimizer", json_string(optimizers[t->update.optimizer]));
    json_object_set_new(o, "lr", json_of_float(t->update.rate));
    json_object_set_new(o, "weight_decay", json_of_float(t->update.decay));
    json_object_set_new(o, "seed", json_of_count(t->seed));
    json_object_set_new(o, "slice", json_of_count(t->slice));
    json_object_set_new(o, "recompute", json_boolean(t->recompute));
    json_object_set_new(o, "token_type", json_string(!asked->data_dir  ? "i32"
                                                     : asked->narrow ? "u16"
                                                                     : "i64"));
    return o;
}

static json_t *bytes_json(const struct trainer_bytes *b)
{
    json_t *o = json_object();
    json_object_set_new(o, "parameters", json_of_count(b->parameters));
    json_object_set_new(o, "gradients", json_of_count(b->gradients));
    json_object_set_new(o, "moments", json_of_count(b->moments));
    json_object_set_new(o, "activations", json_of_count(b->activations));
    json_object_set_new(o, "scratch", json_of_count(b->scratch));
    json_object_set_new(o, "total", json_of_count(b->total));
    return o;
}

static json_t *steps_json(const struct train_record *record, const struct train_sums *sums)
{
    json_t *o = json_object();
    json_object_set_new(o, "count", json_of_count(record->steps));
    json_object_set_new(o, "mean", json_of_double(sums->step_mean_ms));
    json_object_set_new(o, "p50", json_of_double(sums->step_p50_ms));
    json_object_set_new(o, "p95", json_of_double(sums->step_p95_ms));
    json_object_set_new(o, "p99", json_of_double(sums->step_p99_ms));
    return o;
}

static json_t *devices_json(const struct train_record *record, const struct train_sums *sums)
{
    json_t *array = json_array();
    for (size_t i = 0; i < record->count; i++) {
        const struct train_device_record *d = &record->devices[i];
        json_t *o = json_object();
        json_object_set_new(o, "rank", json_of_count(i));
        json_object_set_new(o, "threads", json_integer(record->threads));
        json_object_set_new(o, "peak_memory_mb", json_of_double(d->peak_memory_bytes / 0x1p20));
        json_object_set_new(o, "utilisation_pct",
                            json_of_double(use_of(record, d, sums->seconds)));
        json_object_set_new(o, "data_wait_pct",
                            json_of_double(100 * ratio(d->data_wait_s, sums->seconds)));
        json_object_set_new(o, "comm_pct", json_of_double(100 * ratio(d->comm_s, sums->seconds)));
        json_object_set_new(o, "energy_j", json_of_double(d->energy_j));
        json_object_set_new(o, "clock_mhz", json_of_double(d->sm_mhz));
        json_array_append_new(array, o);
    }
    return array;
}

static void add_speed(const struct train_asked *asked, const struct train_record *record,
                      const struct train_sums *sums, json_t *o)
{
    json_object_set_new(o, "tokens_per_s", json_of_double(sums->tokens_per_s));
    json_object_set_new(o, "model_tflops", json_of_double(sums->model_tflops));
    json_object_set_new(o, "mfu_pct", json_of_double(sums->mfu_pct));
    json_object_set_new(o, "mfu_peak_tflops",
                        sums->peak_tflops > 0 ? json_of_double(sums->peak_tflops) : json_null());
    json_object_set_new(o, "mfu_peak_source", json_of_known(record->peak_source));
    json_object_set_new(o, "step_ms", steps_json(record, sums));
    json_object_set_new(o, "data_wait_pct", json_of_double(sums->data_wait_pct));
    json_object_set_new(o, "data_read_gb_per_s",
                        asked->data_dir ? json_of_double(sums->read_gb_per_s) : json_null());
    json_object_set_new(o, "comm_pct", json_of_double(sums->comm_pct));
    json_object_set_new(o, "link", json_of_known(record->link));
    json_object_set_new(o, "allreduce_bytes", json_of_double(record->reduced_bytes));
    json_object_set_new(o, "expected_allreduce_ms", json_of_double(record->expected_allreduce_ms));
    json_object_set_new(o, "measured_allreduce_ms", json_of_double(record->measured_allreduce_ms));
}

json_t *train_record_json(const struct train_asked *asked, const struct train_record *record,
                          const struct train_sums *sums)
{
    json_t *o = json_object();
    json_object_set_new(o, "metadata", metadata_json(record));
    json_object_set_new(o, "config", config_json(asked, record));
    json_object_set_new(o, "summary", summary_json(sums));
    json_object_set_new(o, "epochs", epochs_json(asked, record));
    json_object_set_new(o, "run", run_json(asked));
    add_speed(asked, record, sums, o);
    json_object_set_new(o, "energy_j", json_of_double(sums->energy_j));
    json_object_set_new(o, "gpu_driver", json_of_known(record->driver));
    json_object_set_new(o, "cublaslt_version", json_of_known(record->blas));
    json_object_set_new(o, "devices", devices_json(record, sums));
    json_object_set_new(o, "memory_planned_bytes", bytes_json(&record->planned));
    return o;
}
