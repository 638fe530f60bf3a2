/* See titles.h. Words are folded like titles that people type (catalog/title.h); everything but
 * letters and digits separates them. */
#include "recommend/titles.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "catalog/catalog.h"
#include "catalog/title.h"

enum { WORDS_MAX = 64 };        /* of a title; what follows is left out */

struct titles {
    size_t items, word_count;
    uint32_t *starts;           /* [items + 1] of each item's words */
    uint32_t *words;            /* ascending within an item */
    uint32_t *holder_starts;    /* [word_count + 1] of each word's items */
    uint32_t *holders;
    float *weights;             /* [word_count] idf^2 */
    float *inverse;             /* [items] 1 / sqrt(sum of the weights); 0: no words */
};

/* ---- words ------------------------------------------------------------------------------ */

static bool is_one_of(const char *const *list, size_t count, const char *word, size_t bytes)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(list[i]) == bytes && !memcmp(list[i], word, bytes))
            return true;
    return false;
}

/* Roman numbers from 2 to 12, and Arabic ones of one or two digits. */
static bool is_sequel_number(const char *word, size_t bytes)
{
    static const char *const roman[] = { "ii", "iii", "iv", "vi", "vii", "viii", "ix", "xi",
                                         "xii" };
    bool digits = bytes <= 2;
    for (size_t i = 0; i < bytes && digits; i++)
        digits = word[i] >= '0' && word[i] <= '9';
    return digits || is_one_of(roman, sizeof roman / sizeof *roman, word, bytes);
}

bool titles_skip(const char *word, size_t bytes)
{
    static const char *const articles[] = { "the", "a", "an" };     /* "die" is a word, too */
    return bytes == 0 || is_one_of(articles, sizeof articles / sizeof *articles, word, bytes) ||
           is_sequel_number(word, bytes);
}

