/* The journal: what was appended since the last checkpoint, in frames. A frame is a group of
 * entries that became durable together, and the signed tree head over all records up to its end: so
 * every acknowledged group is under a signature, and a frame that is torn is told from a whole one.
 *
 *   header  "akin audit journal 1\n", base u64, history 32, cursor bytes u32, cursors, signature
 *   frame   "AKAJ", count u32, first u64, body bytes u32, body, root 32, signature 64 */
#pragma once

#include "audit/cursors.h"
#include "audit/note.h"

enum {
    FRAME_HEAD_BYTES = 20,
    FRAME_TAIL_BYTES = TREE_HASH_BYTES + SIGNATURE_BYTES,
};

/* The sizes of all checkpoints in one hash, so that none can be removed from the history unseen:
 * SHA-256 of the hash so far (zeros at first) and the size. */
void history_add(struct tree_hash *history, uint64_t size);

/* A header for records from `base` on, signed. */
void journal_header(struct bytes *out, const struct signer *signer, uint64_t base,
                    const struct tree_hash *history, const struct cursors *cursors);

struct journal_header {
    uint64_t base;
    struct tree_hash history;
    const unsigned char *cursors;   /* for cursors_read */
    size_t cursor_bytes;
    size_t bytes;                   /* of the header */
};

/* NULL: fine; else what is wrong. The signature is judged by journal_header_valid. */
const char *journal_header_read(const unsigned char *data, size_t bytes,
                                struct journal_header *header);
bool journal_header_valid(const unsigned char *data, const struct journal_header *header,
                          const struct public_key *key);

void frame_head(unsigned char head[FRAME_HEAD_BYTES], uint64_t first, uint32_t count,
                uint32_t body_bytes);

struct frame {
    uint64_t first;
    uint32_t count;
    const unsigned char *body;
    size_t body_bytes;
    struct tree_hash root;
    const unsigned char *signature;
    size_t bytes;                   /* of the frame */
};

/* The frame at data[bytes]; NULL: fine, as far as its outline goes. */
const char *frame_read(const unsigned char *data, size_t bytes, struct frame *frame);
/* Hashes the entries of a frame into leaves[frame->count], and adds them to `edge`. NULL when it is
 * what its root says. */
const char *frame_check(const struct frame *frame, struct tree_edge *edge,
                        struct tree_hash *leaves);
bool frame_signed(const struct frame *frame, const struct public_key *key);
