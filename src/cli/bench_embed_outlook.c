/* What the measurements mean for larger jobs, for their cost, for another device and for a larger
 * machine: arithmetic on what was measured, and marked as such. */
#include <math.h>
#include <string.h>

#include "cli/bench_embed.h"
#include "cli/bench_estimate.h"
#include "cli/report.h"

enum { SIZES = 3, REPEATS = 3, CORES = 64 };
static const double sizes[SIZES] = {1e6, 1e7, 1e8};
static const char *const size_names[SIZES] = {"1M texts", "10M texts", "100M texts"};
static const int repeats[REPEATS] = {1, 10, 100};

/* The fastest run of each precision, in the order they were asked for. */
static struct embed_choice choice_at(const struct embed_bench *b, size_t i)
{
    return embed_fastest(b, b->precisions[i]);
}

/* ---- a larger machine -------------------------------------------------------------------- */

struct cores_estimate {
    double rate;       /* texts/s */
    double efficiency; /* NaN: not measured, taken as 1 */
    int base_threads, most_threads; /* that had a core each */
};

/* From the fewest threads, times the efficiency at the most, both at their best batch size. Threads
 * that share cores count as the cores: more of them say nothing about more cores. */
static struct cores_estimate estimate_cores(const struct embed_bench *b,
                                            enum akin_precision precision)
{
    struct cores_estimate e = {.efficiency = NAN};
    double base = 0, most = 0;
    for (size_t i = 0; i < b->model_count; i++) {
        const struct embed_model *m = &b->models[i];
        int threads = placement_cores(m->engine);
        double rate = 0;
        if (m->precision != precision)
            continue;
        for (size_t r = 0; r < b->batch_count; r++)
            rate = embed_rate(&m->runs[r]) > rate ? embed_rate(&m->runs[r]) : rate;
        if (!e.base_threads || threads < e.base_threads ||
            (threads == e.base_threads && rate > base)) {
            e.base_threads = threads;
            base = rate;
        }
        if (threads > e.most_threads || (threads == e.most_threads && rate > most)) {
            e.most_threads = threads;
            most = rate;
        }
    }
    if (e.most_threads > e.base_threads)
        e.efficiency = scaling_efficiency(most, e.most_threads, base, e.base_threads);
    e.rate = cores_rate(base, e.base_threads, isnan(e.efficiency) ? 1 : e.efficiency, CORES);
    return e;
}

/* ---- JSON -------------------------------------------------------------------------------- */

static json_t *costs_json(const struct embed_bench *b, double rate, double texts)
{
    json_t *costs = json_array();
    for (size_t p = 0; p < b->price_count; p++)
        json_array_append_new(costs,
                              json_pack("{s:f,s:o}", "dollars_per_hour", b->prices[p], "dollars",
                                        json_of_double(texts_cost(rate, texts, b->prices[p]))));
    return costs;
}

static json_t *comparison_json(const struct embed_bench *b)
{
    const struct embed_choice best = embed_fastest(b, AKIN_PRECISION_AUTO);
    const struct embed_other *other = &b->other;
    const double texts = (double)b->texts.count, cpu = embed_rate(best.run);
    json_t *root = json_object(), *saved = json_array();
    json_t *row =
        json_pack("{s:s,s:f,s:f}", "precision", akin_precision_name(best.model->precision),
                  "texts_per_second", cpu, "seconds", best.run->median_seconds);
    json_object_set_new(row, "cost", costs_json(b, cpu, texts));
    json_object_set_new(root, "cpu", row);
    if (!other->known) {
        json_object_set_new(root, "gpu", json_null());
        json_object_set_new(root, "gpu_speedup", json_null());
        json_object_set_new(root, "same_model", json_null());
    } else {
        double rate = other->texts_per_second, seconds = texts_seconds(rate, texts);
        row = json_pack("{s:f,s:f}", "texts_per_second", rate, "seconds", seconds);
        json_object_set_new(row, "device", json_of_text(other->device));
        json_object_set_new(row, "model", json_of_known(other->model));
        json_object_set_new(row, "precision", json_of_known(other->precision));
        json_object_set_new(row, "cost", costs_json(b, rate, texts));
        json_object_set_new(root, "gpu", row);
        json_object_set_new(root, "gpu_speedup", json_of_double(rate / cpu));
        json_object_set_new(root, "same_model",
                            json_boolean(strcmp(other->model, b->info.name) == 0));
        for (size_t i = 0; i < REPEATS; i++)
            json_array_append_new(saved, json_pack("{s:i,s:f}", "runs", repeats[i], "seconds",
                                                   repeats[i] *
                                                       (best.run->median_seconds - seconds)));
    }
    json_object_set_new(root, "gpu_time_saved", saved);
    return root;
}

