/* Exact search, backend life cycle and what its calls refuse. The numbers of every other operation
 * are backendcheck's and kernelcheck's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/backend.h"

enum { ROWS = 5000, DIM = 35, QUERIES = 70, K = 13 };

struct fixture {
    struct thread_pool *pools[2];
    struct backend *backends[2];    /* one thread, three threads */
    float *rows, *queries;
};

static int set_up(void **state)
{
    struct fixture *f = memory_alloc(1, sizeof *f);
    struct rng rng;
    rng_seed(&rng, 3);
    for (int i = 0; i < 2; i++) {
        f->pools[i] = thread_pool_create(1 + 2 * i);
        assert_int_equal(cpu_backend_create(cpu_detect(), f->pools[i], &f->backends[i], NULL),
                         AKIN_OK);
    }
    f->rows = memory_alloc(ROWS * DIM, sizeof *f->rows);
    f->queries = memory_alloc(QUERIES * DIM, sizeof *f->queries);
    for (size_t i = 0; i < ROWS * DIM; i++)     /* whole numbers, so that many scores tie */
        f->rows[i] = (float)rng_below(&rng, 5) - 2;
    for (size_t i = 0; i < QUERIES * DIM; i++)
        f->queries[i] = (float)rng_below(&rng, 3) - 1;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        cpu_backend_destroy(&f->backends[i]);
        thread_pool_destroy(&f->pools[i]);
    }
    memory_free(f->rows);
    memory_free(f->queries);
    memory_free(f);
    return 0;
}

static struct topk_request request_of(const struct fixture *f)
{
    return (struct topk_request){.rows = f->rows,
                                 .row_count = ROWS,
                                 .dim = DIM,
                                 .queries = f->queries,
                                 .query_count = QUERIES,
                                 .k = K,
                                 .score = SCORE_INNER_PRODUCT};
}

static double exact_score(const struct topk_request *r, size_t q, size_t row)
{
    double sum = 0;
    for (size_t i = 0; i < r->dim; i++) {
        double a = (double)r->queries[q * r->dim + i], b = (double)r->rows[row * r->dim + i];
        sum += r->score == SCORE_L2 ? -(a - b) * (a - b) : a * b;
    }
    return sum;
}

static int by_rank(const void *left, const void *right)
{
    const struct hit *a = left, *b = right;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->row < b->row ? -1 : 1;
}

static bool passes(const struct topk_request *r, size_t q, uint32_t row)
{
    if (r->allowed && !(r->allowed[row / 64] >> row % 64 & 1))
        return false;
    for (size_t i = 0; r->skip && i < r->skip[q].count; i++)
        if (r->skip[q].rows[i] == row)
            return false;
    return true;
}

/* Sorts everything, which whole numbers allow without rounding. */
static void assert_is_exact(const struct topk_request *r, const struct hit *hits,
                            const size_t *found)
{
    struct hit *all = memory_alloc(r->row_count, sizeof *all);
    for (size_t q = 0; q < r->query_count; q += 9) {
        size_t count = 0;
        for (size_t row = 0; row < r->row_count; row++)
            if (passes(r, q, (uint32_t)row))
                all[count++] = (struct hit){ (float)exact_score(r, q, row), (uint32_t)row };
        qsort(all, count, sizeof *all, by_rank);
        assert_int_equal(found[q], count < r->k ? count : r->k);
        for (size_t i = 0; i < found[q]; i++) {
            assert_int_equal(hits[q * r->k + i].row, all[i].row);
            assert_true(hits[q * r->k + i].score == all[i].score);
        }
    }
    memory_free(all);
}

static void search(struct backend *backend, const struct topk_request *r, struct hit *hits,
                   size_t *found)
{
    struct akin_error error = { 0 };
    memset(hits, 0xab, r->query_count * r->k * sizeof *hits);
    assert_int_equal(cpu_topk(backend, r, hits, found, &error), AKIN_OK);
}

