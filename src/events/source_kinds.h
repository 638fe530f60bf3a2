/* What the kinds of sources have in common, and how those that read lines and messages are opened.
 * source_open has filled in the name and looked at what every kind needs. */
#pragma once

#include "events/source.h"

/* How lines are read; owns its texts. */
struct source_form {
    enum event_form form;
    struct akin_event_fields fields;
    char *texts;
};

enum akin_status source_form_init(struct source_form *form,
                                  const struct akin_watch_source *settings,
                                  struct akin_error *error);
void source_form_deinit(struct source_form *form);
/* A line, `number` from 1, becomes an event, or SOURCE_BAD with *error. The place
 * "<name>:<number>" is made up only where an error needs it. Fails where memory is out. */
enum akin_status source_form_parse(const struct source_form *form, const char *line, size_t bytes,
                                   const char *name, uint64_t number, struct event *event,
                                   enum source_state *state, struct akin_error *error);
/* SOURCE_BAD: a line of more than `limit` bytes. */
void source_too_long(const char *name, uint64_t number, size_t limit, enum source_state *state,
                     struct akin_error *error);

void source_tell(const struct source_note *note, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

typedef enum akin_status source_opener(const struct akin_watch_source *settings,
                                       const char *cursor, struct source_note note,
                                       struct event_source **source, struct akin_error *error);

source_opener source_lines_open;
source_opener source_socket_open;
source_opener source_nats_open;     /* with AKIN_NATS */
