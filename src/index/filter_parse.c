/* From the text of a filter to its program: tokens, then recursive descent.
 *
 *   or      = and { (OR | "||") and }
 *   and     = not { (AND | "&&") not }
 *   not     = (NOT | "!") not | "(" or ")" | test
 *   test    = field (("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" | "~" | CONTAINS) value
 *           | [NOT] IN "(" value { "," value } ")" | [NOT] BETWEEN value AND value)
 *   field   = quoted | word
 *   value   = quoted | word { word } */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/csv.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "index/filter_hint.h"
#include "index/filter_program.h"
#include "index/fold.h"

enum { FILTER_BYTES_MAX = 1 << 16 };

enum token_type {
    TOKEN_END, TOKEN_WORD, TOKEN_QUOTED, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_COMMA,
    TOKEN_AND, TOKEN_OR, TOKEN_NOT, TOKEN_IN, TOKEN_BETWEEN, TOKEN_CONTAINS,
    TOKEN_EQUAL, TOKEN_UNEQUAL, TOKEN_LESS, TOKEN_LESS_EQUAL, TOKEN_GREATER, TOKEN_GREATER_EQUAL,
};

struct token {
    enum token_type type;
    size_t at, bytes;           /* in the expression; a quoted one with its quotes */
};

struct parser {
    const struct filter_field *fields;  /* [field_count]; NULL: any name is a field */
    size_t field_count;
    const char *text;
    size_t bytes;
    struct token token;         /* the next one */
    struct filter *filter;
    const struct filter_field *field;   /* of the condition being read; NULL: any */
    struct bytes value;         /* of the name or value read last, as typed */
    struct akin_error *error;
};

static const struct {
    const char *spelling;
    enum token_type type;
} symbols[] = { /* the longer ones first */
    { "&&", TOKEN_AND }, { "||", TOKEN_OR }, { "==", TOKEN_EQUAL }, { "!=", TOKEN_UNEQUAL },
    { "<>", TOKEN_UNEQUAL }, { "<=", TOKEN_LESS_EQUAL }, { ">=", TOKEN_GREATER_EQUAL },
    { "=", TOKEN_EQUAL }, { "<", TOKEN_LESS }, { ">", TOKEN_GREATER }, { "~", TOKEN_CONTAINS },
    { "(", TOKEN_OPEN }, { ")", TOKEN_CLOSE }, { ",", TOKEN_COMMA }, { "!", TOKEN_NOT },
}, keywords[] = {
    { "and", TOKEN_AND }, { "or", TOKEN_OR }, { "not", TOKEN_NOT }, { "in", TOKEN_IN },
    { "between", TOKEN_BETWEEN }, { "contains", TOKEN_CONTAINS },
};

/* ---- errors ----------------------------------------------------------------------------- */

/* Columns count characters, from 1. */
static size_t column_of(const struct parser *p, size_t at)
{
    size_t column = 1;
    uint32_t code;
    for (size_t i = 0; i < at; column++)
        i += utf8_decode(p->text + i, p->bytes - i, &code);
    return column;
}

