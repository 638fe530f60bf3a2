/* The form of a training set: sizes, names, manifest; and whether what lies there has it. */
#include "train/shards.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/system.h"

static const uint64_t target_bytes = (uint64_t)128 << 20;   /* of a shard, as the reference's */

enum { MANIFEST_BYTES_MAX = 1 << 16 };

enum akin_status shard_layout_complete(struct shard_layout *layout, struct akin_error *error)
{
    if (layout->sample_count == 0 || layout->seq_len == 0 || layout->vocab == 0)
        return error_set(error, AKIN_ARGUMENT,
                         "%s: 0 makes no training set: give at least 1",
                         !layout->sample_count ? "num-samples"
                         : !layout->seq_len    ? "seq-len"
                                               : "vocab-size");
    if (layout->sample_count > SAMPLES_MAX)
        return error_set(error, AKIN_LIMIT, "num-samples: at most %" PRIu64 ", not %" PRIu64,
                         SAMPLES_MAX, layout->sample_count);
    if (layout->seq_len > SAMPLE_TOKENS_MAX)
        return error_set(error, AKIN_LIMIT, "seq-len: at most %d, not %zu", SAMPLE_TOKENS_MAX,
                         layout->seq_len);
    if (layout->vocab > VOCABULARY_MAX)
        return error_set(error, AKIN_LIMIT, "vocab-size: at most %d, not %zu", VOCABULARY_MAX,
                         layout->vocab);
    if (layout->token_type == TOKEN_U16 && layout->vocab > (size_t)UINT16_MAX + 1)
        return error_set(error, AKIN_ARGUMENT,
                         "token-type u16 holds vocabularies of at most %d, not %zu: use i64",
                         UINT16_MAX + 1, layout->vocab);
    size_t count = layout->shard_count;
    if (count == 0) {
        uint64_t each = target_bytes / shard_sample_bytes(layout);
        each = each ? each : 1;
        uint64_t wanted = (layout->sample_count - 1) / each + 1;
        count = wanted > SHARDS_MAX ? SHARDS_MAX + 1 : (size_t)wanted;
    }
    if (count > SHARDS_MAX)
        return error_set(error, AKIN_LIMIT, "num-shards: at most %d", SHARDS_MAX);
    layout->shard_count = count;
    return AKIN_OK;
}

size_t shard_sample_bytes(const struct shard_layout *layout)
{
    return 2 * layout->seq_len * token_bytes(layout->token_type);
}

static uint64_t samples_each(const struct shard_layout *layout)
{
    return (layout->sample_count - 1) / layout->shard_count + 1;
}

uint64_t shard_first_sample(const struct shard_layout *layout, size_t shard)
{
    uint64_t first = shard * samples_each(layout);
    return first < layout->sample_count ? first : layout->sample_count;
}

uint64_t shard_samples(const struct shard_layout *layout, size_t shard)
{
    return shard_first_sample(layout, shard + 1) - shard_first_sample(layout, shard);
}

uint64_t shard_bytes(const struct shard_layout *layout, size_t shard)
{
    return shard_samples(layout, shard) * shard_sample_bytes(layout);
}

uint64_t shard_set_bytes(const struct shard_layout *layout)
{
    return layout->sample_count * shard_sample_bytes(layout);
}

size_t shard_of_sample(const struct shard_layout *layout, uint64_t sample)
{
    return (size_t)(sample / samples_each(layout));
}

enum akin_status shard_path(char path[PATH_BYTES_MAX], const char *folder, size_t shard,
                            struct akin_error *error)
{
    char name[40];
    snprintf(name, sizeof name, "shard_%04zu.bin", shard);
    return path_join(path, PATH_BYTES_MAX, folder, name, error);
}

bool shard_layouts_equal(const struct shard_layout *a, const struct shard_layout *b)
{
    return a->sample_count == b->sample_count && a->seq_len == b->seq_len &&
           a->vocab == b->vocab && a->shard_count == b->shard_count &&
           a->token_type == b->token_type;
}

bool shards_want_direct(const struct shard_layout *layout, enum shard_io io)
{
    if (io != SHARD_IO_AUTO)
        return io == SHARD_IO_DIRECT;
    return shard_set_bytes(layout) > system_available_bytes() / 2;
}

/* ---- manifest ---------------------------------------------------------------------------- */

static enum akin_status get_count(const json_t *object, const char *key, const char *where,
                                  uint64_t *value, struct akin_error *error)
{
    int64_t number = 0;
    TRY(json_get_integer(object, key, where, &number, error));
    if (number <= 0)
        return error_set(error, AKIN_FORMAT, "%s: %s: %" PRId64 " is not above 0", where, key,
                         number);
    *value = (uint64_t)number;
    return AKIN_OK;
}

