#include "text/unicode.h"

#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "base/utf8.h"

struct code_range {
    uint32_t first, last;
};

struct lower_range {
    uint32_t first, last;
    int32_t delta;      /* lower = code + delta */
};

#include "text/unicode_differences.inc"

#define COUNT(table) (sizeof(table) / sizeof (table)[0])
#define LISTED(table, code) listed(table, COUNT(table), code)

/* Binary search in sorted, disjoint ranges. */
static bool listed(const struct code_range *ranges, size_t count, uint32_t code)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle].last < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ranges[low].first <= code;
}

/* BERT's definition of a Chinese character: blocks, not a property. Two ends differ from the blocks
 * that BERT's own code names (U+2B820 and on); the peer has them so. */
static bool is_cjk(uint32_t code)
{
    return (code >= 0x4e00 && code <= 0x9fff) || (code >= 0x3400 && code <= 0x4dbf) ||
           (code >= 0x20000 && code <= 0x2a6df) || (code >= 0x2a700 && code <= 0x2b81f) ||
           (code >= 0x2b920 && code <= 0x2ceaf) || (code >= 0xf900 && code <= 0xfaff) ||
           (code >= 0x2f800 && code <= 0x2fa1f);
}

static bool is_ascii_punctuation(uint32_t code)
{
    return (code > 0x20 && code < '0') || (code > '9' && code < 'A') || (code > 'Z' && code < 'a') ||
           (code > 'z' && code < 0x7f);
}

