/* Bytes as they come, cut into lines. A line that is too long is dropped as it comes, so that the
 * buffer stays below line_max and one read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct line_buffer {
    char *data;                 /* what is not handed out yet is [begin, end) */
    size_t capacity, begin, end, searched;
    size_t line_max;
    uint64_t offset;            /* of `begin` in the stream */
    uint64_t number;            /* of the line handed out last, from 1 */
    bool skipping;              /* inside a line that is too long */
};

enum line_found {
    LINE_NONE,                  /* more bytes are needed */
    LINE_WHOLE,
    LINE_LONG,                  /* one of more than line_max bytes has ended; it is gone */
};

/* Where `bytes` more may be written; NULL: no memory. */
char *line_buffer_room(struct line_buffer *buffer, size_t bytes);
void line_buffer_filled(struct line_buffer *buffer, size_t bytes);
/* "\n" and "\r\n" end a line, and so does the end of the stream. Views are valid until bytes are
 * added. */
enum line_found line_buffer_next(struct line_buffer *buffer, bool at_end, const char **line,
                                 size_t *bytes);
/* Another stream begins, at `offset` of it. */
void line_buffer_restart(struct line_buffer *buffer, uint64_t offset);
static inline size_t line_buffer_unread(const struct line_buffer *buffer)
{
    return buffer->end - buffer->begin;
}
/* Gives its memory back where nothing is unread. */
void line_buffer_shrink(struct line_buffer *buffer);
void line_buffer_deinit(struct line_buffer *buffer);
