/* Reads reports of training runs, and works out what they say about each other. */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "base/limits.h"
#include "cli/bench_compare.h"

/* ---- reading ----------------------------------------------------------------------------- */

static enum akin_status get_object(const json_t *report, const char *key, const char *path,
                                   json_t **object, struct akin_error *error)
{
    *object = json_object_get(report, key);
    if (!json_is_object(*object))
        return error_set(error, AKIN_FORMAT,
                         "%s: %s: expected an object, found %s; reports of training come from "
                         "akin bench train",
                         path, key, json_type_name(*object));
    return AKIN_OK;
}

static enum akin_status get_size(const json_t *object, const char *key, const char *where,
                                 double *value, struct akin_error *error)
{
    TRY(json_opt_number(object, key, where, value, error));
    if (*value < 0 || *value > 1e15)
        return error_set(error, AKIN_FORMAT, "%s: %s: %g is no size or speed: expected 0 to 1e15",
                         where, key, *value);
    return AKIN_OK;
}

static enum akin_status read_summary(struct compared_run *run, const json_t *metadata,
                                     const json_t *config, const json_t *summary,
                                     struct akin_error *error)
{
    const struct {
        const json_t *object;
        const char *part, *key;
        double *value;
    } fields[] = {
        {metadata, "metadata", "gpu_count", &run->devices},
        {config, "config", "num_samples", &run->num_samples},
        {config, "config", "seq_len", &run->seq_len},
        {summary, "summary", "avg_throughput_samples_per_s", &run->samples_per_s},
        {summary, "summary", "avg_wall_time_per_epoch_s", &run->epoch_s},
        {summary, "summary", "peak_gpu_memory_mb", &run->memory_mb},
        {summary, "summary", "avg_gpu_utilisation_pct", &run->utilisation_pct},
        {run->report, "report", "mfu_pct", &run->mfu_pct},
    };
    char where[PATH_BYTES_MAX];
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        *fields[i].value = NAN;
        snprintf(where, sizeof where, "%s: %s", run->path, fields[i].part);
        TRY(get_size(fields[i].object, fields[i].key, where, fields[i].value, error));
    }
    const json_t *steps = json_object_get(run->report, "step_ms");
    run->step_p50_ms = NAN;
    if (json_is_object(steps)) {
        snprintf(where, sizeof where, "%s: step_ms", run->path);
        TRY(get_size(steps, "p50", where, &run->step_p50_ms, error));
    }
    return AKIN_OK;
}

static enum akin_status read_run(struct compared_run *run, const char *path,
                                 struct akin_error *error)
{
    json_t *metadata, *config, *summary;
    const char *device = "";
    char where[PATH_BYTES_MAX];
    run->path = memory_copy_string(path);
    if (!run->path)
        return error_memory(error);
    TRY(json_read(path, JSON_FILE_BYTES_MAX, &run->report, error));
    if (!json_is_object(run->report))
        return error_set(error, AKIN_FORMAT, "%s: expected an object, found %s", path,
                         json_type_name(run->report));
    TRY(get_object(run->report, "metadata", path, &metadata, error));
    TRY(get_object(run->report, "config", path, &config, error));
    TRY(get_object(run->report, "summary", path, &summary, error));
    snprintf(where, sizeof where, "%s: metadata", path);
    TRY(json_opt_string(metadata, "gpu_name", where, &device, error));
    snprintf(run->device, sizeof run->device, "%s", device);
    run->price = run->scaling_pct = run->tokens_per_s = NAN;
    run->dollars_per_million = run->dollars_per_epoch = NAN;
    return read_summary(run, metadata, config, summary, error);
}

static enum akin_status add_file(struct comparison *c, const char *path, struct akin_error *error)
{
    for (size_t i = 0; i < c->count; i++)
        if (!strcmp(c->runs[i].path, path))
            return AKIN_OK;     /* named, and in a folder that is named as well */
    if (c->count == COMPARE_RUNS_MAX)
        return error_set(error, AKIN_LIMIT, "%s: more than %d reports", path, COMPARE_RUNS_MAX);
    return read_run(&c->runs[c->count++], path, error);
}

