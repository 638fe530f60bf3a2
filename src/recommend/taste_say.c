/* What a learned taste says about one history. */
#include <math.h>
#include <string.h>

#include "compute/cpu/kernels.h"
#include "recommend/taste.h"

enum {
    FETCHED = 2,                /* rows ahead, */
    ENTRIES_EACH = 11,          /* a line of them for so many entries, which take 66 bytes */
};

static const float next_floor = 2e-4f, back_floor = 1e-5f, sequence_floor = 1e-6f;

const char *taste_part_name(enum taste_part part)
{
    static const char *const names[TASTE_PARTS] = {
        "popularity", "recent", "young", "ease", "ease_recent", "ease_scaled", "local", "next",
        "back", "sequence", "attention"
    };
    return names[part];
}

static float *scaled_log(const double *p, size_t n)
{
    double sum = 0;
    float *z = memory_alloc(n, sizeof *z);
    for (size_t i = 0; z && i < n; i++)
        sum += p[i];
    for (size_t i = 0; z && i < n; i++)
        z[i] = (float)log(p[i] / sum * (double)n + 0.02);
    return z;
}

static float *youth(const struct taste *t)
{
    float *young = memory_alloc(t->item_count, sizeof *young);
    double events = (double)t->events;
    for (size_t i = 0; young && i < t->item_count; i++)
        young[i] = t->chosen[i] > 0 ? (float)-log((events - t->first[i]) / events + 0.01) : 0;
    return young;
}

static float *log_shares(const struct taste *t, float floor)
{
    float *shares = memory_alloc(t->size, sizeof *shares);
    for (size_t j = 0; shares && j < t->size; j++)
        shares[j] = (float)log(t->chosen[t->items[j]] / (double)t->events + (double)floor);
    return shares;
}

enum akin_status taste_derive(struct taste *t, struct akin_error *error)
{
    t->item_part[TASTE_POPULARITY] = scaled_log(t->chosen, t->item_count);
    t->item_part[TASTE_RECENT] = scaled_log(t->recently, t->item_count);
    t->item_part[TASTE_YOUNG] = youth(t);
    t->next_share = log_shares(t, next_floor);
    t->back_share = log_shares(t, back_floor);
    t->sequence_share = log_shares(t, sequence_floor);
    t->places = memory_alloc(t->item_count, sizeof *t->places);
    bool done = t->next_share && t->back_share && t->sequence_share && t->places;
    for (int p = 0; p < TASTE_EASE; p++)
        done &= t->item_part[p] != NULL;
    if (!done)
        return error_memory(error);
    for (size_t i = 0; i < t->item_count; i++)
        t->places[i] = UINT32_MAX;
    for (size_t j = 0; j < t->size; j++)
        t->places[t->items[j]] = (uint32_t)j;
    return AKIN_OK;
}

enum akin_status taste_features_init(const struct taste *taste, struct taste_features *features,
                                     struct akin_error *error)
{
    *features = (struct taste_features){ 0 };
    bool done = true;
    for (int p = TASTE_EASE; p < TASTE_PARTS; p++)
        done &= (features->part[p] = memory_alloc_aligned(taste->size + GEMM_NR_MAX,
                                                          sizeof(float))) != NULL;
    features->log_logits = memory_alloc_aligned(taste->size + GEMM_NR_MAX, sizeof(float));
    if (taste->reranker.values) {
        done &= reranker_scratch_init(&taste->reranker, &features->reranker, NULL) == AKIN_OK;
        done &= (features->plain = memory_alloc(taste->size, sizeof *features->plain)) != NULL;
    }
    features->history = memory_alloc(TASTE_HISTORY_MAX, sizeof *features->history);
    if (done && features->history && features->log_logits)
        return AKIN_OK;
    taste_features_deinit(features);
    return error_memory(error);
}

void taste_features_deinit(struct taste_features *features)
{
    for (int p = 0; p < TASTE_PARTS; p++)
        memory_free(features->part[p]);
    memory_free(features->log_logits);
    reranker_scratch_deinit(&features->reranker);
    memory_free(features->history);
    memory_free(features->plain);
    *features = (struct taste_features){ 0 };
}

/* Rows are all over memory: a later one is fetched line by line while this one is added. */
static void add_row(const struct taste_rows *rows, const struct kernels *kernels, size_t item,
                    float weight, size_t later, float *out)
{
    if (rows->dense) {
        kernels->add_scaled_f32(out, rows->dense + item * rows->items, weight, rows->items);
        return;
    }
    const uint16_t *columns = taste_row_columns(rows, item);
    const float *values = taste_row_values(rows, item);
    const unsigned char *ahead = rows->cut + later * rows->stride;
    size_t step = ENTRIES_EACH;
    for (size_t k = 0; k < rows->width; k += step, ahead += 64) {
        size_t rest = rows->width - k, live = rest < step ? rest : step;
        __builtin_prefetch(ahead);
        for (size_t i = k; i < k + live; i++)
            out[columns[i]] += weight * values[i];
    }
}

