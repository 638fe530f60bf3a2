/* Which weights something was made from: how what lies beside a model (narrowed weights, measured
 * precisions) knows that it still belongs to it, without reading all of them at every start.
 *
 * As in git's index: size, time of the last change and a sample of the bytes are compared first;
 * only where nothing but the time differs are all bytes read. The hashes are XXH3: they guard
 * against accidents and confusion, not against forgery. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct weights_identity {
    uint64_t bytes;
    int64_t modified_ns;
    uint64_t sample;        /* of blocks all over the file */
    uint64_t digest;        /* of all bytes */
};

/* `digest` false: all but the digest. */
enum akin_status weights_identify(const char *path, bool digest, struct weights_identity *identity,
                                  struct akin_error *error);
/* Whether the file at `path` is the one that `known` was taken from; `thorough`: all bytes are
 * compared, whatever the time says. */
enum akin_status weights_match(const struct weights_identity *known, const char *path,
                               bool thorough, bool *match, struct akin_error *error);

/* A number of 64 bits as sixteen hexadecimal digits, and back: false for anything else. */
void hex64_text(uint64_t value, char text[17]);
bool hex64_parse(const char *text, uint64_t *value);
