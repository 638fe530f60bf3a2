/* Personal requests on a device against the same done here in double: people, words, both, pasts,
 * masks, what is left out, popularity, requests that point nowhere; the same bits for a request
 * alone and in company. Scores are within ROUNDING; the order is that of the scores here wherever
 * these differ by more.
 *
 *   personal_devicecheck [cuda [--bench]]   --bench: also rates over 62,423 rows of 384
 *
 * Exit status: 0 fine, 1 failed, 2 wrong use, 77 there is no card. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/rng.h"
#include "device_check.h"
#include "personal_rooms.h"

enum { SCALE_BEST = 10, TEXT_OFFERS = 40, OFFERS = 200, SKIPPED_MAX = 300, MASKS = 2 };

#define ROUNDING 4e-6

static struct rng rng;
static const struct search_device_ops *search_ops;

static void expect(bool ok, const char *what, size_t rows, size_t request, double found)
{
    checks++;
    if (ok)
        return;
    if (failures++ < 20)
        printf("FAILED %s: %zu rows, request %zu: %.9g\n", what, rows, request, found);
}

/* ---- data ------------------------------------------------------------------------------- */

struct data {
    size_t rows, dim, words, width;
    bool alike;                         /* rows are nearly one of a few */
    float *row, *mean, *popularity;     /* [rows][dim], [dim], [rows] */
    uint64_t *texted, *masks;           /* [words], [MASKS][words] */
    uint64_t *starts;
    struct item_weight *entries;
    uint32_t *by_popularity;
    struct search_device *search;
    struct personal_device *device;
    /* requests, and the memory of theirs */
    size_t count;
    struct asked *requests;
    float *vectors;                     /* [2 count][dim] */
    uint32_t *past, *skip;              /* [count][PERSONAL_PAST_MAX], [count][SKIPPED_MAX] */
    float *past_weights;
};

static float *normals(size_t count, float scale)
{
    float *numbers = must_have(memory_alloc_aligned(count + 1, sizeof *numbers));
    for (size_t i = 0; i < count; i++)
        numbers[i] = scale * rng_normal(&rng);
    return numbers;
}

/* Weights have few values, so that ties are many; every ninth item has none. Some are below 0: they
 * are none, whatever they name. */
static void draw_similar(struct data *d)
{
    d->starts = must_have(memory_alloc(d->rows + 1, sizeof *d->starts));
    d->entries = must_have(memory_alloc(d->rows * d->width + 1, sizeof *d->entries));
    for (size_t row = 0; row < d->rows; row++) {
        size_t width = row % 9 ? d->width : 0, step = 1 + rng_below(&rng, d->rows / d->width);
        size_t from = rng_below(&rng, d->rows);
        d->starts[row + 1] = d->starts[row] + width;
        for (size_t i = 0; i < width; i++) {
            size_t sixteenths = rng_below(&rng, 20);
            d->entries[d->starts[row] + i] = sixteenths
                ? (struct item_weight){ (uint32_t)((from + i * step) % d->rows),
                                        (float)sixteenths / 16 }
                : (struct item_weight){ (uint32_t)d->rows + 9, -1 };
        }
    }
}

static int more_popular(const void *a, const void *b, void *context)
{
    const float *popularity = context;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return popularity[x] != popularity[y] ? (popularity[x] > popularity[y] ? -1 : 1)
                                          : (x > y) - (x < y);
}

