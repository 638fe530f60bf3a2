/* SPDX-License-Identifier: Apache-2.0
 * Audit logs: records that are appended once and proven ever after. A Merkle tree over all of them
 * (RFC 6962) in C2SP tiles, its heads signed with Ed25519 as C2SP checkpoints, so that others check
 * it with code of their own. docs/audit.md tells what is promised, docs/formats.md the bytes. */
#ifndef AKIN_AUDIT_H
#define AKIN_AUDIT_H

#include "akin/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

#define AKIN_AUDIT_RECORD_BYTES_MAX ((size_t)64 << 20)
#define AKIN_AUDIT_SOURCE_BYTES_MAX 255
#define AKIN_AUDIT_CURSOR_BYTES_MAX 4096
#define AKIN_AUDIT_ORIGIN_BYTES_MAX 255
#define AKIN_AUDIT_KEY_TEXT_BYTES 384       /* a verifier key as text, its NUL included */

/* ---- a log that is written ------------------------------------------------------------------ */

/* An open log. Every call on it may come from any thread. */
struct akin_audit;

/* Makes an empty log: `folder` must not exist, or be empty. `origin` is the log's unique name, such
 * as "example.com/log"; NULL makes one from its key. Errors: AKIN_ARGUMENT (not an origin),
 * AKIN_BUSY (the folder holds something), AKIN_IO. */
AKIN_API enum akin_status akin_audit_create(const char *folder, const char *origin,
                                            struct akin_error *error);

/* Opens a log for writing, and puts right what a crash has left: whole records stay, an unfinished
 * one at the end is cut off. One writer over all processes: a second one is AKIN_BUSY. AKIN_FORMAT:
 * not a log, or damaged; AKIN_UNSUPPORTED: of a newer format; AKIN_NOT_FOUND: no secret key;
 * AKIN_IO: a key that others can read, a folder that cannot be written. */
AKIN_API enum akin_status akin_audit_open(const char *folder, struct akin_audit **audit,
                                          struct akin_error *error);
/* Makes durable what was submitted, signs a checkpoint over it, and gives the lock back. What it
 * could not do the next open does; akin_audit_checkpoint before it says whether it worked. No other
 * call may be under way. */
AKIN_API void akin_audit_close(struct akin_audit **audit);

struct akin_audit_info {
    char origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1];
    char public_key[AKIN_AUDIT_KEY_TEXT_BYTES];
    uint64_t records;           /* durable ones */
    uint64_t checkpoint;        /* of them, covered by the newest checkpoint */
    uint64_t recovered;         /* found behind the last checkpoint by akin_audit_open */
    uint64_t cut_bytes;         /* of an unfinished append, which it cut off */
};

AKIN_API void akin_audit_info(struct akin_audit *audit, struct akin_audit_info *info);

struct akin_audit_record {
    const void *data;           /* any bytes, none included */
    size_t bytes;               /* at most AKIN_AUDIT_RECORD_BYTES_MAX */
    int64_t time_us;            /* since 1970; 0: now */
    const char *source;         /* NULL or "": none; who or what the record came from */
    /* NULL or "": none. Where the source has to go on behind this record; needs a source. It is
     * part of the record, so it is durable when the record is, and never before. */
    const char *cursor;
};

/* Appends records in order, one behind the other, and returns when they are durable: they survive a
 * kill and a power loss. Many callers share one wait for the disk. *first (may be NULL): number of
 * the first, from 0. AKIN_ARGUMENT, AKIN_LIMIT: a record that cannot be; nothing is appended.
 * AKIN_IO: the disk refused. Then the records may or may not be there, the log takes no more until
 * it is opened again, and every later call says so. */
AKIN_API enum akin_status akin_audit_append(struct akin_audit *audit,
                                            const struct akin_audit_record *records, size_t count,
                                            uint64_t *first, struct akin_error *error);
/* The same, returning when they are copied and have their place; waits only where much is under way
 * already. *end (may be NULL): the log's records once these are durable, for akin_audit_wait. */
AKIN_API enum akin_status akin_audit_submit(struct akin_audit *audit,
                                            const struct akin_audit_record *records, size_t count,
                                            uint64_t *end, struct akin_error *error);
/* Waits until at least `records` are durable; *durable (may be NULL): how many are. */
AKIN_API enum akin_status akin_audit_wait(struct akin_audit *audit, uint64_t records,
                                          uint64_t *durable, struct akin_error *error);

/* The cursor of the last durable record of `source` that has one, into text[bytes]
 * (AKIN_AUDIT_CURSOR_BYTES_MAX + 1 are enough); "" where there is none. */
AKIN_API enum akin_status akin_audit_cursor(struct akin_audit *audit, const char *source,
                                            char *text, size_t bytes, struct akin_error *error);

