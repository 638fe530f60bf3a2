/* A bundle of entries, and the name of a tile, of any bytes: what is read is written back as the
 * same bytes. */
#include <string.h>

#include "audit/entry.h"
#include "audit/tiles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_bundle(const uint8_t *data, size_t size)
{
    struct bytes again = {0};
    for (size_t at = 0; at < size;) {
        struct entry entry;
        const unsigned char *begin;
        size_t bytes, before = at;
        if (entry_next(data, size, &at, &entry, &begin, &bytes))
            break;
        ASSERT(begin == data + before + ENTRY_LENGTH_BYTES && at == before + 2 + bytes &&
               at <= size);
        bytes_clear(&again);
        entry_append(&again, &entry);
        ASSERT(!again.failed && again.count == at - before &&
               !memcmp(again.data, data + before, again.count));
    }
    bytes_deinit(&again);
}

static void try_name(const uint8_t *data, size_t size)
{
    char name[200], again[TILE_PATH_BYTES];
    int level;
    uint64_t number;
    size_t width;
    if (size >= sizeof name)
        return;
    memcpy(name, data, size);
    name[size] = 0;
    if (tile_path_parse(name, &level, &number, &width)) {
        tile_path(again, level, number, width);
        ASSERT(!strcmp(again, name) && width >= 1 && width <= TILE_WIDTH);
    }
    (void)parse_number_name(name, &number);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_bundle(data, size);
    try_name(data, size);
    return 0;
}
