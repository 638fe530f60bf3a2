/* Command lines: a table of options in, checked values out. Nothing here prints or exits. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"
#include "base/status.h"

enum option_kind {
    OPTION_FLAG,
    OPTION_TEXT,
    OPTION_CHOICE, /* one of the words of `value`, which are separated by | */
    OPTION_COUNT,  /* a whole number of [min, max] */
    OPTION_NUMBER, /* a finite number of [min, max] */
};

struct option {
    const char *name; /* "input", given as --input */
    char letter;      /* 'i', given as -i too; 0: none */
    enum option_kind kind;
    const char *value;    /* what the help shows, such as "FILE" */
    const char *standard; /* the default, spelled as a user would; NULL: none */
    const char *help;
    double min, max;
};

enum { OPTIONS_MAX = 64, POSITIONALS_MAX = 64, OPTIONS_SEEN_MAX = 256 };

struct option_table {
    const struct option *rows;
    size_t count;
};

/* What a command line said. Values are views of argv. */
struct options {
    struct option_table tables[2]; /* the command's own, then the common ones */
    const char *given[2][OPTIONS_MAX];
    struct option_seen {
        const struct option *option;
        const char *value;
    } seen[OPTIONS_SEEN_MAX];      /* in the order of the command line */
    size_t seen_count;
    const char *positionals[POSITIONALS_MAX];
    size_t positional_count;
};

void options_init(struct options *options, struct option_table own, struct option_table common);

/* Reads argv[*at...argc). `--name value`, `--name=value`, `-n value`, `-nvalue`; "--" ends the
 * options; "-" is a value. With `until_word` it stops at the first word that is no option.
 * AKIN_ARGUMENT: an unknown option (with the nearest one), a missing, superfluous or bad value. */
enum akin_status options_parse(struct options *options, int argc, char *const *argv, int *at,
                               bool until_word, struct akin_error *error);

/* By name; a name that no table has is a bug. Text is NULL where there is neither value nor
 * default. */
bool options_given(const struct options *options, const char *name);
bool options_flag(const struct options *options, const char *name);
const char *options_text(const struct options *options, const char *name);
size_t options_count(const struct options *options, const char *name);
double options_number(const struct options *options, const char *name);
/* The i-th option of the command line, for those that may be given several times or whose order
 * matters; NULL behind the last. The others count as given last. */
const char *options_nth(const struct options *options, size_t i, const char **value);

/* Appends the aligned help lines of a table. */
void options_help(struct bytes *out, struct option_table table);

/* The nearest of `count` words to `word` by edit distance, or NULL when none is near. */
const char *nearest_word(const char *word, const char *const *words, size_t count);
