/* The reranker: a request computes what the formula says, written out in double; one step goes
 * where finite differences of that say; an order that can be learned is learned, and what is wanted
 * is minded; threads change no bit; its file comes back as it was, or is refused, with why. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/rng.h"
#include "compute/cpu/kernels.h"
#include "recommend/reranker_store.h"
#include "backends_rig.h"

enum {
    ITEMS = 31, LISTS = 60, LENGTH = 12, DIM = 16, GENRES = 2, WANTED = SITUATION_TIMES + GENRES
};

static char folder[] = "/tmp/akin_reranker_XXXXXX";
static size_t offsets[LISTS + 1], genre_offsets[ITEMS + 1];
static uint32_t items[LISTS * LENGTH];
static uint16_t genres[ITEMS];
static int64_t times[LISTS * LENGTH];
static struct situation_term names[WANTED + 1] = {
    { "" }, { "time_of_day.morning" }, { "time_of_day.afternoon" }, { "time_of_day.evening" },
    { "genre.Even" }, { "genre.Odd" }
};
static const struct situations situations = { WANTED, ITEMS, names, genre_offsets, genres };
static double counts[ITEMS];
static const struct item_lists lists = { LISTS, ITEMS, offsets, items };

static int set_up(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 4);
    for (size_t u = 0; u < LISTS; u++) {
        uint64_t at = rng_below(&rng, ITEMS);
        for (size_t e = 0; e < LENGTH; e++) {
            at = (at + 2 + rng_below(&rng, 2)) % ITEMS;     /* around a ring, by two or three */
            items[u * LENGTH + e] = (uint32_t)at;
            times[u * LENGTH + e] = (int64_t)e * 7300;      /* each a sitting of its own */
            counts[at]++;
        }
        offsets[u + 1] = (u + 1) * LENGTH;
    }
    for (size_t i = 0; i < ITEMS; i++) {
        genres[i] = (uint16_t)(1 + SITUATION_TIMES + i % GENRES);
        genre_offsets[i + 1] = i + 1;
    }
    if (backends_open() != 0)
        return -1;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    backends_close();
    return path_remove_tree(folder, NULL) == AKIN_OK ? 0 : -1;
}

static struct reranker_settings small(void)
{
    struct reranker_settings s;
    reranker_settings_default(&s);
    s.epochs = 60;
    s.batch = 8;
    s.rate = 0.01f;
    s.dropout = 0;
    s.left_out = 0;
    s.precision = TRAIN_FP32;
    return s;
}

static enum akin_status train(int threads, const struct reranker_settings *settings,
                              struct reranker *reranker, struct akin_training *curve,
                              struct akin_error *error)
{
    struct reranker_lesson lesson = {
        .cpu_flags = cpu_detect(), .kernels = cpu_kernels(backends[threads]),
        .pool = pools[threads], .lists = &lists, .times = times, .counts = counts, .dim = DIM,
        .situations = &situations
    };
    return reranker_train(&lesson, settings, reranker, curve, error);
}

static void logits_of(const struct reranker *r, const uint32_t *history, size_t count,
                      const float *wanted, float *logits)
{
    struct reranker_scratch s;
    const struct kernels *k = cpu_kernels(backends[0]);
    assert_int_equal(reranker_scratch_init(r, &s, NULL), AKIN_OK);
    reranker_encode(r, k, history, count, wanted, &s);
    reranker_logits(r, k, s.state, wanted, NULL, ITEMS, logits);
    reranker_scratch_deinit(&s);
}

/* ---- by definition ----------------------------------------------------------------------- */

static void linear(const struct reranker *r, enum reranker_tensor weight, enum reranker_tensor bias,
                   size_t first, const double *x, double *y)
{
    for (size_t o = 0; o < DIM; o++) {
        y[o] = (double)reranker_at(r, bias)[first + o];
        for (size_t d = 0; d < DIM; d++)
            y[o] += (double)reranker_at(r, weight)[(first + o) * DIM + d] * x[d];
    }
}

