/* A comparison as a table, as CSV and as JSON. "-" is what a report does not say. */
#include <math.h>
#include <string.h>

#include "cli/bench_compare.h"
#include "cli/cli.h"

enum { LABEL_BYTES = 22 };       /* of a device: what a chart has room for */

void compared_label(const struct comparison *c, size_t run, char *text, size_t bytes)
{
    const struct compared_run *r = &c->runs[run];
    const char *device = *r->device ? r->device : path_last(r->path), *dots = "";
    size_t shown = strlen(device);
    if (shown > LABEL_BYTES) {
        shown = LABEL_BYTES;
        while (shown > 0 && ((unsigned char)device[shown] & 0xc0) == 0x80)
            shown--;            /* not in the middle of a character */
        dots = "…";
    }
    int n = snprintf(text, bytes, "%zu: %.*s%s", run + 1, (int)shown, device, dots);
    if (isfinite(r->devices) && n > 0 && (size_t)n < bytes)
        snprintf(text + n, bytes - (size_t)n, " x %.0f", r->devices);
}

static void number_cell(struct table *table, const char *format, double value, bool best)
{
    char text[48];
    if (!isfinite(value)) {
        table_cell(table, "-  ");
        return;
    }
    snprintf(text, sizeof text, format, value);
    table_cell(table, "%s%s", text, best ? " *" : "  ");
}

static bool is_best(const struct compared_run *run, enum compare_column column)
{
    return run->best >> column & 1;
}

static bool is_priced(const struct comparison *c)
{
    for (size_t i = 0; i < c->count; i++)
        if (isfinite(c->runs[i].price))
            return true;
    return false;
}

void comparison_print(const struct comparison *c, FILE *stream)
{
    static const struct table_column columns[] = {
        {"run", TABLE_LEFT, 40},           {"samples/s  ", TABLE_RIGHT, 0},
        {"scaling %  ", TABLE_RIGHT, 0},   {"memory MiB  ", TABLE_RIGHT, 0},
        {"busy %  ", TABLE_RIGHT, 0},      {"MFU %  ", TABLE_RIGHT, 0},
        {"$/M samples  ", TABLE_RIGHT, 0}, {"$/epoch  ", TABLE_RIGHT, 0}};
    struct table table;
    char label[160];
    bool priced = is_priced(c);
    table_init(&table, columns, priced ? 8 : 6);
    for (size_t i = 0; i < c->count; i++) {
        const struct compared_run *r = &c->runs[i];
        compared_label(c, i, label, sizeof label);
        table_cell(&table, "%s", label);
        number_cell(&table, "%.1f", r->samples_per_s, is_best(r, COMPARE_SAMPLES));
        number_cell(&table, "%.1f", r->scaling_pct, is_best(r, COMPARE_SCALING));
        number_cell(&table, "%.0f", r->memory_mb, is_best(r, COMPARE_MEMORY));
        number_cell(&table, "%.1f", r->utilisation_pct, false);
        number_cell(&table, "%.1f", r->mfu_pct, is_best(r, COMPARE_MFU));
        if (priced) {
            number_cell(&table, "%.4g", r->dollars_per_million, is_best(r, COMPARE_MILLION));
            number_cell(&table, "%.4g", r->dollars_per_epoch, is_best(r, COMPARE_EPOCH));
        }
    }
    table_print(&table, stream);
    table_deinit(&table);
    fputc('\n', stream);
    for (size_t i = 0; i < c->count; i++)
        fprintf(stream, "%zu: %s\n", i + 1, c->runs[i].path);
    for (size_t i = 0; i < c->difference_count; i++)
        fprintf(stream, "not alike: %s\n", c->differences[i]);
}

/* ---- for programs ------------------------------------------------------------------------ */

struct named_value {
    const char *name;
    double value;
};

enum { NAMED_VALUES = 12 };

static void named_values(const struct compared_run *r, struct named_value values[NAMED_VALUES])
{
    const struct named_value all[NAMED_VALUES] = {
        {"devices", r->devices},
        {"samples_per_s", r->samples_per_s},
        {"tokens_per_s", r->tokens_per_s},
        {"wall_time_per_epoch_s", r->epoch_s},
        {"step_p50_ms", r->step_p50_ms},
        {"scaling_efficiency_pct", r->scaling_pct},
        {"peak_memory_mb", r->memory_mb},
        {"utilisation_pct", r->utilisation_pct},
        {"mfu_pct", r->mfu_pct},
        {"cost_per_device_hour", r->price},
        {"cost_per_million_samples", r->dollars_per_million},
        {"cost_per_epoch", r->dollars_per_epoch},
    };
    memcpy(values, all, sizeof all);
}

/* RFC 4180: in quotes, and quotes twice. */
static void append_csv_text(struct bytes *out, const char *text)
{
    bytes_append_text(out, "\"");
    for (const char *c = text; *c; c++)
        bytes_append(out, *c == '"' ? "\"\"" : c, *c == '"' ? 2 : 1);
    bytes_append_text(out, "\"");
}

void comparison_csv(const struct comparison *c, struct bytes *out)
{
    struct named_value values[NAMED_VALUES];
    named_values(&c->runs[0], values);
    bytes_append_text(out, "file,device");
    for (size_t v = 0; v < NAMED_VALUES; v++)
        bytes_printf(out, ",%s", values[v].name);
    bytes_append_text(out, "\n");
    for (size_t i = 0; i < c->count; i++) {
        named_values(&c->runs[i], values);
        append_csv_text(out, c->runs[i].path);
        bytes_append_text(out, ",");
        append_csv_text(out, c->runs[i].device);
        for (size_t v = 0; v < NAMED_VALUES; v++)
            if (isfinite(values[v].value))
                bytes_printf(out, ",%.9g", values[v].value);
            else
                bytes_append_text(out, ",");
        bytes_append_text(out, "\n");
    }
}

static json_t *best_json(const struct compared_run *run)
{
    static const char *const names[] = {
        [COMPARE_SAMPLES] = "samples_per_s",
        [COMPARE_SCALING] = "scaling_efficiency_pct",
        [COMPARE_MEMORY] = "peak_memory_mb",
        [COMPARE_MFU] = "mfu_pct",
        [COMPARE_MILLION] = "cost_per_million_samples",
        [COMPARE_EPOCH] = "cost_per_epoch",
    };
    json_t *array = json_array();
    for (int i = COMPARE_SAMPLES; i <= COMPARE_EPOCH; i++)
        if (is_best(run, (enum compare_column)i))
            json_array_append_new(array, json_string(names[i]));
    return array;
}

json_t *comparison_json(const struct comparison *c)
{
    json_t *o = json_object(), *runs = json_array();
    for (size_t i = 0; i < c->count; i++) {
        struct named_value values[NAMED_VALUES];
        json_t *run = json_object();
        json_object_set_new(run, "file", json_of_text(c->runs[i].path));
        json_object_set_new(run, "device", json_of_known(c->runs[i].device));
        named_values(&c->runs[i], values);
        for (size_t v = 0; v < NAMED_VALUES; v++)
            json_object_set_new(run, values[v].name, json_of_double(values[v].value));
        if (isfinite(c->runs[i].devices))
            json_object_set_new(run, "devices", json_of_count((uint64_t)c->runs[i].devices));
        json_object_set_new(run, "best", best_json(&c->runs[i]));
        json_array_append_new(runs, run);
    }
    json_object_set_new(o, "runs", runs);
    json_object_set_new(o, "differences",
                        json_of_strings((const char *const *)c->differences, c->difference_count));
    return o;
}
