/* The folder embeddings/: reading with its checks, and writing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/thread.h"
#include "catalog/catalog_internal.h"
#include "catalog/import.h"

#define REMEDY "make the embeddings again with \"akin data embed\""

static enum akin_status join(const struct catalog *c, const char *name, char *path,
                             struct akin_error *error)
{
    char folder[PATH_BYTES_MAX];
    TRY(path_join(folder, sizeof folder, c->folder, CATALOG_EMBEDDINGS, error));
    return path_join(path, PATH_BYTES_MAX, folder, name, error);
}

/* ---- reading ---------------------------------------------------------------------------- */

/* A line of metadata.jsonl must be about item `id`. The form that we write is compared as bytes. */
static enum akin_status check_metadata_line(const char *line, size_t bytes, const char *id,
                                            const char *where, struct akin_error *error)
{
    static const char begins[] = "{\"media_id\": \"";
    size_t prefix = sizeof begins - 1, length = strlen(id);
    if (bytes > prefix + length && !memcmp(line, begins, prefix) &&
        !memcmp(line + prefix, id, length) && line[prefix + length] == '"' && !strpbrk(id, "\\\""))
        return AKIN_OK;
    json_t *root;
    const char *found;
    TRY(json_parse(line, bytes, where, &root, error));
    enum akin_status status = json_get_string(root, "media_id", where, &found, error);
    if (status == AKIN_OK && strcmp(found, id))
        status = error_set(error, AKIN_FORMAT,
                           "%s: media_id: expected \"%.100s\", found \"%.100s\"; " REMEDY, where,
                           id, found);
    json_decref(root);
    return status;
}

static enum akin_status check_metadata(const struct catalog *c, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], where[PATH_BYTES_MAX + 24];
    struct line_reader *reader;
    const char *line;
    size_t bytes, row = 0;
    enum akin_status status;
    TRY(join(c, "media/metadata.jsonl", path, error));
    TRY(line_reader_open(path, &reader, error));
    while ((status = line_reader_next(reader, &line, &bytes, error)) == AKIN_OK && line) {
        if (row == c->count)
            break;
        snprintf(where, sizeof where, "%s:%zu", path, row + 1);
        status = check_metadata_line(line, bytes, c->entries[row++].id, where, error);
        if (status != AKIN_OK)
            break;
    }
    if (status == AKIN_OK && (row != c->count || line))
        status =
            error_set(error, AKIN_FORMAT, "%s: it has %s lines than there are items (%zu); " REMEDY,
                      path, line ? "more" : "fewer", c->count);
    line_reader_close(&reader);
    return status;
}

static enum akin_status read_model(struct catalog *c, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    const char *model = "", *precision = "", *items = "", *ratings = "";
    json_t *root;
    TRY(join(c, "model.json", path, error));
    if (!path_exists(path))
        return AKIN_OK;
    TRY(json_read(path, JSON_FILE_BYTES_MAX, &root, error));
    enum akin_status status = json_opt_string(root, "model", path, &model, error);
    if (status == AKIN_OK)
        status = json_opt_string(root, "precision", path, &precision, error);
    if (status == AKIN_OK)
        status = json_opt_string(root, "items_fingerprint", path, &items, error);
    if (status == AKIN_OK)
        status = json_opt_string(root, "ratings_fingerprint", path, &ratings, error);
    if (status == AKIN_OK) {
        snprintf(c->model, sizeof c->model, "%s", model);
        snprintf(c->precision, sizeof c->precision, "%s", precision);
        c->embedded_items = strtoull(items, NULL, 16);
        c->embedded_ratings = strtoull(ratings, NULL, 16);
    }
    json_decref(root);
    return status;
}

