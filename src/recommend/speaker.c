/* See speaker.h. */
#include "recommend/speaker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compute/best.h"
#include "compute/cpu/kernels.h"
#include "recommend/blend.h"

enum {
    MOODS = 2,                  /* of people who come back, and of those who are here */
    PICKED_MORE = 16,           /* room that pick_f32 wants behind */
    SAMPLED = 8,                /* one score of so many tells what the best will reach */
};

struct mood {
    const struct taste_weights *weights;
    unsigned parts;             /* bits: those with a weight */
    float *standing;            /* [item_count] what the past does not change; */
    float *own;                 /* [size] of the model's items, one behind the other */
    uint32_t *order;            /* rows outside of the model, by it, best first, ties by row */
};

struct speaker {
    const struct taste *taste;
    const struct kernels *kernels;
    struct mood moods[MOODS];
};

/* ---- made ahead ------------------------------------------------------------------------- */

static int best_first(const void *a, const void *b)
{
    return hit_better(*(const struct hit *)a, *(const struct hit *)b) ? -1 : 1;
}

static enum akin_status order_others(const struct taste *t, struct mood *mood,
                                     struct akin_error *error)
{
    size_t count = 0, others = t->item_count - t->size;
    struct hit *hits = memory_alloc(others + 1, sizeof *hits);
    mood->order = memory_alloc(others + 1, sizeof *mood->order);
    if (!hits || !mood->order) {
        memory_free(hits);
        return error_memory(error);
    }
    for (size_t row = 0; row < t->item_count; row++)
        if (t->places[row] == UINT32_MAX)
            hits[count++] = (struct hit){ mood->standing[row], (uint32_t)row };
    qsort(hits, count, sizeof *hits, best_first);
    for (size_t i = 0; i < count; i++)
        mood->order[i] = hits[i].row;
    memory_free(hits);
    return AKIN_OK;
}

static enum akin_status make_mood(const struct speaker *s, enum blend_context context,
                                  struct mood *mood, struct akin_error *error)
{
    mood->weights = &s->taste->weights[context];
    mood->standing = memory_alloc_aligned(s->taste->item_count + 1, sizeof *mood->standing);
    if (!mood->standing)
        return error_memory(error);
    for (unsigned part = 0; part < TASTE_PARTS; part++)
        mood->parts |= mood->weights->part[part] != 0 ? TASTE_BIT(part) : 0;
    taste_stand(s->taste, s->kernels, mood->weights->part, mood->standing);
    mood->own = memory_alloc_aligned(s->taste->size + 1, sizeof *mood->own);
    if (!mood->own)
        return error_memory(error);
    for (size_t j = 0; j < s->taste->size; j++)
        mood->own[j] = mood->standing[s->taste->items[j]];
    return order_others(s->taste, mood, error);
}

enum akin_status speaker_create(const struct taste *taste, const struct kernels *kernels,
                                struct speaker **speaker, struct akin_error *error)
{
    struct speaker *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    s->taste = taste;
    s->kernels = kernels;
    enum akin_status status = make_mood(s, BLEND_NEXT, &s->moods[false], error);
    if (status == AKIN_OK)
        status = make_mood(s, BLEND_RETURN, &s->moods[true], error);
    if (status == AKIN_OK)
        *speaker = s;
    else
        speaker_destroy(&s);
    return status;
}

void speaker_destroy(struct speaker **speaker)
{
    struct speaker *s = *speaker;
    if (!s)
        return;
    for (size_t i = 0; i < MOODS; i++) {
        memory_free(s->moods[i].standing);
        memory_free(s->moods[i].own);
        memory_free(s->moods[i].order);
    }
    memory_free(s);
    *speaker = NULL;
}

uint64_t speaker_bytes(const struct speaker *s)
{
    return MOODS * 2 * (uint64_t)s->taste->item_count * sizeof(float);
}

float speaker_text(const struct speaker *s, bool returning)
{
    return s->moods[returning].weights->text;
}

const struct taste *speaker_taste(const struct speaker *s)
{
    return s->taste;
}

struct speaker_mood speaker_mood(const struct speaker *s, bool returning)
{
    const struct mood *mood = &s->moods[returning];
    return (struct speaker_mood){ mood->weights, mood->standing, mood->order };
}

/* ---- one past --------------------------------------------------------------------------- */

void speech_deinit(struct speech *speech)
{
    taste_features_deinit(&speech->features);
    memory_free(speech->scores);
    memory_free(speech->hits);
    memory_free(speech->picked);
    memory_free(speech->places);
    *speech = (struct speech){ 0 };
}

static enum akin_status make_room(const struct speaker *s, struct speech *speech,
                                  struct akin_error *error)
{
    if (speech->speaker == s)
        return AKIN_OK;
    speech_deinit(speech);
    TRY(taste_features_init(s->taste, &speech->features, error));
    speech->scores = memory_alloc_aligned(s->taste->size + 1, sizeof *speech->scores);
    speech->picked = memory_alloc(s->taste->size + PICKED_MORE, sizeof *speech->picked);
    if (!speech->scores || !speech->picked)
        return error_memory(error);
    speech->speaker = s;
    return AKIN_OK;
}

