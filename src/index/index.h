/* Words that all of index/ shares. What an index does is in collection.h. */
#pragma once

#include "akin/index.h"
#include "base/status.h"

enum { INDEX_DIMENSION_MAX = 4096 };

/* "inner-product" (also "ip", "dot"), "cosine" (also "cos"), "l2" (also "euclidean"). */
const char *index_metric_name(enum akin_metric metric);
bool index_metric_parse(const char *name, enum akin_metric *metric);

/* "fp32", "fp16", "int8". */
const char *index_storage_name(enum akin_storage storage);
bool index_storage_parse(const char *name, enum akin_storage *storage);

/* The bytes of a file alone, of any version; collection_check also asks what they mean. */
enum akin_status index_check(const char *path, struct akin_error *error);
