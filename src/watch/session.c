#include "watch/session.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"

enum {
    BUCKETS = 256,      /* of the count vector */
    VECTORS_MAX = 4096, /* distinct ones that are kept */
    GRAMS_MAX = 1 << 20,
    AGE = 1 << 15,      /* sessions learned, after which what is known counts half */
    KINDS_MAX = 64,     /* of one session, whose followers are looked at */
    FOLLOWERS_MAX = 64, /* of one kind */
    SEEN_MIN = 20,      /* sessions that a kind was in before a follower is expected */
};

struct followers {
    double sessions;
    uint64_t kind[FOLLOWERS_MAX];
    float count[FOLLOWERS_MAX];
    size_t used;
};

struct session_model {
    double sessions;                /* aged */
    size_t learned;                 /* since all was halved */
    struct number_map grams; /* hash of three kinds -> sessions that had it, since all was halved */
    struct number_map grams_before; /* the same of the time before, which counts half */
    size_t learned_before;
    struct number_map vectors;      /* hash of a count vector -> row */
    float *rows;                    /* [VECTORS_MAX][BUCKETS], ln(1 + count) */
    double *counts;                 /* [VECTORS_MAX] sessions that had it */
    size_t row_count;
    double with[BUCKETS];           /* sessions that have the bucket */
    struct number_map kinds;        /* kind -> place in followers */
    struct followers *followers;
    size_t follower_count, follower_capacity;
};

struct session_model *session_model_create(void)
{
    struct session_model *m = memory_alloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->rows = memory_alloc_aligned((size_t)VECTORS_MAX * BUCKETS, sizeof *m->rows);
    m->counts = memory_alloc(VECTORS_MAX, sizeof *m->counts);
    if (!m->rows || !m->counts)
        session_model_destroy(&m);
    return m;
}

void session_model_destroy(struct session_model **model)
{
    struct session_model *m = *model;
    if (!m)
        return;
    number_map_deinit(&m->grams);
    number_map_deinit(&m->grams_before);
    number_map_deinit(&m->vectors);
    number_map_deinit(&m->kinds);
    memory_free(m->rows);
    memory_free(m->counts);
    memory_free(m->followers);
    memory_free(m);
    *model = NULL;
}

double session_model_count(const struct session_model *model)
{
    return model->sessions;
}

static void count_vector(const struct session *s, float vector[BUCKETS])
{
    memset(vector, 0, BUCKETS * sizeof *vector);
    for (size_t i = 0; i < s->step_count; i++)
        vector[(s->steps[i].kind >> 8) % BUCKETS] += 1;
    for (size_t b = 0; b < BUCKETS; b++)
        vector[b] = log1pf(vector[b]);
}

/* The i-th 3-gram; two marks stand before the first step and one behind the last. */
static uint64_t gram(const struct session *s, size_t i)
{
    uint64_t key[3];
    for (size_t j = 0; j < 3; j++) {
        size_t at = i + j;
        key[j] = at < 2 ? 1 : at - 2 < s->step_count ? s->steps[at - 2].kind : 2;
    }
    return hash_bytes(key, sizeof key);
}

/* Kinds in the order in which they first come, with the place of their last coming. */
static size_t kinds_of(const struct session *s, uint64_t kind[KINDS_MAX], size_t first[KINDS_MAX],
                       size_t last[KINDS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < s->step_count; i++) {
        size_t k = 0;
        while (k < count && kind[k] != s->steps[i].kind)
            k++;
        if (k == count) {
            if (count == KINDS_MAX)
                continue;
            kind[count] = s->steps[i].kind;
            first[count++] = i;
        }
        last[k] = i;
    }
    return count;
}

static struct followers *followers_of(const struct session_model *m, uint64_t kind)
{
    uint64_t place;
    return number_map_get(&m->kinds, kind, &place) ? &m->followers[place] : NULL;
}

