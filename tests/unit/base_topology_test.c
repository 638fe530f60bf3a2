/* Cores and nodes of made-up machines, when workers are pinned, quotas of control groups, and a
 * lock that is had in the order of asking. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/quota.h"
#include "base/thread.h"

/* ---- topology --------------------------------------------------------------------------- */

static void one_thread_per_core_first(void **state)
{
    (void)state;
    struct topology *t = topology_create("node:2 core:3 pu:2");
    assert_non_null(t);
    assert_int_equal(topology_nodes(t), 2);
    assert_int_equal(topology_cores(t), 6);
    assert_int_equal(topology_cpus(t), 12);
    for (int i = 0; i < 12; i++) {
        struct topology_place place = topology_place(t, i);
        assert_int_equal(place.core, i % 6);
        assert_int_equal(place.node, i % 6 / 3);
        assert_int_equal(place.cpu, i % 6 * 2 + i / 6);
    }
    topology_destroy(&t);
    assert_null(t);
    topology_destroy(&t);
}

static void memory_without_cores_is_no_node(void **state)
{
    (void)state;
    struct topology *t = topology_create("[numa] pack:2 [numa] core:2 pu:1");
    assert_non_null(t);             /* each package a node, and one for the whole machine */
    assert_int_equal(topology_cpus(t), 4);
    bool seen[8] = { false };
    for (int i = 0; i < 4; i++) {
        struct topology_place place = topology_place(t, i);
        assert_true(place.node < topology_nodes(t) && place.cpu < 4 && !seen[place.cpu]);
        seen[place.cpu] = true;
    }
    topology_destroy(&t);
    assert_null(topology_create("no such machine"));
    assert_null(topology_create("node:0"));
}

static void note_cpu(void *cpu)
{
    *(int *)cpu = sched_getcpu();
}

/* On a made-up machine of two nodes whose CPUs this machine has. */
static void a_visit_is_on_the_node(void **state)
{
    (void)state;
    cpu_set_t had, both, now;
    struct topology *t = topology_create("node:2 core:1 pu:1");
    int cpu = -1;
    assert_non_null(t);
    assert_int_equal(topology_node_numbered(t, 0), 0);
    assert_int_equal(topology_node_numbered(t, 1), 1);
    assert_int_equal(topology_node_numbered(t, 2), -1);
    assert_int_equal(topology_node_numbered(t, -1), -1);
    topology_visit(t, -1, note_cpu, &cpu);      /* anywhere */
    assert_true(cpu >= 0);
    topology_visit(t, 7, note_cpu, &cpu);       /* a node that is none does no harm */
    topology_destroy(&t);
    sched_getaffinity(0, sizeof had, &had);
    if (!CPU_ISSET(0, &had) || !CPU_ISSET(1, &had))
        skip();
    setenv("HWLOC_THISSYSTEM", "1", 1);         /* binding is real */
    t = topology_create("node:2 core:1 pu:1");
    unsetenv("HWLOC_THISSYSTEM");
    assert_non_null(t);
    for (int node = 0; node < 2; node++) {
        CPU_ZERO(&both);
        CPU_SET(1 - node, &both);               /* bound elsewhere, as a pinned worker may be */
        sched_setaffinity(0, sizeof both, &both);
        topology_visit(t, node, note_cpu, &cpu);
        assert_int_equal(cpu, node);
        sched_getaffinity(0, sizeof now, &now);
        assert_true(CPU_EQUAL(&now, &both));
    }
    sched_setaffinity(0, sizeof had, &had);
    topology_flatten(t);
    assert_int_equal(topology_node_numbered(t, 1), -1);
    topology_destroy(&t);
}

static void pinned_when_all_cores_are_taken(void **state)
{
    (void)state;
    struct topology *t = topology_create("node:2 core:3 pu:2");
    assert_non_null(topology_refusal(t, 1, PIN_NODES));
    assert_non_null(topology_refusal(t, 5, PIN_NODES));
    assert_null(topology_refusal(t, 6, PIN_NODES));
    assert_null(topology_refusal(t, 7, PIN_NODES));
    assert_null(topology_refusal(t, 12, PIN_NODES));
    assert_non_null(topology_refusal(t, 13, PIN_NODES));
    assert_null(topology_refusal(t, 6, PIN_CORES));
    assert_non_null(topology_refusal(t, 6, PIN_OFF));
    topology_destroy(&t);
    t = topology_create("node:1 core:6 pu:2");
    assert_non_null(topology_refusal(t, 6, PIN_NODES));     /* nothing to choose from */
    assert_null(topology_refusal(t, 6, PIN_CORES));
    topology_destroy(&t);
}

