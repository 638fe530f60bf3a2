/* A store of events with every byte of every file changed in turn, and cut at every length: what is
 * served is true, what is lost is named, and it goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file_at.h"
#include "event_store_rig.h"

enum { EVENTS = 24 };

struct image {
    struct names names;
    struct bytes files[32];
};

static void image_take(struct rig *rig, struct image *image)
{
    char path[PATH_BYTES_MAX];
    *image = (struct image){ 0 };
    assert_ok(rig, path_list(rig->path, &image->names, &rig->error));
    assert_true(image->names.count <= 32);
    for (size_t i = 0; i < image->names.count; i++) {
        assert_ok(rig, path_join(path, sizeof path, rig->path, image->names.items[i], &rig->error));
        assert_ok(rig, file_read(path, 1 << 20, &image->files[i], &rig->error));
    }
}

static void image_drop(struct image *image)
{
    for (size_t i = 0; i < image->names.count; i++)
        bytes_deinit(&image->files[i]);
    names_deinit(&image->names);
}

static void put_file(struct rig *rig, const char *name, const void *bytes, size_t count)
{
    char path[PATH_BYTES_MAX];
    struct file_at file;
    assert_ok(rig, path_join(path, sizeof path, rig->path, name, &rig->error));
    assert_ok(rig, path_remove(path, &rig->error));
    assert_ok(rig, file_at_open(path, FILE_AT_CREATE, &file, &rig->error));
    assert_ok(rig, file_at_write(&file, 0, &(struct file_part){ bytes, count }, 1, &rig->error));
    file_at_close(&file);
}

/* All of it anew. */
static void image_put(struct rig *rig, const struct image *image)
{
    event_store_close(&rig->store);
    path_remove_tree(rig->path, NULL);
    assert_ok(rig, path_make_folders(rig->path, &rig->error));
    for (size_t i = 0; i < image->names.count; i++)
        put_file(rig, image->names.items[i], image->files[i].data, image->files[i].count);
}

static bool is_of(const char *name, const char *begin, const char *end)
{
    size_t length = strlen(name);
    return !strncmp(name, begin, strlen(begin)) && length >= strlen(end)
           && !strcmp(name + length - strlen(end), end);
}

struct look {
    uint64_t last, count;
};

static bool take(void *cookie, const struct stored_event *event)
{
    struct look *look = cookie;
    assert_true(event->number > look->last && event->number <= EVENTS);
    rig_expect(event, event->number);
    look->last = event->number;
    look->count++;
    return true;
}

static uint64_t served(struct rig *rig)
{
    struct look look = { 0 };
    struct event_hit hits[EVENTS];
    static const float query[RIG_DIM] = { 1 };
    size_t found = 0;
    assert_ok(rig, event_store_read(rig->store, 0, false, NULL, take, &look, &rig->error));
    struct event_store_info info;
    event_store_info(rig->store, &info);
    assert_true(info.events >= look.count);
    if (info.dimension == RIG_DIM)
        assert_ok(rig, event_store_search(rig->store, query, EVENTS, NULL, hits, &found,
                                          &rig->error));
    return look.count;
}

static void make(struct rig *rig, struct image *image)
{
    float vector[RIG_DIM] = { 1 };
    rig->settings.segment_bytes = 1200;
    rig_open(rig);
    for (uint64_t kind = 100; kind < 100 + RIG_KINDS; kind++)
        assert_ok(rig, event_store_put_kind(rig->store, kind, "kind", vector, RIG_DIM,
                                            &rig->error));
    rig_fill(rig, 1, EVENTS, 3);
    assert_ok(rig, event_store_label(rig->store, 3, 1, &rig->error));
    event_store_close(&rig->store);
    image_take(rig, image);
    assert_true(image->names.count >= 8);
}

/* Opens, sees what is there, and goes on: an event that is new gets a number, one that is there is
 * not stored again. `silent`: a segment that ends earlier may look like one that was never longer.
 */