static void draw_items(struct data *d)
{
    size_t popular = d->rows < 4096 ? d->rows : 4096;
    d->row = normals(d->rows * d->dim, 1);
    d->mean = normals(d->dim, 0.05f);
    for (size_t row = 0; row < d->rows; row++) {
        for (size_t i = 0; d->alike && row >= 5 && i < d->dim; i++)
            d->row[row * d->dim + i] = d->row[row % 5 * d->dim + i] + 1e-5f * rng_normal(&rng);
        unit(d->row + row * d->dim, d->dim);
    }
    d->texted = must_have(memory_alloc(d->words, sizeof *d->texted));
    d->masks = must_have(memory_alloc(MASKS * d->words, sizeof *d->masks));
    d->popularity = must_have(memory_alloc(d->rows, sizeof *d->popularity));
    d->by_popularity = must_have(memory_alloc(d->rows, sizeof *d->by_popularity));
    for (size_t row = 0; row < d->rows; row++) {
        d->texted[row / 64] |= (uint64_t)(row % 11 != 5) << row % 64;
        d->masks[row / 64] |= (uint64_t)(rng_below(&rng, 2) == 0) << row % 64;
        d->masks[d->words + row / 64] |= (uint64_t)(row > d->rows / 4) << row % 64;
        d->popularity[row] = (float)rng_below(&rng, 1000) / 1000;
        d->by_popularity[row] = (uint32_t)row;
    }
    qsort_r(d->by_popularity, d->rows, sizeof *d->by_popularity, more_popular, d->popularity);
    draw_similar(d);
    struct personal_items items = {
        .mean = d->mean, .texted = d->texted, .similar = { d->rows, d->starts, d->entries },
        .popularity = d->popularity, .by_popularity = d->by_popularity, .popular_count = popular,
    };
    must(search_ops->create(0, d->row, d->rows, d->dim, &d->search, &error));
    must(ops->create(0, d->search, &items, &d->device, &error));
}

/* Every kind of request: a query, a person, both, neither; with a past or not; all of it masked in
 * some way. */
static void draw_requests(struct data *d)
{
    d->requests = must_have(memory_alloc(d->count, sizeof *d->requests));
    d->vectors = normals(2 * d->count * d->dim, 0.7f);
    d->past = must_have(memory_alloc(d->count, PERSONAL_PAST_MAX * sizeof *d->past));
    d->past_weights = must_have(memory_alloc(d->count, PERSONAL_PAST_MAX * sizeof(float)));
    d->skip = must_have(memory_alloc(d->count, SKIPPED_MAX * sizeof *d->skip));
    for (size_t q = 0; q < d->count; q++) {
        struct asked *r = &d->requests[q];
        size_t kind = q % 7;
        *r = (struct asked){
            .query = kind != 1 && kind != 4 ? d->vectors + 2 * q * d->dim : NULL,
            .person = kind != 2 && kind != 4 ? d->vectors + (2 * q + 1) * d->dim : NULL,
            .share = kind == 3 ? 1 : 0.7f, .past = d->past + q * PERSONAL_PAST_MAX,
            .past_weights = d->past_weights + q * PERSONAL_PAST_MAX,
            .past_count = kind == 2 ? 0 : q % 5 ? PERSONAL_PAST_MAX : 1 + q % 3,
            .skip = d->skip + q * SKIPPED_MAX, .skip_count = q % 3 ? q * 37 % SKIPPED_MAX : 0,
            .mood = PERSONAL_NO_MOOD, .mask = q % 4 < MASKS ? (uint32_t)(q % 4) : UINT32_MAX,
            .text = 0.8f, .taste = 0.5f, .popularity = kind >= 4 ? 0.25f : 0,
        };
        for (size_t i = 0; i < r->past_count; i++) {
            d->past[q * PERSONAL_PAST_MAX + i] = (uint32_t)rng_below(&rng, d->rows);
            d->past_weights[q * PERSONAL_PAST_MAX + i] =
                (float)exp2(-(double)i / 5) * (i == 7 ? -1 : 1);
        }
        for (size_t i = 0; i < r->skip_count; i++)
            d->skip[q * SKIPPED_MAX + i] = (uint32_t)rng_below(&rng, d->rows);
    }
}

static void data_init(struct data *d, size_t rows, size_t dim, size_t width, size_t count,
                      bool alike)
{
    *d = (struct data){ .rows = rows, .dim = dim, .words = (rows + 63) / 64, .width = width,
                        .alike = alike, .count = count };
    dim_here = dim;
    draw_items(d);
    draw_requests(d);
}

static void data_deinit(struct data *d)
{
    ops->destroy(&d->device);
    search_ops->destroy(&d->search);
    memory_free(d->row);
    memory_free(d->mean);
    memory_free(d->popularity);
    memory_free(d->texted);
    memory_free(d->masks);
    memory_free(d->starts);
    memory_free(d->entries);
    memory_free(d->by_popularity);
    memory_free(d->requests);
    memory_free(d->vectors);
    memory_free(d->past);
    memory_free(d->past_weights);
    memory_free(d->skip);
}

/* ---- what is right ---------------------------------------------------------------------- */

static double length_of(const double *x, size_t dim)
{
    double squares = 0;
    for (size_t i = 0; i < dim; i++)
        squares += x[i] * x[i];
    return sqrt(squares);
}

