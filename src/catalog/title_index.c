/* A sorted table of (hash of key, row); keys are kept, so that a hash never decides alone. Nearness
 * is Levenshtein distance in bytes of the keys' first 64 bytes, computed with the bit-parallel
 * algorithm of Myers (J. ACM 46, 1999, in Hyyro's form for the whole distance). */
#include "catalog/title_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "catalog/title.h"

struct title_entry {
    uint64_t hash;
    const char *key;
    uint32_t bytes;
    uint32_t row;
    uint16_t year;
    uint16_t kind;          /* enum name_kind */
};

/* How a name came about; the lower, the more it is the title. The gaps leave room for what else
 * counts (look_up). */
enum name_kind {
    NAME_OWN = 0,
    NAME_ALTERNATE = 2,     /* in parentheses */
    NAME_BEGINNING = 8,     /* what stands before a colon or a dash: "Star Wars" */
};

static bool add_key(struct title_index *index, uint32_t row, int year, enum name_kind kind,
                    const struct bytes *key)
{
    uint64_t hash = hash_bytes(key->data, key->count);
    /* The entries of this row are the last ones: no name twice. */
    for (size_t i = index->count; i > 0 && index->entries[i - 1].row == row; i--) {
        const struct title_entry *entry = &index->entries[i - 1];
        if (entry->hash == hash && entry->bytes == key->count &&
            !memcmp(entry->key, key->data, key->count))
            return true;
    }
    const char *copy = string_pool_add(&index->keys, key->data, key->count);
    if (!copy || !array_reserve((void **)&index->entries, &index->capacity, index->count + 1,
                                sizeof *index->entries))
        return false;
    index->entries[index->count++] = (struct title_entry){
        .hash = hash, .key = copy, .bytes = (uint32_t)key->count, .row = row,
        .year = (uint16_t)year, .kind = (uint16_t)kind,
    };
    return true;
}

static bool add_parts(struct title_index *index, uint32_t row, int year, enum name_kind kind,
                      const struct title_part *parts, size_t count, struct bytes *key)
{
    for (int bare = 0; bare < 2; bare++) {
        bytes_clear(key);
        title_key(key, parts, count, bare);
        if (key->failed || (key->count && !add_key(index, row, year, kind, key)))
            return false;
    }
    return true;
}

/* "Star Wars: Episode IV - A New Hope" is also called "Star Wars" and "Star Wars: Episode IV". */
static bool add_beginnings(struct title_index *index, uint32_t row, int year,
                           struct title_part whole, struct bytes *key)
{
    for (size_t at = 1; at + 2 < whole.bytes; at++) {
        const char *here = whole.text + at;
        if (memcmp(here, ": ", 2) && memcmp(here, " - ", 3))
            continue;
        struct title_part beginning = title_trim(whole.text, at);
        if (!add_parts(index, row, year, NAME_BEGINNING, &beginning, 1, key))
            return false;
    }
    return true;
}

enum akin_status title_index_add(struct title_index *index, uint32_t row, const char *text,
                                 int year, struct akin_error *error)
{
    struct title title;
    struct bytes key = { 0 };
    size_t length = strlen(text);
    if (length > UINT16_MAX)    /* nobody types that */
        length = UINT16_MAX;
    title_parse(text, length, &title);
    year = year >= 0 && year <= UINT16_MAX ? year : 0;
    bool added = add_parts(index, row, year, NAME_OWN, &title.whole, 1, &key) &&
                 add_parts(index, row, year, NAME_OWN, title.outside, title.outside_count, &key);
    for (size_t i = 0; added && i < title.inside_count; i++)
        added = add_parts(index, row, year, NAME_ALTERNATE, &title.inside[i], 1, &key);
    added = added && add_beginnings(index, row, year, title.whole, &key);
    bytes_deinit(&key);
    return added ? AKIN_OK : error_memory(error);
}

static int compare_entries(const void *a, const void *b)
{
    const struct title_entry *left = a, *right = b;
    if (left->hash != right->hash)
        return left->hash < right->hash ? -1 : 1;
    if (left->row != right->row)
        return left->row < right->row ? -1 : 1;
    return left->kind - right->kind;
}

