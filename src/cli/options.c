/* See options.h. */
#include "cli/options.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/csv.h"

enum { WORD_BYTES_MAX = 64, HELP_COLUMN = 27 };

/* ---- near words -------------------------------------------------------------------------- */

/* Levenshtein's distance in one row; words longer than WORD_BYTES_MAX are far from everything. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[WORD_BYTES_MAX + 1];
    size_t an = strlen(a), bn = strlen(b);
    if (an > WORD_BYTES_MAX || bn > WORD_BYTES_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= bn; j++)
        row[j] = j;
    for (size_t i = 1; i <= an; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= bn; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[bn];
}

const char *nearest_word(const char *word, const char *const *words, size_t count)
{
    const char *best = NULL;
    size_t length = strlen(word), best_distance = length <= 4 ? 2 : 3;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, words[i]);
        if (length >= 3 && strncmp(word, words[i], length) == 0)
            distance = 1; /* a beginning is as good as one slip */
        if (distance < best_distance) {
            best_distance = distance;
            best = words[i];
        }
    }
    return best;
}

/* ---- look-up ----------------------------------------------------------------------------- */

struct place {
    size_t table, row;
};

static bool find(const struct options *options, const char *name, size_t length, char letter,
                 struct place *place)
{
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < options->tables[t].count; i++) {
            const struct option *row = &options->tables[t].rows[i];
            bool same = name ? strlen(row->name) == length && memcmp(row->name, name, length) == 0
                             : row->letter == letter;
            if (same) {
                *place = (struct place){t, i};
                return true;
            }
        }
    }
    return false;
}

static struct place must_find(const struct options *options, const char *name)
{
    struct place place = {0, 0};
    ASSERT(find(options, name, strlen(name), 0, &place));
    return place;
}

void options_init(struct options *options, struct option_table own, struct option_table common)
{
    ASSERT(own.count <= OPTIONS_MAX);
    ASSERT(common.count <= OPTIONS_MAX);
    memset(options, 0, sizeof *options);
    options->tables[0] = own;
    options->tables[1] = common;
}

/* ---- values ------------------------------------------------------------------------------ */

static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *at = choices; *at;) {
        size_t n = strcspn(at, "|");
        if (n == length && memcmp(at, value, n) == 0)
            return true;
        at += n + (at[n] == '|');
    }
    return false;
}

static enum akin_status check_value(const struct option *row, const char *value,
                                    struct akin_error *error)
{
    uint64_t whole = 0;
    double number = 0;
    switch (row->kind) {
    case OPTION_CHOICE:
        if (!is_choice(row->value, value))
            return error_set(error, AKIN_ARGUMENT, "--%s: '%.80s' is not one of %s", row->name,
                             value, row->value);
        break;
    case OPTION_COUNT:
        if (!parse_uint64(value, strlen(value), &whole) || (double)whole < row->min ||
            (double)whole > row->max)
            return error_set(error, AKIN_ARGUMENT,
                             "--%s: '%.80s' is not a whole number from %.0f to %.0f", row->name,
                             value, row->min, row->max);
        break;
    case OPTION_NUMBER:
        if (!parse_double(value, strlen(value), &number) || !isfinite(number) ||
            number < row->min || number > row->max)
            return error_set(error, AKIN_ARGUMENT, "--%s: '%.80s' is not a number from %g to %g",
                             row->name, value, row->min, row->max);
        break;
    case OPTION_FLAG:
    case OPTION_TEXT:
        break;
    }
    return AKIN_OK;
}

/* ---- parsing ----------------------------------------------------------------------------- */

static enum akin_status unknown_option(const struct options *options, const char *word,
                                       size_t length, struct akin_error *error)
{
    const char *names[2 * OPTIONS_MAX];
    size_t count = 0;
    char name[WORD_BYTES_MAX + 1];
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < options->tables[t].count; i++)
            names[count++] = options->tables[t].rows[i].name;
    snprintf(name, sizeof name, "%.*s", (int)(length < WORD_BYTES_MAX ? length : WORD_BYTES_MAX),
             word);
    const char *near = nearest_word(name, names, count);
    if (near)
        return error_set(error, AKIN_ARGUMENT, "unknown option --%s; did you mean --%s?", name,
                         near);
    return error_set(error, AKIN_ARGUMENT, "unknown option --%s; --help lists them", name);
}

