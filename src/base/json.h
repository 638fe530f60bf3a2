/* JSON through jansson, with errors that name file, line and field. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

/* A JSON file of at most bytes_max. */
enum akin_status json_read(const char *path, size_t bytes_max, json_t **root,
                           struct akin_error *error);
/* One JSON text, such as a line; `where` ("items.jsonl:7") goes into the error. */
enum akin_status json_parse(const char *text, size_t bytes, const char *where, json_t **root,
                            struct akin_error *error);
/* The same, but a key that occurs twice in an object, or U+0000 in a string, is an error. */
enum akin_status json_parse_strict(const char *text, size_t bytes, const char *where,
                                   json_t **root, struct akin_error *error);

/* Field `key` of `object`; the error says "<where>: <key>: expected a string, found a number". */
enum akin_status json_get_string(const json_t *object, const char *key, const char *where,
                                 const char **value, struct akin_error *error);
enum akin_status json_get_integer(const json_t *object, const char *key, const char *where,
                                  int64_t *value, struct akin_error *error);
enum akin_status json_get_number(const json_t *object, const char *key, const char *where,
                                 double *value, struct akin_error *error);
/* The same, but an absent or null field leaves *value as it is. */
enum akin_status json_opt_string(const json_t *object, const char *key, const char *where,
                                 const char **value, struct akin_error *error);
enum akin_status json_opt_integer(const json_t *object, const char *key, const char *where,
                                  int64_t *value, struct akin_error *error);
enum akin_status json_opt_number(const json_t *object, const char *key, const char *where,
                                 double *value, struct akin_error *error);
enum akin_status json_opt_bool(const json_t *object, const char *key, const char *where,
                               bool *value, struct akin_error *error);

const char *json_type_name(const json_t *value);   /* "a string", "null", "absent" for NULL */

/* Appends `text` as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void json_append_string(struct bytes *out, const char *text, size_t bytes);
