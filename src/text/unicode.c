#include "text/unicode.h"

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

/* BERT's definition of a Chinese character: blocks, not a property, and with the gap after U+2B81F
 * that the peer has. */
static const struct code_range cjk_blocks[] = {
    { 0x3400, 0x4dbf }, { 0x4e00, 0x9fff }, { 0xf900, 0xfaff }, { 0x20000, 0x2a6df },
    { 0x2a700, 0x2b81f }, { 0x2b920, 0x2ceaf }, { 0x2f800, 0x2fa1f },
};

/* Other_Alphabetic symbols (So): circled and squared letters, which are word characters. */
static const struct code_range letter_symbols[] = {
    { 0x24b6, 0x24e9 }, { 0x1f130, 0x1f149 }, { 0x1f150, 0x1f169 }, { 0x1f170, 0x1f189 },
};

static bool is_ascii_punctuation(uint32_t code)
{
    return (code > 0x20 && code < '0') || (code > '9' && code < 'A') ||
           (code > 'Z' && code < 'a') || (code > 'z' && code < 0x7f);
}

static enum grapheme_class grapheme_class(int boundclass)
{
    static const unsigned char classes[] = {
        [UTF8PROC_BOUNDCLASS_CR] = GRAPHEME_CR,
        [UTF8PROC_BOUNDCLASS_LF] = GRAPHEME_LF,
        [UTF8PROC_BOUNDCLASS_CONTROL] = GRAPHEME_CONTROL,
        [UTF8PROC_BOUNDCLASS_EXTEND] = GRAPHEME_EXTEND,
        [UTF8PROC_BOUNDCLASS_ZWJ] = GRAPHEME_ZWJ,
        [UTF8PROC_BOUNDCLASS_SPACINGMARK] = GRAPHEME_SPACING,
        [UTF8PROC_BOUNDCLASS_PREPEND] = GRAPHEME_PREPEND,
        [UTF8PROC_BOUNDCLASS_REGIONAL_INDICATOR] = GRAPHEME_REGIONAL,
        [UTF8PROC_BOUNDCLASS_L] = GRAPHEME_L,
        [UTF8PROC_BOUNDCLASS_V] = GRAPHEME_V,
        [UTF8PROC_BOUNDCLASS_T] = GRAPHEME_T,
        [UTF8PROC_BOUNDCLASS_LV] = GRAPHEME_LV,
        [UTF8PROC_BOUNDCLASS_LVT] = GRAPHEME_LVT,
        [UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC] = GRAPHEME_PICTOGRAPHIC,
    };
    return boundclass < (int)COUNT(classes) ? classes[boundclass] : GRAPHEME_OTHER;
}

