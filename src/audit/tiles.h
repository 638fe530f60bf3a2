/* Files of a log by their names, and the tiles among them: https://c2sp.org/tlog-tiles, tiles of
 * height 8, each level 8 heights above the one below, bundles of entries beside level 0. */
#pragma once

#include "audit/entry.h"
#include "audit/tree.h"
#include "base/file.h"

enum {
    TILE_WIDTH = 256,
    TILE_LEVELS = 8,
    TILE_ENTRIES = -1,              /* stands for the level of bundles */
    TILE_PATH_BYTES = 80,
    BUNDLE_BYTES_MAX = TILE_WIDTH * (ENTRY_LENGTH_BYTES + ENTRY_BYTES_MAX),
    FORMAT_VERSION = 1,
    FORMAT_BYTES_MAX = 1024,
};

/* "tile/0/x001/234.p/5" from the folder of the log; a width of 256 is a whole tile. */
void tile_path(char path[TILE_PATH_BYTES], int level, uint64_t number, size_t width);
/* The reverse; false for what tile_path would not write. */
bool tile_path_parse(const char *path, int *level, uint64_t *number, size_t *width);
/* How wide tile `number` of a level is in a tree of `size` leaves; 0: there is none. */
size_t tile_width(int level, uint64_t number, uint64_t size);
/* "records/17": a record that does not fit in its entry. */
void record_path(char path[TILE_PATH_BYTES], uint64_t index);
/* "checkpoints/17" */
void history_path(char path[TILE_PATH_BYTES], uint64_t size);
/* The number behind such a name: digits as printf would write them. */
bool parse_number_name(const char *name, uint64_t *number);

/* folder/name; error when too long. */
enum akin_status log_path(char path[PATH_BYTES_MAX], const char *folder, const char *name,
                          struct akin_error *error);

/* The first `width` hashes of a tile, from the file of that width or from the whole one. */
enum akin_status tile_read(const char *folder, int level, uint64_t number, size_t width,
                           struct tree_hash hashes[TILE_WIDTH], struct akin_error *error);
/* A bundle of exactly or at least `width` entries. */
enum akin_status bundle_read(const char *folder, uint64_t number, size_t width, struct bytes *out,
                             struct akin_error *error);
/* The tiles at the edge of the tree of `size` leaves, in a log that has `now`: who reads by that
 * checkpoint needs them, unless whole ones have replaced them. AKIN_FORMAT names a missing one. */
enum akin_status edge_check(const char *folder, uint64_t size, uint64_t now,
                            struct akin_error *error);
/* The record of a large entry, checked against its digest. */
enum akin_status record_file_open(const char *folder, uint64_t index, const struct entry *entry,
                             struct file_map *map, struct akin_error *error);

/* The file `format`: whether this is a log at all, its version, its origin. */
enum akin_status format_read(const char *folder,
                             char origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1],
                             struct akin_error *error);
void format_text(struct bytes *out, const char *origin);

/* Nodes of the tree of `size` leaves, from its tiles; remembers the last tile of each level. */
struct tile_nodes {
    const char *folder;
    uint64_t size;
    struct {
        bool known;
        uint64_t number;
        struct tree_hash hashes[TILE_WIDTH];
    } levels[TILE_LEVELS];
};

enum akin_status tile_nodes_get(void *tile_nodes, unsigned height, uint64_t index,
                                struct tree_hash *out, struct akin_error *error);
