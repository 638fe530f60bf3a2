/* Batches: the same tokens in the same order whatever the workers, from memory as from disk; every
 * sample once, each rank its share. */
#include "base/philox.h"
#include "base/thread.h"
#include "samples_rig.h"

/* The number of a sample, found by its first tokens: vocabularies of the tests are large enough
 * that no two samples begin alike (checked here). */
static size_t *numbers_of(const int32_t *all, uint64_t count, const struct samples_settings *s)
{
    size_t *numbers = memory_alloc((size_t)count + 1, sizeof *numbers), length = 2 * s->seq_len;
    int32_t *made = memory_alloc((size_t)s->sample_count, length * sizeof *made);
    for (uint64_t i = 0; i < s->sample_count; i++)
        tokens_make(s->seed, i, s->vocab, length, made + i * length);
    for (uint64_t i = 0; i < count; i++) {
        size_t found = SIZE_MAX;
        for (size_t j = 0; j < s->sample_count; j++)
            if (!memcmp(all + i * length, made + j * length, length * sizeof *made)) {
                assert_int_equal(found, SIZE_MAX);
                found = j;
            }
        assert_int_not_equal(found, SIZE_MAX);
        numbers[i] = found;
    }
    memory_free(made);
    return numbers;
}

static struct samples_settings in_memory(uint64_t samples, size_t seq_len)
{
    return (struct samples_settings){
        .seed = 77, .sample_count = samples, .seq_len = seq_len, .vocab = 8192, .workers = 2,
        .world = 1, .shuffle = true,
    };
}

/* By hand from the published generator: block p / 4 of sample i, number p % 4 of it. */
static void tokens_are_a_function_of_seed_sample_and_position(void **state)
{
    (void)state;
    enum { LENGTH = 203 };
    int32_t tokens[LENGTH];
    uint64_t seed = 0x123456789abcdef0u, sample = 0x100000002u;
    tokens_make(seed, sample, 1000, LENGTH, tokens);
    for (uint32_t p = 0; p < LENGTH; p++) {
        uint32_t counter[4] = { p / 4, 0x53414d50u, 2, 1 }, key[2] = { 0x9abcdef0u, 0x12345678u };
        uint32_t random[4];
        philox_4x32(counter, key, random);
        assert_int_equal(tokens[p], (uint64_t)random[p % 4] * 1000 / 4294967296u);
    }
    int32_t fewer[3];
    tokens_make(seed, sample, 1000, 3, fewer);
    assert_memory_equal(fewer, tokens, sizeof fewer);
}

/* Counts of a uniform draw: chi-square with 63 degrees of freedom is below 120 but for one in 10^5.
 */
static void tokens_are_uniform(void **state)
{
    (void)state;
    enum { VOCAB = 64, SAMPLES = 200, LENGTH = 512 };
    double counts[VOCAB] = { 0 }, expected = (double)SAMPLES * LENGTH / VOCAB, chi = 0;
    int32_t tokens[LENGTH];
    for (uint64_t i = 0; i < SAMPLES; i++) {
        tokens_make(1, i, VOCAB, LENGTH, tokens);
        for (int p = 0; p < LENGTH; p++) {
            assert_in_range(tokens[p], 0, VOCAB - 1);
            counts[tokens[p]]++;
        }
    }
    for (int v = 0; v < VOCAB; v++)
        chi += (counts[v] - expected) * (counts[v] - expected) / expected;
    assert_true(chi > 20 && chi < 120);
}

static void every_sample_comes_once(void **state)
{
    (void)state;
    static const uint64_t sizes[] = { 1, 2, 7, 8, 9, 63, 1500 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct samples_settings settings = in_memory(sizes[i], 5);
        uint64_t count;
        int32_t *all = rig_epoch(&settings, 3, 16, &count);
        assert_int_equal(count, sizes[i]);
        size_t *numbers = numbers_of(all, count, &settings);
        bool *seen = memory_alloc((size_t)count, sizeof *seen);
        size_t in_place = 0;
        for (uint64_t j = 0; j < count; j++) {
            assert_false(seen[numbers[j]]);
            seen[numbers[j]] = true;
            in_place += numbers[j] == j;
        }
        if (sizes[i] > 1000)
            assert_true(in_place < 20);
        memory_free(seen);
        memory_free(numbers);
        memory_free(all);
    }
}

