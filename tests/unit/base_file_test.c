/* Maps, lines, writes that happen whole or not at all, npy, CSV, JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/csv.h"
#include "base/file.h"
#include "base/json.h"
#include "base/npy.h"

static char folder[] = "/tmp/akin_base_XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void put(const char *name, const char *bytes, size_t count)
{
    assert_int_equal(file_write(in_folder(name), bytes, count, NULL), AKIN_OK);
}

static size_t files_in_folder(void)
{
    struct names names = { 0 };
    assert_int_equal(path_list(folder, &names, NULL), AKIN_OK);
    size_t count = names.count;
    names_deinit(&names);
    return count;
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return path_remove_tree(folder, NULL);
}

/* ---- files ------------------------------------------------------------------------------ */

static void lines_of_every_shape(void **state)
{
    (void)state;
    put("lines", "one\r\n\ntwo\0x\nlast", 16);
    struct line_reader *reader;
    assert_int_equal(line_reader_open(in_folder("lines"), &reader, NULL), AKIN_OK);
    static const struct {
        const char *text;
        size_t bytes;
    } expected[] = { { "one", 3 }, { "", 0 }, { "two\0x", 5 }, { "last", 4 } };
    const char *line;
    size_t bytes;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(line_reader_next(reader, &line, &bytes, NULL), AKIN_OK);
        assert_int_equal(bytes, expected[i].bytes);
        assert_memory_equal(line, expected[i].text, bytes);
        assert_int_equal(line_reader_number(reader), i + 1);
    }
    assert_int_equal(line_reader_next(reader, &line, &bytes, NULL), AKIN_OK);
    assert_null(line);
    assert_int_equal(line_reader_consumed(reader), line_reader_size(reader));
    line_reader_close(&reader);
    struct akin_error error;
    assert_int_equal(line_reader_open(in_folder("none"), &reader, &error), AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "none"));
    assert_int_equal(line_reader_open(folder, &reader, &error), AKIN_IO);
}

static void long_lines_cross_buffers(void **state)
{
    (void)state;
    struct bytes text = { 0 };
    for (int i = 0; i < 300000; i++)
        bytes_append(&text, i % 100001 == 100000 ? "\n" : "y", 1);
    put("long", text.data, text.count);
    struct line_reader *reader;
    assert_int_equal(line_reader_open(in_folder("long"), &reader, NULL), AKIN_OK);
    const char *line;
    size_t bytes, total = 0, count = 0;
    while (line_reader_next(reader, &line, &bytes, NULL) == AKIN_OK && line) {
        total += bytes;
        count++;
    }
    assert_int_equal(count, 3);
    assert_int_equal(total, 300000 - 2);
    line_reader_close(&reader);
    bytes_deinit(&text);
}

static void an_aborted_write_leaves_the_old_file(void **state)
{
    (void)state;
    put("kept", "old", 3);
    size_t before = files_in_folder();
    struct file_writer *writer;
    assert_int_equal(file_writer_open(in_folder("kept"), &writer, NULL), AKIN_OK);
    assert_int_equal(file_writer_write(writer, "new", 3, NULL), AKIN_OK);
    assert_int_equal(files_in_folder(), before + 1);
    file_writer_abort(&writer);
    assert_int_equal(files_in_folder(), before);
    struct file_map map;
    assert_int_equal(file_map_open(in_folder("kept"), &map, NULL), AKIN_OK);
    assert_memory_equal(map.data, "old", 3);
    file_map_close(&map);
}

static void a_patched_header_is_in_the_file(void **state)
{
    (void)state;
    struct file_writer *writer;
    assert_int_equal(file_writer_open(in_folder("patched"), &writer, NULL), AKIN_OK);
    assert_int_equal(file_writer_write(writer, "....body", 8, NULL), AKIN_OK);
    assert_int_equal(file_writer_patch(writer, 0, "head", 4, NULL), AKIN_OK);
    assert_int_equal(file_writer_commit(&writer, NULL), AKIN_OK);
    struct bytes text = { 0 };
    assert_int_equal(file_read(in_folder("patched"), 100, &text, NULL), AKIN_OK);
    assert_string_equal(text.data, "headbody");
    bytes_clear(&text);
    struct akin_error error;
    assert_int_equal(file_read(in_folder("patched"), 7, &text, &error), AKIN_LIMIT);
    bytes_deinit(&text);
}