static void topk_is_exact(void **state)
{
    struct fixture *f = *state;
    struct topk_request r = request_of(f);
    static struct hit hits[QUERIES * K];
    size_t found[QUERIES];
    for (int score = SCORE_INNER_PRODUCT; score <= SCORE_L2; score++) {
        r.score = (enum score)score;
        search(f->backends[0], &r, hits, found);
        assert_is_exact(&r, hits, found);
    }
}

static void topk_masked_and_skipping(void **state)
{
    struct fixture *f = *state;
    struct topk_request r = request_of(f);
    static struct hit hits[QUERIES * K], unmasked[K];
    size_t found[QUERIES];
    uint64_t allowed[ROWS / 64 + 1] = { 0 };
    for (size_t row = 0; row < ROWS; row += row < 1000 ? 3 : 117)
        allowed[row / 64] |= 1ull << row % 64;
    r.allowed = allowed;
    search(f->backends[1], &r, hits, found);
    assert_is_exact(&r, hits, found);

    /* leave out what query 0 found, and nothing for the others */
    uint32_t rows[K];
    struct row_list skip[QUERIES] = { { rows, K } };
    for (size_t i = 0; i < K; i++) {
        size_t at = i;
        for (; at && rows[at - 1] > hits[i].row; at--)
            rows[at] = rows[at - 1];
        rows[at] = hits[i].row;
    }
    memcpy(unmasked, hits + K, sizeof unmasked);
    r.skip = skip;
    search(f->backends[1], &r, hits, found);
    assert_is_exact(&r, hits, found);
    assert_memory_equal(unmasked, hits + K, sizeof unmasked);

    memset(allowed, 0, sizeof allowed);
    allowed[0] = 5, allowed[ROWS / 64] = ~0ull;     /* bits behind the last row do not count */
    search(f->backends[1], &r, hits, found);
    assert_is_exact(&r, hits, found);
    memset(allowed, 0, sizeof allowed);
    search(f->backends[1], &r, hits, found);
    for (size_t q = 0; q < QUERIES; q++)
        assert_int_equal(found[q], 0);
}

static void topk_same_bits_everywhere(void **state)
{
    struct fixture *f = *state;
    struct rng rng;
    rng_seed(&rng, 4);
    for (size_t i = 0; i < ROWS * DIM; i++)
        f->rows[i] += 0.1f * rng_normal(&rng);
    struct topk_request r = request_of(f), one = r;
    static struct hit hits[QUERIES * K], others[QUERIES * K];
    size_t found[QUERIES];
    uint64_t all[ROWS / 64 + 1];
    memset(all, 0xff, sizeof all);
    for (int score = SCORE_INNER_PRODUCT; score <= SCORE_L2; score++) {
        r.score = one.score = (enum score)score;
        search(f->backends[0], &r, hits, found);
        search(f->backends[1], &r, others, found);
        assert_memory_equal(hits, others, sizeof hits);
        r.allowed = all;
        search(f->backends[1], &r, others, found);
        assert_memory_equal(hits, others, sizeof hits);
        r.allowed = NULL;
        one.query_count = 1;
        for (size_t q = 0; q < QUERIES; q++) {
            one.queries = f->queries + q * DIM;
            search(f->backends[1], &one, others, found);
            assert_memory_equal(hits + q * K, others, K * sizeof *hits);
            float score_of_best =
                cpu_score(f->backends[0], one.queries, f->rows + (size_t)hits[q * K].row * DIM, DIM,
                          one.score);
            assert_memory_equal(&score_of_best, &hits[q * K].score, sizeof score_of_best);
        }
    }
}

