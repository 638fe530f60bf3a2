/* Training sets on disk: the bytes that the reference's program writes and reads, no manifest over
 * half a set, and errors that name the file before training starts. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/rng.h"
#include "samples_rig.h"

static struct shards_report report;

static enum akin_status prepare(const struct shards_settings *set)
{
    error = (struct akin_error){ 0 };
    return shards_prepare(set, &report, &error);
}

/* The bytes that struct.pack would make of the tokens, by shifts. */
static void put_token(struct bytes *out, int64_t token, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        char byte = (char)((uint64_t)token >> 8 * i & 0xff);
        bytes_append(out, &byte, 1);
    }
}

static void expect_text(const char *name, const char *expected)
{
    struct bytes text = rig_read(name);
    assert_string_equal(text.data, expected);
    bytes_deinit(&text);
}

/* An independent writer: the reference's rule, ceil(samples / shards) each, and empty files where
 * nothing is left. */
static void expect_shards(uint64_t samples, size_t seq_len, size_t vocab, size_t shards, int width)
{
    uint64_t each = samples / shards + (samples % shards != 0), sample = 0;
    int32_t *tokens = memory_alloc(2 * seq_len, sizeof *tokens);
    for (size_t shard = 0; shard < shards; shard++) {
        char name[32];
        struct bytes expected = { 0 };
        for (uint64_t i = 0; i < each && sample < samples; i++, sample++) {
            tokens_make(5, sample, vocab, 2 * seq_len, tokens);
            for (size_t p = 0; p < 2 * seq_len; p++)
                put_token(&expected, tokens[p], width);
        }
        snprintf(name, sizeof name, "shard_%04zu.bin", shard);
        struct bytes found = rig_read(name);
        assert_int_equal(found.count, expected.count);
        if (expected.count)
            assert_memory_equal(found.data, expected.data, expected.count);
        bytes_deinit(&found);
        bytes_deinit(&expected);
    }
    memory_free(tokens);
    assert_int_equal(sample, samples);
}

static void layout_is_the_references(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards(1000, 33, 777, 7);
    must(prepare(&set));
    assert_true(report.generated && !report.scanned && report.remembered);
    assert_int_equal(report.bytes_written, 1000 * 2 * 33 * 8);
    expect_text("_manifest.json", "{\"num_samples\": 1000, \"seq_len\": 33, \"vocab_size\": 777, "
                                  "\"num_shards\": 7}");
    expect_shards(1000, 33, 777, 7, 8);
    assert_false(rig_has("_generating.json"));
    set = rig_shards(10, 3, 65536, 7);         /* two each: the last two are empty */
    set.layout.token_type = TOKEN_U16;
    must(prepare(&set));
    expect_text("_manifest.json", "{\"num_samples\": 10, \"seq_len\": 3, \"vocab_size\": 65536, "
                                  "\"num_shards\": 7, \"token_type\": \"u16\"}");
    expect_shards(10, 3, 65536, 7, 2);
    struct bytes last = rig_read("shard_0006.bin");
    assert_int_equal(last.count, 0);
    bytes_deinit(&last);
}

static void shards_are_about_128_mib(void **state)
{
    (void)state;
    struct shard_layout layout = { 3750000, 256, 8192, 0, TOKEN_I64 };
    must(shard_layout_complete(&layout, &error));
    assert_int_equal(layout.shard_count, 115);      /* 32,768 samples each */
    layout = (struct shard_layout){ 3750000, 256, 8192, 0, TOKEN_U16 };
    must(shard_layout_complete(&layout, &error));
    assert_int_equal(layout.shard_count, 29);
    layout = (struct shard_layout){ 1, 256, 8192, 0, TOKEN_I64 };
    must(shard_layout_complete(&layout, &error));
    assert_int_equal(layout.shard_count, 1);
    assert_int_equal(shard_of_sample(&layout, 0), 0);
    layout = (struct shard_layout){ (uint64_t)1 << 40, 65536, 8192, 0, TOKEN_I64 };
    assert_int_equal(shard_layout_complete(&layout, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "num-shards"));
    layout.sample_count++;
    assert_int_equal(shard_layout_complete(&layout, &error), AKIN_LIMIT);
    assert_non_null(strstr(error.message, "num-samples"));
}

