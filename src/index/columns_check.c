/* Reads all of the metadata of a segment and says what is wrong with it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "index/columns.h"
#include "index/columns_image.h"

struct checker {
    size_t rows, words;
    struct image_field field;
    uint64_t *seen;             /* [words] */
};


/* Starts of `count` things in `bytes`, each of at least `least`. */
static bool are_starts(const uint64_t *starts, size_t count, uint64_t bytes, uint64_t least)
{
    if (count == 0)
        return bytes == 0;
    for (size_t i = 0; i < count; i++)
        if (starts[i + 1] < starts[i] || starts[i + 1] - starts[i] < least)
            return false;
    return starts[0] == 0 && starts[count] == bytes;
}

static bool is_in_order(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order < 0 || (order == 0 && a_bytes < b_bytes);
}

static bool is_bitmap(const struct checker *c, const uint64_t *bits)
{
    return c->rows % 64 == 0 || bits[c->words - 1] >> c->rows % 64 == 0;
}

/* Marks the rows of a list as seen; false unless they ascend. */
static bool take_list(const struct checker *c, const uint32_t *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i] >= c->rows || (i && rows[i] <= rows[i - 1]))
            return false;
        c->seen[rows[i] / 64] |= (uint64_t)1 << rows[i] % 64;
    }
    return true;
}

/* What is wrong; NULL: nothing. */
static const char *check_dictionary(const struct checker *c)
{
    const struct image_field *f = &c->field;
    if (!are_starts(f->text_starts, f->texts, f->text_byte_count, 2))
        return "the places of its texts are wrong";
    for (size_t v = 0; v < f->texts; v++) {
        const char *text = f->text_bytes + f->text_starts[v];
        size_t bytes = f->text_starts[v + 1] - f->text_starts[v] - 1;
        const char *last = v ? f->text_bytes + f->text_starts[v - 1] : NULL;
        if (memchr(text, 0, bytes + 1) != text + bytes || !utf8_valid(text, bytes))
            return "one of its texts is not a text";
        if (last && !is_in_order(last, (size_t)(text - last) - 1, text, bytes))
            return "its texts are not in order";
    }
    return NULL;
}

static const char *check_texts(const struct checker *c)
{
    const struct image_field *f = &c->field;
    size_t map = 0;
    const char *found = check_dictionary(c);
    if (found)
        return found;
    if (!are_starts(f->text_lists, f->texts, f->text_row_count, 0))
        return "the places of its lists are wrong";
    memset(c->seen, 0, c->words * sizeof *c->seen);
    for (size_t v = 0; v < f->texts; v++) {
        size_t begin = f->text_lists[v], count = f->text_lists[v + 1] - begin;
        bool mapped = map < f->text_maps && f->maps[map].value == v;
        if (mapped == (count > 0) || !take_list(c, f->text_rows + begin, count))
            return "a list of rows is not in order";
        if (!mapped)
            continue;
        const uint64_t *bits = f->map_bits + map * c->words;
        if (!is_bitmap(c, bits) || filter_count(bits, c->words) != f->maps[map].rows)
            return "a bitmap has too many or too few rows";
        for (size_t w = 0; w < c->words; w++)
            c->seen[w] |= bits[w];
        map++;
    }
    if (map != f->text_maps)
        return "its bitmaps are not in order";
    if (f->text_present && memcmp(f->text_present, c->seen, c->words * sizeof *c->seen))
        return "the bitmap of rows with texts disagrees with the lists";
    return NULL;
}

static const char *check_numbers(const struct checker *c)
{
    const struct image_field *f = &c->field;
    size_t cut = 0;
    memset(c->seen, 0, c->words * sizeof *c->seen);
    if (!are_starts(f->number_lists, f->numbers, f->number_row_count, 1))
        return "the places of its lists are wrong";
    for (size_t v = 0; v < f->numbers; v++) {
        if (!isfinite(f->values[v]) || (v && f->values[v] <= f->values[v - 1]))
            return "its numbers are not in order";
        size_t begin = f->number_lists[v], count = f->number_lists[v + 1] - begin;
        if (!take_list(c, f->number_rows + begin, count))
            return "a list of rows is not in order";
        if (cut == f->number_cuts || f->cuts[cut] != v + 1)
            continue;
        if (memcmp(f->cut_bits + cut * c->words, c->seen, c->words * sizeof *c->seen))
            return "a cut disagrees with the lists";
        cut++;
    }
    if (cut != f->number_cuts || (cut && f->cuts[cut - 1] != f->numbers))
        return "its cuts are not in order";
    if (filter_count(c->seen, c->words) != f->number_row_count)
        return "a row has two numbers";
    return NULL;
}

static enum akin_status refuse(const struct image_field *field, const char *what,
                               struct akin_error *error)
{
    return error_set(error, AKIN_FORMAT,
                     "metadata: field '%.*s': %s: the file is damaged; build it again",
                     field->name_bytes > 80 ? 80 : (int)field->name_bytes, field->name, what);
}

static enum akin_status check_image(const struct columns_image *image, struct akin_error *error)
{
    struct checker c = { .rows = image->rows, .words = filter_words(image->rows) };
    struct image_field last = { 0 };
    enum akin_status status = AKIN_OK;
    c.seen = memory_alloc(c.words, sizeof *c.seen);
    if (!c.seen)
        return error_memory(error);
    for (size_t i = 0; i < image_field_count(image) && status == AKIN_OK; i++) {
        const char *found = NULL;
        if (!image_field(image, i, &c.field)) {
            c.field = (struct image_field){ .name = "" };
            found = "its entry lies";
        } else if (c.field.name_bytes == 0 || !utf8_valid(c.field.name, c.field.name_bytes) ||
                   (i &&
                    !is_in_order(last.name, last.name_bytes, c.field.name, c.field.name_bytes))) {
            found = "fields are not in order";
        }
        if (!found)
            found = check_texts(&c);
        if (!found)
            found = check_numbers(&c);
        if (found)
            status = refuse(&c.field, found, error);
        last = c.field;
    }
    memory_free(c.seen);
    return status;
}

static enum akin_status check_rows(const struct columns_texts *texts, struct akin_error *error)
{
    struct row_values values = { 0 };
    enum akin_status status = AKIN_OK;
    for (size_t row = 0; texts->starts && row < texts->rows && status == AKIN_OK; row++) {
        char where[64];
        size_t bytes;
        const char *text = columns_texts_get(texts, row, &bytes);
        snprintf(where, sizeof where, "metadata: row %zu", row);
        if (texts->starts[row + 1] < texts->starts[row] ||
            texts->starts[row + 1] - texts->starts[row] != bytes)
            status = error_set(error, AKIN_FORMAT,
                               "%s: its text has no place: the file is damaged; build it again",
                               where);
        else
            status = row_parse(text, bytes, where, &values, error);
    }
    row_values_deinit(&values);
    return status;
}

enum akin_status columns_check(const struct columns *columns, struct akin_error *error)
{
    TRY(check_image(&columns->image, error));
    return check_rows(&columns->texts, error);
}
