/* The known answers of Random123 1.14 (kat_vectors, philox4x32 with 10 rounds). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/philox.h"

static void expect(const uint32_t counter[4], const uint32_t key[2], const uint32_t known[4])
{
    uint32_t out[4];
    philox_4x32(counter, key, out);
    assert_memory_equal(out, known, sizeof out);
}

static void known_answers(void **state)
{
    (void)state;
    expect((uint32_t[]){0, 0, 0, 0}, (uint32_t[]){0, 0},
           (uint32_t[]){0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    expect((uint32_t[]){~0u, ~0u, ~0u, ~0u}, (uint32_t[]){~0u, ~0u},
           (uint32_t[]){0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    expect((uint32_t[]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
           (uint32_t[]){0xa4093822, 0x299f31d0},
           (uint32_t[]){0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

static void rows_are_blocks(void **state)
{
    (void)state;
    uint32_t counter[4] = {~0u - 5, 2, 3, 4}, key[2] = {5, 6}, one[4];
    uint32_t row[4][PHILOX_ROW];
    philox_4x32_row(counter, key, row);
    for (int i = 0; i < PHILOX_ROW; i++, counter[0]++) {
        philox_4x32(counter, key, one);
        for (int word = 0; word < 4; word++)
            assert_int_equal(row[word][i], one[word]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(rows_are_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
