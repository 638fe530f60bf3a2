/* akin_audit_verify: one pass over the entries, which gives the tree, the tiles, the roots at every
 * size that has a checkpoint, the keys, the cursors, and the names of all files that should be. */
#include "audit/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/file_at.h"

enum akin_status verify_read(struct verifier *v, const char *name, size_t bytes_max,
                             struct bytes *out)
{
    char path[PATH_BYTES_MAX];
    TRY(log_path(path, v->folder, name, v->error));
    bytes_clear(out);
    enum akin_status status = file_read(path, bytes_max, out, v->error);
    if (status == AKIN_NOT_FOUND)
        return error_set(v->error, AKIN_FORMAT, "%s: is missing", path);
    if (status == AKIN_LIMIT)
        return error_set(v->error, AKIN_FORMAT, "%s: is longer than it can be", path);
    return status;
}

/* ---- tiles ------------------------------------------------------------------------------- */

/* Records below hash `at` of a tile. */
static enum akin_status bad_hash(struct verifier *v, const char *name, int level, uint64_t number,
                                 size_t at)
{
    unsigned height = 8 * (unsigned)level;
    uint64_t first = (number * TILE_WIDTH + at) << height;
    if (level == 0)
        return error_set(v->error, AKIN_FORMAT,
                         "%s/%s: record %" PRIu64
                         " and its hash here do not agree: one of them was "
                         "changed",
                         v->folder, name, first);
    return error_set(v->error, AKIN_FORMAT,
                     "%s/%s: hash %zu is not that of records %" PRIu64 " to %" PRIu64
                     ": it was changed, or they were", v->folder, name, at, first,
                     first + (((uint64_t)1 << height) - 1));
}

/* A tile file against the hashes that it should hold. */
static enum akin_status compare_tile(struct verifier *v, int level, uint64_t number,
                                     const struct tree_hash *hashes, size_t width)
{
    char name[TILE_PATH_BYTES];
    tile_path(name, level, number, width);
    TRY(verify_read(v, name, TILE_WIDTH * TREE_HASH_BYTES, &v->scratch));
    size_t same = 0, whole = v->scratch.count / TREE_HASH_BYTES;
    while (same < width && same < whole &&
           !memcmp(v->scratch.data + same * TREE_HASH_BYTES, &hashes[same], TREE_HASH_BYTES))
        same++;
    if (same < width && same < whole)
        return bad_hash(v, name, level, number, same);
    if (v->scratch.count != width * TREE_HASH_BYTES)
        return error_set(v->error, AKIN_FORMAT, "%s/%s: %zu bytes, where %zu should be", v->folder,
                         name, v->scratch.count, width * TREE_HASH_BYTES);
    return AKIN_OK;
}

static void add_to_tile(struct verifier *v, unsigned level, const struct tree_hash *hash)
{
    v->tiles[level][v->widths[level]++] = *hash;
    if (v->widths[level] < TILE_WIDTH)
        return;
    v->widths[level] = 0;
    uint64_t end = level ? (v->edge.size + 1) >> 8 * level : v->edge.size + 1;
    if (level && v->status == AKIN_OK)
        v->status = compare_tile(v, (int)level, end / TILE_WIDTH - 1, v->tiles[level], TILE_WIDTH);
}

static void grown(void *context, unsigned level, const struct tree_hash *hash)
{
    if (level < TILE_LEVELS)
        add_to_tile(context, level, hash);
}

/* ---- entries ----------------------------------------------------------------------------- */

static enum akin_status add_witness(struct verifier *v, uint64_t index, const struct entry *entry)
{
    struct public_key key;
    char where[64];
    snprintf(where, sizeof where, "record %" PRIu64, index);
    TRY(public_key_parse((const char *)entry->data, (size_t)entry->bytes, where, &key, v->error));
    if (!array_reserve((void **)&v->witnesses, &v->witness_capacity, v->witness_count + 1,
                       sizeof *v->witnesses))
        return error_memory(v->error);
    v->witnesses[v->witness_count++] = key;
    return AKIN_OK;
}

enum akin_status verify_entry(struct verifier *v, uint64_t index, const struct entry *entry)
{
    if (entry->large) {
        struct file_map map;
        if (!array_reserve((void **)&v->larges, &v->large_capacity, v->large_count + 1,
                           sizeof *v->larges))
            return error_memory(v->error);
        v->larges[v->large_count++] = index;
        TRY(record_file_open(v->folder, index, entry, &map, v->error));
        file_map_close(&map);
    }
    if (entry->kind == AKIN_AUDIT_KEY) {
        struct rotation rotation;
        const char *wrong = rotation_read(entry, index, &rotation);
        if (!wrong)
            wrong = key_chain_add(&v->chain, &rotation, index);
        if (wrong)
            return error_set(v->error, AKIN_FORMAT, "record %" PRIu64 ", a change of keys: %s",
                             index, wrong);
    }
    if (entry->kind == AKIN_AUDIT_WITNESS)
        TRY(add_witness(v, index, entry));
    return cursors_take(&v->cursors, entry, v->error);
}