/* Long rows make many small chunks and windows. */
static void workers_and_batches_change_no_bit(void **state)
{
    (void)state;
    enum { SAMPLES = 700, LENGTH = 4096 };
    struct samples_settings settings = in_memory(SAMPLES, LENGTH);
    uint64_t count, again;
    settings.workers = 1;
    int32_t *one = rig_epoch(&settings, 1, 13, &count);
    for (int workers = 2; workers <= 5; workers += 3) {
        settings.workers = workers;
        int32_t *other = rig_epoch(&settings, 1, 64, &again);
        assert_int_equal(again, count);
        assert_memory_equal(one, other, SAMPLES * 2 * LENGTH * sizeof *one);
        memory_free(other);
    }
    memory_free(one);
}

static void order_follows_seed_and_epoch(void **state)
{
    (void)state;
    enum { SAMPLES = 300, LENGTH = 6, BYTES = SAMPLES * 2 * LENGTH * sizeof(int32_t) };
    struct samples_settings settings = in_memory(SAMPLES, LENGTH);
    struct samples *samples;
    uint64_t count;
    must(samples_open(&settings, &samples, &error));
    int32_t *first = rig_drain(samples, 0, LENGTH, 32, &count);
    int32_t *second = rig_drain(samples, 1, LENGTH, 32, &count);
    int32_t *again = rig_drain(samples, 0, LENGTH, 32, &count);
    assert_memory_equal(first, again, BYTES);
    assert_memory_not_equal(first, second, BYTES);
    samples_close(&samples);
    settings.seed++;
    int32_t *other = rig_epoch(&settings, 0, 32, &count);
    assert_memory_not_equal(first, other, BYTES);
    settings.shuffle = false;
    int32_t *plain = rig_epoch(&settings, 0, 32, &count);
    size_t *numbers = numbers_of(plain, count, &settings);
    for (size_t i = 0; i < SAMPLES; i++)
        assert_int_equal(numbers[i], i);
    memory_free(numbers);
    memory_free(plain);
    memory_free(other);
    memory_free(again);
    memory_free(second);
    memory_free(first);
}

/* Disjoint, equal counts, all but fewer than `world` covered. */
static void ranks_share(void **state)
{
    (void)state;
    enum { SAMPLES = 1003, LENGTH = 4 };
    for (size_t world = 1; world <= 9; world++) {
        bool seen[SAMPLES] = { false };
        size_t covered = 0;
        for (size_t rank = 0; rank < world; rank++) {
            struct samples_settings settings = in_memory(SAMPLES, LENGTH);
            settings.world = world;
            settings.rank = rank;
            uint64_t count;
            int32_t *all = rig_epoch(&settings, 4, 10, &count);
            assert_int_equal(count, SAMPLES / world);
            size_t *numbers = numbers_of(all, count, &settings);
            for (uint64_t i = 0; i < count; i++) {
                assert_false(seen[numbers[i]]);
                seen[numbers[i]] = true;
                covered++;
            }
            memory_free(numbers);
            memory_free(all);
        }
        assert_int_equal(covered, SAMPLES / world * world);
    }
}

/* Number i of rank r is number i * world + r of a world of one, so that a step over all ranks sees
 * what one rank with the whole batch sees. */
static void steps_see_the_same_samples_in_any_world(void **state)
{
    (void)state;
    enum { SAMPLES = 1203, LENGTH = 4, ROW = 2 * LENGTH };
    struct samples_settings settings = in_memory(SAMPLES, LENGTH);
    uint64_t count;
    int32_t *one = rig_epoch(&settings, 2, 8, &count);
    for (size_t world = 2; world <= 8; world *= 2)
        for (size_t rank = 0; rank < world; rank++) {
            settings.world = world;
            settings.rank = rank;
            int32_t *share = rig_epoch(&settings, 2, 8, &count);
            for (uint64_t i = 0; i < count; i++)
                assert_memory_equal(share + i * ROW, one + (i * world + rank) * ROW,
                                    ROW * sizeof *one);
            memory_free(share);
        }
    memory_free(one);
}

/* Dropout counts the rows of the batches of all ranks, one behind the other: so they are, in their
 * order, what one process takes. Where a batch is no whole turns of the lanes a step still sees the
 * same samples. */
static void batches_of_ranks_are_that_of_one(void **state)
{
    (void)state;
    enum { SAMPLES = 1203, LENGTH = 4, ROW = 2 * LENGTH };
    static const size_t batches[] = { 8, 24, 64 };
    for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
        struct samples_settings settings = in_memory(SAMPLES, LENGTH);
        size_t all = batches[k];
        uint64_t count;
        settings.batch = all;
        int32_t *one = rig_epoch(&settings, 2, all, &count);
        for (size_t world = 2; world <= 8; world *= 2)
            for (size_t rank = 0; rank < world; rank++) {
                settings.world = world;
                settings.rank = rank;
                settings.batch = all / world;
                int32_t *share = rig_epoch(&settings, 2, settings.batch, &count);
                for (uint64_t i = 0; i < count / settings.batch * settings.batch; i++) {
                    uint64_t at = i / settings.batch * all + rank * settings.batch
                                  + i % settings.batch;
                    assert_memory_equal(share + i * ROW, one + at * ROW, ROW * sizeof *one);
                }
                memory_free(share);
            }
        memory_free(one);
    }
}