static json_t *cores_json(const struct embed_bench *b, enum akin_precision precision)
{
    struct cores_estimate e = estimate_cores(b, precision);
    json_t *row = json_object();
    json_object_set_new(row, "precision", json_of_text(akin_precision_name(precision)));
    json_object_set_new(row, "cores", json_integer(CORES));
    json_object_set_new(row, "texts_per_second", json_of_double(e.rate));
    json_object_set_new(row, "estimate", json_true());
    json_object_set_new(row, "base_threads", json_integer(e.base_threads));
    json_object_set_new(row, "measured_efficiency", json_of_double(e.efficiency));
    json_object_set_new(row, "efficiency_threads", json_integer(e.most_threads));
    return row;
}

void embed_outlook_json(const struct embed_bench *b, json_t *report)
{
    json_t *estimates = json_array(), *cores = json_array();
    for (size_t i = 0; i < b->precision_count; i++) {
        struct embed_choice best = choice_at(b, i);
        if (!best.run)
            continue;
        for (size_t s = 0; s < SIZES; s++) {
            double rate = embed_rate(best.run);
            json_t *row = json_object();
            json_object_set_new(row, "precision",
                                json_of_text(akin_precision_name(b->precisions[i])));
            json_object_set_new(row, "threads",
                                json_integer(akin_engine_threads(best.model->engine)));
            json_object_set_new(row, "texts", json_of_count((uint64_t)sizes[s]));
            json_object_set_new(row, "seconds", json_of_double(texts_seconds(rate, sizes[s])));
            json_object_set_new(row, "cost", costs_json(b, rate, sizes[s]));
            json_array_append_new(estimates, row);
        }
        json_array_append_new(cores, cores_json(b, b->precisions[i]));
    }
    json_object_set_new(report, "comparison", comparison_json(b));
    json_object_set_new(report, "estimates", estimates);
    json_object_set_new(report, "estimates_64_cores", cores);
}

/* ---- text -------------------------------------------------------------------------------- */

/* Columns of fixed titles, then one for each price. */
struct price_table {
    struct table table;
    struct table_column columns[8 + EMBED_PRICES_MAX];
    char titles[EMBED_PRICES_MAX][32];
};

static void price_table_init(struct price_table *t, const struct embed_bench *b,
                             const struct table_column *fixed, size_t count)
{
    memcpy(t->columns, fixed, count * sizeof *fixed);
    for (size_t p = 0; p < b->price_count; p++) {
        snprintf(t->titles[p], sizeof t->titles[p], "at $%g/h", b->prices[p]);
        t->columns[count + p] = (struct table_column){t->titles[p], TABLE_RIGHT, 0};
    }
    table_init(&t->table, t->columns, count + b->price_count);
}

static void price_cells(struct price_table *t, const struct embed_bench *b, double rate,
                        double texts)
{
    for (size_t p = 0; p < b->price_count; p++) {
        double cost = texts_cost(rate, texts, b->prices[p]);
        table_cell(&t->table, cost < 0.001 ? "$%.6f" : cost < 0.1 ? "$%.4f" : "$%.2f", cost);
    }
}

static void price_table_print(struct price_table *t)
{
    table_print(&t->table, stdout);
    table_deinit(&t->table);
}

static void print_costs(const struct embed_bench *b)
{
    static const struct table_column columns[] = {
        {"  precision", TABLE_LEFT, 0}, {"threads", TABLE_RIGHT, 0}, {"texts/s", TABLE_RIGHT, 0}};
    struct price_table t;
    if (b->price_count == 0)
        return;
    printf("\nCost of a million texts\n");
    price_table_init(&t, b, columns, 3);
    for (size_t i = 0; i < b->model_count; i++) {
        const struct embed_model *m = &b->models[i];
        double rate = 0;
        for (size_t r = 0; r < b->batch_count; r++)
            rate = embed_rate(&m->runs[r]) > rate ? embed_rate(&m->runs[r]) : rate;
        table_cell(&t.table, "  %s", akin_precision_name(m->precision));
        table_cell(&t.table, "%d", akin_engine_threads(m->engine));
        table_cell(&t.table, "%.0f", rate);
        price_cells(&t, b, rate, 1e6);
    }
    price_table_print(&t);
}

