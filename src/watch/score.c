#include "watch/score.h"

#include <math.h>
#include <string.h>

#include "base/status.h"
#include "compute/cpu/kernels.h"

/* What the parts weigh was chosen once, see docs/decisions/020-event-score.md. */
static const double distance_weight = 4;    /* nats for a text unlike any that is common */
static const double severity_weight = 2;    /* nats for a step of severity */
static const double burst_weight = 6;       /* nats for a burst e times as unlikely as usual ones */
static const double burst_half_life = 64;   /* events: what came close together */
static const double pace_half_life = 4096;  /* events: at which pace a kind comes lately */
static const double burst_min = 20;         /* nats: what is likelier is no burst */

double event_model_count(struct event_model *m, uint32_t slot)
{
    struct template *t = templates_at(m->templates, slot);
    double passed = (double)(m->clock - t->counted);
    if (passed > 0) {
        t->count *= exp2(-passed / m->half_life);
        t->recent *= exp2(-passed / burst_half_life);
        t->lately *= exp2(-passed / pace_half_life);
        t->counted = m->clock;
    }
    return t->count;
}

static bool is_there(const struct template *t, uint64_t id)
{
    return t->id == id && id != 0;
}

/* Mean distance to the nearest kinds that were seen, each divided by ln(1 + its count): to be near
 * what is common is to be normal. The kind itself is at distance 0 once it was seen. */
static double distance(struct event_model *m, uint32_t slot)
{
    struct template *t = templates_at(m->templates, slot);
    double sum = 0;
    size_t used = t->count >= 0.5;
    if (!m->dimension || !t->vector)
        return 0;
    for (int stale = 0; stale < TEMPLATE_NEAREST; stale++)
        if (t->nearest_id[stale]
            && !is_there(templates_at(m->templates, t->nearest[stale]), t->nearest_id[stale])) {
            event_model_place(m, &slot, t->vector, 1);  /* a neighbour was forgotten */
            break;
        }
    for (int i = 0; i < TEMPLATE_NEAREST && used < TEMPLATE_NEAREST; i++) {
        if (!t->nearest_id[i])
            break;
        double count = event_model_count(m, t->nearest[i]);
        if (count < 0.5)
            continue;
        sum += (double)t->distance[i] / log1p(count);
        used++;
    }
    return used ? sum / (double)used : 1;
}

/* How unlikely it is that so many of a kind come close together, in nats, where they come one by
 * one at the pace of the whole past or of late, whichever is higher (Poisson). */
static double burst(const struct event_model *m, const struct template *t)
{
    double span = burst_half_life / log(2), lately = pace_half_life / log(2);
    double pace = fmax(t->count / (m->total + 1), t->lately / fmin((double)m->clock, lately));
    double expected = fmax(pace * span, 1), seen = t->recent + 1;
    return seen > expected ? seen * log(seen / expected) - (seen - expected) : 0;
}

/* Bursts are measured against those of the history, but for its strongest: it may hold trouble. */
static double burst_limit(const struct event_model *m)
{
    uint64_t all = 0, some = 0;
    for (size_t b = 0; b < BURST_BITS; b++)
        all += m->bursts[b];
    for (size_t b = 0; b < BURST_BITS; b++) {
        some += m->bursts[b];
        if (some * 20 >= all * 19)
            return fmax(exp2((double)b / 2), burst_min);
    }
    return burst_min;
}

static void note_burst(struct event_model *m, const struct template *t)
{
    double bits = 2 * log2(fmax(burst(m, t), 1));
    m->bursts[bits < BURST_BITS - 1 ? (size_t)bits + 1 : BURST_BITS - 1]++;
    m->burst_limit = 0;
}

double event_model_rarity(struct event_model *m, uint32_t slot)
{
    return -log((event_model_count(m, slot) + 0.5) / (m->total + 1));
}

double event_model_new_error(const struct event_model *m)
{
    return -log(0.5 / (m->total + 1)) + severity_weight * (m->worst < 2 ? m->worst : 2);
}

double event_model_measure(struct event_model *m, uint32_t slot, int severity,
                           double parts[EVENT_PARTS])
{
    m->clock++;
    m->worst = severity > m->worst ? severity : m->worst;
    m->total *= exp2(-1 / m->half_life);
    double sum = 0, count = event_model_count(m, slot);
    double strength = burst(m, templates_at(m->templates, slot));
    if (m->burst_limit <= 0)
        m->burst_limit = burst_limit(m);
    parts[EVENT_RARITY] = -log((count + 0.5) / (m->total + 1));
    parts[EVENT_BURST] =
        strength > m->burst_limit ? burst_weight * log(strength / m->burst_limit) : 0;
    parts[EVENT_DISTANCE] = distance_weight * distance(m, slot);
    parts[EVENT_SEVERITY] = severity_weight * severity;
    for (int i = 0; i < EVENT_PARTS; i++)
        sum += parts[i];
    return sum;
}

void event_model_learn(struct event_model *m, uint32_t slot, double weight, bool history)
{
    struct template *t = templates_at(m->templates, slot);
    event_model_count(m, slot);
    if (history)
        note_burst(m, t);
    t->count += weight;
    t->recent += 1;
    t->lately += 1;
    m->total += weight;
}

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

/* Some kinds that are there, beside each other for the kernel. */
enum { ROWS_TOGETHER = 64 };

struct rows {
    const float *vectors[ROWS_TOGETHER];
    uint32_t slots[ROWS_TOGETHER];
    size_t count;
};

/* The next ones from slot *from on. */
static void next_rows(struct event_model *m, uint32_t *from, struct rows *rows)
{
    size_t slots = templates_slots(m->templates);
    rows->count = 0;
    for (; *from < slots && rows->count < ROWS_TOGETHER; ++*from) {
        const struct template *t = templates_at(m->templates, *from);
        if (!t->id || !t->vector)
            continue;
        rows->vectors[rows->count] = t->vector;
        rows->slots[rows->count++] = *from;
    }
}

/* Which of those that are placed a slot is; count: none. */
static size_t rank_of(const uint32_t *slots, size_t count, uint32_t slot)
{
    size_t i = 0;
    while (i < count && slots[i] != slot)
        i++;
    return i;
}

void event_model_place(struct event_model *m, const uint32_t *slots, const float *vectors,
                       size_t count)
{
    float cosines[EVENT_PLACED_MAX * ROWS_TOGETHER];
    struct rows rows;
    ASSERT(count <= EVENT_PLACED_MAX);
    for (size_t q = 0; q < count; q++)
        memset(templates_at(m->templates, slots[q])->nearest_id, 0,
               sizeof templates_at(m->templates, slots[q])->nearest_id);
    for (uint32_t from = 0; next_rows(m, &from, &rows), rows.count;) {
        m->kernels->score_dot_f32(cosines, vectors, count, rows.vectors, rows.count, m->dimension);
        for (size_t r = 0; r < rows.count; r++) {
            /* a pair of those that are placed is looked at once, by the later one */
            size_t rank = rank_of(slots, count, rows.slots[r]);
            struct template *other = templates_at(m->templates, rows.slots[r]);
            for (size_t q = rank < count ? rank + 1 : 0; q < count; q++) {
                struct template *t = templates_at(m->templates, slots[q]);
                float cosine = cosines[q * rows.count + r], d = 1 - cosine > 0 ? 1 - cosine : 0;
                if (t == other)
                    continue;
                offer(t, rows.slots[r], other->id, d);
                offer(other, slots[q], t->id, d);
            }
        }
    }
}
