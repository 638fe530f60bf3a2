/* See progress.h. */
#include "cli/progress.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/table.h"

enum { BAR_COLUMNS = 24 };

static const uint64_t second_ns = 1000000000u;
static const uint64_t redraw_ns = 100000000u; /* bar: at most ten times a second */
static const uint64_t line_ns = 5000000000u;  /* plain: at most a line in five seconds */

/* ---- signals ----------------------------------------------------------------------------- */

/* A signal handler can reach nothing but a global. */
static volatile sig_atomic_t interrupted, end_at_once, report_asked;

static void on_signal(int number)
{
    (void)number;
    if (interrupted || end_at_once)
        _exit(130);
    interrupted = 1;
}

void signals_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_signal; /* no SA_RESTART: a read that waits returns */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction inherited;
    if (sigaction(SIGHUP, NULL, &inherited) == 0 && inherited.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL); /* the terminal was closed; nohup says not to care */
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

bool signals_interrupted(void)
{
    return interrupted != 0;
}

static void on_report(int number)
{
    (void)number;
    report_asked = 1;
}

void signals_take_reports(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    action.sa_handler = on_report;
    sigaction(SIGUSR1, &action, NULL);
}

bool signals_report_asked(void)
{
    bool asked = report_asked;
    report_asked = 0;
    return asked;
}

void signals_end_at_once(bool at_once)
{
    end_at_once = at_once;
}

/* ---- progress ---------------------------------------------------------------------------- */

void progress_init(struct progress *progress, bool quiet)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    memset(progress, 0, sizeof *progress);
    progress->quiet = quiet;
    progress->terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    progress->color = progress->terminal && !(no_color && *no_color);
}

struct akin_progress progress_begin(struct progress *progress, const char *unit)
{
    progress_end(progress);
    progress->unit = unit;
    return (struct akin_progress){.cookie = progress, .update = progress_update};
}

static const char *amount(const struct progress *p, char *text, uint64_t value)
{
    return p->unit && strcmp(p->unit, "bytes") == 0 ? format_bytes(text, value)
                                                    : format_count(text, value);
}

/* "5,170 of 9,742 texts, 790/s" */
static void describe(const struct progress *p, double seconds, char *text, size_t bytes)
{
    char done[NUMBER_BYTES], total[NUMBER_BYTES], rate[NUMBER_BYTES];
    bool counted = p->unit && strcmp(p->unit, "bytes") != 0;
    bool partly = p->total && p->done != p->total;
    int n = partly
                ? snprintf(text, bytes, "%s of %s%s%s", amount(p, done, p->done),
                           amount(p, total, p->total), counted ? " " : "", counted ? p->unit : "")
                : snprintf(text, bytes, "%s%s%s", amount(p, done, p->done), counted ? " " : "",
                           counted ? p->unit : "");
    if (n <= 0 || (size_t)n >= bytes || seconds <= 0.05)
        return;
    double per_second = (double)p->done / seconds;
    if (counted && per_second < 10)
        snprintf(text + n, bytes - (size_t)n, ", %.2g/s", per_second);
    else
        snprintf(text + n, bytes - (size_t)n, ", %s/s",
                 amount(p, rate, (uint64_t)(per_second + 0.5)));
}

static double stage_seconds(const struct progress *p, uint64_t now)
{
    return (double)(now - p->begin_ns) / (double)second_ns;
}

static void draw_bar(struct progress *p, uint64_t now)
{
    char text[160], eta[NUMBER_BYTES], bar[BAR_COLUMNS + 1];
    double seconds = stage_seconds(p, now);
    describe(p, seconds, text, sizeof text);
    if (p->total) {
        double share = p->done < p->total ? (double)p->done / (double)p->total : 1;
        size_t filled = (size_t)(share * BAR_COLUMNS);
        memset(bar, '-', BAR_COLUMNS);
        memset(bar, '#', filled);
        bar[BAR_COLUMNS] = '\0';
        double left = share > 0 ? seconds * (1 - share) / share : 0;
        fprintf(stderr, "\r%s %s[%s]%s %3.0f %%  %s, %s left\033[K", p->stage,
                p->color ? "\033[36m" : "", bar, p->color ? "\033[0m" : "", share * 100, text,
                format_seconds(eta, left));
    } else {
        fprintf(stderr, "\r%s  %s\033[K", p->stage, text);
    }
    fflush(stderr);
    p->bar_shown = true;
}

static void print_line(const struct progress *p, uint64_t now)
{
    char text[160];
    describe(p, stage_seconds(p, now), text, sizeof text);
    if (p->total)
        fprintf(stderr, "%s: %3.0f %%, %s\n", p->stage, 100.0 * (double)p->done / (double)p->total,
                text);
    else
        fprintf(stderr, "%s: %s\n", p->stage, text);
}

bool progress_update(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    struct progress *p = cookie;
    if (signals_interrupted())
        return false;
    if (p->quiet)
        return true;
    uint64_t now = clock_monotonic_ns();
    if (strncmp(p->stage, stage, sizeof p->stage - 1) != 0) {
        progress_end(p);
        snprintf(p->stage, sizeof p->stage, "%s", stage);
        p->begin_ns = p->shown_ns = now;
    }
    p->done = done;
    p->total = total;
    if (now - p->shown_ns >= (p->terminal ? redraw_ns : line_ns)) {
        p->shown_ns = now;
        if (p->terminal)
            draw_bar(p, now);
        else
            print_line(p, now);
    }
    return true;
}

void progress_clear(struct progress *p)
{
    if (p->bar_shown)
        fputs("\r\033[K", stderr);
    p->bar_shown = false;
}

void progress_end(struct progress *p)
{
    char text[160];
    progress_clear(p);
    if (p->stage[0]) {
        double seconds = stage_seconds(p, clock_monotonic_ns());
        if (seconds >= 1 && !signals_interrupted()) {
            describe(p, seconds, text, sizeof text);
            fprintf(stderr, "%s: %s in %.1f s\n", p->stage, text, seconds);
        }
    }
    p->stage[0] = '\0';
    p->done = p->total = 0;
}