/* As Python's program leaves them: any spacing and order, shards of its own. */
static void foreign_sets_are_reused(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards(3, 2, 10, 2);
    struct bytes shard = { 0 };
    static const char manifest[] =
        "{\"seq_len\":2, \"num_samples\":3,\n\"num_shards\": 2, \"vocab_size\": 10}\n";
    for (int i = 0; i < 12; i++)
        put_token(&shard, i % 10, 8);
    rig_write("_manifest.json", manifest, strlen(manifest));
    rig_write("shard_0000.bin", shard.data, 64);
    rig_write("shard_0001.bin", shard.data + 64, 32);
    must(prepare(&set));
    assert_true(!report.generated && report.scanned && report.remembered);
    assert_int_equal(report.bytes_scanned, 96);
    struct samples_settings settings = rig_samples(&set);
    settings.shuffle = false;
    uint64_t count;
    int32_t *all = rig_epoch(&settings, 0, 2, &count);
    for (int i = 0; i < 12; i++)
        assert_int_equal(all[i], i % 10);
    memory_free(all);
    must(prepare(&set));
    assert_false(report.scanned);               /* remembered */
    rig_write("shard_0001.bin", shard.data + 64, 32);
    must(prepare(&set));
    assert_true(report.scanned);                /* written since */
    bytes_deinit(&shard);
}

/* ---- damage ------------------------------------------------------------------------------ */

static void damaged_shards_are_named(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards(100, 64, 1000, 4);
    must(prepare(&set));
    struct bytes shard = rig_read("shard_0002.bin");
    char path[PATH_BYTES_MAX];
    rig_path(path, "shard_0002.bin");
    for (int kind = 0; kind < 4; kind++) {
        if (kind == 0)
            must(path_remove(path, &error));
        else if (kind == 3)
            must(path_make_folders(path, &error));
        else
            rig_write("shard_0002.bin", shard.data, kind == 1 ? shard.count - 1 : 8);
        assert_int_equal(prepare(&set), kind == 0   ? AKIN_NOT_FOUND
                                        : kind == 3 ? AKIN_IO
                                                    : AKIN_FORMAT);
        assert_non_null(strstr(error.message, "shard_0002.bin"));
        struct samples_settings settings = rig_samples(&set);
        struct samples *samples = NULL;
        assert_int_not_equal(samples_open(&settings, &samples, &error), AKIN_OK);
        assert_non_null(strstr(error.message, "shard_0002.bin"));
        assert_null(samples);
        must(path_remove_tree(path, &error));
    }
    bytes_append(&shard, "x", 1);
    rig_write("shard_0002.bin", shard.data, shard.count);
    assert_int_equal(prepare(&set), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "too long"));
    bytes_deinit(&shard);
}

static void expect_bad_token(const struct shards_settings *set, size_t sample, size_t at,
                             const char *place)
{
    assert_int_equal(prepare(set), AKIN_FORMAT);
    char expected[64];
    snprintf(expected, sizeof expected, "(%zu of the set), ", sample);
    assert_non_null(strstr(error.message, "shard_0001.bin"));
    assert_non_null(strstr(error.message, expected));
    snprintf(expected, sizeof expected, "%s position %zu: ", place, at);
    assert_non_null(strstr(error.message, expected));
    assert_true(rig_has("_manifest.json"));
}

static void tokens_out_of_range_are_named(void **state)
{
    (void)state;
    enum { LENGTH = 70 };
    static const int64_t wrong[] = { 1000, -1, INT64_MAX, INT64_MIN, (int64_t)1 << 32, 1 << 31 };
    struct shards_settings set = rig_shards(100, LENGTH, 1000, 2);
    must(prepare(&set));
    struct bytes shard = rig_read("shard_0001.bin");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        size_t sample = i * 9 + 4, at = i % 2 ? LENGTH - 1 : 0;
        int64_t kept, *token = (int64_t *)shard.data + (sample * 2 + i % 2) * LENGTH + at;
        memcpy(&kept, token, sizeof kept);
        memcpy(token, &wrong[i], sizeof kept);
        rig_write("shard_0001.bin", shard.data, shard.count);
        expect_bad_token(&set, 50 + sample, at, i % 2 ? "target" : "source");
        memcpy(token, &kept, sizeof kept);
    }
    rig_write("shard_0001.bin", shard.data, shard.count);
    must(prepare(&set));
    assert_true(report.scanned);
    bytes_deinit(&shard);
    set = rig_shards(100, LENGTH, 999, 2);
    set.layout.token_type = TOKEN_U16;
    must(prepare(&set));
    shard = rig_read("shard_0001.bin");
    ((uint16_t *)shard.data)[3 * 2 * LENGTH + 65] = 999;
    rig_write("shard_0001.bin", shard.data, shard.count);
    expect_bad_token(&set, 53, 65, "source");
    bytes_deinit(&shard);
}

