/* Writing and reading DATA/taste. */
#include "recommend/taste_store.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/npy.h"
#include "catalog/catalog.h"
#include "recommend/graph_store.h"
#include "recommend/reranker_store.h"

enum { FORMAT = 2, WEIGHTS_FORMAT = 2, WEIGHT_MAX = 1000 };
enum { COUNTS = 3 };            /* numbers of an item in popularity.npy */

/* The tables of rows by their names in the folder. */
static const struct {
    const char *name;
    size_t offset;
} row_files[] = {
    { "local", offsetof(struct taste, local) },
    { "next", offsetof(struct taste, next) },
    { "back", offsetof(struct taste, back) },
    { "ease", offsetof(struct taste, ease) },
};

enum { ROW_FILES = sizeof row_files / sizeof *row_files };

static struct taste_rows *rows_of(const struct taste *taste, size_t table)
{
    return (struct taste_rows *)((char *)(uintptr_t)taste + row_files[table].offset);
}

/* Row numbers are what a taste speaks in, so it belongs to these ids in this order. */
static uint64_t fingerprint(const struct catalog *catalog)
{
    uint64_t hash = 0;
    for (size_t row = 0; row < catalog_item_count(catalog); row++) {
        struct akin_item item;
        catalog_item(catalog, row, &item);
        hash = hash_bytes_seed(item.id, strlen(item.id), hash);
    }
    return hash;
}

/* ---- writing ----------------------------------------------------------------------------- */

static enum akin_status write_array(const char *folder, const char *name, const char *suffix,
                                    const char *descr, size_t rows, size_t cols, size_t bytes,
                                    const void *data, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], file[64];
    size_t shape[2] = { rows, cols };
    snprintf(file, sizeof file, "%s%s.npy", name, suffix);
    TRY(path_join(path, sizeof path, folder, file, error));
    return npy_write(path, descr, cols ? 2 : 1, shape, data, rows * (cols ? cols : 1) * bytes,
                     error);
}

static enum akin_status write_sequence(const struct sequence_model *model, const char *folder,
                                       struct akin_error *error)
{
    size_t wide = model->dim + 1;
    float *output = memory_alloc(model->items, wide * sizeof *output);
    if (!output)
        return error_memory(error);
    for (size_t i = 0; i < model->items; i++)
        for (size_t d = 0; d < wide; d++)
            output[i * wide + d] = *sequence_output(model, i, d);
    float scale[SEQUENCE_HEADS * SEQUENCE_DIM_MAX];
    for (size_t h = 0; h < SEQUENCE_HEADS; h++)
        memcpy(scale + h * model->dim, model->scale[h], model->dim * sizeof *scale);
    enum akin_status status = write_array(folder, "sequence", "_output", "'<f4'", model->items,
                                          wide, sizeof *output, output, error);
    if (status == AKIN_OK)
        status = write_array(folder, "sequence", "_history", "'<f4'", model->items, model->dim,
                             sizeof(float), model->history, error);
    if (status == AKIN_OK)
        status = write_array(folder, "sequence", "_scale", "'<f4'", SEQUENCE_HEADS, model->dim,
                             sizeof(float), scale, error);
    memory_free(output);
    return status;
}

static enum akin_status write_popularity(const struct taste *t, const char *folder,
                                         struct akin_error *error)
{
    double *counts = memory_alloc(t->item_count, COUNTS * sizeof *counts);
    if (!counts)
        return error_memory(error);
    for (size_t i = 0; i < t->item_count; i++) {
        counts[COUNTS * i] = t->chosen[i];
        counts[COUNTS * i + 1] = t->recently[i];
        counts[COUNTS * i + 2] = t->first[i];
    }
    enum akin_status status = write_array(folder, "popularity", "", "'<f8'", t->item_count, COUNTS,
                                          sizeof *counts, counts, error);
    memory_free(counts);
    return status;
}

static enum akin_status write_model(const struct taste *t, const char *folder,
                                    const struct catalog *catalog, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes text = { 0 };
    TRY(path_join(path, sizeof path, folder, "model.json", error));
    bytes_printf(&text,
                 "{\"format\": %d, \"items\": %zu, \"size\": %zu, \"events\": %zu, \"width\": %zu, "
                 "\"dimension\": %zu, \"catalogue\": \"%016" PRIx64 "\"}\n",
                 FORMAT, t->item_count, t->size, t->events, t->local.width, t->sequence.dim,
                 fingerprint(catalog));
    enum akin_status status =
        text.failed ? error_memory(error) : file_write(path, text.data, text.count, error);
    bytes_deinit(&text);
    return status;
}

