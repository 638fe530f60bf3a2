/* Any bytes as a file of any table layout, read as ratings and as tags: no rating is lost in the
 * sort but the repeated ones, and no theme comes out that did not go in. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "catalog/import_table.h"
#include "catalog/import_themes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct table_layout layouts[] = {
    { .separator = ",", .quoted = true, .header = true, .text = true,
      .columns = { { .names = "movieId" }, { .names = "tag title" } }, .column_count = 2 },
    { .separator = "::", .text = true, .fields = 3, .columns = { { .place = 0 }, { .place = 1 } },
      .column_count = 2 },
    { .separator = "\t", .header = true, .text = true,
      .columns = { { .names = "item_id" }, { .names = "movie_title", .optional = true } },
      .column_count = 2 },
    { .separator = "|", .text = true, .fields = 4, .columns = { { .place = 0 }, { .place = 1 } },
      .column_count = 2 },
};

static void read_rows(const char *path, const struct table_layout *layout, struct import *import,
                      struct rating_table *ratings)
{
    struct table table;
    bool row;
    if (table_open(&table, path, "fuzz", layout, import, NULL) != AKIN_OK)
        return;
    while (table_next(&table, &row, NULL) == AKIN_OK && row) {
        struct rating_record record = { 0 };
        double rating;
        int64_t timestamp;
        uint32_t user;
        if (!table_id(&table, 0, "user", &user) ||
            !table_number(&table, 1, "rating", &rating) ||
            !table_timestamp(&table, 1, &timestamp))
            continue;
        record.user = user;
        record.item = user % 5;
        record.rating = (float)rating;
        record.timestamp = timestamp;
        if (!rating_table_add(ratings, record))
            abort();
    }
    table_close(&table);
}

static void read_tags(const char *path, const struct table_layout *layout, struct import *import)
{
    struct number_map rows = { 0 };
    struct themes themes = { 0 };
    for (uint64_t id = 0; id < 10; id++)
        if (!number_map_put(&rows, id, id, NULL, NULL))
            abort();
    if (themes_init(&themes, &rows, 10, NULL) == AKIN_OK &&
        themes_read_user_tags(&themes, path, layout, import, NULL) == AKIN_OK &&
        themes_finish(&themes, NULL) == AKIN_OK) {
        uint64_t tags = 0;
        for (size_t row = 0; row < 10; row++) {
            const char *names[THEMES_MAX];
            bool genome;
            for (size_t i = themes_of(&themes, row, names, &genome); i-- > 0; tags++)
                if (!*names[i])
                    abort();
        }
        if (tags > import->report.tags)
            abort();
    }
    themes_deinit(&themes);
    number_map_deinit(&rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[] = "/tmp/akin_fuzz_XXXXXX";
    if (size < 1)
        return 0;
    int file = mkstemp(path);
    if (file < 0 || write(file, data + 1, size - 1) != (ssize_t)size - 1)
        abort();
    close(file);
    const struct table_layout *layout = &layouts[data[0] % (sizeof layouts / sizeof *layouts)];
    struct import import = { 0 };
    struct rating_table ratings = { 0 };
    uint64_t duplicates;
    read_rows(path, layout, &import, &ratings);
    read_tags(path, layout, &import);
    size_t count = ratings.count;
    if (rating_table_sort(&ratings, &duplicates, NULL) != AKIN_OK ||
        ratings.count + duplicates != count)
        abort();
    rating_table_deinit(&ratings);
    unlink(path);
    return 0;
}