static void print_sizes(const struct embed_bench *b)
{
    static const struct table_column columns[] = {{"  precision", TABLE_LEFT, 0},
                                                  {"threads", TABLE_RIGHT, 0},
                                                  {"texts", TABLE_RIGHT, 0},
                                                  {"time", TABLE_RIGHT, 0}};
    struct price_table t;
    char text[NUMBER_BYTES];
    printf("\nLarger jobs (estimates: the measured speed, texts of the same length)\n");
    price_table_init(&t, b, columns, 4);
    for (size_t i = 0; i < b->precision_count; i++) {
        struct embed_choice best = choice_at(b, i);
        for (size_t s = 0; best.run && s < SIZES; s++) {
            double rate = embed_rate(best.run);
            table_cell(&t.table, "  %s", akin_precision_name(b->precisions[i]));
            table_cell(&t.table, "%d", akin_engine_threads(best.model->engine));
            table_cell(&t.table, "%s", size_names[s]);
            table_cell(&t.table, "%s", format_duration(text, texts_seconds(rate, sizes[s])));
            price_cells(&t, b, rate, sizes[s]);
        }
    }
    price_table_print(&t);
}

static void print_cores(const struct embed_bench *b)
{
    char text[NUMBER_BYTES];
    printf("\nA machine with %d such cores (estimate, not measured)\n", CORES);
    for (size_t i = 0; i < b->precision_count; i++) {
        struct cores_estimate e = estimate_cores(b, b->precisions[i]);
        if (!e.base_threads)
            continue;
        printf("  %s: %s texts/s = speed of %d thread%s, scaled to %d",
               akin_precision_name(b->precisions[i]), format_count(text, (uint64_t)(e.rate + 0.5)),
               e.base_threads, e.base_threads == 1 ? "" : "s", CORES);
        if (isnan(e.efficiency))
            printf(" as if scaling were perfect; --threads 1,N measures how it is\n");
        else
            printf(" times %.1f %%, the efficiency of %d threads\n", 100 * e.efficiency,
                   e.most_threads);
    }
}

static void print_comparison(const struct embed_bench *b)
{
    static const struct table_column columns[] = {
        {"  platform", TABLE_LEFT, 0}, {"precision", TABLE_LEFT, 0}, {"texts/s", TABLE_RIGHT, 0},
        {"time", TABLE_RIGHT, 0},      {"speedup", TABLE_RIGHT, 0}};
    const struct embed_choice best = embed_fastest(b, AKIN_PRECISION_AUTO);
    const struct embed_other *other = &b->other;
    const double texts = (double)b->texts.count, cpu = embed_rate(best.run);
    const double rate = other->texts_per_second;
    char text[NUMBER_BYTES];
    struct price_table t;
    printf("\nCPU and GPU, for these %s texts\n", format_count(text, b->texts.count));
    price_table_init(&t, b, columns, 5);
    table_cell(&t.table, "  CPU, %d thread%s", akin_engine_threads(best.model->engine),
               akin_engine_threads(best.model->engine) == 1 ? "" : "s");
    table_cell(&t.table, "%s", akin_precision_name(best.model->precision));
    table_cell(&t.table, "%.0f", cpu);
    table_cell(&t.table, "%s", format_duration(text, best.run->median_seconds));
    table_cell(&t.table, "1.0x");
    price_cells(&t, b, cpu, texts);
    if (other->known) {
        table_cell(&t.table, "  %s", other->device);
        table_cell(&t.table, "%s", *other->precision ? other->precision : "-");
        table_cell(&t.table, "%.0f", rate);
        table_cell(&t.table, "%s", format_duration(text, texts_seconds(rate, texts)));
        table_cell(&t.table, "%.1fx", rate / cpu);
        price_cells(&t, b, rate, texts);
    }
    price_table_print(&t);
    if (!other->known) {
        printf("  GPU: not measured; --compare FILE takes the report of one\n");
        return;
    }
    if (strcmp(other->model, b->info.name) != 0)
        printf("  not the same work: that report is of model %s\n",
               *other->model ? other->model : "unknown");
    printf("  time saved by it:");
    for (size_t i = 0; i < REPEATS; i++)
        printf("%s %s in %d run%s", i ? "," : "",
               format_duration(text, repeats[i] * (best.run->median_seconds -
                                                   texts_seconds(rate, texts))),
               repeats[i], repeats[i] == 1 ? "" : "s");
    printf("\n");
}

void embed_outlook_print(const struct embed_bench *b)
{
    print_costs(b);
    print_sizes(b);
    print_cores(b);
    print_comparison(b);
}