static void pass_milestones(struct verifier *v)
{
    while (v->milestone_at < v->milestone_count &&
           v->milestones[v->milestone_at].size == v->edge.size)
        tree_edge_root(&v->edge, &v->milestones[v->milestone_at++].root);
}

/* Entries of one bundle against the hashes of the tile beside it. */
static enum akin_status verify_bundle(struct verifier *v, uint64_t number, size_t width,
                                      struct bytes *bundle, struct bytes *tile)
{
    char name[TILE_PATH_BYTES], tile_name[TILE_PATH_BYTES];
    size_t at = 0;
    tile_path(name, TILE_ENTRIES, number, width);
    tile_path(tile_name, 0, number, width);
    TRY(verify_read(v, name, BUNDLE_BYTES_MAX, bundle));
    TRY(verify_read(v, tile_name, TILE_WIDTH * TREE_HASH_BYTES, tile));
    for (size_t i = 0; i < width; i++) {
        uint64_t index = v->edge.size;
        struct entry entry;
        const unsigned char *begin;
        size_t bytes;
        struct tree_hash leaf;
        const char *wrong = entry_next((const unsigned char *)bundle->data, bundle->count, &at,
                                       &entry, &begin, &bytes);
        if (wrong)
            return error_set(v->error, AKIN_FORMAT, "%s/%s: record %" PRIu64 " was changed: %s",
                             v->folder, name, index, wrong);
        tree_leaf(begin, bytes, &leaf);
        if (tile->count < (i + 1) * TREE_HASH_BYTES)
            return error_set(v->error, AKIN_FORMAT,
                             "%s/%s: ends before the hash of record %" PRIu64, v->folder, tile_name,
                             index);
        if (memcmp(tile->data + i * TREE_HASH_BYTES, &leaf, sizeof leaf))
            return bad_hash(v, tile_name, 0, number, i);
        TRY(verify_entry(v, index, &entry));
        add_to_tile(v, 0, &leaf);
        tree_edge_add(&v->edge, &leaf, grown, v);
        TRY(v->status);
        pass_milestones(v);
    }
    if (at != bundle->count || tile->count != width * TREE_HASH_BYTES)
        return error_set(v->error, AKIN_FORMAT, "%s/%s: bytes behind the last record", v->folder,
                         at != bundle->count ? name : tile_name);
    return AKIN_OK;
}

static enum akin_status verify_entries(struct verifier *v)
{
    struct bytes bundle = {0}, tile = {0};
    const struct akin_progress *progress = &v->options->progress;
    enum akin_status status = AKIN_OK;
    uint64_t size = v->checkpoint.size;
    struct tree_hash root;
    pass_milestones(v);
    for (uint64_t number = 0; v->edge.size < size; number++) {
        TRY_DONE(verify_bundle(v, number, tile_width(TILE_ENTRIES, number, size), &bundle, &tile));
        if (progress->update &&
            !progress->update(progress->cookie, "verifying", v->edge.size, size))
            TRY_DONE(error_set(v->error, AKIN_CANCELLED, "stopped"));
    }
    for (unsigned level = 1; level < TILE_LEVELS; level++)
        if (v->widths[level])
            TRY_DONE(compare_tile(v, (int)level, (size >> 8 * level) / TILE_WIDTH, v->tiles[level],
                                  v->widths[level]));
    tree_edge_root(&v->edge, &root);
    if (!tree_hash_equal(&root, &v->checkpoint.root))
        status = error_set(v->error, AKIN_FORMAT,
                           "%s/checkpoint: its root is not that of records 0 to %" PRIu64
                           ": records were changed, removed or inserted, or it was", v->folder,
                           size ? size - 1 : 0);
done:
    bytes_deinit(&bundle);
    bytes_deinit(&tile);
    return status;
}

/* ---- keys -------------------------------------------------------------------------------- */

static enum akin_status verify_keys(struct verifier *v)
{
    struct public_key asked;
    if (v->chain.count == 0) {
        v->chain.items = memory_alloc(1, sizeof *v->chain.items);
        if (!v->chain.items)
            return error_memory(v->error);
        v->chain.items[0] = (struct chain_key){v->key, 0};
        v->chain.count = v->chain.capacity = 1;
    }
    if (!public_key_equal(&v->chain.items[v->chain.count - 1].key, &v->key))
        return error_set(v->error, AKIN_FORMAT,
                         "%s/key.pub: is not the key that the last change of keys names",
                         v->folder);
    if (!v->options->public_key)
        return AKIN_OK;
    TRY(public_key_load(v->options->public_key, &asked, v->error));
    for (size_t i = 0; i < v->chain.count; i++)
        if (public_key_equal(&v->chain.items[i].key, &asked))
            return AKIN_OK;
    return error_set(v->error, AKIN_FORMAT,
                     "%s: is signed by another key than the one given: it is another log, or was "
                     "signed anew", v->folder);
}

