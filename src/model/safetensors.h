/* The safetensors file format, read-only: eight bytes of header length (little-endian), a JSON
 * object of tensors, then their bytes. Nothing in the file is trusted: every size and offset is
 * checked before it is used, and errors name the file and the tensor. Format:
 * https://github.com/huggingface/safetensors (we do not ask that the tensors fill the whole data
 * part, so that a missing tensor is reported by its name). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "compute/backend.h"

enum { SAFETENSORS_DIMS_MAX = 8 };

/*    type  bytes  name */
#define SAFETENSORS_TYPES(X)                                                         \
    X(BOOL, 1) X(U8, 1) X(I8, 1) X(F8_E5M2, 1) X(F8_E4M3, 1) X(U16, 2) X(I16, 2)     \
    X(F16, 2) X(BF16, 2) X(U32, 4) X(I32, 4) X(F32, 4) X(U64, 8) X(I64, 8) X(F64, 8)

enum safetensors_type {
#define X(name, bytes) SAFETENSORS_##name,
    SAFETENSORS_TYPES(X)
#undef X
    SAFETENSORS_TYPE_COUNT
};

struct safetensors_tensor {
    const char *name;
    enum safetensors_type type;
    size_t dims;
    size_t shape[SAFETENSORS_DIMS_MAX];
    size_t elements;
    const unsigned char *data;  /* of any alignment */
    size_t bytes;
};

struct safetensors;

/* Maps the file. Errors: AKIN_NOT_FOUND, AKIN_IO, AKIN_FORMAT, AKIN_LIMIT, AKIN_MEMORY. */
enum akin_status safetensors_open(const char *path, struct safetensors **file,
                                  struct akin_error *error);
/* The same for bytes in memory, which must outlive it; `path` is for errors. */
enum akin_status safetensors_parse(const void *bytes, size_t count, const char *path,
                                   struct safetensors **file, struct akin_error *error);
/* Gives memory back once most tensors have been copied; those used later are read again. */
void safetensors_release(const struct safetensors *file);
void safetensors_close(struct safetensors **file);

const char *safetensors_path(const struct safetensors *file);
size_t safetensors_file_bytes(const struct safetensors *file);
size_t safetensors_count(const struct safetensors *file);
const struct safetensors_tensor *safetensors_at(const struct safetensors *file, size_t i);
/* NULL where there is none of that name. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name);

/* A text of __metadata__; NULL where there is none of that key. Valid until the file is closed. */
const char *safetensors_metadata(const struct safetensors *file, const char *key);

const char *safetensors_type_name(enum safetensors_type type);
size_t safetensors_type_bytes(enum safetensors_type type);      /* of one number */
/* The element type of a tensor that can be computed with: F32, F16, BF16; false for others. */
bool safetensors_element_type(const struct safetensors_tensor *tensor, enum element_type *type);

/* Tensor `name` as a matrix [rows][cols], rows 1 for a vector [cols]. AKIN_FORMAT: there is none,
 * or its shape is another; AKIN_UNSUPPORTED: its type is none of F32, F16, BF16. */
enum akin_status safetensors_matrix(const struct safetensors *file, const char *name, size_t rows,
                                    size_t cols, struct host_matrix *matrix,
                                    struct akin_error *error);