/* Puts the users of user_ids.json first, in its order. */
static enum akin_status order_users(struct catalog *c, const char *path, const char **ids,
                                    size_t count, struct akin_error *error)
{
    struct catalog_user *ordered = memory_alloc(count + c->user_count, sizeof *ordered);
    bool *taken = memory_alloc(c->user_count, sizeof *taken);
    struct string_map numbers = { 0 };
    enum akin_status status = ordered && taken ? AKIN_OK : error_memory(error);
    size_t total = count;
    for (size_t i = 0; status == AKIN_OK && i < count; i++) {
        uint64_t known;
        bool added;
        ordered[i] = (struct catalog_user){ .id = ids[i] };
        if (string_map_get(&c->user_numbers, ids[i], strlen(ids[i]), &known)) {
            ordered[i] = c->users[known];
            taken[known] = true;
        }
        if (!string_map_put(&numbers, ids[i], strlen(ids[i]), i, NULL, &added))
            status = error_memory(error);
        else if (!added)
            status = error_set(error, AKIN_FORMAT, "%s: \"%.100s\" is there twice; " REMEDY, path,
                               ids[i]);
    }
    for (size_t i = 0; status == AKIN_OK && i < c->user_count; i++) {
        if (taken[i])
            continue;
        ordered[total] = c->users[i];
        if (!string_map_put(&numbers, c->users[i].id, strlen(c->users[i].id), total++, NULL, NULL))
            status = error_memory(error);
    }
    if (status == AKIN_OK) {
        memory_free(c->users);
        string_map_deinit(&c->user_numbers);
        c->users = ordered;
        c->user_count = c->user_capacity = total;
        c->user_numbers = numbers;
    } else {
        memory_free(ordered);
        string_map_deinit(&numbers);
    }
    memory_free(taken);
    return status;
}

static enum akin_status load_users(struct catalog *c, struct akin_error *error)
{
    char vectors[PATH_BYTES_MAX], ids_path[PATH_BYTES_MAX];
    const char **ids;
    size_t count;
    TRY(join(c, "users/preference_vectors.npy", vectors, error));
    TRY(join(c, "users/user_ids.json", ids_path, error));
    if (!path_exists(vectors) && !path_exists(ids_path))
        return AKIN_OK;
    TRY(npy_open_matrix(vectors, &c->user_vectors, error));
    TRY(catalog_read_strings(c, ids_path, &ids, &count, error));
    if (c->user_vectors.shape[0] != count)
        return error_set(error, AKIN_FORMAT, "%s: %zu ids for %zu vectors; " REMEDY, ids_path,
                         count, c->user_vectors.shape[0]);
    if (count && c->user_vectors.shape[1] != c->dim)
        return error_set(error, AKIN_FORMAT,
                         "%s: vectors of %zu where the items' have %zu; " REMEDY, vectors,
                         c->user_vectors.shape[1], c->dim);
    c->users_with_vector = count;
    return order_users(c, ids_path, ids, count, error);
}

enum akin_status catalog_load_embeddings(struct catalog *c, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(join(c, "media/content_vectors.npy", path, error));
    if (!path_exists(path))
        return AKIN_OK;
    TRY(npy_open_matrix(path, &c->item_vectors, error));
    size_t rows = c->item_vectors.shape[0], dim = c->item_vectors.shape[1];
    if (rows != c->count)
        return error_set(error, AKIN_FORMAT, "%s: %zu vectors for %zu items; " REMEDY, path, rows,
                         c->count);
    if (dim == 0 || dim > DIMENSION_MAX)
        return error_set(error, AKIN_FORMAT, "%s: the dimension %zu is not between 1 and %d", path,
                         dim, DIMENSION_MAX);
    TRY(check_metadata(c, error));
    TRY(read_model(c, error));
    c->dim = dim;
    c->embedded = true;
    return load_users(c, error);
}

/* ---- writing ---------------------------------------------------------------------------- */

static enum akin_status make_folder(const struct catalog *c, const char *name,
                                    struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(join(c, name, path, error));
    return path_make_folders(path, error);
}

static enum akin_status open_writer(const struct catalog *c, const char *name,
                                    struct file_writer **writer, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(join(c, name, path, error));
    return file_writer_open(path, writer, error);
}

static enum akin_status write_metadata(const struct catalog *c, struct file_writer *writer,
                                       struct akin_error *error)
{
    struct bytes line = { 0 };
    enum akin_status status = AKIN_OK;
    for (size_t row = 0; status == AKIN_OK && row < c->count; row++) {
        const struct catalog_entry *entry = &c->entries[row];
        struct import_item item = {
            .id = entry->id, .title = entry->title, .year = entry->year, .genres = entry->words,
            .genre_count = entry->genre_count, .themes = entry->words + entry->genre_count,
            .theme_count = entry->theme_count,
        };
        bytes_clear(&line);
        import_append_item(&line, &item, NULL);
        status = line.failed ? error_memory(error)
                             : file_writer_write(writer, line.data, line.count, error);
    }
    bytes_deinit(&line);
    return status;
}

