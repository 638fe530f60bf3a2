#include "watch/template.h"

#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

enum { NONE = UINT32_MAX };

struct templates {
    struct template *slots;         /* [max] */
    size_t max, used, count;        /* slots below `used` were taken once */
    uint32_t *spare;                /* [max] free slots below `used` */
    size_t spare_count;
    uint64_t lookups, joins, forgotten;
    struct number_map groups;       /* hash of length and first word -> first slot + 1 */
    struct number_map exact;        /* hash of a masked text -> slot */
};

struct words {
    uint64_t hash[TEMPLATE_WORDS_MAX];
    const char *text[TEMPLATE_WORDS_MAX];
    size_t bytes[TEMPLATE_WORDS_MAX];
    size_t count;
};

struct templates *templates_create(size_t max)
{
    struct templates *t = memory_alloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->max = max;
    t->slots = memory_alloc(max, sizeof *t->slots);
    t->spare = memory_alloc(max, sizeof *t->spare);
    if (!t->slots || !t->spare)
        templates_destroy(&t);
    return t;
}

static void drop(struct template *slot)
{
    memory_free(slot->text);
    memory_free(slot->words);
    memory_free(slot->vector);
    *slot = (struct template){0};
}

void templates_destroy(struct templates **templates)
{
    struct templates *t = *templates;
    if (!t)
        return;
    for (size_t i = 0; i < t->used; i++)
        drop(&t->slots[i]);
    number_map_deinit(&t->groups);
    number_map_deinit(&t->exact);
    memory_free(t->slots);
    memory_free(t->spare);
    memory_free(t);
    *templates = NULL;
}

/* Words between blanks; the last one takes what is left of a long text. */
static void split(struct words *w, const char *text, size_t bytes)
{
    size_t at = 0;
    w->count = 0;
    while (at < bytes && w->count < TEMPLATE_WORDS_MAX) {
        while (at < bytes && text[at] == ' ')
            at++;
        if (at == bytes)
            break;
        const char *end = memchr(text + at, ' ', bytes - at);
        size_t length = end ? (size_t)(end - text) - at : bytes - at;
        if (w->count == TEMPLATE_WORDS_MAX - 1)
            length = bytes - at;
        uint64_t hash = hash_bytes(text + at, length);
        w->text[w->count] = text + at;
        w->bytes[w->count] = length;
        w->hash[w->count++] = hash ? hash : 1;
        at += length;
    }
}

static uint64_t group_of(const struct words *w)
{
    uint64_t key[2] = {w->count, w->count ? w->hash[0] : 0};
    return hash_bytes(key, sizeof key);
}

static uint32_t first_of(const struct templates *t, uint64_t group)
{
    uint64_t value = 0;
    number_map_get(&t->groups, group, &value);
    return value ? (uint32_t)(value - 1) : (uint32_t)NONE;
}

static void unlink_slot(struct templates *t, uint32_t slot)
{
    uint64_t group = t->slots[slot].group;
    uint32_t at = first_of(t, group);
    if (at == slot) {
        uint32_t next = t->slots[slot].next;
        number_map_set(&t->groups, group, next == NONE ? 0 : (uint64_t)next + 1);
        return;
    }
    while (t->slots[at].next != slot)
        at = t->slots[at].next;
    t->slots[at].next = t->slots[slot].next;
}

/* It is in no chain any more. */
static void forget(struct templates *t, uint32_t slot)
{
    drop(&t->slots[slot]);
    t->spare[t->spare_count++] = slot;
    t->count--;
    t->forgotten++;
}

static void release(struct templates *t, uint32_t slot)
{
    unlink_slot(t, slot);
    forget(t, slot);
}

/* Leaves out of each chain what was last seen at `before` or earlier. */
static void unlink_old(struct templates *t, uint64_t before)
{
    for (uint32_t i = 0; i < t->used; i++) {
        uint32_t first = NONE, *link = &first;
        uint64_t group = t->slots[i].group;
        if (!t->slots[i].id || first_of(t, group) != i)
            continue;
        for (uint32_t at = i, next; at != NONE; at = next) {
            next = t->slots[at].next;
            if (t->slots[at].used <= before)
                continue;
            *link = at;
            link = &t->slots[at].next;
        }
        *link = NONE;
        number_map_set(&t->groups, group, first == NONE ? 0 : (uint64_t)first + 1);
    }
}

/* Room for more: what was not seen during the younger seven eighths of the kept span goes, at least
 * the oldest. The maps forget with it, for numbers cannot be taken out of them. */
static void make_room(struct templates *t)
{
    uint64_t oldest = UINT64_MAX;
    struct number_map groups = {0};
    for (size_t i = 0; i < t->used; i++)
        if (t->slots[i].id && t->slots[i].used < oldest)
            oldest = t->slots[i].used;
    uint64_t before = oldest + (t->lookups - oldest) / 8;
    unlink_old(t, before);
    for (uint32_t i = 0; i < t->used; i++)
        if (t->slots[i].id && t->slots[i].used <= before)
            forget(t, i);
    for (uint32_t i = 0; i < t->used; i++)
        if (t->slots[i].id && first_of(t, t->slots[i].group) == i
            && !number_map_put(&groups, t->slots[i].group, (uint64_t)i + 1, NULL, NULL)) {
            number_map_deinit(&groups); /* no memory: the larger map stays */
            return;
        }
    number_map_deinit(&t->groups);
    t->groups = groups;
}