static bool is_report_name(const char *name)
{
    size_t n = strlen(name);
    return !strncmp(name, "bench_", 6) && n > 5 && !strcmp(name + n - 5, ".json");
}

enum akin_status comparison_add(struct comparison *c, const char *path, struct akin_error *error)
{
    struct names names = {0};
    char file[PATH_BYTES_MAX];
    size_t found = 0;
    enum akin_status status = AKIN_OK;
    if (!path_is_folder(path))
        return add_file(c, path, error);
    TRY_DONE(path_list(path, &names, error));
    for (size_t i = 0; i < names.count; i++) {
        if (!is_report_name(names.items[i]))
            continue;
        TRY_DONE(path_join(file, sizeof file, path, names.items[i], error));
        TRY_DONE(add_file(c, file, error));
        found++;
    }
    if (!found)
        status = error_set(error, AKIN_NOT_FOUND,
                           "%s: no bench_*.json in this folder; akin bench train writes them",
                           path);
done:
    names_deinit(&names);
    return status;
}

void comparison_deinit(struct comparison *c)
{
    for (size_t i = 0; i < c->count; i++) {
        memory_free(c->runs[i].path);
        json_decref(c->runs[i].report);
    }
    for (size_t i = 0; i < c->difference_count; i++)
        memory_free(c->differences[i]);
    *c = (struct comparison){0};
}

/* ---- are they of one kind ---------------------------------------------------------------- */

static const struct {
    const char *part, *key;
    const char *standard;       /* what a report means that does not say; NULL: anything */
} compared_fields[] = {
    {"config", "d_model", NULL},
    {"config", "nhead", NULL},
    {"config", "num_encoder_layers", NULL},
    {"config", "num_decoder_layers", NULL},
    {"config", "dim_feedforward", NULL},
    {"config", "seq_len", NULL},
    {"config", "vocab_size", NULL},
    {"config", "model_params", NULL},
    {"config", "num_samples", NULL},
    {"config", "amp", NULL},
    {"config", "data_source", NULL},
    {"run", "dropout", "0.1"},
    {"run", "optimizer", "adamw"},
};

/* The script names the folder behind "disk". */
static const char *data_source(const char *text)
{
    return !strncmp(text, "disk", 4) || strchr(text, '/') ? "disk" : "memory";
}

/* "" where the report does not say. */
static void field_text(const struct compared_run *run, size_t field, char *text, size_t bytes)
{
    const char *key = compared_fields[field].key, *standard = compared_fields[field].standard;
    const json_t *part = json_object_get(run->report, compared_fields[field].part);
    const json_t *value = json_object_get(part, key);
    if (json_is_string(value))
        snprintf(text, bytes, "%.60s", !strcmp(key, "data_source")
                                           ? data_source(json_string_value(value))
                                           : json_string_value(value));
    else if (json_is_number(value))
        snprintf(text, bytes, "%.6g", json_number_value(value));
    else if (json_is_boolean(value))
        snprintf(text, bytes, "%s", json_is_true(value) ? "true" : "false");
    else
        snprintf(text, bytes, "%s", standard ? standard : "");
}

/* Runs are told apart by batch only where neither what a device gets nor what all get is equal. */
static bool batches_differ(const struct compared_run *a, const struct compared_run *b, double *of_a,
                           double *of_b)
{
    static const char *const keys[] = {"batch_size_per_gpu", "effective_batch_size"};
    const json_t *x = json_object_get(a->report, "config"), *y = json_object_get(b->report,
                                                                                 "config");
    bool differ = true;
    for (size_t i = 0; i < 2; i++) {
        *of_a = json_number_value(json_object_get(x, keys[i]));
        *of_b = json_number_value(json_object_get(y, keys[i]));
        differ = differ && *of_a > 0 && *of_b > 0 && *of_a != *of_b;
    }
    return differ;
}

__attribute__((format(printf, 4, 5)))
static enum akin_status differ(struct comparison *c, bool force, struct akin_error *error,
                               const char *format, ...)
{
    char text[640];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!force)
        return error_set(error, AKIN_ARGUMENT,
                         "%s; different work has no common speed: leave one out, or add --force",
                         text);
    if (c->difference_count < COMPARE_DIFFERENCES_MAX) {
        char *copy = memory_copy_string(text);
        if (!copy)
            return error_memory(error);
        c->differences[c->difference_count++] = copy;
    }
    return AKIN_OK;
}