/* Whatever the number of threads: the first. */
static void the_first_damage_is_told(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards(64, 512, 50, 8);
    must(prepare(&set));
    for (int shard = 3; shard < 8; shard++) {
        char name[32];
        snprintf(name, sizeof name, "shard_%04d.bin", shard);
        struct bytes data = rig_read(name);
        data.data[7] = (char)0x80;
        rig_write(name, data.data, data.count);
        bytes_deinit(&data);
    }
    for (set.workers = 0; set.workers < 9; set.workers++) {
        assert_int_equal(prepare(&set), AKIN_FORMAT);
        assert_non_null(strstr(error.message, "shard_0003.bin: sample 0 "));
    }
}

static void manifests_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{", "[]", "7", "{}", "{\"num_samples\": 4, \"seq_len\": 2, \"vocab_size\": 9}",
        "{\"num_samples\": 4, \"seq_len\": 2, \"vocab_size\": 9, \"num_shards\": 0}",
        "{\"num_samples\": -4, \"seq_len\": 2, \"vocab_size\": 9, \"num_shards\": 1}",
        "{\"num_samples\": \"4\", \"seq_len\": 2, \"vocab_size\": 9, \"num_shards\": 1}",
        "{\"num_samples\": 4, \"seq_len\": 2, \"vocab_size\": 9, \"num_shards\": 1, \"x\": 1}",
        "{\"num_samples\": 4, \"seq_len\": 2, \"vocab_size\": 9, \"num_shards\": 1, "
        "\"token_type\": \"f32\"}",
        "{\"num_samples\": 9e99, \"seq_len\": 2, \"vocab_size\": 9, \"num_shards\": 1}",
    };
    struct shards_settings set = rig_shards(4, 2, 9, 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rig_write("_manifest.json", bad[i], strlen(bad[i]));
        rig_write("shard_0000.bin", "somebody's", 10);
        assert_int_equal(prepare(&set), AKIN_FORMAT);
        assert_non_null(strstr(error.message, "_manifest.json"));
        expect_text("shard_0000.bin", "somebody's");
    }
}

/* ---- generation -------------------------------------------------------------------------- */

static void a_set_of_other_sizes_is_replaced(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards(100, 16, 500, 9);
    must(prepare(&set));
    set = rig_shards(60, 16, 400, 3);
    struct samples_settings settings = rig_samples(&set);
    struct samples *samples = NULL;
    assert_int_equal(samples_open(&settings, &samples, &error), AKIN_FORMAT);
    assert_non_null(strstr(error.message, "other sizes"));
    must(prepare(&set));
    assert_true(report.generated && report.shards_kept == 0);
    expect_shards(60, 16, 400, 3, 8);
    assert_false(rig_has("shard_0003.bin"));
    must(prepare(&set));
    assert_false(report.generated);
}

static void shards_of_others_are_left_alone(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards(100, 16, 500, 2);
    rig_write("shard_0001.bin", "precious", 8);
    assert_int_equal(prepare(&set), AKIN_BUSY);
    assert_non_null(strstr(error.message, "shard_0001.bin"));
    expect_text("shard_0001.bin", "precious");
    assert_false(rig_has("_generating.json"));
}

static bool stop_after(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    uint64_t *most = cookie;
    assert_string_equal(stage, "generate");
    assert_true(done <= total);
    return done < *most;
}

/* Stopped, then gone on with: only what lacks is written, and only with the same seed. */
static void generation_goes_on(void **state)
{
    (void)state;
    for (int same = 0; same < 2; same++) {
        struct shards_settings set = rig_shards(4000, 100, 500, 20);
        uint64_t most = shard_set_bytes(&set.layout) / 2;
        set.progress = (struct akin_progress){ &most, stop_after };
        set.workers = 1;
        assert_int_equal(prepare(&set), AKIN_CANCELLED);
        assert_false(rig_has("_manifest.json"));
        assert_true(rig_has("_generating.json"));
        assert_true(rig_has("shard_0000.bin"));
        set.progress.update = NULL;
        if (same == 0)
            set.seed++;
        must(prepare(&set));
        assert_true(same ? report.shards_kept >= 8 && report.scanned : report.shards_kept == 0);
        if (same)
            expect_shards(4000, 100, 500, 20, 8);
        assert_int_equal(path_remove_tree(rig_folder, &error), AKIN_OK);
    }
}

/* A set of the same sizes but for the vocabulary: none of its shards may be taken for ours when we
 * are killed while we replace it. */
static void old_shards_are_never_kept(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards(4000, 100, 500, 20);
    must(prepare(&set));
    set.layout.vocab = 400;
    uint64_t most = 1;
    set.progress = (struct akin_progress){ &most, stop_after };
    assert_int_equal(prepare(&set), AKIN_CANCELLED);
    assert_false(rig_has("_manifest.json"));
    set.progress.update = NULL;
    must(prepare(&set));
    expect_shards(4000, 100, 400, 20, 8);
}

