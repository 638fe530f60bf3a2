#include "cli/watch_sources.h"

#include <math.h>
#include <string.h>

#include "base/csv.h"
#include "base/memory.h"

/* ---- quantities -------------------------------------------------------------------------- */

bool read_bytes(const char *text, uint64_t *bytes)
{
    static const char letters[] = "KMGT";
    size_t length = strlen(text);
    const char *letter = length > 1 ? strchr(letters, text[length - 1]) : NULL;
    double number;
    if (!parse_double(text, length - (letter != NULL), &number) || !isfinite(number) || number < 0)
        return false;
    number = ldexp(number, letter ? 10 * (int)(letter - letters + 1) : 0);
    *bytes = (uint64_t)number;
    return number < 1e18;
}

/* ---- sources ----------------------------------------------------------------------------- */

static const struct source_word {
    const char *word;
    enum akin_source_kind kind;
    bool plain;
} words[] = {
    {"jsonl", AKIN_SOURCE_LINES, false},     {"text", AKIN_SOURCE_LINES, true},
    {"socket", AKIN_SOURCE_SOCKET, false},   {"dbus", AKIN_SOURCE_DBUS, false},
    {"journal", AKIN_SOURCE_JOURNAL, false}, {"nats", AKIN_SOURCE_NATS, false},
};

enum {
    LINES = 1 << AKIN_SOURCE_LINES,
    SOCKET = 1 << AKIN_SOURCE_SOCKET,
    DBUS = 1 << AKIN_SOURCE_DBUS,
    JOURNAL = 1 << AKIN_SOURCE_JOURNAL,
    NATS = 1 << AKIN_SOURCE_NATS,
    ANY = LINES | SOCKET | DBUS | JOURNAL | NATS,
};

struct setting {
    struct cli *cli;
    struct watch_sources *all;
    struct akin_watch_source *source;
    const char *value;
};

static enum akin_status set_address(struct setting *s)
{
    s->source->address = s->value;
    return AKIN_OK;
}

static enum akin_status set_follow(struct setting *s)
{
    s->source->follow = true;
    return AKIN_OK;
}

static enum akin_status set_name(struct setting *s)
{
    s->source->name = s->value;
    return AKIN_OK;
}

static enum akin_status set_format(struct setting *s)
{
    s->source->plain = !strcmp(s->value, "text");
    return AKIN_OK;
}

static enum akin_status add_match(struct setting *s, const char *rule)
{
    size_t place = (size_t)(s->source - s->all->items);
    size_t max = sizeof s->all->match[0] / sizeof s->all->match[0][0];
    if (s->source->match_count == max)
        return wrong_use(s->cli, "--match: more than %zu rules of one source", max);
    s->all->match[place][s->source->match_count++] = rule;
    s->source->match = s->all->match[place];
    return AKIN_OK;
}

static enum akin_status set_match(struct setting *s)
{
    return add_match(s, s->value);
}

static enum akin_status set_unit(struct setting *s)
{
    char rule[300];
    snprintf(rule, sizeof rule, "unit=%.255s", s->value);
    const char *kept = string_pool_add(&s->all->texts, rule, strlen(rule));
    return kept ? add_match(s, kept) : error_memory(&s->cli->error);
}

static enum akin_status set_priority(struct setting *s)
{
    s->source->priority = *s->value - '0';
    return AKIN_OK;
}

static enum akin_status set_stream(struct setting *s)
{
    s->source->stream = s->value;
    return AKIN_OK;
}

static enum akin_status set_consumer(struct setting *s)
{
    s->source->consumer = s->value;
    return AKIN_OK;
}

static enum akin_status set_subject(struct setting *s)
{
    s->source->subject = s->value;
    return AKIN_OK;
}

/* "text=msg" */
static enum akin_status set_field(struct setting *s)
{
    struct akin_event_fields *f = &s->source->fields;
    const struct {
        const char *name;
        const char **field;
    } fields[] = {{"text", &f->text},   {"time", &f->time},       {"source", &f->source},
                  {"level", &f->level}, {"session", &f->session}, {"id", &f->id}};
    size_t length = strcspn(s->value, "=");
    for (size_t i = 0; s->value[length] && i < sizeof fields / sizeof fields[0]; i++)
        if (strlen(fields[i].name) == length && !memcmp(fields[i].name, s->value, length)) {
            *fields[i].field = s->value + length + 1;
            return AKIN_OK;
        }
    return wrong_use(s->cli, "--field %.80s: it is text=, time=, source=, level=, session= or id= "
                     "and the name of a field", s->value);
}

static const struct source_option {
    const char *name;
    unsigned kinds;
    enum akin_status (*set)(struct setting *setting);
} source_options[] = {
    {"file", LINES, set_address},      {"follow", LINES, set_follow},
    {"listen", SOCKET, set_address},   {"bus", DBUS, set_address},
    {"directory", JOURNAL, set_address},
    {"server", NATS, set_address},     {"stream", NATS, set_stream},
    {"consumer", NATS, set_consumer},  {"subject", NATS, set_subject},
    {"match", DBUS | JOURNAL, set_match},
    {"unit", JOURNAL, set_unit},       {"priority", JOURNAL, set_priority},
    {"format", SOCKET | NATS, set_format},
    {"field", ANY, set_field},
    {"name", ANY, set_name},
};

static enum akin_status add_source(struct cli *cli, struct watch_sources *all, const char *word)
{
    if (all->count == AKIN_WATCH_SOURCES_MAX)
        return wrong_use(cli, "more than %d sources", AKIN_WATCH_SOURCES_MAX);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i].word, word))
            continue;
        akin_watch_source_default(words[i].kind, &all->items[all->count]);
        all->items[all->count].plain = words[i].plain;
        /* --session names the field for all of them; --field may name another for one. */
        all->items[all->count++].fields.session = options_text(&cli->options, "session");
        return AKIN_OK;
    }
    return wrong_use(cli, "--source: there is no '%.40s'", word);
}

static enum akin_status apply(struct cli *cli, struct watch_sources *all,
                              const struct source_option *option, const char *value)
{
    for (size_t i = all->count; i-- > 0;) {
        struct setting setting = {cli, all, &all->items[i], value};
        if (option->kinds & (1u << all->items[i].kind))
            return option->set(&setting);
    }
    return wrong_use(cli, "--%s belongs to a source that has it, and comes after its --source",
                     option->name);
}

enum akin_status watch_sources_read(struct cli *cli, struct watch_sources *all)
{
    const char *name, *value;
    for (size_t i = 0; (name = options_nth(&cli->options, i, &value)); i++) {
        if (!strcmp(name, "source"))
            TRY(add_source(cli, all, value));
        for (size_t k = 0; k < sizeof source_options / sizeof source_options[0]; k++)
            if (!strcmp(source_options[k].name, name))
                TRY(apply(cli, all, &source_options[k], value));
    }
    for (size_t i = 0; i < all->count; i++)
        if (all->items[i].kind == AKIN_SOURCE_SOCKET && !all->items[i].address)
            return wrong_use(cli, "--source socket needs --listen PATH");
    return AKIN_OK;
}

void watch_sources_deinit(struct watch_sources *sources)
{
    string_pool_deinit(&sources->texts);
}
