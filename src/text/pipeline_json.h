/* Reads the `normalizer` and `pre_tokenizer` fields of a tokenizer.json. */
#pragma once

#include "base/json.h"
#include "text/normalize.h"
#include "text/pretokenize.h"

/* Both take null or an absent field for "none", flatten Sequences, and append to their list; what
 * was appended before a failure is the caller's to free. `where` names the file. */
enum akin_status normalizers_from_json(const json_t *json, const char *where,
                                       struct normalizers *normalizers, struct akin_error *error);
enum akin_status pretokenizers_from_json(const json_t *json, const char *where,
                                         struct pretokenizers *pretokenizers,
                                         struct akin_error *error);

/* A field that must be a boolean. */
enum akin_status json_get_bool(const json_t *object, const char *key, const char *where,
                               bool *value, struct akin_error *error);
