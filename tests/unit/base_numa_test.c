/* Nodes, caches, distances and devices of made-up machines; which GPU belongs to which node;
 * binding to a node, and what --numa takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/numa.h"
#include "base/thread.h"
#include "numa_rig.h"

static struct numa *open_numa(const char *made_up, bool devices)
{
    struct numa *numa = NULL;
    struct akin_error error = { 0 };
    if (numa_open(made_up, devices, &numa, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return numa;
}

static void a_dgx_a100(void **state)
{
    (void)state;
    char folder[] = "/tmp/akin_numa_test_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/dgx.xml", folder);
    assert_true(make_dgx_a100(path));
    struct numa *numa = open_numa(path, true);
    assert_int_equal(numa->packages, 2);
    assert_int_equal(numa->cores, 128);
    assert_int_equal(numa->cpus, 256);
    assert_int_equal(numa->node_count, 2);
    for (int i = 0; i < 2; i++) {
        const struct numa_node *node = &numa->nodes[i];
        assert_int_equal(node->number, i);
        assert_int_equal(node->package, i);
        assert_int_equal(node->cores, 64);
        assert_int_equal(node->cpus, 128);
        assert_string_equal(node->cpu_list, i ? "128-255" : "0-127");
        assert_int_equal(node->memory_bytes, (uint64_t)512 << 30);
    }
    assert_non_null(numa->distances);
    assert_true(numa->distances[0] == 10 && numa->distances[1] == 32 &&
                numa->distances[2] == 32 && numa->distances[3] == 10);
    assert_int_equal(numa->cache_count, 3);
    assert_string_equal(numa->caches[2].name, "L3");
    assert_int_equal(numa->caches[2].bytes, 16 << 20);
    assert_int_equal(numa->caches[2].count, 32);
    assert_int_equal(numa->caches[2].cpus, 8);
    static const struct { const char *bus; int node; } gpus[] = {
        { "0000:10:00.0", 0 }, { "0000:20:00.0", 0 }, { "0000:30:00.0", 0 }, { "0000:40:00.0", 0 },
        { "0000:90:00.0", 1 }, { "0000:a0:00.0", 1 }, { "0000:b0:00.0", 1 }, { "0000:c0:00.0", 1 },
    };
    size_t gpu = 0, count[4] = { 0 };
    for (size_t i = 0; i < numa->device_count; i++) {
        const struct numa_device *device = &numa->devices[i];
        count[device->kind]++;
        if (device->kind != NUMA_GPU)
            continue;
        char name[16];
        snprintf(name, sizeof name, "nvml%zu", gpu);
        assert_true(gpu < 8);
        assert_string_equal(device->bus, gpus[gpu].bus);
        assert_int_equal(device->node, gpus[gpu].node);
        assert_int_equal(numa_node_of_device(numa, gpus[gpu].bus), gpus[gpu].node);
        assert_string_equal(device->name, "NVIDIA GA100 [A100 SXM4]");
        assert_string_equal(device->known_as, name);
        gpu++;
    }
    assert_int_equal(numa_node_of_device(numa, "0000:ff:00.0"), -1);
    assert_true(gpu == 8 && count[NUMA_NETWORK] == 8 && count[NUMA_STORAGE] == 1 &&
                count[NUMA_OTHER] == 1);
    numa_close(&numa);
    assert_null(numa);
    numa_close(&numa);
    numa = open_numa(path, false);
    assert_int_equal(numa->device_count, 0);
    numa_close(&numa);
    assert_int_equal(truncate(path, 3000), 0);      /* cut off */
    struct akin_error error = { 0 };
    assert_int_equal(numa_open(path, true, &numa, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "dgx.xml"));
    assert_int_equal(path_remove_tree(folder, NULL), AKIN_OK);
}

static void other_machines(void **state)
{
    (void)state;
    struct numa *numa = open_numa("pack:2 group:2 [numa] core:8 pu:1", false);
    assert_int_equal(numa->node_count, 4);
    assert_int_equal(numa->nodes[3].package, 1);
    assert_int_equal(numa->nodes[3].cores, 8);
    assert_int_equal(numa_find(numa, 2), 2);
    assert_int_equal(numa_find(numa, 4), -1);
    assert_int_equal(numa_find(numa, -1), -1);
    numa_close(&numa);
    numa = open_numa("[numa] pack:2 core:2 pu:2", false);
    assert_int_equal(numa->node_count, 1);
    assert_int_equal(numa->nodes[0].package, -1);   /* of both */
    assert_int_equal(numa->nodes[0].cpus, 8);
    numa_close(&numa);
    static const char *const wrong[] = { "no such machine", "node:0", "/no/such/file.xml", "" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct akin_error error = { 0 };
        assert_int_equal(numa_open(wrong[i], true, &numa, &error), AKIN_ARGUMENT);
        assert_null(numa);
        assert_true(error.message[0]);
    }
}