static void add_and_norm(const struct reranker *r, enum reranker_tensor gain,
                         enum reranker_tensor offset, double *x, const double *y)
{
    double mean = 0, variance = 0;
    for (size_t d = 0; d < DIM; d++)
        mean += (x[d] += y[d]) / DIM;
    for (size_t d = 0; d < DIM; d++)
        variance += (x[d] - mean) * (x[d] - mean) / DIM;
    for (size_t d = 0; d < DIM; d++)
        x[d] = (x[d] - mean) / sqrt(variance + 1e-5) * (double)reranker_at(r, gain)[d] +
               (double)reranker_at(r, offset)[d];
}

static void past(const struct reranker *r, uint32_t item, size_t place, double *x)
{
    for (size_t d = 0; d < DIM; d++)
        x[d] = (double)reranker_at(r, RERANKER_ITEMS)[item * DIM + d] +
               (double)reranker_at(r, RERANKER_POSITIONS)[place * DIM + d];
}

static void ask(const struct reranker *r, const float *wanted, double *x)
{
    for (size_t d = 0; d < DIM; d++) {
        const float *c = reranker_at(r, RERANKER_WANTED) + d;
        x[d] += wanted ? 0 : (double)*c;
        for (size_t w = 0; wanted && w < WANTED; w++)
            x[d] += (double)wanted[w] * (double)c[(w + 1) * DIM];
    }
}

static void plain_logits(const struct reranker *r, const uint32_t *history, size_t count,
                         const float *wanted, double *logits)
{
    enum { HEAD = DIM / RERANKER_HEADS };
    double x[DIM], q[DIM], k[LENGTH][DIM], v[LENGTH][DIM], heads[DIM] = { 0 }, y[DIM], wide[DIM];
    for (size_t e = 0; e < count; e++) {
        past(r, history[e], e, x);
        linear(r, RERANKER_IN, RERANKER_IN_BIAS, DIM, x, k[e]);
        linear(r, RERANKER_IN, RERANKER_IN_BIAS, 2 * DIM, x, v[e]);
    }
    ask(r, wanted, x);
    linear(r, RERANKER_IN, RERANKER_IN_BIAS, 0, x, q);
    for (size_t h = 0; h < RERANKER_HEADS; h++) {
        double weights[LENGTH], total = 0;
        for (size_t e = 0; e < count; e++) {
            double dot = 0;
            for (size_t d = h * HEAD; d < (h + 1) * HEAD; d++)
                dot += q[d] * k[e][d];
            total += weights[e] = exp(dot / sqrt(HEAD));
        }
        for (size_t e = 0; e < count; e++)
            for (size_t d = h * HEAD; d < (h + 1) * HEAD; d++)
                heads[d] += weights[e] / total * v[e][d];
    }
    linear(r, RERANKER_OUT, RERANKER_OUT_BIAS, 0, heads, y);
    add_and_norm(r, RERANKER_GAIN1, RERANKER_OFFSET1, x, y);
    linear(r, RERANKER_UP, RERANKER_UP_BIAS, 0, x, wide);
    for (size_t d = 0; d < DIM; d++)
        wide[d] = wide[d] > 0 ? wide[d] : 0;
    linear(r, RERANKER_DOWN, RERANKER_DOWN_BIAS, 0, wide, y);
    add_and_norm(r, RERANKER_GAIN2, RERANKER_OFFSET2, x, y);
    for (size_t i = 0; i < ITEMS; i++) {
        logits[i] = (double)reranker_at(r, RERANKER_BIAS)[i];
        for (size_t d = 0; d < DIM; d++)
            logits[i] += x[d] * (double)reranker_at(r, RERANKER_ITEMS)[i * DIM + d];
        for (size_t w = 0; wanted && w < WANTED; w++)
            logits[i] += (double)wanted[w] * (double)reranker_at(r, RERANKER_MATCH)[i * WANTED + w];
    }
}