static void one_node_when_flattened(void **state)
{
    (void)state;
    struct topology *t = topology_create("node:2 core:3 pu:2");
    topology_flatten(t);
    assert_int_equal(topology_nodes(t), 1);
    assert_int_equal(topology_cpus(t), 12);
    for (int i = 0; i < 12; i++)
        assert_int_equal(topology_place(t, i).node, 0);
    assert_string_equal(topology_refusal(t, 6, PIN_NODES), "one node");
    assert_null(topology_refusal(t, 6, PIN_CORES));
    assert_int_equal(topology_node_here(t), 0);
    topology_destroy(&t);
}

static void add_one(void *context, size_t item, int worker)
{
    size_t *counts = context;
    (void)worker;
    counts[item]++;
}

static void pools_work_wherever_they_run(void **state)
{
    (void)state;
    static const char *const machines[] = { NULL, "node:2 core:2 pu:1", "node:1 core:1 pu:1" };
    for (size_t m = 0; m < sizeof machines / sizeof *machines; m++)
        for (int threads = 1; threads <= 5; threads++) {
            struct topology *t = topology_create(machines[m]);
            assert_non_null(t);
            enum topology_pin how = threads % 2 ? PIN_CORES : PIN_NODES;
            bool pin = !topology_refusal(t, threads, how);
            struct thread_pool *pool = thread_pool_create_on(threads, t, how);
            assert_non_null(pool);
            if (machines[m])        /* nothing is refused there */
                assert_int_equal(thread_pool_pinned(pool), pin ? threads - 1 : 0);
            assert_true(thread_pool_pinned(pool) <= (pin ? threads - 1 : 0));
            assert_ptr_equal(thread_pool_topology(pool), t);
            int node = topology_node_here(t);
            assert_true(node >= 0 && node < topology_nodes(t));
            size_t counts[100] = { 0 };
            thread_pool_each(pool, 100, add_one, counts);
            for (size_t i = 0; i < 100; i++)
                assert_int_equal(counts[i], 1);
            thread_pool_destroy(&pool);
            pool = thread_pool_create_on(threads, t, PIN_OFF);
            assert_int_equal(thread_pool_pinned(pool), 0);
            thread_pool_destroy(&pool);
            topology_destroy(&t);
        }
}

/* A library does not change what its host's threads may do. */
static void the_callers_affinity_stays(void **state)
{
    (void)state;
    int before = thread_cpus();
    struct topology *t = topology_create(NULL);
    struct thread_pool *pool = thread_pool_create_on(before, t, PIN_CORES);
    assert_non_null(pool);
    size_t counts[64] = { 0 };
    for (int round = 0; round < 20; round++)
        thread_pool_each(pool, 64, add_one, counts);
    for (int i = 0; i < topology_cpus(t); i++)
        for (int round = 0; round < 2; round++)
            topology_nudge(t, i, round ? PIN_CORES : PIN_NODES);
    assert_int_equal(thread_cpus(), before);
    for (int node = 0; node < topology_nodes(t); node++) {
        char bytes[5000];
        memset(bytes, 3 + node, sizeof bytes);
        void *copy = topology_copy(t, node, bytes, sizeof bytes);
        assert_non_null(copy);
        assert_memory_equal(copy, bytes, sizeof bytes);
        topology_copy_free(t, copy, sizeof bytes);
    }
    assert_int_equal(thread_cpus(), before);
    thread_pool_destroy(&pool);
    topology_destroy(&t);
}

/* ---- quotas ----------------------------------------------------------------------------- */

static char folder[64];