static enum akin_status read_fields(const json_t *root, const char *where,
                                    struct shard_layout *layout, struct akin_error *error)
{
    static const char *const keys[] = { "num_samples", "seq_len", "vocab_size", "num_shards" };
    uint64_t values[4];
    const char *type = "i64", *key;
    const json_t *field;
    if (!json_is_object(root))
        return error_set(error, AKIN_FORMAT, "%s: expected an object, found %s", where,
                         json_type_name(root));
    json_object_foreach((json_t *)(uintptr_t)root, key, field) {
        bool known = !strcmp(key, "token_type");
        for (int i = 0; i < 4; i++)
            known |= !strcmp(key, keys[i]);
        if (!known)
            return error_set(error, AKIN_FORMAT,
                             "%s: %.40s: unknown key, so this is another kind of set: choose "
                             "another folder", where, key);
    }
    for (int i = 0; i < 4; i++)
        TRY(get_count(root, keys[i], where, &values[i], error));
    TRY(json_opt_string(root, "token_type", where, &type, error));
    if (strcmp(type, "u16") && strcmp(type, "i64"))
        return error_set(error, AKIN_FORMAT, "%s: token_type: neither i64 nor u16", where);
    struct shard_layout found = {
        .sample_count = values[0], .seq_len = values[1], .vocab = values[2],
        .shard_count = values[3],
        .token_type = strcmp(type, "u16") ? TOKEN_I64 : TOKEN_U16,
    };
    enum akin_status status = shard_layout_complete(&found, error);
    if (status != AKIN_OK)
        return error_context(error, status, "%s", where);
    *layout = found;
    return AKIN_OK;
}

enum akin_status manifest_parse(const char *text, size_t bytes, const char *where,
                                struct shard_layout *layout, struct akin_error *error)
{
    json_t *root = NULL;
    TRY(json_parse(text, bytes, where, &root, error));
    enum akin_status status = read_fields(root, where, layout, error);
    json_decref(root);
    return status;
}

/* The bytes that Python's json.dump writes for the reference's dictionary. */
void manifest_print(const struct shard_layout *layout, struct bytes *text)
{
    bytes_printf(text,
                 "{\"num_samples\": %" PRIu64 ", \"seq_len\": %zu, \"vocab_size\": %zu, "
                 "\"num_shards\": %zu",
                 layout->sample_count, layout->seq_len, layout->vocab, layout->shard_count);
    if (layout->token_type != TOKEN_I64)
        bytes_printf(text, ", \"token_type\": \"%s\"", token_type_name(layout->token_type));
    bytes_append_text(text, "}");
}

/* ---- what lies there --------------------------------------------------------------------- */

static enum akin_status verify_manifest(const char *folder, const struct shard_layout *layout,
                                        struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes text = { 0 };
    struct shard_layout found = { 0 };
    TRY(path_join(path, sizeof path, folder, "_manifest.json", error));
    enum akin_status status = file_read(path, MANIFEST_BYTES_MAX, &text, error);
    if (status == AKIN_OK)
        status = manifest_parse(text.data, text.count, path, &found, error);
    bytes_deinit(&text);
    if (status == AKIN_OK && !shard_layouts_equal(&found, layout))
        return error_set(error, AKIN_FORMAT,
                         "%s: a set of other sizes (%" PRIu64 " samples, seq_len %zu, vocab %zu, "
                         "%zu shards of %s): prepare it again",
                         path, found.sample_count, found.seq_len, found.vocab, found.shard_count,
                         token_type_name(found.token_type));
    return status;
}

enum akin_status shards_verify(const char *folder, const struct shard_layout *layout,
                               struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(verify_manifest(folder, layout, error));
    for (size_t shard = 0; shard < layout->shard_count; shard++) {
        uint64_t bytes, expected = shard_bytes(layout, shard);
        TRY(shard_path(path, folder, shard, error));
        enum akin_status status = path_bytes(path, &bytes, error);
        if (status == AKIN_NOT_FOUND)
            return error_set(error, AKIN_NOT_FOUND,
                             "%s: is missing, though _manifest.json counts %zu shards: empty the "
                             "folder to generate the set anew", path, layout->shard_count);
        if (status != AKIN_OK)
            return status;
        if (bytes != expected)
            return error_set(error, AKIN_FORMAT,
                             "%s: %" PRIu64 " bytes, where %" PRIu64 " samples of %zu make "
                             "%" PRIu64 ": %s; empty the folder to generate the set anew",
                             path, bytes, shard_samples(layout, shard), shard_sample_bytes(layout),
                             expected, bytes < expected ? "cut short" : "too long");
    }
    return AKIN_OK;
}

enum akin_status shard_bad_token(const char *folder, const struct shard_layout *layout,
                                 uint64_t sample, size_t at, int64_t value,
                                 struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    size_t length = 2 * layout->seq_len, shard;
    sample += at / length;
    at %= length;
    shard = shard_of_sample(layout, sample);
    TRY(shard_path(path, folder, shard, error));
    return error_set(error, AKIN_FORMAT,
                     "%s: sample %" PRIu64 " of the shard (%" PRIu64 " of the set), %s position "
                     "%zu: token %" PRId64 " is not in [0, %zu): empty the folder to generate "
                     "the set anew",
                     path, sample - shard_first_sample(layout, shard), sample,
                     at < layout->seq_len ? "source" : "target", at % layout->seq_len, value,
                     layout->vocab);
}
