/* A situation of any bytes: refused with one line that begins with "context", or taken, and then
 * what it says of an item is a number from 0 to 1. */
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "recommend/context.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const genres[] = { "Drama", "Comedy", "Sci-Fi" };
    struct akin_item item = { .genres = genres, .genre_count = 3 };
    struct akin_error error = { 0 };
    struct context context;
    char *text = memory_copy_bytes((const char *)data, size);
    if (!text)
        return 0;
    if (context_parse(text, &context, &error) == AKIN_OK) {
        float match = context_match(&context, &item);
        ASSERT(match >= 0 && match <= 1);
    } else {
        ASSERT(!strncmp(error.message, "context", 7) && !strchr(error.message, '\n'));
    }
    memory_free(text);
    return 0;
}
