/* Which files of a hub's model are wanted, and whether one is what was listed. */
#include "model/listing.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "model/checksums.h"

enum { SHA1_HEX = 40, SHA256_HEX = 64 };
#define DOCUMENT_BYTES_MAX ((uint64_t)4 << 20)      /* README.md, LICENSE */
#define FILE_BYTES_MAX ((uint64_t)1 << 40)

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcmp(text + length - tail, end);
}

/* Weights in one file, configuration, tokenizer; not the same weights in other frameworks' forms.
 */
static bool is_wanted(const char *path, uint64_t bytes)
{
    static const char *const names[] = {"model.safetensors",         "vocab.txt",
                                        "special_tokens_map.json",   "modules.json",
                                        "sentence_bert_config.json", "1_Pooling/config.json"};
    if (strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-") !=
        strlen(path))
        return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(path, names[i]))
            return true;
    if (!strcmp(path, "README.md") || !strcmp(path, "LICENSE"))
        return bytes <= DOCUMENT_BYTES_MAX;
    bool top = !strchr(path, '/');
    return top && ends_with(path, ".json") &&
           (!strncmp(path, "config", 6) || !strncmp(path, "tokenizer", 9));
}

static bool is_oid(const char *text, size_t hex_count)
{
    return text && strlen(text) == hex_count && strspn(text, "0123456789abcdef") == hex_count;
}

static enum akin_status add_file(const json_t *entry, const char *path, const char *where,
                                 struct listing *listing, struct akin_error *error)
{
    int64_t bytes = -1;
    TRY(json_get_integer(entry, "size", where, &bytes, error));
    const char *oid = json_string_value(json_object_get(entry, "oid"));
    size_t hex_count = SHA1_HEX;
    const json_t *large = json_object_get(entry, "lfs");
    if (json_is_object(large)) {
        oid = json_string_value(json_object_get(large, "oid"));
        hex_count = SHA256_HEX;
        TRY(json_get_integer(large, "size", where, &bytes, error));
    }
    if (bytes < 0 || (uint64_t)bytes > FILE_BYTES_MAX || !is_oid(oid, hex_count))
        return error_set(error, AKIN_FORMAT, "%s: %s: the size or the checksum (oid) is malformed",
                         where, path);
    if (!is_wanted(path, (uint64_t)bytes))
        return AKIN_OK;
    for (size_t i = 0; i < listing->count; i++)
        if (!strcmp(listing->files[i].path, path))
            return error_set(error, AKIN_FORMAT, "%s: %s is listed twice", where, path);
    if (!array_reserve((void **)&listing->files, &listing->capacity, listing->count + 1,
                       sizeof *listing->files))
        return error_memory(error);
    struct listed_file *file = &listing->files[listing->count];
    *file = (struct listed_file){ .path = memory_copy_string(path), .bytes = (uint64_t)bytes };
    if (!file->path)
        return error_memory(error);
    memcpy(file->oid, oid, hex_count + 1);
    listing->count++;
    return AKIN_OK;
}

static bool has(const struct listing *listing, const char *path)
{
    for (size_t i = 0; i < listing->count; i++)
        if (!strcmp(listing->files[i].path, path))
            return true;
    return false;
}

static enum akin_status check_complete(const struct listing *listing, bool sharded, bool pickled,
                                       const char *where, struct akin_error *error)
{
    static const char *const needed[] = { "config.json", "tokenizer.json" };
    if (!has(listing, "model.safetensors")) {
        if (sharded)
            return error_set(error, AKIN_UNSUPPORTED, "%s: its weights are in several files "
                             "(model.safetensors.index.json), which is not supported", where);
        if (pickled)
            return error_set(error, AKIN_UNSUPPORTED, "%s: has only pytorch_model.bin, no "
                             "model.safetensors; look for a revision or a copy that has it", where);
        return error_set(error, AKIN_NOT_FOUND, "%s: has no model.safetensors", where);
    }
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!has(listing, needed[i]))
            return error_set(error, AKIN_NOT_FOUND, "%s: has no %s", where, needed[i]);
    return AKIN_OK;
}

static enum akin_status read_entries(const json_t *root, const char *where, struct listing *listing,
                                     struct akin_error *error)
{
    if (!json_is_array(root))
        return error_set(error, AKIN_FORMAT, "%s: expected a list of files, found %s", where,
                         json_type_name(root));
    bool sharded = false, pickled = false;
    for (size_t i = 0; i < json_array_size(root); i++) {
        const json_t *entry = json_array_get(root, i);
        const char *path, *type = "file";
        TRY(json_opt_string(entry, "type", where, &type, error));
        TRY(json_get_string(entry, "path", where, &path, error));
        if (!path_is_safe(path))
            return error_set(error, AKIN_FORMAT, "%s: the path %s leaves the model's folder", where,
                             path);
        sharded |= !strcmp(path, "model.safetensors.index.json");
        pickled |= !strcmp(path, "pytorch_model.bin");
        if (!strcmp(type, "file"))
            TRY(add_file(entry, path, where, listing, error));
    }
    return check_complete(listing, sharded, pickled, where, error);
}

enum akin_status listing_parse(const char *text, size_t bytes, const char *where,
                               struct listing *listing, struct akin_error *error)
{
    *listing = (struct listing){ 0 };
    json_t *root;
    TRY(json_parse(text, bytes, where, &root, error));
    enum akin_status status = read_entries(root, where, listing, error);
    json_decref(root);
    if (status != AKIN_OK)
        listing_deinit(listing);
    return status;
}

void listing_deinit(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        memory_free(listing->files[i].path);
    memory_free(listing->files);
    *listing = (struct listing){ 0 };
}

/* git's name of a file's content: SHA-1 of "blob <bytes>\0" and the content. */
static bool git_blob_sha1(const struct file_map *map, char hex[SHA1_HEX + 1])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int digest_bytes = 0;
    char head[40];
    int head_bytes = snprintf(head, sizeof head, "blob %zu", map->bytes) + 1;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestInit_ex(context, EVP_sha1(), NULL) &&
                EVP_DigestUpdate(context, head, (size_t)head_bytes) &&
                EVP_DigestUpdate(context, map->data, map->bytes) &&
                EVP_DigestFinal_ex(context, digest, &digest_bytes) && digest_bytes == SHA1_HEX / 2;
    EVP_MD_CTX_free(context);
    for (unsigned int i = 0; good && i < digest_bytes; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return good;
}

enum akin_status listed_file_matches(const struct listed_file *file, const char *path,
                                     bool *matches, char sha256[65], struct akin_error *error)
{
    TRY(sha256_file(path, sha256, error));
    struct file_map map;
    TRY(file_map_open(path, &map, error));
    *matches = map.bytes == file->bytes;
    enum akin_status status = AKIN_OK;
    if (*matches && strlen(file->oid) == SHA256_HEX) {
        *matches = !strcmp(sha256, file->oid);
    } else if (*matches) {
        char hex[SHA1_HEX + 1];
        if (git_blob_sha1(&map, hex))
            *matches = !strcmp(hex, file->oid);
        else
            status = error_set(error, AKIN_UNSUPPORTED,
                               "%s: libcrypto refuses SHA-1, which the hub "
                               "uses for small files",
                               path);
    }
    file_map_close(&map);
    return status;
}
