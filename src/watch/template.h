/* Kinds of events: online, bounded, with ids that stay. A kind is first a masked text as it is; a
 * word of it becomes variable (<*>) once SIBLINGS texts differ in that word alone. That is where it
 * leaves Drain (He et al., ICWS 2017), which joins two texts as soon as they are similar: "VM
 * Started" and "VM Paused" are then one kind, and what was told apart is lost. As in Drain, texts
 * are first sorted by their number of words and their first word, so that few are compared.
 *
 * At most `max` kinds are kept; those not seen for longest make room. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEMPLATE_SIBLINGS = 16, TEMPLATE_WORDS_MAX = 64, TEMPLATE_NEAREST = 5 };

struct template {
    uint64_t id;            /* hash of its text; 0: the slot is free */
    char *text;             /* masked, with <*> */
    uint64_t *words;        /* [word_count] hashes; 0: any word */
    uint32_t word_count;
    uint32_t next;          /* of its group; UINT32_MAX: none */
    uint64_t group, used;   /* when it was last seen, in look-ups */
    /* What scores keep with a kind. */
    double count, recent, lately;   /* decayed, each at its own pace */
    uint64_t counted;       /* the event at which they were last brought up to date */
    uint64_t settled;       /* templates_forgotten() when those near were last all there */
    float *vector;          /* NULL: none yet */
    uint32_t nearest[TEMPLATE_NEAREST];     /* other slots, by distance */
    uint64_t nearest_id[TEMPLATE_NEAREST];  /* their ids then; 0: none */
    float distance[TEMPLATE_NEAREST];
};

struct templates;

struct templates *templates_create(size_t max);     /* NULL: no memory */
void templates_destroy(struct templates **templates);
/* The kind of a masked text, a new one where there is none; UINT32_MAX: no memory. */
uint32_t templates_find(struct templates *templates, const char *masked, size_t bytes, bool *added);
struct template *templates_at(struct templates *templates, uint32_t slot);
size_t templates_count(const struct templates *templates);  /* in use */
/* How often kinds were joined: a slot found before the last time may be another's. */
uint64_t templates_joins(const struct templates *templates);
/* Kinds that were forgotten or joined so far: while it stays, so does every kind. */
uint64_t templates_forgotten(const struct templates *templates);
size_t templates_slots(const struct templates *templates);  /* all slots lie below */
