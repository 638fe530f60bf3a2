/* A writer of a store of events whose every state is known, for tests that kill it, fail its system
 * calls or cut its power. Several may write to one folder: event n is the same, whoever brings it.
 *
 *   events_driver write FOLDER EVENTS ANY    goes on until there are so many; prints "synced N"
 *                                  after each durable N
 *   events_driver verify FOLDER ACKED        a fresh look: exactly 1..N are there, N >= ACKED, with
 *                                  the vectors of their kinds, labels and cursors
 *
 * An append that fails is made again, by the same handle and then by a new one: exit 0 if that went
 * well, 1 if the system let it do nothing, 2 for a wrong result. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/file.h"
#include "compute/cpu/kernels.h"
#include "driver.h"
#include "watch/event_store.h"

enum { BATCH = 4, LABEL_EVERY = 16, KIND_EVERY = 20, DIMENSION = 16, TEXT_MAX = 3000,
       SEGMENT_BYTES = 20000 };

static struct kernels kernels;

static void say(uint64_t number)
{
    char line[64];
    int length = snprintf(line, sizeof line, "synced %" PRIu64 "\n", number);
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        die(1, "standard output is gone");
}

struct made {
    char id[24], cursor[24], text[TEXT_MAX];
    struct stored_event event;
};

static void make_event(uint64_t n, struct made *m)
{
    uint64_t seed = mix(n);
    size_t bytes = n % 100 == 17 ? 0 : n % 100 == 31 ? TEXT_MAX - 1 - seed % 400 : seed % 200;
    for (size_t i = 0; i < bytes; i++)
        m->text[i] = (char)(mix(seed + i / 8) >> 8 * (i % 8));
    m->text[bytes] = 0;
    snprintf(m->id, sizeof m->id, "id %" PRIu64, n);
    snprintf(m->cursor, sizeof m->cursor, "%" PRIu64, n);
    m->event = (struct stored_event){ .time_us = (int64_t)n, .origin = n % 3 ? "x" : "y",
                                      .id = m->id, .cursor = m->cursor, .text = m->text,
                                      .text_bytes = bytes, .time = "", .source = "source",
                                      .level = "", .session = m->id,
                                      .session_bytes = strlen(m->id), .kind = n / KIND_EVERY + 1,
                                      .score = (float)(n % 50), .alert = n % 50 == 49 };
}

static enum akin_status open_store(const char *folder, struct event_store **store)
{
    struct event_store_settings settings = { .folder = folder, .durable = true,
                                             .kernels = &kernels, .model = "model",
                                             .segment_bytes = SEGMENT_BYTES };
    return event_store_open(&settings, (struct event_store_note){ 0 }, store, &error);
}

/* ---- looking ----------------------------------------------------------------------------- */

struct look {
    uint64_t count, acked, cursors[2];
    bool *kinds;                    /* which there are, up to kind_max */
    uint64_t kind_max;
};

static bool take_event(void *cookie, const struct stored_event *e)
{
    static struct made made;
    struct look *look = cookie;
    uint64_t n = ++look->count;
    make_event(n, &made);
    if (e->number != n || e->time_us != made.event.time_us || strcmp(e->id, made.id)
        || strcmp(e->cursor, made.cursor) || e->text_bytes != made.event.text_bytes
        || memcmp(e->text, made.text, e->text_bytes) || e->kind != made.event.kind
        || e->score != made.event.score || e->alert != made.event.alert)
        die(2, "event %" PRIu64 " is not what it was: number %" PRIu64 ", id %s", n, e->number,
            e->id);
    if (n % LABEL_EVERY == 0 && n <= look->acked && e->label != 1)
        die(2, "event %" PRIu64 " has lost its label", n);
    if (e->kind > look->kind_max || !look->kinds[e->kind])
        die(2, "event %" PRIu64 " has no vector", n);
    look->cursors[n % 3 == 0] = n;
    return true;
}

static bool take_kind(void *cookie, uint64_t kind, const char *text, const float *vector,
                      size_t dimension)
{
    struct look *look = cookie;
    if (strcmp(text, "kind") || dimension != DIMENSION || vector[kind % DIMENSION] != 1)
        die(2, "kind %" PRIu64 " is not what it was", kind);
    if (kind > look->kind_max) {
        look->kinds = realloc(look->kinds, kind + 1);
        if (!look->kinds)
            die(1, "no memory");
        memset(look->kinds + look->kind_max + 1, 0, kind - look->kind_max);
        look->kind_max = kind;
    }
    look->kinds[kind] = true;
    return true;
}