/* A full disk, played by a limit on the file's size in a child process. */
static void a_full_disk_leaves_nothing(void **state)
{
    (void)state;
    size_t before = files_in_folder();
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = { 1 << 20, 1 << 20 };
        static char megabytes[3 << 20];
        signal(SIGXFSZ, SIG_IGN);
        struct akin_error error = { 0 };
        if (setrlimit(RLIMIT_FSIZE, &limit))
            _exit(9);
        enum akin_status status = file_write(in_folder("big"), megabytes, sizeof megabytes, &error);
        _exit(status == AKIN_IO && strstr(error.message, "big") ? 0 : 1);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_int_equal(files_in_folder(), before);
}

static void errors_name_the_path(void **state)
{
    (void)state;
    struct akin_error error;
    struct file_writer *writer;
    struct file_map map;
    assert_int_equal(file_writer_open(folder, &writer, &error), AKIN_IO);
    assert_int_equal(file_writer_open(in_folder("no/such/x"), &writer, &error), AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "no/such/x"));
    assert_int_equal(file_map_open(folder, &map, &error), AKIN_IO);
    put("a\nb", "", 0);
    assert_int_equal(file_map_open(in_folder("a\nb/c"), &map, &error), AKIN_IO);
    assert_null(strchr(error.message, '\n'));
    put("empty", "", 0);
    assert_int_equal(file_map_open(in_folder("empty"), &map, &error), AKIN_OK);
    assert_int_equal(map.bytes, 0);
    file_map_close(&map);
    assert_int_equal(path_make_folders(in_folder("empty/sub"), &error), AKIN_IO);
    assert_int_equal(path_make_folders(in_folder("deep/er/est"), &error), AKIN_OK);
    assert_true(path_is_folder(in_folder("deep/er/est")));
    assert_int_equal(path_remove_tree(in_folder("deep"), NULL), AKIN_OK);
    assert_false(path_exists(in_folder("deep")));
}

/* ---- CSV -------------------------------------------------------------------------------- */

static void expect_row(struct csv_reader *csv, uint64_t line, size_t count,
                       const char *const *fields)
{
    bool row;
    assert_int_equal(csv_next(csv, &row, NULL), AKIN_OK);
    assert_true(row);
    assert_int_equal(csv->line, line);
    assert_int_equal(csv->field_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(csv->fields[i].bytes, strlen(fields[i]));
        assert_memory_equal(csv->fields[i].text, fields[i], strlen(fields[i]));
    }
}

static void quoted_rows(void **state)
{
    (void)state;
    const char *text =
        "\xef\xbb\xbf"
        "a,b,c\r\n1,\"x, y\",\"say \"\"hi\"\"\"\n\n\"two\nlines\",,\"\"\"q\"\"\"\nlast";
    struct csv_reader csv;
    csv_open(&csv, "t.csv", text, strlen(text), ",", true);
    expect_row(&csv, 1, 3, (const char *[]){ "a", "b", "c" });
    expect_row(&csv, 2, 3, (const char *[]){ "1", "x, y", "say \"hi\"" });
    expect_row(&csv, 3, 0, NULL);
    expect_row(&csv, 4, 3, (const char *[]){ "two\nlines", "", "\"q\"" });
    expect_row(&csv, 6, 1, (const char *[]){ "last" });
    bool row;
    assert_int_equal(csv_next(&csv, &row, NULL), AKIN_OK);
    assert_false(row);
    csv_close(&csv);
}

static void rows_with_a_long_separator(void **state)
{
    (void)state;
    const char *text = "1::Toy: Story::A|B\n2::\"x\"::\n";
    struct csv_reader csv;
    csv_open(&csv, "m.dat", text, strlen(text), "::", false);
    expect_row(&csv, 1, 3, (const char *[]){ "1", "Toy: Story", "A|B" });
    expect_row(&csv, 2, 3, (const char *[]){ "2", "\"x\"", "" });
    csv_close(&csv);
}