/* out += weight * x / |x| */
static void add_unit(double *out, const double *x, double weight, size_t dim)
{
    double length = length_of(x, dim);
    for (size_t i = 0; i < dim; i++)
        out[i] += weight * x[i] / length;
}

static void map(const struct data *d, const float *query, double *out)
{
    double x[1024] = { 0 }, wide[1024] = { 0 };
    for (size_t i = 0; i < d->dim; i++)
        wide[i] = (double)query[i];
    add_unit(x, wide, 1, d->dim);
    for (size_t i = 0; i < d->dim; i++) {
        x[i] -= (double)d->mean[i];
        out[i] = 0;
    }
    add_unit(out, x, 1, d->dim);
}

static void fuse(const struct data *d, const struct asked *r, double *out)
{
    double sum[1024] = { 0 }, x[1024] = { 0 };
    if (r->query) {
        map(d, r->query, x);
        add_unit(sum, x, r->person ? (double)r->share : 1, d->dim);
    }
    for (size_t i = 0; r->person && i < d->dim; i++)
        x[i] = (double)r->person[i];
    if (r->person)
        add_unit(sum, x, r->query ? 1 - (double)r->share : 1, d->dim);
    for (size_t i = 0; i < d->dim; i++)
        out[i] = 0;
    add_unit(out, sum, 1, d->dim);
}

/* What is known of each row for one request. */
struct told {
    bool allowed, certain, possible;    /* a candidate, for certain or within rounding */
    double text;
    float taste, score;
};