/* How many words differ, none where only variable ones do, 2 for more than one (or another number
 * of words); *word is the one. */
static unsigned differences(const struct template *slot, const struct words *w, uint32_t *word)
{
    unsigned found = 0;
    if (slot->word_count != w->count)
        return 2;
    for (uint32_t i = 0; i < w->count && found < 2; i++) {
        if (!slot->words[i] || slot->words[i] == w->hash[i])
            continue;
        *word = i;
        found++;
    }
    return found;
}

/* The slot that the words match; NONE: none does, and then *variable is the word that has become
 * variable with them, or NONE. The first word never does. */
static uint32_t search(const struct templates *t, uint64_t group, const struct words *w,
                       uint32_t *variable)
{
    uint16_t differ[TEMPLATE_WORDS_MAX] = {0};
    uint32_t word = 0;
    *variable = NONE;
    for (uint32_t at = first_of(t, group); at != NONE; at = t->slots[at].next) {
        unsigned count = differences(&t->slots[at], w, &word);
        if (!count)
            return at;
        if (count == 1 && *variable == NONE && word > 0 && ++differ[word] >= TEMPLATE_SIBLINGS)
            *variable = word;
    }
    return NONE;
}

static bool fill(struct template *slot, const struct words *w)
{
    struct bytes text = {0};
    slot->words = memory_alloc(w->count, sizeof *slot->words);
    for (size_t i = 0; i < w->count && slot->words; i++) {
        slot->words[i] = w->hash[i];
        bytes_append(&text, " ", i > 0);
        bytes_append(&text, w->hash[i] ? w->text[i] : "<*>", w->hash[i] ? w->bytes[i] : 3);
    }
    bytes_append(&text, "", 0);
    slot->text = text.failed || !slot->words ? NULL : memory_copy_bytes(text.data ? text.data : "",
                                                                       text.count);
    slot->word_count = (uint32_t)w->count;
    slot->id = hash_bytes(text.data, text.count) | 1;
    bytes_deinit(&text);
    if (!slot->text)
        drop(slot);
    return slot->text;
}

/* Takes the siblings' counts and their places. */
static void absorb(struct templates *t, struct template *into, uint32_t word, struct words *w)
{
    for (uint32_t at = first_of(t, into->group), next, other = 0; at != NONE; at = next) {
        next = t->slots[at].next;
        if (differences(&t->slots[at], w, &other) != 1 || other != word)
            continue;
        into->count += t->slots[at].count;
        into->recent += t->slots[at].recent;
        into->lately += t->slots[at].lately;
        if (t->slots[at].counted > into->counted)
            into->counted = t->slots[at].counted;
        release(t, at);
    }
}

/* `word` becomes variable, where it is not NONE. */
static uint32_t add(struct templates *t, struct words *w, uint64_t group, uint32_t word)
{
    struct template made = {.group = group, .next = NONE};
    if (word != NONE) {
        struct words general = *w;
        general.hash[word] = 0;
        if (!fill(&made, &general))
            return NONE;
        absorb(t, &made, word, w);
        t->joins++;
    } else if (!fill(&made, w)) {
        return NONE;
    }
    if (t->count == t->max)
        make_room(t);
    if (!number_map_reserve(&t->groups, 1)) {
        drop(&made);
        return NONE;
    }
    uint32_t slot = t->spare_count ? t->spare[--t->spare_count] : (uint32_t)t->used++;
    made.next = first_of(t, group);
    t->slots[slot] = made;
    number_map_set(&t->groups, group, (uint64_t)slot + 1);
    t->count++;
    return slot;
}

uint32_t templates_find(struct templates *t, const char *masked, size_t bytes, bool *added)
{
    uint64_t key = hash_bytes(masked, bytes), value;
    struct words words;
    *added = false;
    t->lookups++;
    bool known = number_map_get(&t->exact, key, &value);
    /* The slot may have another kind by now; the high half of the value is of the kind's id. */
    if (known && (uint32_t)(t->slots[(uint32_t)value].id >> 32) == value >> 32
        && t->slots[(uint32_t)value].id) {
        t->slots[(uint32_t)value].used = t->lookups;
        return (uint32_t)value;
    }
    split(&words, masked, bytes);
    uint64_t group = group_of(&words);
    uint32_t variable, slot = search(t, group, &words, &variable);
    if (slot == NONE) {
        slot = add(t, &words, group, variable);
        if (slot == NONE)
            return NONE;
        *added = true;
    }
    t->slots[slot].used = t->lookups;
    if (t->exact.count > 4 * t->max)
        number_map_deinit(&t->exact);
    number_map_set(&t->exact, key, (t->slots[slot].id >> 32 << 32) | slot);
    return slot;
}

struct template *templates_at(struct templates *t, uint32_t slot)
{
    return &t->slots[slot];
}

size_t templates_count(const struct templates *t)
{
    return t->count;
}

uint64_t templates_joins(const struct templates *t)
{
    return t->joins;
}

uint64_t templates_forgotten(const struct templates *t)
{
    return t->forgotten;
}

size_t templates_slots(const struct templates *t)
{
    return t->used;
}
