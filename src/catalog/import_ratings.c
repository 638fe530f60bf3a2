/* Users are brought together by a radix sort, skipped where the source is already in their order,
 * as MovieLens is from 1M on; the ratings of one user, a few thousand at most, by qsort. */
#include "catalog/import_ratings.h"

#include <stdlib.h>
#include <string.h>

bool rating_table_add(struct rating_table *table, struct rating_record record)
{
    if (!array_reserve((void **)&table->records, &table->capacity, table->count + 1,
                       sizeof *table->records))
        return false;
    if (table->count && table->records[table->count - 1].user > record.user)
        table->unordered = true;
    table->records[table->count++] = record;
    return true;
}

void rating_table_deinit(struct rating_table *table)
{
    memory_free(table->records);
    *table = (struct rating_table){ 0 };
}

enum { DIGIT_BITS = 16, DIGITS = 1 << DIGIT_BITS };

/* One stable pass by 16 bits of the user. */
static void radix_pass(const struct rating_record *from, struct rating_record *to, size_t count,
                       unsigned shift, size_t *starts)
{
    memset(starts, 0, DIGITS * sizeof *starts);
    for (size_t i = 0; i < count; i++)
        starts[from[i].user >> shift & (DIGITS - 1)]++;
    size_t sum = 0;
    for (size_t digit = 0; digit < DIGITS; digit++) {
        size_t here = starts[digit];
        starts[digit] = sum;
        sum += here;
    }
    for (size_t i = 0; i < count; i++)
        to[starts[from[i].user >> shift & (DIGITS - 1)]++] = from[i];
}

static bool sort_by_user(struct rating_table *table)
{
    struct rating_record *other = memory_resize(NULL, table->count, sizeof *other);
    size_t *starts = memory_alloc(DIGITS, sizeof *starts);
    bool ready = other && starts;
    if (ready) {
        radix_pass(table->records, other, table->count, 0, starts);
        radix_pass(other, table->records, table->count, DIGIT_BITS, starts);
    }
    memory_free(starts);
    memory_free(other);
    return ready;
}

/* One rating of a user while that user's are put in order. */
struct ticket {
    int64_t timestamp;
    uint32_t item;
    float rating;
    size_t arrival;
};

static int compare_time(const void *a, const void *b)
{
    const struct ticket *left = a, *right = b;
    if (left->timestamp != right->timestamp)
        return left->timestamp < right->timestamp ? -1 : 1;
    return left->arrival < right->arrival ? -1 : left->arrival > right->arrival;
}

static int compare_item(const void *a, const void *b)
{
    const struct ticket *left = a, *right = b;
    if (left->item != right->item)
        return left->item < right->item ? -1 : 1;
    return compare_time(a, b);
}

/* Keeps the last of each item; returns how many stay. */
static size_t drop_repeated(struct ticket *tickets, size_t count)
{
    bool ascending = true;
    for (size_t i = 1; ascending && i < count; i++)
        ascending = tickets[i - 1].item < tickets[i].item;
    if (ascending)
        return count;
    qsort(tickets, count, sizeof *tickets, compare_item);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (i + 1 == count || tickets[i].item != tickets[i + 1].item)
            tickets[kept++] = tickets[i];
    return kept;
}

enum akin_status rating_table_sort(struct rating_table *table, uint64_t *duplicates,
                                   struct akin_error *error)
{
    struct ticket *tickets = NULL;
    size_t capacity = 0, written = 0;
    *duplicates = 0;
    table->users = 0;
    if (table->unordered && !sort_by_user(table))
        return error_memory(error);
    table->unordered = false;
    for (size_t begin = 0, end; begin < table->count; begin = end) {
        uint32_t user = table->records[begin].user;
        for (end = begin + 1; end < table->count && table->records[end].user == user;)
            end++;
        size_t count = end - begin;
        if (!array_reserve((void **)&tickets, &capacity, count, sizeof *tickets)) {
            memory_free(tickets);
            return error_memory(error);
        }
        for (size_t i = 0; i < count; i++) {
            const struct rating_record *record = &table->records[begin + i];
            tickets[i] = (struct ticket){ record->timestamp, record->item, record->rating, i };
        }
        size_t kept = drop_repeated(tickets, count);
        qsort(tickets, kept, sizeof *tickets, compare_time);
        for (size_t i = 0; i < kept; i++)
            table->records[written++] = (struct rating_record){ user, tickets[i].item,
                                                                tickets[i].rating,
                                                                tickets[i].timestamp };
        *duplicates += count - kept;
        table->users++;
    }
    table->count = written;
    memory_free(tickets);
    return AKIN_OK;
}