static bool has_bit(const uint64_t *bits, size_t row)
{
    return bits[row / 64] >> row % 64 & 1;
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static void tell_text(const struct data *d, const struct asked *r, struct told *told)
{
    double vector[1024], *sorted = must_have(memory_alloc(d->rows, sizeof *sorted));
    size_t count = 0;
    fuse(d, r, vector);
    for (size_t row = 0; row < d->rows; row++) {
        for (size_t i = 0; i < d->dim; i++)
            told[row].text += vector[i] * (double)d->row[row * d->dim + i];
        if (told[row].allowed)
            sorted[count++] = told[row].text;
    }
    qsort(sorted, count, sizeof *sorted, descending);
    double cut = count <= TEXT_OFFERS ? -2 : sorted[TEXT_OFFERS - 1];
    double next = count <= TEXT_OFFERS ? -3 : sorted[TEXT_OFFERS];
    for (size_t row = 0; row < d->rows; row++) {
        bool offered = told[row].allowed && has_bit(d->texted, row);
        told[row].possible |= offered && told[row].text >= cut - ROUNDING;
        told[row].certain |= offered && told[row].text > next + ROUNDING;
    }
    memory_free(sorted);
}

static int by_taste(const void *a, const void *b, void *context)
{
    const struct told *told = context;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return told[x].taste != told[y].taste ? (told[x].taste > told[y].taste ? -1 : 1)
                                          : (x > y) - (x < y);
}

/* In float32, in the order of the past: the bits that are promised. */
static float tell_taste(const struct data *d, const struct asked *r, struct told *told)
{
    uint32_t *order = must_have(memory_alloc(d->rows, sizeof *order));
    size_t count = 0, taken = 0;
    double sum = 0;
    for (size_t i = 0; i < r->past_count; i++)
        for (uint64_t e = d->starts[r->past[i]]; e < d->starts[r->past[i] + 1]; e++) {
            float value = r->past_weights[i] * d->entries[e].weight;
            if (d->entries[e].weight > 0 && value > 0)
                told[d->entries[e].row].taste += value;
        }
    for (size_t row = 0; row < d->rows; row++)
        if (told[row].taste > 0)
            order[count++] = (uint32_t)row;
    qsort_r(order, count, sizeof *order, by_taste, told);
    size_t best = count < SCALE_BEST ? count : SCALE_BEST;
    for (size_t i = 0; i < best; i++)
        sum += (double)told[order[i]].taste;
    for (size_t i = 0; i < count && taken < OFFERS; i++) {
        taken += told[order[i]].allowed;
        told[order[i]].certain |= told[order[i]].allowed;
        told[order[i]].possible |= told[order[i]].allowed;
    }
    memory_free(order);
    return best ? (float)(sum / (double)best) : 1;
}

static void tell(const struct data *d, const struct asked *r, struct told *told)
{
    size_t looked_at = d->rows < 4096 ? d->rows : 4096, taken = 0;
    memset(told, 0, d->rows * sizeof *told);
    for (size_t row = 0; row < d->rows; row++)
        told[row].allowed = r->mask == UINT32_MAX || has_bit(d->masks + r->mask * d->words, row);
    for (size_t i = 0; i < r->skip_count; i++)
        told[r->skip[i]].allowed = false;
    if (r->query || r->person)
        tell_text(d, r, told);
    float scale = tell_taste(d, r, told);
    for (size_t i = 0; i < looked_at && taken < OFFERS && r->popularity != 0; i++) {
        struct told *t = &told[d->by_popularity[i]];
        taken += t->allowed;
        t->certain |= t->allowed;
        t->possible |= t->allowed;
    }
    for (size_t row = 0; row < d->rows; row++)
        told[row].score = (float)((double)r->text * told[row].text) +
                          r->taste * (told[row].taste / scale) +
                          r->popularity * d->popularity[row];
}

/* ---- checks ----------------------------------------------------------------------------- */

static void check_answer(const struct data *d, size_t q, struct told *told,
                         const struct personal_result *results, size_t found, size_t k)
{
    const struct asked *r = &d->requests[q];
    size_t certain = 0;
    tell(d, r, told);
    for (size_t row = 0; row < d->rows; row++)
        certain += told[row].certain;
    expect(found <= k && (found == k || certain <= found), "number found", d->rows, q,
           (double)found);
    for (size_t i = 0; i < found; i++) {
        const struct personal_result *x = &results[i];
        if (x->row >= d->rows || !told[x->row].possible) {
            expect(false, "a row that may not be found, or twice", d->rows, q, x->row);
            return;
        }
        struct told *t = &told[x->row];
        expect(fabs((double)x->score - (double)t->score) < ROUNDING, "score", d->rows, q,
               (double)(x->score - t->score));
        expect(fabs((double)x->similarity - t->text) < ROUNDING &&
               x->text == r->text * x->similarity, "text", d->rows, q, (double)x->similarity);
        expect(x->popularity == r->popularity * d->popularity[x->row], "popularity", d->rows, q,
               (double)x->popularity);
        expect(i == 0 || x->score < x[-1].score || (x->score == x[-1].score && x->row > x[-1].row),
               "order", d->rows, q, (double)i);
        t->possible = t->certain = false;
    }
    for (size_t row = 0; row < d->rows && found; row++)
        if (told[row].certain &&
            (double)told[row].score > (double)results[found - 1].score + ROUNDING)
            expect(false, "a better row was left out", d->rows, q, (double)told[row].score);
}

static void check_batch(struct data *d, size_t k, size_t checked)
{
    struct asked_batch batch = { .requests = d->requests, .count = d->count, .k = k,
                                    .text_offers = TEXT_OFFERS < 4 * k ? 4 * k : TEXT_OFFERS,
                                    .offers = OFFERS, .masks = d->masks, .mask_count = MASKS };
    struct told *told = must_have(memory_alloc(d->rows, sizeof *told));
    struct personal_result *results = must_have(memory_alloc(d->count * k, sizeof *results));
    struct personal_result alone[PERSONAL_K_MAX];
    size_t *found = must_have(memory_alloc(d->count, sizeof *found)), found_alone;
    must(answer(d->device, &batch, results, found));
    for (size_t q = 0; q < d->count; q += d->count / checked ? d->count / checked : 1)
        if (batch.text_offers == TEXT_OFFERS)
            check_answer(d, q, told, results + q * k, found[q], k);
    for (size_t q = 0; q < d->count; q += d->count / 2 + 1) {
        batch.requests = d->requests + q;
        batch.count = 1;
        must(answer(d->device, &batch, alone, &found_alone));
        expect(found_alone == found[q] &&
               !memcmp(alone, results + q * k, found_alone * sizeof *alone), "bits, alone", d->rows,
               q, (double)found_alone);
    }
    memory_free(told);
    memory_free(results);
    memory_free(found);
}

static void check_nearest(struct data *d, size_t count, size_t k, const uint64_t *mask)
{
    struct hit *hits = must_have(memory_alloc(count * k, sizeof *hits));
    size_t *found = must_have(memory_alloc(count, sizeof *found));
    double vector[1024];
    must(nearest(d->device, d->vectors, count, k, mask, hits, found));
    for (size_t q = 0; q < count; q += count / 4 + 1) {
        size_t better = 0;
        map(d, d->vectors + q * d->dim, vector);
        expect(found[q] == k, "number of the nearest", d->rows, q, (double)found[q]);
        for (size_t row = 0; row < d->rows; row++) {
            double product = 0;
            for (size_t i = 0; i < d->dim; i++)
                product += vector[i] * (double)d->row[row * d->dim + i];
            bool here = !mask || has_bit(mask, row), is_hit = false;
            for (size_t i = 0; i < k; i++) {
                const struct hit *hit = &hits[q * k + i];
                is_hit |= hit->row == row;
                expect(hit->row != row || (here && fabs((double)hit->score - product) < ROUNDING),
                       "one of the nearest", d->rows, q, product);
            }
            better += here && !is_hit && product > (double)hits[q * k + k - 1].score + ROUNDING;
        }
        expect(better == 0, "nearer rows were left out", d->rows, q, (double)better);
    }
    memory_free(hits);
    memory_free(found);
}

/* Requests that point nowhere are told from the others, which are answered as ever. */
static void check_nowhere(struct data *d)
{
    struct asked requests[6];
    struct personal_result results[6 * 5], right[5];
    struct hit hits[3 * 5];
    size_t found[6], wanted;
    float *vectors = must_have(memory_alloc(4 * d->dim, sizeof *vectors));
    struct asked_batch batch = { .requests = requests, .count = 1, .k = 5,
                                    .text_offers = TEXT_OFFERS, .offers = OFFERS };
    for (size_t i = 0; i < 6; i++)
        requests[i] = (struct asked){ .query = d->vectors, .share = 0.5f, .text = 1,
                                                 .mood = PERSONAL_NO_MOOD, .mask = UINT32_MAX };
    must(answer(d->device, &batch, right, &wanted));
    double mapped[1024];
    map(d, d->vectors, mapped);
    for (size_t i = 0; i < d->dim; i++)
        vectors[3 * d->dim + i] = -(float)mapped[i];
    vectors[d->dim + 3] = NAN;
    vectors[2 * d->dim + 3] = INFINITY;
    requests[1].query = vectors;                    /* zero */
    requests[2].query = vectors + d->dim;
    requests[3].person = vectors + 2 * d->dim;
    requests[4].person = vectors + 3 * d->dim;      /* cancels the query out */
    batch.count = 6;
    must(answer(d->device, &batch, results, found));
    for (size_t i = 0; i < 6; i++) {
        bool points = i == 0 || i == 5;
        expect(points ? found[i] == wanted && !memcmp(results + 5 * i, right, sizeof right)
                      : found[i] == PERSONAL_NOWHERE, "nowhere", d->rows, i, (double)found[i]);
    }
    must(nearest(d->device, vectors, 3, 5, NULL, hits, found));
    expect(!found[0] && !found[1] && !found[2], "nearest to nowhere", d->rows, 0, 0);
    memory_free(vectors);
}

static void check_refused(struct data *d)
{
    uint32_t row = (uint32_t)d->rows, past[PERSONAL_PAST_MAX + 1] = { 0 };
    float weights[PERSONAL_PAST_MAX + 1] = { 0 };
    struct personal_result results[5];
    struct personal_device *device = NULL;
    size_t found;
    struct asked requests[] = {
        { .past = &row, .past_weights = weights, .past_count = 1, .mask = UINT32_MAX,
          .mood = PERSONAL_NO_MOOD },
        { .past = past, .past_weights = weights, .past_count = PERSONAL_PAST_MAX + 1,
          .mask = UINT32_MAX, .mood = PERSONAL_NO_MOOD },
        { .skip = &row, .skip_count = 1, .mask = UINT32_MAX, .mood = PERSONAL_NO_MOOD },
        { .mask = 1, .mood = PERSONAL_NO_MOOD },
        { .mask = UINT32_MAX, .mood = 0 },
    };
    struct asked_batch batch = { .count = 1, .k = 5, .text_offers = 40, .offers = 200,
                                    .masks = d->masks, .mask_count = 1 };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        batch.requests = &requests[i];
        expect(answer(d->device, &batch, results, &found) == AKIN_ARGUMENT,
               "a request that cannot be", d->rows, i, 0);
    }
    uint32_t *many = must_have(memory_alloc(PERSONAL_SKIP_MAX + 1, sizeof *many));
    batch.requests = &(struct asked){ .skip = many, .skip_count = PERSONAL_SKIP_MAX + 1,
                                      .mask = UINT32_MAX, .mood = PERSONAL_NO_MOOD };
    expect(answer(d->device, &batch, results, &found) == AKIN_UNSUPPORTED,
           "more left out than there is room for", d->rows, 0, 0);
    memory_free(many);
    struct personal_items items = { .mean = d->mean,
                                    .similar = { d->rows, d->starts, d->entries } };
    uint64_t start = d->starts[1], end = d->starts[2];
    struct item_weight kept[2] = { d->entries[start], d->entries[start + 1] };
    d->entries[start] = (struct item_weight){ row, 1 };
    expect(ops->create(0, d->search, &items, &device, &error) == AKIN_ARGUMENT && !device,
           "a row that there is not", d->rows, 0, 0);
    d->entries[start] = d->entries[start + 1] = (struct item_weight){ 7, 1 };
    expect(ops->create(0, d->search, &items, &device, &error) == AKIN_ARGUMENT && !device,
           "a row twice", d->rows, 0, 0);
    memcpy(d->entries + start, kept, sizeof kept);
    d->starts[2] = start + PERSONAL_ROW_MAX + 1;
    expect(ops->create(0, d->search, &items, &device, &error) == AKIN_UNSUPPORTED && !device,
           "a row too long", d->rows, 0, 0);
    d->starts[2] = end;
    uint32_t *places = must_have(memory_alloc(d->rows, sizeof *places)), listed[2] = { 5, 9 };
    memset(places, 0xff, d->rows * sizeof *places);
    places[5] = 0;
    struct personal_taste taste = { .size = 2, .items = listed, .places = places };
    items = (struct personal_items){ .mean = d->mean, .taste = &taste };
    expect(ops->create(0, d->search, &items, &device, &error) == AKIN_ARGUMENT && !device,
           "an item of the model without a place", d->rows, 0, 0);
    places[9] = 1;
    must(ops->create(0, d->search, &items, &device, &error));
    ops->destroy(&device);
    places[3] = 1;
    expect(ops->create(0, d->search, &items, &device, &error) == AKIN_ARGUMENT && !device,
           "two items in one place", d->rows, 0, 0);
    memory_free(places);
    ops->destroy(&device);
}

