/* What is made sure of before training: the set is there, and all of its tokens are below the
 * vocabulary. Reading all of it takes as long as an epoch's reading, so _checked.json remembers the
 * size and the time of writing of every file that was scanned; a file that changed and kept both is
 * not noticed here, only when it is read. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/file_at.h"
#include "base/json.h"
#include "base/limits.h"
#include "train/shards_work.h"

struct scan {
    const struct shards_settings *settings;
    bool direct;
};

static enum akin_status scan_file(struct scan *scan, struct shards_work *work, size_t shard,
                                  struct file_at *file, struct akin_error *error)
{
    const struct shard_layout *layout = &scan->settings->layout;
    size_t part = shard_part_samples(layout), length = 2 * layout->seq_len;
    uint64_t samples = shard_samples(layout, shard), first = shard_first_sample(layout, shard);
    void *block;
    unsigned char *buffer = shard_part_buffer(layout, &block);
    enum akin_status status = buffer ? AKIN_OK : error_memory(error);
    for (uint64_t at = 0; status == AKIN_OK && at < samples; at += part) {
        size_t count = samples - at < part ? (size_t)(samples - at) : part;
        size_t bytes = count * shard_sample_bytes(layout);
        const unsigned char *data;
        int64_t value;
        status = file_at_read_blocks(file, at * shard_sample_bytes(layout), bytes, buffer, &data,
                                     error);
        if (status != AKIN_OK)
            break;
        size_t bad = tokens_first_bad(data, count * length, layout->token_type, layout->vocab,
                                      &value);
        if (bad != SIZE_MAX)
            status = shard_bad_token(scan->settings->folder, layout, first + at, bad, value, error);
        else if (!shards_tell(work, shard, bytes))
            status = AKIN_CANCELLED;
    }
    memory_free(block);
    return status;
}

static enum akin_status scan_shard(void *context, struct shards_work *work, size_t shard,
                                   struct akin_error *error)
{
    struct scan *scan = context;
    char path[PATH_BYTES_MAX];
    struct file_at file;
    TRY(shard_path(path, scan->settings->folder, shard, error));
    TRY(file_at_open(path, scan->direct ? FILE_AT_READ_DIRECT : FILE_AT_READ, &file, error));
    enum akin_status status = scan_file(scan, work, shard, &file, error);
    file_at_close(&file);
    return status;
}

/* ---- what was scanned before ------------------------------------------------------------- */

/* When a file was written, told only once a later write would have a later time: file systems keep
 * it to a tick of the system's clock, 10 ms at most. A time in the future is told as it is. */
static enum akin_status settled_time(const char *path, int64_t *modified_ns,
                                     struct akin_error *error)
{
    enum { TICK_US = 10000, TRIES = 3 };
    for (int i = 0; i < TRIES; i++) {
        TRY(path_modified_ns(path, modified_ns, error));
        int64_t age_us = (int64_t)clock_unix_us() - *modified_ns / 1000;
        if (age_us > TICK_US || age_us < -TICK_US)
            break;
        clock_sleep_us(2 * TICK_US);
    }
    return AKIN_OK;
}

/* Sizes, times and settings as they are now. */
static enum akin_status print_checked(const struct shards_settings *settings, struct bytes *text,
                                      struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    bytes_append_text(text, "{\"set\": ");
    manifest_print(&settings->layout, text);
    bytes_append_text(text, ", \"shards\": [");
    for (size_t shard = 0; shard < settings->layout.shard_count; shard++) {
        uint64_t bytes;
        int64_t modified_ns;
        TRY(shard_path(path, settings->folder, shard, error));
        TRY(path_bytes(path, &bytes, error));
        TRY(settled_time(path, &modified_ns, error));
        bytes_printf(text, "%s\n{\"bytes\": %" PRIu64 ", \"modified_ns\": %" PRId64 "}",
                     shard ? "," : "", bytes, modified_ns);
    }
    bytes_append_text(text, "]}\n");
    return text->failed ? error_memory(error) : AKIN_OK;
}

