/* Vectors from files of every form: the same rows from each, streamed or at once, and each way to
 * be wrong named. HDF5 files are made with its library and then damaged all over: whatever that
 * does to the library, here it is an error. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef AKIN_HAVE_HDF5
#include <hdf5.h>
#endif

#include "base/npy.h"
#include "cli/vectors_input.h"

enum { ROWS = 50, DIM = 3 };

static char folder[] = "/tmp/akin_vectors_XXXXXX";
static float matrix[ROWS][DIM];

static const char *at(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_fvecs(const char *name, const float *rows, size_t count)
{
    struct bytes b = {0};
    for (size_t row = 0; row < count; row++) {
        bytes_append(&b, &(int32_t){DIM}, 4);
        bytes_append(&b, rows + row * DIM, DIM * sizeof(float));
    }
    assert_int_equal(file_write(at(name), b.data, b.count, NULL), AKIN_OK);
    bytes_deinit(&b);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    for (int i = 0; i < ROWS * DIM; i++)
        matrix[i / DIM][i % DIM] = (float)i / 8;
    return npy_write(at("x.npy"), "'<f4'", 2, (size_t[]){ROWS, DIM}, matrix, sizeof matrix, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

static void same_rows(const char *text)
{
    struct vectors_input *input = NULL;
    struct akin_error error = {0};
    const float *rows = NULL;
    size_t count = 0, total = 0;
    if (vectors_input_open(text, "train", &input, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    assert_int_equal(vectors_input_rows(input), ROWS);
    assert_int_equal(vectors_input_dimension(input), DIM);
    do {
        if (vectors_input_next(input, 7, &rows, &count, &error) != AKIN_OK)
            fail_msg("%s", error.message);
        assert_memory_equal(rows, matrix[total], count * sizeof matrix[0]);
        total += count;
    } while (count > 0);
    assert_int_equal(total, ROWS);
    vectors_input_close(&input);
    assert_null(input);
    assert_int_equal(vectors_input_open(text, "train", &input, &error), AKIN_OK);
    assert_int_equal(vectors_input_all(input, &rows, &error), AKIN_OK);
    assert_memory_equal(rows, matrix, sizeof matrix);
    vectors_input_close(&input);
    vectors_input_close(&input);
}

static void refused(const char *text, enum akin_status status, const char *words)
{
    struct vectors_input *input = NULL;
    struct akin_error error = {0};
    enum akin_status got = vectors_input_open(text, "train", &input, &error);
    const float *rows;
    if (got == AKIN_OK)
        got = vectors_input_all(input, &rows, &error);
    vectors_input_close(&input);
    if (got != status || !strstr(error.message, words) || strchr(error.message, '\n'))
        fail_msg("%s: status %d, '%s' lacks '%s'", text, (int)got, error.message, words);
}

static void test_plain_forms(void **state)
{
    (void)state;
    same_rows(at("x.npy"));
    write_fvecs("x.fvecs", matrix[0], ROWS);
    same_rows(at("x.fvecs"));
    write_fvecs("a:b.fvecs", matrix[0], ROWS);
    same_rows(at("a:b.fvecs"));
}

static void test_plain_refused(void **state)
{
    (void)state;
    float bad[4][DIM] = {{1, 2, 3}, {1, 2, 3}, {1, 2, NAN}, {1, 2, 3}};
    write_fvecs("nan.fvecs", bad[0], 4);
    refused(at("nan.fvecs"), AKIN_FORMAT, "row 2, column 2: NaN");
    bad[2][2] = -INFINITY;
    npy_write(at("inf.npy"), "'<f4'", 2, (size_t[]){4, DIM}, bad, sizeof bad, NULL);
    refused(at("inf.npy"), AKIN_FORMAT, "row 2, column 2: infinity");
    refused(at("none.npy"), AKIN_NOT_FOUND, "none.npy");
    refused(at("none.hdf5:train"), AKIN_NOT_FOUND, "no such file");
    refused(at("x.npy:train"), AKIN_ARGUMENT, "holds no datasets");
    refused(folder, AKIN_IO, "not a regular file");
    file_write(at("x.txt"), "hello", 5, NULL);
    refused(at("x.txt"), AKIN_FORMAT, "none of them");
    npy_write(at("f8.npy"), "'<f8'", 2, (size_t[]){1, 1}, &(double){1}, 8, NULL);
    refused(at("f8.npy"), AKIN_FORMAT, "float32");
}

static void same_ids(const char *text)
{
    struct vectors_ids ids = {0};
    struct akin_error error = {0};
    if (vectors_input_ids(text, "neighbors", &ids, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    assert_int_equal(ids.rows, 2);
    assert_int_equal(ids.columns, 3);
    for (int i = 0; i < 6; i++)
        assert_int_equal(ids.ids[i], i - 1);
    memory_free(ids.ids);
}

static void test_ids(void **state)
{
    (void)state;
    static const int32_t vecs[] = {3, -1, 0, 1, 3, 2, 3, 4}, plain[] = {-1, 0, 1, 2, 3, 4};
    static const int64_t wide[] = {-1, 0, 1, 2, 3, 4};
    struct vectors_ids ids = {0};
    struct akin_error error;
    file_write(at("x.ivecs"), vecs, sizeof vecs, NULL);
    npy_write(at("i4.npy"), "'<i4'", 2, (size_t[]){2, 3}, plain, sizeof plain, NULL);
    npy_write(at("i8.npy"), "'<i8'", 2, (size_t[]){2, 3}, wide, sizeof wide, NULL);
    same_ids(at("x.ivecs"));
    same_ids(at("i4.npy"));
    same_ids(at("i8.npy"));
    assert_int_equal(vectors_input_ids(at("x.npy"), "", &ids, &error), AKIN_FORMAT);
    assert_null(ids.ids);
}

#ifdef AKIN_HAVE_HDF5

static void put_set(hid_t file, const char *name, hid_t type, int dims, const hsize_t *shape,
                    hsize_t chunk_rows, hid_t from, const void *data)
{
    hid_t list = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(dims, shape, NULL);
    if (chunk_rows) {
        hsize_t chunk[2] = {chunk_rows, shape[1]};
        H5Pset_chunk(list, dims, chunk);
        H5Pset_deflate(list, 4);
    }
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    assert_true(set >= 0);
    if (data)
        assert_true(H5Dwrite(set, from, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(list);
}

static void put_text(hid_t file, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, H5T_VARIABLE);
    hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0 && H5Awrite(attribute, type, &text) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

/* What ann-benchmarks publishes, and sets in other forms beside it. */
static void write_hdf5(const char *name)
{
    static const int ids[6] = {-1, 0, 1, 2, 3, 4};
    static const double doubles[2] = {1, 2};
    const hsize_t shape[2] = {ROWS, DIM}, ids_shape[2] = {2, 3}, one[1] = {2}, none[2] = {9, DIM};
    const hsize_t whole[2] = {2, 1};
    hid_t file = H5Fcreate(at(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    put_text(file, "distance", "angular");
    put_set(file, "train", H5T_IEEE_F32LE, 2, shape, 0, H5T_NATIVE_FLOAT, matrix);
    put_set(file, "big_endian", H5T_IEEE_F32BE, 2, shape, 0, H5T_NATIVE_FLOAT, matrix);
    put_set(file, "wide", H5T_IEEE_F64LE, 2, shape, 0, H5T_NATIVE_FLOAT, matrix);
    put_set(file, "packed", H5T_IEEE_F32LE, 2, shape, 16, H5T_NATIVE_FLOAT, matrix);
    put_set(file, "neighbors", H5T_STD_I32LE, 2, ids_shape, 0, H5T_NATIVE_INT, ids);
    put_set(file, "line", H5T_IEEE_F64LE, 1, one, 0, H5T_NATIVE_DOUBLE, doubles);
    put_set(file, "integers", H5T_STD_I64LE, 2, whole, 0, H5T_NATIVE_INT, ids);
    put_set(file, "unwritten", H5T_IEEE_F32LE, 2, none, 0, 0, NULL);
    H5Lcreate_external("/etc/passwd", "/x", file, "outside", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
}

static const char *in_set(const char *name, const char *set)
{
    static char text[400];
    snprintf(text, sizeof text, "%s:%s", at(name), set);
    return text;
}

static void test_hdf5(void **state)
{
    (void)state;
    struct vectors_input *input = NULL;
    write_hdf5("x.hdf5");
    same_rows(at("x.hdf5"));
    same_rows(in_set("x.hdf5", "big_endian"));
    same_rows(in_set("x.hdf5", "wide"));
    same_rows(in_set("x.hdf5", "packed"));
    same_ids(at("x.hdf5"));
    assert_int_equal(vectors_input_open(at("x.hdf5"), "train", &input, NULL), AKIN_OK);
    assert_string_equal(vectors_input_distance(input), "angular");
    vectors_input_close(&input); /* with rows unread */
}

static void test_hdf5_refused(void **state)
{
    (void)state;
    refused(in_set("x.hdf5", "nothing"), AKIN_NOT_FOUND, "there are: big_endian, integers");
    refused(in_set("x.hdf5", "line"), AKIN_UNSUPPORTED, "has 1 dimensions");
    refused(in_set("x.hdf5", "integers"), AKIN_UNSUPPORTED, "integers of 8 bytes");
    refused(in_set("x.hdf5", "unwritten"), AKIN_FORMAT, "claims 9 rows, and holds none");
    refused(in_set("x.hdf5", "outside"), AKIN_UNSUPPORTED, "link to elsewhere");
    hid_t file = H5Fcreate(at("s.hdf5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    static const float line[4] = {0, 1, 2, 3};
    put_text(file, "type", "sparse");
    put_set(file, "train", H5T_IEEE_F32LE, 1, (hsize_t[]){4}, 0, H5T_NATIVE_FLOAT, line);
    H5Fclose(file);
    refused(at("s.hdf5"), AKIN_UNSUPPORTED, "sparse");
    float bad[2][DIM] = {{1, 2, 3}, {1, NAN, 3}};
    file = H5Fcreate(at("n.hdf5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put_set(file, "train", H5T_IEEE_F32LE, 2, (hsize_t[]){2, DIM}, 0, H5T_NATIVE_FLOAT, bad);
    H5Fclose(file);
    refused(at("n.hdf5"), AKIN_FORMAT, "row 1, column 1: NaN");
    file_write(at("e.hdf5"), "no", 2, NULL);
    refused(at("e.hdf5"), AKIN_FORMAT, "not an HDF5 file");
}

/* Without file_write's fsync: this happens hundreds of times. */
static void write_quickly(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* Opens a file and reads all of it; what comes out does not matter. */
static bool try_file(const char *path, const char *set)
{
    struct vectors_input *input = NULL;
    struct akin_error error = {0};
    char text[400];
    const float *rows;
    size_t count = 1;
    snprintf(text, sizeof text, "%s:%s", path, set);
    enum akin_status status = vectors_input_open(text, "train", &input, &error);
    while (status == AKIN_OK && count > 0)
        status = vectors_input_next(input, 1000, &rows, &count, &error);
    vectors_input_close(&input);
    assert_true(status == AKIN_OK || error.message[0]);
    return status == AKIN_OK;
}

static void test_hdf5_damaged(void **state)
{
    (void)state;
    struct bytes whole = {0}, damaged = {0};
    char path[256];
    uint32_t seed = 2463534242u;
    int fine = 0, tried = 0;
    assert_int_equal(file_read(at("x.hdf5"), 1 << 20, &whole, NULL), AKIN_OK);
    snprintf(path, sizeof path, "%s", at("d.hdf5"));
    for (size_t end = 0; end < whole.count; end += 1 + whole.count / 40) {
        write_quickly(path, whole.data, end);
        assert_false(try_file(path, "packed"));
    }
    for (int change = 0; change < 300; change++) {
        bytes_clear(&damaged);
        bytes_append(&damaged, whole.data, whole.count);
        for (int i = 0; i < 8; i++) {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            damaged.data[seed % damaged.count] = (char)(seed >> 24);
        }
        write_quickly(path, damaged.data, damaged.count);
        fine += try_file(path, change % 2 ? "packed" : "train");
        tried++;
    }
    assert_true(fine > 0 && fine < tried); /* some bytes are data, some are structure */
    bytes_deinit(&whole);
    bytes_deinit(&damaged);
}

#else

static void test_hdf5(void **state)
{
    (void)state;
    file_write(at("x.hdf5"), "\x89HDF\r\n\x1a\n", 8, NULL);
    refused(at("x.hdf5"), AKIN_UNSUPPORTED, "built without HDF5");
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_forms),
        cmocka_unit_test(test_plain_refused),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_hdf5),
#ifdef AKIN_HAVE_HDF5
        cmocka_unit_test(test_hdf5_refused),
        cmocka_unit_test(test_hdf5_damaged),
#endif
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
