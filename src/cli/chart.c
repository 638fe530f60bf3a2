/* Charts of a fixed width; everything is placed in whole pixels or tenths of one. Ticks are 1, 2 or
 * 5 times a power of ten. */
#include "cli/chart.h"

#include <math.h>
#include <stdio.h>

#include "base/file.h"
#include "base/memory.h"

enum {
    WIDTH = 720, MARGIN = 16, TITLE_HEIGHT = 40, FOOT_HEIGHT = 44, NOTE_HEIGHT = 20,
    BAR_HEIGHT = 18, BAR_STEP = 26, LABEL_WIDTH = 210, VALUE_WIDTH = 110,
    PLOT_LEFT = 64, PLOT_HEIGHT = 280, LEGEND_WIDTH = 170, TICKS_MAX = 16,
};

/* Told apart by people who see no red or no green (Okabe and Ito). */
static const char *const colours[CHART_LINES_MAX] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                      "#e69f00", "#56b4e9", "#888888", "#b8a800" };

/* ---- text ------------------------------------------------------------------------------- */

void append_escaped(struct bytes *out, const char *text)
{
    for (const char *c = text ? text : ""; *c; c++)
        switch (*c) {
        case '&': bytes_append_text(out, "&amp;"); break;
        case '<': bytes_append_text(out, "&lt;"); break;
        case '>': bytes_append_text(out, "&gt;"); break;
        case '"': bytes_append_text(out, "&quot;"); break;
        default: bytes_append(out, (unsigned char)*c < 32 ? " " : c, 1);
        }
}

static void append_text(struct bytes *svg, double x, double y, const char *kind, const char *text)
{
    bytes_printf(svg, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", kind, x, y);
    append_escaped(svg, text);
    bytes_append_text(svg, "</text>\n");
}

static void append_line(struct bytes *svg, const char *kind, double x1, double y1, double x2,
                        double y2)
{
    bytes_printf(svg, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                 kind, x1, y1, x2, y2);
}

static void begin(struct bytes *svg, const struct chart *chart, int height)
{
    bytes_printf(svg,
                 "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
                 "height=\"%d\" class=\"chart\" role=\"img\">\n<title>",
                 WIDTH, height, WIDTH, height);
    append_escaped(svg, chart->title);
    bytes_append_text(
        svg,
        "</title>\n<style>\n"
        "svg { background: #fff } text { font: 12px sans-serif; fill: #222 }\n"
        ".title { font-size: 16px; font-weight: bold } .note { fill: #666 }\n"
        ".end { text-anchor: end } .mid { text-anchor: middle }\n"
        ".grid { stroke: #ddd } .axis { stroke: #888 } .interval { stroke: #222 }\n"
        "@media (prefers-color-scheme: dark) { svg { background: #16181c } text { fill: #ddd }\n"
        ".note { fill: #999 } .grid { stroke: #333 } .interval { stroke: #fff } }\n"
        "</style>\n");
    append_text(svg, MARGIN, 26, "title", chart->title);
}

static void finish(struct bytes *svg, const struct chart *chart, int height)
{
    if (chart->note)
        append_text(svg, MARGIN, height - 10, "note", chart->note);
    bytes_append_text(svg, "</svg>\n");
}

static enum akin_status write_chart(struct bytes *svg, const char *path, struct akin_error *error)
{
    enum akin_status status = svg->failed ? error_memory(error)
                                          : file_write(path, svg->data, svg->count, error);
    bytes_deinit(svg);
    return status;
}

/* ---- axes ------------------------------------------------------------------------------- */

struct axis {
    double low, high, from, to; /* numbers, and the pixels that they lie at */
    bool logarithmic;
    double ticks[TICKS_MAX];
    size_t tick_count;
};

static double place(const struct axis *axis, double value)
{
    double low = axis->low, high = axis->high;
    if (axis->logarithmic)
        value = log10(value), low = log10(low), high = log10(high);
    return axis->from + (value - low) / (high - low) * (axis->to - axis->from);
}

static void make_logarithmic(struct axis *axis)
{
    double low = floor(log10(axis->low)), high = ceil(log10(axis->high));
    if (high <= low)
        high = low + 1;
    double step = ceil((high - low) / (TICKS_MAX - 1));
    for (double power = low; power <= high; power += step)
        axis->ticks[axis->tick_count++] = pow(10, power);
    axis->low = pow(10, low);
    axis->high = pow(10, high);
}

/* Widens low and high to ticks. Both are finite; low <= high. */
static void make_axis(struct axis *axis)
{
    if (axis->logarithmic) {
        make_logarithmic(axis);
        return;
    }
    double range = axis->high - axis->low;
    if (!(range > fabs(axis->high) * 1e-9) || !isfinite(range)) {
        range = axis->high > 0 && isfinite(axis->high) ? axis->high : 1;
        axis->high = axis->low + range;
    }
    double rough = range / 6, power = pow(10, floor(log10(rough)));
    double step = power * (rough <= power       ? 1
                           : rough <= 2 * power ? 2
                           : rough <= 5 * power ? 5
                                                : 10);
    double first = floor(axis->low / step), last = ceil(axis->high / step - 1e-9);
    axis->low = first * step;
    axis->high = last * step;
    for (double i = first; i <= last && axis->tick_count < TICKS_MAX; i++)
        axis->ticks[axis->tick_count++] = i * step;
}

static void append_tick(struct bytes *svg, const char *kind, double x, double y, double value)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", value);
    append_text(svg, x, y, kind, text);
}

