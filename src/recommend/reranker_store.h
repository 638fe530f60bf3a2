/* A trained reranker on disk: a safetensors file with its tensors in float32, and in __metadata__
 * the version and the identity of the items that it is of. */
#pragma once

#include "recommend/reranker.h"

enum { RERANKER_FORMAT = 2 };

/* Whole or not at all. `identity`: of the items, in their order. */
enum akin_status reranker_write(const struct reranker *reranker, const char *path,
                                const char *identity, struct akin_error *error);
/* Derived. AKIN_NOT_FOUND; AKIN_FORMAT: of other items, another version or shape, damaged, a number
 * that is not finite; each with what to do about it. */
enum akin_status reranker_read(const struct kernels *kernels, const char *path,
                               const char *identity, size_t items, struct reranker *reranker,
                               struct akin_error *error);