/* A token as a message may show it: at most 40 bytes, whole characters, on one line. */
static void show_token(const struct parser *p, const struct token *token, char *shown, size_t room)
{
    if (token->type == TOKEN_END) {
        snprintf(shown, room, "the end");
        return;
    }
    size_t bytes = 0;
    uint32_t code;
    while (bytes < token->bytes && bytes < 40)
        bytes += utf8_decode(p->text + token->at + bytes, p->bytes - token->at - bytes, &code);
    const char *mark = token->type == TOKEN_QUOTED ? "" : "'";
    snprintf(shown, room, "%s%.*s%s%s", mark, (int)bytes, p->text + token->at,
             bytes < token->bytes ? "..." : "", mark);
    for (char *c = shown; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
}

static enum akin_status refuse_at(const struct parser *p, size_t at, const char *what)
{
    return error_set(p->error, AKIN_ARGUMENT, "filter, column %zu: %s", column_of(p, at), what);
}

/* "expected <what>, found <the next token>" */
static enum akin_status expected(const struct parser *p, const char *what)
{
    char shown[64];
    show_token(p, &p->token, shown, sizeof shown);
    return error_set(p->error, AKIN_ARGUMENT, "filter, column %zu: expected %s, found %s",
                     column_of(p, p->token.at), what, shown);
}

/* ---- tokens ----------------------------------------------------------------------------- */

/* Bytes of the symbol at the position, 0 if none. Inside a word "!" is a letter of it unless "="
 * follows, so that titles such as Airplane! need no quotes. */
static size_t symbol_at(const struct parser *p, size_t at, bool inside, enum token_type *type)
{
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        size_t bytes = strlen(symbols[i].spelling);
        if (bytes > p->bytes - at || memcmp(p->text + at, symbols[i].spelling, bytes))
            continue;
        if (inside && symbols[i].type == TOKEN_NOT)
            continue;
        *type = symbols[i].type;
        return bytes;
    }
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static enum akin_status read_quoted(struct parser *p, size_t at)
{
    char quote = p->text[at];
    size_t end = at + 1;
    while (end < p->bytes && p->text[end] != quote)
        end += p->text[end] == '\\' ? 2 : 1;
    if (end >= p->bytes)
        return refuse_at(p, at, "this quote is not closed");
    p->token = (struct token){ TOKEN_QUOTED, at, end + 1 - at };
    return AKIN_OK;
}

static enum akin_status read_token(struct parser *p)
{
    size_t at = p->token.at + p->token.bytes, end = at;
    enum token_type type;
    while (at < p->bytes && is_blank(p->text[at]))
        at++;
    p->token = (struct token){ TOKEN_END, at, 0 };
    if (at == p->bytes)
        return AKIN_OK;
    if (p->text[at] == '"' || p->text[at] == '\'')
        return read_quoted(p, at);
    size_t bytes = symbol_at(p, at, false, &type);
    if (bytes) {
        p->token = (struct token){ type, at, bytes };
        return AKIN_OK;
    }
    for (end = at;
         end < p->bytes && !is_blank(p->text[end]) && !symbol_at(p, end, end > at, &type);)
        end++;
    p->token = (struct token){ TOKEN_WORD, at, end - at };
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strlen(keywords[i].spelling) == end - at &&
            !strncasecmp(keywords[i].spelling, p->text + at, end - at))
            p->token.type = keywords[i].type;
    return AKIN_OK;
}

/* ---- program ---------------------------------------------------------------------------- */

static enum akin_status too_long(const struct parser *p)
{
    return error_set(p->error, AKIN_LIMIT, "filter, column %zu: more than %d conditions and values",
                     column_of(p, p->token.at), FILTER_NODES_MAX);
}

static enum akin_status add_node(struct parser *p, struct filter_node node)
{
    struct filter *f = p->filter;
    if (f->node_count + f->value_count >= FILTER_NODES_MAX)
        return too_long(p);
    if (!array_reserve((void **)&f->nodes, &f->node_capacity, f->node_count + 1, sizeof *f->nodes))
        return error_memory(p->error);
    f->nodes[f->node_count++] = node;
    if (node.op == FILTER_AND || node.op == FILTER_OR)
        f->stack--;
    else if (node.op != FILTER_NOT && ++f->stack > f->stack_max)
        f->stack_max = f->stack;
    return AKIN_OK;
}

static enum akin_status add_value(struct parser *p, struct filter_value value)
{
    struct filter *f = p->filter;
    if (f->node_count + f->value_count >= FILTER_NODES_MAX)
        return too_long(p);
    if (!array_reserve((void **)&f->values, &f->value_capacity, f->value_count + 1,
                       sizeof *f->values))
        return error_memory(p->error);
    f->values[f->value_count++] = value;
    return AKIN_OK;
}

/* ---- grammar ---------------------------------------------------------------------------- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Several words are one value, joined by one blank. Where an operator follows, the last of them was
 * meant as the next field, and the word between is what is missing. */