/* ---- bars ------------------------------------------------------------------------------- */

static void append_bar(struct bytes *svg, const struct chart *chart, const struct chart_bar *bar,
                       const struct axis *axis, double y)
{
    append_text(svg, LABEL_WIDTH - 8, y + 13, "end", bar->label);
    if (!isfinite(bar->value))
        return;
    double end = place(axis, bar->value), right = end;
    bytes_printf(svg,
                 "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n",
                 axis->from, y, end - axis->from, BAR_HEIGHT, colours[bar->marked ? 1 : 0]);
    if (bar->low <= bar->value && bar->value <= bar->high && isfinite(bar->high - bar->low)) {
        right = place(axis, bar->high);
        append_line(svg, "interval", place(axis, fmax(bar->low, 0)), y + 9, right, y + 9);
        append_line(svg, "interval", right, y + 5, right, y + 13);
    }
    char text[64];
    snprintf(text, sizeof text, "%.*f", chart->digits, bar->value);
    append_text(svg, right + 6, y + 13, "value", text);
}

enum akin_status chart_bars_append(struct bytes *svg, const struct chart *chart,
                                   const struct chart_bar *bars, size_t count,
                                   struct akin_error *error)
{
    if (count == 0 || count > CHART_BARS_MAX)
        return error_set(error, AKIN_ARGUMENT, "a chart of %zu bars: 1 to %d can be drawn", count,
                         CHART_BARS_MAX);
    struct axis axis = { .from = LABEL_WIDTH, .to = WIDTH - VALUE_WIDTH };
    for (size_t i = 0; i < count; i++) {
        if (bars[i].value < 0)
            return error_set(error, AKIN_ARGUMENT, "bar %zu (%.100s) is below 0: it has no length",
                             i, bars[i].label);
        if (isfinite(bars[i].value))
            axis.high = fmax(axis.high, bars[i].value);
        if (isfinite(bars[i].high) && isfinite(bars[i].value))
            axis.high = fmax(axis.high, bars[i].high);
    }
    make_axis(&axis);
    int bottom = TITLE_HEIGHT + (int)count * BAR_STEP;
    int height = bottom + FOOT_HEIGHT + (chart->note ? NOTE_HEIGHT : 0);
    begin(svg, chart, height);
    for (size_t i = 0; i < axis.tick_count; i++) {
        double x = place(&axis, axis.ticks[i]);
        append_line(svg, i ? "grid" : "axis", x, TITLE_HEIGHT, x, bottom);
        append_tick(svg, "mid", x, bottom + 16, axis.ticks[i]);
    }
    for (size_t i = 0; i < count; i++)
        append_bar(svg, chart, &bars[i], &axis, TITLE_HEIGHT + (double)i * BAR_STEP + 4);
    append_text(svg, (axis.from + axis.to) / 2, bottom + 34, "mid", chart->x_label);
    finish(svg, chart, height);
    return AKIN_OK;
}

enum akin_status chart_bars(const char *path, const struct chart *chart,
                            const struct chart_bar *bars, size_t count, struct akin_error *error)
{
    struct bytes svg = { 0 };
    enum akin_status status = chart_bars_append(&svg, chart, bars, count, error);
    if (status == AKIN_OK)
        return write_chart(&svg, path, error);
    bytes_deinit(&svg);
    return status;
}

/* ---- lines ------------------------------------------------------------------------------ */

static bool drawable(const struct chart *chart, const struct chart_line *line, size_t i)
{
    return isfinite(line->x[i]) && isfinite(line->y[i]) && !(chart->log_x && line->x[i] <= 0);
}

