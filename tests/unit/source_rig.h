/* A source as a test drives it: notes are kept, events are copied. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "events/source.h"

struct notes {
    char text[8192];
};

static void keep_note(void *cookie, const char *source, const char *line)
{
    struct notes *notes = cookie;
    size_t used = strlen(notes->text);
    snprintf(notes->text + used, sizeof notes->text - used, "%s: %s\n", source, line);
}

static struct source_note notes_begin(struct notes *notes)
{
    notes->text[0] = 0;
    return (struct source_note){notes, keep_note};
}

struct got {
    enum source_state state;
    uint64_t seq;
    char text[4096], id[600], cursor[256], session[256];
    struct akin_error error;
};

/* One call of next. */
static struct got next_of(struct event_source *source, int timeout_ms)
{
    struct event event = {0};
    struct got got = {0};
    assert_int_equal(source->next(source, timeout_ms, &event, &got.state, &got.error), AKIN_OK);
    if (got.state == SOURCE_EVENT) {
        got.seq = event.seq;
        snprintf(got.text, sizeof got.text, "%s", event.text);
        snprintf(got.id, sizeof got.id, "%s", event.id);
        snprintf(got.cursor, sizeof got.cursor, "%s", event.cursor);
        snprintf(got.session, sizeof got.session, "%s", event.session);
    }
    event_clear(&event);
    return got;
}

/* The next that is not quiet, within a minute. */
static struct got wait_for(struct event_source *source)
{
    struct got got = {.state = SOURCE_QUIET};
    for (int i = 0; i < 600 && got.state == SOURCE_QUIET; i++)
        got = next_of(source, 100);
    return got;
}

/* Expects the events `texts`, which commas separate. */
static __attribute__((unused)) void expect(struct event_source *source, const char *texts)
{
    char list[1024], *rest = list, *text;
    snprintf(list, sizeof list, "%s", texts);
    while ((text = strsep(&rest, ","))) {
        struct got got = wait_for(source);
        assert_int_equal(got.state, SOURCE_EVENT);
        assert_string_equal(got.text, text);
    }
}

static char folder[64], path[PATH_BYTES_MAX];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/akin_source_XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/log", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}
