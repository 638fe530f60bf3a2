/* Files at offsets: all of what is asked for or an error that names the file, and locks that hold
 * between descriptors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file_at.h"

static char folder[] = "/tmp/akin_file_at_XXXXXX";
static char path[256];
static struct akin_error error;

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/x", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

static struct file_at make(void)
{
    struct file_at file;
    assert_int_equal(path_remove(path, NULL), AKIN_OK);
    assert_int_equal(file_at_open(path, FILE_AT_CREATE, &file, &error), AKIN_OK);
    return file;
}

static void many_parts_are_one_write(void **state)
{
    struct file_at file = make();
    enum { PARTS = 300 };
    struct file_part parts[PARTS];
    char bytes[PARTS], expected[PARTS * PARTS], got[PARTS * PARTS];
    size_t total = 0;
    for (int i = 0; i < PARTS; i++)
        bytes[i] = (char)(i * 7);
    for (size_t i = 0; i < PARTS; i++) {
        parts[i] = (struct file_part){ bytes, i % 5 ? i : 0 };
        memcpy(expected + total, bytes, parts[i].bytes);
        total += parts[i].bytes;
    }
    assert_int_equal(file_at_write(&file, 1000, parts, PARTS, &error), AKIN_OK);
    assert_int_equal(file_at_write(&file, 0, parts, 1, &error), AKIN_OK);
    assert_int_equal(file_at_write(&file, 0, NULL, 0, &error), AKIN_OK);
    uint64_t size;
    assert_int_equal(file_at_size(&file, &size, &error), AKIN_OK);
    assert_int_equal(size, 1000 + total);
    assert_int_equal(file_at_read(&file, 1000, got, total, &error), AKIN_OK);
    assert_memory_equal(got, expected, total);
    assert_int_equal(file_at_read(&file, 1001, got, total, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "ends at byte"));
    assert_non_null(strstr(error.message, path));
    struct file_window window;
    assert_int_equal(file_window_open(&file, 1003, total - 3, &window, &error), AKIN_OK);
    struct file_at copy;
    assert_int_equal(file_at_open(folder, FILE_AT_UNNAMED, &copy, &error), AKIN_OK);
    assert_int_equal(file_at_copy(&file, 1000, &copy, 5, total, &error), AKIN_OK);
    assert_int_equal(file_at_sync(&copy, &error), AKIN_OK);
    file_at_close(&file);
    assert_memory_equal(window.data, expected + 3, total - 3);
    file_window_close(&window);
    assert_int_equal(file_at_read(&copy, 5, got, total, &error), AKIN_OK);
    assert_memory_equal(got, expected, total);
    assert_int_equal(file_at_truncate(&copy, 7, &error), AKIN_OK);
    assert_int_equal(file_at_read(&copy, 5, got, 3, &error), AKIN_FORMAT);
    file_at_close(&copy);
    struct names names = { 0 };
    assert_int_equal(path_list(folder, &names, NULL), AKIN_OK);
    assert_int_equal(names.count, 1);
    names_deinit(&names);
    (void)state;
}

static void one_descriptor_has_the_lock(void **state)
{
    struct file_at first = make(), second;
    assert_int_equal(file_at_open(path, FILE_AT_CREATE, &second, &error), AKIN_BUSY);
    assert_int_equal(file_at_open(path, FILE_AT_WRITE, &second, &error), AKIN_OK);
    assert_false(file_at_is_locked(&second));
    assert_int_equal(file_at_lock(&first, &error), AKIN_OK);
    assert_int_equal(file_at_lock(&first, &error), AKIN_OK);
    assert_false(file_at_is_locked(&first));
    assert_true(file_at_is_locked(&second));
    struct file_at reader;
    assert_int_equal(file_at_open(path, FILE_AT_READ, &reader, &error), AKIN_OK);
    assert_true(file_at_is_locked(&reader));
    file_at_close(&reader);
    assert_int_equal(file_at_lock(&second, &error), AKIN_BUSY);
    assert_non_null(strstr(error.message, "locked by another writer"));
    assert_true(file_at_is_current(&first));
    file_at_close(&first);
    assert_int_equal(file_at_lock(&second, &error), AKIN_OK);
    assert_int_equal(path_remove(path, NULL), AKIN_OK);
    assert_false(file_at_is_current(&second));
    file_at_close(&second);
    file_at_close(&second);
    (void)state;
}

static void failures_name_the_file(void **state)
{
    struct file_at file = make(), reader;
    assert_int_equal(file_at_open("/nonexistent/x", FILE_AT_READ, &reader, &error), AKIN_NOT_FOUND);
    assert_int_equal(file_at_open(folder, FILE_AT_READ, &reader, &error), AKIN_IO);
    assert_int_equal(file_at_open("/nonexistent", FILE_AT_UNNAMED, &reader, &error),
                     AKIN_NOT_FOUND);
    assert_int_equal(file_at_open(path, FILE_AT_READ, &reader, &error), AKIN_OK);
    error.message[0] = 0;
    assert_int_equal(file_at_write(&reader, 0, &(struct file_part){ "x", 1 }, 1, &error), AKIN_IO);
    assert_non_null(strstr(error.message, path));
    error.message[0] = 0;
    assert_int_equal(file_at_truncate(&reader, 0, &error), AKIN_IO);
    assert_non_null(strstr(error.message, path));
    assert_int_equal(file_at_lock(&reader, &error), AKIN_IO);
    struct file_window window;
    assert_int_equal(file_window_open(&reader, 0, 0, &window, &error), AKIN_OK);
    file_window_close(&window);
    file_at_close(&reader);
    file_at_close(&file);
    (void)state;
}

static void links_are_followed(void **state)
{
    char link[300], got[PATH_BYTES_MAX], real[PATH_BYTES_MAX];
    struct file_at file = make();
    file_at_close(&file);
    snprintf(link, sizeof link, "%s/link", folder);
    assert_int_equal(symlink("x", link), 0);
    assert_int_equal(path_resolve(link, got, &error), AKIN_OK);
    assert_non_null(realpath(path, real));
    assert_string_equal(got, real);
    assert_int_equal(path_resolve("no/such/x", got, &error), AKIN_OK);
    assert_string_equal(got, "no/such/x");
    char *longer = memory_alloc(PATH_BYTES_MAX + 1, 1);
    memset(longer, 'a', PATH_BYTES_MAX);
    assert_int_equal(path_resolve(longer, got, &error), AKIN_LIMIT);
    memory_free(longer);
    (void)state;
}

static void a_shared_file_outlives_its_lock(void **state)
{
    struct file_at file = make(), shared = { .fd = -1 }, other;
    char got[3];
    (void)state;
    assert_int_equal(file_at_write(&file, 0, &(struct file_part){ "abc", 3 }, 1, &error), AKIN_OK);
    file_at_begin_sync(&file, 0, 3);
    assert_int_equal(file_at_sync(&file, &error), AKIN_OK);
    assert_int_equal(file_at_open(path, FILE_AT_WRITE, &other, &error), AKIN_OK);
    assert_int_equal(file_at_lock(&file, &error), AKIN_OK);
    assert_int_equal(file_at_share(&file, &shared, &error), AKIN_OK);
    file_at_unlock(&file);
    file_at_close(&file);
    assert_int_equal(file_at_lock(&other, &error), AKIN_OK);
    assert_int_equal(file_at_read(&shared, 0, got, 3, &error), AKIN_OK);
    assert_memory_equal(got, "abc", 3);
    file_at_close(&shared);
    file_at_close(&other);
    assert_int_equal(file_at_share(&file, &shared, &error), AKIN_IO);
}

/* Any range, by whole blocks, past the page cache where there is a way. */
static void blocks_around_a_range_are_read(void **state)
{
    (void)state;
    enum { BYTES = 3 * FILE_BLOCK_BYTES + 1000 };
    static unsigned char bytes[BYTES];
    static _Alignas(FILE_BLOCK_BYTES) unsigned char buffer[BYTES + 2 * FILE_BLOCK_BYTES];
    static const size_t ranges[][2] = {
        { 0, BYTES }, { 0, 1 }, { BYTES - 1, 1 }, { 4095, 2 }, { 4096, 4096 }, { 5000, 8192 },
        { 12287, 1001 }, { 100, 0 }, { BYTES, 0 },
    };
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    assert_int_equal(file_write(path, bytes, BYTES, &error), AKIN_OK);
    for (int direct = 0; direct < 2; direct++) {
        struct file_at file;
        const unsigned char *data;
        assert_int_equal(file_at_open(path, direct ? FILE_AT_READ_DIRECT : FILE_AT_READ, &file,
                                      &error), AKIN_OK);
        assert_true(direct || !file.direct);
        for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
            memset(buffer, 0, sizeof buffer);
            assert_int_equal(file_at_read_blocks(&file, ranges[i][0], ranges[i][1], buffer, &data,
                                                 &error), AKIN_OK);
            if (ranges[i][1])
                assert_memory_equal(data, bytes + ranges[i][0], ranges[i][1]);
        }
        assert_int_equal(file_at_read_blocks(&file, 5000, BYTES - 4999, buffer, &data, &error),
                         AKIN_FORMAT);
        assert_non_null(strstr(error.message, "cut short"));
        assert_int_equal(file_at_read_blocks(&file, BYTES + 9000, 1, buffer, &data, &error),
                         AKIN_FORMAT);
        file_at_close(&file);
    }
}

