/* The near kinds of each kind: those that are new are compared with all, some at a time, and offer
 * themselves to the others. Nothing is approximate, and neither order nor company decides. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "compute/cpu/kernels.h"
#include "watch/score.h"

enum {
    TOGETHER = 32,              /* that are placed */
    BLOCK_ROWS = 64,            /* that they are compared with at once */
    BLOCKS = 32,                /* that threads share */
    SHARED_MIN = 4096,          /* comparisons; for fewer nobody is woken */
};

struct block {
    const float *vectors[BLOCK_ROWS];
    uint32_t slots[BLOCK_ROWS];
    size_t count;
    float cosines[TOGETHER * BLOCK_ROWS];   /* [placed][count] */
};

struct placing {
    size_t dimension;
    struct block blocks[BLOCKS];
    size_t block_count;
    float *vectors;             /* [TOGETHER][dimension] of those that are placed */
    uint32_t slots[TOGETHER];
    struct template *templates[TOGETHER];
    size_t count;
    const struct kernels *kernels;
};

struct placing *placing_create(size_t dimension)
{
    struct placing *p = memory_alloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->dimension = dimension;
    p->vectors = memory_alloc_aligned((size_t)TOGETHER * dimension, sizeof *p->vectors);
    if (!p->vectors)
        placing_destroy(&p);
    return p;
}

void placing_destroy(struct placing **placing)
{
    if (!*placing)
        return;
    memory_free((*placing)->vectors);
    memory_free(*placing);
    *placing = NULL;
}

/* ---- lists of near kinds ------------------------------------------------------------------ */

static bool is_nearer(float distance, uint32_t slot, const struct template *t, int at)
{
    return !t->nearest_id[at] || distance < t->distance[at]
           || (distance == t->distance[at] && slot < t->nearest[at]);
}

/* Puts a neighbour into the list of `t` if it is near enough; ties by slot, so that the order in
 * which neighbours are offered decides nothing. */
static void offer(struct template *t, uint32_t slot, uint64_t id, float distance)
{
    int at = TEMPLATE_NEAREST - 1;
    for (int i = 0; i < TEMPLATE_NEAREST; i++)
        if (t->nearest_id[i] == id)
            return;
    if (!is_nearer(distance, slot, t, at))
        return;
    for (; at > 0 && is_nearer(distance, slot, t, at - 1); at--) {
        t->nearest[at] = t->nearest[at - 1];
        t->nearest_id[at] = t->nearest_id[at - 1];
        t->distance[at] = t->distance[at - 1];
    }
    t->nearest[at] = slot;
    t->nearest_id[at] = id;
    t->distance[at] = distance;
}

/* Nobody farther than this gets into the list. */
static float reach_of(const struct template *t)
{
    return t->nearest_id[TEMPLATE_NEAREST - 1] ? t->distance[TEMPLATE_NEAREST - 1] : INFINITY;
}

/* ---- comparing ---------------------------------------------------------------------------- */

/* The next kinds that are there, from slot *from on. */
static void fill_blocks(struct event_model *m, struct placing *p, uint32_t *from)
{
    size_t slots = templates_slots(m->templates);
    for (p->block_count = 0; p->block_count < BLOCKS && *from < slots; p->block_count++) {
        struct block *b = &p->blocks[p->block_count];
        for (b->count = 0; *from < slots && b->count < BLOCK_ROWS; ++*from) {
            const struct template *t = templates_at(m->templates, *from);
            if (!t->id || !t->vector)
                continue;
            b->vectors[b->count] = t->vector;
            b->slots[b->count++] = *from;
        }
    }
}

static void compare(void *context, size_t number, int worker)
{
    struct placing *p = context;
    struct block *b = &p->blocks[number];
    (void)worker;
    if (b->count)
        p->kernels->score_dot_f32(b->cosines, p->vectors, p->count, b->vectors, b->count,
                                  p->dimension);
}

