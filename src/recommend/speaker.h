/* A learned taste as requests ask it: with its weights, which akin_evaluate judges (blend.h). Only
 * items of the model get a score of their own for each past; the others have one that no past
 * changes, made ahead and in order, so that the best of all are found without looking at all. */
#pragma once

#include "compute/backend.h"
#include "recommend/taste.h"

struct context;
struct speaker;

/* The taste must outlive it, and must have learned what the blends weigh. */
enum akin_status speaker_create(const struct taste *taste, const struct kernels *kernels,
                                struct speaker **speaker, struct akin_error *error);
void speaker_destroy(struct speaker **speaker);
/* The weight of the cosine of texts beside what is said. */
float speaker_text(const struct speaker *speaker, bool returning);
uint64_t speaker_bytes(const struct speaker *speaker);

/* What is said of whom, for a device that says it too. */
struct speaker_mood {
    const struct taste_weights *weights;
    const float *standing;      /* [item_count] what the past does not change */
    const uint32_t *order;      /* rows outside of the model by it, best first, ties by row */
};
const struct taste *speaker_taste(const struct speaker *speaker);
struct speaker_mood speaker_mood(const struct speaker *speaker, bool returning);

/* What was said of one past; the memory is used again for the next. Zeros at first. */
struct speech {
    struct taste_features features;
    float *scores;              /* [size] of the model's items */
    const struct speaker *speaker;  /* that the memory is of; NULL: there is none */
    bool returning;
    struct hit *hits;           /* of speech_best */
    uint32_t *picked;           /* [size + 16] of it */
    uint32_t *places;           /* of speech_situate, and where they come from */
    size_t hit_capacity, place_capacity;
};

void speech_deinit(struct speech *speech);

/* `past` [count] rows, oldest first; `returning`: the last of them was some time ago. Scores are
 * the greater the likelier; their differences are those of logarithms of odds, popularity included.
 * Allocates where the speech is of another speaker. Any thread. */
enum akin_status speaker_say(const struct speaker *speaker, const uint32_t *past, size_t count,
                             bool returning, struct speech *speech, struct akin_error *error);

/* Whether a word of it was learned: then wanted [SITUATION_TERMS_MAX] is filled in. */
bool speaker_minds(const struct speaker *speaker, const struct context *context, float *wanted);
/* What that is worth to rows [count], in nats and among them, after the past that was said last.
 * NAN: the model does not know the item. */
enum akin_status speech_situate(struct speech *speech, const float *wanted, const uint32_t *rows,
                                size_t count, float *lifts, struct akin_error *error);

float speech_score(const struct speech *speech, uint32_t row);
/* The `wanted` best of the rows whose bits are set, in any order, ties by row: *best [*found],
 * which the next call writes over. */
enum akin_status speech_best(struct speech *speech, const uint64_t *allowed, size_t wanted,
                             struct hit **best, size_t *found, struct akin_error *error);