/* What holds after every crash: it opens, is what the model says, and knows what it has. */
static int verify(const char *folder, uint64_t acked)
{
    static struct made made;
    struct event_store *store;
    struct look look = { .acked = acked };
    char cursor[32];
    if (!acked && !path_exists(folder))
        return 0;                       /* not made yet */
    look.kinds = calloc(1, 1);
    MUST(open_store(folder, &store));
    MUST(event_store_kinds(store, take_kind, &look, &error));
    MUST(event_store_read(store, 0, false, NULL, take_event, &look, &error));
    if (look.count < acked)
        die(2, "%" PRIu64 " events only", look.count);
    for (int i = 0; i < 2; i++) {
        MUST(event_store_cursor(store, i ? "y" : "x", cursor, sizeof cursor, &error));
        if (strtoull(cursor, NULL, 10) != look.cursors[i])
            die(2, "the cursor is %s after %" PRIu64, cursor, look.cursors[i]);
    }
    for (uint64_t n = look.count; n > 0 && n + 3 > look.count; n--) {
        uint64_t number = 1;
        make_event(n, &made);
        MUST(event_store_append(store, &made.event, 1, &number, &error));
        if (number)
            die(2, "event %" PRIu64 " was stored again", n);
    }
    event_store_close(&store);
    free(look.kinds);
    return 0;
}

/* ---- writing ----------------------------------------------------------------------------- */

static enum akin_status put_kinds(struct event_store *store, uint64_t first, size_t count)
{
    for (uint64_t n = first; n < first + count; n++) {
        float vector[DIMENSION] = { 0 };
        vector[(n / KIND_EVERY + 1) % DIMENSION] = 1;
        enum akin_status status = event_store_put_kind(store, n / KIND_EVERY + 1, "kind", vector,
                                                       DIMENSION, &error);
        if (status != AKIN_OK)
            return status;
    }
    return AKIN_OK;
}

/* Events first, first + 1, ..., durable with their label. */
static enum akin_status append(struct event_store *store, uint64_t first, size_t count)
{
    static struct made made[BATCH];
    struct stored_event events[BATCH];
    uint64_t numbers[BATCH], last = first + count - 1;
    for (size_t i = 0; i < count; i++) {
        make_event(first + i, &made[i]);
        events[i] = made[i].event;
    }
    enum akin_status status = put_kinds(store, first, count);
    if (status == AKIN_OK)
        status = event_store_append(store, events, count, numbers, &error);
    for (size_t i = 0; status == AKIN_OK && i < count; i++)
        if (numbers[i] && numbers[i] != first + i)
            die(2, "event %" PRIu64 " got number %" PRIu64, first + i, numbers[i]);
    if (status == AKIN_OK && last % LABEL_EVERY == 0)
        status = event_store_label(store, last, 1, &error);
    return status;
}

static int write_all(const char *folder, uint64_t events)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        struct event_store *store;
        struct event_store_info info;
        if (open_store(folder, &store) != AKIN_OK) {
            fprintf(stderr, "failed: %s\n", error.message);
            continue;
        }
        event_store_info(store, &info);
        /* Again from behind the last label that is certain: whoever went on had given it. */
        uint64_t next = info.last ? (info.last - 1) / LABEL_EVERY * LABEL_EVERY + 1 : 1;
        bool tried = false;
        while (next <= events) {
            size_t count = events + 1 - next < BATCH ? (size_t)(events + 1 - next) : BATCH;
            if (append(store, next, count) == AKIN_OK) {
                next += count;
                tried = false;
                say(next - 1);
                continue;
            }
            fprintf(stderr, "failed: %s\n", error.message);
            if (tried)
                break;
            tried = true;
        }
        event_store_close(&store);
        if (next > events)
            return 0;
    }
    return 1;
}

int main(int argc, char **argv)
{
    kernels_select(&kernels, cpu_detect());
    if (argc == 5 && !strcmp(argv[1], "write"))
        return write_all(argv[2], strtoull(argv[3], NULL, 10));
    if (argc == 4 && !strcmp(argv[1], "verify"))
        return verify(argv[2], strtoull(argv[3], NULL, 10));
    die(64, "see the top of events_driver.c");
}
