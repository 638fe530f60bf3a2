/* The limits of the machine: there, finite, and no lower with better instructions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/thread.h"
#include "compute/peak.h"

static const char *const levels[] = {"ref", "avx2", "avx512", "amx"};

static void test_levels(void **state)
{
    struct thread_pool *pool = thread_pool_create(1);
    (void)state;
    assert_non_null(pool);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        unsigned flags = 0;
        assert_true(cpu_level(levels[i], cpu_detect(), &flags));
        double fp32 = peak_gflops(flags, pool, COMPUTE_FP32);
        double bf16 = peak_gflops(flags, pool, COMPUTE_BF16);
        double int8 = peak_gflops(flags, pool, COMPUTE_INT8);
        print_message("%s: fp32 %.1f, bf16 %.1f, int8 %.1f Gop/s\n", levels[i], fp32, bf16, int8);
        /* Between a tenth of an operation and a thousand each cycle of any clock there is. */
        assert_true(fp32 > 0.1 && fp32 < 1e4);
        assert_int_equal(bf16 > 0, (flags & (CPU_AVX512_BF16 | CPU_AMX_BF16)) != 0);
        assert_int_equal(int8 > 0, (flags & CPU_AVX2) != 0);
        assert_true(bf16 < 1e5 && int8 < 1e5);
    }
    thread_pool_destroy(&pool);
}

static void test_threads(void **state)
{
    /* More threads than CPUs change nothing but the sharing: every one of them is counted. */
    struct thread_pool *pool = thread_pool_create(3);
    (void)state;
    assert_non_null(pool);
    assert_true(peak_gflops(0, pool, COMPUTE_FP32) > 0.1);
    assert_true(peak_gflops(0, pool, COMPUTE_INT8) == 0);
    thread_pool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_levels),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
