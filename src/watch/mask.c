/* Rules are asked in the order of one table, each only at a byte that may begin its kind. */
#include "watch/mask.h"

#include <string.h>

enum { DIGIT = 1, HEX = 2, LETTER = 4, PATH_END = 8, SLASH = 16, COLON = 32, MINUS = 64,
       NAME = 128 /* of the part of an e-mail address before the @, besides letters and digits */ };

#define CHARS_16(f, b) f(b) f(b + 1) f(b + 2) f(b + 3) f(b + 4) f(b + 5) f(b + 6) f(b + 7) \
    f(b + 8) f(b + 9) f(b + 10) f(b + 11) f(b + 12) f(b + 13) f(b + 14) f(b + 15)
#define IS_LETTER(c) (((c) >= 'a' && (c) <= 'z') || ((c) >= 'A' && (c) <= 'Z'))
#define IS_HEX(c) \
    (((c) >= '0' && (c) <= '9') || ((c) >= 'a' && (c) <= 'f') || ((c) >= 'A' && (c) <= 'F'))
#define ENDS_PATH(c) ((c) <= ' ' || (c) == '"' || (c) == '\'' || (c) == '(' || (c) == ')' || \
    (c) == ',' || (c) == ';' || (c) == '<' || (c) == '>' || (c) == '|' || (c) == '[' || \
    (c) == ']' || (c) == '{' || (c) == '}')
#define CLASS(c) \
    (unsigned char)(((c) >= '0' && (c) <= '9' ? DIGIT : 0) | (IS_HEX(c) ? HEX : 0) | \
     (IS_LETTER(c) ? LETTER : 0) | (ENDS_PATH(c) ? PATH_END : 0) | ((c) == '/' ? SLASH : 0) | \
     ((c) == ':' ? COLON : 0) | ((c) == '-' ? MINUS | NAME : 0) | \
     ((c) == '.' || (c) == '_' || (c) == '%' || (c) == '+' ? NAME : 0)),

static const unsigned char classes[256] = {
    CHARS_16(CLASS, 0) CHARS_16(CLASS, 16) CHARS_16(CLASS, 32) CHARS_16(CLASS, 48)
    CHARS_16(CLASS, 64) CHARS_16(CLASS, 80) CHARS_16(CLASS, 96) CHARS_16(CLASS, 112)
};

/* A view of the text at one place. Reading outside gives a blank. */
struct place {
    const char *text;
    size_t at, count;
    bool ats; /* there is an @ in it */
};

static unsigned char byte_at(const struct place *p, size_t at)
{
    return at < p->count ? (unsigned char)p->text[at] : ' ';
}

static bool is(const struct place *p, size_t at, int kinds)
{
    return classes[byte_at(p, at)] & kinds;
}

static bool before_is(const struct place *p, int kinds)
{
    return p->at > 0 && (classes[(unsigned char)p->text[p->at - 1]] & kinds);
}

static size_t run_of(const struct place *p, size_t at, int kinds)
{
    size_t n = 0;
    while (is(p, at + n, kinds))
        n++;
    return n;
}

/* ---- one kind each: how many bytes from here are of it, or 0 ------------------------------ */

static size_t match_uuid(const struct place *p)
{
    static const unsigned char groups[] = {8, 4, 4, 4, 12};
    size_t at = p->at;
    if (before_is(p, HEX))
        return 0;
    for (int g = 0; g < 5; g++) {
        for (int i = 0; i < groups[g]; i++)
            if (!is(p, at++, HEX))
                return 0;
        if (g < 4 && byte_at(p, at++) != '-')
            return 0;
    }
    return is(p, at, HEX) ? 0 : at - p->at;
}

/* Six pairs with one separator; also longer chains, such as world-wide names. */
static size_t match_mac(const struct place *p)
{
    size_t at = p->at + 2, pairs = 1;
    unsigned char separator = byte_at(p, at);
    if (before_is(p, DIGIT | LETTER | COLON) || !is(p, p->at, HEX) || !is(p, p->at + 1, HEX)
        || (separator != ':' && separator != '-'))
        return 0;
    while (byte_at(p, at) == separator && is(p, at + 1, HEX) && is(p, at + 2, HEX)) {
        at += 3;
        pairs++;
    }
    return pairs >= 6 && !is(p, at, DIGIT | LETTER) ? at - p->at : 0;
}