/* Cross-entropy over all positions. */
static double loss(const struct reranker *r)
{
    double total = 0;
    for (size_t u = 0; u < LISTS; u++)
        for (size_t c = 1; c < LENGTH; c++) {
            double logits[ITEMS], sum = 0;
            plain_logits(r, items + u * LENGTH, c, NULL, logits);
            for (size_t i = 0; i < ITEMS; i++)
                sum += exp(logits[i]);
            total += log(sum) - logits[items[u * LENGTH + c]];
        }
    return total / (LISTS * (LENGTH - 1));
}

/* ---- tests ------------------------------------------------------------------------------- */

static void the_order_is_learned(void **state)
{
    (void)state;
    struct reranker one, three;
    struct akin_training curve, same;
    struct reranker_settings s = small();
    s.dropout = 0.1f;
    s.left_out = 0.1f;
    assert_int_equal(train(0, &s, &one, &curve, NULL), AKIN_OK);
    assert_int_equal(train(THREADS_TRIED - 1, &s, &three, &same, NULL), AKIN_OK);
    for (int t = 0; t < RERANKER_TENSORS; t++) {    /* what lies between them means nothing */
        const struct reranker_place *at = &one.layout.at[t];
        assert_memory_equal(reranker_at(&one, (enum reranker_tensor)t),
                            reranker_at(&three, (enum reranker_tensor)t),
                            at->rows * (at->cols ? at->cols : 1) * sizeof(float));
    }
    assert_int_equal(curve.best, same.best);
    assert_true(curve.best >= 1 && curve.best <= curve.epochs);
    for (size_t e = 0; e < curve.epochs; e++)
        assert_true(curve.validation[e] >= curve.validation[curve.best - 1]);
    assert_true(curve.validation[curve.best - 1] < 1.2);    /* log 2 is all there is to know */
    size_t right = 0, minded = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        float logits[ITEMS], wanted[WANTED] = { 0 };
        uint32_t history[3] = { i, (i + 2) % ITEMS, (i + 5) % ITEMS };
        uint32_t two = (i + 7) % ITEMS, other = (i + 8) % ITEMS;
        size_t better = 0;
        logits_of(&one, history, 3, NULL, logits);
        for (size_t j = 0; j < ITEMS; j++)
            better += j != two && j != other &&
                      (logits[j] >= logits[two] || logits[j] >= logits[other]);
        right += better == 0;
        wanted[SITUATION_TIMES + two % GENRES] = 1;
        logits_of(&one, history, 3, wanted, logits);
        minded += two % GENRES != other % GENRES && logits[two] > logits[other];
    }
    assert_true(right >= ITEMS * 8 / 10);
    assert_true(minded >= (ITEMS - 2) * 8 / 10);    /* at the seam of the ring two are alike */
    reranker_deinit(&one);
    reranker_deinit(&three);
}

