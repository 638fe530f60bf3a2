/* A learned graph on disk: a safetensors file, and in __metadata__ the version and the identity of
 * the items that it is of, in their order. */
#pragma once

#include "recommend/graph_model.h"

enum { GRAPH_FORMAT = 1 };

/* Whole or not at all. */
enum akin_status graph_model_write(const struct graph_model *model, const char *path,
                                   const char *identity, struct akin_error *error);
/* AKIN_NOT_FOUND; AKIN_FORMAT: of other items, another version or shape, damaged, a number that is
 * not finite; each with what to do about it. `dim`: of the texts. */
enum akin_status graph_model_read(const char *path, const char *identity, size_t items,
                                  size_t dim, struct graph_model *model,
                                  struct akin_error *error);