struct told {
    const struct taste *taste;
    const struct kernels *kernels;
    const uint32_t *history;    /* places, oldest first */
    size_t count;
};

/* Half-lives, and the share of the slow one. */
static const struct memory {
    double fast, share, slow;
} memories[TASTE_PARTS] = {
    [TASTE_EASE] = { INFINITY, 0, 1 }, [TASTE_EASE_RECENT] = { 4, 0, 1 },
    [TASTE_LOCAL] = { 3, 0.1, 50 }, [TASTE_NEXT] = { 4, 0, 1 }, [TASTE_BACK] = { 10, 0, 1 },
};

double taste_age_weight(enum taste_part part, size_t age)
{
    const struct memory *m = &memories[part];
    double weight = isinf(m->fast) ? 1 : exp2(-(double)age / m->fast);
    if (m->share > 0)
        weight += m->share * exp2(-(double)age / m->slow);
    return weight < 1e-6 ? 0 : weight;
}

float taste_floor(enum taste_part part)
{
    return part == TASTE_NEXT ? next_floor : back_floor;
}

/* out = sum over the history of weight(age) times the row; returns the sum of the weights. */
static float add_rows(const struct told *told, const struct taste_rows *rows, enum taste_part part,
                      float *out)
{
    double total = 0;
    memset(out, 0, told->taste->size * sizeof *out);
    for (size_t age = 0; age < told->count; age++) {
        double weight = taste_age_weight(part, age);
        if (weight == 0)
            break;
        size_t later = age + FETCHED < told->count ? age + FETCHED : age;
        add_row(rows, told->kernels, told->history[told->count - 1 - age], (float)weight,
                told->history[told->count - 1 - later], out);
        total += weight;
    }
    return (float)total;
}

/* ease divided by the mean of its 20 greatest values over unseen items (those outside of the model
 * are 0), and at least by 0.05. */
static void scale_ease(const struct told *told, const float *ease, float *out)
{
    enum { GREATEST = 20 };
    float greatest[GREATEST] = { 0 }, sum = 0;      /* descending */
    size_t n = told->taste->size;
    memcpy(out, ease, n * sizeof *out);
    for (size_t e = 0; e < told->count; e++)
        out[told->history[e]] = 0;
    for (size_t j = 0; j < n; j++) {
        if (!(out[j] > greatest[GREATEST - 1]))
            continue;
        size_t at = GREATEST - 1;
        for (; at > 0 && greatest[at - 1] < out[j]; at--)
            greatest[at] = greatest[at - 1];
        greatest[at] = out[j];
    }
    for (size_t i = 0; i < GREATEST; i++)
        sum += greatest[i];
    sum /= GREATEST;
    memcpy(out, ease, n * sizeof *out);
    told->kernels->scale_f32(out, 1 / (sum > 0.05f ? sum : 0.05f), n);
}

static void say_lift(const struct told *told, const struct taste_rows *rows, enum taste_part part,
                     const float *shares, float *out)
{
    float floor = taste_floor(part), total = add_rows(told, rows, part, out), nothing = logf(floor);
    for (size_t j = 0; j < told->taste->size; j++)      /* mostly nothing */
        out[j] = (out[j] == 0 ? nothing : logf(out[j] / total + floor)) - shares[j];
}

/* ln of the sum of exp, by a scratch. */
static float log_total(const struct kernels *kernels, const float *logits, size_t count,
                       float *scratch)
{
    float top = logits[0];
    for (size_t j = 1; j < count; j++)
        top = logits[j] > top ? logits[j] : top;
    memcpy(scratch, logits, count * sizeof *logits);
    return logf(kernels->exp_sum_f32(scratch, top, count)) + top;
}

/* Logits become log softmax less the log of the items' shares. */
static void say_lift_of(const struct told *told, float *out, float *scratch)
{
    const struct taste *t = told->taste;
    float total = log_total(told->kernels, out, t->size, scratch);
    for (size_t j = 0; j < t->size; j++)
        out[j] -= total + t->sequence_share[j];
}

