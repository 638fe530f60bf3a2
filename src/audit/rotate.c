/* A new key, and the cosignatures of witnesses.
 *
 * A change of keys in four steps, each of which a crash may come behind: the new key lies beside
 * the old one as key.next; a record that the old key has signed names it; it takes the old one's
 * place; it signs a checkpoint. Opening the log drops a new key that no record names, and otherwise
 * goes on where the crash came. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "audit/audit_log.h"
#include "audit/rotation.h"
#include "base/clock.h"

/* ---- keys -------------------------------------------------------------------------------- */

enum akin_status log_take_key(struct akin_audit *audit, const struct signer *signer,
                              struct akin_error *error)
{
    char next[PATH_BYTES_MAX], key[PATH_BYTES_MAX], public[PATH_BYTES_MAX];
    char text[AKIN_AUDIT_KEY_TEXT_BYTES + 1];
    TRY(log_path(next, audit->folder, "key.next", error));
    TRY(log_path(key, audit->folder, "key", error));
    TRY(log_path(public, audit->folder, "key.pub", error));
    if (path_exists(next))
        TRY(path_rename(next, key, error));
    TRY(path_sync_folder(key, error));
    public_key_text(&signer->key, text);
    size_t length = strlen(text);
    text[length] = '\n';
    TRY(file_write(public, text, length + 1, error));
    mutex_lock(audit->lock);
    audit->signer = *signer;
    mutex_unlock(audit->lock);
    return AKIN_OK;
}

static enum akin_status append_change(struct akin_audit *audit, const struct public_key *new,
                                      struct akin_error *error)
{
    struct bytes text = {0};
    rotation_append(&text, &audit->signer, new, audit->growth.edge.size);
    struct entry entry = {
        .kind = AKIN_AUDIT_KEY,
        .time_us = clock_unix_us(),
        .source = "",
        .cursor = "",
        .data = (unsigned char *)text.data,
        .bytes = text.count,
    };
    enum akin_status status = text.failed ? error_memory(error)
                                          : log_append_entry(audit, &entry, error);
    bytes_deinit(&text);
    return status;
}

static enum akin_status run_rotate(struct akin_audit *audit, void *context,
                                   struct akin_error *error)
{
    struct signer *signer = context;
    char next[PATH_BYTES_MAX];
    TRY(log_path(next, audit->folder, "key.next", error));
    TRY(log_integrate(audit, error));   /* the old key signs all that came under it */
    TRY(signer_save(next, signer, error));
    TRY(append_change(audit, &signer->key, error));
    TRY(log_take_key(audit, signer, error));
    return log_integrate(audit, error);
}

enum akin_status akin_audit_rotate_key(struct akin_audit *audit, struct akin_error *error)
{
    struct signer signer;
    struct akin_audit_info info;
    akin_audit_info(audit, &info);
    enum akin_status status = signer_create(info.origin, &signer, error);
    if (status == AKIN_OK)
        status = log_request(audit, run_rotate, &signer, error);
    signer_forget(&signer);
    return status;
}

/* ---- witnesses --------------------------------------------------------------------------- */

struct cosigning {
    uint64_t size;
    const char *line;
    struct public_key witness;
};

static enum akin_status know_witness(struct akin_audit *audit, const struct public_key *witness,
                                     struct akin_error *error)
{
    char text[AKIN_AUDIT_KEY_TEXT_BYTES];
    public_key_text(witness, text);
    struct entry entry = {
        .kind = AKIN_AUDIT_WITNESS,
        .time_us = clock_unix_us(),
        .source = "",
        .cursor = "",
        .data = (const unsigned char *)text,
        .bytes = strlen(text),
    };
    return log_append_entry(audit, &entry, error);
}

/* Whether a record of the log names the witness. Reads all of it: witnesses are few, and come
 * seldom. */
static enum akin_status find_witness(struct akin_audit *audit, const struct public_key *witness,
                                     bool *known, struct akin_error *error)
{
    struct akin_audit_reader *reader = NULL;
    char text[AKIN_AUDIT_KEY_TEXT_BYTES];
    enum akin_status status = AKIN_OK;
    public_key_text(witness, text);
    *known = false;
    TRY(akin_audit_reader_open(audit->folder, 0, &reader, error));
    for (bool more = true; !*known;) {
        struct akin_audit_entry entry;
        TRY_DONE(akin_audit_reader_next(reader, &entry, &more, error));
        if (!more)
            break;
        *known = entry.kind == AKIN_AUDIT_WITNESS && entry.bytes == strlen(text) &&
                 memcmp(entry.data, text, entry.bytes) == 0;
    }
done:
    akin_audit_reader_close(&reader);
    return status;
}

/* The note with the line behind it, in the history and, if it is the newest, in front. */
static enum akin_status write_cosigned(struct akin_audit *audit, struct bytes *note,
                                       const char *line, const char *path,
                                       struct akin_error *error)
{
    char newest[PATH_BYTES_MAX];
    struct bytes current = {0};
    enum akin_status status = AKIN_OK;
    TRY_DONE(log_path(newest, audit->folder, "checkpoint", error));
    TRY_DONE(file_read(newest, NOTE_BYTES_MAX, &current, error));
    bool same = current.count == note->count && !memcmp(current.data, note->data, note->count);
    bytes_append_text(note, line);
    bytes_append_text(note, "\n");
    if (note->failed)
        TRY_DONE(error_memory(error));
    TRY_DONE(file_write(path, note->data, note->count, error));
    if (same)
        status = file_write(newest, note->data, note->count, error);
done:
    bytes_deinit(&current);
    return status;
}

static enum akin_status run_cosign(struct akin_audit *audit, void *context,
                                   struct akin_error *error)
{
    const struct cosigning *c = context;
    char name[TILE_PATH_BYTES], path[PATH_BYTES_MAX];
    struct bytes note = {0};
    struct checkpoint checkpoint;
    struct note_signature signature;
    bool known = false;
    enum akin_status status = AKIN_OK;
    history_path(name, c->size);
    TRY_DONE(log_path(path, audit->folder, name, error));
    if (!path_exists(path))
        TRY_DONE(error_set(error, AKIN_ARGUMENT, "%s: the log has no checkpoint over so many "
                           "records", path));
    TRY_DONE(checkpoint_read(path, &note, &checkpoint, error));
    if (!note_signature_parse(c->line, strlen(c->line), &signature) ||
        c->witness.type != KEY_WITNESS || !checkpoint_signed(&checkpoint, &signature, &c->witness))
        TRY_DONE(error_set(error, AKIN_ARGUMENT,
                           "%s: the line is not a cosignature of it by the witness %s", path,
                           c->witness.name));
    if (checkpoint_has(&checkpoint, &c->witness))
        goto done;                          /* told twice */
    if (checkpoint.signature_count == NOTE_SIGNATURES_MAX)
        TRY_DONE(error_set(error, AKIN_LIMIT, "%s: has %d signatures already", path,
                           NOTE_SIGNATURES_MAX));
    TRY_DONE(find_witness(audit, &c->witness, &known, error));
    if (!known)
        TRY_DONE(know_witness(audit, &c->witness, error));
    status = write_cosigned(audit, &note, c->line, path, error);
done:
    bytes_deinit(&note);
    return status;
}

enum akin_status akin_audit_cosign(struct akin_audit *audit, uint64_t size, const char *line,
                                   const char *witness, struct akin_error *error)
{
    struct cosigning cosigning = {.size = size, .line = line};
    TRY(public_key_load(witness, &cosigning.witness, error));
    return log_request(audit, run_cosign, &cosigning, error);
}
