/* Sizes, arenas, pools, byte strings, hashes, random numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "base/hash.h"
#include "base/memory.h"
#include "base/rng.h"

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    size_t out = 7;
    assert_false(size_mul(SIZE_MAX / 2 + 1, 2, &out));
    assert_false(size_add(SIZE_MAX, 1, &out));
    assert_int_equal(out, 7);
    assert_true(size_mul(6, 7, &out));
    assert_int_equal(out, 42);
    assert_null(memory_alloc(SIZE_MAX / 4, 8));
    assert_null(memory_alloc_aligned(SIZE_MAX - 8, 1));
    assert_null(memory_resize(NULL, SIZE_MAX / 4, 8));
}

/* In huge pages from 2 MB on, aligned to them; a checker still sees the end. */
static void large_blocks_end_where_they_should(void **state)
{
    (void)state;
    static const size_t sizes[] = { (2 << 20) - 1, 2 << 20, (3 << 20) - 1, 3 << 20, (4 << 20) - 7 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *block = memory_alloc_aligned(sizes[i], 1);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % (sizes[i] < 2 << 20 ? 64 : 2 << 20), 0);
        block[0] = block[sizes[i] - 1] = 1;
#ifdef __SANITIZE_ADDRESS__
        assert_true(__asan_address_is_poisoned(block + sizes[i]));
#endif
        memory_free(block);
    }
}

static void arena_hands_out_aligned_blocks_until_full(void **state)
{
    (void)state;
    struct arena arena;
    assert_true(arena_init(&arena, 256));
    unsigned char *a = arena_alloc(&arena, 1, 1), *b = arena_alloc(&arena, 3, 20);
    assert_non_null(a);
    assert_int_equal((uintptr_t)b % 64, 0);
    assert_int_equal(b - a, 64);
    assert_null(arena_alloc(&arena, 1, 129));
    assert_null(arena_alloc(&arena, SIZE_MAX, 2));
    assert_non_null(arena_alloc(&arena, 128, 1));
    assert_null(arena_alloc(&arena, 1, 1));
    arena_reset(&arena);
    assert_ptr_equal(arena_alloc(&arena, 1, 1), a);
    assert_int_equal(arena.peak, 256);
    arena_deinit(&arena);
}

static void string_pool_keeps_pointers(void **state)
{
    (void)state;
    struct string_pool pool = { 0 };
    char *first = string_pool_add(&pool, "a\0b", 3);
    assert_memory_equal(first, "a\0b\0", 4);
    static char large[200000];
    memset(large, 'x', sizeof large);
    assert_non_null(string_pool_add(&pool, large, sizeof large));
    for (int i = 0; i < 10000; i++)
        assert_non_null(string_pool_add(&pool, "hello", 5));
    assert_int_equal((uintptr_t)string_pool_alloc(&pool, 24) % 8, 0);
    assert_memory_equal(first, "a\0b\0", 4);
    string_pool_deinit(&pool);
}

static void bytes_grow_and_format(void **state)
{
    (void)state;
    struct bytes b = { 0 };
    for (int i = 0; i < 1000; i++)
        bytes_printf(&b, "%03d,", i);
    assert_int_equal(b.count, 4000);
    assert_int_equal(b.data[4000], 0);
    assert_memory_equal(b.data + 3996, "999,", 5);
    bytes_clear(&b);
    bytes_append_text(&b, "new");
    assert_string_equal(b.data, "new");
    bytes_deinit(&b);
}

static void allocations_are_counted(void **state)
{
    (void)state;
    uint64_t before = memory_allocations();
    void *block = memory_alloc(1, 1);
    assert_int_equal(memory_allocations(), before + 1);
    memory_free(block);
}

static void maps_find_what_was_put(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    struct string_map map = { 0 };
    struct number_map numbers = { 0 };
    static char keys[COUNT][16];
    uint64_t value;
    bool added;
    assert_false(string_map_get(&map, "x", 1, &value));
    for (int i = 0; i < COUNT; i++) {
        int length = snprintf(keys[i], sizeof keys[i], "key %d", i);
        assert_true(string_map_put(&map, keys[i], (size_t)length, (uint64_t)i, &value, &added));
        assert_true(added);
        assert_true(number_map_put(&numbers, (uint64_t)i << 40, (uint64_t)i, NULL, NULL));
    }
    for (int i = 0; i < COUNT; i++) {
        assert_true(string_map_put(&map, keys[i], strlen(keys[i]), 1, &value, &added));
        assert_false(added);
        assert_int_equal(value, i);
        assert_true(number_map_get(&numbers, (uint64_t)i << 40, &value));
        assert_int_equal(value, i);
    }
    assert_false(number_map_get(&numbers, 1, &value));
    assert_false(string_map_get(&map, "key", 3, &value));
    assert_true(string_map_set(&map, "key 5", 5, 99));
    assert_true(string_map_get(&map, "key 5", 5, &value));
    assert_int_equal(value, 99);
    string_map_deinit(&map);
    number_map_deinit(&numbers);
}

/* The empty string and "abc": FIPS 180-4. */
static void sha256_knows_its_test_vectors(void **state)
{
    (void)state;
    struct sha256 sha;
    char hex[65];
    sha256_begin(&sha);
    sha256_end(&sha, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_begin(&sha);
    sha256_add(&sha, "a", 1);
    sha256_add(&sha, "bc", 2);
    sha256_end(&sha, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void random_numbers_repeat_and_spread(void **state)
{
    (void)state;
    struct rng a, b;
    rng_seed(&a, 7);
    rng_seed(&b, 7);
    double sum = 0, squares = 0, normal = 0, normal_squares = 0;
    enum { COUNT = 200000 };
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(rng_next(&a), rng_next(&b));
        float u = rng_float(&a), n = rng_normal(&a);
        rng_float(&b);
        rng_normal(&b);
        assert_true(u >= 0 && u < 1);
        assert_true(rng_below(&a, 7) < 7);
        rng_below(&b, 7);
        sum += u;
        squares += u * u;
        normal += n;
        normal_squares += n * n;
    }
    assert_true(sum / COUNT > 0.49 && sum / COUNT < 0.51);
    assert_true(squares / COUNT > 0.32 && squares / COUNT < 0.345);
    assert_true(normal / COUNT > -0.01 && normal / COUNT < 0.01);
    assert_true(normal_squares / COUNT > 0.98 && normal_squares / COUNT < 1.02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(large_blocks_end_where_they_should),
        cmocka_unit_test(arena_hands_out_aligned_blocks_until_full),
        cmocka_unit_test(string_pool_keeps_pointers),
        cmocka_unit_test(bytes_grow_and_format),
        cmocka_unit_test(allocations_are_counted),
        cmocka_unit_test(maps_find_what_was_put),
        cmocka_unit_test(sha256_knows_its_test_vectors),
        cmocka_unit_test(random_numbers_repeat_and_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