static enum akin_status verify_since(struct verifier *v)
{
    const struct checkpoint *since = &v->since;
    const struct milestone *m = v->milestones;
    if (!v->options->since)
        return AKIN_OK;
    while (m->size != since->size)
        m++;
    if (!tree_hash_equal(&m->root, &since->root))
        return error_set(v->error, AKIN_FORMAT,
                         "%s: the first %" PRIu64 " records are not those of the earlier "
                         "checkpoint: history was written anew", v->folder, since->size);
    if (!checkpoint_has(since, key_chain_at(&v->chain, since->size)))
        return error_set(v->error, AKIN_FORMAT, "%s: is not signed by the key of this log",
                         v->options->since);
    return AKIN_OK;
}

/* ---- the whole --------------------------------------------------------------------------- */

static enum akin_status begin(struct verifier *v)
{
    char path[PATH_BYTES_MAX];
    struct file_at lock = {.fd = -1};
    TRY(format_read(v->folder, v->origin, v->error));
    TRY(log_path(path, v->folder, "lock", v->error));
    if (file_at_open(path, FILE_AT_READ, &lock, NULL) == AKIN_OK) {
        v->live = file_at_is_locked(&lock);
        file_at_close(&lock);
    }
    TRY(verify_read(v, "key.pub", AKIN_AUDIT_KEY_TEXT_BYTES, &v->scratch));
    TRY(log_path(path, v->folder, "key.pub", v->error));
    TRY(public_key_parse(v->scratch.data, v->scratch.count, path, &v->key, v->error));
    if (!v->scratch.count || v->scratch.data[v->scratch.count - 1] != '\n' ||
        strcmp(v->key.name, v->origin) || v->key.type != KEY_LOG)
        return error_set(v->error, AKIN_FORMAT, "%s: is not the key of the log %s", path,
                         v->origin);
    TRY(verify_read(v, "checkpoint", NOTE_BYTES_MAX, &v->note));
    TRY(log_path(path, v->folder, "checkpoint", v->error));
    TRY(checkpoint_parse(v->note.data, v->note.count, path, &v->checkpoint, v->error));
    if (strcmp(v->checkpoint.origin, v->origin))
        return error_set(v->error, AKIN_FORMAT, "%s: is of another log, %s", path,
                         v->checkpoint.origin);
    if (v->options->since) {
        TRY(checkpoint_read(v->options->since, &v->since_note, &v->since, v->error));
        if (strcmp(v->since.origin, v->origin))
            return error_set(v->error, AKIN_FORMAT, "%s: is of another log, %s", v->options->since,
                             v->since.origin);
        if (v->since.size > v->checkpoint.size)
            return error_set(v->error, AKIN_FORMAT,
                             "%s: has %" PRIu64 " records, and had %" PRIu64
                             " at the earlier checkpoint: the last ones were removed", v->folder,
                             v->checkpoint.size, v->since.size);
    }
    return verify_list_history(v);
}

static enum akin_status run(struct verifier *v, uint64_t *witnessed)
{
    TRY(begin(v));
    TRY(verify_entries(v));
    if (!v->live)
        TRY(verify_journal(v));
    TRY(verify_keys(v));
    TRY(verify_history(v, witnessed));
    TRY(verify_since(v));
    return verify_tree_of_files(v);
}

static void tell(const struct verifier *v, struct akin_audit_verdict *verdict)
{
    struct bytes root = {0};
    *verdict = (struct akin_audit_verdict){
        .checkpoint = v->checkpoint.size,
        .records = v->edge.size,
        .checkpoints = v->history_count,
        .keys = v->chain.count,
        .since = v->options->since ? v->since.size : 0,
        .writer = v->live,
    };
    base64_append(&root, &v->checkpoint.root, sizeof v->checkpoint.root);
    snprintf(verdict->root, sizeof verdict->root, "%s", root.failed ? "" : root.data);
    snprintf(verdict->origin, sizeof verdict->origin, "%s", v->origin);
    public_key_text(&v->key, verdict->public_key);
    bytes_deinit(&root);
}

static void verifier_destroy(struct verifier *v)
{
    bytes_deinit(&v->note);
    bytes_deinit(&v->since_note);
    bytes_deinit(&v->scratch);
    cursors_deinit(&v->cursors);
    key_chain_deinit(&v->chain);
    memory_free(v->milestones);
    memory_free(v->history);
    memory_free(v->witnesses);
    memory_free(v->larges);
    memory_free(v);
}

enum akin_status akin_audit_verify(const char *folder,
                                   const struct akin_audit_verify_options *options,
                                   struct akin_audit_verdict *verdict, struct akin_error *error)
{
    static const struct akin_audit_verify_options none;
    uint64_t witnessed = 0;
    struct verifier *v = memory_alloc(1, sizeof *v);
    if (!v)
        return error_memory(error);
    v->folder = folder;
    v->options = options ? options : &none;
    v->error = error;
    enum akin_status status = run(v, &witnessed);
    if (status == AKIN_OK && verdict) {
        tell(v, verdict);
        verdict->witnessed = witnessed;
    }
    verifier_destroy(v);
    return status;
}