/* One option at argv[*at]; moves *at behind it and its value. */
static enum akin_status parse_option(struct options *options, int argc, char *const *argv, int *at,
                                     struct akin_error *error)
{
    const char *word = argv[*at], *value = NULL;
    struct place place;
    ++*at;
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        if (!find(options, word + 2, length, 0, &place))
            return unknown_option(options, word + 2, length, error);
        value = word[2 + length] == '=' ? word + 3 + length : NULL;
    } else {
        if (!find(options, NULL, 0, word[1], &place))
            return error_set(error, AKIN_ARGUMENT, "unknown option -%c; --help lists them",
                             word[1]);
        value = word[2] ? word + 2 : NULL;
    }
    const struct option *row = &options->tables[place.table].rows[place.row];
    if (row->kind == OPTION_FLAG) {
        if (value)
            return error_set(error, AKIN_ARGUMENT, "--%s takes no value", row->name);
        value = "";
    } else if (!value) {
        /* What begins with "--" is the next option: a value like that is given with "=". */
        if (*at >= argc || (argv[*at][0] == '-' && argv[*at][1] == '-'))
            return error_set(error, AKIN_ARGUMENT, "--%s needs a value: --%s %s", row->name,
                             row->name, row->value);
        value = argv[(*at)++];
    }
    TRY(check_value(row, value, error));
    if (options->seen_count == OPTIONS_SEEN_MAX)
        return error_set(error, AKIN_LIMIT, "more than %d options", OPTIONS_SEEN_MAX);
    options->seen[options->seen_count++] = (struct option_seen){row, value};
    options->given[place.table][place.row] = value;
    return AKIN_OK;
}

enum akin_status options_parse(struct options *options, int argc, char *const *argv, int *at,
                               bool until_word, struct akin_error *error)
{
    bool only_words = false;
    while (*at < argc) {
        const char *word = argv[*at];
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
            ++*at;
        } else if (!only_words && word[0] == '-' && word[1]) {
            TRY(parse_option(options, argc, argv, at, error));
        } else if (until_word) {
            return AKIN_OK;
        } else {
            if (options->positional_count == POSITIONALS_MAX)
                return error_set(error, AKIN_ARGUMENT, "too many arguments, from '%.80s' on", word);
            options->positionals[options->positional_count++] = word;
            ++*at;
        }
    }
    return AKIN_OK;
}

/* ---- reading ----------------------------------------------------------------------------- */

bool options_given(const struct options *options, const char *name)
{
    struct place place = must_find(options, name);
    return options->given[place.table][place.row] != NULL;
}

bool options_flag(const struct options *options, const char *name)
{
    return options_given(options, name);
}

const char *options_text(const struct options *options, const char *name)
{
    struct place place = must_find(options, name);
    const char *value = options->given[place.table][place.row];
    return value ? value : options->tables[place.table].rows[place.row].standard;
}

size_t options_count(const struct options *options, const char *name)
{
    const char *text = options_text(options, name);
    uint64_t value = 0;
    ASSERT(text && parse_uint64(text, strlen(text), &value));
    return (size_t)value;
}

double options_number(const struct options *options, const char *name)
{
    const char *text = options_text(options, name);
    double value = 0;
    ASSERT(text && parse_double(text, strlen(text), &value));
    return value;
}

const char *options_nth(const struct options *options, size_t i, const char **value)
{
    if (i >= options->seen_count)
        return NULL;
    *value = options->seen[i].value;
    return options->seen[i].option->name;
}

/* ---- help -------------------------------------------------------------------------------- */

void options_help(struct bytes *out, struct option_table table)
{
    for (size_t i = 0; i < table.count; i++) {
        const struct option *row = &table.rows[i];
        char left[128];
        int n = row->letter ? snprintf(left, sizeof left, "  -%c, --%s", row->letter, row->name)
                            : snprintf(left, sizeof left, "      --%s", row->name);
        ASSERT(n > 0 && (size_t)n < sizeof left);
        if (row->kind != OPTION_FLAG)
            snprintf(left + n, sizeof left - (size_t)n, " %s", row->value);
        if (strlen(left) < HELP_COLUMN)
            bytes_printf(out, "%-*s %s", HELP_COLUMN, left, row->help);
        else
            bytes_printf(out, "%s\n%-*s %s", left, HELP_COLUMN, "", row->help);
        if (row->standard)
            bytes_printf(out, " (default %s)", row->standard);
        bytes_append_text(out, "\n");
    }
}