static void bad_rows_name_their_line(void **state)
{
    (void)state;
    static const char *const texts[] = { "a\nb,\"open\n", "a\n\"x\"y\n" };
    for (int i = 0; i < 2; i++) {
        struct csv_reader csv;
        struct akin_error error;
        bool row;
        csv_open(&csv, "t.csv", texts[i], strlen(texts[i]), ",", true);
        assert_int_equal(csv_next(&csv, &row, &error), AKIN_OK);
        assert_int_equal(csv_next(&csv, &row, &error), AKIN_FORMAT);
        assert_non_null(strstr(error.message, "t.csv:2: "));
        csv_close(&csv);
    }
    char many[200];
    memset(many, ',', sizeof many);
    struct csv_reader csv;
    bool row;
    csv_open(&csv, "t.csv", many, sizeof many, ",", true);
    assert_int_equal(csv_next(&csv, &row, NULL), AKIN_FORMAT);
    csv_close(&csv);
}

static void numbers_are_whole_fields(void **state)
{
    (void)state;
    uint64_t u;
    int64_t i;
    double d;
    assert_true(parse_uint64("18446744073709551615", 20, &u) && u == UINT64_MAX);
    assert_false(parse_uint64("18446744073709551616", 20, &u));
    assert_false(parse_uint64("", 0, &u) || parse_uint64("1 ", 2, &u) || parse_uint64("-1", 2, &u));
    assert_true(parse_int64("-9223372036854775808", 20, &i) && i == INT64_MIN);
    assert_false(parse_int64("9223372036854775808", 19, &i) || parse_int64("-", 1, &i));
    assert_true(parse_double("3.5", 3, &d) && d == 3.5);
    assert_true(parse_double("0.1", 3, &d) && d == 0.1);
    assert_true(parse_double("0.025", 5, &d) && d == 0.025);
    assert_true(parse_double("-1e3", 4, &d) && d == -1000);
    assert_true(parse_double("123456789012", 12, &d) && d == 123456789012.0);
    assert_false(parse_double("", 0, &d) || parse_double("1x", 2, &d) || parse_double(".", 1, &d));
    assert_false(parse_double("0x10", 4, &d) || parse_double(" 1", 2, &d) ||
                 parse_double("1\0", 2, &d));
}

/* ---- npy -------------------------------------------------------------------------------- */

static void npy_round_trip(void **state)
{
    (void)state;
    float data[6] = { 1, 2, 3, 4, 5, 6 };
    size_t shape[2] = { 2, 3 };
    assert_int_equal(npy_write(in_folder("m.npy"), "'<f4'", 2, shape, data, sizeof data, NULL),
                     AKIN_OK);
    struct npy npy;
    assert_int_equal(npy_open_matrix(in_folder("m.npy"), &npy, NULL), AKIN_OK);
    assert_int_equal(npy.shape[0], 2);
    assert_int_equal(npy.shape[1], 3);
    assert_int_equal((uintptr_t)npy.data % 16, 0);
    assert_memory_equal(npy.data, data, sizeof data);
    npy_close(&npy);
    size_t count = 4;
    assert_int_equal(npy_write(in_folder("s.npy"), "[('user', '<u4'), ('time', '<i8')]", 1, &count,
                               (char[48]){ 0 }, 48, NULL), AKIN_OK);
    assert_int_equal(npy_open(in_folder("s.npy"), &npy, NULL), AKIN_OK);
    assert_int_equal(npy.type, NPY_OTHER);
    assert_int_equal(npy.data_bytes, 48);
    npy_close(&npy);
    struct akin_error error;
    assert_int_equal(npy_open_matrix(in_folder("s.npy"), &npy, &error), AKIN_FORMAT);
}

static enum akin_status open_header(const char *header, size_t data_bytes)
{
    char file[512] = "\x93NUMPY\x01";
    size_t length = strlen(header), padded = (length + 10 + 15) / 16 * 16 - 10;
    memset(file + 10, ' ', padded);
    memcpy(file + 10, header, length);
    length = padded;
    file[8] = (char)(length & 0xff);
    file[9] = (char)(length >> 8);
    put("h.npy", file, 10 + length + data_bytes);
    struct npy npy;
    struct akin_error error = { .message = "" };
    enum akin_status status = npy_open(in_folder("h.npy"), &npy, &error);
    if (status == AKIN_OK)
        npy_close(&npy);
    else
        assert_non_null(strstr(error.message, "h.npy"));
    return status;
}