static bool separates(char c)
{
    return !((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             (unsigned char)c >= 0x80);
}

struct reader {
    struct titles *titles;
    struct string_map numbers;  /* of the words */
    struct string_pool pool;
    struct bytes word;          /* scratch */
    size_t capacity, used;
};

/* Appends a word's number to `found`; false: no memory. */
static bool number_word(struct reader *r, const char *text, size_t bytes, uint32_t *found,
                        size_t *count)
{
    struct title_part part = { text, bytes };
    uint64_t number;
    bool added;
    bytes_clear(&r->word);
    title_key(&r->word, &part, 1, false);
    if (r->word.failed)
        return false;
    if (titles_skip(r->word.data, r->word.count) || *count == WORDS_MAX)
        return true;
    if (!string_map_get(&r->numbers, r->word.data, r->word.count, &number)) {
        const char *kept = string_pool_add(&r->pool, r->word.data, r->word.count);
        if (!kept || !string_map_put(&r->numbers, kept, r->word.count, r->numbers.count, &number,
                                     &added))
            return false;
    }
    for (size_t i = 0; i < *count; i++)
        if (found[i] == number)
            return true;
    found[(*count)++] = (uint32_t)number;
    return true;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static bool read_title(struct reader *r, size_t row, const char *text)
{
    struct title title;
    uint32_t found[WORDS_MAX];
    size_t count = 0;
    title_parse(text, strlen(text), &title);
    const char *at = title.whole.text, *end = at + title.whole.bytes;
    while (at < end) {
        const char *begin = at;
        while (at < end && !separates(*at))
            at++;
        if (at > begin && !number_word(r, begin, (size_t)(at - begin), found, &count))
            return false;
        at += at < end;
    }
    if (!array_reserve((void **)&r->titles->words, &r->capacity, r->used + count,
                       sizeof *r->titles->words))
        return false;
    if (count) {
        qsort(found, count, sizeof *found, by_number);
        memcpy(r->titles->words + r->used, found, count * sizeof *found);
    }
    r->used += count;
    r->titles->starts[row + 1] = (uint32_t)r->used;
    return r->used <= UINT32_MAX - WORDS_MAX;
}

/* ---- the index -------------------------------------------------------------------------- */

/* Who has each word, by counting: while the holders are written, the start of word w stands in
 * place w + 1, so that in the end each stands in its own. */
static bool invert(struct titles *t)
{
    size_t total = t->starts[t->items];
    t->holder_starts = memory_alloc(t->word_count + 2, sizeof *t->holder_starts);
    t->holders = memory_alloc(total + 1, sizeof *t->holders);
    t->weights = memory_alloc(t->word_count + 1, sizeof *t->weights);
    t->inverse = memory_alloc(t->items + 1, sizeof *t->inverse);
    if (!t->holder_starts || !t->holders || !t->weights || !t->inverse)
        return false;
    for (size_t i = 0; i < total; i++)
        t->holder_starts[t->words[i] + 2]++;
    for (size_t w = 0; w < t->word_count; w++)
        t->holder_starts[w + 2] += t->holder_starts[w + 1];
    for (size_t row = 0; row < t->items; row++)
        for (size_t i = t->starts[row]; i < t->starts[row + 1]; i++)
            t->holders[t->holder_starts[t->words[i] + 1]++] = (uint32_t)row;
    return true;
}

static void weigh(struct titles *t)
{
    for (size_t w = 0; w < t->word_count; w++) {
        double held = t->holder_starts[w + 1] - t->holder_starts[w];
        double idf = log((double)t->items / held);
        t->weights[w] = (float)(idf * idf);
    }
    for (size_t row = 0; row < t->items; row++) {
        double sum = 0;
        for (size_t i = t->starts[row]; i < t->starts[row + 1]; i++)
            sum += (double)t->weights[t->words[i]];
        t->inverse[row] = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
    }
}

enum akin_status titles_create(const struct catalog *catalog, struct titles **titles,
                               struct akin_error *error)
{
    struct reader r = { .titles = memory_alloc(1, sizeof *r.titles) };
    struct titles *t = r.titles;
    if (!t)
        return error_memory(error);
    t->items = catalog_item_count(catalog);
    t->starts = memory_alloc(t->items + 1, sizeof *t->starts);
    bool made = t->starts != NULL;
    for (size_t row = 0; made && row < t->items; row++) {
        struct akin_item item;
        catalog_item(catalog, row, &item);
        made = read_title(&r, row, item.title);
    }
    t->word_count = r.numbers.count;
    made = made && invert(t);
    string_map_deinit(&r.numbers);
    string_pool_deinit(&r.pool);
    bytes_deinit(&r.word);
    if (!made) {
        titles_destroy(&t);
        return error_memory(error);
    }
    weigh(t);
    *titles = t;
    return AKIN_OK;
}

void titles_destroy(struct titles **titles)
{
    struct titles *t = *titles;
    if (!t)
        return;
    memory_free(t->starts);
    memory_free(t->words);
    memory_free(t->holder_starts);
    memory_free(t->holders);
    memory_free(t->weights);
    memory_free(t->inverse);
    memory_free(t);
    *titles = NULL;
}

uint64_t titles_bytes(const struct titles *t)
{
    return (2 * t->items + 2 * t->word_count + 2 * (uint64_t)t->starts[t->items]) *
           sizeof(uint32_t);
}

/* ---- one title -------------------------------------------------------------------------- */

void titles_gather(const struct titles *t, size_t row, struct gather *out)
{
    for (size_t i = t->starts[row]; i < t->starts[row + 1]; i++) {
        uint32_t word = t->words[i];
        if (t->weights[word] == 0)
            continue;
        for (size_t h = t->holder_starts[word]; h < t->holder_starts[word + 1]; h++)
            gather_add(out, t->holders[h], t->weights[word]);
    }
    for (size_t i = 0; i < out->count; i++) {
        uint32_t other = out->touched[i];
        out->values[other] *= t->inverse[row] * t->inverse[other];
    }
}

/* The same sums in the same order: words ascend. */
float titles_cosine(const struct titles *t, size_t row, size_t other)
{
    size_t theirs = t->starts[other];
    float sum = 0;
    for (size_t i = t->starts[row]; i < t->starts[row + 1]; i++) {
        while (theirs < t->starts[other + 1] && t->words[theirs] < t->words[i])
            theirs++;
        if (theirs < t->starts[other + 1] && t->words[theirs] == t->words[i])
            sum += t->weights[t->words[i]];
    }
    return sum * (t->inverse[row] * t->inverse[other]);
}