static enum akin_status read_words(struct parser *p)
{
    struct token last = p->token;
    size_t words = 0;
    for (; p->token.type == TOKEN_WORD; words++) {
        last = p->token;
        bytes_append(&p->value, " ", words != 0);
        bytes_append(&p->value, p->text + last.at, last.bytes);
        TRY(read_token(p));
    }
    if (words < 2 || p->token.type < TOKEN_IN)
        return AKIN_OK;
    p->token = last;
    return expected(p, "AND or OR");
}

/* Reads what stands in quotes into p->value and moves behind it. */
static enum akin_status read_unquoted(struct parser *p, const char *empty)
{
    size_t end = p->token.at + p->token.bytes - 1;
    for (size_t i = p->token.at + 1; i < end; i++) {
        i += p->text[i] == '\\';
        bytes_append(&p->value, p->text + i, 1);
    }
    if (p->value.count == 0)
        return refuse_at(p, p->token.at, empty);
    return read_token(p);
}

/* Reads a value as typed into p->value and moves behind it. */
static enum akin_status read_value(struct parser *p)
{
    bytes_clear(&p->value);
    if (p->token.type == TOKEN_QUOTED)
        TRY(read_unquoted(p, "the value is empty"));
    else if (p->token.type == TOKEN_WORD)
        TRY(read_words(p));
    else if (is_letter(p->text[p->token.at]))
        return expected(p, "a value (in quotes if it is a keyword)");
    else
        return expected(p, "a value");
    return p->value.failed ? error_memory(p->error) : AKIN_OK;
}

/* Adds what stands in p->value, folded, to the texts of the filter. */
static enum akin_status keep_folded(struct parser *p, size_t *at, size_t *bytes)
{
    struct bytes *texts = &p->filter->texts;
    *at = texts->count;
    bool fine = fold_append(texts, p->value.data, p->value.count);
    *bytes = texts->count - *at;
    bytes_append(texts, "", 1);
    return fine && !texts->failed ? AKIN_OK : error_memory(p->error);
}

/* Reads a value and adds it in the forms that texts and numbers are compared with. */
static enum akin_status take_value(struct parser *p, bool number)
{
    struct filter_value value = { 0 };
    size_t at = p->token.at;
    TRY(read_value(p));
    if (!parse_double(p->value.data, p->value.count, &value.number) || !isfinite(value.number)) {
        if (number || (p->field && p->field->type == FILTER_NUMBER))
            return refuse_at(p, at, "expected a number");
        value.number = NAN;
    }
    TRY(keep_folded(p, &value.text_at, &value.text_bytes));
    return add_value(p, value);
}

/* Whether a folded name is one of the words in `names`. */
static bool is_named(const char *names, const char *name, size_t bytes)
{
    for (const char *n = names; *(n += strspn(n, " ")); n += strcspn(n, " "))
        if (strcspn(n, " ") == bytes && !strncasecmp(n, name, bytes))
            return true;
    return false;
}

/* `node` has the folded name. */
static enum akin_status unknown_field(struct parser *p, const struct token *token,
                                      const struct filter_node *node)
{
    struct bytes list = { 0 };
    struct filter_node named = *node;
    named.name = p->filter->texts.data + node->name_at;
    struct filter_hint hint = { .node = &named };
    char shown[64];
    for (size_t i = 0; i < p->field_count; i++) {
        const char *names = p->fields[i].names;
        for (size_t at = 0, count; names[at]; at += count + (names[at + count] == ' ')) {
            count = strcspn(names + at, " ");
            filter_hint_field(&hint, names + at, count, true, true);
        }
        bytes_printf(&list, "%s%.*s", i ? ", " : "", (int)strcspn(names, " "), names);
    }
    show_token(p, token, shown, sizeof shown);
    enum akin_status status =
        error_set(p->error, AKIN_ARGUMENT,
                  "filter, column %zu: unknown field %s: the fields are %s%s%s%s",
                  column_of(p, token->at), shown, list.data ? list.data : "none",
                  hint.nearest[0] ? "; did you mean '" : "", hint.nearest,
                  hint.nearest[0] ? "'?" : "");
    bytes_deinit(&list);
    return status;
}

