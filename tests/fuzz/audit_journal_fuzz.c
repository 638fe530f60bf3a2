/* A journal of any bytes: its header and cursors, its groups one after the other, each once as it
 * is and once with its place and root made right, so that what lies behind them is reached. */
#include <string.h>

#include "audit/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_header(const uint8_t *data, size_t size, struct journal_header *header)
{
    struct cursors cursors = {0};
    struct bytes again = {0};
    struct public_key key = {.name = "fuzz", .type = KEY_LOG};
    ASSERT(header->bytes <= size);
    ASSERT(!journal_header_valid(data, header, &key));
    if (cursors_read(&cursors, header->cursors, header->cursor_bytes)) {
        cursors_append(&cursors, &again);
        ASSERT(!again.failed && again.count == header->cursor_bytes);
        ASSERT(again.count == 0 || !memcmp(again.data, header->cursors, again.count));
    }
    cursors_deinit(&cursors);
    bytes_deinit(&again);
}

static void try_frame(struct frame frame, struct tree_edge *edge)
{
    struct tree_hash *leaves = memory_alloc(frame.count, sizeof *leaves);
    struct tree_edge next = *edge;
    struct public_key key = {.name = "fuzz", .type = KEY_LOG};
    if (!leaves)
        return;
    (void)frame_check(&frame, &next, leaves);
    ASSERT(!frame_signed(&frame, &key));
    frame.first = edge->size;
    next = *edge;
    const char *wrong = frame_check(&frame, &next, leaves);
    if (wrong && next.size == edge->size + frame.count) {
        tree_edge_root(&next, &frame.root);
        next = *edge;
        wrong = frame_check(&frame, &next, leaves);
    }
    if (!wrong) {
        ASSERT(next.size == edge->size + frame.count);
        *edge = next;
    }
    memory_free(leaves);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal_header header;
    struct tree_edge edge = {0};
    struct frame frame;
    size_t at = 0;
    if (!journal_header_read(data, size, &header)) {
        try_header(data, size, &header);
        at = header.bytes;
    }
    while (at < size && !frame_read(data + at, size - at, &frame)) {
        ASSERT(frame.bytes <= size - at && frame.count > 0);
        try_frame(frame, &edge);
        at += frame.bytes;
    }
    return 0;
}