static enum akin_status write_model(const struct catalog *c, struct file_writer *writer,
                                    const char *model, const char *precision, size_t dim,
                                    struct akin_error *error)
{
    struct bytes text = { 0 };
    bytes_append_text(&text, "{\"model\": ");
    json_append_string(&text, model, strlen(model));
    bytes_append_text(&text, ", \"precision\": ");
    json_append_string(&text, precision, strlen(precision));
    bytes_printf(&text,
                 ", \"dimension\": %zu, \"items\": %zu, \"items_fingerprint\": \"%016llx\", "
                 "\"ratings_fingerprint\": \"%016llx\"}\n",
                 dim, c->count, (unsigned long long)c->items_fingerprint,
                 (unsigned long long)c->ratings_fingerprint);
    enum akin_status status = text.failed ? error_memory(error)
                                          : file_writer_write(writer, text.data, text.count, error);
    bytes_deinit(&text);
    return status;
}

static enum akin_status remove_file(const struct catalog *c, const char *name,
                                    struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(join(c, name, path, error));
    return path_remove(path, error);
}

enum akin_status catalog_write_item_vectors(const struct catalog *c, const char *model,
                                            const char *precision, const float *vectors,
                                            size_t dim, struct akin_error *error)
{
    struct file_writer *data = NULL, *metadata = NULL, *description = NULL;
    size_t shape[] = { c->count, dim }, floats, bytes;
    enum akin_status status = AKIN_OK;
    if (!size_mul(c->count, dim, &floats) || !size_mul(floats, sizeof *vectors, &bytes))
        return error_memory(error);
    TRY(make_folder(c, "media", error));
    TRY_DONE(open_writer(c, "media/content_vectors.npy", &data, error));
    TRY_DONE(open_writer(c, "media/metadata.jsonl", &metadata, error));
    TRY_DONE(open_writer(c, "model.json", &description, error));
    TRY_DONE(npy_write_header(data, "'<f4'", 2, shape, error));
    TRY_DONE(file_writer_write(data, vectors, bytes, error));
    TRY_DONE(write_metadata(c, metadata, error));
    TRY_DONE(write_model(c, description, model, precision, dim, error));
    TRY_DONE(file_writer_patch(metadata, 0, "", 0, error));     /* a full disk shows here, before */
    TRY_DONE(file_writer_patch(description, 0, "", 0, error));  /* anything has been replaced */
    TRY_DONE(remove_file(c, "users/preference_vectors.npy", error));
    TRY_DONE(remove_file(c, "users/user_ids.json", error));
    TRY_DONE(file_writer_commit(&data, error));
    TRY_DONE(file_writer_commit(&metadata, error));
    TRY_DONE(file_writer_commit(&description, error));
done:
    file_writer_abort(&data);
    file_writer_abort(&metadata);
    file_writer_abort(&description);
    return status;
}

/* u [dim] of one user; false: the weights are all 0. `sum` [dim] is scratch. */
static bool user_vector(const struct catalog *c, const struct catalog_user *user,
                        const float *vectors, size_t dim, double *sum, float *u)
{
    double weights = 0;
    memset(sum, 0, dim * sizeof *sum);
    for (size_t i = 0; i < user->count; i++) {
        const struct akin_rating *rating = &c->ratings[user->first + i];
        const float *v = vectors + (size_t)rating->row * dim;
        double weight = (double)rating->rating / c->rating_max;
        weights += weight;
        for (size_t d = 0; d < dim; d++)
            sum[d] += weight * v[d];
    }
    for (size_t d = 0; weights > 0 && d < dim; d++)
        u[d] = (float)(sum[d] / weights);
    return weights > 0;
}

/* Users whose vectors are computed together, by the threads of the pool, and then written in their
 * order. */
struct user_block {
    const struct catalog *catalog;
    const float *vectors;       /* [items][dim] */
    size_t dim, first, count, capacity;
    float *u;                   /* [capacity][dim] */
    bool *has;                  /* [capacity] */
    double *sums;               /* [threads][dim] */
};

enum { USER_BLOCK_BYTES = 4 << 20, USER_BLOCK_MAX = 1024 };

static enum akin_status user_block_init(struct user_block *block, int threads,
                                        struct akin_error *error)
{
    size_t fit = USER_BLOCK_BYTES / (block->dim * sizeof *block->u);
    block->capacity = fit < 1 ? 1 : fit < USER_BLOCK_MAX ? fit : USER_BLOCK_MAX;
    block->u = memory_alloc_aligned(block->capacity, block->dim * sizeof *block->u);
    block->has = memory_alloc(block->capacity, sizeof *block->has);
    block->sums = memory_alloc_aligned((size_t)threads, block->dim * sizeof *block->sums);
    return block->u && block->has && block->sums ? AKIN_OK : error_memory(error);
}

static void user_block_deinit(struct user_block *block)
{
    memory_free(block->u);
    memory_free(block->has);
    memory_free(block->sums);
}