static enum akin_status take_field(struct parser *p, struct filter_node *node)
{
    struct token token = p->token;
    bytes_clear(&p->value);
    if (token.type == TOKEN_QUOTED) {
        TRY(read_unquoted(p, "the name is empty"));
    } else if (token.type == TOKEN_WORD) {
        bytes_append(&p->value, p->text + token.at, token.bytes);
        TRY(read_token(p));
    } else {
        return expected(p, "a field, NOT or '('");
    }
    if (p->value.failed)
        return error_memory(p->error);
    TRY(keep_folded(p, &node->name_at, &node->name_bytes));
    const char *name = p->filter->texts.data + node->name_at;
    p->field = NULL;
    for (size_t i = 0; i < p->field_count && !p->field; i++)
        if (is_named(p->fields[i].names, name, node->name_bytes))
            p->field = &p->fields[i];
    if (p->field) {     /* the first of its names is the one that sources know */
        bytes_clear(&p->value);
        bytes_append(&p->value, p->field->names, strcspn(p->field->names, " "));
        TRY(keep_folded(p, &node->name_at, &node->name_bytes));
    } else if (p->fields) {
        return unknown_field(p, &token, node);
    }
    node->name_hash = hash_bytes(p->filter->texts.data + node->name_at, node->name_bytes);
    return AKIN_OK;
}

/* The values behind IN, with their parentheses. */
static enum akin_status take_list(struct parser *p)
{
    if (p->token.type != TOKEN_OPEN)
        return expected(p, "'(' behind IN");
    do {
        TRY(read_token(p));
        TRY(take_value(p, false));
    } while (p->token.type == TOKEN_COMMA);
    if (p->token.type != TOKEN_CLOSE)
        return expected(p, "',' or ')'");
    return read_token(p);
}

/* Turns the one value read into the bounds of a range that a comparison with it means. */
static enum akin_status to_range(struct parser *p, enum token_type comparison)
{
    struct filter_value *low = &p->filter->values[p->filter->value_count - 1];
    double value = low->number, high = value;
    switch (comparison) {
    case TOKEN_LESS:
        high = nextafter(value, -INFINITY);
        low->number = -INFINITY;
        break;
    case TOKEN_LESS_EQUAL:
        low->number = -INFINITY;
        break;
    case TOKEN_GREATER:
        low->number = nextafter(value, INFINITY);
        high = INFINITY;
        break;
    default:
        high = INFINITY;
        break;
    }
    return add_value(p, (struct filter_value){ .number = high });
}

static enum akin_status refuse_operator(const struct parser *p)
{
    if (!p->field)
        return expected(p, "an operator, such as =, >=, ~ or IN");
    char what[256];
    bool text = p->field->type == FILTER_TEXT;
    int name = (int)strcspn(p->field->names, " ");
    snprintf(what, sizeof what, "%s behind %.*s, which is %s",
             text ? "=, !=, ~, IN or CONTAINS" : "=, !=, <, <=, >, >=, IN or BETWEEN",
             name > 64 ? 64 : name, p->field->names, text ? "text" : "a number");
    return expected(p, what);
}

/* Reads operator and values of a test; `node` receives what they mean. */
static enum akin_status take_test(struct parser *p, struct filter_node *node)
{
    bool texts = !p->field || p->field->type == FILTER_TEXT;
    bool numbers = !p->field || p->field->type == FILTER_NUMBER;
    enum token_type type = p->token.type;
    if (type == TOKEN_EQUAL || type == TOKEN_UNEQUAL || type == TOKEN_IN) {
        node->op = FILTER_IN;
        node->negated = type == TOKEN_UNEQUAL;
        TRY(read_token(p));
        return type == TOKEN_IN ? take_list(p) : take_value(p, false);
    }
    if (texts && type == TOKEN_CONTAINS) {
        node->op = FILTER_CONTAINS;
        TRY(read_token(p));
        return take_value(p, false);
    }
    if (!numbers || (type != TOKEN_BETWEEN && (type < TOKEN_LESS || type > TOKEN_GREATER_EQUAL)))
        return refuse_operator(p);
    node->op = FILTER_RANGE;
    TRY(read_token(p));
    TRY(take_value(p, true));
    if (type != TOKEN_BETWEEN)
        return to_range(p, type);
    if (p->token.type != TOKEN_AND)
        return expected(p, "AND and the upper bound of BETWEEN");
    TRY(read_token(p));
    return take_value(p, true);
}

