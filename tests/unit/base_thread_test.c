/* The pool: every index once, ranges that depend on the count alone; UTF-8; CPU levels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/thread.h"
#include "base/utf8.h"

enum { COUNT_MAX = 1000 };

struct seen {
    unsigned char times[COUNT_MAX];     /* each index is written by one worker only */
    int worker[COUNT_MAX];
};

static void mark_range(void *context, size_t begin, size_t end, int worker)
{
    struct seen *seen = context;
    for (size_t i = begin; i < end; i++) {
        seen->times[i]++;
        seen->worker[i] = worker;
    }
}

static void mark_item(void *context, size_t item, int worker)
{
    mark_range(context, item, item + 1, worker);
}

static void every_index_once(void **state)
{
    (void)state;
    static const size_t counts[] = { 0, 1, 2, 3, 4, 5, 7, 64, 999, 1000 };
    for (int threads = 1; threads <= 5; threads++) {
        struct thread_pool *pool = thread_pool_create(threads);
        assert_non_null(pool);
        assert_int_equal(thread_pool_size(pool), threads);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (int how = 0; how < 2; how++) {
                static struct seen seen;
                memset(&seen, 0, sizeof seen);
                if (how)
                    thread_pool_each(pool, counts[c], mark_item, &seen);
                else
                    thread_pool_run(pool, counts[c], mark_range, &seen);
                for (size_t i = 0; i < COUNT_MAX; i++) {
                    assert_int_equal(seen.times[i], i < counts[c]);
                    assert_true(seen.worker[i] >= 0 && seen.worker[i] < threads);
                }
            }
        thread_pool_destroy(&pool);
        assert_null(pool);
    }
}

static void ranges_are_static(void **state)
{
    (void)state;
    struct thread_pool *pool = thread_pool_create(3);
    static struct seen first, again;
    thread_pool_run(pool, 100, mark_range, &first);
    for (int i = 0; i < 200; i++) {
        thread_pool_run(pool, 100, mark_range, &again);
        assert_memory_equal(first.worker, again.worker, sizeof first.worker);
    }
    thread_pool_destroy(&pool);
    assert_true(thread_cpus() >= 1);
}

/* Unicode 15.0, table 3-11 and the examples of section 3.9. */
static void ill_formed_bytes_become_replacements(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
        uint32_t codes[8];
        size_t count;
    } cases[] = {
        { "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10, { 'a', 0xe9, 0x20ac, 0x1f600 }, 4 },
        { "\xc0\xaf\xe0\x80\xbf", 5, { 0xfffd, 0xfffd, 0xfffd, 0xfffd, 0xfffd }, 5 },
        { "\xed\xa0\x80", 3, { 0xfffd, 0xfffd, 0xfffd }, 3 },
        { "\xf4\x91\x92\x93", 4, { 0xfffd, 0xfffd, 0xfffd, 0xfffd }, 4 },
        { "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf", 8, { 0xfffd, 0xfffd, 0xfffd, 0xfffd }, 4 },
        { "\xef\xbf\xbd", 3, { 0xfffd }, 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t at = 0, count = 0;
        while (at < cases[i].bytes) {
            uint32_t code;
            at += utf8_decode(cases[i].text + at, cases[i].bytes - at, &code);
            assert_int_equal(code, cases[i].codes[count++]);
        }
        assert_int_equal(at, cases[i].bytes);
        assert_int_equal(count, cases[i].count);
        assert_int_equal(utf8_valid(cases[i].text, cases[i].bytes), i == 0 || i == 5);
    }
    for (uint32_t code = 0; code < 0x110000; code += code == 0xd7ff ? 0x801 : 1) {
        char text[4];
        uint32_t back;
        size_t bytes = utf8_encode(code, text);
        assert_int_equal(utf8_decode(text, bytes, &back), bytes);
        assert_int_equal(back, code);
    }
}

static void levels_mask_features(void **state)
{
    (void)state;
    unsigned flags, all = CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI | CPU_AMX_INT8;
    assert_true(cpu_level("ref", all, &flags) && flags == 0);
    assert_true(cpu_level("avx2", all, &flags) && flags == CPU_AVX2);
    assert_true(cpu_level("avx512", all, &flags) && flags == (all & ~(unsigned)CPU_AMX_INT8));
    assert_true(cpu_level(NULL, all, &flags) && flags == all);
    assert_false(cpu_level("sse", all, &flags));
    assert_string_equal(cpu_level_name(all), "amx");
    assert_string_equal(cpu_level_name(0), "ref");
    char text[64];
    cpu_flags_text(all, text, sizeof text);
    assert_string_equal(text, "avx2 avx512 vnni amx-int8");
    assert_int_equal(cpu_detect(), cpu_detect());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_once),
        cmocka_unit_test(ranges_are_static),
        cmocka_unit_test(ill_formed_bytes_become_replacements),
        cmocka_unit_test(levels_mask_features),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
