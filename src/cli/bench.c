/* See bench.h. */
#include "cli/bench.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum akin_status bench_median_ms(enum akin_status (*run)(void *context), void *context, int warmups,
                                 int repeats, double *median_ms)
{
    double times[BENCH_REPEATS_MAX];
    ASSERT(repeats > 0 && repeats <= BENCH_REPEATS_MAX);
    for (int i = 0; i < warmups; i++)
        TRY(run(context));
    for (int i = 0; i < repeats; i++) {
        uint64_t begin = akin_clock_ns();
        TRY(run(context));
        times[i] = ms_since(begin);
        if (signals_interrupted())
            return AKIN_CANCELLED;
    }
    qsort(times, (size_t)repeats, sizeof *times, compare_doubles);
    *median_ms =
        repeats % 2 ? times[repeats / 2] : (times[repeats / 2 - 1] + times[repeats / 2]) / 2;
    return AKIN_OK;
}

static bool is_met(const struct bench_target *t)
{
    return t->sense == BENCH_BELOW ? t->value < t->limit : t->value >= t->limit;
}

json_t *bench_targets_json(const struct bench_target *targets, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct bench_target *t = &targets[i];
        json_t *row = json_object();
        json_object_set_new(row, "name", json_of_text(t->name));
        json_object_set_new(row, "value", json_of_double(t->value));
        json_object_set_new(row, "comparison", json_string(t->sense == BENCH_BELOW ? "<" : ">="));
        json_object_set_new(row, "limit", json_of_double(t->limit));
        json_object_set_new(row, "unit", json_of_text(t->unit));
        json_object_set_new(row, "pass", isnan(t->value) ? json_null() : json_boolean(is_met(t)));
        if (isnan(t->value))
            json_object_set_new(row, "reason", json_of_text(t->reason));
        json_array_append_new(array, row);
    }
    return array;
}

void bench_targets_print(const struct bench_target *targets, size_t count)
{
    static const struct table_column columns[] = {
        {"  target", TABLE_LEFT, 0}, {"value", TABLE_RIGHT, 0}, {"", TABLE_LEFT, 0},
        {"limit", TABLE_RIGHT, 0},   {"", TABLE_LEFT, 0},       {"", TABLE_LEFT, 0}};
    struct table table;
    table_init(&table, columns, 6);
    for (size_t i = 0; i < count; i++) {
        const struct bench_target *t = &targets[i];
        bool known = !isnan(t->value);
        table_cell(&table, "  %s", t->name);
        if (known)
            table_cell(&table, "%.5g", t->value);
        else
            table_cell(&table, "-");
        table_cell(&table, "%s", t->sense == BENCH_BELOW ? "<" : ">=");
        table_cell(&table, "%.5g", t->limit);
        table_cell(&table, "%s", t->unit);
        table_cell(&table, "%s", known ? is_met(t) ? "met" : "NOT met" : t->reason);
    }
    table_print(&table, stdout);
    table_deinit(&table);
}
