/* See personal_taste.h. */
#include "recommend/personal_taste.h"

#include "base/memory.h"

/* What each sum is of. */
static const struct {
    enum taste_part part;
    size_t rows;                /* where in struct taste */
} sums[PERSONAL_SUMS] = {
    [PERSONAL_EASE] = { TASTE_EASE, offsetof(struct taste, ease) },
    [PERSONAL_EASE_RECENT] = { TASTE_EASE_RECENT, offsetof(struct taste, ease) },
    [PERSONAL_LOCAL] = { TASTE_LOCAL, offsetof(struct taste, local) },
    [PERSONAL_NEXT] = { TASTE_NEXT, offsetof(struct taste, next) },
    [PERSONAL_BACK] = { TASTE_BACK, offsetof(struct taste, back) },
};

static const struct taste_rows *rows_of(const struct taste *t, int sum)
{
    return (const void *)((const char *)t + sums[sum].rows);
}

/* Weights of ages, and behind them their sums; returns what comes behind. */
static float *make_sum(const struct taste *t, int which, struct personal_sum *sum, float *at)
{
    const struct taste_rows *rows = rows_of(t, which);
    enum taste_part part = sums[which].part;
    float *weights = at, *totals = at + PERSONAL_HISTORY_MAX;
    double total = 0;
    for (size_t age = 0; age < PERSONAL_HISTORY_MAX; age++) {
        double weight = taste_age_weight(part, age);
        weights[age] = (float)weight;
        total += weight;
        totals[age + 1] = (float)total;
    }
    *sum = (struct personal_sum){ .rows = rows->cut, .width = rows->width, .stride = rows->stride,
                                  .weights = weights, .totals = totals };
    if (part == TASTE_NEXT || part == TASTE_BACK) {
        sum->shares = part == TASTE_NEXT ? t->next_share : t->back_share;
        sum->floor = taste_floor(part);
    }
    return totals + PERSONAL_HISTORY_MAX + 1;
}

static void make_sequence(const struct taste *t, struct personal_sequence *to, float *at)
{
    const struct sequence_model *m = &t->sequence;
    float *output = at, *scale = output + (m->dim + 1) * t->size;
    float *weights = scale + PERSONAL_HEADS * m->dim;
    float *totals = weights + PERSONAL_HEADS * SEQUENCE_LIST_MAX;
    for (size_t d = 0; d <= m->dim; d++)
        for (size_t item = 0; item < t->size; item++)
            output[d * t->size + item] = *sequence_output(m, item, d);
    for (size_t head = 0; head < PERSONAL_HEADS; head++) {
        float *own = weights + head * SEQUENCE_LIST_MAX;
        float *sum = totals + head * (SEQUENCE_LIST_MAX + 1);
        for (size_t d = 0; d < m->dim; d++)
            scale[head * m->dim + d] = m->scale[head][d];
        for (size_t age = 0; age < SEQUENCE_LIST_MAX; age++) {
            own[age] = sequence_weight(head, age);
            sum[age + 1] = sum[age] + own[age];
        }
    }
    *to = (struct personal_sequence){ .dim = m->dim, .length = SEQUENCE_LIST_MAX,
                                      .history = m->history, .output = output, .scale = scale,
                                      .weights = weights, .totals = totals,
                                      .shares = t->sequence_share };
}

/* Whether a device has all that the mood weighs. */
static bool is_known(const struct taste *t, const struct taste_weights *weights)
{
    bool known = weights->part[TASTE_ATTENTION] == 0 &&
                 (weights->part[TASTE_SEQUENCE] == 0 || t->sequence.output);
    for (int i = 0; i < PERSONAL_SUMS; i++)
        known &= weights->part[sums[i].part] == 0 || rows_of(t, i)->cut;
    return known && (weights->part[TASTE_EASE_SCALED] == 0 || t->ease.cut);
}

static bool make_mood(const struct speaker *s, bool returning, struct personal_mood *to)
{
    struct speaker_mood mood = speaker_mood(s, returning);
    const float *parts = mood.weights->part;
    if (!is_known(speaker_taste(s), mood.weights))
        return false;
    *to = (struct personal_mood){ .standing = mood.standing, .order = mood.order,
                                  .scaled = parts[TASTE_EASE_SCALED],
                                  .sequence = parts[TASTE_SEQUENCE], .text = mood.weights->text };
    for (int i = 0; i < PERSONAL_SUMS; i++)
        to->sums[i] = parts[sums[i].part];
    return true;
}

enum akin_status personal_model_make(const struct speaker *s, struct personal_model *model,
                                     struct akin_error *error)
{
    const struct taste *t = speaker_taste(s);
    struct personal_taste *to = &model->taste;
    size_t dim = t->sequence.output ? t->sequence.dim : 0;
    *model = (struct personal_model){ .taste = { .size = t->size, .items = t->items,
                                                 .places = t->places } };
    bool one = make_mood(s, false, &to->moods[false]), other = make_mood(s, true, &to->moods[true]);
    if (!one && !other)
        return error_set(error, AKIN_UNSUPPORTED, "the learned taste weighs what a GPU does not "
                         "have yet: people are ranked on the CPU");
    model->made = memory_alloc(PERSONAL_SUMS * (2 * PERSONAL_HISTORY_MAX + 1) +
                               (dim + 1) * t->size + PERSONAL_HEADS * dim +
                               PERSONAL_HEADS * (2 * SEQUENCE_LIST_MAX + 1), sizeof *model->made);
    if (!model->made)
        return error_memory(error);
    float *at = model->made;
    for (int i = 0; i < PERSONAL_SUMS; i++)
        if (rows_of(t, i)->cut)
            at = make_sum(t, i, &to->sums[i], at);
    if (dim)
        make_sequence(t, &to->sequence, at);
    return AKIN_OK;
}

void personal_model_deinit(struct personal_model *model)
{
    memory_free(model->made);
    *model = (struct personal_model){ .made = NULL };
}