static void a_request_by_definition(void **state)
{
    (void)state;
    struct reranker r;
    struct akin_training curve;
    struct reranker_settings s = small();
    s.epochs = 2;
    assert_int_equal(train(0, &s, &r, &curve, NULL), AKIN_OK);
    const float wanted[WANTED] = { 0.7f, 0.2f, 0, 0.4f, 1 };
    for (size_t count = 1; count < LENGTH; count++)
        for (int w = 0; w < 2; w++) {
            float logits[ITEMS], one;
            double plain[ITEMS];
            logits_of(&r, items + count, count, w ? wanted : NULL, logits);
            plain_logits(&r, items + count, count, w ? wanted : NULL, plain);
            for (size_t i = 0; i < ITEMS; i++)
                assert_true(fabs((double)logits[i] - plain[i]) < 1e-4);
            struct reranker_scratch scratch;
            const uint32_t asked = 5;
            assert_int_equal(reranker_scratch_init(&r, &scratch, NULL), AKIN_OK);
            uint64_t before = memory_allocations();
            reranker_encode(&r, cpu_kernels(backends[0]), items + count, count,
                            w ? wanted : NULL, &scratch);
            reranker_logits(&r, cpu_kernels(backends[0]), scratch.state, w ? wanted : NULL, &asked,
                            1, &one);
            assert_int_equal(memory_allocations(), before);
            assert_true(fabsf(one - logits[5]) < 1e-5f);
            float both[2][ITEMS], alone[ITEMS];
            uint32_t all[ITEMS];
            for (uint32_t i = 0; i < ITEMS; i++)
                all[i] = i;
            reranker_situate(&r, cpu_kernels(backends[0]), items + count, count, wanted, all,
                             ITEMS, &scratch, both[0], both[1]);
            const float nothing[WANTED] = { 0 };
            logits_of(&r, items + count, count, nothing, alone);
            for (size_t i = 0; i < ITEMS; i++)
                assert_true(fabsf(both[w][i] - logits[i]) < 1e-5f &&
                            fabsf(both[0][i] - alone[i]) < 1e-5f);
            reranker_scratch_deinit(&scratch);
        }
    reranker_deinit(&r);
}

/* The first step of Adam goes by rate * sign(gradient), where decay is none. */
static void gradients_are_right(void **state)
{
    (void)state;
    struct reranker start, stepped;
    struct akin_training curve;
    struct reranker_settings s = small();
    s.batch = LISTS;
    s.decay = 0;
    s.wanted_share = 0;
    s.epochs = 0;
    assert_int_equal(train(0, &s, &start, &curve, NULL), AKIN_OK);
    assert_int_equal(curve.epochs, 0);
    s.epochs = s.fixed = 1;
    assert_int_equal(train(0, &s, &stepped, &curve, NULL), AKIN_OK);
    for (int t = 0; t < RERANKER_TENSORS; t++) {     /* nothing is told, so D has no slope */
        if (t == RERANKER_MATCH)
            continue;
        const struct reranker_place *at = &start.layout.at[t];
        size_t count = at->rows * (at->cols ? at->cols : 1), checked = 0;
        for (size_t i = 0; i < count && checked < 8; i += 1 + count / 23) {
            float *number = &start.values[at->offset + i], was = *number;
            *number = was + 4e-3f;
            double up = loss(&start);
            *number = was - 4e-3f;
            double slope = (up - loss(&start)) / 8e-3;
            *number = was;
            if (fabs(slope) < 1e-4)
                continue;
            checked++;
            assert_true(stepped.values[at->offset + i] != was);
            assert_int_equal(stepped.values[at->offset + i] > was, slope < 0);
        }
        /* a bias of all keys alike changes no softmax, so some have no slope */
        assert_true(checked >= 2);
    }
    reranker_deinit(&start);
    reranker_deinit(&stepped);
}

static bool stop(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)stage;
    (void)total;
    return done < *(uint64_t *)cookie;
}

static void stops_and_odd_shapes(void **state)
{
    (void)state;
    struct reranker r = { .values = NULL };
    struct akin_training curve;
    struct akin_error error;
    uint64_t after = 3;
    struct reranker_settings s = small();
    s.progress = (struct akin_progress){ .update = stop, .cookie = &after };
    assert_int_equal(train(0, &s, &r, &curve, &error), AKIN_CANCELLED);
    assert_null(r.values);
    const size_t short_offsets[] = { 0, 0, 1, 3 };
    const uint32_t few[] = { 2, 0, 1 };
    const struct item_lists odd = { 3, 3, short_offsets, few };
    struct reranker_lesson lesson = { .cpu_flags = cpu_detect(), .pool = pools[0], .lists = &odd,
                                      .kernels = cpu_kernels(backends[0]), .counts = counts,
                                      .dim = DIM };
    s = small();
    assert_int_equal(reranker_train(&lesson, &s, &r, &curve, &error), AKIN_OK);
    reranker_deinit(&r);
    lesson.dim = DIM + 1;
    assert_int_equal(reranker_train(&lesson, &s, &r, &curve, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "17"));
}