/* Other_Alphabetic symbols (So): circled and squared letters, which are word characters. */
static bool is_letter_symbol(uint32_t code)
{
    return (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
           (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189);
}

static enum grapheme_class grapheme_class(uint32_t code, int boundclass)
{
    if (LISTED(grapheme_control_differs, code))
        return GRAPHEME_CONTROL;
    if (LISTED(grapheme_prepend_differs, code))
        return GRAPHEME_PREPEND;
    if (LISTED(grapheme_extend_differs, code))
        return GRAPHEME_EXTEND;
    if (LISTED(grapheme_spacing_differs, code))
        return GRAPHEME_SPACING;
    if (LISTED(grapheme_pictographic_differs, code))
        return GRAPHEME_PICTOGRAPHIC;
    if (LISTED(grapheme_other_differs, code))
        return GRAPHEME_OTHER;
    if (LISTED(grapheme_consonants, code))
        return GRAPHEME_CONSONANT;
    switch (boundclass) {
    case UTF8PROC_BOUNDCLASS_CR:
        return GRAPHEME_CR;
    case UTF8PROC_BOUNDCLASS_LF:
        return GRAPHEME_LF;
    case UTF8PROC_BOUNDCLASS_CONTROL:
        return GRAPHEME_CONTROL;
    case UTF8PROC_BOUNDCLASS_EXTEND:
        return GRAPHEME_EXTEND;
    case UTF8PROC_BOUNDCLASS_ZWJ:
        return GRAPHEME_ZWJ;
    case UTF8PROC_BOUNDCLASS_SPACINGMARK:
        return GRAPHEME_SPACING;
    case UTF8PROC_BOUNDCLASS_PREPEND:
        return GRAPHEME_PREPEND;
    case UTF8PROC_BOUNDCLASS_REGIONAL_INDICATOR:
        return GRAPHEME_REGIONAL;
    case UTF8PROC_BOUNDCLASS_L:
        return GRAPHEME_L;
    case UTF8PROC_BOUNDCLASS_V:
        return GRAPHEME_V;
    case UTF8PROC_BOUNDCLASS_T:
        return GRAPHEME_T;
    case UTF8PROC_BOUNDCLASS_LV:
        return GRAPHEME_LV;
    case UTF8PROC_BOUNDCLASS_LVT:
        return GRAPHEME_LVT;
    case UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC:
        return GRAPHEME_PICTOGRAPHIC;
    default:
        return GRAPHEME_OTHER;
    }
}

static bool differs(bool value, bool in_added, bool in_removed)
{
    return (value || in_added) && !in_removed;
}

static uint16_t code_flags(uint32_t code)
{
    const utf8proc_property_t *property = utf8proc_get_property((utf8proc_int32_t)code);
    int category = property->category;
    bool control = category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
                   category == UTF8PROC_CATEGORY_CO;
    bool space = category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
                 category == UTF8PROC_CATEGORY_ZP || (code >= 9 && code <= 13) || code == 0x85;
    bool punctuation = (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO) ||
                       is_ascii_punctuation(code);
    bool nonspacing = category == UTF8PROC_CATEGORY_MN;
    bool mark = nonspacing || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
    bool word = (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
                category == UTF8PROC_CATEGORY_PC || code == 0x200c || code == 0x200d ||
                is_letter_symbol(code);
    uint32_t lower[2];
    uint32_t parts[DECOMPOSITION_MAX];
    unsigned flags = 0;
    if (differs(control, LISTED(control_added, code), LISTED(control_removed, code)) || code == 0xfffd)
        flags |= CODE_CONTROL;
    if (space)
        flags |= CODE_SPACE;
    if (differs(punctuation, LISTED(punctuation_added, code), LISTED(punctuation_removed, code)))
        flags |= CODE_PUNCTUATION;
    if (differs(nonspacing, LISTED(nonspacing_added, code), LISTED(nonspacing_removed, code)))
        flags |= CODE_NONSPACING;
    if (differs(mark, LISTED(mark_added, code), LISTED(mark_removed, code)))
        flags |= CODE_MARK;
    if (differs(word, LISTED(word_added, code), LISTED(word_removed, code)))
        flags |= CODE_WORD;
    if (is_cjk(code))
        flags |= CODE_CJK;
    if (unicode_decompose(code, false, parts) > 1 || parts[0] != code)
        flags |= CODE_DECOMPOSES;
    if (unicode_decompose(code, true, parts) > 1 || parts[0] != code)
        flags |= CODE_COMPATIBLE;
    if (unicode_lower(code, lower) > 1 || lower[0] != code)
        flags |= CODE_UPPER;
    if (unicode_combining_class(code) != 0)
        flags |= CODE_REORDERS;
    if (LISTED(grapheme_linkers, code))
        flags |= CODE_LINKER;
    return (uint16_t)(flags | (unsigned)grapheme_class(code, property->boundclass) << GRAPHEME_SHIFT);
}

/* Pages that equal the one before them are stored once: planes 4 to 13 and the private planes are
 * one page each, but for their last two code points. */
enum akin_status unicode_init(struct unicode *unicode, struct akin_error *error)
{
    size_t capacity = 0, pages = 0;
    unicode->pages = NULL;
    for (uint32_t high = 0; high < CODE_POINTS >> 8; high++) {
        uint16_t page[256] = { 0 };
        bool unassigned = high >= 0x400 && high < 0xe00;
        bool repeats = high > 0xf00 && (high & 0xff) != 0 && (high & 0xff) != 0xff;
        if (repeats) {
            unicode->page_of[high] = unicode->page_of[high - 1];
            continue;
        }
        for (uint32_t low = 0; low < 256 && !unassigned; low++)
            page[low] = code_flags(high << 8 | low);
        if (pages > 0 && memcmp(unicode->pages + (pages - 1) * 256, page, sizeof page) == 0) {
            unicode->page_of[high] = (uint16_t)(pages - 1);
            continue;
        }
        if (!array_reserve((void **)&unicode->pages, &capacity, pages + 1, sizeof page)) {
            unicode_deinit(unicode);
            return error_memory(error);
        }
        memcpy(unicode->pages + pages * 256, page, sizeof page);
        unicode->page_of[high] = (uint16_t)pages++;
    }
    return AKIN_OK;
}

void unicode_deinit(struct unicode *unicode)
{
    memory_free(unicode->pages);
    unicode->pages = NULL;
}

int unicode_lower(uint32_t code, uint32_t lower[2])
{
    for (size_t i = 0; i < COUNT(lower_differs); i++) {
        if (code >= lower_differs[i].first && code <= lower_differs[i].last) {
            lower[0] = (uint32_t)((int32_t)code + lower_differs[i].delta);
            return 1;
        }
    }
    if (code == 0x130) {        /* the only unconditional entry of SpecialCasing.txt for lower case */
        lower[0] = 'i';
        lower[1] = 0x307;
        return 2;
    }
    lower[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
    return 1;
}

int unicode_combining_class(uint32_t code)
{
    if (LISTED(combining_class_zero, code))
        return 0;
    return utf8proc_get_property((utf8proc_int32_t)code)->combining_class;
}

int unicode_decompose(uint32_t code, bool compatible, uint32_t out[DECOMPOSITION_MAX])
{
    utf8proc_int32_t parts[DECOMPOSITION_MAX];
    int boundclass = 0;
    if (!LISTED(decomposition_removed, code)) {
        utf8proc_ssize_t count = utf8proc_decompose_char(
            (utf8proc_int32_t)code, parts, DECOMPOSITION_MAX,
            compatible ? UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT : UTF8PROC_DECOMPOSE, &boundclass);
        if (count > 0 && count <= DECOMPOSITION_MAX) {
            for (utf8proc_ssize_t i = 0; i < count; i++)
                out[i] = (uint32_t)parts[i];
            return (int)count;
        }
    }
    out[0] = code;
    return 1;
}

/* Hangul by arithmetic (Unicode 3.12), the rest by utf8proc on the pair alone. */
uint32_t unicode_compose(uint32_t first, uint32_t second)
{
    enum { S = 0xac00, L = 0x1100, V = 0x1161, T = 0x11a7, LS = 19, VS = 21, TS = 28 };
    if (first >= L && first < L + LS && second >= V && second < V + VS)
        return S + ((first - L) * VS + (second - V)) * TS;
    if (first >= S && first < S + LS * VS * TS && (first - S) % TS == 0 && second >= T &&
        second < T + TS)
        return second > T ? first + (second - T) : 0;
    utf8proc_int32_t pair[2] = { (utf8proc_int32_t)first, (utf8proc_int32_t)second };
    if (utf8proc_normalize_utf32(pair, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE) != 1)
        return 0;
    return LISTED(decomposition_removed, (uint32_t)pair[0]) ? 0 : (uint32_t)pair[0];
}

/* ---- graphemes --------------------------------------------------------------------------- */

struct cluster {
    enum grapheme_class last;
    bool pictographic;      /* ends in a pictograph, Extend* and at most one ZWJ */
    enum { CONJUNCT_NONE, CONJUNCT_CONSONANT, CONJUNCT_LINKED } conjunct;
    unsigned regional;      /* regional indicators at the end */
};

/* Rules GB3 to GB999 of UAX 29: is there a boundary before `next`? */
static bool breaks_before(const struct cluster *cluster, enum grapheme_class next)
{
    enum grapheme_class last = cluster->last;
    if (last == GRAPHEME_CR && next == GRAPHEME_LF)
        return false;
    if (last == GRAPHEME_CR || last == GRAPHEME_LF || last == GRAPHEME_CONTROL ||
        next == GRAPHEME_CR || next == GRAPHEME_LF || next == GRAPHEME_CONTROL)
        return true;
    if (next == GRAPHEME_EXTEND || next == GRAPHEME_ZWJ || next == GRAPHEME_SPACING ||
        last == GRAPHEME_PREPEND)
        return false;
    switch (next) {
    case GRAPHEME_L:
    case GRAPHEME_LV:
    case GRAPHEME_LVT:
        return last != GRAPHEME_L;
    case GRAPHEME_V:
        return last != GRAPHEME_L && last != GRAPHEME_LV && last != GRAPHEME_V;
    case GRAPHEME_T:
        return last != GRAPHEME_LV && last != GRAPHEME_V && last != GRAPHEME_LVT &&
               last != GRAPHEME_T;
    case GRAPHEME_CONSONANT:
        return cluster->conjunct != CONJUNCT_LINKED;
    case GRAPHEME_PICTOGRAPHIC:
        return !(last == GRAPHEME_ZWJ && cluster->pictographic);
    case GRAPHEME_REGIONAL:
        return cluster->regional % 2 == 0;
    default:
        return true;
    }
}

static void cluster_add(struct cluster *cluster, uint32_t code, unsigned flags)
{
    enum { ZERO_WIDTH_NON_JOINER = 0x200c };
    enum grapheme_class next = (enum grapheme_class)(flags >> GRAPHEME_SHIFT);
    bool extends = next == GRAPHEME_EXTEND || next == GRAPHEME_ZWJ;
    if (next == GRAPHEME_PICTOGRAPHIC)
        cluster->pictographic = true;
    else if (!extends || cluster->last == GRAPHEME_ZWJ)
        cluster->pictographic = false;
    if (next == GRAPHEME_CONSONANT)
        cluster->conjunct = CONJUNCT_CONSONANT;
    else if (!extends || code == ZERO_WIDTH_NON_JOINER)
        cluster->conjunct = CONJUNCT_NONE;
    else if (flags & CODE_LINKER && cluster->conjunct == CONJUNCT_CONSONANT)
        cluster->conjunct = CONJUNCT_LINKED;
    cluster->regional = next == GRAPHEME_REGIONAL ? cluster->regional + 1 : 0;
    cluster->last = next;
}

size_t unicode_grapheme_end(const struct unicode *unicode, const char *text, size_t begin, size_t bytes)
{
    uint32_t code;
    size_t at = begin + utf8_decode(text + begin, bytes - begin, &code);
    struct cluster cluster = { .last = GRAPHEME_OTHER };
    cluster_add(&cluster, code, unicode_flags(unicode, code));
    while (at < bytes) {
        size_t took = utf8_decode(text + at, bytes - at, &code);
        unsigned flags = unicode_flags(unicode, code);
        if (breaks_before(&cluster, (enum grapheme_class)(flags >> GRAPHEME_SHIFT)))
            break;
        cluster_add(&cluster, code, flags);
        at += took;
    }
    return at;
}
