/* Reading and evaluating the sealed form of columns. Opening checks that every array lies inside
 * the block, and nothing that the arrays hold: whatever they hold, each number from them is held
 * against its bound where it is used. columns_check.c is what reads everything. */
#include "index/columns_image.h"

#include <string.h>

/* ---- the directory ---------------------------------------------------------------------- */

/* Takes an array of `count` items off the front of what is left of the block. */
struct taking {
    const unsigned char *data;
    size_t at, bytes;
    bool fits;
};

static const void *take(struct taking *t, uint64_t count, size_t item_bytes)
{
    size_t size, padded;
    if (!size_mul(count, item_bytes, &size) || !size_add(size, 7, &padded) ||
        (padded &= ~(size_t)7) > t->bytes - t->at) {
        t->fits = false;
        return NULL;
    }
    const unsigned char *array = t->data ? t->data + t->at : NULL;
    t->at += padded;
    return array;
}

/* `count` bitmaps over the rows. */
static const uint64_t *take_bitmaps(struct taking *t, uint64_t count, size_t rows)
{
    size_t words;
    if (!size_mul(count, filter_words(rows), &words)) {
        t->fits = false;
        return NULL;
    }
    return take(t, words, sizeof(uint64_t));
}

/* One more than the values, unless there are none. */
static uint64_t starts_count(uint64_t values)
{
    return values ? values + (values != UINT64_MAX) : 0;
}

bool image_layout(const struct image_entry *e, size_t rows, size_t bytes, const void *data,
                  struct image_field *field, size_t *end)
{
    struct taking t = { .data = data, .at = e->at, .bytes = bytes, .fits = true };
    if (e->at > bytes || e->at % 8)
        return false;
    *field = (struct image_field){
        .texts = e->texts, .text_row_count = e->text_rows, .text_maps = e->text_maps,
        .text_byte_count = e->text_bytes, .numbers = e->numbers,
        .number_row_count = e->number_rows, .number_cuts = e->number_cuts,
    };
    field->text_starts = take(&t, starts_count(e->texts), sizeof *field->text_starts);
    field->text_lists = take(&t, starts_count(e->texts), sizeof *field->text_lists);
    field->text_present = take_bitmaps(&t, e->text_present, rows);
    if (!e->text_present)
        field->text_present = NULL;
    field->maps = take(&t, e->text_maps, sizeof *field->maps);
    field->map_bits = take_bitmaps(&t, e->text_maps, rows);
    field->text_rows = take(&t, e->text_rows, sizeof *field->text_rows);
    field->text_bytes = take(&t, e->text_bytes, 1);
    field->values = take(&t, e->numbers, sizeof *field->values);
    field->number_lists = take(&t, starts_count(e->numbers), sizeof *field->number_lists);
    field->cuts = take(&t, e->number_cuts, sizeof *field->cuts);
    field->cut_bits = take_bitmaps(&t, e->number_cuts, rows);
    field->number_rows = take(&t, e->number_rows, sizeof *field->number_rows);
    *end = t.at;
    return t.fits && e->text_present <= 1 && e->text_maps <= e->texts;
}

static const struct image_header *header_of(const struct columns_image *image)
{
    return (const struct image_header *)image->data;
}

static const struct image_entry *entries_of(const struct columns_image *image)
{
    return (const struct image_entry *)(image->data + sizeof(struct image_header));
}

size_t image_field_count(const struct columns_image *image)
{
    return image->data ? header_of(image)->fields : 0;
}

bool image_field(const struct columns_image *image, size_t i, struct image_field *field)
{
    if (i >= image_field_count(image))
        return false;
    size_t fields = header_of(image)->fields, names_bytes = header_of(image)->names_bytes, end;
    const struct image_entry *entry = &entries_of(image)[i];
    if (entry->name_at > names_bytes || entry->name_bytes > names_bytes - entry->name_at ||
        !image_layout(entry, image->rows, image->bytes, image->data, field, &end))
        return false;
    field->name = (const char *)(entries_of(image) + fields) + entry->name_at;
    field->name_bytes = entry->name_bytes;
    return true;
}

bool image_open(struct columns_image *image, const void *data, size_t bytes, size_t rows)
{
    struct image_header header;
    size_t names;
    *image = (struct columns_image){ .rows = rows };
    if (bytes < sizeof header || (uintptr_t)data % 8)
        return false;
    memcpy(&header, data, sizeof header);
    if (header.version != IMAGE_VERSION || header.bytes != bytes || header.rows != rows ||
        !size_mul(header.fields, sizeof(struct image_entry), &names) ||
        names > bytes - sizeof header || header.names_bytes > bytes - sizeof header - names)
        return false;
    struct columns_image opened = { .data = data, .bytes = bytes, .rows = rows };
    struct image_field field;
    for (size_t i = 0; i < header.fields; i++)
        if (!image_field(&opened, i, &field))
            return false;
    *image = opened;
    return true;
}

