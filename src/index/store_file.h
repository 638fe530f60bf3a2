/* Inside of store*.c: the bytes of an .akx file of version 2, and what an open one keeps. */
#pragma once

#include "base/file_at.h"
#include "index/index_file.h"
#include "index/store.h"

enum {
    STORE_PAGE_BYTES = 4096,
    STORE_FRAME_MAGIC = 0x32584b41,     /* "AKX2" */
};

/* Page 0; the checksum stands in its last 8 bytes. */
struct store_header {
    unsigned char magic[8];     /* index_magic */
    uint32_t version;
    uint32_t metric;            /* enum akin_metric */
    uint64_t features_required; /* a bit that the reader does not know: refuse */
    uint64_t features_optional; /* a bit that the reader does not know: ignore */
    uint32_t element;           /* enum element_type */
    uint32_t dimension;
    uint64_t first_operation;
    uint64_t creation_bytes;
    uint64_t reserved[9];       /* zero */
    unsigned char creation[STORE_CREATION_BYTES_MAX];
    unsigned char zeros[STORE_PAGE_BYTES - 128 - STORE_CREATION_BYTES_MAX - 8];
    uint64_t checksum;          /* XXH3-64 of the page before it */
};

/* Mark n stands at the beginning of page 1 + n % 2; the rest of the page is zero. A page of its own
 * for each, so that writing one never makes the system write the other. */
struct store_mark {
    uint64_t number;
    uint64_t bytes;             /* of the file: the promise */
    uint64_t manifest;          /* offset of the newest one; 0: none */
    uint64_t operations;        /* number of the next operation */
    uint64_t reserved[3];       /* zero */
    uint64_t checksum;          /* of the bytes before it */
};

enum store_frame_type {
    STORE_ROWS = 1,
    STORE_DELETE = 2,
    STORE_SEGMENT = 3,
    STORE_DEAD = 4,
    STORE_MANIFEST = 5,
};

/* A frame begins on a multiple of 64 with this. Its blocks follow from byte 64, each on a multiple
 * of 64 with zeros behind; then the table: one store_entry for each block, one checksum for each
 * granule (STORE_GRANULE_BYTES of a block, the last one shorter), zeros up to a multiple of 64. */
struct store_frame {
    uint32_t magic;
    uint16_t type;              /* enum store_frame_type */
    uint16_t flags;             /* zero */
    uint64_t bytes;             /* of the whole frame */
    uint64_t operation;         /* ROWS, DELETE: number of the first; else of the next one */
    uint64_t rows;              /* ROWS, SEGMENT, DEAD: rows; DELETE: ids; MANIFEST: segments */
    uint64_t detail;            /* SEGMENT: kind; DEAD: dead rows; else zero */
    uint32_t block_count;
    uint32_t granule_count;
    uint64_t table_checksum;    /* XXH3-64 of the table */
    uint64_t checksum;          /* XXH3-64 of the header before it */
};

struct store_entry {
    uint32_t type;
    uint32_t flags;             /* zero */
    uint64_t offset;            /* from the beginning of the frame */
    uint64_t bytes;
    uint64_t granule;           /* number of its first checksum */
};

/* Block types of DEAD and MANIFEST frames. */
enum {
    STORE_BLOCK_DEAD_BITS = 1,  /* uint64 [(rows + 63) / 64] */
    STORE_BLOCK_DEAD_ROWS = 2,  /* uint32, ascending */
    STORE_BLOCK_MANIFEST = 1,   /* struct store_manifest, struct store_segment_ref [rows] */
    STORE_BLOCK_STATE = 2,      /* the caller's bytes */
};

struct store_manifest {
    uint64_t sealed;
    uint64_t replay;            /* no tail frame lies before this offset */
    uint64_t reserved[2];       /* zero */
};

_Static_assert(sizeof(struct store_header) == STORE_PAGE_BYTES, "as in the file");
_Static_assert(sizeof(struct store_mark) == 64, "as in the file");
_Static_assert(sizeof(struct store_frame) == 64, "as in the file");
_Static_assert(sizeof(struct store_entry) == 32, "as in the file");
_Static_assert(sizeof(struct store_manifest) == 32, "as in the file");
_Static_assert(sizeof(struct store_segment_ref) == 16, "as in the file");

/* ---- frames in memory (store_format.c) ---------------------------------------------------- */

