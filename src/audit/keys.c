/* Keys of notes: "name+id+base64" and "PRIVATE+KEY+name+id+base64", as Go's sumdb/note has them. */
#include <fcntl.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/note.h"
#include "base/base64.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/utf8.h"

static const char secret_mark[] = "PRIVATE+KEY+";
enum { KEY_FILE_BYTES_MAX = 4096 };

bool origin_valid(const char *origin, size_t bytes)
{
    if (bytes == 0 || bytes > AKIN_AUDIT_ORIGIN_BYTES_MAX || !utf8_valid(origin, bytes))
        return false;
    for (size_t at = 0; at < bytes;) {
        uint32_t code;
        at += utf8_decode(origin + at, bytes - at, &code);
        if (code <= ' ' || code == '+' || (code >= 0x7f && code <= 0xa0) || code == 0x1680 ||
            (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 ||
            code == 0x202f || code == 0x205f || code == 0x3000)
            return false;
    }
    return true;
}

static void set_id(struct public_key *key)
{
    struct sha256 sha;
    unsigned char digest[32];
    sha256_begin(&sha);
    sha256_add(&sha, key->name, strlen(key->name));
    sha256_add(&sha, "\n", 1);
    sha256_add(&sha, &key->type, 1);
    sha256_add(&sha, key->bytes, sizeof key->bytes);
    sha256_end_bytes(&sha, digest);
    memcpy(key->id, digest, sizeof key->id);
}

bool public_key_equal(const struct public_key *a, const struct public_key *b)
{
    return a->type == b->type && strcmp(a->name, b->name) == 0 &&
           memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* "name+id+base64" of type and 32 bytes; the id is the caller's to check. */
static bool parse(const char *text, size_t bytes, struct public_key *key)
{
    unsigned char blob[1 + 32];
    const char *plus = memchr(text, '+', bytes);
    size_t name = plus ? (size_t)(plus - text) : 0, got = 0;
    if (!plus || !origin_valid(text, name) || bytes - name < 1 + 8 + 1 || text[name + 9] != '+')
        return false;
    for (const char *digit = plus + 1; digit < plus + 9; digit++)
        if (!strchr("0123456789abcdef", *digit))
            return false;
    *key = (struct public_key){0};
    memcpy(key->name, text, name);
    if (sodium_hex2bin(key->id, sizeof key->id, plus + 1, 8, NULL, &got, NULL) || got != 4)
        return false;
    if (!base64_read(plus + 10, bytes - name - 10, blob, sizeof blob))
        return false;
    key->type = blob[0];
    memcpy(key->bytes, blob + 1, sizeof key->bytes);
    return key->type == KEY_LOG || key->type == KEY_WITNESS;
}

enum akin_status public_key_parse(const char *text, size_t bytes, const char *where,
                                  struct public_key *key, struct akin_error *error)
{
    struct public_key read, again;
    if (bytes && text[bytes - 1] == '\n')
        bytes--;
    bool good = parse(text, bytes, &read);
    if (good) {
        again = read;
        set_id(&again);
        good = memcmp(again.id, read.id, sizeof read.id) == 0;
    }
    if (!good)
        return error_set(error, AKIN_FORMAT,
                         "%s: not a public key: expected NAME+ID+BASE64 in one line, as in key.pub",
                         where);
    *key = read;
    return AKIN_OK;
}

static void key_text(const struct public_key *key, const char *mark, const unsigned char *secret,
                     struct bytes *out)
{
    unsigned char blob[33];
    char id[9];
    blob[0] = key->type;
    memcpy(blob + 1, secret, 32);
    sodium_bin2hex(id, sizeof id, key->id, sizeof key->id);
    bytes_printf(out, "%s%s+%s+", mark, key->name, id);
    base64_append(out, blob, sizeof blob);
    sodium_memzero(blob, sizeof blob);
}

void public_key_text(const struct public_key *key, char text[AKIN_AUDIT_KEY_TEXT_BYTES])
{
    struct bytes out = {0};
    key_text(key, "", key->bytes, &out);
    snprintf(text, AKIN_AUDIT_KEY_TEXT_BYTES, "%s", out.failed ? "" : out.data);
    bytes_deinit(&out);
}

enum akin_status public_key_load(const char *key, struct public_key *out,
                                 struct akin_error *error)
{
    if (!path_exists(key) && strchr(key, '+'))
        return public_key_parse(key, strlen(key), "public key", out, error);
    struct bytes text = {0};
    enum akin_status status = file_read(key, KEY_FILE_BYTES_MAX, &text, error);
    if (status == AKIN_OK)
        status = public_key_parse(text.data, text.count, key, out, error);
    bytes_deinit(&text);
    return status;
}

/* ---- secret ones ------------------------------------------------------------------------- */

enum akin_status signer_create(const char *origin, struct signer *signer,
                               struct akin_error *error)
{
    struct signer made = {.key.type = KEY_LOG};
    if (sodium_init() < 0)
        return error_set(error, AKIN_UNSUPPORTED, "libsodium cannot be initialised");
    crypto_sign_ed25519_keypair(made.key.bytes, made.secret);
    char id[17];
    sodium_bin2hex(id, sizeof id, made.key.bytes, 8);
    if (origin)
        snprintf(made.key.name, sizeof made.key.name, "%s", origin);
    else
        snprintf(made.key.name, sizeof made.key.name, "akin-audit/%s", id);
    set_id(&made.key);
    *signer = made;
    signer_forget(&made);
    return AKIN_OK;
}

void signer_forget(struct signer *signer)
{
    sodium_memzero(signer, sizeof *signer);
}

static enum akin_status parse_signer(const char *path, const struct bytes *text,
                                     struct signer *signer, struct akin_error *error)
{
    size_t mark = sizeof secret_mark - 1, bytes = text->count;
    struct signer read = {0};
    unsigned char seed[32];
    bool good = false;
    if (bytes && text->data[bytes - 1] == '\n')
        bytes--;
    if (bytes > mark && memcmp(text->data, secret_mark, mark) == 0 &&
        parse(text->data + mark, bytes - mark, &read.key) && read.key.type == KEY_LOG) {
        unsigned char id[4];
        memcpy(seed, read.key.bytes, sizeof seed);
        memcpy(id, read.key.id, sizeof id);
        crypto_sign_ed25519_seed_keypair(read.key.bytes, read.secret, seed);
        set_id(&read.key);
        good = memcmp(id, read.key.id, sizeof id) == 0;
    }
    if (good)
        *signer = read;
    sodium_memzero(seed, sizeof seed);
    signer_forget(&read);
    return good ? AKIN_OK
                : error_set(error, AKIN_FORMAT,
                            "%s: not a secret key: bring back the file that 'akin audit init' made",
                            path);
}

enum akin_status signer_load(const char *path, struct signer *signer, struct akin_error *error)
{
    struct stat info;
    if (sodium_init() < 0)
        return error_set(error, AKIN_UNSUPPORTED, "libsodium cannot be initialised");
    if (stat(path, &info)) {
        if (errno == ENOENT)
            return error_set(error, AKIN_NOT_FOUND,
                             "%s: the secret key is missing; without it the log can be read and "
                             "verified, but not written: bring the file back", path);
        return error_system(error, "%s", path);
    }
    if (info.st_mode & 077)
        return error_set(error, AKIN_IO,
                         "%s: others can read the secret key: chmod 600 it, or, if somebody may "
                         "have, rotate the key after that", path);
    struct bytes text = {0};
    enum akin_status status = file_read(path, KEY_FILE_BYTES_MAX, &text, error);
    if (status == AKIN_OK)
        status = parse_signer(path, &text, signer, error);
    if (text.data)
        sodium_memzero(text.data, text.count);
    bytes_deinit(&text);
    return status;
}

static bool write_all(int fd, const char *bytes, size_t count)
{
    while (count) {
        ssize_t written = write(fd, bytes, count);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes += written;
        count -= (size_t)written;
    }
    return TEMP_FAILURE_RETRY(fsync(fd)) == 0;
}

enum akin_status signer_save(const char *path, const struct signer *signer,
                             struct akin_error *error)
{
    unsigned char seed[32];
    struct bytes text = {0};
    crypto_sign_ed25519_sk_to_seed(seed, signer->secret);
    key_text(&signer->key, secret_mark, seed, &text);
    bytes_append_text(&text, "\n");
    sodium_memzero(seed, sizeof seed);
    enum akin_status status = AKIN_OK;
    int fd = TEMP_FAILURE_RETRY(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (text.failed)
        status = error_memory(error);
    else if (fd < 0 || !write_all(fd, text.data, text.count))
        status = error_system(error, "%s: the secret key cannot be written", path);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && status != AKIN_OK)
        unlink(path);
    if (text.data)
        sodium_memzero(text.data, text.count);
    bytes_deinit(&text);
    return status == AKIN_OK ? path_sync_folder(path, error) : status;
}

void signer_sign(const struct signer *signer, const void *bytes, size_t count,
                 unsigned char signature[SIGNATURE_BYTES])
{
    crypto_sign_ed25519_detached(signature, NULL, bytes, count, signer->secret);
}

bool signature_valid(const struct public_key *key, const void *bytes, size_t count,
                     const unsigned char signature[SIGNATURE_BYTES])
{
    return crypto_sign_ed25519_verify_detached(signature, bytes, count, key->bytes) == 0;
}
