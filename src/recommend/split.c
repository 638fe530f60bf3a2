/* Reads split files. */
#include "recommend/split.h"

#include <math.h>
#include <string.h>

#include "base/csv.h"
#include "base/file.h"

enum column { COLUMN_USER, COLUMN_ITEM, COLUMN_RATING, COLUMN_TIME, COLUMN_PART, COLUMNS };

static const char *const column_names[COLUMNS] = { "userId", "movieId", "rating", "timestamp",
                                                   "split" };
static const char *const part_names[SPLIT_PARTS] = { "train", "valid", "test" };

static bool is_text(const struct csv_field *field, const char *text)
{
    return field->bytes == strlen(text) && !memcmp(field->text, text, field->bytes);
}

static enum akin_status read_header(struct csv_reader *csv, size_t at[COLUMNS],
                                    struct akin_error *error)
{
    bool row;
    TRY(csv_next(csv, &row, error));
    for (size_t c = 0; c < COLUMNS; c++) {
        at[c] = SIZE_MAX;
        for (size_t f = 0; f < csv->field_count; f++)
            if (is_text(&csv->fields[f], column_names[c]))
                at[c] = f;
        if (at[c] == SIZE_MAX)
            return error_set(error, AKIN_FORMAT,
                             "%s:1: no column %s; the first line must name the columns userId, "
                             "movieId, rating, timestamp and split", csv->name, column_names[c]);
    }
    return AKIN_OK;
}

static enum akin_status bad_field(const struct csv_reader *csv, enum column column,
                                  const struct csv_field *field, const char *expected,
                                  struct akin_error *error)
{
    return error_set(error, AKIN_FORMAT, "%s:%llu: %s: expected %s, found '%.*s'", csv->name,
                     (unsigned long long)csv->line, column_names[column], expected,
                     (int)(field->bytes < 40 ? field->bytes : 40), field->text);
}

/* The number of a name, a new one where it is new. */
static enum akin_status number_of(struct split *s, struct string_map *numbers, const char ***names,
                                  size_t *count, size_t *capacity, const struct csv_field *field,
                                  uint32_t *number, struct akin_error *error)
{
    uint64_t known;
    if (string_map_get(numbers, field->text, field->bytes, &known)) {
        *number = (uint32_t)known;
        return AKIN_OK;
    }
    const char *copy = string_pool_add(&s->names, field->text, field->bytes);
    if (!copy || !array_reserve((void **)names, capacity, *count + 1, sizeof **names) ||
        !string_map_put(numbers, copy, field->bytes, *count, NULL, NULL))
        return error_memory(error);
    *number = (uint32_t)*count;
    (*names)[(*count)++] = copy;
    return AKIN_OK;
}

static enum akin_status parse_row(const struct csv_reader *csv, const size_t at[COLUMNS],
                                  struct split_event *event, struct akin_error *error)
{
    const struct csv_field *fields[COLUMNS];
    double rating, seconds;
    for (size_t c = 0; c < COLUMNS; c++) {
        if (at[c] >= csv->field_count)
            return error_set(error, AKIN_FORMAT, "%s:%llu: %s: the row ends before it", csv->name,
                             (unsigned long long)csv->line, column_names[c]);
        fields[c] = &csv->fields[at[c]];
    }
    for (enum column c = COLUMN_USER; c <= COLUMN_ITEM; c++)
        if (!fields[c]->bytes || memchr(fields[c]->text, 0, fields[c]->bytes))
            return bad_field(csv, c, fields[c], "an id", error);
    if (!parse_double(fields[COLUMN_RATING]->text, fields[COLUMN_RATING]->bytes, &rating) ||
        !isfinite(rating))
        return bad_field(csv, COLUMN_RATING, fields[COLUMN_RATING], "a number", error);
    const struct csv_field *time = fields[COLUMN_TIME];
    if (!parse_int64(time->text, time->bytes, &event->timestamp)) {
        if (!parse_double(time->text, time->bytes, &seconds) || !(fabs(seconds) < 1e15))
            return bad_field(csv, COLUMN_TIME, time, "Unix seconds", error);
        event->timestamp = (int64_t)seconds;
    }
    event->part = SPLIT_PARTS;
    for (int p = 0; p < SPLIT_PARTS; p++)
        if (is_text(fields[COLUMN_PART], part_names[p]))
            event->part = (enum split_part)p;
    return event->part < SPLIT_PARTS ? AKIN_OK
                                     : bad_field(csv, COLUMN_PART, fields[COLUMN_PART],
                                                 "train, valid or test", error);
}

