/* .fvecs, .bvecs and .ivecs: what is there is read, and each way to be wrong is told by its row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/vecs.h"

static char folder[] = "/tmp/akin_vecs_XXXXXX";
static char path[256];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/x.fvecs", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

static void put32(struct bytes *b, uint32_t value)
{
    const unsigned char le[4] = {(unsigned char)value, (unsigned char)(value >> 8),
                                 (unsigned char)(value >> 16), (unsigned char)(value >> 24)};
    bytes_append(b, le, 4);
}

static void put_float(struct bytes *b, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    put32(b, bits);
}

static enum akin_status open_bytes(const struct bytes *b, enum vecs_type type, struct vecs *v,
                                   struct akin_error *error)
{
    assert_int_equal(file_write(path, b->data ? b->data : "", b->count, NULL), AKIN_OK);
    return vecs_open(path, type, v, error);
}

static void refused(const struct bytes *b, enum vecs_type type, const char *words)
{
    struct akin_error error = {0};
    struct vecs v;
    assert_int_equal(open_bytes(b, type, &v, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, path));
    if (!strstr(error.message, words))
        fail_msg("'%s' lacks '%s'", error.message, words);
}

static void test_endings(void **state)
{
    (void)state;
    enum vecs_type type = VECS_FLOAT32;
    assert_true(vecs_type_of("a/b.fvecs", &type) && type == VECS_FLOAT32);
    assert_true(vecs_type_of("b.BVECS", &type) && type == VECS_UINT8);
    assert_true(vecs_type_of("b.x.ivecs", &type) && type == VECS_INT32);
    assert_false(vecs_type_of("a.fvecs/b", &type));
    assert_false(vecs_type_of("fvecs", &type));
    assert_false(vecs_type_of("", &type));
}

static void test_rows(void **state)
{
    (void)state;
    struct bytes f = {0}, u = {0}, w = {0};
    struct vecs v;
    float out[6];
    int64_t ids[6];
    for (uint32_t row = 0; row < 3; row++) {
        put32(&f, 2);
        put32(&u, 2);
        put32(&w, 2);
        for (uint32_t col = 0; col < 2; col++) {
            put_float(&f, (float)row - 0.25f * (float)col);
            bytes_append(&u, &(unsigned char){(unsigned char)(250 + 2 * row + col)}, 1);
            put32(&w, (uint32_t)-5 + 7 * row + col);
        }
    }
    assert_int_equal(open_bytes(&f, VECS_FLOAT32, &v, NULL), AKIN_OK);
    assert_int_equal(v.rows, 3);
    assert_int_equal(v.dimension, 2);
    assert_int_equal(vecs_read(&v, 1, 2, out, NULL), AKIN_OK);
    assert_true(out[0] == 1 && out[1] == 0.75f && out[2] == 2 && out[3] == 1.75f);
    assert_int_equal(vecs_read_ids(&v, 0, 1, ids, NULL), AKIN_FORMAT);
    vecs_close(&v);
    assert_int_equal(open_bytes(&u, VECS_UINT8, &v, NULL), AKIN_OK);
    assert_int_equal(vecs_read(&v, 0, 3, out, NULL), AKIN_OK);
    for (int i = 0; i < 6; i++)
        assert_true(out[i] == (float)(250 + i));
    vecs_close(&v);
    assert_int_equal(open_bytes(&w, VECS_INT32, &v, NULL), AKIN_OK);
    assert_int_equal(vecs_read_ids(&v, 0, 3, ids, NULL), AKIN_OK);
    assert_int_equal(vecs_read(&v, 0, 3, out, NULL), AKIN_OK);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(ids[i], -5 + 7 * (i / 2) + i % 2);
        assert_true(out[i] == (float)ids[i]);
    }
    vecs_close(&v);
    bytes_deinit(&f);
    bytes_deinit(&u);
    bytes_deinit(&w);
}

static void test_refused(void **state)
{
    (void)state;
    struct bytes b = {0};
    struct vecs v;
    refused(&b, VECS_FLOAT32, "too few");
    put32(&b, 0);
    refused(&b, VECS_FLOAT32, "claims 0 dimensions");
    bytes_clear(&b);
    put32(&b, 0xffffffff);
    refused(&b, VECS_FLOAT32, "claims -1 dimensions");
    bytes_clear(&b);
    put32(&b, 0x7fffffff);
    refused(&b, VECS_UINT8, "expected 1 to 65536");
    bytes_clear(&b);
    put32(&b, 0x80010000); /* 384, big-endian */
    refused(&b, VECS_FLOAT32, "big-endian");
    bytes_clear(&b);
    put32(&b, 2);
    put_float(&b, 1);
    refused(&b, VECS_FLOAT32, "0 rows of 2 dimensions, then 8 bytes of a row of 12");
    put_float(&b, 1);
    put32(&b, 2);
    refused(&b, VECS_FLOAT32, "cut short");
    bytes_clear(&b);
    for (uint32_t row = 0; row < 4; row++) {
        put32(&b, row == 2 ? 1 : 2);
        put_float(&b, 1);
        put_float(&b, 1);
    }
    struct akin_error error = {0};
    float out[8];
    assert_int_equal(open_bytes(&b, VECS_FLOAT32, &v, &error), AKIN_OK);
    assert_int_equal(vecs_read(&v, 0, 2, out, &error), AKIN_OK);
    assert_int_equal(vecs_read(&v, 0, 4, out, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "row 2: has 1 dimensions where row 0 has 2"));
    vecs_close(&v);
    bytes_deinit(&b);
    assert_int_equal(vecs_open("/nonexistent/x.fvecs", VECS_FLOAT32, &v, &error), AKIN_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endings),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
