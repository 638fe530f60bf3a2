/* The requests of a real stream: every rating of a file, in the order of time. */
#pragma once

#include <stdlib.h>

#include "akin/neighbors.h"
#include "base/csv.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"

struct dated {
    struct akin_cache_event event;
    size_t place;
};

static int older_first(const void *a, const void *b)
{
    const struct dated *x = a, *y = b;
    if (x->event.timestamp != y->event.timestamp)
        return x->event.timestamp < y->event.timestamp ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

/* Fields user, item, rating, timestamp under a header; equal times in the order of the file, items
 * numbered as they come. Free with memory_free. */
static struct akin_cache_event *read_events(const char *path, const char *separator, size_t *count,
                                            size_t *items)
{
    struct file_map map;
    struct csv_reader csv;
    struct number_map rows = { 0 };
    struct dated *dated = NULL;
    size_t room = 0;
    bool row;
    *count = *items = 0;
    assert_int_equal(file_map_open(path, &map, NULL), AKIN_OK);
    csv_open(&csv, path, (const char *)map.data, map.bytes, separator, false);
    assert_int_equal(csv_next(&csv, &row, NULL), AKIN_OK);
    while (csv_next(&csv, &row, NULL) == AKIN_OK && row) {
        uint64_t id, number = *items;
        double rating, time;
        assert_true(parse_uint64(csv.fields[1].text, csv.fields[1].bytes, &id) &&
                    parse_double(csv.fields[2].text, csv.fields[2].bytes, &rating) &&
                    parse_double(csv.fields[3].text, csv.fields[3].bytes, &time));
        if (!number_map_get(&rows, id, &number))
            assert_true(number_map_put(&rows, id, (*items)++, NULL, NULL));
        assert_true(array_reserve((void **)&dated, &room, *count + 1, sizeof *dated));
        dated[*count] = (struct dated){ { (int64_t)time, rating / 5, (uint32_t)number }, *count };
        ++*count;
    }
    csv_close(&csv);
    file_map_close(&map);
    number_map_deinit(&rows);
    qsort(dated, *count, sizeof *dated, older_first);
    struct akin_cache_event *events = memory_alloc(*count, sizeof *events);
    for (size_t i = 0; i < *count; i++)
        events[i] = dated[i].event;
    memory_free(dated);
    return events;
}
