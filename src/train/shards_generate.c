/* Generation of a training set. What lies in the folder at any moment:
 *
 *   _generating.json, stage "clearing"   an older set is being removed: manifest first, then shards
 *   _generating.json, stage "writing"    every shard_NNNN.bin that is there is whole and of these
 *                                        settings and seed: a run with the same ones goes on
 *   _manifest.json                       the set is whole, whatever else lies there
 *
 * Each file is written beside its name, synced and renamed, the manifest last. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "train/shards_work.h"

enum { STATE_BYTES_MAX = 4096 };

struct generation {
    const struct shards_settings *settings;
    const struct shard_layout *layout;
    bool *kept;                 /* [shard_count] */
};

/* Whether a name is that of a shard, or, with `part`, begins with one and goes on. */
static bool is_shard_name(const char *name, bool part)
{
    if (strncmp(name, "shard_", 6))
        return false;
    size_t digits = strspn(name + 6, "0123456789");
    const char *end = name + 6 + digits;
    if (digits < 4 || strncmp(end, ".bin", 4))
        return false;
    return end[4] == (part ? '.' : 0);
}

/* A file of ours that was being written when its process ended. */
static bool is_leaving(const char *name)
{
    size_t length = strlen(name);
    if (length < 5 || strcmp(name + length - 5, ".part"))
        return false;
    return is_shard_name(name, true) || !strncmp(name, "_manifest.json.", 15) ||
           !strncmp(name, "_generating.json.", 17) || !strncmp(name, "_checked.json.", 14);
}

enum akin_status shards_clear_folder(const char *folder, bool shards, struct akin_error *error)
{
    struct names names = { 0 };
    char path[PATH_BYTES_MAX];
    enum akin_status status = path_list(folder, &names, error);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        if (!is_leaving(names.items[i]) &&
            !(shards && is_shard_name(names.items[i], false)))
            continue;
        status = path_join(path, sizeof path, folder, names.items[i], error);
        if (status == AKIN_OK)
            status = path_remove(path, error);
    }
    names_deinit(&names);
    return status;
}

/* Bytes of the shards that lie there, and the name of the first one. */
static enum akin_status survey(const char *folder, uint64_t *bytes, char first[64],
                               struct akin_error *error)
{
    struct names names = { 0 };
    char path[PATH_BYTES_MAX];
    *bytes = 0;
    first[0] = 0;
    enum akin_status status = path_list(folder, &names, error);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        uint64_t size = 0;
        if (!is_shard_name(names.items[i], false))
            continue;
        status = path_join(path, sizeof path, folder, names.items[i], error);
        if (status == AKIN_OK && path_bytes(path, &size, NULL) == AKIN_OK)
            *bytes += size;
        if (!first[0])
            snprintf(first, 64, "%.63s", names.items[i]);
    }
    names_deinit(&names);
    return status;
}

static void print_state(const struct shards_settings *settings, const char *stage,
                        struct bytes *text)
{
    bytes_append_text(text, "{\"set\": ");
    manifest_print(&settings->layout, text);
    bytes_printf(text, ", \"seed\": \"%" PRIu64 "\", \"stage\": \"%s\"}\n", settings->seed, stage);
}

static enum akin_status write_state(const struct shards_settings *settings, const char *path,
                                    const char *stage, struct akin_error *error)
{
    struct bytes text = { 0 };
    print_state(settings, stage, &text);
    enum akin_status status = text.failed ? error_memory(error)
                                          : file_write(path, text.data, text.count, error);
    bytes_deinit(&text);
    return status;
}

/* Whether the file at `path` says that shards of these very settings are being written. */
static bool is_ours(const struct shards_settings *settings, const char *path)
{
    struct bytes found = { 0 }, wanted = { 0 };
    print_state(settings, "writing", &wanted);
    bool ours = file_read(path, STATE_BYTES_MAX, &found, NULL) == AKIN_OK && !wanted.failed &&
                found.count == wanted.count && !memcmp(found.data, wanted.data, wanted.count);
    bytes_deinit(&found);
    bytes_deinit(&wanted);
    return ours;
}

/* ---- one shard --------------------------------------------------------------------------- */

static enum akin_status write_samples(struct generation *g, struct shards_work *work, size_t shard,
                                      struct file_writer *writer, struct akin_error *error)
{
    const struct shard_layout *layout = g->layout;
    size_t length = 2 * layout->seq_len, part = shard_part_samples(layout);
    uint64_t sample = shard_first_sample(layout, shard);
    uint64_t end = sample + shard_samples(layout, shard);
    int32_t *tokens = memory_alloc_aligned(length, sizeof *tokens);
    unsigned char *stored = memory_alloc_aligned(part, shard_sample_bytes(layout));
    enum akin_status status = tokens && stored ? AKIN_OK : error_memory(error);
    while (status == AKIN_OK && sample < end) {
        size_t count = 0;
        for (; count < part && sample < end; count++, sample++) {
            tokens_make(g->settings->seed, sample, layout->vocab, length, tokens);
            tokens_store(tokens, length, layout->token_type,
                         stored + count * shard_sample_bytes(layout));
        }
        size_t bytes = count * shard_sample_bytes(layout);
        status = file_writer_write(writer, stored, bytes, error);
        if (status == AKIN_OK && !shards_tell(work, shard, bytes))
            status = AKIN_CANCELLED;
    }
    memory_free(stored);
    memory_free(tokens);
    return status;
}