static enum akin_status check_alike(struct comparison *c, size_t run, bool force,
                                    struct akin_error *error)
{
    const struct compared_run *first = &c->runs[0], *other = &c->runs[run];
    const char *a = path_last(first->path), *b = path_last(other->path);
    char of_a[80], of_b[80];
    double batch_a, batch_b;
    for (size_t i = 0; i < sizeof compared_fields / sizeof *compared_fields; i++) {
        field_text(first, i, of_a, sizeof of_a);
        field_text(other, i, of_b, sizeof of_b);
        if (*of_a && *of_b && strcmp(of_a, of_b))
            TRY(differ(c, force, error, "%s.%s is %s in %.200s and %s in %.200s",
                       compared_fields[i].part, compared_fields[i].key, of_a, a, of_b, b));
    }
    if (batches_differ(first, other, &batch_a, &batch_b))
        TRY(differ(c, force, error,
                   "config.effective_batch_size is %g in %.200s and %g in %.200s", batch_a, a,
                   batch_b, b));
    return AKIN_OK;
}

/* ---- what follows ------------------------------------------------------------------------ */

enum akin_status comparison_price(struct comparison *c, const double *prices, size_t count,
                                  struct akin_error *error)
{
    if (count > 1 && count != c->count)
        return error_set(error, AKIN_ARGUMENT,
                         "--cost has %zu prices for %zu reports; give one for all, or one each, "
                         "in their order",
                         count, c->count);
    for (size_t i = 0; count > 0 && i < c->count; i++)
        c->runs[i].price = prices[count == 1 ? 0 : i];
    return AKIN_OK;
}

static double scaling_of(const struct comparison *c, const struct compared_run *run)
{
    double alone = NAN;
    for (size_t i = 0; i < c->count; i++) {
        const struct compared_run *other = &c->runs[i];
        if (other->devices == 1 && !strcmp(other->device, run->device))
            alone = fmax(alone, other->samples_per_s);
    }
    return alone > 0 && run->devices > 0 ? 100 * run->samples_per_s / (alone * run->devices) : NAN;
}

static double column_value(const struct compared_run *run, enum compare_column column)
{
    switch (column) {
    case COMPARE_SAMPLES: return run->samples_per_s;
    case COMPARE_SCALING: return run->devices > 1 ? run->scaling_pct : NAN;
    case COMPARE_MEMORY: return -run->memory_mb;
    case COMPARE_MFU: return run->mfu_pct;
    case COMPARE_MILLION: return -run->dollars_per_million;
    case COMPARE_EPOCH: return -run->dollars_per_epoch;
    }
    return NAN;
}

/* A best value is better than another one that is known; equal ones are all best. */
static void mark_best(struct comparison *c, enum compare_column column)
{
    double best = NAN, worst = NAN;
    for (size_t i = 0; i < c->count; i++) {
        double value = column_value(&c->runs[i], column);
        best = fmax(best, value);
        worst = fmin(worst, value);
    }
    for (size_t i = 0; best > worst && i < c->count; i++)
        if (column_value(&c->runs[i], column) == best)
            c->runs[i].best |= 1u << column;
}

enum akin_status comparison_finish(struct comparison *c, bool force, struct akin_error *error)
{
    for (size_t i = 1; i < c->count; i++)
        TRY(check_alike(c, i, force, error));
    for (size_t i = 0; i < c->count; i++) {
        struct compared_run *run = &c->runs[i];
        double hour = run->price * run->devices;
        run->scaling_pct = scaling_of(c, run);
        run->tokens_per_s = run->samples_per_s * 2 * run->seq_len;
        if (run->samples_per_s > 0) {
            run->dollars_per_million = hour / 3600 / run->samples_per_s * 1e6;
            run->dollars_per_epoch = hour / 3600 * run->num_samples / run->samples_per_s;
        }
    }
    for (int column = COMPARE_SAMPLES; column <= COMPARE_EPOCH; column++)
        mark_best(c, (enum compare_column)column);
    return AKIN_OK;
}
