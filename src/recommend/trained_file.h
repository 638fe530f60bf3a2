/* What the files of what was trained on a catalogue's items have in common: safetensors, whose
 * __metadata__ has a version, the identity of the items in their order, and numbers that the shapes
 * of the tensors follow from. */
#pragma once

#include "model/safetensors_write.h"

struct trained_number {
    const char *key;
    size_t least, most;
};

struct trained_kind {
    const char *key;            /* of the version */
    int version;
    const char *noun;           /* for errors: "graph" */
    const char *made;           /* "learned from": other items */
    const char *again;          /* what to do about a file that is none */
    const struct trained_number *numbers;
    size_t count;
};

struct trained_tensor {
    const char *name;
    enum safetensors_type type;
    size_t dims, shape[2];      /* one dimension or two */
    void *data;
};

/* Puts the version, the identity and the numbers [kind->count]; other texts may follow. */
void trained_describe(const struct trained_kind *kind, const char *identity, const size_t *numbers,
                      struct safetensors_header *header);
/* Writes the file, whole or not at all, and takes the header apart in either case. */
enum akin_status trained_write(const char *path, struct safetensors_header *header,
                               const struct trained_tensor *tensors, size_t count,
                               struct akin_error *error);

/* Checks the version and the identity, and reads the numbers. AKIN_FORMAT: they are others, or
 * numbers out of their bounds. */
enum akin_status trained_check(const struct trained_kind *kind, const struct safetensors *file,
                               const char *identity, size_t *numbers, struct akin_error *error);
/* Copies a tensor to tensor->data. AKIN_FORMAT: it is missing, of another type or shape, or one
 * of its numbers is not finite. */
enum akin_status trained_read(const struct trained_kind *kind, const struct safetensors *file,
                              const struct trained_tensor *tensor, struct akin_error *error);
