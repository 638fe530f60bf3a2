/* Memory of packed weights: shared, each for itself, given back in any order, and taken again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/thread.h"
#include "compute/cpu/backend_cpu.h"

enum { SMALL = 1000, LARGE = 1 << 20, TAKEN = 24, THREADS = 4, ITEMS = 64 };

struct taken {
    struct panel_block *block;
    unsigned char *bytes;
    size_t count;
};

static struct thread_pool *pool;

static struct cpu_backend *backend_open(void)
{
    struct backend *backend = NULL;
    assert_int_equal(cpu_backend_create(cpu_detect(), pool, &backend, NULL), AKIN_OK);
    return (struct cpu_backend *)backend;
}

static void backend_close(struct cpu_backend *cpu)
{
    struct backend *backend = &cpu->base;
    cpu_backend_destroy(&backend);
}

static struct taken take(struct cpu_backend *cpu, size_t count, int fill)
{
    struct taken t = { .count = count };
    t.bytes = panels_take(cpu, count, 1, &t.block);
    if (t.bytes)
        memset(t.bytes, fill, count);
    return t;
}

static bool holds(const struct taken *t, int fill)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->bytes[i] != (unsigned char)fill)
            return false;
    return true;
}

/* More than one block, and each keeps what was written into it. */
static void large_ones_share(void **state)
{
    (void)state;
    struct cpu_backend *cpu = backend_open();
    struct taken all[TAKEN];
    size_t shared = 0;
    for (int i = 0; i < TAKEN; i++) {
        all[i] = take(cpu, LARGE + (size_t)i, i + 1);
        assert_non_null(all[i].bytes);
        assert_non_null(all[i].block);
        assert_int_equal((uintptr_t)all[i].bytes % 64, 0);
        shared += i && all[i].block == all[i - 1].block;
    }
    assert_true(shared >= TAKEN / 2 && shared < TAKEN - 1);
    for (int i = 0; i < TAKEN; i++)
        assert_true(holds(&all[i], i + 1));
    for (int i = 0; i < TAKEN; i += 2)
        panels_give(all[i].block, all[i].bytes);
    backend_close(cpu);         /* half of them are in use still */
    for (int i = 1; i < TAKEN; i += 2) {
        assert_true(holds(&all[i], i + 1));
        panels_give(all[i].block, all[i].bytes);
    }
}

static void small_and_giant_ones(void **state)
{
    (void)state;
    struct cpu_backend *cpu = backend_open();
    struct taken small = take(cpu, SMALL, 1), giant = take(cpu, (size_t)40 * LARGE, 2),
                 after = take(cpu, LARGE, 3);
    assert_non_null(small.bytes);
    assert_null(small.block);
    assert_non_null(giant.block);
    assert_ptr_not_equal(giant.block, after.block);
    assert_true(holds(&giant, 2) && holds(&after, 3));
    struct panel_block *none = giant.block;
    assert_null(panels_take(cpu, SIZE_MAX / 2, 3, &none));
    assert_null(none);
    assert_null(panels_take(cpu, SIZE_MAX, 1, &none));
    assert_null(panels_take(cpu, PTRDIFF_MAX, 1, &none));
    panels_give(NULL, NULL);
    panels_give(small.block, small.bytes);
    panels_give(giant.block, giant.bytes);
    panels_give(after.block, after.bytes);
    backend_close(cpu);
}

/* A model that is closed and opened again takes the same memory. */
static void taken_again(void **state)
{
    (void)state;
    struct cpu_backend *cpu = backend_open();
    struct taken first = take(cpu, LARGE, 1), second = take(cpu, LARGE, 2);
    panels_give(first.block, first.bytes);
    struct taken third = take(cpu, LARGE, 3);
    assert_true(third.bytes != first.bytes && holds(&second, 2));
    panels_give(second.block, second.bytes);
    panels_give(third.block, third.bytes);
    struct taken again = take(cpu, LARGE, 4);
    assert_ptr_equal(again.bytes, first.bytes);
    panels_give(again.block, again.bytes);
    backend_close(cpu);
}

static void take_and_give(void *context, size_t item, int worker)
{
    struct taken mine[4];
    (void)worker;
    for (size_t i = 0; i < 4; i++)
        mine[i] = take(context, (size_t)LARGE / 2, (int)(item + i));
    for (size_t i = 0; i < 4; i++) {
        if (!mine[i].bytes || !holds(&mine[i], (int)(item + i)))
            abort();
        panels_give(mine[i].block, mine[i].bytes);
    }
}

static void by_several_threads(void **state)
{
    (void)state;
    struct cpu_backend *cpu = backend_open();
    thread_pool_each(pool, ITEMS, take_and_give, cpu);
    backend_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_ones_share),
        cmocka_unit_test(small_and_giant_ones),
        cmocka_unit_test(taken_again),
        cmocka_unit_test(by_several_threads),
    };
    pool = thread_pool_create(THREADS);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_destroy(&pool);
    return failed;
}