static void compute_user(void *context, size_t i, int worker)
{
    struct user_block *b = context;
    b->has[i] = user_vector(b->catalog, &b->catalog->users[b->first + i], b->vectors, b->dim,
                            b->sums + (size_t)worker * b->dim, b->u + i * b->dim);
}

static enum akin_status write_block(const struct user_block *block, struct bytes *line,
                                    struct file_writer *data, struct file_writer *ids,
                                    size_t *written, struct akin_error *error)
{
    for (size_t i = 0; i < block->count; i++) {
        const char *id = block->catalog->users[block->first + i].id;
        if (!block->has[i])
            continue;
        bytes_clear(line);
        bytes_append_text(line, *written ? ", " : "[");
        json_append_string(line, id, strlen(id));
        if (line->failed)
            return error_memory(error);
        TRY(file_writer_write(ids, line->data, line->count, error));
        TRY(file_writer_write(data, block->u + i * block->dim, block->dim * sizeof *block->u,
                              error));
        ++*written;
    }
    return AKIN_OK;
}

/* Vectors of all users to `data`, their ids to `ids`. *written: how many have one. */
static enum akin_status write_users(struct thread_pool *pool, const struct catalog *c,
                                    const float *vectors, size_t dim,
                                    struct akin_progress progress, struct file_writer *data,
                                    struct file_writer *ids, size_t *written,
                                    struct akin_error *error)
{
    struct user_block block = { .catalog = c, .vectors = vectors, .dim = dim };
    struct bytes line = { 0 };
    enum akin_status status = user_block_init(&block, pool ? thread_pool_size(pool) : 1, error);
    *written = 0;
    for (; status == AKIN_OK && block.first < c->user_count; block.first += block.count) {
        size_t left = c->user_count - block.first;
        block.count = left < block.capacity ? left : block.capacity;
        if (progress.update &&
            !progress.update(progress.cookie, "users", block.first, c->user_count))
            TRY_DONE(error_set(error, AKIN_CANCELLED, "stopped; no user vectors were written"));
        if (pool)
            thread_pool_each(pool, block.count, compute_user, &block);
        for (size_t i = 0; !pool && i < block.count; i++)
            compute_user(&block, i, 0);
        status = write_block(&block, &line, data, ids, written, error);
    }
    if (status == AKIN_OK)
        status = file_writer_write(ids, *written ? "]\n" : "[]\n", *written ? 2 : 3, error);
done:
    user_block_deinit(&block);
    bytes_deinit(&line);
    return status;
}

/* Users with ratings whose weights do not sum to 0: what the header must say beforehand. */
static size_t count_users(const struct catalog *c)
{
    size_t count = 0;
    for (size_t i = 0; i < c->user_count; i++) {
        bool weighted = false;
        for (size_t r = 0; r < c->users[i].count && !weighted; r++)
            weighted = (double)c->ratings[c->users[i].first + r].rating / c->rating_max > 0;
        count += weighted;
    }
    return count;
}

enum akin_status catalog_write_user_vectors(const struct catalog *c, const float *vectors,
                                            size_t dim, struct akin_progress progress,
                                            size_t *users, size_t *users_without_items,
                                            struct akin_error *error)
{
    return catalog_write_user_vectors_on(NULL, c, vectors, dim, progress, users,
                                         users_without_items, error);
}

enum akin_status catalog_write_user_vectors_on(struct thread_pool *pool, const struct catalog *c,
                                               const float *vectors, size_t dim,
                                               struct akin_progress progress, size_t *users,
                                               size_t *users_without_items,
                                               struct akin_error *error)
{
    struct file_writer *data = NULL, *ids = NULL;
    size_t shape[] = { count_users(c), dim }, written;
    enum akin_status status = AKIN_OK;
    TRY(make_folder(c, "users", error));
    TRY_DONE(open_writer(c, "users/preference_vectors.npy", &data, error));
    TRY_DONE(open_writer(c, "users/user_ids.json", &ids, error));
    TRY_DONE(npy_write_header(data, "'<f4'", 2, shape, error));
    TRY_DONE(write_users(pool, c, vectors, dim, progress, data, ids, &written, error));
    ASSERT(written == shape[0]);
    TRY_DONE(file_writer_patch(ids, 0, "", 0, error));
    TRY_DONE(file_writer_commit(&data, error));
    TRY_DONE(file_writer_commit(&ids, error));
    if (users)
        *users = written;
    if (users_without_items)
        *users_without_items = c->user_count - written;
done:
    file_writer_abort(&data);
    file_writer_abort(&ids);
    return status;
}