/* ":port" and "/length" behind an address. */
static size_t with_suffix(const struct place *p, size_t at)
{
    for (int i = 0; i < 2; i++) {
        unsigned char c = byte_at(p, at);
        size_t digits = run_of(p, at + 1, DIGIT);
        if ((c == ':' || c == '/') && digits >= 1 && digits <= 5
            && !is(p, at + 1 + digits, LETTER))
            at += 1 + digits;
    }
    return at - p->at;
}

static size_t match_ipv4(const struct place *p)
{
    size_t at = p->at;
    if (before_is(p, DIGIT))
        return 0;
    for (int part = 0; part < 4; part++) {
        size_t digits = run_of(p, at, DIGIT);
        if (digits < 1 || digits > 3)
            return 0;
        at += digits;
        if (part < 3 && byte_at(p, at++) != '.')
            return 0;
    }
    if (byte_at(p, at) == '.' && is(p, at + 1, DIGIT))
        return 0; /* five parts: a version */
    return with_suffix(p, at);
}

/* Eight groups of up to four hexadecimal digits, or fewer with one "::" and a digit somewhere. */
static size_t match_ipv6(const struct place *p)
{
    size_t at = p->at, groups = 0;
    bool gap = false, digit = false;
    if (before_is(p, DIGIT | LETTER | COLON))
        return 0;
    while (groups < 8) {
        size_t digits = run_of(p, at, HEX);
        if (digits > 4)
            return 0;
        for (size_t i = 0; i < digits; i++)
            digit = digit || is(p, at + i, DIGIT);
        groups += digits > 0;
        at += digits;
        if (byte_at(p, at) == ':' && byte_at(p, at + 1) == ':' && !gap) {
            gap = true;
            at += 2;
        } else if (digits && groups < 8 && byte_at(p, at) == ':' && is(p, at + 1, HEX)) {
            at++;
        } else {
            break;
        }
    }
    if (is(p, at, DIGIT | LETTER) || !digit || (gap ? groups < 1 : groups < 8))
        return 0;
    return with_suffix(p, at);
}

static size_t match_path(const struct place *p)
{
    size_t at = p->at;
    if (before_is(p, DIGIT | LETTER | SLASH) || (!is(p, at + 1, DIGIT | LETTER | SLASH)
                                                 && !strchr("._-", byte_at(p, at + 1))))
        return 0;
    if (match_ipv4(&(struct place){p->text, at + 1, p->count, p->ats}))
        return 0; /* "/10.0.0.1:80", as Java writes addresses */
    while (at < p->count && !is(p, at, PATH_END))
        at++;
    while (at > p->at + 1 && strchr(":.!?", p->text[at - 1]))
        at--;
    return at - p->at;
}

/* A word of hexadecimal digits from here on: with 0x; or with a decimal digit among them. */
static size_t hex_word(const struct place *p, size_t at)
{
    size_t count = run_of(p, at, HEX), digits = 0;
    if (count == 1 && byte_at(p, at) == '0' && (byte_at(p, at + 1) | 32) == 'x') {
        size_t behind = run_of(p, at + 2, HEX);
        return behind ? 2 + behind : 0;
    }
    if (is(p, at + count, DIGIT | LETTER))
        return 0;
    for (size_t i = 0; i < count; i++)
        digits += is(p, at + i, DIGIT);
    return digits && (is(p, at, DIGIT) || count >= 4) ? count : 0;
}

/* Digits inside a word begin a value of their own; letters only at the start of a word, or where so
 * many of them follow each other that they are an identifier (tapdcdf1f2a-3c). */
