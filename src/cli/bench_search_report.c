/* What a search benchmark measured, as JSON and for people. */
#include <math.h>
#include <string.h>

#include "cli/bench_search.h"
#include "cli/report.h"

/* The reference report's times for one query at these sizes, and what it hoped for from a GPU. */
static const struct {
    size_t rows;
    double cpu_ms, gpu_hope_ms;
} reference[] = {{1000, 8, 0.05}, {10000, 78, 0.08}, {100000, 763, 0.12}, {1000000, 7420, 0.18}};

enum { REFERENCES = sizeof reference / sizeof *reference };

static void target_text(const struct search_run *run, char *text, size_t bytes)
{
    if (run->target > 0)
        snprintf(text, bytes, "%.4g", run->target);
    else
        snprintf(text, bytes, "exact");
}

/* The fastest single query at `rows` with at least this recall; NULL where there is none. */
static const struct search_run *fastest(const struct search_bench *b, size_t rows, double recall)
{
    const struct search_run *best = NULL;
    for (size_t i = 0; i < b->run_count; i++) {
        const struct search_run *run = &b->runs[i];
        if (run->rows == rows && run->recall >= recall && !isnan(run->p50_us) &&
            (!best || run->p50_us < best->p50_us))
            best = run;
    }
    return best;
}

/* ---- JSON -------------------------------------------------------------------------------- */

static json_t *run_json(const struct search_bench *b, const struct search_run *run)
{
    json_t *root = json_object(), *qps = json_object(), *card_us = json_object();
    json_object_set_new(root, "rows", json_of_count(run->rows));
    json_object_set_new(root, "kind", json_of_text(run->kind));
    json_object_set_new(root, "chosen", json_of_text(run->chosen));
    json_object_set_new(root, "device", json_of_text(run->device));
    json_object_set_new(root, "exact", json_boolean(run->target == 0));
    json_object_set_new(root, "recall_target", run->target > 0 ? json_of_double(run->target)
                                                               : json_null());
    json_object_set_new(root, "recall", json_of_double(run->recall));
    json_object_set_new(root, "threads", json_integer(run->threads));
    json_object_set_new(root, "p50_us", json_of_double(run->p50_us));
    json_object_set_new(root, "p99_us", json_of_double(run->p99_us));
    for (size_t i = 0; i < b->batch_count; i++) {
        char key[32];
        snprintf(key, sizeof key, "batch_%zu", b->batches[i]);
        json_object_set_new(qps, key, json_of_double(run->qps[i]));
        json_object_set_new(card_us, key, json_of_double(run->card_us[i]));
    }
    json_object_set_new(root, "qps", qps);
    json_object_set_new(root, "card_us", card_us);
    json_object_set_new(root, "build_s", json_of_double(run->build_s));
    json_object_set_new(root, "open_ms", json_of_double(run->open_ms));
    json_object_set_new(root, "file_bytes", json_of_count(run->file_bytes));
    json_object_set_new(root, "memory_bytes", json_of_count(run->memory_bytes));
    json_object_set_new(root, "card_bytes", json_of_count(run->card_bytes));
    return root;
}

static json_t *reference_json(const struct search_bench *b)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < REFERENCES; i++) {
        const struct search_run *run = fastest(b, reference[i].rows, 0.95);
        if (!run)
            continue;
        json_t *row = json_object();
        json_object_set_new(row, "rows", json_of_count(run->rows));
        json_object_set_new(row, "reference_ms", json_of_double(reference[i].cpu_ms));
        json_object_set_new(row, "reference_gpu_hope_ms", json_of_double(reference[i].gpu_hope_ms));
        json_object_set_new(row, "ms", json_of_double(run->p50_us / 1000));
        json_object_set_new(row, "recall", json_of_double(run->recall));
        json_object_set_new(row, "kind", json_of_text(run->chosen));
        json_object_set_new(row, "device", json_of_text(run->device));
        json_object_set_new(row, "speedup",
                            json_of_double(reference[i].cpu_ms / (run->p50_us / 1000)));
        json_array_append_new(rows, row);
    }
    return rows;
}

json_t *search_report_json(const struct search_bench *b)
{
    json_t *root = json_object(), *runs = json_array();
    for (size_t i = 0; i < b->run_count; i++)
        json_array_append_new(runs, run_json(b, &b->runs[i]));
    json_object_set_new(root, "runs", runs);
    json_object_set_new(root, "sizes", reference_json(b));
    json_object_set(root, "unavailable", b->unavailable);
    json_object_set_new(root, "k", json_of_count(b->k));
    json_object_set_new(root, "queries", json_of_count(b->data.query_count));
    json_object_set_new(root, "dimension", json_of_count(b->data.dimension));
    json_object_set_new(root, "queries_made", json_boolean(b->data.queries_made));
    json_object_set_new(root, "rows_made", json_boolean(b->data.rows_made));
    json_object_set_new(root, "seconds_per_figure", json_of_double(b->seconds));
    report_common(b->cli, root);
    return root;
}

/* ---- for people -------------------------------------------------------------------------- */

static void cell_of_us(struct table *table, double us)
{
    if (isnan(us))
        table_cell(table, "-");
    else
        table_cell(table, us < 100 ? "%.1f" : "%.0f", us);
}