/* The levels agree on scores bit for bit, so a search gives the same rows on any machine. */
static void topk_same_on_every_level(void **state)
{
    struct fixture *f = *state;
    struct topk_request r = request_of(f);
    static struct hit hits[QUERIES * K], others[QUERIES * K];
    static const char *const levels[] = { "ref", "avx2", "avx512" };
    size_t found[QUERIES];
    for (size_t i = 0; i < ROWS * DIM; i++)
        f->rows[i] += 0.01f * (float)(i % 11);
    search(f->backends[0], &r, hits, found);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        unsigned flags;
        struct backend *backend;
        assert_true(cpu_level(levels[i], cpu_detect(), &flags));
        assert_int_equal(cpu_backend_create(flags, f->pools[0], &backend, NULL), AKIN_OK);
        search(backend, &r, others, found);
        assert_memory_equal(hits, others, sizeof hits);
        cpu_backend_destroy(&backend);
        assert_null(backend);
    }
}

static void topk_nan_last(void **state)
{
    struct fixture *f = *state;
    float rows[8] = { 1, NAN, 3, -INFINITY, NAN, 2, INFINITY, 0 }, query = 1;
    static const uint32_t order[8] = { 6, 2, 5, 0, 7, 3, 1, 4 };
    struct hit hits[10];
    size_t found;
    for (size_t k = 1; k <= 10; k++) {
        struct topk_request r = {
            .rows = rows, .row_count = 8, .dim = 1, .queries = &query, .query_count = 1, .k = k};
        search(f->backends[1], &r, hits, &found);
        assert_int_equal(found, k < 8 ? k : 8);
        for (size_t i = 0; i < found; i++)
            assert_int_equal(hits[i].row, order[i]);
    }
}

static void topk_edges(void **state)
{
    struct fixture *f = *state;
    struct topk_request r = request_of(f);
    struct hit *hits = memory_alloc(2 * K_MAX, sizeof *hits);
    size_t found[QUERIES];
    struct akin_error error = { 0 };
    r.query_count = 0;
    search(f->backends[0], &r, hits, found);
    r.query_count = 2, r.k = K_MAX;
    search(f->backends[1], &r, hits, found);
    assert_int_equal(found[1], ROWS);
    r.k = K, r.row_count = 0;
    search(f->backends[0], &r, hits, found);
    assert_int_equal(found[0], 0);
    memory_free(hits);

    r = request_of(f), r.k = 0;
    assert_int_equal(cpu_topk(f->backends[0], &r, NULL, NULL, &error), AKIN_ARGUMENT);
    assert_string_equal(error.message, "k is 0; it must be in 1..1000000");
    r.k = K_MAX + 1;
    assert_int_equal(cpu_topk(f->backends[0], &r, NULL, NULL, &error), AKIN_ARGUMENT);
    r.k = K, r.dim = 0;
    assert_int_equal(cpu_topk(f->backends[0], &r, NULL, NULL, &error), AKIN_ARGUMENT);
    r.dim = DIM, r.row_count = (size_t)UINT32_MAX + 1;
    assert_int_equal(cpu_topk(f->backends[0], &r, NULL, NULL, NULL), AKIN_LIMIT);
}

static void linear_refuses(void **state)
{
    struct fixture *f = *state;
    struct backend *b = f->backends[0];
    struct linear *linear = NULL;
    struct akin_error error = { 0 };
    float weight[4] = { 1, 2, 3, 4 };
    struct host_matrix matrix = { weight, ELEMENT_F32, 2, 2 };
    assert_true(b->ops->supports(b, COMPUTE_FP32));
    assert_true(b->ops->supports(b, COMPUTE_INT8));
    struct backend *plain = NULL;
    assert_int_equal(cpu_backend_create(0, f->pools[0], &plain, NULL), AKIN_OK);
    assert_false(plain->ops->supports(plain, COMPUTE_BF16));
    assert_int_equal(plain->ops->linear_create(plain, &matrix, NULL, NULL, COMPUTE_BF16, &linear,
                                               &error), AKIN_UNSUPPORTED);
    assert_non_null(strstr(error.message, "ask for fp32 or int8"));
    cpu_backend_destroy(&plain);
    struct host_matrix deep = { weight, ELEMENT_F32, 1, 65537 };
    assert_int_equal(b->ops->linear_create(b, &deep, NULL, NULL, COMPUTE_INT8, &linear, &error),
                     AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "65536"));
    matrix.rows = 0;
    assert_int_equal(b->ops->linear_create(b, &matrix, NULL, NULL, COMPUTE_FP32, &linear, &error),
                     AKIN_ARGUMENT);
    matrix.rows = SIZE_MAX / 2;
    assert_int_equal(b->ops->linear_create(b, &matrix, NULL, NULL, COMPUTE_FP32, &linear, &error),
                     AKIN_ARGUMENT);
    assert_null(linear);
    b->ops->linear_destroy(&linear);
}

