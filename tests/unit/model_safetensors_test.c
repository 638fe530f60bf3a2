/* safetensors: what is read from a good file, and that a bad one is named, never believed. */
#include "model_helpers.h"

#include "model/safetensors.h"

/* A file in memory: header length, header, data. */
static struct bytes make(const char *header, size_t data_bytes)
{
    struct bytes file = { 0 };
    uint64_t length = strlen(header);
    for (int i = 0; i < 8; i++) {
        unsigned char byte = (unsigned char)(length >> (8 * i));
        bytes_append(&file, &byte, 1);
    }
    bytes_append_text(&file, header);
    for (size_t i = 0; i < data_bytes; i++)
        bytes_append(&file, "", 1);
    assert_false(file.failed);
    return file;
}

static void expect(const char *header, size_t data_bytes, enum akin_status status, const char *part)
{
    struct bytes file = make(header, data_bytes);
    struct safetensors *parsed = NULL;
    struct akin_error error = { 0 };
    /* a copy of exact size, so that a sanitizer sees one byte too many */
    char *exact = memory_copy_bytes(file.data, file.count);
    enum akin_status got = safetensors_parse(exact, file.count, "m.safetensors", &parsed, &error);
    assert_int_equal(got, status);
    if (status == AKIN_OK) {
        assert_non_null(parsed);
    } else {
        assert_null(parsed);
        assert_int_equal(error.status, status);
        assert_message_has(error, "m.safetensors");
        assert_message_has(error, part);
    }
    safetensors_close(&parsed);
    memory_free(exact);
    bytes_deinit(&file);
}

#define T(dtype, shape, offsets)                                                     \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_good(void **state)
{
    (void)state;
    expect("{}", 0, AKIN_OK, NULL);
    expect("{\"__metadata__\":{\"format\":\"pt\"},\"w\":" T("F32", "[2,3]", "[0,24]") "}   ", 24,
           AKIN_OK, NULL);
    expect("{\"a\":" T("F16", "[]", "[0,2]") ",\"b\":" T("BF16", "[0,7]", "[2,2]") ",\"c\":"
           T("I64", "[1]", "[2,10]") "}", 10, AKIN_OK, NULL);
    struct safetensors *file;
    struct akin_error error;
    assert_int_equal(safetensors_open(TINY "/model.safetensors", &file, &error), AKIN_OK);
    assert_true(safetensors_count(file) == 38);
    struct host_matrix matrix;
    assert_int_equal(
        safetensors_matrix(file, "embeddings.position_embeddings.weight", 48, 32, &matrix, &error),
        AKIN_OK);
    assert_int_equal(matrix.type, ELEMENT_F32);
    assert_int_equal(safetensors_matrix(file, "embeddings.LayerNorm.bias", 1, 32, &matrix, &error),
                     AKIN_OK);
    assert_int_equal(safetensors_matrix(file, "nothing", 1, 32, &matrix, &error), AKIN_FORMAT);
    assert_message_has(error, "tensor nothing is missing");
    assert_int_equal(safetensors_matrix(file, "embeddings.LayerNorm.bias", 1, 33, &matrix, &error),
                     AKIN_FORMAT);
    assert_message_has(error, "shape [32], but config.json makes it [1,33]");
    assert_int_equal(safetensors_matrix(file, "embeddings.position_ids", 1, 48, &matrix, &error),
                     AKIN_UNSUPPORTED);
    assert_message_has(error, "I64");
    safetensors_close(&file);
    safetensors_close(&file);
}