static void print_runs(const struct search_bench *b, size_t rows)
{
    static const char *const titles[] = {"  kind",  "device", "target", "recall", "threads",
                                         "p50 us", "p99 us"};
    enum { FIXED = sizeof titles / sizeof *titles };
    struct table_column columns[FIXED + SEARCH_LIST_MAX + 3];
    char names[SEARCH_LIST_MAX][32], text[NUMBER_BYTES];
    struct table table;
    size_t n = 0;
    for (size_t i = 0; i < FIXED; i++)
        columns[n++] = (struct table_column){titles[i], i < 3 ? TABLE_LEFT : TABLE_RIGHT, 0};
    for (size_t i = 0; i < b->batch_count; i++) {
        snprintf(names[i], sizeof names[i], "QPS b%zu", b->batches[i]);
        columns[n++] = (struct table_column){names[i], TABLE_RIGHT, 0};
    }
    columns[n++] = (struct table_column){"build", TABLE_RIGHT, 0};
    columns[n++] = (struct table_column){"memory", TABLE_RIGHT, 0};
    columns[n++] = (struct table_column){"disk", TABLE_RIGHT, 0};
    table_init(&table, columns, n);
    for (size_t i = 0; i < b->run_count; i++) {
        const struct search_run *run = &b->runs[i];
        if (run->rows != rows)
            continue;
        bool same = strcmp(run->kind, run->chosen) == 0;
        table_cell(&table, "  %s%s%s", run->kind, same ? "" : ": ", same ? "" : run->chosen);
        table_cell(&table, "%s", run->device);
        target_text(run, text, sizeof text);
        table_cell(&table, "%s", text);
        table_cell(&table, "%.4f", run->recall);
        table_cell(&table, "%d", run->threads);
        cell_of_us(&table, run->p50_us);
        cell_of_us(&table, run->p99_us);
        for (size_t j = 0; j < b->batch_count; j++)
            if (isnan(run->qps[j]))
                table_cell(&table, "-");
            else
                table_cell(&table, "%s", format_count(text, (uint64_t)(run->qps[j] + 0.5)));
        if (isnan(run->build_s))
            table_cell(&table, "-");
        else
            table_cell(&table, "%.2f s", run->build_s);
        table_cell(&table, "%s", format_bytes(text, run->card_bytes ? run->card_bytes
                                                                   : run->memory_bytes));
        table_cell(&table, "%s", format_bytes(text, run->file_bytes));
    }
    table_print(&table, stdout);
    table_deinit(&table);
}

/* What the card says itself, beside the wall clock of the table: without the way to it. */
static void print_card(const struct search_bench *b, size_t rows)
{
    char text[NUMBER_BYTES];
    for (size_t i = 0; i < b->run_count; i++) {
        const struct search_run *run = &b->runs[i];
        bool known = false;
        for (size_t j = 0; j < b->batch_count; j++)
            known |= !isnan(run->card_us[j]);
        if (run->rows != rows || !known)
            continue;
        target_text(run, text, sizeof text);
        printf("  by the clock of %s, %s, %s, %d threads:", run->device, run->chosen, text,
               run->threads);
        for (size_t j = 0; j < b->batch_count; j++)
            if (!isnan(run->card_us[j]))
                printf(" batch %zu %.1f us;", b->batches[j], run->card_us[j]);
        printf(" copies included\n");
    }
}

static void print_reference(const struct search_bench *b)
{
    static const struct table_column columns[] = {
        {"  rows", TABLE_RIGHT, 0},       {"reference", TABLE_RIGHT, 0},
        {"its GPU hope", TABLE_RIGHT, 0}, {"akin, p50", TABLE_RIGHT, 0},
        {"recall", TABLE_RIGHT, 0},       {"kind", TABLE_LEFT, 0},
        {"device", TABLE_LEFT, 0}};
    struct table table;
    char text[NUMBER_BYTES];
    size_t shown = 0;
    table_init(&table, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < REFERENCES; i++) {
        const struct search_run *run = fastest(b, reference[i].rows, 0.95);
        if (!run)
            continue;
        shown++;
        table_cell(&table, "%s", format_count(text, run->rows));
        table_cell(&table, "%.0f ms", reference[i].cpu_ms);
        table_cell(&table, "%.2f ms", reference[i].gpu_hope_ms);
        table_cell(&table, "%.3f ms", run->p50_us / 1000);
        table_cell(&table, "%.4f", run->recall);
        table_cell(&table, "%s", run->chosen);
        table_cell(&table, "%s", run->device);
    }
    if (shown) {
        printf("\nOne query, recall 0.95 or better, beside the reference's times\n");
        table_print(&table, stdout);
    }
    table_deinit(&table);
}

void search_report_print(const struct search_bench *b)
{
    char text[NUMBER_BYTES];
    size_t i;
    json_t *row;
    report_machine(b->cli);
    printf("Queries: %s, k %zu, %zu dimensions%s%s\n", format_count(text, b->data.query_count),
           b->k, b->data.dimension, b->data.queries_made ? "; queries made from rows" : "",
           b->data.rows_made ? "; rows made" : "");
    for (i = 0; i < b->size_count; i++) {
        printf("\n%s rows\n", format_count(text, b->sizes[i]));
        print_runs(b, b->sizes[i]);
        print_card(b, b->sizes[i]);
    }
    print_reference(b);
    json_array_foreach(b->unavailable, i, row)
        printf("\nNot measured: %s: %s\n", json_string_value(json_object_get(row, "kind")),
               json_string_value(json_object_get(row, "reason")));
}
