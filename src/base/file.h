/* Files: read-only maps, lines, and writes that happen whole or not at all (temporary file beside
 * the target, fsync, rename, fsync of the folder). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/status.h"

/* ---- reading ---------------------------------------------------------------------------- */

struct file_map {
    const unsigned char *data;  /* not NUL-terminated; valid pointer even for an empty file */
    size_t bytes;
    bool mapped;
};

enum akin_status file_map_open(const char *path, struct file_map *map, struct akin_error *error);
void file_map_close(struct file_map *map);
/* Lets the system take back the memory of what was read so far; reading again brings it again. */
void file_map_release(const struct file_map *map);

/* The whole file, NUL added; AKIN_LIMIT above bytes_max. */
enum akin_status file_read(const char *path, size_t bytes_max, struct bytes *out,
                           struct akin_error *error);

/* Lines of a file, or of standard input for "-". A line may hold NULs; "\n" and "\r\n" end it; the
 * last one may lack an end. Memory grows to the longest line, at most LINE_BYTES_MAX. */
struct line_reader;

enum akin_status line_reader_open(const char *path, struct line_reader **reader,
                                  struct akin_error *error);
/* Sets *line (valid until the next call) and *bytes; *line NULL at the end of the file. */
enum akin_status line_reader_next(struct line_reader *reader, const char **line, size_t *bytes,
                                  struct akin_error *error);
uint64_t line_reader_number(const struct line_reader *reader);   /* of the last line, from 1 */
uint64_t line_reader_consumed(const struct line_reader *reader); /* bytes so far, for progress */
uint64_t line_reader_size(const struct line_reader *reader);     /* of the file; 0 if unknown */
void line_reader_close(struct line_reader **reader);

/* ---- writing ---------------------------------------------------------------------------- */

/* Nothing is visible under `path` until file_writer_commit; file_writer_abort (or a failed commit)
 * removes the temporary file. "-" writes to standard output as it comes. After a write failed,
 * later writes do nothing and commit reports the first failure. */
struct file_writer;

enum akin_status file_writer_open(const char *path, struct file_writer **writer,
                                  struct akin_error *error);
enum akin_status file_writer_write(struct file_writer *writer, const void *bytes, size_t count,
                                   struct akin_error *error);
/* Overwrites bytes already written, such as a header; not for "-". */
enum akin_status file_writer_patch(struct file_writer *writer, uint64_t offset, const void *bytes,
                                   size_t count, struct akin_error *error);
enum akin_status file_writer_commit(struct file_writer **writer, struct akin_error *error);
void file_writer_abort(struct file_writer **writer);    /* NULL is fine */

enum akin_status file_write(const char *path, const void *bytes, size_t count,
                            struct akin_error *error);

/* ---- paths ------------------------------------------------------------------------------ */

enum { PATH_BYTES_MAX = 4096 };

/* "a/b" into path[bytes]; AKIN_LIMIT when it does not fit. */
enum akin_status path_join(char *path, size_t bytes, const char *folder, const char *name,
                           struct akin_error *error);
bool path_exists(const char *path);
bool path_is_folder(const char *path);
const char *path_last(const char *path);    /* behind the last '/' */
/* When the file was last written, in nanoseconds since 1970. */
enum akin_status path_modified_ns(const char *path, int64_t *ns, struct akin_error *error);
/* Like mkdir -p. */
enum akin_status path_make_folders(const char *path, struct akin_error *error);
/* One file; absent is fine. */
enum akin_status path_remove(const char *path, struct akin_error *error);
enum akin_status path_remove_tree(const char *path, struct akin_error *error);
enum akin_status path_rename(const char *from, const char *to, struct akin_error *error);
/* Follows links to the file that a write should replace, into resolved[PATH_BYTES_MAX]; a name that
 * leads nowhere stays as it is. */
enum akin_status path_resolve(const char *path, char *resolved, struct akin_error *error);
/* Makes a rename to `path` (or a new file's name) durable: syncs the folder that it is in. */
enum akin_status path_sync_folder(const char *path, struct akin_error *error);
/* Everything written so far to the file system that `folder` is on: one wait for the disk, however
 * many files were made. */
enum akin_status path_sync_all(const char *folder, struct akin_error *error);
/* Names in a folder without "." and "..", sorted by bytes; free with names_deinit. */
struct names {
    char **items;
    size_t count, capacity;
};
enum akin_status path_list(const char *folder, struct names *names, struct akin_error *error);
void names_deinit(struct names *names);
