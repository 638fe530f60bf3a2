/* Reading a store of events in the order of their numbers. What passes is found in memory, a piece
 * at a time so that nobody waits for long; records are read when no lock is held. */
#include <inttypes.h>
#include <string.h>

#include "compute/cpu/kernels.h"
#include "watch/event_store_state.h"

enum { PLACES_AT_ONCE = 256, ROWS_AT_ONCE = 1 << 16 };

/* ---- filters --------------------------------------------------------------------------------- */

static bool find(const struct event_segment *segment, const char *text, uint32_t *place)
{
    *place = text ? segment_find_string(segment, text, strlen(text)) : ROW_NONE;
    return !text || *place != ROW_NONE;
}

struct segment_filter store_filter(const struct event_segment *segment,
                                   const struct event_filter *f)
{
    struct segment_filter places = { .source = ROW_NONE, .session = ROW_NONE, .origin = ROW_NONE,
                                     .level = ROW_NONE };
    if (!f)
        return places;
    places.none = (f->alerts && !segment->alerts) || (f->from_us && segment->time_max < f->from_us)
                  || (f->until_us && segment->time_min > f->until_us)
                  || !find(segment, f->source, &places.source)
                  || !find(segment, f->session, &places.session)
                  || !find(segment, f->origin, &places.origin)
                  || !find(segment, f->level, &places.level);
    return places;
}

bool store_passes(const struct event_store *s, const struct event_segment *segment,
                  const struct event_row *row, const struct event_filter *f,
                  const struct segment_filter *places)
{
    if (!f)
        return true;
    return (!f->from_us || row->time_us >= f->from_us)
           && (!f->until_us || row->time_us <= f->until_us)
           && (!f->alerts || row->flags & ROW_ALERT)
           && (f->score_min == 0 || (double)row->score >= f->score_min)
           && (places->source == ROW_NONE || row->source == places->source)
           && (places->session == ROW_NONE || row->session == places->session)
           && (places->origin == ROW_NONE || row->origin == places->origin)
           && (places->level == ROW_NONE || row->level == places->level)
           && (!f->label || store_label_of(s, segment->first + row->step) == f->label);
}

/* ---- which ----------------------------------------------------------------------------------- */

struct place {
    uint64_t first, number;         /* the segment; the event */
    uint32_t offset, bytes;
    int label;
};

struct walk {
    struct event_store *store;
    const struct event_filter *filter;
    uint64_t at;                    /* the next number to be looked at */
    bool newest, ended;
    struct place places[PLACES_AT_ONCE];
    size_t count;
};