/* Nearly everything is left out, more than there is asked for, nothing known of pasts. */
static void check_bare(void)
{
    struct data d;
    struct personal_device *bare = NULL;
    data_init(&d, 70, 64, 20, 8, false);
    check_batch(&d, 10, 8);
    struct personal_items items = { .mean = d.mean };
    struct asked request = { .query = d.vectors, .mask = UINT32_MAX, .text = 1,
                                        .mood = PERSONAL_NO_MOOD,
                                        .popularity = 1 };
    struct asked_batch batch = { .requests = &request, .count = 1, .k = 50, .text_offers = 200,
                                    .offers = 200 };
    struct personal_result results[50];
    uint64_t none[2] = { 0 };
    size_t found;
    must(ops->create(0, d.search, &items, &bare, &error));
    must(answer(bare, &batch, results, &found));
    expect(found == 50, "number found", d.rows, 0, (double)found);
    batch.masks = none;
    batch.mask_count = 1;
    request.mask = 0;
    must(answer(bare, &batch, results, &found));
    expect(found == 0, "none is allowed", d.rows, 0, (double)found);
    request.past = d.past;
    request.past_weights = d.past_weights;
    request.past_count = 1;
    expect(answer(bare, &batch, results, &found) == AKIN_ARGUMENT,
           "a past of which nothing is known", d.rows, 0, 0);
    ops->destroy(&bare);
    data_deinit(&d);
}