/* What utf8proc says of one code point; the lists come on top. */
static uint16_t code_flags(uint32_t code)
{
    enum { NO_SEQUENCE = UINT16_MAX };
    const utf8proc_property_t *property = utf8proc_get_property((utf8proc_int32_t)code);
    int category = property->category;
    bool hangul = code >= 0xac00 && code <= 0xd7a3;
    bool decomposes = hangul || property->decomp_seqindex != NO_SEQUENCE;
    unsigned flags = (unsigned)grapheme_class(property->boundclass) << GRAPHEME_SHIFT;
    if (category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
        category == UTF8PROC_CATEGORY_CO || code == 0xfffd)
        flags |= CODE_CONTROL;
    if (category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
        category == UTF8PROC_CATEGORY_ZP || (code >= 9 && code <= 13) || code == 0x85)
        flags |= CODE_SPACE;
    if ((category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO) ||
        is_ascii_punctuation(code))
        flags |= CODE_PUNCTUATION;
    if (category == UTF8PROC_CATEGORY_MN)
        flags |= CODE_NONSPACING;
    if (category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME)
        flags |= CODE_MARK;
    if ((category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
        category == UTF8PROC_CATEGORY_PC || code == 0x200c || code == 0x200d)
        flags |= CODE_WORD;
    if (decomposes && (hangul || property->decomp_type == 0))
        flags |= CODE_DECOMPOSES;
    if (decomposes)
        flags |= CODE_COMPATIBLE;
    if (property->lowercase_seqindex != NO_SEQUENCE)
        flags |= CODE_UPPER;
    if (property->combining_class != 0)
        flags |= CODE_REORDERS;
    return (uint16_t)flags;
}

static void change_range(struct unicode *unicode, uint32_t first, uint32_t last, unsigned clear,
                         unsigned set)
{
    for (uint32_t code = first; code <= last; code++) {
        uint16_t *flags = &unicode->pages[(size_t)unicode->page_of[code >> 8] << 8 | (code & 0xff)];
        *flags = (uint16_t)((*flags & ~clear) | set);
    }
}

static void change(struct unicode *unicode, const struct code_range *ranges, size_t count,
                   unsigned clear, unsigned set)
{
    for (size_t i = 0; i < count && ranges[i].first < CODE_POINTS; i++)
        change_range(unicode, ranges[i].first, ranges[i].last, clear, set);
}

static void apply_lists(struct unicode *unicode)
{
#define SET(table, flag) change(unicode, table, COUNT(table), 0, flag)
#define CLEAR(table, flags) change(unicode, table, COUNT(table), flags, 0)
#define CLASS(table, class)                                                                        \
    change(unicode, table, COUNT(table), 0xfu << GRAPHEME_SHIFT,                                   \
           (unsigned)(class) << GRAPHEME_SHIFT)
    SET(cjk_blocks, CODE_CJK);
    SET(letter_symbols, CODE_WORD);
    SET(control_added, CODE_CONTROL);
    CLEAR(control_removed, CODE_CONTROL);
    SET(punctuation_added, CODE_PUNCTUATION);
    CLEAR(punctuation_removed, CODE_PUNCTUATION);
    SET(nonspacing_added, CODE_NONSPACING);
    CLEAR(nonspacing_removed, CODE_NONSPACING);
    SET(mark_added, CODE_MARK);
    CLEAR(mark_removed, CODE_MARK);
    SET(word_added, CODE_WORD);
    CLEAR(word_removed, CODE_WORD);
    CLEAR(decomposition_removed, CODE_DECOMPOSES | CODE_COMPATIBLE);
    CLEAR(combining_class_zero, CODE_REORDERS);
    CLASS(grapheme_other_differs, GRAPHEME_OTHER);
    CLASS(grapheme_pictographic_differs, GRAPHEME_PICTOGRAPHIC);
    CLASS(grapheme_spacing_differs, GRAPHEME_SPACING);
    CLASS(grapheme_extend_differs, GRAPHEME_EXTEND);
    CLASS(grapheme_prepend_differs, GRAPHEME_PREPEND);
    CLASS(grapheme_control_differs, GRAPHEME_CONTROL);
    CLASS(grapheme_consonants, GRAPHEME_CONSONANT);
    SET(grapheme_linkers, CODE_LINKER);
    for (size_t i = 0; i < COUNT(lower_differs); i++)
        change_range(unicode, lower_differs[i].first, lower_differs[i].last, 0, CODE_UPPER);
    change_range(unicode, 0x130, 0x130, 0, CODE_UPPER);
#undef SET
#undef CLEAR
#undef CLASS
}

/* Planes 0 to 3 and 14 have pages of their own; planes 4 to 13 share an empty one, the private
 * planes one page, and another for their last two code points, which are not characters. */
enum akin_status unicode_init(struct unicode *unicode, struct akin_error *error)
{
    enum { OWN = 5 * 256, EMPTY = OWN, PRIVATE, PRIVATE_LAST, PAGES };
    unicode->pages = memory_alloc(PAGES, 256 * sizeof *unicode->pages);
    if (!unicode->pages)
        return error_memory(error);
    for (uint32_t high = 0; high < CODE_POINTS >> 8; high++) {
        uint32_t plane = high >> 8, page = high & 0xff;
        unicode->page_of[high] = (uint16_t)(plane < 4     ? high
                                            : plane < 14  ? EMPTY
                                            : plane == 14 ? 4 * 256 + page
                                            : page < 0xff ? PRIVATE : PRIVATE_LAST);
        for (uint32_t low = 0; low < 256 && unicode->page_of[high] < OWN; low++)
            unicode->pages[(size_t)unicode->page_of[high] << 8 | low] = code_flags(high << 8 | low);
    }
    for (uint32_t low = 0; low < 256; low++) {
        unicode->pages[(size_t)PRIVATE << 8 | low] = code_flags(0xf0000 | low);
        unicode->pages[(size_t)PRIVATE_LAST << 8 | low] = code_flags(0xfff00 | low);
    }
    apply_lists(unicode);
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
    if (code == 0x130) { /* the only unconditional entry of SpecialCasing.txt for lower case */
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

size_t unicode_grapheme_end(const struct unicode *unicode, const char *text, size_t begin,
                            size_t bytes)
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