/* The first row whose number is at least `number`. */
static size_t row_from(const struct event_segment *segment, uint64_t number)
{
    size_t low = 0, high = segment->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (segment->first + segment->rows[middle].step < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void offer(struct walk *w, const struct event_segment *segment, size_t at,
                  const struct segment_filter *places)
{
    const struct event_row *row = &segment->rows[at];
    uint64_t number = segment->first + row->step;
    if (store_passes(w->store, segment, row, w->filter, places))
        w->places[w->count++] = (struct place){ segment->first, number, row->offset, row->bytes,
                                                store_label_of(w->store, number) };
    w->at = w->newest ? number - 1 : number + 1;
}

static void gather_up(struct walk *w)
{
    const struct event_store *s = w->store;
    size_t looked = 0;
    for (size_t i = 0; i < s->segment_count; i++) {
        const struct event_segment *segment = s->segments[i];
        struct segment_filter places;
        if (!segment->count || segment_last(segment) < w->at)
            continue;
        places = store_filter(segment, w->filter);
        if (places.none) {
            w->at = segment_last(segment) + 1;
            continue;
        }
        for (size_t at = row_from(segment, w->at); at < segment->count; at++) {
            if (w->count == PLACES_AT_ONCE || looked++ == ROWS_AT_ONCE)
                return;
            offer(w, segment, at, &places);
        }
    }
    w->ended = true;
}

static void gather_down(struct walk *w)
{
    const struct event_store *s = w->store;
    size_t looked = 0;
    for (size_t i = s->segment_count; i-- > 0;) {
        const struct event_segment *segment = s->segments[i];
        if (!segment->count || segment->first > w->at)
            continue;
        struct segment_filter places = store_filter(segment, w->filter);
        for (size_t at = places.none || w->at == UINT64_MAX ? segment->count
                                                            : row_from(segment, w->at + 1);
             !places.none && at-- > 0;) {
            if (w->count == PLACES_AT_ONCE || looked++ == ROWS_AT_ONCE)
                return;
            offer(w, segment, at, &places);
        }
        w->at = segment->first - 1;
    }
    w->ended = true;
}

/* ---- what ------------------------------------------------------------------------------------ */

struct reader {
    struct event_store *store;
    struct file_at log;
    uint64_t first;                 /* of the segment that is open; 0: none */
    unsigned char *data;
    size_t capacity;
    bool told;
};

/* false: it is not there any more, or damaged, which is told once. */
static enum akin_status read_event(struct reader *r, const struct place *place,
                                   struct stored_event *event, bool *there,
                                   struct akin_error *error)
{
    struct record record;
    *there = false;
    if (r->first != place->first) {
        char path[PATH_BYTES_MAX];
        file_at_close(&r->log);
        r->first = 0;
        store_segment_path(r->store, place->first, LOG_FILE, path);
        enum akin_status status = file_at_open(path, FILE_AT_READ, &r->log, error);
        if (status == AKIN_NOT_FOUND)
            return AKIN_OK;             /* its time was over */
        if (status != AKIN_OK)
            return status;
        r->first = place->first;
    }
    if (!array_reserve((void **)&r->data, &r->capacity, place->bytes, 1))
        return error_memory(error);
    enum akin_status status = file_at_read(&r->log, place->offset, r->data, place->bytes, error);
    if (status != AKIN_OK && status != AKIN_FORMAT)
        return status;
    *there = status == AKIN_OK && stored_record_read(r->data, place->bytes, RECORD_EVENT, &record)
             && record.number == place->number && !event_record_parse(&record, event);
    if (!*there && !r->told) {
        store_tell(r->store, "%s: event %" PRIu64 " at byte %" PRIu32 " is damaged and is left "
                   "out, and so may be others", r->log.path, place->number, place->offset);
        r->told = true;
    }
    event->label = (int8_t)place->label;
    return AKIN_OK;
}

enum akin_status event_store_read(struct event_store *s, uint64_t from, bool newest,
                                  const struct event_filter *filter,
                                  bool (*take)(void *cookie, const struct stored_event *event),
                                  void *cookie, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct reader reader = { .store = s, .log.fd = -1 };
    struct walk *w = memory_alloc(1, sizeof *w);
    if (!w)
        return error_memory(error);
    *w = (struct walk){ .store = s, .filter = filter, .newest = newest,
                        .at = newest && !from ? UINT64_MAX : from };
    while (status == AKIN_OK && !w->ended) {
        w->count = 0;
        turnstile_enter(s->state);
        if (newest)
            gather_down(w);
        else
            gather_up(w);
        turnstile_leave(s->state);
        for (size_t i = 0; i < w->count && status == AKIN_OK; i++) {
            struct stored_event event = { 0 };
            bool there;
            status = read_event(&reader, &w->places[i], &event, &there, error);
            if (status == AKIN_OK && there && !take(cookie, &event)) {
                w->ended = true;
                break;
            }
        }
    }
    file_at_close(&reader.log);
    memory_free(reader.data);
    memory_free(w);
    return status;
}

/* ---- kinds ----------------------------------------------------------------------------------- */

enum akin_status event_store_kinds(struct event_store *s,
                                   bool (*take)(void *cookie, uint64_t kind, const char *text,
                                                const float *vector, size_t dimension),
                                   void *cookie, struct akin_error *error)
{
    if (!s->settings.kernels)
        return error_set(error, AKIN_ARGUMENT, "%s: was opened without kernels", s->folder);
    turnstile_enter(s->state);
    size_t dimension = s->kinds.dimension;
    float *vector = memory_alloc_aligned(dimension ? dimension : 1, sizeof *vector);
    for (size_t i = 0; vector && i < s->kinds.count; i++) {
        s->settings.kernels->widen_f16(vector, s->kinds.halves + i * dimension, dimension);
        if (!take(cookie, s->kinds.ids[i], s->kinds.texts[i], vector, dimension))
            break;
    }
    turnstile_leave(s->state);
    memory_free(vector);
    return vector ? AKIN_OK : error_memory(error);
}
