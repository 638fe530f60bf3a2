/* The header of a safetensors file that is written: texts of __metadata__ first, then the tensors,
 * whose bytes follow in the same order. */
#pragma once

#include "base/file.h"
#include "model/safetensors.h"

struct safetensors_header {
    struct bytes text;          /* failed: no memory; put says so */
    uint64_t data_bytes;        /* of the tensors so far */
    int state;                  /* zero at first */
};

/* A text of __metadata__. Returns where it stands in the file, so that a text whose length stays
 * may be patched. No tensor may have been described. */
size_t safetensors_describe_text(struct safetensors_header *header, const char *key,
                                 const char *text);
void safetensors_describe_tensor(struct safetensors_header *header, const char *name,
                                 enum safetensors_type type, size_t dims, const size_t *shape);
/* Ends the header, padded to a multiple of 64 bytes, and writes it (writer NULL: nowhere). */
enum akin_status safetensors_put_header(struct safetensors_header *header,
                                        struct file_writer *writer, struct akin_error *error);
void safetensors_header_deinit(struct safetensors_header *header);
