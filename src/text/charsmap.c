#include "text/charsmap.h"

#include <string.h>

#include "base/base64.h"
#include "base/utf8.h"

static uint32_t read_u32(const char *bytes)
{
    const unsigned char *b = (const unsigned char *)bytes;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static enum akin_status split_parts(struct charsmap *map, const struct bytes *raw,
                                    const char *where, struct akin_error *error)
{
    if (raw->count < 4)
        return error_set(error, AKIN_FORMAT,
                         "%s: precompiled_charsmap: %zu bytes, shorter than its header", where,
                         raw->count);
    size_t units = read_u32(raw->data) / 4;
    if (units == 0 || units > (raw->count - 4) / 4)
        return error_set(error, AKIN_FORMAT,
                         "%s: precompiled_charsmap: a trie of %zu units in %zu bytes", where, units,
                         raw->count - 4);
    const char *blob = raw->data + 4 + units * 4;
    size_t blob_bytes = raw->count - 4 - units * 4;
    if (!utf8_valid(blob, blob_bytes))
        return error_set(error, AKIN_FORMAT, "%s: precompiled_charsmap: replacements are not UTF-8",
                         where);
    map->units = memory_alloc(units, sizeof *map->units);
    if (!map->units)
        return error_memory(error);
    map->units_count = units;
    for (size_t i = 0; i < units; i++)
        map->units[i] = read_u32(raw->data + 4 + i * 4);
    bytes_append(&map->blob, blob, blob_bytes);
    return map->blob.failed ? error_memory(error) : AKIN_OK;
}

enum akin_status charsmap_init(struct charsmap *map, const char *base64, size_t bytes,
                               const char *where, struct akin_error *error)
{
    struct bytes raw = { 0 };
    enum akin_status status;
    *map = (struct charsmap){ 0 };
    if (!base64_decode(base64, bytes, &raw))
        status = error_set(error, AKIN_FORMAT, "%s: precompiled_charsmap: not valid base64", where);
    else if (raw.failed)
        status = error_memory(error);
    else
        status = split_parts(map, &raw, where, error);
    bytes_deinit(&raw);
    if (status != AKIN_OK)
        charsmap_deinit(map);
    return status;
}

void charsmap_deinit(struct charsmap *map)
{
    memory_free(map->units);
    bytes_deinit(&map->blob);
    *map = (struct charsmap){ 0 };
}

/* Layout of a unit: bits 0-7 and 31 the label, bit 8 "has a leaf", bit 9 "offset times 256", bits
 * 10-30 the offset; a leaf holds its value in bits 0-30. */
static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

bool charsmap_find(const struct charsmap *map, const char *part, size_t bytes,
                   const char **replacement, size_t *replacement_bytes)
{
    size_t node = unit_offset(map->units[0]);
    for (size_t i = 0; i < bytes && part[i] != '\0'; i++) {
        unsigned char byte = (unsigned char)part[i];
        node ^= byte;
        if (node >= map->units_count)
            return false;
        uint32_t unit = map->units[node];
        if ((unit & (1u << 31 | 0xff)) != byte)
            return false;
        node ^= unit_offset(unit);
        if (!(unit >> 8 & 1))
            continue;
        size_t value = node < map->units_count ? map->units[node] & 0x7fffffff : SIZE_MAX;
        if (value > map->blob.count)
            return false;       /* a map that lies: as if the key were not there */
        *replacement = map->blob.data ? map->blob.data + value : "";
        const char *end = memchr(*replacement, '\0', map->blob.count - value);
        *replacement_bytes = end ? (size_t)(end - *replacement) : map->blob.count - value;
        return true;
    }
    return false;
}

/* Changes are known one code point late: a part that maps to nothing is swallowed by the one
 * before it. */
struct charsmap_writer {
    struct text_pass pass;
    bool held;
    uint32_t code;
    ptrdiff_t change;
};

static void writer_push(struct charsmap_writer *writer, uint32_t code, ptrdiff_t change)
{
    if (writer->held)
        text_pass_emit(&writer->pass, writer->code, writer->change);
    writer->held = true;
    writer->code = code;
    writer->change = change;
}

static ptrdiff_t count_codes(const char *text, size_t bytes)
{
    ptrdiff_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

/* A replacement shorter than its part swallows the rest with its last code point; the last ones of
 * a longer replacement are new. */
static void write_replacement(struct charsmap_writer *writer, ptrdiff_t old_count, const char *text,
                              size_t bytes)
{
    ptrdiff_t new_count = count_codes(text, bytes), index = 0;
    for (size_t at = 0; at < bytes; index++) {
        uint32_t code;
        at += utf8_decode(text + at, bytes - at, &code);
        writer_push(writer, code, index < old_count ? 0 : 1);
    }
    if (new_count < old_count && writer->held)
        writer->change += new_count - old_count;
}

static void write_part(struct charsmap_writer *writer, const struct charsmap *map, const char *part,
                       size_t bytes)
{
    const char *replacement;
    size_t replacement_bytes;
    if (charsmap_find(map, part, bytes, &replacement, &replacement_bytes)) {
        write_replacement(writer, 1, replacement, replacement_bytes);
        return;
    }
    uint32_t code;
    utf8_decode(part, bytes, &code);
    writer_push(writer, code, 0);
}

void charsmap_apply(const struct charsmap *map, const struct unicode *unicode,
                    const struct text_buffer *from, struct text_buffer *to)
{
    enum { CLUSTER_BYTES_MAX = 5 };
    struct charsmap_writer writer = { .pass = text_pass_begin(from, to) };
    for (size_t begin = 0; begin < from->count && !to->failed;) {
        /* An ASCII letter or digit before ASCII is a cluster of its own. */
        size_t end = begin + 1;
        if (!(end < from->count && (unsigned char)from->bytes[begin] < 0x80 &&
              (unsigned char)from->bytes[end] < 0x80 && from->bytes[begin] != '\r'))
            end = unicode_grapheme_end(unicode, from->bytes, begin, from->count);
        const char *replacement, *cluster = from->bytes + begin;
        size_t replacement_bytes, bytes = end - begin;
        begin = end;
        if (bytes <= CLUSTER_BYTES_MAX &&
            charsmap_find(map, cluster, bytes, &replacement, &replacement_bytes)) {
            write_replacement(&writer, count_codes(cluster, bytes), replacement, replacement_bytes);
            continue;
        }
        for (size_t at = 0; at < bytes;) {
            uint32_t code;
            size_t took = utf8_decode(cluster + at, bytes - at, &code);
            write_part(&writer, map, cluster + at, took);
            at += took;
        }
    }
    if (writer.held)
        text_pass_emit(&writer.pass, writer.code, writer.change);
}