static size_t match_hex(const struct place *p)
{
    enum { GLUED_MIN = 8 };
    if (!is(p, p->at, DIGIT) && before_is(p, DIGIT | LETTER)
        && (before_is(p, HEX) || run_of(p, p->at, HEX) < GLUED_MIN))
        return 0;
    size_t count = hex_word(p, p->at);
    if (!count)
        return 0;
    size_t decimal = run_of(p, p->at, DIGIT);
    bool port = count == 8 && byte_at(p, p->at + 8) == '-' && run_of(p, p->at + 9, HEX) == 2
                && !is(p, p->at + 11, DIGIT | LETTER); /* tap12345678-4f, once without letters */
    if (decimal == count && !port)
        return 0; /* a number: decimals may follow */
    while (count >= 4 && byte_at(p, p->at + count) == '-') { /* 8327ce4e-4f */
        size_t more = run_of(p, p->at + count + 1, HEX);
        if (more < 2 || is(p, p->at + count + 1 + more, DIGIT | LETTER))
            break;
        count += 1 + more;
    }
    return count;
}

static size_t match_number(const struct place *p)
{
    size_t at = p->at, digits;
    if (byte_at(p, at) == '-') {
        if (before_is(p, DIGIT | LETTER))
            return 0;
        at++;
    }
    digits = run_of(p, at, DIGIT);
    if (!digits)
        return 0;
    at += digits;
    if (byte_at(p, at) == '.' && is(p, at + 1, DIGIT))
        at += 1 + run_of(p, at + 1, DIGIT);
    return at - p->at;
}

/* "Nov 22 00:36:12", after a day of the week or not, before a year or not. */
static size_t match_time(const struct place *p)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static const char days[] = "MonTueWedThuFriSatSun";
    size_t at = p->at;
    if ((byte_at(p, at + 3) != ' ' && byte_at(p, at + 3) != ',') || at + 15 > p->count
        || before_is(p, DIGIT | LETTER))
        return 0;
    for (size_t d = 0; d < sizeof days - 1; d += 3)
        if (memcmp(p->text + at, days + d, 3) == 0) {
            at += byte_at(p, at + 3) == ',' ? 5 : 4;
            break;
        }
    bool month = false;
    for (size_t m = 0; m < sizeof months - 1 && at + 15 <= p->count; m += 3)
        month = month || memcmp(p->text + at, months + m, 3) == 0;
    if (!month || byte_at(p, at + 3) != ' ')
        return 0;
    at += byte_at(p, at + 4) == ' ' ? 5 : 4;
    size_t digits = run_of(p, at, DIGIT);
    if (digits < 1 || digits > 2 || byte_at(p, at + digits) != ' ')
        return 0;
    at += digits + 1;
    if (run_of(p, at, DIGIT) == 4 && byte_at(p, at + 4) == ' ') /* the year before the clock */
        at += 5;
    for (int part = 0; part < 3; part++, at += 3)
        if (run_of(p, at, DIGIT) != 2 || (part < 2 && byte_at(p, at + 2) != ':'))
            return 0;
    at--;
    if ((byte_at(p, at) == '.' || byte_at(p, at) == ',') && is(p, at + 1, DIGIT))
        at += 1 + run_of(p, at + 1, DIGIT);
    if (byte_at(p, at) == ' ' && run_of(p, at + 1, DIGIT) == 4
        && !is(p, at + 5, LETTER | MINUS | COLON) && byte_at(p, at + 5) != '.')
        at += 5;
    return at - p->at;
}

/* user@host.name, but no unit of systemd (getty@tty1.service), whose names tell kinds apart. */
static size_t match_email(const struct place *p)
{
    static const char *const units[] = {"service", "socket", "timer", "slice", "scope", "target",
                                        "mount", "device", "path"};
    enum { PART = LETTER | DIGIT | NAME };
    size_t user, at, end, last;
    if (!p->ats || before_is(p, PART))
        return 0;
    user = run_of(p, p->at, PART);
    at = p->at + user + 1;
    if (byte_at(p, p->at + user) != '@')
        return 0;
    for (end = at; is(p, end, LETTER | DIGIT | MINUS) || (byte_at(p, end) == '.'
                                                          && is(p, end + 1, LETTER | DIGIT));)
        end++;
    for (last = end; last > at && p->text[last - 1] != '.';)
        last--;
    if (last == at || end - last < 2 || run_of(p, last, LETTER) != end - last)
        return 0;
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++)
        if (strlen(units[u]) == end - last && memcmp(p->text + last, units[u], end - last) == 0)
            return 0;
    return end - p->at;
}