/* A frame that was looked through: everything in it lies inside its bytes. */
struct store_frame_view {
    const unsigned char *data;
    struct store_frame header;
    const struct store_entry *entries;  /* [header.block_count] */
    const uint64_t *granules;           /* [header.granule_count] */
};

uint64_t store_table_bytes(uint64_t block_count, uint64_t granule_count);
uint64_t store_granules(uint64_t bytes);    /* in a block of `bytes` */
const char *store_frame_name(unsigned type);
void store_seal_frame(struct store_frame *frame, const void *table, size_t table_bytes);

enum akin_status store_check_header(const char *path, const struct store_header *header,
                                    struct akin_error *error);
bool store_mark_valid(const struct store_mark *mark, int slot);

/* The 64 bytes at file offset `at`, of a file of which `room` bytes are left from there. */
enum akin_status store_check_frame(const struct store *store, const struct store_frame *frame,
                                   uint64_t at, uint64_t room, struct akin_error *error);
/* The table of a frame whose header was accepted; fills `view`. The table is at `table`. */
enum akin_status store_check_table(const struct store *store, const struct store_frame *frame,
                                   uint64_t at, const unsigned char *table,
                                   struct store_frame_view *view, struct akin_error *error);
/* One granule of a block, as read. */
enum akin_status store_check_granule(const struct store *store, const struct store_frame_view *view,
                                     uint64_t at, size_t block, uint64_t granule,
                                     const unsigned char *data, struct akin_error *error);
/* All granules, and the zeros behind blocks, of a frame whose `data` is whole in memory. */
enum akin_status store_check_blocks(const struct store *store, const struct store_frame_view *view,
                                    uint64_t at, struct akin_error *error);
/* Header, table, and with `blocks` all the rest of a frame at `data`. */
enum akin_status store_view_frame(const struct store *store, const unsigned char *data, uint64_t at,
                                  uint64_t room, bool blocks, struct store_frame_view *view,
                                  struct akin_error *error);
enum akin_status store_damaged(const struct store *store, uint64_t at, struct akin_error *error,
                               const char *what);

/* ---- an open file ------------------------------------------------------------------------ */

/* A live ROWS or DELETE frame. */
struct store_tail_frame {
    uint64_t at, bytes, operation, count;
};

struct store {
    struct file_at file;
    char *target;                       /* its name once it appears; NULL: it has */
    bool writable;
    struct akin_error failure;          /* of a sync: every later write says so */
    struct store_settings settings;     /* `creation` points into header */
    struct store_header header;
    struct store_mark mark;             /* the newest one */
    bool dirty;                         /* something was appended since */
    bool streaming;                     /* a segment is being written straight into the file */
    uint64_t end;                       /* where the next frame goes */
    uint64_t next;                      /* number of the next operation */
    uint64_t manifest, manifest_bytes;  /* frame; 0: none */
    struct store_layout layout;         /* owned */
    uint64_t live_fixed;                /* bytes of the frames that the layout names, and its own */
    struct store_tail_frame *tail;      /* from layout.sealed on */
    size_t tail_count, tail_capacity;
    struct file_window old_file;        /* version 1: the whole file, and its parts */
    struct index_view old;
};

/* store_open.c */
/* Maps the frame at `at`, which must end before `end`; NULL-safe to close after a failure. */
enum akin_status store_read_frame(const struct store *store, uint64_t at, uint64_t end,
                                  struct file_window *window, struct store_frame_view *view,
                                  bool blocks, struct akin_error *error);
/* Reads a page's mark; *valid also says that the rest of the page is zero. */
enum akin_status store_read_mark(const struct file_at *file, int slot, struct store_mark *mark,
                                 bool *valid, struct akin_error *error);
/* A copy of `layout` becomes the store's, if its frames are segments and their dead rows and lie
 * before `end`. */
enum akin_status store_take_layout(struct store *store, const struct store_layout *layout,
                                   uint64_t end, struct akin_error *error);
void store_free_layout(struct store_layout *layout);
enum akin_status store_add_tail(struct store *store, uint64_t at, const struct store_frame *frame,
                                struct akin_error *error);

void store_take_header(struct store *store);

/* store_write.c */
enum akin_status store_writable(const struct store *store, struct akin_error *error);
enum akin_status store_write_mark(struct store *store, struct akin_error *error);
/* After a failure of which nobody knows what it left on the disk. */
enum akin_status store_give_up(struct store *store, const struct akin_error *failure,
                               struct akin_error *error);