static bool learn_followers(struct session_model *m, const struct session *s)
{
    uint64_t kind[KINDS_MAX];
    size_t first[KINDS_MAX], last[KINDS_MAX], count = kinds_of(s, kind, first, last);
    for (size_t a = 0; a < count; a++) {
        struct followers *f = followers_of(m, kind[a]);
        if (!f) {
            if (!array_reserve((void **)&m->followers, &m->follower_capacity,
                               m->follower_count + 1, sizeof *m->followers)
                || !number_map_set(&m->kinds, kind[a], m->follower_count))
                return false;
            f = &m->followers[m->follower_count++];
            *f = (struct followers){0};
        }
        f->sessions += 1;
        for (size_t b = 0; b < count; b++) {
            size_t at = 0;
            if (last[b] <= first[a])
                continue;
            while (at < f->used && f->kind[at] != kind[b])
                at++;
            if (at == FOLLOWERS_MAX)
                continue;
            f->count[at] = at < f->used ? f->count[at] + 1 : 1;
            f->kind[at] = kind[b];
            f->used += at == f->used;
        }
    }
    return true;
}

static bool learn_vector(struct session_model *m, const struct session *s)
{
    float vector[BUCKETS];
    uint64_t row;
    bool added;
    count_vector(s, vector);
    for (size_t b = 0; b < BUCKETS; b++)
        m->with[b] += vector[b] > 0;
    uint64_t key = hash_bytes(vector, sizeof vector);
    if (m->row_count == VECTORS_MAX && !number_map_get(&m->vectors, key, &row))
        return true;
    if (!number_map_put(&m->vectors, key, m->row_count, &row, &added))
        return false;
    if (added) {
        memcpy(m->rows + row * BUCKETS, vector, sizeof vector);
        m->counts[row] = 0;
        m->row_count++;
    }
    m->counts[row] += 1;
    return true;
}

/* Vectors of which half a session is left are forgotten. */
static bool age_vectors(struct session_model *m)
{
    size_t kept = 0;
    number_map_deinit(&m->vectors);
    for (size_t r = 0; r < m->row_count; r++) {
        float *row = m->rows + r * BUCKETS;
        m->counts[r] /= 2;
        if (m->counts[r] <= 0.5)
            continue;
        if (kept < r)
            memcpy(m->rows + kept * BUCKETS, row, BUCKETS * sizeof *row);
        m->counts[kept] = m->counts[r];
        if (!number_map_set(&m->vectors, hash_bytes(row, BUCKETS * sizeof *row), kept))
            return false;
        kept++;
    }
    m->row_count = kept;
    return true;
}

/* Halves everything, so that what has changed for good is normal some day. */
static bool age(struct session_model *m)
{
    m->sessions /= 2;
    m->learned_before = m->learned;
    m->learned = 0;
    number_map_deinit(&m->grams_before);
    m->grams_before = m->grams;
    m->grams = (struct number_map){0};
    for (size_t b = 0; b < BUCKETS; b++)
        m->with[b] /= 2;
    for (size_t i = 0; i < m->follower_count; i++) {
        m->followers[i].sessions /= 2;
        for (size_t k = 0; k < m->followers[i].used; k++)
            m->followers[i].count[k] /= 2;
    }
    return age_vectors(m);
}

bool session_model_learn(struct session_model *m, const struct session *s)
{
    struct number_map seen = {0};
    bool fine = true;
    if (m->learned == AGE && !age(m))
        return false;
    m->sessions += 1;
    m->learned++;
    for (size_t i = 0; i <= s->step_count && fine; i++) {
        uint64_t key = gram(s, i), count = 0;
        bool added;
        fine = number_map_put(&seen, key, 1, NULL, &added);
        if (fine && added && (number_map_get(&m->grams, key, &count) || m->grams.count < GRAMS_MAX))
            fine = number_map_set(&m->grams, key, count + 1);
    }
    number_map_deinit(&seen);
    return fine && learn_vector(m, s) && learn_followers(m, s);
}