static enum akin_status generate_shard(void *context, struct shards_work *work, size_t shard,
                                       struct akin_error *error)
{
    struct generation *g = context;
    char path[PATH_BYTES_MAX];
    struct file_writer *writer = NULL;
    if (g->kept[shard])
        return shards_tell(work, shard, shard_bytes(g->layout, shard)) ? AKIN_OK : AKIN_CANCELLED;
    TRY(shard_path(path, g->settings->folder, shard, error));
    enum akin_status status = file_writer_open(path, &writer, error);
    if (status == AKIN_OK)
        status = write_samples(g, work, shard, writer, error);
    if (status == AKIN_OK)
        status = file_writer_commit(&writer, error);
    else
        file_writer_abort(&writer);
    if (status != AKIN_OK && status != AKIN_CANCELLED)
        error_context(error, status,
                      "generating %" PRIu64 " bytes in %zu shards, of which this one has %" PRIu64,
                      shard_set_bytes(g->layout), g->layout->shard_count,
                      shard_bytes(g->layout, shard));
    return status;
}

/* ---- all of them ------------------------------------------------------------------------- */

static enum akin_status find_kept(struct generation *g, bool ours, struct shards_report *report,
                                  uint64_t *missing, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    *missing = 0;
    for (size_t shard = 0; shard < g->layout->shard_count; shard++) {
        uint64_t bytes = 0, expected = shard_bytes(g->layout, shard);
        TRY(shard_path(path, g->settings->folder, shard, error));
        g->kept[shard] = ours && path_bytes(path, &bytes, NULL) == AKIN_OK && bytes == expected;
        report->shards_kept += g->kept[shard];
        *missing += g->kept[shard] ? 0 : expected;
    }
    return AKIN_OK;
}

static enum akin_status check_space(struct generation *g, uint64_t missing, uint64_t freed,
                                    struct akin_error *error)
{
    uint64_t has;
    TRY(path_free_bytes(g->settings->folder, &has, error));
    if (has + freed >= missing)
        return AKIN_OK;
    return error_set(error, AKIN_IO,
                     "%s: disk too full: %zu shards of %" PRIu64 " bytes still need %" PRIu64
                     " bytes, %" PRIu64 " are free: give another folder, fewer samples, or "
                     "token-type u16",
                     g->settings->folder, g->layout->shard_count, shard_bytes(g->layout, 0),
                     missing, has + freed);
}

/* Whether what lies in the folder may be replaced: a set with a manifest (which was parsed), our
 * own unfinished one, or nothing. */
static enum akin_status refuse_foreign(const char *folder, const char *state, const char *manifest,
                                       const char *first, struct akin_error *error)
{
    if (!first[0] || path_exists(state) || path_exists(manifest))
        return AKIN_OK;
    return error_set(error, AKIN_BUSY,
                     "%s: holds %s but no _manifest.json, so it is not ours to replace: remove "
                     "the shards or choose another folder", folder, first);
}

static enum akin_status make_room(const struct shards_settings *settings, const char *state,
                                  const char *manifest, struct akin_error *error)
{
    char checked[PATH_BYTES_MAX];
    TRY(path_join(checked, sizeof checked, settings->folder, "_checked.json", error));
    TRY(write_state(settings, state, "clearing", error));
    TRY(path_remove(checked, error));
    TRY(path_remove(manifest, error));
    TRY(path_sync_folder(state, error));
    TRY(shards_clear_folder(settings->folder, true, error));
    TRY(path_sync_folder(state, error));
    return write_state(settings, state, "writing", error);
}

static enum akin_status run_generation(struct generation *g, struct shards_report *report,
                                       struct akin_error *error)
{
    const struct shards_settings *settings = g->settings;
    char state[PATH_BYTES_MAX], manifest[PATH_BYTES_MAX], first[64];
    uint64_t lying, missing;
    struct bytes text = { 0 };
    TRY(path_join(state, sizeof state, settings->folder, "_generating.json", error));
    TRY(path_join(manifest, sizeof manifest, settings->folder, "_manifest.json", error));
    TRY(survey(settings->folder, &lying, first, error));
    TRY(refuse_foreign(settings->folder, state, manifest, first, error));
    bool ours = !path_exists(manifest) && is_ours(settings, state);
    TRY(find_kept(g, ours, report, &missing, error));
    TRY(check_space(g, missing, ours ? 0 : lying, error));
    TRY(ours ? shards_clear_folder(settings->folder, false, error)
             : make_room(settings, state, manifest, error));
    struct shard_job job = {
        .shard_count = g->layout->shard_count, .workers = settings->workers,
        .total_bytes = shard_set_bytes(g->layout), .stage = "generate",
        .progress = settings->progress, .context = g, .each = generate_shard,
    };
    TRY(shards_work_run(&job, error));
    manifest_print(g->layout, &text);
    enum akin_status status = text.failed ? error_memory(error)
                                          : file_write(manifest, text.data, text.count, error);
    bytes_deinit(&text);
    report->bytes_written = missing;
    return status == AKIN_OK ? path_remove(state, error) : status;
}

enum akin_status shards_generate(const struct shards_settings *settings,
                                 struct shards_report *report, struct akin_error *error)
{
    struct generation g = { .settings = settings, .layout = &settings->layout };
    uint64_t start = clock_monotonic_ns();
    g.kept = memory_alloc(settings->layout.shard_count, sizeof *g.kept);
    enum akin_status status = g.kept ? run_generation(&g, report, error) : error_memory(error);
    memory_free(g.kept);
    report->generated = status == AKIN_OK;
    report->generate_seconds = (double)(clock_monotonic_ns() - start) * 1e-9;
    return status;
}