static uint64_t look_at(struct rig *rig, const char *name, size_t at, bool silent)
{
    uint64_t numbers[2];
    rig->settings.read_only = true;
    enum akin_status status = rig_try(rig);
    if (status != AKIN_OK) {
        bool head = is_of(name, "store", "") || is_of(name, "kinds-", ".log");
        if (!head || status != AKIN_FORMAT)
            fail_msg("%s, byte %zu: %s", name, at, rig->error.message);
        assert_non_null(strstr(rig->error.message, name));
        rig->settings.read_only = false;
        return EVENTS;
    }
    uint64_t count = served(rig);
    rig->settings.read_only = false;
    assert_ok(rig, rig_try(rig));
    if (served(rig) != count)
        fail_msg("%s, byte %zu: another count for a writer", name, at);
    if (count < EVENTS && !rig->told.count && !silent)
        fail_msg("%s, byte %zu: %d events are lost, and nobody said so", name, at,
                 EVENTS - (int)count);
    assert_ok(rig, rig_append(rig, 1002, 2, numbers));
    assert_true(numbers[0] && numbers[1] == numbers[0] + 1);
    assert_ok(rig, rig_append(rig, 1002, 2, numbers));
    assert_true(!numbers[0] && !numbers[1]);
    return count;
}

static bool is_last(const struct image *image, size_t file)
{
    for (size_t i = file + 1; i < image->names.count; i++)
        if (is_of(image->names.items[i], "events-", ".log"))
            return false;
    return true;
}

static void test_every_byte(void **state)
{
    struct rig *rig = *state;
    struct image image;
    make(rig, &image);
    for (size_t f = 0; f < image.names.count; f++) {
        const char *name = image.names.items[f];
        /* One event; of the last append all, which may be one that was never acknowledged. */
        size_t most = !is_of(name, "events-", ".log") ? 0 : is_last(&image, f) ? 3 : 1;
        for (size_t at = 0; at < image.files[f].count; at += most ? 1 : 3) {
            image_put(rig, &image);
            image.files[f].data[at] ^= (char)(1 << at % 8);
            put_file(rig, name, image.files[f].data, image.files[f].count);
            image.files[f].data[at] ^= (char)(1 << at % 8);
            uint64_t count = look_at(rig, name, at, false);
            if (count + most < EVENTS)
                fail_msg("%s, byte %zu: %" PRIu64 " events are left of %d", name, at, count,
                         EVENTS);
        }
    }
    image_drop(&image);
}

static void test_every_length(void **state)
{
    struct rig *rig = *state;
    struct image image;
    make(rig, &image);
    for (size_t f = 0; f < image.names.count; f++) {
        const char *name = image.names.items[f];
        bool log = is_of(name, "events-", ".log");
        for (size_t length = 0; length < image.files[f].count; length += log ? 1 : 7) {
            image_put(rig, &image);
            put_file(rig, name, image.files[f].data, length);
            uint64_t count = look_at(rig, name, length, log && is_last(&image, f));
            assert_true(log || count == EVENTS);
        }
    }
    image_drop(&image);
}

/* A file that goes: the rest is there. */
static void test_missing_files(void **state)
{
    struct rig *rig = *state;
    struct image image;
    char path[PATH_BYTES_MAX];
    make(rig, &image);
    for (size_t f = 0; f < image.names.count; f++) {
        const char *name = image.names.items[f];
        if (is_of(name, "store", "") || is_of(name, "events-", ".log"))
            continue;
        image_put(rig, &image);
        assert_ok(rig, path_join(path, sizeof path, rig->path, name, &rig->error));
        assert_ok(rig, path_remove(path, &rig->error));
        rig_open(rig);
        assert_int_equal(served(rig), EVENTS);
        if (is_of(name, "events-", ".idx"))
            assert_true(path_exists(path));     /* made anew */
    }
    image_drop(&image);
}

