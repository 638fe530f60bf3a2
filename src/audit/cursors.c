/* Sources and their cursors. */
#include "audit/cursors.h"

#include <string.h>

#include "base/limits.h"

const struct cursor *cursors_find(const struct cursors *cursors, const char *source, size_t bytes)
{
    uint64_t at;
    if (cursors->count == 0 || !string_map_get(&cursors->map, source, bytes, &at))
        return NULL;
    return &cursors->items[at];
}

static struct cursor *add(struct cursors *c, const char *source, size_t bytes)
{
    if (!array_reserve((void **)&c->items, &c->capacity, c->count + 1, sizeof *c->items))
        return NULL;
    char *copy = memory_copy_bytes(source, bytes);
    if (!copy || !string_map_put(&c->map, copy, bytes, c->count, NULL, NULL)) {
        memory_free(copy);
        return NULL;
    }
    c->items[c->count] = (struct cursor){.source = copy, .source_bytes = bytes};
    return &c->items[c->count++];
}

enum akin_status cursors_take(struct cursors *c, const struct entry *entry,
                              struct akin_error *error)
{
    if (entry->cursor_bytes == 0)
        return AKIN_OK;
    const struct cursor *known = cursors_find(c, entry->source, entry->source_bytes);
    if (!known && c->count == AUDIT_SOURCES_MAX)
        return error_set(error, AKIN_LIMIT, "more than %d sources with cursors",
                         AUDIT_SOURCES_MAX);
    struct cursor *cursor = known ? &c->items[known - c->items]
                                  : add(c, entry->source, entry->source_bytes);
    if (!cursor || !array_reserve((void **)&cursor->text, &cursor->capacity, entry->cursor_bytes,
                                  1))
        return error_memory(error);
    memcpy(cursor->text, entry->cursor, entry->cursor_bytes);
    cursor->bytes = entry->cursor_bytes;
    return AKIN_OK;
}

void cursors_append(const struct cursors *c, struct bytes *out)
{
    for (size_t i = 0; i < c->count; i++) {
        unsigned char length = (unsigned char)c->items[i].source_bytes;
        bytes_append(out, &length, 1);
        bytes_append(out, c->items[i].source, c->items[i].source_bytes);
        append_u16(out, (uint16_t)c->items[i].bytes);
        bytes_append(out, c->items[i].text, c->items[i].bytes);
    }
}

bool cursors_read(struct cursors *c, const unsigned char *bytes, size_t count)
{
    for (size_t at = 0; at < count;) {
        struct entry entry = {.source_bytes = bytes[at++]};
        entry.source = (const char *)bytes + at;
        if (count - at < entry.source_bytes + 2)
            return false;
        at += entry.source_bytes;
        entry.cursor_bytes = get_u16(bytes + at);
        at += 2;
        entry.cursor = (const char *)bytes + at;
        if (count - at < entry.cursor_bytes || entry.cursor_bytes == 0 ||
            entry.cursor_bytes > AKIN_AUDIT_CURSOR_BYTES_MAX || c->count == AUDIT_SOURCES_MAX)
            return false;
        at += entry.cursor_bytes;
        if (cursors_find(c, entry.source, entry.source_bytes) || cursors_take(c, &entry, NULL))
            return false;
    }
    return true;
}

void cursors_deinit(struct cursors *c)
{
    for (size_t i = 0; i < c->count; i++) {
        memory_free(c->items[i].source);
        memory_free(c->items[i].text);
    }
    memory_free(c->items);
    string_map_deinit(&c->map);
    *c = (struct cursors){0};
}