/* Mean surprise of the 3-grams. */
static double measure_order(const struct session_model *m, const struct session *s, bool own)
{
    double sum = 0, total = (double)m->learned + (double)m->learned_before / 2 - own;
    for (size_t i = 0; i <= s->step_count; i++) {
        uint64_t count = 0, before = 0, key = gram(s, i);
        number_map_get(&m->grams, key, &count);
        number_map_get(&m->grams_before, key, &before);
        double others = (double)count + (double)before / 2 - own;
        sum -= log(((others > 0 ? others : 0) + 0.5) / (total + 1));
    }
    return sum / (double)(s->step_count + 1);
}

/* Square of the weighted distance; the same lanes on every machine. */
static float row_distance(const float *row, const float *vector, const float *weight)
{
    enum { LANES = 8 };
    float lane[LANES] = {0};
    for (size_t b = 0; b < BUCKETS; b += LANES)
        for (size_t l = 0; l < LANES; l++) {
            float d = (row[b + l] - vector[b + l]) * weight[b + l];
            lane[l] += d * d;
        }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* The distance within which at least three sessions lie, and half a per cent of all: a few bad
 * sessions of one kind in the history do not vouch for the next one. Relative to the length of the
 * vector, buckets weighed by how few sessions have them. */
static double measure_counts(const struct session_model *m, const struct session *s, bool own)
{
    enum { NEAR = 32 };
    float vector[BUCKETS], weight[BUCKETS];
    double near[NEAR], mass[NEAR], length = 1e-9, total = m->sessions;
    double need = total * 0.005 > 3 ? total * 0.005 : 3;
    size_t count = 0;
    count_vector(s, vector);
    for (size_t b = 0; b < BUCKETS; b++) {
        double w = log((total + 1) / (m->with[b] + 0.5));
        weight[b] = (float)(w > 0.05 ? w : 0.05);
        length += (double)(vector[b] * vector[b] * weight[b] * weight[b]);
    }
    for (size_t r = 0; r < m->row_count; r++) {
        const float *row = m->rows + r * BUCKETS;
        float sum = row_distance(row, vector, weight);
        double others = m->counts[r] - (own && memcmp(row, vector, sizeof vector) == 0);
        if (others <= 0 || (count == NEAR && (double)sum >= near[NEAR - 1]))
            continue;
        size_t at = count < NEAR ? count++ : NEAR - 1;
        for (; at > 0 && near[at - 1] > (double)sum; at--) {
            near[at] = near[at - 1];
            mass[at] = mass[at - 1];
        }
        near[at] = (double)sum;
        mass[at] = others;
    }
    double reached = 0, distance = 0;
    for (size_t i = 0; i < count && reached < need; i++) {
        double take = mass[i] < need - reached ? mass[i] : need - reached;
        distance += take * sqrt(near[i]);
        reached += take;
    }
    return reached > 0 ? distance / reached / sqrt(length) : 1;
}

/* The most certain follower that did not come. */
static double measure_missing(const struct session_model *m, const struct session *s)
{
    uint64_t kind[KINDS_MAX];
    size_t first[KINDS_MAX], last[KINDS_MAX], count = kinds_of(s, kind, first, last);
    double worst = 0;
    for (size_t a = 0; a < count; a++) {
        const struct followers *f = followers_of(m, kind[a]);
        for (size_t i = 0; f && f->sessions >= SEEN_MIN && i < f->used; i++) {
            size_t b = 0;
            while (b < count && (kind[b] != f->kind[i] || last[b] <= first[a]))
                b++;
            double surprise = -log((f->sessions - (double)f->count[i] + 0.5) / (f->sessions + 1));
            if (b == count && surprise > worst)
                worst = surprise;
        }
    }
    return worst;
}

void session_model_measure(struct session_model *m, const struct session *s, bool own,
                           double parts[SESSION_PARTS])
{
    parts[SESSION_COUNTS] = measure_counts(m, s, own);
    parts[SESSION_ORDER] = measure_order(m, s, own);
    parts[SESSION_MISSING] = measure_missing(m, s);
}
