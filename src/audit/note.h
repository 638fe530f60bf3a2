/* Keys, signed notes and checkpoints as C2SP signed-note, tlog-checkpoint and tlog-cosignature have
 * them: text, an empty line, and lines of signatures. Ed25519 is libsodium's. */
#pragma once

#include "akin/audit.h"
#include "audit/tree.h"
#include "base/memory.h"

enum {
    SIGNATURE_BYTES = 64,
    KEY_LOG = 1,                    /* types of C2SP signed-note */
    KEY_WITNESS = 4,
    NOTE_BYTES_MAX = 1 << 20,
    NOTE_SIGNATURES_MAX = 64,
};

struct public_key {
    char name[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1];
    unsigned char type, id[4], bytes[32];
};

struct signer {
    struct public_key key;
    unsigned char secret[64];
};

/* Not empty, no blanks, no '+', UTF-8, not too long. */
bool origin_valid(const char *origin, size_t bytes);

bool public_key_equal(const struct public_key *a, const struct public_key *b);
/* "name+id+base64", a newline behind it allowed; `where` goes into the error. */
enum akin_status public_key_parse(const char *text, size_t bytes, const char *where,
                                  struct public_key *key, struct akin_error *error);
void public_key_text(const struct public_key *key, char text[AKIN_AUDIT_KEY_TEXT_BYTES]);
/* `key` is the text itself or a file of it. */
enum akin_status public_key_load(const char *key, struct public_key *out,
                                 struct akin_error *error);

/* A new one; without an origin one is made from the key. */
enum akin_status signer_create(const char *origin, struct signer *signer,
                               struct akin_error *error);
/* Of a file that nobody else may read: AKIN_IO otherwise. */
enum akin_status signer_load(const char *path, struct signer *signer, struct akin_error *error);
/* A new file with mode 0600, durable. */
enum akin_status signer_save(const char *path, const struct signer *signer,
                             struct akin_error *error);
void signer_forget(struct signer *signer);

void signer_sign(const struct signer *signer, const void *bytes, size_t count,
                 unsigned char signature[SIGNATURE_BYTES]);
bool signature_valid(const struct public_key *key, const void *bytes, size_t count,
                     const unsigned char signature[SIGNATURE_BYTES]);

/* ---- checkpoints ------------------------------------------------------------------------- */

/* "origin\nsize\nbase64 root\n", what is signed. */
void checkpoint_text(struct bytes *out, const char *origin, uint64_t size,
                     const struct tree_hash *root);
/* The whole note with one signature. */
void checkpoint_note(struct bytes *out, const char *origin, uint64_t size,
                     const struct tree_hash *root, const struct public_key *key,
                     const unsigned char signature[SIGNATURE_BYTES]);

struct note_signature {
    const char *name;               /* view of the note */
    size_t name_bytes;
    unsigned char id[4], bytes[72];
    size_t count;                   /* of bytes: 64, or 72 with the time of a witness before it */
};

struct checkpoint {
    char origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1];
    uint64_t size;
    struct tree_hash root;
    const char *text;               /* view of the note */
    size_t text_bytes;
    struct note_signature signatures[NOTE_SIGNATURES_MAX];
    size_t signature_count;
};

/* Views of `note`, which must outlive it. Refuses every spelling but the one that we would write,
 * so that no byte can change unseen. */
enum akin_status checkpoint_parse(const char *note, size_t bytes, const char *where,
                                  struct checkpoint *checkpoint, struct akin_error *error);
enum akin_status checkpoint_read(const char *path, struct bytes *note,
                                 struct checkpoint *checkpoint, struct akin_error *error);
/* One line "— name base64", its newline not included. */
bool note_signature_parse(const char *line, size_t bytes, struct note_signature *signature);
/* Whether the signature is by `key` (name and id) at all, and then whether it is right. */
bool note_signature_by(const struct note_signature *signature, const struct public_key *key);
bool checkpoint_signed(const struct checkpoint *checkpoint, const struct note_signature *signature,
                       const struct public_key *key);
/* Whether one of its signatures is right by `key`. */
bool checkpoint_has(const struct checkpoint *checkpoint, const struct public_key *key);
