/* Lines of any bytes as titles: each is found by itself (or by a more rated one of the same name,
 * and here none is rated, so by an earlier one), and nearness never leaves the rows there are. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/title.h"
#include "catalog/title_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TITLES_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct title_index index = { 0 };
    struct bytes texts[TITLES_MAX] = { 0 }, key = { 0 };
    uint32_t ratings[TITLES_MAX] = { 0 }, count = 0;
    for (size_t at = 0, end; at < size && count < TITLES_MAX; at = end + 1, count++) {
        for (end = at; end < size && data[end] != '\n' && data[end] != 0;)
            end++;
        bytes_append(&texts[count], data + at, end - at);
        struct title title;
        title_parse(texts[count].data, texts[count].count, &title);
        if (title_index_add(&index, count, texts[count].data, title.year, NULL) != AKIN_OK)
            abort();
    }
    title_index_sort(&index);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = UINT32_MAX, near[TITLE_NEAREST];
        enum akin_status status;
        struct title title;
        bytes_clear(&key);
        title_parse(texts[i].data, texts[i].count, &title);
        title_key(&key, &title.whole, 1, false);
        bool found = title_index_find(&index, ratings, texts[i].data, &row, NULL, &status);
        if (status != AKIN_OK || (found && row >= count) || (key.count && !found))
            abort();
        size_t nearest = title_index_nearest(&index, ratings, texts[i].data, near);
        for (size_t n = 0; n < nearest; n++)
            if (near[n] >= count)
                abort();
    }
    for (uint32_t i = 0; i < count; i++)
        bytes_deinit(&texts[i]);
    bytes_deinit(&key);
    title_index_deinit(&index);
    return 0;
}
