/* Candidates: rows with values, thresholds that rise, and the exact end of a search. */
#include <math.h>
#include <string.h>

#include "index/flat_handle.h"
#include "index/greatest.h"

uint64_t flat_key(float value, uint32_t row)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (uint64_t)bits << 32 | (UINT32_MAX - row);
}

float flat_key_value(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    bits = bits >> 31 ? bits & 0x7fffffff : ~bits;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint32_t flat_key_row(uint64_t key)
{
    return UINT32_MAX - (uint32_t)key;
}

void flat_largest(uint64_t *keys, size_t total, size_t count)
{
    if (count > 0 && count < total)
        keep_greatest(keys, total, count);
}

/* ---- candidates ------------------------------------------------------------------------- */

void candidates_reset(struct candidates *c, size_t k)
{
    c->count = 0;
    c->limit = 2 * k + 64;
}

bool candidates_add(struct candidates *c, float value, uint32_t row)
{
    if (c->count == c->capacity &&
        !array_reserve((void **)&c->keys, &c->capacity, c->count + 256, sizeof *c->keys))
        return false;
    c->keys[c->count++] = flat_key(value, row);
    return true;
}

/* Drops the candidates whose interval ends below the threshold. */
static void drop_below(struct candidates *c, const struct flat_task *task)
{
    const struct row_terms *t = &task->flat->screen.terms;
    const struct dot_query *dot = &task->query.dot;
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++) {
        uint64_t key = c->keys[i];
        uint32_t row = flat_key_row(key);
        float most = flat_key_value(key) + t->radius[row] * dot->slack_radius +
                     t->norm[row] * dot->slack_norm;
        c->keys[kept] = key;
        kept += !(most < task->threshold);
    }
    c->count = kept;
}

/* Rows whose interval ends below `value` are out. */
static void raise_threshold(struct flat_task *task, float value)
{
    float lower = screen_threshold(&task->query, value);
    if (lower > task->threshold)
        task->threshold = lower;
}

void candidates_demand(struct flat_task *task, float score)
{
    raise_threshold(task, screen_value(&task->flat->screen, &task->query, score));
}

bool candidates_tighten(struct candidates *c, struct flat_task *task)
{
    struct flat_scratch *s = task->scratch;
    if (c->count > task->k) {
        if (!array_reserve((void **)&s->spare, &s->spare_capacity, c->count, sizeof *s->spare))
            return false;
        for (size_t i = 0; i < c->count; i++) {
            uint32_t row = flat_key_row(c->keys[i]);
            float error = screen_error(&task->flat->screen, &task->query, row) * (1 + 0x1p-20f);
            s->spare[i] = flat_key(flat_key_value(c->keys[i]) - error, row);
        }
        flat_largest(s->spare, c->count, task->k);
        uint64_t least = s->spare[0];
        for (size_t i = 1; i < task->k; i++)
            least = s->spare[i] < least ? s->spare[i] : least;
        float lower = flat_key_value(least);
        raise_threshold(task, lower - fabsf(lower) * 0x1p-22f);
        drop_below(c, task);
    }
    c->limit = 2 * c->count + task->k + 64;
    return true;
}

/* ---- the end ---------------------------------------------------------------------------- */

/* Scores keys [first, last) and offers them. */
static void score_keys(const struct candidates *c, const struct flat_task *task, size_t first,
                       size_t last, struct best *best)
{
    uint32_t list[SCREEN_TILE_MAX];
    float scores[SCREEN_TILE_MAX];
    for (size_t i = first; i < last; i += SCREEN_TILE_MAX) {
        size_t live = last - i < SCREEN_TILE_MAX ? last - i : SCREEN_TILE_MAX;
        for (size_t j = 0; j < live; j++)
            list[j] = flat_key_row(c->keys[i + j]);
        originals_score(task->flat->backend, &task->flat->originals, task->vector, list, live,
                        task->scratch->widened, scores);
        for (size_t j = 0; j < live; j++)
            best_offer(best, (struct hit){ scores[j], list[j] });
    }
}

/* The k best by value are scored first: what the worst of them reaches rules out most others. */
bool candidates_finish(struct candidates *c, struct flat_task *task, struct hit *hits,
                       size_t *found)
{
    struct best best = { .hits = hits, .capacity = task->k };
    if (!candidates_tighten(c, task))
        return false;
    size_t front = c->count < task->k ? c->count : task->k;
    flat_largest(c->keys, c->count, front);
    score_keys(c, task, 0, front, &best);
    if (c->count > front) {
        struct candidates rest = { .keys = c->keys + front, .count = c->count - front };
        candidates_demand(task, hits[0].score);
        drop_below(&rest, task);
        score_keys(&rest, task, 0, rest.count, &best);
    }
    *found = best.count;
    best_drain(&best, hits);
    return true;
}
