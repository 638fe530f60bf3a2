/* Years, parentheses, articles, folding. Unicode tables are utf8proc's. */
#include "catalog/title.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

#include "base/utf8.h"

enum { YEAR_MIN = 1800, YEAR_MAX = 2199 };

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

struct title_part title_trim(const char *text, size_t bytes)
{
    while (bytes && is_blank(text[0])) {
        text++;
        bytes--;
    }
    while (bytes && is_blank(text[bytes - 1]))
        bytes--;
    return (struct title_part){ text, bytes };
}

/* ---- years ------------------------------------------------------------------------------ */

static int year_at(const char *text)
{
    int year = 0;
    for (int i = 0; i < 4; i++) {
        if (!is_digit(text[i]))
            return 0;
        year = 10 * year + (text[i] - '0');
    }
    return year >= YEAR_MIN && year <= YEAR_MAX ? year : 0;
}

/* "1999", "1999-2001", "1999-" with hyphen, en dash or em dash; nothing else. */
static int year_of_group(struct title_part group)
{
    int year = group.bytes >= 4 ? year_at(group.text) : 0;
    if (year == 0 || group.bytes == 4)
        return year;
    struct title_part rest = title_trim(group.text + 4, group.bytes - 4);
    if (rest.bytes && rest.text[0] == '-')
        rest = title_trim(rest.text + 1, rest.bytes - 1);
    else if (rest.bytes >= 3 && !memcmp(rest.text, "\xe2\x80", 2) &&
             (rest.text[2] == '\x93' || rest.text[2] == '\x94'))
        rest = title_trim(rest.text + 3, rest.bytes - 3);
    else
        return 0;
    if (rest.bytes > 4)
        return 0;
    for (size_t i = 0; i < rest.bytes; i++)
        if (!is_digit(rest.text[i]))
            return 0;
    return year;
}

bool title_take_bare_year(struct title_part *text, int *year)
{
    if (text->bytes < 6 || !is_blank(text->text[text->bytes - 5]))
        return false;
    int found = year_at(text->text + text->bytes - 4);
    if (found == 0)
        return false;
    *year = found;
    *text = title_trim(text->text, text->bytes - 4);
    return text->bytes > 0;
}

/* ---- parts ------------------------------------------------------------------------------ */

/* The next group in parentheses at or behind `from`: its '(' and the byte behind its ')'. Inner
 * parentheses belong to the outer one. false: there is none, or it is not closed. */
static bool next_group(const char *text, size_t bytes, size_t from, size_t *open, size_t *close)
{
    size_t depth = 0;
    for (size_t at = from; at < bytes; at++) {
        if (text[at] == '(' && depth++ == 0) {
            *open = at;
        } else if (text[at] == ')' && depth && --depth == 0) {
            *close = at + 1;
            return true;
        }
    }
    return false;
}

/* The last group that is a year. */
static int find_year(const char *text, size_t bytes, size_t *open, size_t *close)
{
    int year = 0;
    size_t begin = 0, end = 0;
    for (size_t from = 0; next_group(text, bytes, from, &begin, &end); from = end) {
        int found = year_of_group(title_trim(text + begin + 1, end - begin - 2));
        if (found) {
            year = found;
            *open = begin;
            *close = end;
        }
    }
    return year;
}

int title_year(const char *text, size_t bytes)
{
    size_t open = 0, close = 0;
    return find_year(text, bytes, &open, &close);
}

static void add_part(struct title_part *parts, size_t *count, struct title_part part)
{
    if (part.bytes && *count < TITLE_PARTS_MAX)
        parts[(*count)++] = part;
}

static struct title_part without_aka(struct title_part part)
{
    static const char *const marks[] = { "a.k.a.", "aka ", "also known as " };
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        size_t length = strlen(marks[i]);
        if (part.bytes > length && !strncasecmp(part.text, marks[i], length))
            return title_trim(part.text + length, part.bytes - length);
    }
    return part;
}

void title_parse(const char *text, size_t bytes, struct title *title)
{
    *title = (struct title){ .whole = title_trim(text, bytes) };
    text = title->whole.text;
    bytes = title->whole.bytes;
    size_t year_open = bytes, year_close = bytes, open = 0, close = 0, from = 0;
    title->year = find_year(text, bytes, &year_open, &year_close);
    if (year_close == bytes)
        title->whole = title_trim(text, year_open);
    for (; next_group(text, bytes, from, &open, &close); from = close) {
        add_part(title->outside, &title->outside_count, title_trim(text + from, open - from));
        if (open != year_open)
            add_part(title->inside, &title->inside_count,
                     without_aka(title_trim(text + open + 1, close - open - 2)));
    }
    add_part(title->outside, &title->outside_count, title_trim(text + from, bytes - from));
}

/* ---- folding ---------------------------------------------------------------------------- */