/* What was best is left out, and is not there any more. */
static void check_skipped(struct data *d)
{
    struct asked request = d->requests[0];
    struct personal_result first[10], then[10];
    struct told *told = must_have(memory_alloc(d->rows, sizeof *told));
    uint32_t skip[10];
    size_t found;
    struct asked_batch batch = { .requests = &request, .count = 1, .k = 10,
                                    .text_offers = TEXT_OFFERS, .offers = OFFERS,
                                    .masks = d->masks, .mask_count = MASKS };
    request.skip_count = 0;
    must(answer(d->device, &batch, first, &found));
    for (size_t i = 0; i < 10; i++)
        skip[i] = first[i].row;
    request.skip = skip;
    request.skip_count = 10;
    must(answer(d->device, &batch, then, &found));
    struct asked kept = d->requests[0];
    d->requests[0] = request;
    check_answer(d, 0, told, then, found, 10);
    d->requests[0] = kept;
    memory_free(told);
}

/* The narrow scores of the search prove nothing here: what it does again decides. */
static void check_alike(void)
{
    struct data d;
    data_init(&d, 900, 64, 30, 6, true);
    for (size_t q = 0; q < d.count; q++)
        d.requests[q].past_count = 0;
    check_batch(&d, 10, 6);
    check_nearest(&d, 4, 10, NULL);
    data_deinit(&d);
}

