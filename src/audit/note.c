/* Signed notes and checkpoints: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint,
 * https://c2sp.org/tlog-cosignature. Reading is stricter than they ask: a note that would be
 * spelled otherwise if we wrote it is refused. */
#include "audit/note.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/csv.h"
#include "base/file.h"

/* An em dash and a blank. */
static const char signature_mark[] = "\xe2\x80\x94 ";
enum { MARK_BYTES = sizeof signature_mark - 1, WITNESS_TIME_BYTES = 8 };

bool checkpoint_has(const struct checkpoint *checkpoint, const struct public_key *key)
{
    for (size_t i = 0; i < checkpoint->signature_count; i++)
        if (checkpoint_signed(checkpoint, &checkpoint->signatures[i], key))
            return true;
    return false;
}

void checkpoint_text(struct bytes *out, const char *origin, uint64_t size,
                     const struct tree_hash *root)
{
    bytes_printf(out, "%s\n%" PRIu64 "\n", origin, size);
    base64_append(out, root->bytes, sizeof root->bytes);
    bytes_append_text(out, "\n");
}

void checkpoint_note(struct bytes *out, const char *origin, uint64_t size,
                     const struct tree_hash *root, const struct public_key *key,
                     const unsigned char signature[SIGNATURE_BYTES])
{
    unsigned char blob[4 + SIGNATURE_BYTES];
    memcpy(blob, key->id, 4);
    memcpy(blob + 4, signature, SIGNATURE_BYTES);
    checkpoint_text(out, origin, size, root);
    bytes_printf(out, "\n%s%s ", signature_mark, key->name);
    base64_append(out, blob, sizeof blob);
    bytes_append_text(out, "\n");
}

/* ---- reading ----------------------------------------------------------------------------- */

bool note_signature_parse(const char *line, size_t bytes, struct note_signature *signature)
{
    if (bytes <= MARK_BYTES || memcmp(line, signature_mark, MARK_BYTES) != 0)
        return false;
    const char *name = line + MARK_BYTES, *end = line + bytes;
    const char *blank = memchr(name, ' ', (size_t)(end - name));
    if (!blank || !origin_valid(name, (size_t)(blank - name)))
        return false;
    *signature = (struct note_signature){.name = name, .name_bytes = (size_t)(blank - name)};
    unsigned char blob[4 + WITNESS_TIME_BYTES + SIGNATURE_BYTES];
    size_t digits = (size_t)(end - blank - 1);
    for (size_t extra = 0; extra <= WITNESS_TIME_BYTES; extra += WITNESS_TIME_BYTES) {
        size_t count = extra + SIGNATURE_BYTES;
        if (!base64_read(blank + 1, digits, blob, 4 + count))
            continue;
        memcpy(signature->id, blob, 4);
        memcpy(signature->bytes, blob + 4, count);
        signature->count = count;
        return true;
    }
    return false;
}

/* The next line of text[bytes] from *at, without its newline; false when there is none. */
static bool next_line(const char *text, size_t bytes, size_t *at, const char **line, size_t *count)
{
    const char *newline = *at < bytes ? memchr(text + *at, '\n', bytes - *at) : NULL;
    if (!newline)
        return false;
    *line = text + *at;
    *count = (size_t)(newline - *line);
    *at += *count + 1;
    return true;
}

static enum akin_status bad_note(struct akin_error *error, const char *where, const char *what)
{
    return error_set(error, AKIN_FORMAT, "%s: not a checkpoint: %s", where, what);
}

static enum akin_status read_text(const char *note, size_t bytes, const char *where, size_t *at,
                                  struct checkpoint *c, struct akin_error *error)
{
    const char *line;
    size_t count;
    char size[24];
    if (!next_line(note, bytes, at, &line, &count) || !origin_valid(line, count))
        return bad_note(error, where, "line 1 is no origin");
    memcpy(c->origin, line, count);
    c->origin[count] = 0;
    if (!next_line(note, bytes, at, &line, &count) || !parse_uint64(line, count, &c->size))
        return bad_note(error, where, "line 2 is no number of records");
    snprintf(size, sizeof size, "%" PRIu64, c->size);
    if (strlen(size) != count || memcmp(size, line, count) != 0)
        return bad_note(error, where, "line 2 is no number of records");
    if (!next_line(note, bytes, at, &line, &count) ||
        !base64_read(line, count, c->root.bytes, sizeof c->root.bytes))
        return bad_note(error, where, "line 3 is no root hash");
    c->text = note;
    c->text_bytes = *at;
    if (!next_line(note, bytes, at, &line, &count) || count)
        return bad_note(error, where, "line 4 is not empty");
    return AKIN_OK;
}

enum akin_status checkpoint_parse(const char *note, size_t bytes, const char *where,
                                  struct checkpoint *checkpoint, struct akin_error *error)
{
    struct checkpoint c = {0};
    const char *line;
    size_t count, at = 0;
    TRY(read_text(note, bytes, where, &at, &c, error));
    while (next_line(note, bytes, &at, &line, &count)) {
        if (c.signature_count == NOTE_SIGNATURES_MAX)
            return bad_note(error, where, "it has more than 64 signatures");
        if (!note_signature_parse(line, count, &c.signatures[c.signature_count++]))
            return bad_note(error, where, "a line below the text is no signature");
    }
    if (at != bytes)
        return bad_note(error, where, "it ends inside a line");
    if (c.signature_count == 0)
        return bad_note(error, where, "it has no signature");
    *checkpoint = c;
    return AKIN_OK;
}

enum akin_status checkpoint_read(const char *path, struct bytes *note,
                                 struct checkpoint *checkpoint, struct akin_error *error)
{
    bytes_clear(note);
    TRY(file_read(path, NOTE_BYTES_MAX, note, error));
    return checkpoint_parse(note->data, note->count, path, checkpoint, error);
}

bool note_signature_by(const struct note_signature *signature, const struct public_key *key)
{
    return strlen(key->name) == signature->name_bytes &&
           memcmp(key->name, signature->name, signature->name_bytes) == 0 &&
           memcmp(key->id, signature->id, 4) == 0;
}

/* A witness signs "cosignature/v1\ntime N\n" before the text. */
bool checkpoint_signed(const struct checkpoint *c, const struct note_signature *signature,
                       const struct public_key *key)
{
    if (!note_signature_by(signature, key))
        return false;
    if (key->type == KEY_LOG)
        return signature->count == SIGNATURE_BYTES &&
               signature_valid(key, c->text, c->text_bytes, signature->bytes);
    uint64_t when = 0;
    for (size_t i = 0; i < WITNESS_TIME_BYTES; i++)
        when = when << 8 | signature->bytes[i];
    struct bytes message = {0};
    bytes_printf(&message, "cosignature/v1\ntime %" PRIu64 "\n", when);
    bytes_append(&message, c->text, c->text_bytes);
    bool valid = !message.failed && signature->count == WITNESS_TIME_BYTES + SIGNATURE_BYTES &&
                 signature_valid(key, message.data, message.count,
                                 signature->bytes + WITNESS_TIME_BYTES);
    bytes_deinit(&message);
    return valid;
}
