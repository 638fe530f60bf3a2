/* The measurement behind precision "auto": speed, cosines and neighbours of each precision over the
 * same texts. The precisions take turns, a few texts each, so that a machine that is busy for a
 * while slows all of them down alike. A card computes its few texts many times over, or its speed
 * would be that of waiting. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/model.h"
#include "model/precision.h"
#include "model/sample.h"

enum {
    TURN_TEXTS = 60,            /* texts that one precision embeds before the next one does */
    TURNS = SAMPLE_TEXTS / TURN_TEXTS,
    WARM_UP_TEXTS = 16,
    ROUNDS_MAX = 5,
    NEIGHBOURS = 10,
    COPIES = 32,                /* of the texts of a turn, on cards */
};

/* A further round only while all of them took less; half of the texts where a round would take
 * longer than this. */
#define ROUNDS_NS ((uint64_t)800000000)

struct contender {
    enum akin_precision precision;
    struct model *model;
    size_t copies;
    float *vectors;             /* [texts][dimension] */
    uint64_t best_ns[TURNS];
};

struct trial {
    struct contender contenders[AKIN_PRECISIONS];
    size_t count, texts, dimension;
    struct akin_text sample[SAMPLE_TEXTS];
    struct akin_text many[TURN_TEXTS * COPIES];
    float *scratch;             /* [many][dimension] */
    struct string_pool pool;
};

static enum akin_status open_one(const struct precision_place *place, enum akin_precision precision,
                                 struct contender *c, struct akin_error *reason)
{
    *c = (struct contender){ .precision = precision, .copies = 1 };
    if (!place->cards || precision == AKIN_PRECISION_FP32)
        return model_open(place->backend, place->pool, place->directory, precision, place->log,
                          &c->model, reason);
    c->copies = COPIES;
    return model_open_on_cards(place->cards, place->pool, place->directory, precision, place->log,
                               &c->model, reason);
}

static enum akin_status open_all(const struct precision_place *place, struct trial *t,
                                 struct akin_error *error)
{
    const enum akin_precision precisions[] = {
        AKIN_PRECISION_FP32, place->cards ? AKIN_PRECISION_FP16 : AKIN_PRECISION_BF16,
        AKIN_PRECISION_INT8
    };
    for (size_t i = 0; i < AKIN_PRECISIONS; i++) {
        struct contender *c = &t->contenders[t->count];
        struct akin_error reason = { 0 };
        struct akin_model_info info;
        enum akin_status status = open_one(place, precisions[i], c, &reason);
        if (status == AKIN_UNSUPPORTED && i > 0)
            continue;
        if (status != AKIN_OK) {
            if (error)
                *error = reason;
            return status;
        }
        model_info(c->model, &info);
        t->dimension = info.dimension;
        t->count++;
        size_t floats;
        if (!size_mul(SAMPLE_TEXTS, info.dimension, &floats))
            return error_memory(error);
        c->vectors = memory_alloc_aligned(floats, sizeof *c->vectors);
        if (!c->vectors)
            return error_memory(error);
    }
    if (place->cards)
        t->scratch = memory_alloc_aligned((size_t)TURN_TEXTS * COPIES * t->dimension,
                                          sizeof *t->scratch);
    return t->scratch || !place->cards ? AKIN_OK : error_memory(error);
}

static enum akin_status embed(struct trial *t, struct contender *c, size_t first, size_t count,
                              uint64_t *took_ns, struct akin_error *error)
{
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    settings.normalize = AKIN_NORMALIZE_YES;
    settings.deduplicate = false;
    const struct akin_text *texts = t->sample + first;
    float *vectors = c->vectors + first * t->dimension, *to = vectors;
    if (c->copies > 1) {
        for (size_t i = 0; i < c->copies * count; i++)
            t->many[i] = texts[i % count];
        texts = t->many;
        to = t->scratch;
    }
    uint64_t began = clock_monotonic_ns();
    enum akin_status status = model_embed(c->model, texts, c->copies * count, &settings, to, NULL,
                                          error);
    *took_ns = clock_monotonic_ns() - began;
    if (status == AKIN_OK && to != vectors)
        memcpy(vectors, to, count * t->dimension * sizeof *vectors);
    return status;
}

static enum akin_status run_round(struct trial *t, bool first_round, struct akin_error *error)
{
    for (size_t turn = 0; turn < t->texts / TURN_TEXTS; turn++)
        for (size_t i = 0; i < t->count; i++) {
            struct contender *c = &t->contenders[i];
            uint64_t took;
            TRY(embed(t, c, turn * TURN_TEXTS, TURN_TEXTS, &took, error));
            if (first_round || took < c->best_ns[turn])
                c->best_ns[turn] = took;
        }
    return AKIN_OK;
}

static enum akin_status run_all(struct trial *t, struct akin_error *error)
{
    uint64_t took = 0;
    for (size_t i = t->count; i-- > 0;)     /* fp32 last: its time decides how many texts */
        TRY(embed(t, &t->contenders[i], 0, WARM_UP_TEXTS, &took, error));
    t->texts = took * SAMPLE_TEXTS / WARM_UP_TEXTS < 2 * ROUNDS_NS ? SAMPLE_TEXTS
                                                                   : SAMPLE_TEXTS / 2;
    uint64_t began = clock_monotonic_ns();
    TRY(run_round(t, true, error));
    for (int round = 1; round < ROUNDS_MAX && clock_monotonic_ns() - began < ROUNDS_NS; round++)
        TRY(run_round(t, false, error));
    return AKIN_OK;
}

