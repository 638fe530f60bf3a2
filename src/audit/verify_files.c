/* The checkpoints of a log and their signatures; and every file of its folder, which must be one of
 * those that the pass over the entries has explained. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "audit/verify.h"

/* ---- checkpoints ------------------------------------------------------------------------- */

static int compare_numbers(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static bool is_part(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".part") == 0;
}

static enum akin_status bad_file(struct verifier *v, const char *name)
{
    return error_set(
        v->error, AKIN_FORMAT,
        "%s/%s: is no part of the log: put there by somebody else, or left by a crash, "
        "which 'akin audit checkpoint' puts right",
        v->folder, name);
}

static enum akin_status take_sizes(struct verifier *v, const struct names *names)
{
    uint64_t size;
    for (size_t i = 0; i < names->count; i++) {
        char name[64];
        bool known = parse_number_name(names->items[i], &size) && size <= v->checkpoint.size;
        if (!known && v->live)
            continue;
        snprintf(name, sizeof name, "checkpoints/%.40s", names->items[i]);
        if (!known)
            return bad_file(v, name);
        if (!array_reserve((void **)&v->history, &v->history_capacity, v->history_count + 1,
                           sizeof *v->history))
            return error_memory(v->error);
        v->history[v->history_count++] = size;
    }
    if (v->history_count)
        qsort(v->history, v->history_count, sizeof *v->history, compare_numbers);
    if (v->history_count == 0 || v->history[v->history_count - 1] != v->checkpoint.size)
        return error_set(v->error, AKIN_FORMAT, "%s/checkpoints/%" PRIu64 ": is missing", v->folder,
                         v->checkpoint.size);
    if (v->history[0] != 0)
        return error_set(v->error, AKIN_FORMAT, "%s/checkpoints/0: is missing", v->folder);
    return AKIN_OK;
}

enum akin_status verify_list_history(struct verifier *v)
{
    char path[PATH_BYTES_MAX];
    struct names names = {0};
    TRY(log_path(path, v->folder, "checkpoints", v->error));
    enum akin_status status = path_list(path, &names, v->error);
    if (status == AKIN_NOT_FOUND)
        status = error_set(v->error, AKIN_FORMAT, "%s: is missing", path);
    if (status == AKIN_OK)
        status = take_sizes(v, &names);
    names_deinit(&names);
    TRY(status);
    v->milestones = memory_alloc(v->history_count + 1, sizeof *v->milestones);
    if (!v->milestones)
        return error_memory(v->error);
    bool extra = v->options->since != NULL;
    for (size_t i = 0; i < v->history_count; i++) {
        if (extra && v->since.size <= v->history[i]) {
            if (v->since.size < v->history[i])
                v->milestones[v->milestone_count++].size = v->since.size;
            extra = false;
        }
        v->milestones[v->milestone_count++].size = v->history[i];
    }
    return AKIN_OK;
}

/* Each signature is the log's, which stands first, or of a witness that the log knows. */
static enum akin_status check_signatures(struct verifier *v, const struct checkpoint *c,
                                         const char *path)
{
    if (!checkpoint_signed(c, &c->signatures[0], key_chain_at(&v->chain, c->size)))
        return error_set(v->error, AKIN_FORMAT, "%s: is not signed by the key of this log", path);
    for (size_t i = 1; i < c->signature_count; i++) {
        bool valid = false;
        for (size_t k = 0; k < v->witness_count && !valid; k++)
            valid = checkpoint_signed(c, &c->signatures[i], &v->witnesses[k]);
        if (!valid)
            return error_set(v->error, AKIN_FORMAT,
                             "%s: signature %zu is not right, or of nobody that the log knows",
                             path, i + 1);
    }
    return AKIN_OK;
}

static enum akin_status check_note(struct verifier *v, const struct milestone *m,
                                   const struct public_key *witnesses, uint64_t *seen)
{
    char name[TILE_PATH_BYTES], path[PATH_BYTES_MAX];
    struct checkpoint c;
    history_path(name, m->size);
    TRY(verify_read(v, name, NOTE_BYTES_MAX, &v->scratch));
    TRY(log_path(path, v->folder, name, v->error));
    TRY(checkpoint_parse(v->scratch.data, v->scratch.count, path, &c, v->error));
    if (strcmp(c.origin, v->origin) || c.size != m->size)
        return error_set(v->error, AKIN_FORMAT, "%s: is of another log or size", path);
    if (!tree_hash_equal(&c.root, &m->root))
        return error_set(v->error, AKIN_FORMAT,
                         "%s: its root is not that of the records before %" PRIu64, path, m->size);
    TRY(check_signatures(v, &c, path));
    for (size_t i = 0; i < v->options->witness_count; i++)
        if (checkpoint_has(&c, &witnesses[i]))
            seen[i] = m->size;
    if (m->size == v->checkpoint.size &&
        (v->scratch.count != v->note.count ||
         memcmp(v->scratch.data, v->note.data, v->note.count)))
        return error_set(v->error, AKIN_FORMAT, "%s: is not the same as %s/checkpoint", path,
                         v->folder);
    return AKIN_OK;
}

