/* A comparison as one page that needs nothing else: a table, and a chart of bars for each figure
 * that at least one report has. Follows the reader's light or dark. */
#include <math.h>

#include "cli/bench_compare.h"
#include "cli/chart.h"

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<title>Training runs compared</title>\n<style>\n"
    "body { font: 15px sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em;\n"
    "  color: #222; background: #fff }\n"
    "table { border-collapse: collapse; margin: 1em 0; width: 100% }\n"
    "th, td { border-bottom: 1px solid #ddd; padding: .3em .6em; text-align: right }\n"
    "th:first-child, td:first-child { text-align: left }\n"
    ".best { font-weight: bold; color: #a34700 } .path { color: #666 }\n"
    "svg.chart { max-width: 100%; height: auto; display: block; margin: 1.5em 0 }\n"
    "@media (prefers-color-scheme: dark) { body { color: #ddd; background: #16181c }\n"
    "th, td { border-color: #333 } .best { color: #ff9a4d } .path { color: #999 } }\n"
    "</style>\n</head>\n<body>\n<h1>Training runs compared</h1>\n";

struct figure {
    const char *heading, *title, *unit, *format;
    int digits, column;         /* of enum compare_column; -1: has no best value */
};

static const struct figure figures[] = {
    {"samples/s", "Throughput: higher is better", "samples/s", "%.1f", 1, COMPARE_SAMPLES},
    {"scaling %", "Scaling efficiency: 100 is perfect", "% of one device times the devices",
     "%.1f", 1, COMPARE_SCALING},
    {"memory MiB", "Peak memory of a device: lower is better", "MiB", "%.0f", 0, COMPARE_MEMORY},
    {"busy %", NULL, NULL, "%.1f", 1, -1},
    {"MFU %", "Model FLOP/s as a share of the peak: higher is better", "%", "%.1f", 1,
     COMPARE_MFU},
    {"$/M samples", "Cost of a million samples: lower is better", "dollars", "%.4g", 3,
     COMPARE_MILLION},
    {"$/epoch", NULL, NULL, "%.4g", 2, COMPARE_EPOCH},
};

enum { FIGURES = sizeof figures / sizeof *figures };

static double figure_of(const struct compared_run *r, size_t figure)
{
    const double values[FIGURES] = {r->samples_per_s, r->scaling_pct, r->memory_mb,
                                    r->utilisation_pct, r->mfu_pct, r->dollars_per_million,
                                    r->dollars_per_epoch};
    return values[figure];
}

static bool is_known(const struct comparison *c, size_t figure)
{
    for (size_t i = 0; i < c->count; i++)
        if (isfinite(figure_of(&c->runs[i], figure)))
            return true;
    return false;
}

static bool is_best(const struct compared_run *run, size_t figure)
{
    return figures[figure].column >= 0 && run->best >> figures[figure].column & 1;
}

static void append_table(const struct comparison *c, struct bytes *page)
{
    char label[160];
    bytes_append_text(page, "<table>\n<tr><th>run</th>");
    for (size_t f = 0; f < FIGURES; f++)
        if (is_known(c, f))
            bytes_printf(page, "<th>%s</th>", figures[f].heading);
    bytes_append_text(page, "</tr>\n");
    for (size_t i = 0; i < c->count; i++) {
        compared_label(c, i, label, sizeof label);
        bytes_append_text(page, "<tr><td>");
        append_escaped(page, label);
        bytes_append_text(page, "</td>");
        for (size_t f = 0; f < FIGURES; f++) {
            double value = figure_of(&c->runs[i], f);
            if (!is_known(c, f))
                continue;
            bytes_printf(page, "<td%s>", is_best(&c->runs[i], f) ? " class=\"best\"" : "");
            if (isfinite(value))
                bytes_printf(page, figures[f].format, value);
            else
                bytes_append_text(page, "-");
            bytes_append_text(page, "</td>");
        }
        bytes_append_text(page, "</tr>\n");
    }
    bytes_append_text(page, "</table>\n<p class=\"path\">");
    for (size_t i = 0; i < c->count; i++) {
        bytes_printf(page, "%s%zu: ", i ? "<br>\n" : "", i + 1);
        append_escaped(page, c->runs[i].path);
    }
    bytes_append_text(page, "</p>\n");
}

static enum akin_status append_chart(const struct comparison *c, size_t figure, struct bytes *page,
                                     struct akin_error *error)
{
    struct chart_bar bars[COMPARE_RUNS_MAX];
    char labels[COMPARE_RUNS_MAX][160];
    for (size_t i = 0; i < c->count; i++) {
        compared_label(c, i, labels[i], sizeof labels[i]);
        bars[i] = (struct chart_bar){.label = labels[i], .value = figure_of(&c->runs[i], figure),
                                     .low = NAN, .high = NAN,
                                     .marked = is_best(&c->runs[i], figure)};
    }
    const struct chart chart = {.title = figures[figure].title, .x_label = figures[figure].unit,
                                .digits = figures[figure].digits};
    return chart_bars_append(page, &chart, bars, c->count, error);
}

enum akin_status comparison_html(const struct comparison *c, struct bytes *page,
                                 struct akin_error *error)
{
    bytes_append_text(page, head);
    append_table(c, page);
    for (size_t i = 0; i < c->difference_count; i++) {
        bytes_append_text(page, "<p>Not alike: ");
        append_escaped(page, c->differences[i]);
        bytes_append_text(page, "</p>\n");
    }
    for (size_t f = 0; f < FIGURES; f++)
        if (figures[f].title && is_known(c, f))
            TRY(append_chart(c, f, page, error));
    bytes_append_text(page, "</body>\n</html>\n");
    return page->failed ? error_memory(error) : AKIN_OK;
}