static void write_text(const char *name, const char *text)
{
    char path[PATH_BYTES_MAX];
    struct akin_error error = { 0 };
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *slash = strrchr(path, '/');
    *slash = 0;
    if (path_make_folders(path, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    *slash = '/';
    if (file_write(path, text, strlen(text), &error) != AKIN_OK)
        fail_msg("%s", error.message);
}

static int quota_of(const char *self)
{
    char path[128], root[128];
    write_text("self", self);
    snprintf(path, sizeof path, "%s/self", folder);
    snprintf(root, sizeof root, "%s/root", folder);
    return quota_cpus(path, root);
}

static void narrowest_group_counts(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/akin_topology_test_XXXXXX");
    assert_non_null(mkdtemp(folder));
    write_text("root/cpu.max", "max 100000\n");
    write_text("root/a/cpu.max", "250000 100000\n");
    write_text("root/a/b/cpu.max", "max 100000\n");
    write_text("root/a/c/cpu.max", "50000 100000\n");
    write_text("root/d/cpu.max", "nonsense");
    write_text("root/e/cpu.max", "-1 0");
    write_text("root/f/cpu.max", "9223372036854775807 1");
    write_text("root/cpu/v1/cpu.cfs_quota_us", "400000\n");
    write_text("root/cpu/v1/cpu.cfs_period_us", "100000\n");
    write_text("root/cpu/none/cpu.cfs_quota_us", "-1\n");
    write_text("root/cpu/none/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota_of("0::/a\n"), 3);           /* rounded up */
    assert_int_equal(quota_of("0::/a/b\n"), 3);         /* of the group above */
    assert_int_equal(quota_of("0::/a/c"), 1);
    assert_int_equal(quota_of("0::/\n"), 0);
    assert_int_equal(quota_of("0::/gone/b\n"), 0);
    assert_int_equal(quota_of("0::/d\n"), 0);
    assert_int_equal(quota_of("0::/e\n"), 0);
    assert_int_equal(quota_of("0::/f\n"), THREADS_MAX);
    assert_int_equal(quota_of("3:cpuacct,cpu:/v1\n2:memory:/a\n"), 4);
    assert_int_equal(quota_of("3:cpu:/none\n"), 0);
    assert_int_equal(quota_of("3:cpuset:/v1\n"), 0);
    assert_int_equal(quota_of("3:cpu:/v1\n0::/a\n"), 3);
    assert_int_equal(quota_of("nonsense\n::\n:\n\n0:\n0::\n0::x\n"), 0);
    assert_int_equal(quota_cpus("/no/such/file", folder), 0);
    assert_true(quota_of_process() >= 0);
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
}

/* ---- turnstile -------------------------------------------------------------------------- */

struct visits {
    struct turnstile *turnstile;
    size_t inside, count;
    bool good;
    atomic_bool entered;
};

static void visit_often(void *context, size_t begin, size_t end, int worker)
{
    struct visits *visits = context;
    (void)begin;
    (void)end;
    (void)worker;
    for (int i = 0; i < 2000; i++) {
        turnstile_enter(visits->turnstile);
        visits->good = visits->good && visits->inside++ == 0;
        visits->count++;
        visits->inside--;
        turnstile_leave(visits->turnstile);
    }
}

static void one_inside_at_a_time(void **state)
{
    (void)state;
    struct visits visits = { .turnstile = turnstile_create(), .good = true };
    struct thread_pool *pool = thread_pool_create(4);
    assert_non_null(visits.turnstile);
    thread_pool_run(pool, 4, visit_often, &visits);
    assert_true(visits.good && visits.count == 8000);
    assert_false(turnstile_wanted(visits.turnstile));
    turnstile_enter(visits.turnstile);
    assert_false(turnstile_wanted(visits.turnstile));
    turnstile_leave(visits.turnstile);
    thread_pool_destroy(&pool);
    turnstile_destroy(&visits.turnstile);
    turnstile_destroy(&visits.turnstile);
}

/* Whoever leaves and comes back stands behind those who waited. */
static void order_of_asking(void *context, size_t begin, size_t end, int worker)
{
    struct visits *visits = context;
    (void)begin;
    (void)end;
    if (worker == 0) {
        turnstile_enter(visits->turnstile);
        atomic_store(&visits->entered, true);
        while (!turnstile_wanted(visits->turnstile))
            ;
        turnstile_leave(visits->turnstile);
        turnstile_enter(visits->turnstile);
        visits->good = visits->count == 1;
        turnstile_leave(visits->turnstile);
    } else {
        while (!atomic_load(&visits->entered))
            ;
        turnstile_enter(visits->turnstile);
        visits->count++;
        turnstile_leave(visits->turnstile);
    }
}

static void first_come_first_served(void **state)
{
    (void)state;
    struct thread_pool *pool = thread_pool_create(2);
    struct visits visits = { .turnstile = turnstile_create() };
    for (int i = 0; i < 50; i++) {
        visits.good = false;
        visits.count = 0;
        visits.entered = false;
        thread_pool_run(pool, 2, order_of_asking, &visits);
        assert_true(visits.good);
    }
    thread_pool_destroy(&pool);
    turnstile_destroy(&visits.turnstile);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_per_core_first),
        cmocka_unit_test(memory_without_cores_is_no_node),
        cmocka_unit_test(a_visit_is_on_the_node),
        cmocka_unit_test(pinned_when_all_cores_are_taken),
        cmocka_unit_test(one_node_when_flattened),
        cmocka_unit_test(pools_work_wherever_they_run),
        cmocka_unit_test(the_callers_affinity_stays),
        cmocka_unit_test(narrowest_group_counts),
        cmocka_unit_test(one_inside_at_a_time),
        cmocka_unit_test(first_come_first_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