/* ---- weights ----------------------------------------------------------------------------- */

static const char *const context_names[] = { "goes_on", "comes_back" };

enum { CONTEXTS = sizeof context_names / sizeof *context_names };

/* Nine digits are enough for any float. */
static enum akin_status write_weights(const struct taste *t, const char *folder,
                                      struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct bytes text = { 0 };
    TRY(path_join(path, sizeof path, folder, "weights.json", error));
    bytes_printf(&text, "{\"format\": %d, \"query\": %.9g", WEIGHTS_FORMAT,
                 (double)t->query_weight);
    for (size_t c = 0; c < CONTEXTS; c++) {
        bytes_printf(&text, ",\n \"%s\": {\"text\": %.9g", context_names[c],
                     (double)t->weights[c].text);
        for (int p = 0; p < TASTE_PARTS; p++)
            bytes_printf(&text, ", \"%s\": %.9g", taste_part_name((enum taste_part)p),
                         (double)t->weights[c].part[p]);
        bytes_append_text(&text, "}");
    }
    bytes_append_text(&text, "}\n");
    enum akin_status status =
        text.failed ? error_memory(error) : file_write(path, text.data, text.count, error);
    bytes_deinit(&text);
    return status;
}

static enum akin_status read_weight(const json_t *object, const char *key, const char *path,
                                    float *weight, struct akin_error *error)
{
    double value = 0;
    TRY(json_get_number(object, key, path, &value, error));
    if (!(fabs(value) <= WEIGHT_MAX))
        return error_set(error, AKIN_FORMAT, "%s: %s: %g is out of range; run akin fit again", path,
                         key, value);
    *weight = (float)value;
    return AKIN_OK;
}

static enum akin_status read_all_weights(const json_t *root, const char *path, struct taste *t,
                                         struct akin_error *error)
{
    int64_t format = 0;
    TRY(json_get_integer(root, "format", path, &format, error));
    if (format != WEIGHTS_FORMAT)
        return error_set(error, AKIN_FORMAT,
                         "%s: format %lld, this program reads %d; run akin fit", path,
                         (long long)format, WEIGHTS_FORMAT);
    TRY(read_weight(root, "query", path, &t->query_weight, error));
    if (t->query_weight < 0 || t->query_weight > 1)
        return error_set(error, AKIN_FORMAT, "%s: query: not from 0 to 1; run akin fit again",
                         path);
    for (size_t c = 0; c < CONTEXTS; c++) {
        const json_t *weights = json_object_get(root, context_names[c]);
        if (!json_is_object(weights))
            return error_set(error, AKIN_FORMAT, "%s: %s is missing; run akin fit again", path,
                             context_names[c]);
        TRY(read_weight(weights, "text", path, &t->weights[c].text, error));
        for (int p = 0; p < TASTE_PARTS; p++)
            TRY(read_weight(weights, taste_part_name((enum taste_part)p), path,
                            &t->weights[c].part[p], error));
    }
    return AKIN_OK;
}

static enum akin_status read_weights(const char *folder, struct taste *t, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    json_t *root;
    TRY(path_join(path, sizeof path, folder, "weights.json", error));
    TRY(json_read(path, 1 << 16, &root, error));
    enum akin_status status = read_all_weights(root, path, t, error);
    json_decref(root);
    return status;
}

/* ---- all files --------------------------------------------------------------------------- */

static enum akin_status write_files(const struct taste *t, const char *folder,
                                    const struct catalog *catalog, struct akin_error *error)
{
    TRY(write_array(folder, "items", "", "'<i4'", t->size, 0, sizeof *t->items, t->items, error));
    TRY(write_popularity(t, folder, error));
    for (size_t f = 0; f < ROW_FILES; f++) {
        const struct taste_rows *rows = rows_of(t, f);
        ASSERT(rows->columns && rows->width == t->local.width);
        TRY(write_array(folder, row_files[f].name, "_columns", "'<i4'", rows->items, rows->width,
                        sizeof *rows->columns, rows->columns, error));
        TRY(write_array(folder, row_files[f].name, "_values", "'<f4'", rows->items, rows->width,
                        sizeof *rows->values, rows->values, error));
    }
    TRY(write_sequence(&t->sequence, folder, error));
    TRY(write_weights(t, folder, error));
    return write_model(t, folder, catalog, error);
}

/* ---- the reranker ------------------------------------------------------------------------ */

