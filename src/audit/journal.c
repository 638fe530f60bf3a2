/* Frames of the journal to bytes and back. */
#include "audit/journal.h"

#include <string.h>

static const char journal_mark[] = "akin audit journal 1\n";
static const char frame_mark[4] = {'A', 'K', 'A', 'J'};
enum { MARK_BYTES = sizeof journal_mark - 1 };

/* The origin goes into what is signed, as it does for tree heads. */
static void header_message(struct bytes *out, const char *origin, const unsigned char *data,
                           size_t bytes)
{
    bytes_printf(out, "%s\n", origin);
    bytes_append(out, data, bytes);
}

void history_add(struct tree_hash *history, uint64_t size)
{
    unsigned char number[8];
    struct sha256 sha;
    put_u64(number, size);
    sha256_begin(&sha);
    sha256_add(&sha, history, sizeof *history);
    sha256_add(&sha, number, sizeof number);
    sha256_end_bytes(&sha, history->bytes);
}

void journal_header(struct bytes *out, const struct signer *signer, uint64_t base,
                    const struct tree_hash *history, const struct cursors *cursors)
{
    struct bytes list = {0}, message = {0};
    unsigned char signature[SIGNATURE_BYTES];
    size_t begin = out->count;
    cursors_append(cursors, &list);
    bytes_append(out, journal_mark, MARK_BYTES);
    append_u64(out, base);
    bytes_append(out, history, sizeof *history);
    append_u32(out, (uint32_t)list.count);
    bytes_append(out, list.data, list.count);
    if (!out->failed)
        header_message(&message, signer->key.name, (unsigned char *)out->data + begin,
                       out->count - begin);
    if (!message.failed && message.count) {
        signer_sign(signer, message.data, message.count, signature);
        bytes_append(out, signature, sizeof signature);
    }
    out->failed = out->failed || list.failed || message.failed;
    bytes_deinit(&list);
    bytes_deinit(&message);
}

const char *journal_header_read(const unsigned char *data, size_t bytes,
                                struct journal_header *header)
{
    size_t fixed = MARK_BYTES + 8 + TREE_HASH_BYTES + 4;
    if (bytes < fixed + SIGNATURE_BYTES || memcmp(data, journal_mark, MARK_BYTES))
        return "the header is not one of a journal";
    header->base = get_u64(data + MARK_BYTES);
    memcpy(&header->history, data + MARK_BYTES + 8, sizeof header->history);
    header->cursor_bytes = get_u32(data + fixed - 4);
    header->cursors = data + fixed;
    if (bytes - fixed - SIGNATURE_BYTES < header->cursor_bytes)
        return "it ends inside its header";
    header->bytes = fixed + header->cursor_bytes + SIGNATURE_BYTES;
    return NULL;
}

bool journal_header_valid(const unsigned char *data, const struct journal_header *header,
                          const struct public_key *key)
{
    struct bytes message = {0};
    size_t bytes = header->bytes - SIGNATURE_BYTES;
    header_message(&message, key->name, data, bytes);
    bool valid = !message.failed &&
                 signature_valid(key, message.data, message.count, data + bytes);
    bytes_deinit(&message);
    return valid;
}

void frame_head(unsigned char head[FRAME_HEAD_BYTES], uint64_t first, uint32_t count,
                uint32_t body_bytes)
{
    memcpy(head, frame_mark, 4);
    put_u32(head + 4, count);
    put_u64(head + 8, first);
    put_u32(head + 16, body_bytes);
}

const char *frame_read(const unsigned char *data, size_t bytes, struct frame *frame)
{
    if (bytes < FRAME_HEAD_BYTES + FRAME_TAIL_BYTES)
        return "it ends inside a group of records";
    if (memcmp(data, frame_mark, 4))
        return "no group of records begins where one should";
    struct frame read = {.count = get_u32(data + 4),
                         .first = get_u64(data + 8),
                         .body = data + FRAME_HEAD_BYTES,
                         .body_bytes = get_u32(data + 16)};
    if (bytes - FRAME_HEAD_BYTES - FRAME_TAIL_BYTES < read.body_bytes)
        return "it ends inside a group of records";
    if (read.count == 0 || read.count > read.body_bytes)
        return "a group of records has no such count";
    memcpy(&read.root, read.body + read.body_bytes, sizeof read.root);
    read.signature = read.body + read.body_bytes + TREE_HASH_BYTES;
    read.bytes = FRAME_HEAD_BYTES + read.body_bytes + FRAME_TAIL_BYTES;
    *frame = read;
    return NULL;
}

const char *frame_check(const struct frame *frame, struct tree_edge *edge,
                        struct tree_hash *leaves)
{
    struct tree_hash root;
    size_t at = 0;
    if (frame->first != edge->size)
        return "the group of records that should follow is missing";
    for (uint32_t i = 0; i < frame->count; i++) {
        struct entry entry;
        const unsigned char *begin;
        size_t bytes;
        const char *wrong =
            entry_next(frame->body, frame->body_bytes, &at, &entry, &begin, &bytes);
        if (wrong)
            return wrong;
        tree_leaf(begin, bytes, &leaves[i]);
        tree_edge_add(edge, &leaves[i], NULL, NULL);
    }
    tree_edge_root(edge, &root);
    if (at != frame->body_bytes || !tree_hash_equal(&root, &frame->root))
        return "a group of records is not what its tree head says";
    return NULL;
}

bool frame_signed(const struct frame *frame, const struct public_key *key)
{
    struct bytes text = {0};
    checkpoint_text(&text, key->name, frame->first + frame->count, &frame->root);
    bool valid = !text.failed && signature_valid(key, text.data, text.count, frame->signature);
    bytes_deinit(&text);
    return valid;
}