/* What only looks like records costs no more than its bytes. */
static void test_hostile_lengths(void **state)
{
    struct rig *rig = *state;
    struct image image;
    enum { BYTES = 4 << 20 };
    make(rig, &image);
    image_put(rig, &image);
    char *junk = calloc(1, BYTES);
    assert_non_null(junk);
    for (size_t f = 0; f < image.names.count; f++) {
        const struct bytes *file = &image.files[f];
        if (!is_of(image.names.items[f], "events-", ".log"))
            continue;
        memcpy(junk, file->data, file->count);
        for (size_t at = file->count; at + 16 <= BYTES; at += 8)
            memcpy(junk + at, "AKEV\0\0\x30\0", 8);
        put_file(rig, image.names.items[f], junk, BYTES);
    }
    rig_open(rig);
    assert_int_equal(served(rig), EVENTS);
    free(junk);
    image_drop(&image);
}

/* Several processes at once, each with all events, some twice: every one is there once. */
static void test_processes(void **state)
{
    enum { PROCESSES = 4, ALL = 400 };
    struct rig *rig = *state;
    pid_t children[PROCESSES];
    rig->settings.segment_bytes = 6000;
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        if (children[i])
            continue;
        uint64_t numbers[16];
        int code = rig_try(rig) != AKIN_OK;
        for (uint64_t n = 1; !code && n <= ALL; n += 8)
            code = rig_append(rig, n, 8, numbers) != AKIN_OK
                   || (n % 3 == 0 && rig_append(rig, n, 4, numbers) != AKIN_OK);
        event_store_close(&rig->store);
        _exit(code);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    rig_open(rig);
    struct event_store_info info;
    event_store_info(rig->store, &info);
    size_t without_id = 0;              /* every seventh, which each process adds again */
    for (uint64_t n = 1; n <= ALL; n++)
        without_id += n % 7 == 0;
    size_t again = 0;
    for (uint64_t n = 1; n <= ALL; n += 8)
        for (uint64_t i = n; n % 3 == 0 && i < n + 4; i++)
            again += i % 7 == 0;
    assert_int_equal(info.events, ALL - without_id + PROCESSES * (without_id + again));
    assert_int_equal(info.last, info.events);
    assert_int_equal(rig->told.count, 0);
}

/* A disk that is full says so, and loses nothing; the same call goes through when there is room. */
static void test_full_disk(void **state)
{
    struct rig *rig = *state;
    char command[600], filler[200];
    uint64_t numbers[8], next = 1;
    snprintf(command, sizeof command, "exec 2>/dev/null; mkdir -p %s && mount -t tmpfs -o size=1m "
             "none %s && head -c 600000 /dev/zero >%s/filler", rig->path, rig->path, rig->path);
    if (!rig_mounts_of_our_own() || system(command)) {
        print_message("skipped: no file system can be mounted here\n");
        skip();
    }
    snprintf(filler, sizeof filler, "%s/filler", rig->path);
    rig->settings.segment_bytes = 50000;
    rig->settings.durable = true;
    rig_open(rig);
    enum akin_status status;
    while ((status = rig_append(rig, next, 8, numbers)) == AKIN_OK)
        next += 8;
    assert_int_equal(status, AKIN_IO);
    assert_non_null(strstr(rig->error.message, "No space left"));
    assert_true(next > 100);
    rig_expect_all(rig, 1, next - 1);
    assert_int_equal(rig_append(rig, next, 8, numbers), AKIN_IO);
    assert_ok(rig, path_remove(filler, &rig->error));
    assert_ok(rig, rig_append(rig, next, 8, numbers));
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(numbers[i], next + i);
    rig_expect_all(rig, 1, next + 7);
    rig_open(rig);
    rig_expect_all(rig, 1, next + 7);
    assert_int_equal(rig->told.count, 0);
}

static int unmount(void **state)
{
    struct rig *rig = *state;
    char command[200];
    event_store_close(&rig->store);
    snprintf(command, sizeof command, "umount %s 2>/dev/null", rig->path);
    if (system(command))
        print_message("nothing was mounted\n");
    return rig_teardown(state);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_every_byte),      TEST(test_every_length), TEST(test_missing_files),
        TEST(test_hostile_lengths), TEST(test_processes),
        cmocka_unit_test_setup_teardown(test_full_disk, rig_setup, unmount),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