static enum akin_status read_rows(struct csv_reader *csv, struct split *s, struct akin_error *error)
{
    size_t at[COLUMNS];
    TRY(read_header(csv, at, error));
    for (;;) {
        bool row;
        struct split_event event;
        TRY(csv_next(csv, &row, error));
        if (!row)
            break;
        if (!csv->field_count)
            continue;
        TRY(parse_row(csv, at, &event, error));
        TRY(number_of(s, &s->user_numbers, &s->users, &s->user_count, &s->user_capacity,
                      &csv->fields[at[COLUMN_USER]], &event.user, error));
        TRY(number_of(s, &s->item_numbers, &s->items, &s->item_count, &s->item_capacity,
                      &csv->fields[at[COLUMN_ITEM]], &event.item, error));
        if (s->event_count >= UINT32_MAX)
            return error_set(error, AKIN_LIMIT, "%s: more than %u rows", csv->name, UINT32_MAX);
        if (!array_reserve((void **)&s->events, &s->event_capacity, s->event_count + 1,
                           sizeof *s->events))
            return error_memory(error);
        s->events[s->event_count++] = event;
    }
    return s->event_count
               ? AKIN_OK
               : error_set(error, AKIN_FORMAT, "%s: no row behind the header", csv->name);
}

/* Names in the order of the parts that they are in; numbers likewise. */
static bool order_names(struct split *s, const char ***names, size_t count, bool users)
{
    const char **ordered = memory_alloc(count, sizeof *ordered);
    uint32_t *numbers = memory_alloc(count, sizeof *numbers), next = 0;
    bool done = ordered && numbers;
    for (size_t n = 0; done && n < count; n++)
        numbers[n] = UINT32_MAX;
    for (int part = 0; done && part < SPLIT_PARTS; part++)
        for (size_t e = 0; e < s->event_count; e++) {
            uint32_t was = users ? s->events[e].user : s->events[e].item;
            if (s->events[e].part != (enum split_part)part || numbers[was] != UINT32_MAX)
                continue;
            ordered[next] = (*names)[was];
            numbers[was] = next++;
        }
    for (size_t e = 0; done && e < s->event_count; e++) {
        uint32_t *number = users ? &s->events[e].user : &s->events[e].item;
        *number = numbers[*number];
    }
    memory_free(numbers);
    memory_free(done ? (void *)*names : (void *)ordered);
    if (done)
        *names = ordered;
    return done;
}

enum akin_status split_read(const char *path, struct split *split, struct akin_error *error)
{
    struct file_map map;
    struct csv_reader csv;
    struct split made = { 0 };
    TRY(file_map_open(path, &map, error));
    csv_open(&csv, path, (const char *)map.data, map.bytes, ",", true);
    enum akin_status status = read_rows(&csv, &made, error);
    csv_close(&csv);
    file_map_close(&map);
    if (status == AKIN_OK && (!order_names(&made, &made.users, made.user_count, true) ||
                              !order_names(&made, &made.items, made.item_count, false)))
        status = error_memory(error);
    string_map_deinit(&made.user_numbers);      /* they have the old numbers */
    string_map_deinit(&made.item_numbers);
    if (status == AKIN_OK)
        *split = made;
    else
        split_deinit(&made);
    return status;
}

void split_deinit(struct split *split)
{
    memory_free(split->events);
    memory_free(split->users);
    memory_free(split->items);
    string_map_deinit(&split->user_numbers);
    string_map_deinit(&split->item_numbers);
    string_pool_deinit(&split->names);
    *split = (struct split){ 0 };
}
