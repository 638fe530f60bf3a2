/* Names of a log's files, and reading what lies under them. */
#include "audit/tiles.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/csv.h"
#include "base/hash.h"

static const char format_mark[] = "akin audit log ";

/* ---- names ------------------------------------------------------------------------------- */

void tile_path(char path[TILE_PATH_BYTES], int level, uint64_t number, size_t width)
{
    char name[48], part[16];
    size_t at = sizeof name - 1;
    name[at] = 0;
    for (bool last = true;; last = false) {     /* from behind: 234, x001 */
        int count = snprintf(part, sizeof part, last ? "%03u" : "x%03u/",
                             (unsigned)(number % 1000));
        at -= (size_t)count;
        memcpy(name + at, part, (size_t)count);
        number /= 1000;
        if (number == 0)
            break;
    }
    char partial[16] = "", where[16] = "entries";
    if (width < TILE_WIDTH)
        snprintf(partial, sizeof partial, ".p/%zu", width);
    if (level != TILE_ENTRIES)
        snprintf(where, sizeof where, "%d", level);
    snprintf(path, TILE_PATH_BYTES, "tile/%s/%s%s", where, name + at, partial);
}

bool tile_path_parse(const char *path, int *level, uint64_t *number, size_t *width)
{
    static const char begin[] = "tile/";
    char again[TILE_PATH_BYTES];
    uint64_t n = 0, value;
    if (strncmp(path, begin, sizeof begin - 1))
        return false;
    path += sizeof begin - 1;
    const char *rest = strchr(path, '/'), *digits;
    if (!rest)
        return false;
    if (rest - path == 7 && !strncmp(path, "entries", 7))
        *level = TILE_ENTRIES;
    else if (rest - path == 1 && *path >= '0' && *path < '0' + TILE_LEVELS)
        *level = *path - '0';
    else
        return false;
    for (digits = rest + 1;; digits += 4) {
        bool more = *digits == 'x';
        digits += more;
        if (strspn(digits, "0123456789") != 3 || n > UINT64_MAX / 1000 - 1)
            return false;
        parse_uint64(digits, 3, &value);
        n = n * 1000 + value;
        if (!more)
            break;
        if (digits[3] != '/')
            return false;
    }
    *number = n;
    *width = TILE_WIDTH;
    if (!strncmp(digits + 3, ".p/", 3)) {
        if (!parse_number_name(digits + 6, &value) || value == 0 || value >= TILE_WIDTH)
            return false;
        *width = (size_t)value;
    }
    tile_path(again, *level, n, *width);
    return strcmp(again, path - (sizeof begin - 1)) == 0;
}

size_t tile_width(int level, uint64_t number, uint64_t size)
{
    uint64_t count = size >> 8 * (level == TILE_ENTRIES ? 0 : level), first = number * TILE_WIDTH;
    if (number > UINT64_MAX / TILE_WIDTH || count <= first)
        return 0;
    return count - first < TILE_WIDTH ? (size_t)(count - first) : TILE_WIDTH;
}

void record_path(char path[TILE_PATH_BYTES], uint64_t index)
{
    snprintf(path, TILE_PATH_BYTES, "records/%" PRIu64, index);
}

void history_path(char path[TILE_PATH_BYTES], uint64_t size)
{
    snprintf(path, TILE_PATH_BYTES, "checkpoints/%" PRIu64, size);
}

bool parse_number_name(const char *name, uint64_t *number)
{
    char again[24];
    if (!parse_uint64(name, strlen(name), number))
        return false;
    snprintf(again, sizeof again, "%" PRIu64, *number);
    return strcmp(again, name) == 0;
}

enum akin_status log_path(char path[PATH_BYTES_MAX], const char *folder, const char *name,
                          struct akin_error *error)
{
    return path_join(path, PATH_BYTES_MAX, folder, name, error);
}

/* ---- format ------------------------------------------------------------------------------ */

void format_text(struct bytes *out, const char *origin)
{
    bytes_printf(out, "%s%d\n%s\n", format_mark, FORMAT_VERSION, origin);
}

enum akin_status format_read(const char *folder, char origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1],
                             struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes text = {0}, again = {0};
    enum akin_status status = AKIN_OK;
    uint64_t version = 0;
    TRY(log_path(path, folder, "format", error));
    if (!path_is_folder(folder))
        return error_set(error, AKIN_NOT_FOUND,
                         "%s: no such folder; 'akin audit init' makes a log", folder);
    if (!path_exists(path))
        return error_set(error, AKIN_FORMAT,
                         "%s: not an audit log: it has no file 'format'; 'akin audit init' makes "
                         "a log in a new folder", folder);
    TRY_DONE(file_read(path, FORMAT_BYTES_MAX, &text, error));
    size_t mark = sizeof format_mark - 1, end = strcspn(text.data, "\n");
    if (end <= mark || memcmp(text.data, format_mark, mark) ||
        !parse_uint64(text.data + mark, end - mark, &version) || version == 0)
        TRY_DONE(error_set(error, AKIN_FORMAT, "%s: not the format of an audit log", path));
    if (version > FORMAT_VERSION)
        TRY_DONE(error_set(error, AKIN_UNSUPPORTED,
                           "%s: version %" PRIu64 ", and this akin knows %d: use a newer one", path,
                           version, FORMAT_VERSION));
    size_t bytes = text.count > end + 2 ? text.count - end - 2 : 0;
    if (bytes == 0 || bytes > AKIN_AUDIT_ORIGIN_BYTES_MAX)
        TRY_DONE(error_set(error, AKIN_FORMAT, "%s: line 2 is no origin", path));
    memcpy(origin, text.data + end + 1, bytes);
    origin[bytes] = 0;
    format_text(&again, origin);
    if (again.failed)
        status = error_memory(error);
    else if (again.count != text.count || memcmp(again.data, text.data, text.count))
        status = error_set(error, AKIN_FORMAT, "%s: not as this akin would have written it", path);