static bool file_holds(const char *path, const struct bytes *wanted)
{
    struct bytes found = { 0 };
    bool same = file_read(path, JSON_FILE_BYTES_MAX, &found, NULL) == AKIN_OK &&
                found.count == wanted->count && !memcmp(found.data, wanted->data, found.count);
    bytes_deinit(&found);
    return same;
}

enum akin_status shards_check(const struct shards_settings *settings, bool made,
                              struct shards_report *report, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes before = { 0 };
    uint64_t start = clock_monotonic_ns();
    struct scan scan = {
        .settings = settings, .direct = shards_want_direct(&settings->layout, settings->io),
    };
    struct shard_job job = {
        .shard_count = settings->layout.shard_count, .workers = settings->workers,
        .total_bytes = shard_set_bytes(&settings->layout), .stage = "check",
        .progress = settings->progress, .context = &scan, .each = scan_shard,
    };
    if (scan.direct && job.workers < SHARD_DIRECT_READERS)
        job.workers = SHARD_DIRECT_READERS;
    TRY(path_join(path, sizeof path, settings->folder, "_checked.json", error));
    enum akin_status status = print_checked(settings, &before, error);
    bool known = status == AKIN_OK && file_holds(path, &before);
    if (status == AKIN_OK && !known && !made) {
        status = shards_work_run(&job, error);
        report->scanned = status == AKIN_OK;
        report->bytes_scanned = report->scanned ? job.total_bytes : 0;
        report->scan_seconds = (double)(clock_monotonic_ns() - start) * 1e-9;
    }
    /* a folder that cannot be written only costs the next run its scan */
    if (status == AKIN_OK)
        report->remembered = known || file_write(path, before.data, before.count, NULL) == AKIN_OK;
    bytes_deinit(&before);
    return status;
}

/* ---- prepare ----------------------------------------------------------------------------- */

/* Whether a manifest lies there, and whether it is that of `layout`. */
static enum akin_status look_for_manifest(const struct shards_settings *settings, bool *equal,
                                          struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes text = { 0 };
    struct shard_layout found;
    *equal = false;
    TRY(path_join(path, sizeof path, settings->folder, "_manifest.json", error));
    if (!path_exists(path))
        return AKIN_OK;
    enum akin_status status = file_read(path, JSON_FILE_BYTES_MAX, &text, error);
    if (status == AKIN_OK)
        status = manifest_parse(text.data, text.count, path, &found, error);
    if (status == AKIN_OK)
        *equal = shard_layouts_equal(&found, &settings->layout);
    bytes_deinit(&text);
    return status;
}

static enum akin_status prepare_locked(const struct shards_settings *settings,
                                       struct shards_report *report, struct akin_error *error)
{
    char state[PATH_BYTES_MAX];
    bool equal;
    TRY(look_for_manifest(settings, &equal, error));
    if (!equal)
        TRY(shards_generate(settings, report, error));
    TRY(path_join(state, sizeof state, settings->folder, "_generating.json", error));
    if (equal) {    /* of a run that ended between its last steps; a folder may be read-only */
        (void)path_remove(state, NULL);
        (void)shards_clear_folder(settings->folder, false, NULL);
    }
    TRY(shards_verify(settings->folder, &settings->layout, error));
    return shards_check(settings, report->generated && report->shards_kept == 0, report, error);
}

enum akin_status shards_prepare(const struct shards_settings *settings,
                                struct shards_report *report, struct akin_error *error)
{
    struct shards_settings complete = *settings;
    struct folder_lock lock;
    *report = (struct shards_report){ 0 };
    TRY(shard_layout_complete(&complete.layout, error));
    report->shard_count = complete.layout.shard_count;
    TRY(path_make_folders(settings->folder, error));
    TRY(folder_lock_take(settings->folder, &lock, error));
    enum akin_status status = prepare_locked(&complete, report, error);
    folder_lock_release(&lock);
    return status;
}
