/* Proofs as JSON files, and their checks. All that a check needs is in the file but the public key:
 * the entry, the hashes, the signed checkpoint. */
#include <inttypes.h>
#include <string.h>

#include "audit/note.h"
#include "audit/tiles.h"
#include "base/base64.h"
#include "base/hash.h"
#include "base/json.h"

static const char inclusion_type[] = "akin audit inclusion proof 1";
static const char consistency_type[] = "akin audit consistency proof 1";
enum { PROOF_BYTES_MAX = 1 << 20 };

/* ---- making ------------------------------------------------------------------------------ */

static enum akin_status load_checkpoint(const char *folder, struct bytes *note,
                                        struct checkpoint *checkpoint, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1];
    TRY(format_read(folder, origin, error));
    TRY(log_path(path, folder, "checkpoint", error));
    return checkpoint_read(path, note, checkpoint, error);
}

static void append_hashes(struct bytes *out, const struct tree_proof *proof)
{
    bytes_append_text(out, "  \"hashes\": [");
    for (size_t i = 0; i < proof->count; i++) {
        bytes_append_text(out, i ? ",\n    \"" : "\n    \"");
        base64_append(out, &proof->hashes[i], sizeof proof->hashes[i]);
        bytes_append_text(out, "\"");
    }
    bytes_append_text(out, proof->count ? "\n  ],\n" : "],\n");
}

static void append_note(struct bytes *out, const char *key, const struct bytes *note, bool last)
{
    bytes_printf(out, "  \"%s\": ", key);
    json_append_string(out, note->data, note->count);
    bytes_append_text(out, last ? "\n}\n" : ",\n");
}

static enum akin_status find_entry(const char *folder, uint64_t index, uint64_t size,
                                   struct bytes *bundle, const unsigned char **begin,
                                   size_t *bytes, struct akin_error *error)
{
    uint64_t number = index / TILE_WIDTH;
    size_t at = 0;
    struct entry entry;
    TRY(bundle_read(folder, number, tile_width(TILE_ENTRIES, number, size), bundle, error));
    for (uint64_t i = number * TILE_WIDTH; i <= index; i++)
        if (entry_next((const unsigned char *)bundle->data, bundle->count, &at, &entry, begin,
                       bytes))
            return error_set(error, AKIN_FORMAT, "%s: record %" PRIu64 " was changed: 'akin audit "
                             "verify' tells more", folder, i);
    return AKIN_OK;
}

static enum akin_status make_hashes(const char *folder, bool growth, uint64_t from, uint64_t size,
                                    struct tree_proof *proof, struct akin_error *error)
{
    struct tile_nodes *nodes = memory_alloc(1, sizeof *nodes);
    if (!nodes)
        return error_memory(error);
    nodes->folder = folder;
    nodes->size = size;
    struct tree_source source = {nodes, tile_nodes_get};
    enum akin_status status = growth ? tree_prove_growth(&source, from, size, proof, error)
                                     : tree_prove(&source, from, size, proof, error);
    memory_free(nodes);
    return status;
}

enum akin_status akin_audit_prove(const char *folder, uint64_t index, const char *output,
                                  struct akin_error *error)
{
    struct bytes note = {0}, bundle = {0}, out = {0};
    struct checkpoint checkpoint;
    struct tree_proof proof;
    struct tree_hash leaf;
    const unsigned char *entry;
    size_t bytes;
    enum akin_status status = AKIN_OK;
    TRY_DONE(load_checkpoint(folder, &note, &checkpoint, error));
    if (index >= checkpoint.size)
        TRY_DONE(error_set(error, AKIN_NOT_FOUND,
                           "%s: there is no record %" PRIu64
                           " under the checkpoint, which has %" PRIu64
                           "; they count from 0, and 'akin audit checkpoint' makes a newer one",
                           folder, index, checkpoint.size));
    TRY_DONE(find_entry(folder, index, checkpoint.size, &bundle, &entry, &bytes, error));
    TRY_DONE(make_hashes(folder, false, index, checkpoint.size, &proof, error));
    tree_leaf(entry, bytes, &leaf);
    if (!tree_check(&leaf, index, checkpoint.size, &checkpoint.root, &proof))
        TRY_DONE(error_set(error, AKIN_FORMAT,
                           "%s: record %" PRIu64 " is not in the tree of its checkpoint: 'akin "
                           "audit verify' tells what was changed", folder, index));
    bytes_printf(&out, "{\n  \"type\": \"%s\",\n  \"index\": %" PRIu64 ",\n  \"size\": %" PRIu64
                 ",\n  \"entry\": \"", inclusion_type, index, checkpoint.size);
    base64_append(&out, entry, bytes);
    bytes_append_text(&out, "\",\n");
    append_hashes(&out, &proof);
    append_note(&out, "checkpoint", &note, true);
    status = out.failed ? error_memory(error) : file_write(output, out.data, out.count, error);
done:
    bytes_deinit(&note);
    bytes_deinit(&bundle);
    bytes_deinit(&out);
    return status;
}

