/* Reading and verifying SHA256SUMS. */
#include "model/checksums.h"

#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"

enum { SUMS_BYTES_MAX = 1 << 20, HEX_BYTES = 64 };

bool path_is_safe(const char *path)
{
    if (!path[0] || path[0] == '/')
        return false;
    for (const char *part = path;;) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (length == 1 && part[0] == '.') ||
            (length == 2 && !memcmp(part, "..", 2)))
            return false;
        for (size_t i = 0; i < length; i++)
            if ((unsigned char)part[i] < ' ' || part[i] == 0x7f || part[i] == '\\')
                return false;
        if (!part[length])
            return true;
        part += length + 1;
    }
}

static enum akin_status add_line(const char *file, size_t number, const char *line, size_t length,
                                 struct checksums *sums, struct akin_error *error)
{
    if (length == 0)
        return AKIN_OK;
    if (line[0] == '#') {
        size_t skip = length > 1 && line[1] == ' ' ? 2 : 1;
        if (!sums->source && !(sums->source = memory_copy_bytes(line + skip, length - skip)))
            return error_memory(error);
        return AKIN_OK;
    }
    if (length < HEX_BYTES + 3 || strspn(line, "0123456789abcdef") != HEX_BYTES ||
        line[HEX_BYTES] != ' ' || (line[HEX_BYTES + 1] != ' ' && line[HEX_BYTES + 1] != '*'))
        return error_set(error, AKIN_FORMAT, "%s:%zu: expected a SHA-256, two blanks and a path",
                         file, number);
    if (!array_reserve((void **)&sums->items, &sums->capacity, sums->count + 1,
                       sizeof *sums->items))
        return error_memory(error);
    struct checksum *item = &sums->items[sums->count];
    memcpy(item->hex, line, HEX_BYTES);
    item->hex[HEX_BYTES] = 0;
    item->path = memory_copy_bytes(line + HEX_BYTES + 2, length - HEX_BYTES - 2);
    if (!item->path)
        return error_memory(error);
    sums->count++;
    if (!path_is_safe(item->path))
        return error_set(error, AKIN_FORMAT, "%s:%zu: %s leaves the model's folder", file, number,
                         item->path);
    return AKIN_OK;
}

enum akin_status checksums_read(const char *folder, struct checksums *sums,
                                struct akin_error *error)
{
    *sums = (struct checksums){ 0 };
    char path[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, folder, CHECKSUMS_FILE, error));
    if (!path_exists(path))
        return AKIN_OK;
    struct bytes text = { 0 };
    enum akin_status status = file_read(path, SUMS_BYTES_MAX, &text, error);
    sums->found = true;
    size_t number = 1;
    for (size_t at = 0; status == AKIN_OK && at < text.count; number++) {
        const char *end = memchr(text.data + at, '\n', text.count - at);
        size_t length = end ? (size_t)(end - (text.data + at)) : text.count - at;
        status = add_line(path, number, text.data + at, length, sums, error);
        at += length + 1;
    }
    bytes_deinit(&text);
    if (status != AKIN_OK)
        checksums_deinit(sums);
    return status;
}

void checksums_deinit(struct checksums *sums)
{
    for (size_t i = 0; i < sums->count; i++)
        memory_free(sums->items[i].path);
    memory_free(sums->items);
    memory_free(sums->source);
    *sums = (struct checksums){ 0 };
}

enum akin_status checksums_verify(const char *folder, const struct checksums *sums, size_t i,
                                  struct akin_error *error)
{
    char path[PATH_BYTES_MAX], hex[65];
    TRY(path_join(path, sizeof path, folder, sums->items[i].path, error));
    TRY(sha256_file(path, hex, error));
    if (strcmp(hex, sums->items[i].hex))
        return error_set(error, AKIN_FORMAT,
                         "%s: SHA-256 is %s, " CHECKSUMS_FILE
                         " says %s; the file is damaged or was "
                         "changed, remove the folder and get the model again",
                         path, hex, sums->items[i].hex);
    return AKIN_OK;
}