/* The batches in which ranks and batches go together badly are as without any told. */
static void odd_batches_are_as_they_come(void **state)
{
    (void)state;
    enum { SAMPLES = 300, LENGTH = 6, BYTES = SAMPLES / 2 * 2 * LENGTH * sizeof(int32_t) };
    struct samples_settings settings = in_memory(SAMPLES, LENGTH);
    uint64_t count;
    settings.world = 2;
    settings.rank = 1;
    int32_t *untold = rig_epoch(&settings, 1, 6, &count);
    settings.batch = 6;
    int32_t *told = rig_epoch(&settings, 1, 6, &count);
    assert_memory_equal(untold, told, BYTES);
    memory_free(told);
    memory_free(untold);
}

static void disk_gives_what_memory_gives(void **state)
{
    (void)state;
    enum { SAMPLES = 1301, LENGTH = 200 };
    struct shards_report report;
    struct shards_settings set = rig_shards(SAMPLES, LENGTH, 60000, 7);
    for (int type = TOKEN_I64; type <= TOKEN_U16; type++)
        for (int io = SHARD_IO_CACHED; io <= SHARD_IO_DIRECT; io++) {
            set.layout.token_type = (enum token_type)type;
            must(shards_prepare(&set, &report, &error));
            struct samples_settings settings = rig_samples(&set);
            settings.io = (enum shard_io)io;
            for (size_t rank = 0; rank < 2; rank++) {
                uint64_t count, again;
                settings.world = 2;
                settings.rank = rank;
                settings.data_dir = rig_folder;
                int32_t *disk = rig_epoch(&settings, 9, 33, &count);
                settings.data_dir = NULL;
                int32_t *memory = rig_epoch(&settings, 9, 50, &again);
                assert_int_equal(count, again);
                assert_memory_equal(disk, memory, count * 2 * LENGTH * sizeof *disk);
                memory_free(memory);
                memory_free(disk);
            }
        }
}

static void closes_and_begins_anew_in_any_state(void **state)
{
    (void)state;
    enum { LENGTH = 1024 };
    struct samples_settings settings = in_memory(5000, LENGTH);
    struct samples *samples = NULL;
    int32_t source[8 * LENGTH], target[8 * LENGTH];
    size_t got;
    samples_close(&samples);
    for (int i = 0; i < 20; i++) {
        settings.workers = 1 + i % 4;
        must(samples_open(&settings, &samples, &error));
        for (int epoch = 0; epoch < i % 3; epoch++) {
            samples_epoch(samples, (uint32_t)epoch);
            for (int step = 0; step < i; step++)
                must(samples_next(samples, 8, source, target, &got, &error));
        }
        if (i % 2)
            samples_epoch(samples, 7);
        samples_close(&samples);
    }
}

static void handing_out_allocates_nothing(void **state)
{
    (void)state;
    enum { LENGTH = 1024 };
    struct shards_report report;
    struct shards_settings set = rig_shards(600, LENGTH, 100, 1);
    must(shards_prepare(&set, &report, &error));
    struct samples_settings settings = rig_samples(&set);
    int32_t source[8 * LENGTH], target[8 * LENGTH];
    for (int disk = 0; disk < 2; disk++) {
        struct samples *samples;
        size_t got = 8;
        settings.data_dir = disk ? rig_folder : NULL;
        settings.workers = 1;           /* it opens the only shard once */
        must(samples_open(&settings, &samples, &error));
        samples_epoch(samples, 0);
        must(samples_next(samples, 8, source, target, &got, &error));
        uint64_t before = memory_allocations();
        while (got == 8)
            must(samples_next(samples, 8, source, target, &got, &error));
        assert_int_equal(memory_allocations(), before);
        struct samples_stats stats;
        samples_stats(samples, &stats);
        assert_int_equal(stats.samples, 600);
        assert_int_equal(stats.bytes_read, disk ? 600 * 2 * LENGTH * 8 : 0);
        assert_true(stats.seconds > 0 && stats.wait_seconds <= stats.seconds);
        samples_close(&samples);
    }
}