static void npy_files_that_lie(void **state)
{
    (void)state;
#define HEADER(descr, order, shape)                                                                \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"
    assert_int_equal(open_header(HEADER("'<f4'", "False", "(2, 2)"), 16), AKIN_OK);
    assert_int_equal(open_header(HEADER("'<f4'", "False", "(2, 2)"), 15), AKIN_FORMAT);
    assert_int_equal(open_header(HEADER("'<f4'", "True", "(2, 2)"), 16), AKIN_UNSUPPORTED);
    assert_int_equal(open_header(HEADER("'>f4'", "False", "(2, 2)"), 16), AKIN_UNSUPPORTED);
    assert_int_equal(open_header(HEADER("'<f4'", "False", "(4294967296, 4294967296)"), 16),
                     AKIN_FORMAT);
    assert_int_equal(open_header(HEADER("'<f4'", "False", "(99999999999999999999,)"), 16),
                     AKIN_FORMAT);
    assert_int_equal(open_header(HEADER("'<f4'", "False", "()"), 16), AKIN_FORMAT);
    assert_int_equal(open_header(HEADER("'<f4'", "False", "(1, 1, 1, 1, 1)"), 16), AKIN_FORMAT);
    assert_int_equal(open_header(HEADER("'|O'", "False", "(2,)"), 16), AKIN_UNSUPPORTED);
    assert_int_equal(open_header("{'descr': '<f4", 16), AKIN_FORMAT);
    assert_int_equal(open_header("", 0), AKIN_FORMAT);
    put("h.npy", "\x93NUMPY\x01\x00\x01\x00{aaaa", 15);
    struct npy npy;
    assert_int_equal(npy_open(in_folder("h.npy"), &npy, NULL), AKIN_FORMAT);
    put("h.npy", "\x93NUMPY\x01\x00\xff\xff", 10);
    assert_int_equal(npy_open(in_folder("h.npy"), &npy, NULL), AKIN_FORMAT);
}

/* ---- JSON ------------------------------------------------------------------------------- */

static void json_errors_name_the_field(void **state)
{
    (void)state;
    struct akin_error error;
    json_t *root;
    static const char good[] = "{\"n\": 5, \"s\": \"x\", \"none\": null}";
    put("a.json", good, sizeof good - 1);
    assert_int_equal(json_read(in_folder("a.json"), 1000, &root, &error), AKIN_OK);
    const char *text = "kept";
    int64_t number;
    assert_int_equal(json_get_string(root, "n", "a.json", &text, &error), AKIN_FORMAT);
    assert_string_equal(error.message, "a.json: n: expected a string, found an integer");
    assert_int_equal(json_opt_string(root, "none", "a.json", &text, &error), AKIN_OK);
    assert_string_equal(text, "kept");
    assert_int_equal(json_get_integer(root, "n", "a.json", &number, &error), AKIN_OK);
    assert_int_equal(number, 5);
    assert_int_equal(json_get_integer(root, "gone", "a.json", &number, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "found nothing"));
    json_decref(root);
    put("b.json", "{\n  \"n\": }", 10);
    assert_int_equal(json_read(in_folder("b.json"), 1000, &root, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "b.json:2:"));
    assert_int_equal(json_parse("{\"cut", 5, "x:7", &root, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "x:7:"));
}

static void json_strings_are_escaped(void **state)
{
    (void)state;
    struct bytes out = { 0 };
    json_append_string(&out, "a\"\\\n\x01\xff\xc3\xa9\0z", 10);
    assert_string_equal(out.data, "\"a\\\"\\\\\\n\\u0001\xef\xbf\xbd\xc3\xa9\\u0000z\"");
    bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_every_shape),
        cmocka_unit_test(long_lines_cross_buffers),
        cmocka_unit_test(an_aborted_write_leaves_the_old_file),
        cmocka_unit_test(a_patched_header_is_in_the_file),
        cmocka_unit_test(a_full_disk_leaves_nothing),
        cmocka_unit_test(errors_name_the_path),
        cmocka_unit_test(quoted_rows),
        cmocka_unit_test(rows_with_a_long_separator),
        cmocka_unit_test(bad_rows_name_their_line),
        cmocka_unit_test(numbers_are_whole_fields),
        cmocka_unit_test(npy_round_trip),
        cmocka_unit_test(npy_files_that_lie),
        cmocka_unit_test(json_errors_name_the_field),
        cmocka_unit_test(json_strings_are_escaped),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