static void linear_without_bias(void **state)
{
    struct fixture *f = *state;
    const struct backend_ops *ops = f->backends[0]->ops;
    float weight[6] = { 1, 2, 3, 4, 5, 6 }, out[3];
    struct host_matrix matrix = { weight, ELEMENT_F32, 3, 2 };
    struct linear *linear;
    struct lane *lane;
    assert_int_equal(ops->linear_create(f->backends[0], &matrix, NULL, NULL, COMPUTE_FP32, &linear,
                                        NULL), AKIN_OK);
    assert_int_equal(ops->lane_create(f->backends[0], 16, &lane, NULL), AKIN_OK);
    struct tensor x = ops->tensor_take(lane, 1, 2), y = ops->tensor_take(lane, 1, 3);
    x.data[0] = 1, x.data[1] = -1;
    uint64_t before = memory_allocations();
    ops->linear(lane, &y, &x, linear, ACTIVATION_RELU);
    ops->linear(lane, &y, &x, linear, ACTIVATION_NONE);
    ops->download(lane, &y, out);
    assert_int_equal(memory_allocations(), before);
    assert_true(out[0] == -1 && out[1] == -1 && out[2] == -1);
    ops->linear(lane, &y, &x, linear, ACTIVATION_RELU);
    assert_true(y.data[0] == 0 && y.data[2] == 0);
    assert_null(ops->tensor_take(lane, 1 << 20, 1 << 10).data);
    assert_null(ops->tensor_take(lane, SIZE_MAX / 2, 8).data);
    ops->lane_reset(lane);
    assert_ptr_equal(ops->tensor_take(lane, 1, 2).data, x.data);
    ops->lane_destroy(&lane);
    ops->linear_destroy(&linear);
    assert_null(lane);
    assert_int_not_equal(ops->lane_create(f->backends[0], SIZE_MAX / 3, &lane, NULL), AKIN_OK);
}

static void host_matrices(void **state)
{
    (void)state;
    unsigned char f16[] = {0xff, 0x00, 0x3c, 0x00, 0xc0,
                           0x01, 0x00, 0x00, 0x7c}; /* at odd addresses */
    unsigned char bf16[] = { 0xff, 0x80, 0x3f, 0x00, 0xc0, 0x01, 0x00, 0x80, 0x7f };
    float out[4];
    struct host_matrix matrix = { f16 + 1, ELEMENT_F16, 2, 2 };
    host_matrix_to_f32(&matrix, out);
    assert_true(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-24f && out[3] == INFINITY);
    matrix = (struct host_matrix){ bf16 + 1, ELEMENT_BF16, 1, 4 };
    host_matrix_to_f32(&matrix, out);
    assert_true(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-133f && out[3] == INFINITY);
    assert_int_equal(element_bytes(ELEMENT_F32), 4);
    assert_int_equal(element_bytes(ELEMENT_BF16), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(topk_is_exact, set_up, tear_down),
        cmocka_unit_test_setup_teardown(topk_masked_and_skipping, set_up, tear_down),
        cmocka_unit_test_setup_teardown(topk_same_bits_everywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(topk_same_on_every_level, set_up, tear_down),
        cmocka_unit_test_setup_teardown(topk_nan_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(topk_edges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(linear_refuses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(linear_without_bias, set_up, tear_down),
        cmocka_unit_test(host_matrices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
