/* Narrowed weights kept beside a model, akin-int8.safetensors and akin-bf16.safetensors: what
 * `akin model quantize` writes, and what opening a model at that precision reads instead of the
 * encoder's float matrices. A safetensors file with the matrices as rows and their scales, so that
 * it fits any processor and any tool can look into it (docs/formats.md). Embedding tables, biases
 * and LayerNorms stay in model.safetensors: narrowing these would change bits.
 *
 * Such a file is never trusted: one that is damaged, of another version, or made from other weights
 * is left aside with a reason, and the model opens without it. */
#pragma once

#include "compute/stored.h"
#include "model/identity.h"

struct quantized;

/* "akin-int8.safetensors"; NULL where `precision` is not kept. */
const char *quantized_file_name(enum compute_precision precision);

/* Opens the file at `path`, made from the weights at `weights_path`. `thorough`: as weights_match.
 * AKIN_NOT_FOUND: there is none. AKIN_FORMAT: it cannot be used, and why. */
enum akin_status quantized_open(const char *path, const char *weights_path,
                                enum compute_precision precision, bool thorough,
                                struct quantized **file, struct akin_error *error);
void quantized_close(struct quantized **file);
void quantized_release(const struct quantized *file);   /* as safetensors_release */
uint64_t quantized_bytes(const struct quantized *file);

/* The matrix `name` [out][in], valid until the file is closed. AKIN_FORMAT: it is missing, of
 * another shape, or a scale is none. */
enum akin_status quantized_find(struct quantized *file, const char *name, size_t out, size_t in,
                                struct stored_linear *stored, struct akin_error *error);

/* ---- writing ---------------------------------------------------------------------------- */

/* The linears of a model, by name; borrowed. */
struct quantized_part {
    char name[192];
    const struct linear *linear;
};

/* Writes them whole or not at all; *checksum is XXH3 over the names and bytes of all tensors.
 * `path` NULL: only the checksum is wanted. */
enum akin_status quantized_write(const char *path, const struct weights_identity *weights,
                                 enum compute_precision precision,
                                 const struct quantized_part *parts, size_t count,
                                 uint64_t *checksum, struct akin_error *error);