enum akin_status akin_audit_prove_consistency(const char *folder, const char *since,
                                              const char *output, struct akin_error *error)
{
    struct bytes note = {0}, earlier_note = {0}, out = {0};
    struct checkpoint checkpoint, earlier;
    struct tree_proof proof;
    enum akin_status status = AKIN_OK;
    TRY_DONE(load_checkpoint(folder, &note, &checkpoint, error));
    TRY_DONE(checkpoint_read(since, &earlier_note, &earlier, error));
    if (strcmp(earlier.origin, checkpoint.origin) || earlier.size > checkpoint.size)
        TRY_DONE(error_set(error, AKIN_ARGUMENT,
                           "%s: is not an earlier checkpoint of this log: of %s over %" PRIu64
                           " records, and the newest is of %s over %" PRIu64, since, earlier.origin,
                           earlier.size, checkpoint.origin, checkpoint.size));
    TRY_DONE(make_hashes(folder, true, earlier.size, checkpoint.size, &proof, error));
    if (!tree_check_growth(earlier.size, &earlier.root, checkpoint.size, &checkpoint.root, &proof))
        TRY_DONE(error_set(error, AKIN_FORMAT,
                           "%s: the log does not continue this checkpoint: 'akin audit verify "
                           "--since' tells more", since));
    bytes_printf(&out, "{\n  \"type\": \"%s\",\n  \"from\": %" PRIu64 ",\n  \"size\": %" PRIu64
                 ",\n", consistency_type, earlier.size, checkpoint.size);
    append_hashes(&out, &proof);
    append_note(&out, "earlier", &earlier_note, false);
    append_note(&out, "checkpoint", &note, true);
    status = out.failed ? error_memory(error) : file_write(output, out.data, out.count, error);
done:
    bytes_deinit(&note);
    bytes_deinit(&earlier_note);
    bytes_deinit(&out);
    return status;
}

/* ---- checking ---------------------------------------------------------------------------- */

struct check {
    const char *path;
    const json_t *root;
    struct public_key key;
    struct tree_proof proof;
    struct checkpoint checkpoint;
    struct akin_error *error;
};

static enum akin_status bad(struct check *c, const char *what)
{
    return error_set(c->error, AKIN_FORMAT, "%s: proves nothing: %s", c->path, what);
}

static enum akin_status get_count(struct check *c, const char *key, uint64_t *value)
{
    int64_t number;
    TRY(json_get_integer(c->root, key, c->path, &number, c->error));
    if (number < 0)
        return bad(c, "a number is negative");
    *value = (uint64_t)number;
    return AKIN_OK;
}

static enum akin_status get_hashes(struct check *c)
{
    const json_t *list = json_object_get(c->root, "hashes");
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > TREE_PROOF_MAX)
        return bad(c, "'hashes' is no list of at most 128");
    for (size_t i = 0; i < count; i++) {
        const json_t *text = json_array_get(list, i);
        if (!json_is_string(text) ||
            !base64_read(json_string_value(text), json_string_length(text), &c->proof.hashes[i],
                         sizeof c->proof.hashes[i]))
            return bad(c, "one of 'hashes' is no hash");
    }
    c->proof.count = count;
    return AKIN_OK;
}

/* An earlier checkpoint needs no signature of its own: the later one, which has one, contains it,
 * and the key may have changed in between. */