/* kill -9 at random moments: no manifest, or a whole set; then the next run makes it whole. The
 * moments come sooner and sooner until some were in time: a busy machine may have been slow when it
 * was measured. */
static void killed_runs_leave_no_half_set(void **state)
{
    (void)state;
    struct rng rng;
    int killed = 0;
    rng_seed(&rng, 3);
    struct shards_settings set = rig_shards(3000, 128, 500, 12);
    uint64_t before = clock_monotonic_ns();
    must(prepare(&set));
    uint64_t whole_ns = clock_monotonic_ns() - before;
    for (int round = 0; round < 15 || (killed <= 2 && round < 300); round++) {
        set.layout.vocab = (size_t)(300 + round / 2);   /* every other time it replaces a set */
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(shards_prepare(&set, &report, NULL) != AKIN_OK);
        uint64_t moment_ns = rng_below(&rng, whole_ns + whole_ns / 4) >> (round / 15);
        usleep((useconds_t)(moment_ns / 1000));
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        killed += WIFSIGNALED(status);
        error = (struct akin_error){ 0 };
        if (rig_has("_manifest.json") && shards_verify(rig_folder, &set.layout, &error) == AKIN_OK)
            expect_shards(3000, 128, set.layout.vocab, 12, 8);
        if (round % 3 == 2) {
            must(prepare(&set));
            expect_shards(3000, 128, set.layout.vocab, 12, 8);
            struct names names = { 0 };
            must(path_list(rig_folder, &names, &error));
            assert_int_equal(names.count, 14);      /* no leavings */
            names_deinit(&names);
        }
    }
    assert_true(killed > 2);
}

static void a_full_disk_is_told(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards((uint64_t)1 << 34, 512, 500, 9);
    assert_int_equal(prepare(&set), AKIN_IO);       /* 2^47 bytes: before anything is written */
    assert_non_null(strstr(error.message, "140737488355328"));
    assert_non_null(strstr(error.message, rig_folder));
    struct names names = { 0 };
    must(path_list(rig_folder, &names, &error));
    assert_int_equal(names.count, 0);
    names_deinit(&names);
}

/* The system refuses in the middle of a shard. */
static void a_refused_write_names_the_shard(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards(4000, 128, 500, 3);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit limit = { 1 << 20, 1 << 20 };
        signal(SIGXFSZ, SIG_IGN);
        bool right = !setrlimit(RLIMIT_FSIZE, &limit) && prepare(&set) == AKIN_IO &&
                     strstr(error.message, "shard_0000.bin") && strstr(error.message, "8192000") &&
                     !rig_has("_manifest.json");
        _exit(!right);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    must(prepare(&set));
    expect_shards(4000, 128, 500, 3, 8);
}

static void one_at_a_time(void **state)
{
    (void)state;
    struct folder_lock lock;
    struct shards_settings set = rig_shards(10, 4, 500, 1);
    must(folder_lock_take(rig_folder, &lock, &error));
    assert_int_equal(prepare(&set), AKIN_BUSY);
    folder_lock_release(&lock);
    must(prepare(&set));
}

static void a_folder_that_cannot_be_had_is_told(void **state)
{
    (void)state;
    struct shards_settings set = rig_shards(10, 4, 500, 1);
    char path[PATH_BYTES_MAX];
    rig_write("file", "", 0);
    rig_path(path, "file/below");
    set.folder = path;
    assert_int_equal(prepare(&set), AKIN_IO);
    assert_non_null(strstr(error.message, "file"));
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, rig_begin, rig_end)
    static const struct CMUnitTest tests[] = {
        IN_FOLDER(layout_is_the_references),
        IN_FOLDER(shards_are_about_128_mib),
        IN_FOLDER(foreign_sets_are_reused),
        IN_FOLDER(damaged_shards_are_named),
        IN_FOLDER(tokens_out_of_range_are_named),
        IN_FOLDER(the_first_damage_is_told),
        IN_FOLDER(manifests_are_checked),
        IN_FOLDER(a_set_of_other_sizes_is_replaced),
        IN_FOLDER(shards_of_others_are_left_alone),
        IN_FOLDER(generation_goes_on),
        IN_FOLDER(old_shards_are_never_kept),
        IN_FOLDER(killed_runs_leave_no_half_set),
        IN_FOLDER(a_full_disk_is_told),
        IN_FOLDER(a_refused_write_names_the_shard),
        IN_FOLDER(one_at_a_time),
        IN_FOLDER(a_folder_that_cannot_be_had_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
