/* An open file at offsets: read, write, sync, cut, lock, map. Short transfers and interrupted calls
 * are gone on with; every error names the file. For files that change in place; those that are
 * written whole go through file_writer of file.h. */
#pragma once

#include "base/file.h"

struct file_at {
    int fd;                     /* -1: closed */
    char *path;
    bool direct;                /* reads go past the page cache, and only in whole blocks */
};

enum file_at_mode {
    FILE_AT_READ,
    FILE_AT_READ_DIRECT,        /* past the page cache where the file system can (O_DIRECT),
                                   otherwise as FILE_AT_READ: see `direct`. For
                                   file_at_read_blocks */
    FILE_AT_WRITE,
    FILE_AT_CREATE,             /* AKIN_BUSY when it exists */
    FILE_AT_UNNAMED,            /* `path` is a folder; the file goes away with its descriptor */
};

enum akin_status file_at_open(const char *path, enum file_at_mode mode, struct file_at *file,
                              struct akin_error *error);
void file_at_close(struct file_at *file);
/* The same open file, with its locks, under a descriptor of its own. */
enum akin_status file_at_share(const struct file_at *file, struct file_at *shared,
                               struct akin_error *error);

enum akin_status file_at_size(const struct file_at *file, uint64_t *bytes,
                              struct akin_error *error);
/* All of it: a file that ends before is AKIN_FORMAT. */
enum akin_status file_at_read(const struct file_at *file, uint64_t offset, void *data, size_t bytes,
                              struct akin_error *error);

/* The same through the whole blocks around it: `buffer` is aligned to FILE_BLOCK_BYTES and has room
 * for bytes + 2 * FILE_BLOCK_BYTES; *data is the byte asked for, inside of it. Where the file
 * system turns out to refuse direct reads, the file goes on without them. */
enum { FILE_BLOCK_BYTES = 4096 };
enum akin_status file_at_read_blocks(struct file_at *file, uint64_t offset, size_t bytes,
                                     unsigned char *buffer, const unsigned char **data,
                                     struct akin_error *error);

struct file_part {
    const void *data;
    size_t bytes;
};

/* The parts one behind the other. After a failure any part of it may have been written. */
enum akin_status file_at_write(const struct file_at *file, uint64_t offset,
                               const struct file_part *parts, size_t count,
                               struct akin_error *error);
enum akin_status file_at_sync(const struct file_at *file, struct akin_error *error);
/* Asks the system to begin with writing these bytes to the disk, for a sync to come. Promises
 * nothing. */
void file_at_begin_sync(const struct file_at *file, uint64_t offset, uint64_t bytes);
enum akin_status file_at_truncate(const struct file_at *file, uint64_t bytes,
                                  struct akin_error *error);
/* Copies inside or between files. */
enum akin_status file_at_copy(const struct file_at *from, uint64_t from_offset,
                              const struct file_at *to, uint64_t to_offset, uint64_t bytes,
                              struct akin_error *error);

/* An exclusive lock of this open file, gone when it is closed or its process ends. Does not wait:
 * AKIN_BUSY while another descriptor, of any process, has it. */
enum akin_status file_at_lock(const struct file_at *file, struct akin_error *error);
bool file_at_is_locked(const struct file_at *file);     /* by another descriptor */
/* The same, but waits; `shared` ones keep only exclusive ones out, and need a file open for
 * reading. */
enum akin_status file_at_wait_lock(const struct file_at *file, bool shared,
                                   struct akin_error *error);
void file_at_unlock(const struct file_at *file);
/* Permissions of `from` for `to`, as far as we may. */
void file_at_take_mode(const struct file_at *to, const struct file_at *from);
/* Whether the file's path still leads to it. */
bool file_at_is_current(const struct file_at *file);

/* A part of a file, mapped read-only; it outlives the descriptor. */
struct file_window {
    struct file_map map;
    const unsigned char *data;  /* the byte asked for, wherever the map begins */
    size_t bytes;
};

enum akin_status file_window_open(const struct file_at *file, uint64_t offset, size_t bytes,
                                  struct file_window *window, struct akin_error *error);
void file_window_close(struct file_window *window);
