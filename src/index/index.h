/* Words that all of index/ shares. What an index does is in collection.h. */
#pragma once

#include "akin/index.h"
#include "base/status.h"

enum { INDEX_DIMENSION_MAX = 4096 };

/* "inner-product" (also "ip", "dot"), "cosine" (also "cos"), "l2" (also "euclidean"). */
const char *index_metric_name(enum akin_metric metric);
bool index_metric_parse(const char *name, enum akin_metric *metric);

void index_settings_default(struct akin_index_settings *settings);
enum akin_status index_build(const char *path, const float *vectors, const int64_t *ids,
                             size_t count, size_t dimension,
                             const struct akin_index_settings *settings, struct akin_error *error);
/* The bytes of a file alone, of any version; collection_check also asks what they mean. */
enum akin_status index_check(const char *path, struct akin_error *error);