static bool in_base64(unsigned char c)
{
    return classes[c] & (DIGIT | LETTER | SLASH) || c == '+';
}

static int case_of(unsigned char c)
{
    return classes[c] & DIGIT ? 0 : c & 32 ? 1 : 2;
}

/* Keys, hashes and tokens in base 64: long, of small and large letters and digits, and these in
 * turn oftener than in words that are written together. */
static size_t match_base64(const struct place *p)
{
    enum { MIN = 20, LONG = 32 };
    size_t n = 0, turns = 0, slashes = 0, seen[3] = {0};
    if (!in_base64(byte_at(p, p->at + MIN / 2)) || !in_base64(byte_at(p, p->at + MIN - 1))
        || before_is(p, DIGIT | LETTER | SLASH) || (p->at > 0 && p->text[p->at - 1] == '+'))
        return 0;
    for (;; n++) {
        unsigned char c = byte_at(p, p->at + n);
        if (!in_base64(c))
            break;
        slashes += c == '/';
        if (!(classes[c] & (DIGIT | LETTER)))
            continue;
        seen[case_of(c)]++;
        turns += n > 0 && is(p, p->at + n - 1, DIGIT | LETTER)
                 && case_of(c) != case_of(byte_at(p, p->at + n - 1));
    }
    bool even = turns * 3 >= n || (n >= LONG && turns * 4 >= n && seen[2] * 3 >= seen[1]);
    bool mixed = seen[1] && seen[2] && (seen[0] || n >= LONG);
    if (n < MIN || !even || slashes * 8 > n || !mixed)
        return 0;
    for (int padding = 0; padding < 2 && byte_at(p, p->at + n) == '='; padding++)
        n++;
    return n;
}

static const struct rule {
    size_t (*match)(const struct place *place);
    const char *name;
    int first;  /* kinds of byte that it may begin with */
} rules[] = {
    {match_time, "<time>", LETTER},        {match_email, "<email>", LETTER | DIGIT},
    {match_base64, "<key>", LETTER | DIGIT | SLASH | NAME},
    {match_uuid, "<uuid>", HEX},           {match_mac, "<mac>", HEX},
    {match_ipv4, "<ip>", DIGIT},           {match_ipv6, "<ip>", HEX | COLON},
    {match_path, "<path>", SLASH},         {match_hex, "<n>", HEX},
    {match_number, "<n>", DIGIT | MINUS},
};

static size_t match_any(const struct place *p, int kind, const char **name)
{
    for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
        size_t count = rules[r].first & kind ? rules[r].match(p) : 0;
        if (count) {
            *name = rules[r].name;
            return count;
        }
    }
    return 0;
}

/* Letters inside a word begin nothing but what is long, and few begin more than hexadecimal digits:
 * the usual byte is passed by here. */
static bool may_begin(const struct place *p, int kind)
{
    if (kind & (DIGIT | SLASH | COLON | MINUS))
        return true;
    if (!(kind & LETTER))
        return p->text[p->at] == '+';
    if (before_is(p, DIGIT | LETTER))
        return kind & HEX && is(p, p->at + 7, HEX)
               && (!before_is(p, HEX) || is(p, p->at + 8, MINUS));
    return kind & HEX || p->ats || is(p, p->at + 3, PATH_END) || in_base64(byte_at(p, p->at + 19));
}

void mask_text(const char *text, size_t bytes, struct bytes *out)
{
    struct place p = {text, 0, bytes, bytes && memchr(text, '@', bytes)};
    size_t plain = 0; /* where the bytes begin that stay as they are */
    bytes_clear(out);
    while (p.at < bytes) {
        int kind = classes[(unsigned char)text[p.at]];
        const char *name;
        size_t count = 0;
        if (may_begin(&p, kind))
            count = match_any(&p, kind, &name);
        if (!count) {
            p.at++;
            continue;
        }
        bytes_append(out, text + plain, p.at - plain);
        bytes_append_text(out, name);
        p.at += count;
        plain = p.at;
    }
    bytes_append(out, text + plain, bytes - plain);
}
