/* One HTTP GET at a time with libcurl: into memory, or into a file that is continued where an
 * earlier attempt broke off. Redirects are followed to http and https only; what breaks off or
 * stalls is tried again with growing pauses. Knows sizes, not checksums. */
#pragma once

#include "akin/engine.h"
#include "base/memory.h"
#include "base/status.h"

struct downloader;

struct downloader_settings {
    int retries;                /* after the first attempt, per call */
    int stall_seconds;          /* without a byte; then the attempt counts as broken off */
    struct akin_progress progress;
};

enum akin_status downloader_create(const struct downloader_settings *settings,
                                   struct downloader **downloader, struct akin_error *error);
void downloader_destroy(struct downloader **downloader);

/* `text` percent-encoded; free with memory_free; NULL: memory ran out. */
char *download_escape(struct downloader *downloader, const char *text);

/* The body into `out`, at most bytes_max. Errors: AKIN_NETWORK (with the URL and the reason),
 * AKIN_NOT_FOUND (404), AKIN_LIMIT, AKIN_CANCELLED. */
enum akin_status download_text(struct downloader *downloader, const char *url, const char *stage,
                               size_t bytes_max, struct bytes *out, struct akin_error *error);

/* Brings the file at `path` to exactly `bytes` bytes and makes it durable; what it holds already is
 * kept and continued where the server can. The same errors, and AKIN_IO, and AKIN_FORMAT when the
 * server has more bytes than that. On failure the file stays, to be continued. */
enum akin_status download_file(struct downloader *downloader, const char *url, const char *stage,
                               const char *path, uint64_t bytes, struct akin_error *error);