/* The same from two devices, together, one alone, and the nearest. */
static void expect_alike(struct data *d, struct personal_device *other)
{
    enum { K = 10, COUNT = 6, NEAR = 3 };
    struct personal_result results[2][COUNT * K], alone[K];
    struct hit hits[2][NEAR * K];
    size_t found[2][COUNT], near[2][NEAR], found_alone;
    struct asked_batch batch = { .requests = d->requests, .count = COUNT, .k = K,
                                    .text_offers = TEXT_OFFERS, .offers = OFFERS,
                                    .masks = d->masks, .mask_count = MASKS };
    struct personal_device *const devices[] = { d->device, other };
    for (int i = 0; i < 2; i++) {
        must(answer(devices[i], &batch, results[i], found[i]));
        must(nearest(devices[i], d->vectors, NEAR, K, NULL, hits[i], near[i]));
    }
    batch.count = 1;
    must(answer(d->device, &batch, alone, &found_alone));
    for (size_t q = 0; q < COUNT; q++)
        expect(found[0][q] == found[1][q] && !memcmp(results[0] + q * K, results[1] + q * K,
                                                     found[0][q] * sizeof **results),
               "rows that were put", d->rows, q, (double)found[0][q]);
    expect(found_alone == found[1][0] && !memcmp(alone, results[1], found_alone * sizeof *alone),
           "rows that were put, alone", d->rows, 0, (double)found_alone);
    expect(!memcmp(near[0], near[1], sizeof near[0]) && !memcmp(hits[0], hits[1], sizeof hits[0]),
           "the nearest that were put", d->rows, 0, (double)near[0][0]);
}

/* Rows that are put instead of others count from the next call on, with what they change about the
 * errors of narrow rows; once there are more, nothing is known of these. */
static void check_changed(void)
{
    enum { ROWS = 700, DIM = 64, PUT = 300, LONGER = 100 };
    struct data d;
    struct personal_device *fresh = NULL;
    struct personal_result result;
    struct hit hit;
    uint32_t numbers[PUT];
    size_t found;
    data_init(&d, ROWS, DIM, 30, 6, true);
    float *put = must_have(memory_alloc(PUT * DIM, sizeof *put));
    for (uint32_t i = 0; i < PUT; i++) {
        numbers[i] = 2 * i + 1;
        for (size_t x = 0; x < DIM; x++)
            put[i * DIM + x] = LONGER * (d.row[i % 5 * DIM + x] + 3e-3f * rng_normal(&rng));
    }
    must(search_ops->put(d.search, numbers, put, PUT, &error));
    struct personal_items items = {
        .mean = d.mean, .texted = d.texted, .similar = { d.rows, d.starts, d.entries },
        .popularity = d.popularity, .by_popularity = d.by_popularity, .popular_count = d.rows,
    };
    must(ops->create(0, d.search, &items, &fresh, &error));
    expect_alike(&d, fresh);
    struct asked_batch batch = { .requests = d.requests, .count = 1, .k = 1,
                                    .text_offers = TEXT_OFFERS, .offers = OFFERS,
                                    .masks = d.masks, .mask_count = MASKS };
    must(search_ops->append(d.search, put, PUT, &error));       /* which moves all of them */
    expect(answer(d.device, &batch, &result, &found) == AKIN_ARGUMENT &&
           nearest(d.device, d.vectors, 1, 1, NULL, &hit, &found) == AKIN_ARGUMENT,
           "more rows than there were", d.rows, 0, 0);
    memory_free(put);
    ops->destroy(&fresh);
    data_deinit(&d);
}

