/* SHA256SUMS of a model folder, in the form of sha256sum(1): one "<hex>  <path>" per line, comments
 * behind '#'. The first comment says where the files came from. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

#define CHECKSUMS_FILE "SHA256SUMS"

struct checksum {
    char hex[65];
    char *path;                 /* below the folder */
};

struct checksums {
    bool found;                 /* the folder has such a file */
    char *source;               /* text of the first comment; NULL: none */
    struct checksum *items;
    size_t count, capacity;
};

/* A relative path without "..", empty parts, backslashes or control characters. */
bool path_is_safe(const char *path);

/* AKIN_FORMAT names the line. */
enum akin_status checksums_read(const char *folder, struct checksums *sums,
                                struct akin_error *error);
void checksums_deinit(struct checksums *sums);

/* Hashes file i and compares. AKIN_FORMAT: it differs; AKIN_NOT_FOUND: it is gone. */
enum akin_status checksums_verify(const char *folder, const struct checksums *sums, size_t i,
                                  struct akin_error *error);
