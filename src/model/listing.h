/* The files of a model on a hub, as its listing names them, less what a text encoder does not need.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct listed_file {
    char *path;                 /* safe (checksums.h), of [A-Za-z0-9._/-] */
    uint64_t bytes;
    char oid[65];               /* SHA-256 of the content (large files), or git's blob SHA-1 */
};

struct listing {
    struct listed_file *files;
    size_t count, capacity;
};

/* Reads the listing's JSON; `where` is for errors. AKIN_FORMAT: not such a listing, or a path that
 * leaves the folder; AKIN_NOT_FOUND, AKIN_UNSUPPORTED: a model that lacks what is needed. */
enum akin_status listing_parse(const char *text, size_t bytes, const char *where,
                               struct listing *listing, struct akin_error *error);
void listing_deinit(struct listing *listing);

/* Whether the content of `path` is the one listed. `sha256` receives its SHA-256 either way. */
enum akin_status listed_file_matches(const struct listed_file *file, const char *path,
                                     bool *matches, char sha256[65], struct akin_error *error);