/* ---- rates ------------------------------------------------------------------------------ */

/* The best of the turns: from written requests to answers at hand, and with one thread's writing.
 * What the card's clock says is from the first copy to it to the last from it. */
struct bench_times {
    uint64_t written, ranked, near;
    double ranked_there, near_there;
};

static void keep_best(struct bench_times *best, const struct bench_times *now)
{
    best->written = now->written < best->written ? now->written : best->written;
    best->ranked = now->ranked < best->ranked ? now->ranked : best->ranked;
    best->near = now->near < best->near ? now->near : best->near;
    best->ranked_there = fmin(best->ranked_there, now->ranked_there);
    best->near_there = fmin(best->near_there, now->near_there);
}

static void bench_count(const struct data *d, size_t count)
{
    enum { TURNS = 15, K = 10 };
    struct bench_times best = { UINT64_MAX, UINT64_MAX, UINT64_MAX, INFINITY, INFINITY };
    struct asked_batch batch = { .requests = d->requests, .count = count, .k = K,
                                 .text_offers = TEXT_OFFERS, .offers = OFFERS };
    struct personal_room room = { 0 };
    double on_card;
    ops->measure(d->device, &on_card);
    for (int turn = -3; turn < TURNS; turn++) {
        struct bench_times now;
        size_t lists = 0;
        uint64_t began = clock_monotonic_ns();
        must(write_all(d->device, &batch, &room, &lists));
        now.written = clock_monotonic_ns() - began;
        must(answer_in(d->device, &room, &batch, lists));
        now.ranked = clock_monotonic_ns() - began - now.written;
        now.ranked_there = 1e3 * on_card;
        began = clock_monotonic_ns();
        must(ops->nearest(d->device, count, K, NULL, &room, &error));
        now.near = clock_monotonic_ns() - began;
        now.near_there = 1e3 * on_card;
        if (turn >= 0)
            keep_best(&best, &now);
    }
    printf("%zu requests in a call: fused, searched and ranked %.4f ms (%.4f by the card's clock), "
           "%.0f/s, written by one thread %.4f ms; ready vectors mapped and searched %.4f ms "
           "(%.4f), %.0f/s\n", count, (double)best.ranked * 1e-6, best.ranked_there,
           (double)count / (double)best.ranked * 1e9, (double)best.written * 1e-6,
           (double)best.near * 1e-6, best.near_there, (double)count / (double)best.near * 1e9);
    ops->measure(d->device, NULL);
    ops->release(d->device, &room);
}

static void bench(void)
{
    enum { ROWS = 62423, DIM = 384, MOST = 1000 };
    static const size_t counts[] = { 1, 10, 100, MOST };
    struct data d;
    data_init(&d, ROWS, DIM, PERSONAL_ROW_MAX, MOST, false);
    for (size_t q = 0; q < MOST; q++) {
        d.requests[q].query = d.vectors + 2 * q * DIM;
        d.requests[q].person = d.vectors + (2 * q + 1) * DIM;
        d.requests[q].past_count = PERSONAL_PAST_MAX;
        d.requests[q].mask = UINT32_MAX;
        d.requests[q].skip_count = 150;
        d.requests[q].popularity = 0;
    }
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        bench_count(&d, counts[c]);
    data_deinit(&d);
}

static void check_size(size_t rows, size_t dim, size_t width, size_t count, size_t checked)
{
    struct data d;
    data_init(&d, rows, dim, width, count, false);
    check_batch(&d, 10, checked);
    check_skipped(&d);
    check_nearest(&d, count / 2, 10, NULL);
    check_nearest(&d, 1, 10, d.masks);
    check_nowhere(&d);
    check_refused(&d);
    data_deinit(&d);
}

static void check(const struct cuda_plugin *plugin, bool rates)
{
    search_ops = plugin->search;
    ops = plugin->personal;
    rng_seed(&rng, 37);
    check_bare();
    check_alike();
    check_changed();
    check_size(1000, 64, PERSONAL_ROW_MAX, 28, 28);
    check_size(600, 384, 40, 5, 5);
    if (rates)
        bench();
}

int main(int argc, char **argv)
{
    return device_check_main(argc, argv, "personal_devicecheck [cuda [--bench]]", check);
}