static void compare_all(struct event_model *m, struct placing *p)
{
    if (m->pool && p->block_count > 1 && p->count * p->block_count * BLOCK_ROWS >= SHARED_MIN)
        thread_pool_each(m->pool, p->block_count, compare, p);
    else
        for (size_t i = 0; i < p->block_count; i++)
            compare(p, i, 0);
}

/* ---- placing ------------------------------------------------------------------------------ */

static float distance_of(float cosine)
{
    return 1 - cosine > 0 ? 1 - cosine : 0;
}

/* Which of those that are placed a slot is; count: none. */
static size_t rank_of(const struct placing *p, uint32_t slot)
{
    size_t i = 0;
    while (i < p->count && p->slots[i] != slot)
        i++;
    return i;
}

/* A pair of those that are placed is looked at once, by the later one. */
static void offer_pair(struct event_model *m, struct placing *p, size_t q, uint32_t slot,
                       float distance)
{
    struct template *t = p->templates[q], *other = templates_at(m->templates, slot);
    size_t rank = rank_of(p, slot);
    if (t == other || (rank < p->count && q <= rank))
        return;
    offer(t, slot, other->id, distance);
    offer(other, p->slots[q], t->id, distance);
}

/* Few pairs are near enough for either: the others are passed over without a look at their lists.
 */
static void offer_block(struct event_model *m, struct placing *p, const struct block *b)
{
    float reach[BLOCK_ROWS];
    for (size_t r = 0; r < b->count; r++)
        reach[r] = reach_of(templates_at(m->templates, b->slots[r]));
    for (size_t q = 0; q < p->count; q++) {
        const float *cosines = b->cosines + q * b->count;
        float own = reach_of(p->templates[q]);
        uint8_t near[BLOCK_ROWS];
        unsigned any = 0;
        for (size_t r = 0; r < b->count; r++) {
            float distance = distance_of(cosines[r]);
            near[r] = (distance <= own) | (distance <= reach[r]);
            any |= near[r];
        }
        for (size_t r = 0; any && r < b->count; r++)
            if (near[r])
                offer_pair(m, p, q, b->slots[r], distance_of(cosines[r]));
    }
}

static void place_some(struct event_model *m, const uint32_t *slots, size_t count)
{
    struct placing *p = m->placing;
    p->count = count;
    p->kernels = m->kernels;
    for (size_t q = 0; q < count; q++) {
        struct template *t = templates_at(m->templates, slots[q]);
        p->slots[q] = slots[q];
        p->templates[q] = t;
        t->settled = templates_forgotten(m->templates);
        memset(t->nearest_id, 0, sizeof t->nearest_id);
        memcpy(p->vectors + q * p->dimension, t->vector, p->dimension * sizeof *t->vector);
    }
    for (uint32_t from = 0; fill_blocks(m, p, &from), p->block_count;) {
        compare_all(m, p);
        for (size_t i = 0; i < p->block_count; i++)
            offer_block(m, p, &p->blocks[i]);
    }
}

void event_model_place(struct event_model *m, const uint32_t *slots, size_t count)
{
    for (size_t at = 0; at < count; at += TOGETHER)
        place_some(m, slots + at, count - at < TOGETHER ? count - at : TOGETHER);
}

static bool lacks_near(struct event_model *m, const struct template *t)
{
    for (int i = 0; i < TEMPLATE_NEAREST && t->nearest_id[i]; i++)
        if (templates_at(m->templates, t->nearest[i])->id != t->nearest_id[i])
            return true;
    return false;
}

void event_model_renew(struct event_model *m, const uint32_t *slots, size_t count)
{
    uint64_t forgotten = templates_forgotten(m->templates);
    uint32_t stale[TOGETHER];
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        struct template *t = templates_at(m->templates, slots[i]);
        if (!t->vector || t->settled == forgotten)
            continue;
        t->settled = forgotten;
        if (lacks_near(m, t))
            stale[found++] = slots[i];
        if (found == TOGETHER) {
            event_model_place(m, stale, found);
            found = 0;
        }
    }
    event_model_place(m, stale, found);
}