/* ---- on disk ----------------------------------------------------------------------------- */

static void refused(const char *path, const char *identity, size_t item_count, const char *why)
{
    struct akin_error error;
    struct reranker r;
    assert_int_equal(reranker_read(cpu_kernels(backends[0]), path, identity, item_count, &r,
                                   &error), AKIN_FORMAT);
    if (!strstr(error.message, why))
        fail_msg("\"%s\" does not say \"%s\"", error.message, why);
}

/* With `from` in the file replaced by `to`, of the same length. */
static void patched(const char *path, const struct bytes *whole, const char *from, const char *to,
                    const char *why)
{
    struct bytes changed = { 0 };
    bytes_append(&changed, whole->data, whole->count);
    char *at = memmem(changed.data, changed.count, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    assert_int_equal(file_write(path, changed.data, changed.count, NULL), AKIN_OK);
    refused(path, "these", ITEMS, why);
    bytes_deinit(&changed);
}

static void kept_on_disk(void **state)
{
    (void)state;
    char path[PATH_BYTES_MAX];
    struct reranker r, read;
    struct akin_training curve;
    struct akin_error error;
    struct bytes whole = { 0 };
    struct reranker_settings s = small();
    float before[ITEMS], after[ITEMS];
    s.epochs = 1;
    const struct kernels *k = cpu_kernels(backends[0]);
    path_join(path, sizeof path, folder, "reranker.safetensors", NULL);
    assert_int_equal(reranker_read(k, path, "these", ITEMS, &read, &error), AKIN_NOT_FOUND);
    assert_int_equal(train(0, &s, &r, &curve, NULL), AKIN_OK);
    assert_int_equal(reranker_write(&r, path, "these", NULL), AKIN_OK);
    assert_int_equal(reranker_read(k, path, "these", ITEMS, &read, &error), AKIN_OK);
    logits_of(&r, items, 5, NULL, before);
    logits_of(&read, items, 5, NULL, after);
    assert_memory_equal(before, after, sizeof before);
    reranker_deinit(&read);
    refused(path, "those", ITEMS, "other items");
    refused(path, "these", ITEMS + 1, "items.weight");
    assert_int_equal(file_read(path, 1 << 20, &whole, NULL), AKIN_OK);
    patched(path, &whole, "\"akin_reranker\":\"2\"", "\"akin_reranker\":\"9\"", "version 9");
    patched(path, &whole, "akin_reranker", "akin_deranker", "no reranker");
    patched(path, &whole, "\"dimension\":\"16\"", "\"dimension\":\"17\"", "17 numbers");
    patched(path, &whole, "\"dimension\":\"16\"", "\"dimension\":\"x6\"", "dimension");
    patched(path, &whole, "\"wanted\":\"5\"", "\"wanted\":\"4\"", "wanted.weight");
    patched(path, &whole, "linear1.weight", "linear3.weight", "linear1.weight is missing");
    const float nan = NAN;
    memcpy(whole.data + whole.count - sizeof nan, &nan, sizeof nan);
    assert_int_equal(file_write(path, whole.data, whole.count, NULL), AKIN_OK);
    refused(path, "these", ITEMS, "norm2.bias: number 15 is not finite");
    assert_int_equal(file_write(path, whole.data, whole.count - 3, NULL), AKIN_OK);
    refused(path, "these", ITEMS, "reranker.safetensors");
    bytes_deinit(&whole);
    reranker_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_is_learned),   cmocka_unit_test(a_request_by_definition),
        cmocka_unit_test(gradients_are_right),    cmocka_unit_test(stops_and_odd_shapes),
        cmocka_unit_test(kept_on_disk),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
