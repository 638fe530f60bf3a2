/* Weights on several nodes, on a made-up machine: a lane reads those of its node, and the bits are
 * those of one node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/cpu/backend_cpu.h"

enum { ROWS = 37, IN = 1100, OUT = 83, NODES = 3 };

static struct {
    float weight[OUT * IN], bias[OUT], x[ROWS * IN];
} data;

struct rig {
    struct topology *topology;
    struct thread_pool *pool;
    struct backend *backend;
    struct linear *linear;
    struct lane *lane;
};

/* `machine` NULL: a pool that knows of no topology. */
static void rig_open(struct rig *rig, const char *machine, int threads,
                     enum compute_precision precision)
{
    const struct host_matrix weight = { .data = data.weight, .type = ELEMENT_F32, .rows = OUT,
                                        .cols = IN };
    *rig = (struct rig){ .topology = machine ? topology_create(machine) : NULL };
    rig->pool = thread_pool_create_on(threads, rig->topology, PIN_NODES);
    assert_non_null(rig->pool);
    assert_int_equal(cpu_backend_create(cpu_detect(), rig->pool, &rig->backend, NULL), AKIN_OK);
    assert_int_equal(rig->backend->ops->linear_create(rig->backend, &weight, data.bias, NULL,
                                                      precision, &rig->linear, NULL), AKIN_OK);
    assert_int_equal(rig->backend->ops->lane_create(rig->backend, 1 << 20, &rig->lane, NULL),
                     AKIN_OK);
}

static void rig_close(struct rig *rig)
{
    rig->backend->ops->lane_destroy(&rig->lane);
    rig->backend->ops->linear_destroy(&rig->linear);
    assert_null(rig->linear);
    cpu_backend_destroy(&rig->backend);
    thread_pool_destroy(&rig->pool);
    topology_destroy(&rig->topology);
}

/* As a thread on `node`; or by all threads. */
static void multiply(struct rig *rig, int node, bool together, float *result)
{
    const struct backend_ops *ops = rig->backend->ops;
    ops->lane_reset(rig->lane);
    assert_true(rig->lane->node >= 0 && rig->lane->node < rig->lane->backend->nodes);
    rig->lane->node = node;
    ops->lane_team(rig->lane, together);
    struct tensor x = ops->tensor_take(rig->lane, ROWS, IN);
    struct tensor out = ops->tensor_take(rig->lane, ROWS, OUT);
    memcpy(x.data, data.x, sizeof data.x);
    ops->linear(rig->lane, &out, &x, rig->linear, ACTIVATION_GELU);
    ops->lane_team(rig->lane, false);
    ops->download(rig->lane, &out, result);
}

static void check_precision(enum compute_precision precision)
{
    static float expected[ROWS * OUT], got[ROWS * OUT];
    struct rig one, many;
    rig_open(&one, NULL, 2, precision);
    multiply(&one, 0, false, expected);
    assert_null(one.linear->replicas);
    rig_open(&many, "node:3 core:1 pu:1", 3, precision);
    assert_int_equal(many.lane->backend->nodes, NODES);
    size_t plain = one.backend->ops->linear_bytes(one.linear);
    size_t replicated = many.backend->ops->linear_bytes(many.linear);
    assert_true(replicated > 2 * plain && replicated < 4 * plain);
    for (int node = 0; node < NODES; node++)
        for (int together = 0; together < 2; together++) {
            multiply(&many, node, together, got);
            assert_memory_equal(got, expected, sizeof got);
        }
    /* each node has panels of its own: damage to one is seen there and nowhere else */
    unsigned char *panels = cpu_replica(many.linear, 1)->panels;
    memset(panels, 1, many.linear->depth * many.linear->blocks.nr);
    for (int node = 0; node < NODES; node++) {
        multiply(&many, node, false, got);
        assert_int_equal(memcmp(got, expected, sizeof got) == 0, node != 1);
    }
    rig_close(&many);
    rig_close(&one);
}

static void same_bits_on_every_node(void **state)
{
    (void)state;
    check_precision(COMPUTE_FP32);
    check_precision(COMPUTE_INT8);
    if (cpu_detect() & CPU_AVX512_BF16)
        check_precision(COMPUTE_BF16);
}

/* One node, or one thread: no memory is spent. */
static void no_copies_without_need(void **state)
{
    (void)state;
    static const struct {
        const char *machine;
        int threads;
    } cases[] = { { "node:1 core:4 pu:1", 4 }, { "node:2 core:2 pu:1", 1 }, { NULL, 4 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rig rig;
        rig_open(&rig, cases[i].machine, cases[i].threads, COMPUTE_FP32);
        assert_int_equal(rig.lane->backend->nodes, 1);
        assert_null(rig.linear->replicas);
        assert_ptr_equal(cpu_replica(rig.linear, 0), rig.linear);
        rig_close(&rig);
    }
}

static int set_up(void **state)
{
    struct rng rng;
    (void)state;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < OUT * IN; i++)
        data.weight[i] = (float)rng_below(&rng, 2001) / 1000 - 1;
    for (size_t i = 0; i < ROWS * IN; i++)
        data.x[i] = (float)rng_below(&rng, 2001) / 1000 - 1;
    for (size_t i = 0; i < OUT; i++)
        data.bias[i] = (float)i;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_on_every_node),
        cmocka_unit_test(no_copies_without_need),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
