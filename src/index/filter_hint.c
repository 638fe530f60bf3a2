/* Hints for filters; the distance of names is that of Damerau and Levenshtein, where no letter
 * moves twice. Bytes are counted as letters: a slip in a letter of several bytes may be one too
 * many. */
#include "index/filter_hint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LETTERS_MAX = 64 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t name_distance(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t rows[3][LETTERS_MAX + 1];
    size_t longer = a_bytes > b_bytes ? a_bytes : b_bytes;
    size_t allowed = longer < 3 ? 0 : longer < 6 ? 1 : 2;
    if (longer > LETTERS_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_bytes; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t *now = rows[i % 3], *last = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t changed = last[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = least(changed, least(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
    }
    size_t distance = rows[a_bytes % 3][b_bytes];
    return distance <= allowed ? distance : SIZE_MAX;
}

void filter_hint_field(struct filter_hint *hint, const char *name, size_t bytes, bool texts,
                       bool numbers)
{
    const struct filter_node *node = hint->node;
    if (bytes == node->name_bytes && !memcmp(name, node->name, bytes)) {
        hint->known = true;
        hint->texts |= texts;
        hint->numbers |= numbers;
        return;
    }
    size_t distance = name_distance(node->name, node->name_bytes, name, bytes);
    size_t best = hint->nearest[0] ? hint->distance : SIZE_MAX;
    /* of several the first in the order of their letters, whatever order they come in */
    bool first = distance == best && distance != SIZE_MAX &&
                 strncmp(name, hint->nearest, bytes) < 0;
    if (bytes >= sizeof hint->nearest || (distance >= best && !first))
        return;
    hint->distance = distance;
    memcpy(hint->nearest, name, bytes);
    hint->nearest[bytes] = 0;
}

/* A value that is no number, of a condition on equality; NULL: there is a number among them. */
static const char *no_number(const struct filter *filter, const struct filter_node *node)
{
    for (size_t i = 0; i < node->value_count; i++)
        if (!isnan(filter->values[node->first_value + i].number))
            return NULL;
    return node->value_count ? filter->values[node->first_value].text : NULL;
}

bool filter_hint_say(const struct filter_hint *hint, const struct filter *filter, char *text,
                     size_t bytes)
{
    const struct filter_node *node = hint->node;
    const char *value;
    text[0] = 0;
    if (!hint->known && hint->nearest[0])
        snprintf(text, bytes, "no row has a field '%.80s'; did you mean '%.80s'?", node->name,
                 hint->nearest);
    else if (!hint->known)
        snprintf(text, bytes, "no row has a field '%.80s'", node->name);
    else if (node->op == FILTER_RANGE && !hint->numbers)
        snprintf(text, bytes, "field '%.80s' holds texts, and <, <=, >, >= and BETWEEN are for "
                 "numbers; no row passes", node->name);
    else if (node->op == FILTER_CONTAINS && !hint->texts)
        snprintf(text, bytes, "field '%.80s' holds numbers, and CONTAINS is for texts; no row "
                 "passes", node->name);
    else if (node->op == FILTER_IN && !hint->texts && (value = no_number(filter, node)))
        snprintf(text, bytes, "field '%.80s' holds numbers, and '%.80s' is not one", node->name,
                 value);
    return text[0] != 0;
}
