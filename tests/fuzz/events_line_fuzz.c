/* A stream of any bytes, cut into lines in pieces of any size and in one, gives the same lines;
 * each becomes an event with named fields, or is refused. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "events/event.h"
#include "events/line_buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINE_MAX_BYTES = 64 };

static uint64_t mix(uint64_t sum, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sum = (sum ^ (unsigned char)bytes[i]) * 1099511628211u;
    return (sum ^ 0x100) * 1099511628211u;
}

static void look_at(const struct event *e)
{
    if (!e->text_bytes || strlen(e->id) > EVENT_ID_BYTES_MAX || *e->cursor)
        abort();
    const volatile uint64_t sum = mix(0, e->text, e->text_bytes) + mix(0, e->session,
        e->session_bytes) + strlen(e->time) + strlen(e->source) + strlen(e->level);
    (void)sum;
}

static void parse(struct event *event, const char *line, size_t bytes)
{
    static const struct akin_event_fields fields[] = {
        {.text = "a.b", .time = "t", .source = "a.b.c", .level = "l.v", .session = "s", .id = "id"},
        {.text = "", .id = "a.b.c"},
        {.text = "text", .time = "text", .session = "text", .id = "text"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        for (int form = EVENT_JSONL; form <= EVENT_PLAIN; form++)
            if (event_parse(event, (enum event_form)form, line, bytes, &fields[i], 0, "fuzz:1",
                            NULL) == AKIN_OK && bytes)
                look_at(event);
}

/* A sum of all lines and of where they end. */
static uint64_t cut(const uint8_t *data, size_t size, size_t piece, struct event *event)
{
    struct line_buffer lines = {.line_max = LINE_MAX_BYTES};
    uint64_t sum = 0;
    for (size_t at = 0; at <= size;) {
        size_t count = size - at < piece ? size - at : piece;
        const char *line = "";
        size_t bytes = 0;
        char *room = line_buffer_room(&lines, count + 1);
        if (!room)
            break;
        memcpy(room, data + at, count);
        line_buffer_filled(&lines, count);
        at += count;
        for (enum line_found found;
             (found = line_buffer_next(&lines, at == size, &line, &bytes)) != LINE_NONE;) {
            sum = mix(sum + lines.offset, found == LINE_WHOLE ? line : "",
                      found == LINE_WHOLE ? bytes : 0);
            if (bytes > LINE_MAX_BYTES || lines.offset > size)
                abort();
            if (found == LINE_WHOLE && event)
                parse(event, line, bytes);
        }
        if (line_buffer_unread(&lines) > LINE_MAX_BYTES)
            abort();
        line_buffer_shrink(&lines);
        at += at == size;
    }
    sum += lines.number;
    line_buffer_deinit(&lines);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct event event = {0};
    uint64_t whole = cut(data, size, size ? size : 1, &event);
    parse(&event, (const char *)data, size);
    for (size_t piece = 1; piece <= 5; piece += 2)
        if (cut(data, size, piece, NULL) != whole)
            abort();
    event_clear(&event);
    return 0;
}