static enum akin_status parse_test(struct parser *p)
{
    struct filter_node node = { .first_value = p->filter->value_count };
    TRY(take_field(p, &node));
    bool inverted = p->token.type == TOKEN_NOT;
    if (inverted) {
        TRY(read_token(p));
        if (p->token.type != TOKEN_IN && p->token.type != TOKEN_BETWEEN &&
            p->token.type != TOKEN_CONTAINS)
            return expected(p, "IN, BETWEEN or CONTAINS behind NOT");
    }
    TRY(take_test(p, &node));
    node.value_count = p->filter->value_count - node.first_value;
    TRY(add_node(p, node));
    return inverted ? add_node(p, (struct filter_node){ .op = FILTER_NOT }) : AKIN_OK;
}

static enum akin_status parse_or(struct parser *p, int depth);

static enum akin_status parse_not(struct parser *p, int depth)
{
    if (depth > FILTER_DEPTH_MAX)
        return error_set(p->error, AKIN_LIMIT, "filter, column %zu: nested deeper than %d levels",
                         column_of(p, p->token.at), FILTER_DEPTH_MAX);
    if (p->token.type == TOKEN_NOT) {
        TRY(read_token(p));
        TRY(parse_not(p, depth + 1));
        return add_node(p, (struct filter_node){ .op = FILTER_NOT });
    }
    if (p->token.type != TOKEN_OPEN)
        return parse_test(p);
    TRY(read_token(p));
    TRY(parse_or(p, depth + 1));
    if (p->token.type != TOKEN_CLOSE)
        return expected(p, "AND, OR or ')'");
    return read_token(p);
}

static enum akin_status parse_and(struct parser *p, int depth)
{
    TRY(parse_not(p, depth));
    while (p->token.type == TOKEN_AND) {
        TRY(read_token(p));
        TRY(parse_not(p, depth));
        TRY(add_node(p, (struct filter_node){ .op = FILTER_AND }));
    }
    return AKIN_OK;
}

static enum akin_status parse_or(struct parser *p, int depth)
{
    TRY(parse_and(p, depth));
    while (p->token.type == TOKEN_OR) {
        TRY(read_token(p));
        TRY(parse_and(p, depth));
        TRY(add_node(p, (struct filter_node){ .op = FILTER_OR }));
    }
    return AKIN_OK;
}

static enum akin_status parse_all(struct parser *p)
{
    TRY(read_token(p));
    if (p->token.type == TOKEN_END)
        return refuse_at(p, 0, "the filter is empty: expected a condition such as year>=1990");
    TRY(parse_or(p, 1));
    return p->token.type == TOKEN_END ? AKIN_OK : expected(p, "AND, OR or the end");
}

/* The texts stay where they are from now on. */
static void point_to_texts(struct filter *f)
{
    for (size_t i = 0; i < f->node_count; i++)
        f->nodes[i].name = f->texts.data + f->nodes[i].name_at;
    for (size_t i = 0; i < f->value_count; i++)
        f->values[i].text = f->texts.data + f->values[i].text_at;
}

enum akin_status filter_compile(const struct filter_field *fields, size_t field_count,
                                const char *text, struct filter **filter,
                                struct akin_error *error)
{
    struct parser p = { .fields = fields, .field_count = field_count, .text = text,
                        .bytes = strlen(text), .error = error };
    if (p.bytes > FILTER_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "filter: %zu bytes long: at most %d", p.bytes,
                         FILTER_BYTES_MAX);
    p.filter = memory_alloc(1, sizeof *p.filter);
    if (!p.filter)
        return error_memory(error);
    enum akin_status status = parse_all(&p);
    bytes_deinit(&p.value);
    point_to_texts(p.filter);
    if (status == AKIN_OK)
        *filter = p.filter;
    else
        filter_destroy(&p.filter);
    return status;
}