enum akin_status speaker_say(const struct speaker *s, const uint32_t *past, size_t count,
                             bool returning, struct speech *speech, struct akin_error *error)
{
    const struct taste *t = s->taste;
    const struct mood *mood = &s->moods[returning];
    TRY(make_room(s, speech, error));
    speech->returning = returning;
    taste_say(t, s->kernels, past, count, mood->parts, &speech->features);
    memcpy(speech->scores, mood->own, t->size * sizeof *speech->scores);
    taste_add(t, s->kernels, &speech->features, mood->weights->part, speech->scores);
    return AKIN_OK;
}

bool speaker_minds(const struct speaker *s, const struct context *context, float *wanted)
{
    const struct reranker *r = &s->taste->reranker;
    return r->values && situation_asked(r->names, r->layout.wanted, context, wanted);
}

enum akin_status speech_situate(struct speech *speech, const float *wanted, const uint32_t *rows,
                                size_t count, float *lifts, struct akin_error *error)
{
    const struct taste *t = speech->speaker->taste;
    size_t known = 0;
    if (!array_reserve((void **)&speech->places, &speech->place_capacity, 2 * count + 1,
                       sizeof *speech->places))
        return error_memory(error);
    uint32_t *from = speech->places + count;
    for (size_t i = 0; i < count; i++) {
        uint32_t place = t->places[rows[i]];
        if (place == UINT32_MAX)
            continue;
        speech->places[known] = place;
        from[known++] = (uint32_t)i;
    }
    taste_situate(t, speech->speaker->kernels, wanted, speech->places, known, &speech->features,
                  lifts);
    for (size_t i = count; i-- > 0;) {      /* apart again, from behind */
        bool is_known = known && from[known - 1] == i;
        lifts[i] = is_known ? lifts[known - 1] : NAN;
        known -= is_known;
    }
    return AKIN_OK;
}

float speech_score(const struct speech *speech, uint32_t row)
{
    const struct speaker *s = speech->speaker;
    uint32_t place = s->taste->places[row];
    return place == UINT32_MAX ? s->moods[speech->returning].standing[row] : speech->scores[place];
}

static bool passes(const uint64_t *allowed, uint32_t row)
{
    return allowed[row / 64] >> row % 64 & 1;
}

static struct hit worst_of(const struct hit *hits, size_t count)
{
    struct hit worst = hits[0];
    for (size_t i = 1; i < count; i++)
        worst = hit_better(worst, hits[i]) ? hits[i] : worst;
    return worst;
}

/* Nearly as many scores reach it as are wanted, and a few more: by one score of every SAMPLED. */
static float likely_least(const struct speech *speech, size_t wanted)
{
    size_t size = speech->speaker->taste->size, share = wanted / SAMPLED, sampled = 0;
    size_t kept = share + 3 * (size_t)sqrt((double)share) + 8;
    struct hit *hits = speech->hits;
    for (size_t j = 0; j < size; j += SAMPLED)
        hits[sampled++] = (struct hit){ speech->scores[j], (uint32_t)j };
    if (kept >= sampled)
        return -INFINITY;
    best_select(hits, sampled, kept);
    return worst_of(hits, kept).score;
}

/* The best of the model's items, at least those that are among the `wanted` best, to speech->hits;
 * returns how many. */
static size_t gather_model(const struct speech *speech, const uint64_t *allowed, size_t wanted)
{
    const struct taste *t = speech->speaker->taste;
    const struct kernels *kernels = speech->speaker->kernels;
    float least = likely_least(speech, wanted);
    size_t count;
    for (;;) {
        size_t picked = kernels->pick_f32(speech->picked, speech->scores, least, t->size);
        count = 0;
        for (size_t i = 0; i < picked; i++) {
            uint32_t row = t->items[speech->picked[i]];
            speech->hits[count] = (struct hit){ speech->scores[speech->picked[i]], row };
            count += passes(allowed, row);
        }
        if (count >= wanted || !(least > -INFINITY))
            return count;
        least = -INFINITY;      /* more of them are not allowed: all */
    }
}

/* Of the others, at most `wanted` and only what is better than the worst of `wanted` from the
 * model can be among the best. */
enum akin_status speech_best(struct speech *speech, const uint64_t *allowed, size_t wanted,
                             struct hit **best, size_t *found, struct akin_error *error)
{
    const struct taste *t = speech->speaker->taste;
    const struct mood *mood = &speech->speaker->moods[speech->returning];
    size_t others = t->item_count - t->size;
    others = others < wanted ? others : wanted;
    if (!array_reserve((void **)&speech->hits, &speech->hit_capacity, t->size + others + 1,
                       sizeof *speech->hits))
        return error_memory(error);
    struct hit *hits = speech->hits, worst = { -INFINITY, UINT32_MAX };
    size_t count = gather_model(speech, allowed, wanted);
    if (count >= wanted) {
        best_select(hits, count, wanted);
        count = wanted;
        worst = worst_of(hits, count);
    }
    for (size_t i = 0, taken = 0; i < t->item_count - t->size && taken < others; i++) {
        struct hit hit = { mood->standing[mood->order[i]], mood->order[i] };
        if (!hit_better(hit, worst))
            break;
        if (passes(allowed, hit.row)) {
            hits[count++] = hit;
            taken++;
        }
    }
    best_select(hits, count, wanted);
    *best = hits;
    *found = count < wanted ? count : wanted;
    return AKIN_OK;
}