static void say_parts(const struct told *told, unsigned parts, struct taste_features *f)
{
    const struct taste *t = told->taste;
    if (parts & (TASTE_BIT(TASTE_EASE) | TASTE_BIT(TASTE_EASE_SCALED)))
        add_rows(told, &t->ease, TASTE_EASE, f->part[TASTE_EASE]);
    if (parts & TASTE_BIT(TASTE_EASE_SCALED))
        scale_ease(told, f->part[TASTE_EASE], f->part[TASTE_EASE_SCALED]);
    if (parts & TASTE_BIT(TASTE_EASE_RECENT))
        add_rows(told, &t->ease, TASTE_EASE_RECENT, f->part[TASTE_EASE_RECENT]);
    if (parts & TASTE_BIT(TASTE_LOCAL))
        add_rows(told, &t->local, TASTE_LOCAL, f->part[TASTE_LOCAL]);
    if (parts & TASTE_BIT(TASTE_NEXT))
        say_lift(told, &t->next, TASTE_NEXT, t->next_share, f->part[TASTE_NEXT]);
    if (parts & TASTE_BIT(TASTE_BACK))
        say_lift(told, &t->back, TASTE_BACK, t->back_share, f->part[TASTE_BACK]);
    if (parts & TASTE_BIT(TASTE_SEQUENCE)) {
        sequence_logits(&t->sequence, told->kernels, told->history, told->count,
                        f->part[TASTE_SEQUENCE]);
        say_lift_of(told, f->part[TASTE_SEQUENCE], f->log_logits);
    }
    if (parts & TASTE_BIT(TASTE_ATTENTION)) {
        reranker_encode(&t->reranker, told->kernels, told->history, told->count, NULL,
                        &f->reranker);
        reranker_logits(&t->reranker, told->kernels, f->reranker.state, NULL, NULL, t->size,
                        f->part[TASTE_ATTENTION]);
        say_lift_of(told, f->part[TASTE_ATTENTION], f->log_logits);
    }
}

void taste_say(const struct taste *taste, const struct kernels *kernels, const uint32_t *history,
               size_t count, unsigned parts, struct taste_features *features)
{
    struct told told = { taste, kernels, features->history, 0 };
    size_t first = TASTE_HISTORY_MAX;
    for (size_t e = count; e-- > 0 && first > 0;)   /* filled from its end */
        if (taste->places[history[e]] != UINT32_MAX)
            features->history[--first] = taste->places[history[e]];
    features->first = first;
    told.history += first;
    told.count = TASTE_HISTORY_MAX - first;
    ASSERT(!(parts & ~taste->parts & (TASTE_BIT(TASTE_PARTS) - 1)));
    if (told.count) {
        say_parts(&told, parts, features);
        return;
    }
    for (int p = TASTE_EASE; p < TASTE_PARTS; p++)
        memset(features->part[p], 0, taste->size * sizeof(float));
}

void taste_situate(const struct taste *t, const struct kernels *kernels, const float *wanted,
                   const uint32_t *places, size_t count, struct taste_features *f, float *lifts)
{
    const uint32_t nobody = (uint32_t)t->size;      /* an event that is left out */
    size_t events = TASTE_HISTORY_MAX - f->first;
    const uint32_t *history = events ? f->history + f->first : &nobody;
    float *plain = f->plain;
    if (!count)
        return;
    reranker_situate(&t->reranker, kernels, history, events ? events : 1, wanted, places, count,
                     &f->reranker, plain, lifts);
    float level = log_total(kernels, plain, count, f->log_logits) -
                  log_total(kernels, lifts, count, f->log_logits);
    for (size_t j = 0; j < count; j++)
        lifts[j] += level - plain[j];
}

void taste_stand(const struct taste *taste, const struct kernels *kernels,
                 const float weights[TASTE_PARTS], float *scores)
{
    memset(scores, 0, taste->item_count * sizeof *scores);
    for (int p = 0; p < TASTE_EASE; p++)
        if (weights[p] != 0)
            kernels->add_scaled_f32(scores, taste->item_part[p], weights[p], taste->item_count);
}

void taste_add(const struct taste *taste, const struct kernels *kernels,
               const struct taste_features *features, const float weights[TASTE_PARTS],
               float *scores)
{
    for (int p = TASTE_EASE; p < TASTE_PARTS; p++)
        if (weights[p] != 0)
            kernels->blend_f32(scores, 1, features->part[p], weights[p], taste->size);
}

void taste_blend(const struct taste *taste, const struct kernels *kernels,
                 const struct taste_features *features, const float weights[TASTE_PARTS],
                 float *scores)
{
    float *own = features->log_logits;      /* scratch from here on */
    taste_stand(taste, kernels, weights, scores);
    for (size_t j = 0; j < taste->size; j++)
        own[j] = scores[taste->items[j]];
    taste_add(taste, kernels, features, weights, own);
    for (size_t j = 0; j < taste->size; j++)
        scores[taste->items[j]] = own[j];
}