/* false: nothing can be drawn. */
static bool find_range(const struct chart *chart, const struct chart_line *lines, size_t count,
                       struct axis *x, struct axis *y)
{
    bool any = false;
    for (size_t l = 0; l < count; l++)
        for (size_t i = 0; i < lines[l].count; i++) {
            if (!drawable(chart, &lines[l], i))
                continue;
            double at_x = lines[l].x[i], at_y = lines[l].y[i];
            x->low = any ? fmin(x->low, at_x) : at_x;
            x->high = any ? fmax(x->high, at_x) : at_x;
            y->low = any ? fmin(y->low, at_y) : at_y;
            y->high = any ? fmax(y->high, at_y) : at_y;
            any = true;
        }
    return any;
}

static void append_curve(struct bytes *svg, const struct chart *chart,
                         const struct chart_line *line, const char *colour, const struct axis *x,
                         const struct axis *y)
{
    bytes_printf(svg, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s d=\"", colour,
                 line->dashed ? " stroke-dasharray=\"6 4\"" : "");
    bool drawing = false;
    for (size_t i = 0; i < line->count; i++) {
        bool can = drawable(chart, line, i);
        if (can)
            bytes_printf(svg, "%c%.1f %.1f", drawing ? 'L' : 'M', place(x, line->x[i]),
                         place(y, line->y[i]));
        drawing = can;
    }
    bytes_append_text(svg, "\"/>\n");
    for (size_t i = 0; line->count <= 40 && i < line->count; i++)
        if (drawable(chart, line, i))
            bytes_printf(svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n",
                         place(x, line->x[i]), place(y, line->y[i]), colour);
}

static void append_axes(struct bytes *svg, const struct chart *chart, const struct axis *x,
                        const struct axis *y)
{
    for (size_t i = 0; i < x->tick_count; i++) {
        double at = place(x, x->ticks[i]);
        append_line(svg, "grid", at, y->to, at, y->from);
        append_tick(svg, "mid", at, y->from + 16, x->ticks[i]);
    }
    for (size_t i = 0; i < y->tick_count; i++) {
        double at = place(y, y->ticks[i]);
        append_line(svg, "grid", x->from, at, x->to, at);
        append_tick(svg, "end", x->from - 6, at + 4, y->ticks[i]);
    }
    append_text(svg, (x->from + x->to) / 2, y->from + 34, "mid", chart->x_label);
    bytes_printf(svg, "<text class=\"mid\" transform=\"translate(14 %.1f) rotate(-90)\">",
                 (y->from + y->to) / 2);
    append_escaped(svg, chart->y_label);
    bytes_append_text(svg, "</text>\n");
}

enum akin_status chart_lines(const char *path, const struct chart *chart,
                             const struct chart_line *lines, size_t count,
                             struct akin_error *error)
{
    struct axis x = { .from = PLOT_LEFT, .to = WIDTH - LEGEND_WIDTH, .logarithmic = chart->log_x };
    struct axis y = { .from = TITLE_HEIGHT + PLOT_HEIGHT, .to = TITLE_HEIGHT + 8 };
    if (count > CHART_LINES_MAX)
        return error_set(error, AKIN_ARGUMENT, "a chart of %zu lines: at most %d can be drawn",
                         count, CHART_LINES_MAX);
    if (!find_range(chart, lines, count, &x, &y))
        return error_set(error, AKIN_ARGUMENT, "chart %.100s: no point that can be drawn",
                         chart->title);
    make_axis(&x);
    make_axis(&y);
    struct bytes svg = { 0 };
    int height = TITLE_HEIGHT + PLOT_HEIGHT + FOOT_HEIGHT + (chart->note ? NOTE_HEIGHT : 0);
    begin(&svg, chart, height);
    append_axes(&svg, chart, &x, &y);
    for (size_t l = 0; l < count; l++) {
        double at = TITLE_HEIGHT + 16 + (double)l * 20;
        append_curve(&svg, chart, &lines[l], colours[l], &x, &y);
        bytes_printf(&svg,
                     "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                     "stroke-width=\"2\"%s/>\n", x.to + 12, at - 4, x.to + 34, at - 4, colours[l],
                     lines[l].dashed ? " stroke-dasharray=\"6 4\"" : "");
        append_text(&svg, x.to + 40, at, "label", lines[l].label);
    }
    finish(&svg, chart, height);
    return write_chart(&svg, path, error);
}
