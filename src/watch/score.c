#include "watch/score.h"

#include <math.h>
#include <string.h>

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

/* Mean distance to the nearest kinds that were seen, each divided by ln(1 + its count): to be near
 * what is common is to be normal. The kind itself is at distance 0 once it was seen. */
static double distance(struct event_model *m, uint32_t slot)
{
    struct template *t = templates_at(m->templates, slot);
    double sum = 0;
    size_t used = t->count >= 0.5;
    if (!m->dimension || !t->vector)
        return 0;
    event_model_renew(m, &slot, 1);
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
