/* Made-up ratings: the same bytes for the same seed, and of the shape that they promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/csv.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/made_ratings.h"

static char folder[] = "/tmp/akin_made_XXXXXX";

static struct bytes write_and_read(uint64_t seed, const struct made_sizes *sizes, const char *name)
{
    char path[PATH_BYTES_MAX];
    struct bytes text = { 0 };
    struct akin_error error = { 0 };
    if (made_ratings_write(folder, sizes, seed, (struct akin_progress){ 0 }, &error))
        fail_msg("%s", error.message);
    assert_int_equal(path_join(path, sizeof path, folder, name, NULL), AKIN_OK);
    assert_int_equal(file_read(path, SIZE_MAX / 2, &text, NULL), AKIN_OK);
    return text;
}

static void test_same_seed_same_bytes(void **state)
{
    (void)state;
    struct made_sizes sizes = { .items = 400, .users = 30, .ratings = 2000 };
    struct bytes one = write_and_read(1, &sizes, "ratings.csv"),
                 same = write_and_read(1, &sizes, "ratings.csv"),
                 other = write_and_read(2, &sizes, "ratings.csv");
    assert_int_equal(one.count, same.count);
    assert_memory_equal(one.data, same.data, one.count);
    assert_true(one.count != other.count || memcmp(one.data, other.data, one.count));
    bytes_deinit(&one);
    bytes_deinit(&same);
    bytes_deinit(&other);
}

static void test_shape(void **state)
{
    (void)state;
    struct made_sizes sizes = { .items = 5000, .users = 500, .ratings = 60000 };
    struct bytes text = write_and_read(7, &sizes, "ratings.csv");
    struct csv_reader csv;
    size_t count = 0, users = 0, of_user = 0, most = 0;
    uint64_t last_user = 0, last_item = 0;
    bool row;
    csv_open(&csv, "ratings.csv", text.data, text.count, ",", true);
    assert_int_equal(csv_next(&csv, &row, NULL), AKIN_OK);
    while (csv_next(&csv, &row, NULL) == AKIN_OK && row) {
        uint64_t user, item, time;
        double rating;
        assert_int_equal(csv.field_count, 4);
        assert_true(parse_uint64(csv.fields[0].text, csv.fields[0].bytes, &user));
        assert_true(parse_uint64(csv.fields[1].text, csv.fields[1].bytes, &item));
        assert_true(parse_double(csv.fields[2].text, csv.fields[2].bytes, &rating));
        assert_true(parse_uint64(csv.fields[3].text, csv.fields[3].bytes, &time));
        assert_true(rating >= 0.5 && rating <= 5 && item >= 1 && item <= sizes.items);
        assert_true(time > 700000000 && time < 1600000000);
        if (user != last_user) {
            assert_true(users == 0 || of_user >= 20);
            assert_int_equal(user, last_user + 1);
            users++;
            of_user = 0;
            last_item = 0;
        }
        assert_true(item > last_item);
        last_user = user;
        last_item = item;
        of_user++;
        most = of_user > most ? of_user : most;
        count++;
    }
    csv_close(&csv);
    bytes_deinit(&text);
    assert_int_equal(users, sizes.users);
    assert_true(count >= sizes.ratings && count < sizes.ratings + 2 * sizes.users);
    assert_true(most > 3 * count / users);      /* a long tail */
}

static void test_sizes_are_those_of_movielens(void **state)
{
    (void)state;
    struct made_sizes sizes = made_sizes_for(25000000);
    assert_int_equal(sizes.items, 62423);
    assert_int_equal(sizes.users, 162541);
    sizes = made_sizes_for(1);
    assert_int_equal(sizes.users, 1);
    assert_true(sizes.items >= 160);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL) == AKIN_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_same_bytes),
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_sizes_are_those_of_movielens),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