enum akin_status verify_history(struct verifier *v, uint64_t *witnessed)
{
    size_t count = v->options->witness_count, at = 0;
    struct public_key *witnesses = memory_alloc(count, sizeof *witnesses);
    uint64_t *seen = memory_alloc(count, sizeof *seen);
    enum akin_status status = AKIN_OK;
    if (!witnesses || !seen)
        TRY_DONE(error_memory(v->error));
    for (size_t i = 0; i < count; i++) {
        TRY_DONE(public_key_load(v->options->witnesses[i], &witnesses[i], v->error));
        seen[i] = UINT64_MAX;
    }
    for (size_t i = 0; i < v->milestone_count; i++)
        if (at < v->history_count && v->milestones[i].size == v->history[at]) {
            at++;
            if (!v->live)
                TRY_DONE(edge_check(v->folder, v->milestones[i].size, v->checkpoint.size,
                                    v->error));
            TRY_DONE(check_note(v, &v->milestones[i], witnesses, seen));
        }
    *witnessed = count ? UINT64_MAX : 0;
    for (size_t i = 0; i < count; i++) {
        if (seen[i] == UINT64_MAX)
            TRY_DONE(error_set(v->error, AKIN_FORMAT,
                               "%s: no checkpoint is cosigned by the witness %s", v->folder,
                               witnesses[i].name));
        if (seen[i] < *witnessed)
            *witnessed = seen[i];
    }
done:
    memory_free(witnesses);
    memory_free(seen);
    return status;
}

/* ---- files ------------------------------------------------------------------------------- */

/* How many bytes the first `width` entries of a bundle take. */
static size_t entries_bytes(const struct bytes *bundle, size_t width)
{
    size_t at = 0;
    for (size_t i = 0; i < width && at + ENTRY_LENGTH_BYTES <= bundle->count; i++)
        at += ENTRY_LENGTH_BYTES + get_u16((const unsigned char *)bundle->data + at);
    return at;
}

/* What a tile was when it was narrower: the beginning of what it is now. */
static enum akin_status check_earlier_tile(struct verifier *v, const char *name, int level,
                                           uint64_t number, size_t width, size_t now)
{
    char name_now[TILE_PATH_BYTES];
    struct bytes full = {0};
    enum akin_status status = AKIN_OK;
    tile_path(name_now, level, number, now);
    TRY_DONE(verify_read(v, name_now, BUNDLE_BYTES_MAX, &full));
    TRY_DONE(verify_read(v, name, BUNDLE_BYTES_MAX, &v->scratch));
    size_t bytes = level == TILE_ENTRIES ? entries_bytes(&full, width) : width * TREE_HASH_BYTES;
    if (v->scratch.count != bytes || bytes > full.count ||
        memcmp(v->scratch.data, full.data, bytes))
        status = error_set(v->error, AKIN_FORMAT, "%s/%s: is not how %s begins: it was changed",
                           v->folder, name, name_now);
done:
    bytes_deinit(&full);
    return status;
}

static bool is_large(const struct verifier *v, uint64_t index)
{
    return v->large_count && bsearch(&index, v->larges, v->large_count, sizeof *v->larges,
                                     compare_numbers);
}

static enum akin_status check_lock(struct verifier *v)
{
    TRY(verify_read(v, "lock", NOTE_BYTES_MAX, &v->scratch));
    return v->scratch.count ? error_set(v->error, AKIN_FORMAT, "%s/lock: is not empty", v->folder)
                            : AKIN_OK;
}

static enum akin_status check_file(struct verifier *v, const char *name)
{
    static const char *const known[] = {"format", "key", "key.pub", "checkpoint", "journal",
                                        "lock"};
    const char *numbers[] = {"checkpoints/", "records/"};
    int level;
    uint64_t number;
    size_t width;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(name, known[i]))
            return AKIN_OK;
    for (size_t i = 0; i < 2; i++) {
        size_t length = strlen(numbers[i]);
        if (!strncmp(name, numbers[i], length) && parse_number_name(name + length, &number) &&
            (i == 0 ? number <= v->checkpoint.size : is_large(v, number)))
            return AKIN_OK;
    }
    if (tile_path_parse(name, &level, &number, &width)) {
        size_t now = tile_width(level, number, v->checkpoint.size);
        if (width == now)
            return AKIN_OK;
        if (width < now)
            return check_earlier_tile(v, name, level, number, width, now);
    }
    return v->live ? AKIN_OK : bad_file(v, name);
}

static enum akin_status walk(struct verifier *v, const char *inner, unsigned depth);

static enum akin_status walk_folder(struct verifier *v, const char *name, unsigned depth)
{
    char inner[258];
    snprintf(inner, sizeof inner, "%s/", name);
    return walk(v, inner, depth);
}

/* Everything below folder/inner, which is "" or ends in '/'. */
static enum akin_status walk(struct verifier *v, const char *inner, unsigned depth)
{
    char path[PATH_BYTES_MAX], name[256];
    struct names names = {0};
    struct stat info;
    TRY(log_path(path, v->folder, inner, v->error));
    enum akin_status status = path_list(path, &names, v->error);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        bool fits = (size_t)snprintf(name, sizeof name, "%s%s", inner, names.items[i]) <
                    sizeof name - 1;
        status = log_path(path, v->folder, name, v->error);
        if (status != AKIN_OK)
            break;
        if (v->live && (is_part(names.items[i]) || !path_exists(path)))
            continue;                           /* being written, or gone meanwhile */
        if (lstat(path, &info))
            status = error_system(v->error, "%s", path);
        else if (!fits || depth > 10)
            status = bad_file(v, name);
        else if (S_ISDIR(info.st_mode))
            status = walk_folder(v, name, depth + 1);
        else
            status = S_ISREG(info.st_mode) ? check_file(v, name) : bad_file(v, name);
    }
    names_deinit(&names);
    return status;
}

enum akin_status verify_tree_of_files(struct verifier *v)
{
    TRY(check_lock(v));
    return walk(v, "", 0);
}