static void names_by_the_driver(void **state)
{
    (void)state;
    char folder[] = "/tmp/akin_nvidia_test_XXXXXX", path[128], name[32] = "";
    static const char text[] = "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 120\n";
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/0000:07:00.0", folder);
    assert_int_equal(path_make_folders(path, NULL), AKIN_OK);
    snprintf(path, sizeof path, "%s/0000:07:00.0/information", folder);
    assert_int_equal(file_write(path, text, strlen(text), NULL), AKIN_OK);
    assert_true(numa_nvidia_name(folder, "0000:07:00.0", name, sizeof name));
    assert_string_equal(name, "NVIDIA A100-SXM4-40GB");
    assert_false(numa_nvidia_name(folder, "0000:08:00.0", name, sizeof name));
    assert_string_equal(name, "NVIDIA A100-SXM4-40GB");
    static const char *const wrong[] = { "", "IRQ: 1\n", "Model:", "Model:   \nIRQ" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(file_write(path, wrong[i], strlen(wrong[i]), NULL), AKIN_OK);
        assert_false(numa_nvidia_name(folder, "0000:07:00.0", name, sizeof name));
        assert_string_equal(name, "NVIDIA A100-SXM4-40GB");
    }
    assert_int_equal(path_remove_tree(folder, NULL), AKIN_OK);
}

static void this_machine(void **state)
{
    (void)state;
    struct numa *numa = open_numa(NULL, true);
    uint64_t memory = 0;
    for (size_t i = 0; i < numa->node_count; i++)
        memory += numa->nodes[i].memory_bytes;
    assert_true(numa->cpus >= 1 && memory > 0);
    numa_close(&numa);
}

/* ---- binding ---------------------------------------------------------------------------- */

static void bind_this_thread(void *context)
{
    int *result = context;
    struct numa *numa = open_numa(NULL, false);
    struct numa_bound bound;
    struct akin_error error = { 0 };
    size_t at = 0;
    while (at + 1 < numa->node_count && !numa->nodes[at].cpus)
        at++;
    enum akin_status status = numa_bind(numa, at, &bound, &error);
    /* only a cpuset that leaves us none of the node's CPUs may refuse it */
    if (status == AKIN_OK) {
        size_t bytes = (size_t)1 << 20;
        char *block = memory_alloc_aligned(bytes, 1);
        memset(block, 1, bytes);
        int found = numa_node_of(numa, block, bytes);
        *result = thread_cpus() <= numa->nodes[at].cpus &&
                  (found < 0 || !bound.memory || found == numa->nodes[at].number);
        memory_free(block);
    } else {
        *result = status == AKIN_ARGUMENT && strstr(error.message, "CPUs");
    }
    numa_close(&numa);
}

static void a_thread_is_bound_alone(void **state)
{
    (void)state;
    int before = thread_cpus(), good = 0;
    struct thread *thread = thread_start(bind_this_thread, &good, false);
    thread_join(&thread);
    assert_true(good);
    assert_int_equal(thread_cpus(), before);
}

static void choices(void **state)
{
    (void)state;
    struct numa *two = open_numa("node:2 core:4 pu:1", false), *one = open_numa("node:1 pu:4",
                                                                                 false);
    struct numa_choice choice;
    struct akin_error error = { 0 };
    int before = thread_cpus();
    static const char *const none[] = { NULL, "auto", "off" };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(numa_choose_on(two, none[i], &choice, &error), AKIN_OK);
        assert_int_equal(choice.node, -1);
        assert_int_equal(choice.off, i == 2);
        assert_int_equal(numa_choose(none[i], &choice, &error), AKIN_OK);
    }
    assert_int_equal(numa_choose_on(two, "1", &choice, &error), AKIN_OK);
    assert_int_equal(choice.node, 1);
    assert_true(choice.bound.cpus);             /* which does nothing on a made-up machine */
    assert_int_equal(numa_choose_on(two, "2", &choice, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "no node 2"));
    assert_non_null(strstr(error.message, "0, 1"));
    for (int i = 0; i < 3; i++) {               /* one node: nothing to do, and no error */
        char text[8];
        snprintf(text, sizeof text, "%d", i * 7);
        assert_int_equal(numa_choose_on(one, text, &choice, &error), AKIN_OK);
        assert_true(choice.node == -1 && !choice.off && !choice.bound.cpus);
    }
    static const char *const wrong[] = { "", "-1", "on", "1.5", "0x1", "99999", "1 ", "auto,1" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(numa_is_choice(wrong[i]));
        assert_int_equal(numa_choose_on(two, wrong[i], &choice, &error), AKIN_ARGUMENT);
        assert_int_equal(numa_choose(wrong[i], &choice, &error), AKIN_ARGUMENT);
        assert_non_null(strstr(error.message, "auto, off"));
    }
    assert_int_equal(thread_cpus(), before);
    numa_close(&two);
    numa_close(&one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dgx_a100),
        cmocka_unit_test(other_machines),
        cmocka_unit_test(names_by_the_driver),
        cmocka_unit_test(this_machine),
        cmocka_unit_test(a_thread_is_bound_alone),
        cmocka_unit_test(choices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
