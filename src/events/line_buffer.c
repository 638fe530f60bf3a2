#include "events/line_buffer.h"

#include <string.h>

#include "base/memory.h"

char *line_buffer_room(struct line_buffer *b, size_t bytes)
{
    size_t needed;
    if (b->begin == b->end) {
        b->begin = b->end = b->searched = 0;
    } else if (b->begin && b->end + bytes > b->capacity) {
        memmove(b->data, b->data + b->begin, b->end - b->begin);
        b->end -= b->begin;
        b->begin = 0;
    }
    if (!size_add(b->end, bytes, &needed)
        || !array_reserve((void **)&b->data, &b->capacity, needed, 1))
        return NULL;
    return b->data + b->end;
}

void line_buffer_filled(struct line_buffer *b, size_t bytes)
{
    b->end += bytes;
}

static void pass(struct line_buffer *b, size_t bytes)
{
    b->begin += bytes;
    b->offset += bytes;
    b->searched = 0;
}

enum line_found line_buffer_next(struct line_buffer *b, bool at_end, const char **line,
                                 size_t *bytes)
{
    size_t unread = b->end - b->begin;
    const char *start = b->data ? b->data + b->begin : "", *newline = NULL;
    if (unread > b->searched)
        newline = memchr(start + b->searched, '\n', unread - b->searched);
    if (!newline && !(at_end && (unread || b->skipping))) {
        b->searched = unread;
        if (unread > b->line_max || b->skipping) {
            b->skipping = true;
            pass(b, unread);
        }
        return LINE_NONE;
    }
    size_t length = newline ? (size_t)(newline - start) : unread;
    bool skipped = b->skipping || length > b->line_max;
    pass(b, length + (newline != NULL));
    b->skipping = false;
    b->number++;
    if (skipped)
        return LINE_LONG;
    *line = length ? start : "";
    *bytes = length - (newline && length && start[length - 1] == '\r');
    return LINE_WHOLE;
}

void line_buffer_restart(struct line_buffer *b, uint64_t offset)
{
    b->begin = b->end = b->searched = 0;
    b->offset = offset;
    b->skipping = false;
}

void line_buffer_shrink(struct line_buffer *b)
{
    if (b->begin < b->end)
        return;
    memory_free(b->data);
    b->data = NULL;
    b->capacity = b->begin = b->end = b->searched = 0;
}

void line_buffer_deinit(struct line_buffer *b)
{
    memory_free(b->data);
    *b = (struct line_buffer){0};
}