done:
    bytes_deinit(&text);
    bytes_deinit(&again);
    return status;
}

/* ---- tiles ------------------------------------------------------------------------------- */

/* The file of that width, or where there is none the whole tile. */
static enum akin_status read_either(const char *folder, int level, uint64_t number, size_t width,
                                    size_t bytes_max, struct bytes *out,
                                    char path[PATH_BYTES_MAX], struct akin_error *error)
{
    char name[TILE_PATH_BYTES];
    tile_path(name, level, number, width);
    TRY(log_path(path, folder, name, error));
    if (!path_exists(path) && width < TILE_WIDTH) {
        char whole[PATH_BYTES_MAX];
        tile_path(name, level, number, TILE_WIDTH);
        TRY(log_path(whole, folder, name, error));
        if (path_exists(whole))
            memcpy(path, whole, sizeof whole);
    }
    bytes_clear(out);
    enum akin_status status = file_read(path, bytes_max, out, error);
    if (status == AKIN_NOT_FOUND)
        return error_set(error, AKIN_FORMAT, "%s: is missing", path);
    return status;
}

enum akin_status tile_read(const char *folder, int level, uint64_t number, size_t width,
                           struct tree_hash hashes[TILE_WIDTH], struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes data = {0};
    enum akin_status status = read_either(folder, level, number, width,
                                          TILE_WIDTH * TREE_HASH_BYTES, &data, path, error);
    if (status == AKIN_LIMIT)
        status = AKIN_FORMAT;
    if (status == AKIN_OK && data.count != width * TREE_HASH_BYTES &&
        data.count != (size_t)TILE_WIDTH * TREE_HASH_BYTES)
        status = error_set(error, AKIN_FORMAT, "%s: %zu bytes, where %zu hashes should be", path,
                           data.count, width);
    if (status == AKIN_OK)
        memcpy(hashes, data.data, width * TREE_HASH_BYTES);
    bytes_deinit(&data);
    return status;
}

enum akin_status bundle_read(const char *folder, uint64_t number, size_t width, struct bytes *out,
                             struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    enum akin_status status = read_either(folder, TILE_ENTRIES, number, width, BUNDLE_BYTES_MAX,
                                          out, path, error);
    return status == AKIN_LIMIT ? AKIN_FORMAT : status;
}

enum akin_status edge_check(const char *folder, uint64_t size, uint64_t now,
                            struct akin_error *error)
{
    char name[TILE_PATH_BYTES], path[PATH_BYTES_MAX];
    for (int level = TILE_ENTRIES; level < TILE_LEVELS; level++) {
        uint64_t count = size >> 8 * (level == TILE_ENTRIES ? 0 : level);
        if (count % TILE_WIDTH == 0 || tile_width(level, count / TILE_WIDTH, now) == TILE_WIDTH)
            continue;
        tile_path(name, level, count / TILE_WIDTH, (size_t)(count % TILE_WIDTH));
        TRY(log_path(path, folder, name, error));
        if (!path_exists(path))
            return error_set(error, AKIN_FORMAT, "%s: is missing", path);
    }
    return AKIN_OK;
}

enum akin_status record_file_open(const char *folder, uint64_t index, const struct entry *entry,
                             struct file_map *map, struct akin_error *error)
{
    char name[TILE_PATH_BYTES], path[PATH_BYTES_MAX];
    struct sha256 sha;
    unsigned char digest[32];
    record_path(name, index);
    TRY(log_path(path, folder, name, error));
    enum akin_status status = file_map_open(path, map, error);
    if (status == AKIN_NOT_FOUND)
        return error_set(error, AKIN_FORMAT, "%s: record %" PRIu64 " is missing", path, index);
    TRY(status);
    sha256_begin(&sha);
    sha256_add(&sha, map->data, map->bytes);
    sha256_end_bytes(&sha, digest);
    if (map->bytes == entry->bytes && memcmp(digest, entry->digest, sizeof digest) == 0)
        return AKIN_OK;
    file_map_close(map);
    return error_set(error, AKIN_FORMAT, "%s: record %" PRIu64 " was changed", path, index);
}

enum akin_status tile_nodes_get(void *tile_nodes, unsigned height, uint64_t index,
                                struct tree_hash *out, struct akin_error *error)
{
    struct tile_nodes *nodes = tile_nodes;
    unsigned level = height / 8, above = height % 8;
    uint64_t first = index << above, number = first / TILE_WIDTH;
    size_t width = tile_width((int)level, number, nodes->size);
    ASSERT(level < TILE_LEVELS && width);
    if (!nodes->levels[level].known || nodes->levels[level].number != number) {
        nodes->levels[level].known = false;
        TRY(tile_read(nodes->folder, (int)level, number, width, nodes->levels[level].hashes,
                      error));
        nodes->levels[level].known = true;
        nodes->levels[level].number = number;
    }
    tree_of(nodes->levels[level].hashes + first % TILE_WIDTH, above, out);
    return AKIN_OK;
}