enum { IDENTITY_BYTES = 40 };

/* Of the catalogue, and of the items among it that the model is of. */
static void identity_of(const struct taste *t, const struct catalog *catalog,
                        char identity[IDENTITY_BYTES])
{
    uint64_t chosen = hash_bytes_seed((const char *)t->items, t->size * sizeof *t->items, 0);
    snprintf(identity, IDENTITY_BYTES, "%016" PRIx64 "%016" PRIx64, fingerprint(catalog), chosen);
}

static enum akin_status write_reranker(const struct taste *t, const char *folder,
                                       const struct catalog *catalog, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], identity[IDENTITY_BYTES];
    if (!t->reranker.values)
        return AKIN_OK;
    TRY(path_join(path, sizeof path, folder, "reranker.safetensors", error));
    identity_of(t, catalog, identity);
    return reranker_write(&t->reranker, path, identity, error);
}

/* Where its weight says that it is of use, or where it knows what situations are worth. What is
 * wrong with it does not stop the rest: then it is left aside. */
static enum akin_status read_reranker(const struct kernels *kernels, const char *folder,
                                      const struct catalog *catalog, struct taste *t,
                                      struct akin_error *error)
{
    char path[PATH_BYTES_MAX], identity[IDENTITY_BYTES];
    bool wanted = false;
    for (size_t c = 0; c < CONTEXTS; c++)
        wanted |= t->weights[c].part[TASTE_ATTENTION] != 0;
    TRY(path_join(path, sizeof path, folder, "reranker.safetensors", error));
    if (!wanted && !path_exists(path))
        return AKIN_OK;
    identity_of(t, catalog, identity);
    enum akin_status status = reranker_read(kernels, path, identity, t->size, &t->reranker,
                                            &t->left_aside);
    if (status == AKIN_MEMORY)
        return error_memory(error);
    if (status == AKIN_OK) {
        t->parts |= TASTE_BIT(TASTE_ATTENTION);
        return AKIN_OK;
    }
    for (size_t c = 0; c < CONTEXTS; c++)
        t->weights[c].part[TASTE_ATTENTION] = 0;
    return AKIN_OK;
}

/* ---- the graph -------------------------------------------------------------------------- */

static enum akin_status write_graph(const struct taste *t, const char *folder,
                                    const struct catalog *catalog, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], identity[IDENTITY_BYTES];
    if (!t->graph)
        return AKIN_OK;
    TRY(path_join(path, sizeof path, folder, "graph.safetensors", error));
    snprintf(identity, sizeof identity, "%016" PRIx64, fingerprint(catalog));
    return graph_model_write(t->graph, path, identity, error);
}

/* Where there is one. What is wrong with it does not stop the rest: then it is left aside. */
static enum akin_status read_graph(const char *folder, const struct catalog *catalog,
                                   struct taste *t, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], identity[IDENTITY_BYTES];
    struct akin_catalog_info info;
    TRY(path_join(path, sizeof path, folder, "graph.safetensors", error));
    if (!path_exists(path))
        return AKIN_OK;
    catalog_info(catalog, &info);
    snprintf(identity, sizeof identity, "%016" PRIx64, fingerprint(catalog));
    t->graph = memory_alloc(1, sizeof *t->graph);
    if (!t->graph)
        return error_memory(error);
    enum akin_status status = graph_model_read(path, identity, t->item_count, info.dimension,
                                               t->graph, &t->graph_aside);
    if (status == AKIN_OK)
        return AKIN_OK;
    memory_free(t->graph);
    t->graph = NULL;
    return status == AKIN_MEMORY ? error_memory(error) : AKIN_OK;
}

enum akin_status taste_write(const struct taste *taste, const char *data,
                             const struct catalog *catalog, struct akin_error *error)
{
    char folder[PATH_BYTES_MAX], beside[PATH_BYTES_MAX];
    TRY(path_join(folder, sizeof folder, data, "taste", error));
    TRY(path_join(beside, sizeof beside, data, "taste.new", error));
    TRY(path_remove_tree(beside, error));
    TRY(path_make_folders(beside, error));
    enum akin_status status = write_files(taste, beside, catalog, error);
    if (status == AKIN_OK)
        status = write_reranker(taste, beside, catalog, error);
    if (status == AKIN_OK)
        status = write_graph(taste, beside, catalog, error);
    if (status == AKIN_OK)
        status = path_remove_tree(folder, error);
    if (status == AKIN_OK)
        status = path_rename(beside, folder, error);
    if (status == AKIN_OK)
        return path_sync_folder(folder, error);
    path_remove_tree(beside, NULL);
    return status;
}

