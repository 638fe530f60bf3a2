/* An index file of any bytes: accepted or refused, and what is accepted can be read to its last
 * byte. Once as it is, and once with the size and checksum of the header made right, so that what
 * lies behind them is reached. */
#include <stdint.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "index/index_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_file(const unsigned char *data, size_t size)
{
    struct index_view view;
    struct akin_error error;
    if (index_view_init(&view, "fuzz.akx", data, size, &error) != AKIN_OK)
        return;
    double sum = 0;
    for (uint64_t i = 0; i < view.header->count * view.header->dimension; i++)
        sum += (double)view.rows[i];
    for (uint64_t i = 0; view.ids && i < view.header->count; i++)
        sum += (double)view.ids[i];
    enum akin_status status = index_view_check(&view, &error);
    ASSERT(status == AKIN_OK || error.message[0] || sum > 0);
}

static void mend(unsigned char *data, size_t size)
{
    struct index_header header;
    if (size < sizeof header)
        return;
    memcpy(&header, data, sizeof header);
    memcpy(header.magic, index_magic, sizeof index_magic);
    header.version = INDEX_VERSION;
    header.file_bytes = size;
    memcpy(data, &header, sizeof header);
    if (header.header_bytes < sizeof header + 8 || header.header_bytes > size)
        return;
    uint64_t checksum = hash_bytes(data, header.header_bytes - 8);
    memcpy(data + header.header_bytes - 8, &checksum, sizeof checksum);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *copy = memory_alloc_aligned(size, 1);
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    try_file(copy, size);
    mend(copy, size);
    try_file(copy, size);
    memory_free(copy);
    return 0;
}