static void a_folder_has_one_lock(void **state)
{
    (void)state;
    struct folder_lock lock, other = { -1 };
    assert_int_equal(folder_lock_take(folder, &lock, &error), AKIN_OK);
    assert_int_equal(folder_lock_take(folder, &other, &error), AKIN_BUSY);
    assert_non_null(strstr(error.message, folder));
    folder_lock_release(&other);
    folder_lock_release(&lock);
    folder_lock_release(&lock);
    assert_int_equal(folder_lock_take(folder, &other, &error), AKIN_OK);
    folder_lock_release(&other);
    assert_int_equal(folder_lock_take("no/such", &lock, &error), AKIN_NOT_FOUND);
    uint64_t bytes;
    assert_int_equal(path_free_bytes(folder, &bytes, &error), AKIN_OK);
    assert_int_equal(path_free_bytes("no/such", &bytes, &error), AKIN_NOT_FOUND);
    assert_int_equal(path_bytes("no/such", &bytes, &error), AKIN_NOT_FOUND);
    assert_int_equal(path_bytes(folder, &bytes, &error), AKIN_IO);
    assert_int_equal(file_write(path, "abc", 3, &error), AKIN_OK);
    assert_int_equal(path_bytes(path, &bytes, &error), AKIN_OK);
    assert_int_equal(bytes, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_parts_are_one_write),
        cmocka_unit_test(one_descriptor_has_the_lock),
        cmocka_unit_test(failures_name_the_file),
        cmocka_unit_test(links_are_followed),
        cmocka_unit_test(a_shared_file_outlives_its_lock),
        cmocka_unit_test(blocks_around_a_range_are_read),
        cmocka_unit_test(a_folder_has_one_lock),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