static void settings_are_checked(void **state)
{
    (void)state;
    struct samples *samples = NULL;
    struct samples_settings good = in_memory(10, 4), bad[] = { good, good, good, good, good, good };
    static const char *const named[] = { "num-samples", "seq-len", "vocab-size", "rank",
                                         "num-workers", "ranks" };
    bad[0].sample_count = 0;
    bad[1].seq_len = 65537;
    bad[2].vocab = 0;
    bad[3].rank = 1;
    bad[4].workers = 100000;
    bad[5].world = 11;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_not_equal(samples_open(&bad[i], &samples, &error), AKIN_OK);
        assert_null(samples);
        assert_non_null(strstr(error.message, named[i]));
    }
    good.data_dir = rig_folder;
    good.token_type = TOKEN_U16;
    good.vocab = 65537;
    assert_int_equal(samples_open(&good, &samples, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "u16"));
    good.vocab = 65536;
    assert_int_equal(samples_open(&good, &samples, &error), AKIN_NOT_FOUND);
    assert_non_null(strstr(error.message, "_manifest.json"));
}

/* A shard that goes bad behind the check: an error of samples_next, the same again, never a token
 * out of range; another epoch tries again. */
static void damage_while_training_is_told(void **state)
{
    (void)state;
    enum { SAMPLES = 640, LENGTH = 512, VOCAB = 300, BATCH = 16 };
    struct shards_report report;
    struct shards_settings set = rig_shards(SAMPLES, LENGTH, VOCAB, 2);
    static int32_t source[BATCH * LENGTH], target[BATCH * LENGTH];
    must(shards_prepare(&set, &report, &error));
    struct samples_settings settings = rig_samples(&set);
    struct bytes good = rig_read("shard_0001.bin");
    for (int kind = 0; kind < 3; kind++) {
        struct samples *samples;
        char path[PATH_BYTES_MAX];
        must(samples_open(&settings, &samples, &error));
        rig_path(path, "shard_0001.bin");
        if (kind == 0) {
            memset(good.data + 7 * 2 * LENGTH * 8 + (LENGTH + 3) * 8, 0xff, 8);
            rig_write("shard_0001.bin", good.data, good.count);
            memset(good.data + 7 * 2 * LENGTH * 8 + (LENGTH + 3) * 8, 0, 8);
        } else if (kind == 1) {
            rig_write("shard_0001.bin", good.data, good.count / 2);
        } else {
            must(path_remove(path, &error));
        }
        samples_epoch(samples, 0);
        enum akin_status status = AKIN_OK;
        size_t got = BATCH;
        while (status == AKIN_OK && got == BATCH) {
            status = samples_next(samples, BATCH, source, target, &got, &error);
            for (size_t i = 0; status == AKIN_OK && i < got * LENGTH; i++)
                assert_true(source[i] >= 0 && source[i] < VOCAB);
        }
        assert_int_equal(status, kind == 2 ? AKIN_NOT_FOUND : AKIN_FORMAT);
        assert_non_null(strstr(error.message, "shard_0001.bin"));
        if (kind == 0) {
            assert_non_null(strstr(error.message, "sample 7 "));
            assert_non_null(strstr(error.message, "target position 3: token -1"));
        }
        struct akin_error again = { 0 };
        assert_int_equal(samples_next(samples, BATCH, source, target, &got, &again), status);
        assert_string_equal(again.message, error.message);
        rig_write("shard_0001.bin", good.data, good.count);
        uint64_t count;
        memory_free(rig_drain(samples, 1, LENGTH, BATCH, &count));
        samples_close(&samples);
    }
    bytes_deinit(&good);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_a_function_of_seed_sample_and_position),
        cmocka_unit_test(tokens_are_uniform),
        cmocka_unit_test(every_sample_comes_once),
        cmocka_unit_test(workers_and_batches_change_no_bit),
        cmocka_unit_test(order_follows_seed_and_epoch),
        cmocka_unit_test(ranks_share),
        cmocka_unit_test(steps_see_the_same_samples_in_any_world),
        cmocka_unit_test(batches_of_ranks_are_that_of_one),
        cmocka_unit_test(odd_batches_are_as_they_come),
        cmocka_unit_test_setup_teardown(disk_gives_what_memory_gives, rig_begin, rig_end),
        cmocka_unit_test(closes_and_begins_anew_in_any_state),
        cmocka_unit_test_setup_teardown(handing_out_allocates_nothing, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(settings_are_checked, rig_begin, rig_end),
        cmocka_unit_test_setup_teardown(damage_while_training_is_told, rig_begin, rig_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