/* Makes durable what was submitted, writes the tiles of it and signs a checkpoint; *size (may be
 * NULL): records under it. */
AKIN_API enum akin_status akin_audit_checkpoint(struct akin_audit *audit, uint64_t *size,
                                                struct akin_error *error);

/* A new key signs from now on. A record that the old key has signed names both. */
AKIN_API enum akin_status akin_audit_rotate_key(struct akin_audit *audit, struct akin_error *error);

/* Adds a cosignature of a witness, one line of a signed note, to the log's checkpoint over `size`
 * records. `witness` is its verifier key (C2SP cosignature/v1); a key that the log does not know
 * yet is recorded in it first. AKIN_ARGUMENT: not a cosignature of that checkpoint by that key. */
AKIN_API enum akin_status akin_audit_cosign(struct akin_audit *audit, uint64_t size,
                                            const char *line, const char *witness,
                                            struct akin_error *error);

/* ---- a log that is read: the folder is enough, no key, no lock ------------------------------- */

enum akin_audit_kind {
    AKIN_AUDIT_RECORD,          /* what was appended */
    AKIN_AUDIT_KEY,             /* a new key: old one, new one, signature of the old */
    AKIN_AUDIT_WITNESS,         /* the key of a witness */
};

AKIN_API const char *akin_audit_kind_name(enum akin_audit_kind kind);   /* "record", ... */

struct akin_audit_entry {
    uint64_t index;             /* from 0 */
    enum akin_audit_kind kind;
    int64_t time_us;
    const char *source, *cursor;    /* "" for none */
    const void *data;
    size_t bytes;
};

struct akin_audit_reader;

/* Reads records from number `from` on, those behind the last checkpoint included, without checking
 * them against the tree: akin_audit_verify does. */
AKIN_API enum akin_status akin_audit_reader_open(const char *folder, uint64_t from,
                                                 struct akin_audit_reader **reader,
                                                 struct akin_error *error);
/* *entry is valid until the next call; *more false behind the last one. */
AKIN_API enum akin_status akin_audit_reader_next(struct akin_audit_reader *reader,
                                                 struct akin_audit_entry *entry, bool *more,
                                                 struct akin_error *error);
AKIN_API void akin_audit_reader_close(struct akin_audit_reader **reader);

/* Each may be NULL (0 for the count). Without a public key the folder's own is believed. */
struct akin_audit_verify_options {
    const char *public_key;     /* a verifier key or the name of a file with one */
    const char *since; /* file of a checkpoint kept from earlier; the log must grow from it */
    const char *const *witnesses;   /* keys of witnesses, each of whom must have cosigned */
    size_t witness_count;
    struct akin_progress progress;
};

struct akin_audit_verdict {
    char origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1];
    char public_key[AKIN_AUDIT_KEY_TEXT_BYTES];     /* the one that signs now */
    char root[48];              /* base64, of the newest checkpoint */
    uint64_t checkpoint;        /* records under it */
    uint64_t records;           /* of the journal as well */
    uint64_t checkpoints, keys; /* so many of them, all checked */
    uint64_t since;             /* records under options.since; 0: none was given */
    uint64_t witnessed; /* records under the newest checkpoint that all witnesses cosigned */
    bool writer;                /* somebody writes: what is behind the checkpoint was not judged */
};

/* Checks every byte of every file of the folder, each record against the tree, each tree head and
 * checkpoint against its key. AKIN_FORMAT: changed, removed, inserted or reordered, and the error
 * names the first record or file that is not as it was. *verdict is filled on success. */
AKIN_API enum akin_status akin_audit_verify(const char *folder,
                                            const struct akin_audit_verify_options *options,
                                            struct akin_audit_verdict *verdict,
                                            struct akin_error *error);

/* Writes the proof that record `index` is in the newest checkpoint to a JSON file ("-": standard
 * output). AKIN_NOT_FOUND: there is no such record under it. */
AKIN_API enum akin_status akin_audit_prove(const char *folder, uint64_t index, const char *output,
                                           struct akin_error *error);
/* The proof that the newest checkpoint continues the one in file `since`. */
AKIN_API enum akin_status akin_audit_prove_consistency(const char *folder, const char *since,
                                                       const char *output,
                                                       struct akin_error *error);

struct akin_audit_proof {
    char origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1];
    bool consistency;           /* of two checkpoints; else of a record in one */
    uint64_t index, size;       /* the record, or the size of the earlier one; the size proven in */
};

/* Checks such a file with the public key alone. `record` (may be NULL): a file that must hold the
 * bytes of the record. AKIN_FORMAT: it proves nothing, and why. */
AKIN_API enum akin_status akin_audit_verify_proof(const char *path, const char *public_key,
                                                  const char *record,
                                                  struct akin_audit_proof *proof,
                                                  struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