/* ---- reading ----------------------------------------------------------------------------- */

struct reading {
    char folder[PATH_BYTES_MAX];
    struct taste *taste;
    size_t width, dimension;
};

/* A copy of an array of that type and shape. */
static enum akin_status read_array(const struct reading *r, const char *name, const char *suffix,
                                   enum npy_type type, size_t rows, size_t cols, size_t bytes,
                                   void **data, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], file[64];
    struct npy npy;
    snprintf(file, sizeof file, "%s%s.npy", name, suffix);
    TRY(path_join(path, sizeof path, r->folder, file, error));
    TRY(npy_open(path, &npy, error));
    enum akin_status status = AKIN_OK;
    if (npy.type != type || npy.dims != (cols ? 2 : 1) || npy.shape[0] != rows ||
        (cols && npy.shape[1] != cols) || npy.data_bytes != rows * (cols ? cols : 1) * bytes) {
        status = error_set(error, AKIN_FORMAT,
                           "%s: not the type and shape that model.json says; run akin fit again",
                           path);
    } else if (!(*data = memory_alloc(npy.data_bytes ? npy.data_bytes : 1, 1))) {
        status = error_memory(error);
    } else {
        memcpy(*data, npy.data, npy.data_bytes);
    }
    npy_close(&npy);
    return status;
}

static enum akin_status out_of_range(const struct reading *r, const char *name, const char *suffix,
                                     struct akin_error *error)
{
    return error_set(error, AKIN_FORMAT, "%s/%s%s.npy: a number out of range; run akin fit again",
                     r->folder, name, suffix);
}

static enum akin_status read_items(const struct reading *r, struct akin_error *error)
{
    struct taste *t = r->taste;
    double *counts = NULL;
    TRY(read_array(r, "items", "", NPY_INT32, t->size, 0, sizeof *t->items, (void **)&t->items,
                   error));
    for (size_t j = 0; j < t->size; j++)
        if (t->items[j] >= t->item_count || (j && t->items[j] <= t->items[j - 1]))
            return out_of_range(r, "items", "", error);
    TRY(read_array(r, "popularity", "", NPY_FLOAT64, t->item_count, COUNTS, sizeof *counts,
                   (void **)&counts, error));
    t->chosen = memory_alloc(t->item_count, sizeof *t->chosen);
    t->recently = memory_alloc(t->item_count, sizeof *t->recently);
    t->first = memory_alloc(t->item_count, sizeof *t->first);
    bool done = t->chosen && t->recently && t->first, sane = true;
    for (size_t i = 0; done && i < t->item_count; i++) {
        t->chosen[i] = counts[COUNTS * i];
        t->recently[i] = counts[COUNTS * i + 1];
        t->first[i] = counts[COUNTS * i + 2];
        sane &= t->chosen[i] >= 0 && t->recently[i] >= 0 && t->chosen[i] < 1e18 &&
                t->recently[i] < 1e18 && t->first[i] >= 0 && t->first[i] <= (double)t->events;
    }
    memory_free(counts);
    if (!sane)
        return out_of_range(r, "popularity", "", error);
    return done ? taste_derive(t, error) : error_memory(error);
}

static enum akin_status read_rows(const struct reading *r, size_t table, struct akin_error *error)
{
    struct taste_rows *rows = rows_of(r->taste, table);
    const char *name = row_files[table].name;
    size_t n = r->taste->size;
    TRY(read_array(r, name, "_columns", NPY_INT32, n, r->width, sizeof *rows->columns,
                   (void **)&rows->columns, error));
    for (size_t i = 0; i < n * r->width; i++)
        if (rows->columns[i] >= n)
            return out_of_range(r, name, "_columns", error);
    TRY(read_array(r, name, "_values", NPY_FLOAT32, n, r->width, sizeof *rows->values,
                   (void **)&rows->values, error));
    rows->items = n;
    rows->width = r->width;
    return AKIN_OK;
}

