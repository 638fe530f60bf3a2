/* Pictures of measurements as SVG files: horizontal bars with intervals, and lines over an axis. No
 * script, no font, no link: any browser and any page shows them, in light and in dark. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"
#include "base/status.h"

/* One bar. low and high draw an interval where low <= value <= high; NAN: none. */
struct chart_bar {
    const char *label;
    double value, low, high;    /* a value that is not finite leaves the bar out, not its label */
    bool marked;                /* in the second colour: the one to look at */
};

/* A line through [count] points; a point that is not finite breaks it. */
struct chart_line {
    const char *label;
    const double *x, *y;
    size_t count;
    bool dashed;
};

/* Texts are UTF-8 and may hold anything; they are escaped. */
struct chart {
    const char *title, *note;   /* note: a line below, such as machine and date; NULL: none */
    const char *x_label, *y_label;
    int digits;                 /* behind the point of values written beside bars */
    bool log_x;                 /* lines only; points at or below 0 are left out */
};

enum { CHART_BARS_MAX = 64, CHART_LINES_MAX = 8 };

/* Write `path` whole or not at all. Values of bars are at least 0. AKIN_ARGUMENT: nothing to draw,
 * more than the limits above, a negative value; AKIN_IO. */
enum akin_status chart_bars(const char *path, const struct chart *chart,
                            const struct chart_bar *bars, size_t count, struct akin_error *error);
/* The same behind what `svg` holds, as an element of a page. */
enum akin_status chart_bars_append(struct bytes *svg, const struct chart *chart,
                                   const struct chart_bar *bars, size_t count,
                                   struct akin_error *error);
enum akin_status chart_lines(const char *path, const struct chart *chart,
                             const struct chart_line *lines, size_t count,
                             struct akin_error *error);

/* Appends text that may stand between tags and in attributes. What XML 1.0 does not allow becomes a
 * blank. NULL is "". */
void append_escaped(struct bytes *out, const char *text);