/* ---- what came out ---------------------------------------------------------------------- */

static void compare_cosines(const struct trial *t, const struct contender *c,
                            struct akin_precision_figures *figures)
{
    const float *exact = t->contenders[0].vectors;
    double sum = 0, least = 1;
    for (size_t i = 0; i < t->texts; i++) {
        const float *a = exact + i * t->dimension, *b = c->vectors + i * t->dimension;
        double ab = 0, aa = 0, bb = 0;
        for (size_t d = 0; d < t->dimension; d++) {
            ab += (double)a[d] * b[d];
            aa += (double)a[d] * a[d];
            bb += (double)b[d] * b[d];
        }
        double cosine = aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;  /* a NaN fails every gate */
        cosine = cosine > 1 ? 1 : cosine;
        sum += cosine;
        if (!(cosine >= least))
            least = cosine;
    }
    figures->cosine_mean = sum / (double)t->texts;
    figures->cosine_min = least;
}

/* hits [texts][NEIGHBOURS], without the text itself. */
static enum akin_status find_neighbours(const struct precision_place *place, const struct trial *t,
                                        const struct contender *c, struct hit *hits,
                                        struct akin_error *error)
{
    size_t found[SAMPLE_TEXTS];
    uint32_t self[SAMPLE_TEXTS];
    struct row_list skip[SAMPLE_TEXTS];
    for (size_t i = 0; i < t->texts; i++) {
        self[i] = (uint32_t)i;
        skip[i] = (struct row_list){ .rows = &self[i], .count = 1 };
    }
    struct topk_request request = { .rows = c->vectors, .row_count = t->texts,
                                    .dim = t->dimension, .queries = c->vectors,
                                    .query_count = t->texts, .k = NEIGHBOURS,
                                    .score = SCORE_INNER_PRODUCT, .skip = skip };
    return cpu_topk(place->backend, &request, hits, found, error);
}

static double share_kept(const struct hit *a, const struct hit *b, size_t texts)
{
    size_t kept = 0;
    for (size_t i = 0; i < texts; i++)
        for (size_t x = 0; x < NEIGHBOURS; x++)
            for (size_t y = 0; y < NEIGHBOURS; y++)
                kept += a[i * NEIGHBOURS + x].row == b[i * NEIGHBOURS + y].row;
    return (double)kept / (double)(texts * NEIGHBOURS);
}

static enum akin_status conclude(const struct precision_place *place, const struct trial *t,
                                 struct akin_verdict *verdict, struct akin_error *error)
{
    struct hit *exact = memory_alloc((size_t)SAMPLE_TEXTS * NEIGHBOURS, sizeof *exact);
    struct hit *hits = memory_alloc((size_t)SAMPLE_TEXTS * NEIGHBOURS, sizeof *hits);
    enum akin_status status = exact && hits ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK)
        status = find_neighbours(place, t, &t->contenders[0], exact, error);
    for (size_t i = 0; status == AKIN_OK && i < t->count; i++) {
        const struct contender *c = &t->contenders[i];
        struct akin_precision_figures *figures = &verdict->figures[i];
        uint64_t ns = 1;
        for (size_t turn = 0; turn < t->texts / TURN_TEXTS; turn++)
            ns += c->best_ns[turn];
        figures->precision = c->precision;
        figures->texts_per_second = (double)(t->texts * c->copies) * 1e9 / (double)ns;
        compare_cosines(t, c, figures);
        status = find_neighbours(place, t, c, hits, error);
        figures->neighbours_kept = share_kept(exact, hits, t->texts);
    }
    memory_free(hits);
    memory_free(exact);
    verdict->count = t->count;
    verdict->texts = t->texts;
    return status;
}

enum akin_status precision_measure(const struct precision_place *place,
                                   struct akin_verdict *verdict, struct akin_error *error)
{
    struct trial *t = memory_alloc(1, sizeof *t);
    if (!t)
        return error_memory(error);
    *verdict = (struct akin_verdict){ .chosen = AKIN_PRECISION_FP32 };
    clock_iso(clock_unix_seconds(), verdict->measured, sizeof verdict->measured);
    enum akin_status status =
        sample_texts(&t->pool, t->sample, SAMPLE_TEXTS) ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK)
        status = open_all(place, t, error);
    if (status == AKIN_OK)
        status = run_all(t, error);
    if (status == AKIN_OK)
        status = conclude(place, t, verdict, error);
    if (status == AKIN_OK)
        precision_judge(verdict, place->cards != NULL);
    for (size_t i = 0; i < AKIN_PRECISIONS; i++) {
        model_close(&t->contenders[i].model);
        memory_free(t->contenders[i].vectors);
    }
    string_pool_deinit(&t->pool);
    memory_free(t->scratch);
    memory_free(t);
    return status;
}