/* Letters that Unicode does not take apart and that people type without their stroke. */
static const char *plain_letter(uint32_t code)
{
    switch (code) {
    case 0xe6:
        return "ae";
    case 0xf0:
    case 0x111:
        return "d";
    case 0xf8:
        return "o";
    case 0xfe:
        return "th";
    case 0x131:
        return "i";
    case 0x142:
        return "l";
    case 0x153:
        return "oe";
    case '&':
        return "and";
    default:
        return NULL;
    }
}

static void fold_code(struct bytes *out, uint32_t code)
{
    utf8proc_int32_t folded[32];
    int boundary = UTF8PROC_BOUNDCLASS_START;
    utf8proc_ssize_t count = utf8proc_decompose_char(
        (utf8proc_int32_t)code, folded, 32,
        UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_STRIPMARK, &boundary);
    for (utf8proc_ssize_t i = 0; i < count && i < 32; i++) {
        const char *plain = plain_letter((uint32_t)folded[i]);
        utf8proc_category_t category = utf8proc_category(folded[i]);
        char encoded[4];
        if (plain)
            bytes_append_text(out, plain);
        else if ((category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
                 (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO))
            bytes_append(out, encoded, utf8_encode((uint32_t)folded[i], encoded));
    }
}

static void fold(struct bytes *out, struct title_part part)
{
    for (size_t at = 0; at < part.bytes;) {
        char c = part.text[at];
        if ((unsigned char)c >= 0x80) {
            uint32_t code;
            at += utf8_decode(part.text + at, part.bytes - at, &code);
            fold_code(out, code);
            continue;
        }
        at++;
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + 'a' - 'A');
        if ((c >= 'a' && c <= 'z') || is_digit(c))
            bytes_append(out, &c, 1);
        else if (c == '&')
            bytes_append_text(out, "and");
    }
}

/* Articles that catalogues move behind a comma. */
static bool is_article(struct title_part word)
{
    static const char *const articles[] = {
        "the", "a",   "an",  "la", "le",  "les",  "l'", "el",  "los", "las", "il", "lo", "gli", "i",
        "der", "die", "das", "ein", "eine", "den", "det", "de", "het", "een", "en", "ett", "et",
        "un",  "une", "una", "uno", "o",  "os",   "as", "um",  "uma",
    };
    for (size_t i = 0; i < sizeof articles / sizeof *articles; i++)
        if (strlen(articles[i]) == word.bytes && !strncasecmp(articles[i], word.text, word.bytes))
            return true;
    return word.bytes == 4 && !strncasecmp(word.text, "l\xe2\x80\x99", 4);
}

/* Cuts ", The" off the end; .bytes 0 where there is none. */
static struct title_part take_moved_article(struct title_part *part)
{
    const char *comma = memrchr(part->text, ',', part->bytes);
    if (comma) {
        struct title_part word =
            title_trim(comma + 1, (size_t)(part->text + part->bytes - comma) - 1);
        struct title_part rest = title_trim(part->text, (size_t)(comma - part->text));
        if (word.bytes && rest.bytes && is_article(word)) {
            *part = rest;
            return word;
        }
    }
    return (struct title_part){ part->text, 0 };
}

static void drop_leading_article(struct title_part *part)
{
    static const char *const articles[] = { "the ", "a ", "an " };
    for (size_t i = 0; i < sizeof articles / sizeof *articles; i++) {
        size_t length = strlen(articles[i]);
        if (part->bytes > length && !strncasecmp(part->text, articles[i], length)) {
            *part = title_trim(part->text + length, part->bytes - length);
            return;
        }
    }
}

void title_key(struct bytes *key, const struct title_part *parts, size_t count, bool bare)
{
    size_t begin = key->count;
    for (size_t i = 0; i < count; i++) {
        struct title_part part = parts[i], article = take_moved_article(&part);
        if (bare && !article.bytes)
            drop_leading_article(&part);
        if (!bare)
            fold(key, article);
        fold(key, part);
    }
    /* A title of signs only, such as "...", is its own key. */
    for (size_t i = 0; key->count == begin && i < count; i++)
        bytes_append(key, parts[i].text, parts[i].bytes);
}

void title_lower(struct bytes *out, const char *text, size_t bytes)
{
    size_t begin = out->count;
    bool blank = false;
    for (size_t at = 0; at < bytes;) {
        uint32_t code;
        char encoded[4];
        at += utf8_decode(text + at, bytes - at, &code);
        if (code <= ' ' || code == 0x7f || code == 0xa0) {
            blank = true;
            continue;
        }
        if (blank && out->count > begin)
            bytes_append(out, " ", 1);
        blank = false;
        bytes_append(out, encoded,
                     utf8_encode((uint32_t)utf8proc_tolower((utf8proc_int32_t)code), encoded));
    }
}