static void test_bad_header(void **state)
{
    (void)state;
    expect("[1]", 0, AKIN_FORMAT, "expected an object");
    expect("{\"w\"", 0, AKIN_FORMAT, "not valid JSON");
    expect("{\"w\":5}", 0, AKIN_FORMAT, "tensor w: expected an object");
    expect("{\"w\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4, AKIN_FORMAT, "dtype");
    expect("{\"w\":" T("F99", "[1]", "[0,4]") "}", 4, AKIN_FORMAT, "dtype F99");
    expect("{\"w\":" T("F32", "4", "[0,4]") "}", 4, AKIN_FORMAT, "shape");
    expect("{\"w\":" T("F32", "[-1]", "[0,4]") "}", 4, AKIN_FORMAT, "shape[0]");
    expect("{\"w\":" T("F32", "[1.0]", "[0,4]") "}", 4, AKIN_FORMAT, "shape[0]");
    expect("{\"w\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, AKIN_FORMAT, "shape");
    expect("{\"w\":" T("F32", "[4294967296,4294967296]", "[0,4]") "}", 4, AKIN_FORMAT, "overflows");
    expect("{\"w\":" T("F64", "[4611686018427387904]", "[0,0]") "}", 4, AKIN_FORMAT, "overflow");
    expect("{\"w\":" T("F32", "[9223372036854775808]", "[0,0]") "}", 4, AKIN_FORMAT,
           "not valid JSON");
    expect("{\"w\":" T("F32", "[1]", "[0,4]") ",\"w\":" T("F32", "[1]", "[0,4]") "}", 4,
           AKIN_FORMAT, "duplicate");
}

static void test_bad_offsets(void **state)
{
    (void)state;
    expect("{\"w\":" T("F32", "[1]", "[0]") "}", 4, AKIN_FORMAT, "data_offsets");
    expect("{\"w\":" T("F32", "[1]", "[0,\"4\"]") "}", 4, AKIN_FORMAT, "data_offsets");
    expect("{\"w\":" T("F32", "[1]", "[4,0]") "}", 4, AKIN_FORMAT, "leave the file");
    expect("{\"w\":" T("F32", "[1]", "[-4,0]") "}", 4, AKIN_FORMAT, "data_offsets");
    expect("{\"w\":" T("F32", "[1]", "[0,4]") "}", 3, AKIN_FORMAT, "leave the file");
    expect("{\"w\":" T("F32", "[1]", "[0,4611686018427387904]") "}", 4, AKIN_FORMAT,
           "leave the file");
    expect("{\"w\":" T("F32", "[2]", "[0,4]") "}", 4, AKIN_FORMAT, "need 8");
    expect("{\"w\":" T("F16", "[2]", "[0,8]") "}", 8, AKIN_FORMAT, "need 4");
    expect("{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[2]", "[4,12]") "}", 12,
           AKIN_FORMAT, "tensors a and b overlap");
    expect("{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[1]", "[2,6]") "}", 12,
           AKIN_FORMAT, "overlap");
}

static void test_bad_length(void **state)
{
    (void)state;
    struct safetensors *file = NULL;
    struct akin_error error;
    unsigned char huge[16] = { 0, 0, 0, 0, 0, 0, 0, 0x80, '{', '}' };      /* 2^63 */
    assert_int_equal(safetensors_parse(huge, sizeof huge, "m", &file, &error), AKIN_FORMAT);
    assert_message_has(error, "9223372036854775808");
    unsigned char all[16];
    memset(all, 0xff, sizeof all);
    assert_int_equal(safetensors_parse(all, sizeof all, "m", &file, &error), AKIN_FORMAT);
    for (size_t n = 0; n < 8; n++)
        assert_int_equal(safetensors_parse(huge, n, "m", &file, &error), AKIN_FORMAT);
    assert_int_equal(safetensors_open(TINY "/nothing", &file, &error), AKIN_NOT_FOUND);
    assert_message_has(error, "nothing");
    assert_int_equal(safetensors_open(TINY, &file, &error), AKIN_IO);
    assert_int_equal(safetensors_open("/dev/null", &file, NULL), AKIN_IO);
    assert_null(file);
}

/* Every prefix of a good file is refused: nothing is believed that is not there. */
static void test_every_prefix(void **state)
{
    (void)state;
    struct bytes file =
        make("{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[2]", "[8,16]") "}", 16);
    for (size_t n = 0; n < file.count; n++) {
        struct safetensors *parsed = NULL;
        char *exact = memory_copy_bytes(file.data, n);
        assert_int_equal(safetensors_parse(exact, n, "m", &parsed, NULL), AKIN_FORMAT);
        memory_free(exact);
    }
    bytes_deinit(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),       cmocka_unit_test(test_bad_header),
        cmocka_unit_test(test_bad_offsets), cmocka_unit_test(test_bad_length),
        cmocka_unit_test(test_every_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