static enum akin_status get_checkpoint(struct check *c, const char *key, bool is_signed,
                                       struct checkpoint *checkpoint)
{
    const char *note;
    TRY(json_get_string(c->root, key, c->path, &note, c->error));
    TRY(checkpoint_parse(note, strlen(note), c->path, checkpoint, c->error));
    if (strcmp(checkpoint->origin, c->key.name))
        return bad(c, "its checkpoint is of another log than the key");
    if (is_signed && !checkpoint_has(checkpoint, &c->key))
        return bad(c, "its checkpoint is not signed by the key");
    return AKIN_OK;
}

/* The entry of the proof; the record itself too, if it was handed over. */
static enum akin_status check_entry(struct check *c, const char *record, struct tree_hash *leaf)
{
    const char *text;
    unsigned char bytes[ENTRY_BYTES_MAX];
    struct entry entry;
    struct file_map map;
    TRY(json_get_string(c->root, "entry", c->path, &text, c->error));
    size_t digits = strlen(text), count = digits / 4 * 3;
    if (digits && text[digits - 1] == '=')
        count -= 1 + (digits > 1 && text[digits - 2] == '=');
    if (count > sizeof bytes || !base64_read(text, digits, bytes, count) ||
        entry_read(bytes, count, &entry))
        return bad(c, "'entry' is no entry");
    tree_leaf(bytes, count, leaf);
    if (!record)
        return AKIN_OK;
    TRY(file_map_open(record, &map, c->error));
    bool same = map.bytes == entry.bytes;
    if (same && entry.large) {
        struct sha256 sha;
        unsigned char digest[32];
        sha256_begin(&sha);
        sha256_add(&sha, map.data, map.bytes);
        sha256_end_bytes(&sha, digest);
        same = memcmp(digest, entry.digest, sizeof digest) == 0;
    } else if (same && map.bytes) {
        same = memcmp(map.data, entry.data, map.bytes) == 0;
    }
    file_map_close(&map);
    return same ? AKIN_OK
                : error_set(c->error, AKIN_FORMAT, "%s: is not the record of the proof", record);
}

static enum akin_status check_inclusion(struct check *c, const char *record,
                                        struct akin_audit_proof *proof)
{
    struct tree_hash leaf;
    TRY(get_count(c, "index", &proof->index));
    TRY(get_count(c, "size", &proof->size));
    TRY(check_entry(c, record, &leaf));
    if (proof->size != c->checkpoint.size)
        return bad(c, "its size is not that of its checkpoint");
    if (!tree_check(&leaf, proof->index, proof->size, &c->checkpoint.root, &c->proof))
        return bad(c, "the entry, its place and the hashes do not give the root");
    return AKIN_OK;
}

static enum akin_status check_consistency(struct check *c, struct akin_audit_proof *proof)
{
    struct checkpoint earlier;
    proof->consistency = true;
    TRY(get_count(c, "from", &proof->index));
    TRY(get_count(c, "size", &proof->size));
    TRY(get_checkpoint(c, "earlier", false, &earlier));
    if (proof->index != earlier.size || proof->size != c->checkpoint.size)
        return bad(c, "its sizes are not those of its checkpoints");
    if (!tree_check_growth(earlier.size, &earlier.root, c->checkpoint.size, &c->checkpoint.root,
                           &c->proof))
        return bad(c, "the later checkpoint does not continue the earlier one");
    return AKIN_OK;
}

enum akin_status akin_audit_verify_proof(const char *path, const char *public_key,
                                         const char *record, struct akin_audit_proof *proof,
                                         struct akin_error *error)
{
    struct check c = {.path = path, .error = error};
    struct akin_audit_proof found = {0};
    json_t *root = NULL;
    const char *type;
    enum akin_status status = AKIN_OK;
    TRY(public_key_load(public_key, &c.key, error));
    TRY(json_read(path, PROOF_BYTES_MAX, &root, error));
    c.root = root;
    TRY_DONE(json_get_string(root, "type", path, &type, error));
    TRY_DONE(get_hashes(&c));
    TRY_DONE(get_checkpoint(&c, "checkpoint", true, &c.checkpoint));
    if (!strcmp(type, inclusion_type))
        TRY_DONE(check_inclusion(&c, record, &found));
    else if (!strcmp(type, consistency_type))
        TRY_DONE(check_consistency(&c, &found));
    else
        TRY_DONE(bad(&c, "its type is not one that this akin knows"));
    memcpy(found.origin, c.checkpoint.origin, sizeof found.origin);
    if (proof)
        *proof = found;
done:
    json_decref(root);
    return status;
}
