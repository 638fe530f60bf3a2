/* What the tests of the store of events share: a folder, events whose content is known by their
 * number, what was told. Include after cmocka.h. */
#pragma once

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "compute/cpu/kernels.h"
#include "watch/event_store.h"

enum { RIG_DIM = 8, RIG_KINDS = 5 };

struct rig {
    char folder[64], path[128];
    struct akin_error error;
    struct kernels kernels;
    struct event_store_settings settings;
    struct event_store *store;
    struct bytes told;
};

#define assert_ok(rig, call)                                                                 \
    do {                                                                                     \
        enum akin_status status_ = (call);                                                   \
        if (status_ != AKIN_OK)                                                              \
            fail_msg("%s:%d: %s: status %d, \"%s\"", __FILE__, __LINE__, #call, status_,     \
                     (rig)->error.message);                                                  \
    } while (0)

static inline void rig_tell(void *cookie, const char *line)
{
    struct rig *rig = cookie;
    bytes_append_text(&rig->told, line);
    bytes_append_text(&rig->told, "\n");
}

/* What is mounted from here on is gone with this process, however that ends. */
static inline bool rig_mounts_of_our_own(void)
{
    return !unshare(CLONE_NEWNS) && !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static inline int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    if (!rig)
        return -1;
    const char *fast = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";  /* no disk to wait for */
    snprintf(rig->folder, sizeof rig->folder, "%s/akin_events_XXXXXX", fast);
    if (!mkdtemp(rig->folder))
        return -1;
    snprintf(rig->path, sizeof rig->path, "%s/store", rig->folder);
    kernels_select(&rig->kernels, cpu_detect());
    rig->settings = (struct event_store_settings){ .folder = rig->path, .kernels = &rig->kernels,
                                                   .model = "model" };
    *state = rig;
    return 0;
}

static inline int rig_teardown(void **state)
{
    struct rig *rig = *state;
    event_store_close(&rig->store);
    bytes_deinit(&rig->told);
    path_remove_tree(rig->folder, NULL);
    free(rig);
    return 0;
}

static inline enum akin_status rig_try(struct rig *rig)
{
    event_store_close(&rig->store);
    bytes_clear(&rig->told);
    return event_store_open(&rig->settings, (struct event_store_note){ rig, rig_tell },
                            &rig->store, &rig->error);
}

static inline void rig_open(struct rig *rig)
{
    assert_ok(rig, rig_try(rig));
}

/* Event n, from 1. The second text of a pair has a NUL inside; every third has no cursor. */
struct made {
    char id[32], cursor[32], text[64], session[32];
    struct stored_event event;
};

static inline void rig_make(uint64_t n, struct made *m)
{
    static const char *const levels[] = {"INFO", "WARN", "ERROR"};
    snprintf(m->id, sizeof m->id, n % 7 ? "id %" PRIu64 : "", n);
    snprintf(m->cursor, sizeof m->cursor, n % 3 ? "at %" PRIu64 : "", n);
    int bytes = snprintf(m->text, sizeof m->text, "event %" PRIu64 " happened", n);
    if (n % 2 == 0)
        m->text[5] = 0;
    int session = snprintf(m->session, sizeof m->session, "session %" PRIu64, n / 4);
    m->event = (struct stored_event){ .time_us = 1000000 * (int64_t)n, .origin = n % 2 ? "a" : "b",
                                      .id = m->id, .cursor = m->cursor, .text = m->text,
                                      .text_bytes = (size_t)bytes, .time = "then",
                                      .source = n % 5 ? "net" : "disk", .level = levels[n % 3],
                                      .session = m->session, .session_bytes = (size_t)session,
                                      .kind = 100 + n % RIG_KINDS, .score = (float)(n % 10),
                                      .alert = n % 10 == 9 };
}

static inline enum akin_status rig_append(struct rig *rig, uint64_t first, size_t count,
                                          uint64_t *numbers)
{
    struct made *made = calloc(count, sizeof *made);
    struct stored_event *events = calloc(count, sizeof *events);
    assert_non_null(made);
    assert_non_null(events);
    for (size_t i = 0; i < count; i++) {
        rig_make(first + i, &made[i]);
        events[i] = made[i].event;
    }
    enum akin_status status = event_store_append(rig->store, events, count, numbers, &rig->error);
    free(made);
    free(events);
    return status;
}

/* Events [first, first + count), which get these numbers. */
static inline void rig_fill(struct rig *rig, uint64_t first, size_t count, size_t group)
{
    uint64_t numbers[256];
    for (size_t done = 0; done < count; done += group) {
        size_t some = count - done < group ? count - done : group;
        assert_true(some <= 256);
        assert_ok(rig, rig_append(rig, first + done, some, numbers));
        for (size_t i = 0; i < some; i++)
            assert_int_equal(numbers[i], first + done + i);
    }
}

struct rig_reading {
    uint64_t next, count, stop;
    bool down;
};

static inline void rig_expect(const struct stored_event *e, uint64_t n)
{
    struct made made;
    rig_make(n, &made);
    assert_int_equal(e->number, n);
    assert_int_equal(e->time_us, made.event.time_us);
    assert_string_equal(e->origin, made.event.origin);
    assert_string_equal(e->id, made.event.id);
    assert_string_equal(e->cursor, made.event.cursor);
    assert_int_equal(e->text_bytes, made.event.text_bytes);
    assert_memory_equal(e->text, made.event.text, made.event.text_bytes + 1);
    assert_string_equal(e->time, made.event.time);
    assert_string_equal(e->source, made.event.source);
    assert_string_equal(e->level, made.event.level);
    assert_string_equal(e->session, made.event.session);
    assert_int_equal(e->session_bytes, made.event.session_bytes);
    assert_int_equal(e->kind, made.event.kind);
    assert_true(e->score == made.event.score && e->alert == made.event.alert);
}

static inline bool rig_take(void *cookie, const struct stored_event *event)
{
    struct rig_reading *r = cookie;
    rig_expect(event, r->next);
    r->next += r->down ? (uint64_t)-1 : 1;
    return ++r->count != r->stop;
}

/* Exactly the events first..last are there. */
static inline void rig_expect_all(struct rig *rig, uint64_t first, uint64_t last)
{
    struct rig_reading up = { .next = first }, down = { .next = last, .down = true };
    assert_ok(rig, event_store_read(rig->store, 0, false, NULL, rig_take, &up, &rig->error));
    assert_int_equal(up.count, last + 1 - first);
    assert_ok(rig, event_store_read(rig->store, 0, true, NULL, rig_take, &down, &rig->error));
    assert_int_equal(down.count, last + 1 - first);
}