/* The order of texts and names: by bytes, the shorter first. */
static int compare_bytes(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

bool image_find(const struct columns_image *image, const char *name, size_t bytes,
                struct image_field *field)
{
    size_t low = 0, high = image_field_count(image);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (!image_field(image, middle, field))
            return false;
        int order = compare_bytes(field->name, field->name_bytes, name, bytes);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* ---- rows of values --------------------------------------------------------------------- */

/* A bitmap being written, of `rows` rows. */
struct target {
    uint64_t *bits;
    size_t rows, words;
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void set_rows(const struct target *target, const uint32_t *rows, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        if (rows[i] < target->rows)
            target->bits[rows[i] / 64] |= (uint64_t)1 << rows[i] % 64;
}

static void clear_rows(const struct target *target, const uint32_t *rows, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        if (rows[i] < target->rows)
            target->bits[rows[i] / 64] &= ~((uint64_t)1 << rows[i] % 64);
}

static void add_bitmap(const struct target *target, const uint64_t *bitmap)
{
    uint64_t *bits = target->bits;
    for (size_t w = 0; w < target->words; w++)
        bits[w] |= bitmap[w];
}

static const char *text_at(const struct image_field *field, size_t v, size_t *bytes)
{
    size_t begin = least(field->text_starts[v], field->text_byte_count);
    size_t end = least(field->text_starts[v + 1], field->text_byte_count);
    *bytes = end > begin ? end - begin - 1 : 0;     /* less the NUL */
    return field->text_bytes + begin;
}

/* The number of a text, SIZE_MAX where no row has it. */
static size_t find_text(const struct image_field *field, const char *text, size_t bytes)
{
    size_t low = 0, high = field->texts;
    while (low < high) {
        size_t middle = low + (high - low) / 2, other_bytes;
        const char *other = text_at(field, middle, &other_bytes);
        int order = compare_bytes(other, other_bytes, text, bytes);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return SIZE_MAX;
}

static void add_text(const struct image_field *field, size_t v, const struct target *target)
{
    set_rows(target, field->text_rows, field->text_lists[v],
             least(field->text_lists[v + 1], field->text_row_count));
    size_t low = 0, high = field->text_maps;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (field->maps[middle].value < v)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < field->text_maps && field->maps[low].value == v)
        add_bitmap(target, field->map_bits + low * target->words);
}

/* No text holds a NUL, nor does what is looked for: a hit lies within one of them. */
static void add_containing(const struct image_field *field, const struct filter_value *value,
                           const struct target *target)
{
    size_t at = 0, v = 0;
    while (v < field->texts && at < field->text_byte_count) {
        const char *hit = memmem(field->text_bytes + at, field->text_byte_count - at, value->text,
                                 value->text_bytes);
        if (!hit)
            return;
        at = (size_t)(hit - field->text_bytes);
        while (v + 1 < field->texts && field->text_starts[v + 1] <= at)
            v++;
        add_text(field, v, target);
        size_t next = field->text_starts[++v];
        at = next > at ? next : at + 1;
    }
}

/* ---- numbers ---------------------------------------------------------------------------- */

/* The first number that is not below `value`; above it, with `behind`. */
static size_t find_number(const struct image_field *field, double value, bool behind)
{
    size_t low = 0, high = field->numbers;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (behind ? field->values[middle] <= value : field->values[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* How many entries of the list of rows stand before value v. */
static size_t rank_of(const struct image_field *field, size_t v)
{
    return field->numbers ? least(field->number_lists[least(v, field->numbers)],
                                  field->number_row_count)
                          : 0;
}

/* Cuts are counted from 1; cut 0 is the one before all numbers, which needs no bitmap. */
static size_t value_of_cut(const struct image_field *field, size_t cut)
{
    return cut ? field->cuts[cut - 1] : 0;
}

/* The first cut at value v or behind it; number_cuts + 1 where there is none. */
static size_t find_cut(const struct image_field *field, size_t v)
{
    size_t low = 0, high = field->number_cuts + 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (value_of_cut(field, middle) < v)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t distance(size_t a, size_t b)
{
    return a > b ? a - b : b - a;
}

/* The cut with the fewest rows between it and rank. `behind` is find_cut of the same place. */
static size_t nearest_cut(const struct image_field *field, size_t behind, size_t rank)
{
    if (behind > field->number_cuts)
        return field->number_cuts;
    if (behind == 0)
        return 0;
    size_t before_rows = distance(rank_of(field, value_of_cut(field, behind - 1)), rank);
    size_t behind_rows = distance(rank_of(field, value_of_cut(field, behind)), rank);
    return before_rows < behind_rows ? behind - 1 : behind;
}

/* bits |= rows of value v. It either lies between two cuts with few others, or is a difference of
 * two cuts by itself. */
static void add_number(const struct image_field *field, size_t v, const struct target *target)
{
    size_t low = find_cut(field, v), high = find_cut(field, v + 1);
    if (high > field->number_cuts || value_of_cut(field, low) != v ||
        value_of_cut(field, high) != v + 1) {
        set_rows(target, field->number_rows, rank_of(field, v), rank_of(field, v + 1));
        return;
    }
    const uint64_t *with = field->cut_bits + (high - 1) * target->words;
    if (low == 0) {
        add_bitmap(target, with);
        return;
    }
    const uint64_t *without = field->cut_bits + (low - 1) * target->words;
    for (size_t w = 0; w < target->words; w++)
        target->bits[w] |= with[w] & ~without[w];
}

/* Writes the bits of the rows with the numbers [first, last). */
static void write_range(const struct image_field *field, size_t first, size_t last,
                        const struct target *target)
{
    size_t first_rank = rank_of(field, first), last_rank = rank_of(field, last);
    size_t low = find_cut(field, first), high = find_cut(field, last);
    const uint32_t *rows = field->number_rows;
    bool between = low <= field->number_cuts && value_of_cut(field, low) <= last;
    low = nearest_cut(field, low, first_rank);
    high = nearest_cut(field, high, last_rank);
    if (!between || first >= last || low >= high) {
        memset(target->bits, 0, target->words * sizeof *target->bits);
        set_rows(target, rows, first_rank, last_rank);
        return;
    }
    const uint64_t *with = field->cut_bits + (high - 1) * target->words;
    const uint64_t *without = low ? field->cut_bits + (low - 1) * target->words : NULL;
    if (without)
        for (size_t w = 0; w < target->words; w++)
            target->bits[w] = with[w] & ~without[w];
    else
        memcpy(target->bits, with, target->words * sizeof *target->bits);
    size_t low_rank = rank_of(field, value_of_cut(field, low));
    size_t high_rank = rank_of(field, value_of_cut(field, high));
    set_rows(target, rows, high_rank, last_rank);
    set_rows(target, rows, first_rank, low_rank);
    clear_rows(target, rows, low_rank, first_rank);
    clear_rows(target, rows, last_rank, high_rank);
}

/* ---- conditions ------------------------------------------------------------------------- */

/* Rows with any value. */
static void add_present(const struct image_field *field, const struct target *target)
{
    if (field->text_present) {
        add_bitmap(target, field->text_present);
    } else {
        set_rows(target, field->text_rows, 0, field->text_row_count);
        for (size_t m = 0; m < field->text_maps; m++)
            add_bitmap(target, field->map_bits + m * target->words);
    }
    if (field->number_cuts)
        add_bitmap(target, field->cut_bits + (field->number_cuts - 1) * target->words);
    else
        set_rows(target, field->number_rows, 0, field->number_row_count);
}

static void add_values(const struct image_field *field, const struct filter_node *node,
                       const struct filter_value *values, const struct target *target)
{
    for (size_t i = 0; i < node->value_count; i++) {
        size_t v = find_text(field, values[i].text, values[i].text_bytes);
        if (v != SIZE_MAX)
            add_text(field, v, target);
        v = find_number(field, values[i].number, false);    /* of NaN: 0, which is not equal */
        if (v < field->numbers && field->values[v] == values[i].number)
            add_number(field, v, target);
    }
}

static void test_image(const void *context, const struct filter_node *node,
                       const struct filter_value *values, uint64_t *bits, uint64_t *scratch)
{
    const struct columns_image *image = context;
    struct target target = { bits, image->rows, filter_words(image->rows) };
    struct image_field field;
    bool found = image_find(image, node->name, node->name_bytes, &field);
    if (found && node->op == FILTER_RANGE) {
        write_range(&field, find_number(&field, values[0].number, false),
                    find_number(&field, values[1].number, true), &target);
        return;
    }
    memset(bits, 0, target.words * sizeof *bits);
    if (!found)
        return;
    if (node->op == FILTER_CONTAINS) {
        add_containing(&field, values, &target);
        return;
    }
    add_values(&field, node, values, &target);
    if (!node->negated)
        return;
    struct target present = { scratch, target.rows, target.words };
    memset(scratch, 0, target.words * sizeof *scratch);
    add_present(&field, &present);
    for (size_t w = 0; w < target.words; w++)
        bits[w] = scratch[w] & ~bits[w];
}

struct filter_source image_source(const struct columns_image *image)
{
    return (struct filter_source){ .context = image, .rows = image->rows, .test = test_image };
}