void title_index_sort(struct title_index *index)
{
    if (index->count)
        qsort(index->entries, index->count, sizeof *index->entries, compare_entries);
}

void title_index_deinit(struct title_index *index)
{
    memory_free(index->entries);
    string_pool_deinit(&index->keys);
    *index = (struct title_index){ 0 };
}

uint64_t title_index_bytes(const struct title_index *index)
{
    return index->capacity * sizeof *index->entries + index->keys.bytes;
}

/* ---- finding ---------------------------------------------------------------------------- */

/* The best row so far; lower rank is better. */
struct choice {
    bool found;
    unsigned rank;
    uint32_t row;
};

static void choose(struct choice *choice, unsigned rank, uint32_t row, const uint32_t *ratings)
{
    bool better =
        !choice->found || rank < choice->rank ||
        (rank == choice->rank && (ratings[row] > ratings[choice->row] ||
                                  (ratings[row] == ratings[choice->row] && row < choice->row)));
    if (better)
        *choice = (struct choice){ true, rank, row };
}

static void look_up(const struct title_index *index, const uint32_t *ratings,
                    const struct bytes *key, int year, unsigned rank, struct choice *choice)
{
    uint64_t hash = hash_bytes(key->data, key->count);
    size_t low = 0, high = index->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (index->entries[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < index->count && index->entries[low].hash == hash; low++) {
        const struct title_entry *entry = &index->entries[low];
        if (entry->bytes != key->count || memcmp(entry->key, key->data, key->count))
            continue;
        unsigned other_year = 0;
        if (year && entry->year != year) {
            if (entry->year)
                continue;
            other_year = 4;
        }
        choose(choice, rank + other_year + entry->kind, entry->row, ratings);
    }
}

/* Looks up a name with its article as typed and, as second choice, without it. */
static bool look_up_name(const struct title_index *index, const uint32_t *ratings,
                         const struct title_part *parts, size_t count, int year,
                         struct choice *choice)
{
    struct bytes key = { 0 };
    for (int bare = 0; bare < 2; bare++) {
        bytes_clear(&key);
        title_key(&key, parts, count, bare);
        if (!key.failed && key.count)
            look_up(index, ratings, &key, year, (unsigned)bare, choice);
    }
    bool complete = !key.failed;
    bytes_deinit(&key);
    return complete;
}

bool title_index_find(const struct title_index *index, const uint32_t *ratings, const char *query,
                      uint32_t *row, struct akin_error *error, enum akin_status *status)
{
    struct title title;
    struct choice choice = { 0 };
    int year;
    size_t length = strlen(query);
    title_parse(query, length < UINT16_MAX ? length : UINT16_MAX, &title);
    bool complete = look_up_name(index, ratings, &title.whole, 1, title.year, &choice);
    if (!choice.found)
        complete &=
            look_up_name(index, ratings, title.outside, title.outside_count, title.year, &choice);
    struct title_part rest = title.whole;
    if (!choice.found && title.year == 0 && title_take_bare_year(&rest, &year))
        complete &= look_up_name(index, ratings, &rest, 1, year, &choice);
    *status = complete ? AKIN_OK : error_memory(error);
    if (choice.found)
        *row = choice.row;
    return complete && choice.found;
}

/* ---- nearness --------------------------------------------------------------------------- */

enum { PATTERN_BYTES_MAX = 64 };

struct pattern {
    uint64_t positions[256];    /* bit i: byte i of the pattern is this value */
    size_t bytes;
    const char *text;
};

static void pattern_init(struct pattern *pattern, const char *text, size_t bytes)
{
    *pattern = (struct pattern){ .text = text,
                                 .bytes = bytes < PATTERN_BYTES_MAX ? bytes : PATTERN_BYTES_MAX };
    for (size_t i = 0; i < pattern->bytes; i++)
        pattern->positions[(unsigned char)text[i]] |= (uint64_t)1 << i;
}

static size_t edit_distance(const struct pattern *pattern, const char *text, size_t bytes)
{
    uint64_t up = ~(uint64_t)0, down = 0, last = (uint64_t)1 << (pattern->bytes - 1);
    size_t distance = pattern->bytes;
    for (size_t i = 0; i < bytes; i++) {
        uint64_t match = pattern->positions[(unsigned char)text[i]];
        uint64_t zero = (((match & up) + up) ^ up) | match | down;
        uint64_t plus = down | ~(zero | up), minus = up & zero;
        distance += (plus & last) != 0;
        distance -= (minus & last) != 0;
        plus = plus << 1 | 1;
        minus <<= 1;
        up = minus | ~(zero | plus);
        down = plus & zero;
    }
    return distance;
}

/* 0 to 1000. */
static unsigned likeness(const struct pattern *pattern, const struct title_entry *entry)
{
    size_t bytes = entry->bytes < PATTERN_BYTES_MAX ? entry->bytes : PATTERN_BYTES_MAX;
    size_t longer = bytes > pattern->bytes ? bytes : pattern->bytes;
    size_t distance = edit_distance(pattern, entry->key, bytes);
    unsigned score = (unsigned)(1000 * (longer - distance) / longer);
    /* All titles that go on where the query stops are equally near: the ratings decide. */
    if (pattern->bytes >= 4 && bytes > pattern->bytes) {
        unsigned inside = !memcmp(entry->key, pattern->text, pattern->bytes) ? 850
                          : memmem(entry->key, bytes, pattern->text, pattern->bytes) ? 700 : 0;
        score = inside > score ? inside : score;
    }
    return score;
}

struct near_row {
    unsigned score;
    uint32_t row;
};

static bool is_nearer(struct near_row a, struct near_row b, const uint32_t *ratings)
{
    if (a.score != b.score)
        return a.score > b.score;
    if (ratings[a.row] != ratings[b.row])
        return ratings[a.row] > ratings[b.row];
    return a.row < b.row;
}

/* Keeps the best few, each row once. */
static void keep(struct near_row *best, size_t *count, struct near_row candidate,
                 const uint32_t *ratings)
{
    for (size_t i = 0; i < *count; i++) {
        if (best[i].row != candidate.row)
            continue;
        if (candidate.score <= best[i].score)
            return;
        memmove(best + i, best + i + 1, (*count - i - 1) * sizeof *best);
        (*count)--;
        break;
    }
    size_t at = *count;
    while (at > 0 && is_nearer(candidate, best[at - 1], ratings))
        at--;
    if (at == TITLE_NEAREST)
        return;
    size_t moved = (*count < TITLE_NEAREST ? *count : TITLE_NEAREST - 1) - at;
    memmove(best + at + 1, best + at, moved * sizeof *best);
    best[at] = candidate;
    *count += *count < TITLE_NEAREST;
}

size_t title_index_nearest(const struct title_index *index, const uint32_t *ratings,
                           const char *query, uint32_t *rows)
{
    struct title title;
    struct bytes key = { 0 };
    struct pattern pattern;
    struct near_row best[TITLE_NEAREST];
    size_t count = 0, length = strlen(query);
    title_parse(query, length < UINT16_MAX ? length : UINT16_MAX, &title);
    title_key(&key, &title.whole, 1, true);
    pattern_init(&pattern, key.data, key.count);
    for (size_t i = 0; pattern.bytes && i < index->count; i++) {
        const struct title_entry *entry = &index->entries[i];
        size_t apart = entry->bytes > pattern.bytes ? 0 : pattern.bytes - entry->bytes;
        if (3 * apart > 2 * pattern.bytes)
            continue;
        struct near_row candidate = { likeness(&pattern, entry), entry->row };
        if (count < TITLE_NEAREST || candidate.score >= best[count - 1].score)
            keep(best, &count, candidate, ratings);
    }
    for (size_t i = 0; i < count; i++)
        rows[i] = best[i].row;
    bytes_deinit(&key);
    return count;
}