static enum akin_status read_sequence(const struct kernels *kernels, const struct reading *r,
                                      struct akin_error *error)
{
    struct sequence_model *model = &r->taste->sequence;
    size_t n = r->taste->size, dim = r->dimension;
    float *output = NULL, *history = NULL, *scale = NULL;
    TRY(sequence_model_init(kernels, n, dim, model, error));
    enum akin_status status = read_array(r, "sequence", "_output", NPY_FLOAT32, n, dim + 1,
                                         sizeof(float), (void **)&output, error);
    if (status == AKIN_OK)
        status = read_array(r, "sequence", "_history", NPY_FLOAT32, n, dim, sizeof(float),
                            (void **)&history, error);
    if (status == AKIN_OK)
        status = read_array(r, "sequence", "_scale", NPY_FLOAT32, SEQUENCE_HEADS, dim,
                            sizeof(float), (void **)&scale, error);
    for (size_t i = 0; status == AKIN_OK && i < n; i++)
        for (size_t d = 0; d <= dim; d++)
            *sequence_output(model, i, d) = output[i * (dim + 1) + d];
    if (status == AKIN_OK) {
        memcpy(model->history, history, n * dim * sizeof *history);
        for (size_t h = 0; h < SEQUENCE_HEADS; h++)
            memcpy(model->scale[h], scale + h * dim, dim * sizeof *scale);
    }
    memory_free(output);
    memory_free(history);
    memory_free(scale);
    return status;
}

static enum akin_status read_model(struct reading *r, const struct catalog *catalog,
                                   struct akin_error *error)
{
    char path[PATH_BYTES_MAX], ids[24];
    json_t *root;
    int64_t format = 0, items = 0, size = 0, events = 0, width = 0, dimension = 0;
    const char *catalogue = "";
    TRY(path_join(path, sizeof path, r->folder, "model.json", error));
    if (!path_exists(path))
        return error_set(error, AKIN_NOT_FOUND, "%s: no taste has been learned; run akin fit",
                         path);
    TRY(json_read(path, 1 << 16, &root, error));
    const struct {
        const char *key;
        int64_t *value;
    } numbers[] = { { "format", &format }, { "items", &items }, { "size", &size },
                    { "events", &events }, { "width", &width }, { "dimension", &dimension } };
    enum akin_status status = json_get_string(root, "catalogue", path, &catalogue, error);
    for (size_t i = 0; status == AKIN_OK && i < sizeof numbers / sizeof *numbers; i++)
        status = json_get_integer(root, numbers[i].key, path, numbers[i].value, error);
    snprintf(ids, sizeof ids, "%016" PRIx64, fingerprint(catalog));
    if (status == AKIN_OK && format != FORMAT)
        status =
            error_set(error, AKIN_FORMAT, "%s: format %lld, this program reads %d; run akin fit",
                      path, (long long)format, FORMAT);
    if (status == AKIN_OK &&
        (items != (int64_t)catalog_item_count(catalog) || strcmp(catalogue, ids)))
        status = error_set(error, AKIN_FORMAT,
                           "%s: learned from a catalogue of other items; run akin fit", path);
    if (status == AKIN_OK &&
        (size < 1 || size > items || events < 1 || width < 1 || width > size || dimension < 1 ||
         dimension > SEQUENCE_DIM_MAX))
        status = error_set(error, AKIN_FORMAT, "%s: a size out of range; run akin fit", path);
    json_decref(root);
    if (status != AKIN_OK)
        return status;
    r->taste->item_count = (size_t)items;
    r->taste->size = (size_t)size;
    r->taste->events = (size_t)events;
    r->taste->parts = TASTE_BIT(TASTE_ATTENTION) - 1;
    r->width = (size_t)width;
    r->dimension = (size_t)dimension;
    return AKIN_OK;
}

enum akin_status taste_open(const struct kernels *kernels, const char *data,
                            const struct catalog *catalog, struct taste **taste,
                            struct akin_error *error)
{
    struct reading r = { 0 };
    TRY(path_join(r.folder, sizeof r.folder, data, "taste", error));
    r.taste = memory_alloc(1, sizeof *r.taste);
    if (!r.taste)
        return error_memory(error);
    enum akin_status status = read_model(&r, catalog, error);
    if (status == AKIN_OK)
        status = read_items(&r, error);
    for (size_t f = 0; status == AKIN_OK && f < ROW_FILES; f++)
        status = read_rows(&r, f, error);
    if (status == AKIN_OK)
        status = read_sequence(kernels, &r, error);
    if (status == AKIN_OK)
        status = read_weights(r.folder, r.taste, error);
    if (status == AKIN_OK)
        status = read_reranker(kernels, r.folder, catalog, r.taste, error);
    if (status == AKIN_OK)
        status = read_graph(r.folder, catalog, r.taste, error);
    if (status == AKIN_OK)
        *taste = r.taste;
    else
        taste_destroy(&r.taste);
    return status;
}
