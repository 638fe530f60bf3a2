/* The manifest of a training set, of any bytes: refused with one line that names it, or taken, and
 * then its shards hold its samples exactly, and what we print of it is read as the same. */
#include <stdint.h>
#include <string.h>

#include "base/limits.h"
#include "train/shards.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_sums(const struct shard_layout *layout)
{
    size_t last = layout->shard_count - 1;
    ASSERT(shard_first_sample(layout, 0) == 0);
    ASSERT(shard_first_sample(layout, last) + shard_samples(layout, last) == layout->sample_count);
    ASSERT(shard_of_sample(layout, layout->sample_count - 1) <= last);
    ASSERT(shard_bytes(layout, 0) <= shard_set_bytes(layout));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shard_layout layout = { .seq_len = 12345 }, again;
    struct akin_error error = { 0 };
    struct bytes text = { 0 };
    if (manifest_parse((const char *)data, size, "_manifest.json", &layout, &error) != AKIN_OK) {
        ASSERT(!strncmp(error.message, "_manifest.json", 14) && !strchr(error.message, '\n'));
        ASSERT(layout.seq_len == 12345);
        return 0;
    }
    ASSERT(layout.sample_count && layout.sample_count <= SAMPLES_MAX && layout.shard_count);
    check_sums(&layout);
    manifest_print(&layout, &text);
    ASSERT(manifest_parse(text.data, text.count, "again", &again, &error) == AKIN_OK);
    ASSERT(shard_layouts_equal(&layout, &again));
    bytes_deinit(&text);
    return 0;
}
