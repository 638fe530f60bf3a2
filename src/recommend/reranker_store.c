/* See reranker_store.h. */
#include "recommend/reranker_store.h"

#include <stdio.h>
#include <string.h>

#include "recommend/trained_file.h"

#define AGAIN "run akin fit --reranker again"
#define TERM_KEY "wanted.%zu"

enum { DIMENSION, WANTED, NUMBERS };

static const struct trained_number numbers[NUMBERS] = {
    { "dimension", 0, RERANKER_DIM_MAX },
    { "wanted", 0, RERANKER_DIM_MAX },
};
static const struct trained_kind kind = {
    "akin_reranker", RERANKER_FORMAT, "reranker", "trained on", AGAIN, numbers, NUMBERS,
};

/* All that is in the file: where nothing can be told, there is no tensor that says what matches. */
static size_t list_tensors(const struct reranker *r, struct trained_tensor *tensors)
{
    size_t count = 0;
    for (int t = 0; t < RERANKER_TENSORS; t++) {
        const struct reranker_place *at = &r->layout.at[t];
        if (t != RERANKER_MATCH || r->layout.wanted)
            tensors[count++] = (struct trained_tensor){
                reranker_tensor_name((enum reranker_tensor)t), SAFETENSORS_F32, at->cols ? 2 : 1,
                { at->rows, at->cols }, r->values + at->offset,
            };
    }
    return count;
}

enum akin_status reranker_write(const struct reranker *r, const char *path, const char *identity,
                                struct akin_error *error)
{
    struct safetensors_header header = { 0 };
    struct trained_tensor tensors[RERANKER_TENSORS];
    trained_describe(&kind, identity, (size_t[]){ r->layout.dim, r->layout.wanted }, &header);
    for (size_t w = 1; w <= r->layout.wanted; w++) {
        char key[32];
        snprintf(key, sizeof key, TERM_KEY, w);
        safetensors_describe_text(&header, key, r->names[w].text);
    }
    return trained_write(path, &header, tensors, list_tensors(r, tensors), error);
}

/* ---- reading ---------------------------------------------------------------------------- */

static enum akin_status read_names(const struct safetensors *file, struct reranker *r,
                                   struct akin_error *error)
{
    char key[32];
    for (size_t w = 1; w <= r->layout.wanted; w++) {
        snprintf(key, sizeof key, TERM_KEY, w);
        const char *name = safetensors_metadata(file, key);
        if (!name || !*name || strlen(name) >= SITUATION_TERM_BYTES)
            return error_set(error, AKIN_FORMAT, "%s: __metadata__: %s: no name of a situation; "
                             AGAIN, safetensors_path(file), key);
        snprintf(r->names[w].text, SITUATION_TERM_BYTES, "%s", name);
    }
    return AKIN_OK;
}

static enum akin_status read_all(const struct kernels *kernels, const struct safetensors *file,
                                 const char *identity, size_t items, struct reranker *r,
                                 struct akin_error *error)
{
    size_t found[NUMBERS];
    struct trained_tensor tensors[RERANKER_TENSORS];
    struct reranker_layout layout;
    struct akin_error why;
    TRY(trained_check(&kind, file, identity, found, error));
    if (reranker_lay_out(items, found[DIMENSION], found[WANTED], &layout, &why) != AKIN_OK)
        return error_set(error, AKIN_FORMAT, "%s: %s; " AGAIN, safetensors_path(file),
                         why.message);
    TRY(reranker_init(&layout, r, error));
    TRY(read_names(file, r, error));
    size_t count = list_tensors(r, tensors);
    for (size_t t = 0; t < count; t++)
        TRY(trained_read(&kind, file, &tensors[t], error));
    return reranker_derive(kernels, NULL, r, error);
}

enum akin_status reranker_read(const struct kernels *kernels, const char *path,
                               const char *identity, size_t items, struct reranker *reranker,
                               struct akin_error *error)
{
    struct safetensors *file;
    struct reranker made = { 0 };
    TRY(safetensors_open(path, &file, error));
    enum akin_status status = read_all(kernels, file, identity, items, &made, error);
    safetensors_close(&file);
    if (status == AKIN_OK)
        *reranker = made;
    else
        reranker_deinit(&made);
    return status;
}
