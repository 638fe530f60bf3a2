#include "watch/pace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "watch/arrivals.h"

struct paced_source {
    struct event_source base;
    struct event_source *inner;
    double speed;
    bool begun, waiting;            /* `copy` has not been handed out */
    int64_t first_us, latest_us;    /* of events; the latest is what none may wait behind */
    uint64_t first_ns;              /* when the first was handed out */
    uint64_t due_ns;
    struct event event;             /* the inner source's last */
    struct arrival copy;            /* of it: the source may be told meanwhile what is stored */
};

/* ---- times of logs ----------------------------------------------------------------------- */

static bool read_number(const char *text, int64_t *us)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || value < 0 || value >= 9e18)
        return false;
    double scale = value < 1e11 ? 1e6 : value < 1e14 ? 1e3 : value < 1e17 ? 1 : 1e-3;
    *us = (int64_t)(value * scale);
    return true;
}

bool pace_time(const char *text, int64_t *us)
{
    int year, month, day, hour, minute, used = 0;
    double second = 0;
    if (sscanf(text, "%4d-%2d-%2d%*1[T -]%2d%*1[:.]%2d%n", &year, &month, &day, &hour, &minute,
               &used) != 5 || !used)
        return read_number(text, us);
    if ((text[used] == ':' || text[used] == '.') && text[used + 1])
        second = strtod(text + used + 1, NULL);
    if (month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 24 || minute < 0
        || minute > 59 || !(second >= 0 && second < 61))
        return false;
    *us = ((clock_days(year, month, day) * 24 + hour) * 60 + minute) * 60000000
          + (int64_t)(second * 1e6);
    return true;
}

/* ---- the source -------------------------------------------------------------------------- */

static void find_due(struct paced_source *p)
{
    int64_t us;
    uint64_t now = clock_monotonic_ns();
    p->due_ns = now;
    if (!pace_time(p->copy.event.time, &us))
        return;
    if (!p->begun) {
        p->begun = true;
        p->first_us = p->latest_us = us;
        p->first_ns = now;
    }
    if (us <= p->latest_us)
        return;
    p->latest_us = us;
    double passed = (double)(us - p->first_us) * 1e3 / p->speed;
    p->due_ns = passed < 1e18 ? p->first_ns + (uint64_t)passed : UINT64_MAX;
}

static enum akin_status next(struct event_source *source, int timeout_ms, struct event *event,
                             enum source_state *state, struct akin_error *error)
{
    struct paced_source *p = (struct paced_source *)source;
    if (!p->waiting) {
        TRY(p->inner->next(p->inner, timeout_ms, &p->event, state, error));
        p->base.lost = p->inner->lost;
        if (*state != SOURCE_EVENT)
            return AKIN_OK;
        if (!arrival_fill(&p->copy, &p->event))
            return error_memory(error);
        find_due(p);
        p->waiting = true;
    }
    uint64_t now = clock_monotonic_ns(), wait_ns = (uint64_t)timeout_ms * 1000000;
    if (p->due_ns > now) {
        uint64_t left = p->due_ns - now;
        clock_sleep_us((unsigned)((left < wait_ns ? left : wait_ns) / 1000));
        if (left > wait_ns) {
            *state = SOURCE_QUIET;
            return AKIN_OK;
        }
    }
    *event = p->copy.event;
    *state = SOURCE_EVENT;
    p->waiting = false;
    return AKIN_OK;
}

static enum akin_status stored(struct event_source *source, uint64_t ticket,
                               struct akin_error *error)
{
    struct event_source *inner = ((struct paced_source *)source)->inner;
    return inner->stored(inner, ticket, error);
}

static void close_paced(struct event_source *source)
{
    struct paced_source *p = (struct paced_source *)source;
    source_close(&p->inner);
    event_clear(&p->event);
    bytes_deinit(&p->copy.copy);
    memory_free(p);
}

enum akin_status pace_source(struct event_source **source, double speed, struct akin_error *error)
{
    struct paced_source *p = memory_alloc(1, sizeof *p);
    if (!p)
        return error_memory(error);
    *p = (struct paced_source){ .base = { .name = (*source)->name, .waits = (*source)->waits,
                                          .next = next, .stored = stored, .close = close_paced },
                                .inner = *source, .speed = speed };
    *source = &p->base;
    return AKIN_OK;
}
