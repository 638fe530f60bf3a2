/* The sources of `akin watch`: each --source begins one, and what is said of a kind of source after
 * it belongs to the last one of that kind. */
#pragma once

#include "cli/cli.h"

struct watch_sources {
    struct akin_watch_source items[AKIN_WATCH_SOURCES_MAX];
    const char *match[AKIN_WATCH_SOURCES_MAX][32];
    size_t count;
    struct string_pool texts;
};

/* From the options of the command line; wrong use is told. */
enum akin_status watch_sources_read(struct cli *cli, struct watch_sources *sources);
void watch_sources_deinit(struct watch_sources *sources);

/* "10G", "512M", "1000000". false: not such a text. */
bool read_bytes(const char *text, uint64_t *bytes);
