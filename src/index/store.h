/* One index file, .akx version 2 (docs/formats.md): what was promised is there after a kill or a
 * power loss, and what is damaged is said to be. This file knows frames, checksums and durability;
 * what rows, deletions and segments mean is for the layer above.
 *
 * A file is a header, two marks and, from byte STORE_FRAMES on, frames one behind the other:
 *
 *   ROWS      a batch of rows as it was added: ids, vectors, whatever blocks the caller adds
 *   DELETE    ids
 *   SEGMENT   blocks of one sealed segment, mapped and searched where they lie
 *   DEAD      which rows of one segment are dead
 *   MANIFEST  the live segments, each with its DEAD frame, and from which operation on the
 *             ROWS and DELETE frames, the tail, still count
 *
 * Operations, one for each row added and each id deleted, are numbered in order. SEGMENT and DEAD
 * frames mean nothing until a manifest names them, so that sealing or merging is one step: append
 * what is new, then store_publish a layout. Nothing is ever overwritten; store_compact gives back
 * what is dead.
 *
 * Promise: store_sync makes the frames durable (fdatasync), then writes the older of the two marks
 * (length of the file, manifest) and makes that durable. What lies below the newest mark was
 * promised: damage there is an error that names it. What lies behind it was not: readers ignore it,
 * the next store_open for writing cuts it off.
 *
 * Threads and processes: one writer (a second one is AKIN_BUSY), any number of readers. Calls on
 * one handle from one thread at a time, unless said otherwise. The file must be changed through
 * this interface only, or replaced by a rename: whoever cuts it short under a map makes its readers
 * die of SIGBUS, as with every mapped file. Sizes are checked when it is opened. */
#pragma once

#include "akin/index.h"
#include "base/status.h"
#include "compute/backend.h"
#include "index/segment.h"

enum {
    STORE_VERSION = 2,
    STORE_FRAMES = 3 * 4096,            /* where frames begin */
    STORE_GRANULE_BYTES = 1 << 20,      /* damage is named to within this */
    STORE_CREATION_BYTES_MAX = 3072,
};

/* Types of blocks that this file itself reads; others (segment.h) are only carried. */
enum store_block {
    STORE_BLOCK_VECTORS = 1,            /* [rows][dimension] of the element */
    STORE_BLOCK_IDS = 2,                /* int64 [rows] */
};

struct store;

/* What holds for the whole life of a file. */
struct store_settings {
    enum akin_metric metric;
    enum element_type element;          /* of vectors in ROWS frames; ELEMENT_F32 or ELEMENT_F16 */
    size_t dimension;
    uint64_t first_operation;           /* number of the first operation; 0 but for copies */
    const void *creation;               /* the caller's own bytes: kind, columns, seeds, ... */
    size_t creation_bytes;              /* up to STORE_CREATION_BYTES_MAX */
};

/* ---- opening ---------------------------------------------------------------------------- */

enum store_mode { STORE_READ, STORE_WRITE };

/* A new file, open for writing, that nobody sees before store_appear; closing it before then leaves
 * nothing behind, and what a killed process left behind is removed here. */
enum akin_status store_create(const char *path, const struct store_settings *settings,
                              struct store **store, struct akin_error *error);

/* Makes a new file durable and puts it in the place of whatever has its name. AKIN_BUSY while
 * another writer has the old one open; `old` (may be NULL) is the caller's own handle of the old
 * one, whose readers go on undisturbed, and which can be read but not written afterwards. */
enum akin_status store_appear(struct store *store, struct store *old, struct akin_error *error);

/* Renumbers a new file that has no operations yet. */
enum akin_status store_start_at(struct store *store, uint64_t operation, struct akin_error *error);
bool store_appeared(const struct store *store);     /* or never was a new file */

/* Reads the header, the marks, the manifest and the frame headers of the tail. For STORE_WRITE cuts
 * off what was not promised. AKIN_BUSY: another writer. AKIN_FORMAT: damage, with its offset. A
 * file of version 1 opens for reading, as one segment of vectors and ids; for writing it is
 * AKIN_UNSUPPORTED. */
enum akin_status store_open(const char *path, enum store_mode mode, struct store **store,
                            struct akin_error *error);
void store_close(struct store **store);  /* does not sync; maps of segments and tails live on */

/* A reader's look at what was promised since; *changed when there is something new, *replaced when
 * the name now belongs to another file (then open that one). Either may be NULL. After an error the
 * handle is as it was. */
enum akin_status store_refresh(struct store *store, bool *changed, bool *replaced,
                               struct akin_error *error);

/* What they point to lives as long as the handle, and until store_compact or store_refresh. */
const struct store_settings *store_settings(const struct store *store);
const char *store_path(const struct store *store);
uint32_t store_version(const struct store *store);

/* ---- reading ---------------------------------------------------------------------------- */

struct store_segment_ref {
    uint64_t frame;                     /* offset of its SEGMENT frame: its name in this file */
    uint64_t dead;                      /* offset of its DEAD frame; 0: none of its rows is dead */
};

/* What counts. */
struct store_layout {
    const struct store_segment_ref *segments;   /* in the caller's order */
    size_t segment_count;
    uint64_t sealed;                    /* operations below this number are in the segments */
    const void *state;                  /* the caller's own bytes, published with it */
    size_t state_bytes;
};

/* The newest published one, valid until the next store_publish, store_refresh or store_compact. */
const struct store_layout *store_layout(const struct store *store);

/* A segment where it lies in the file. Its memory stays until store_segment_close, whatever happens
 * to the store; search it from any thread. */
struct store_segment {
    uint64_t frame;
    uint32_t kind;                      /* as given to store_segment_end */
    size_t rows;
    uint64_t bytes;                     /* of the frame */
    struct segment_blocks blocks;
    const struct file_at *file;         /* of a large one, see store_segment_offset; or NULL */
    struct store_segment_memory *memory;
};

/* Maps the segment and checks header and table (not the blocks: store_check does). */
enum akin_status store_segment_open(const struct store *store, uint64_t frame,
                                    struct store_segment **segment, struct akin_error *error);
void store_segment_close(struct store_segment **segment);
/* The first block of a type; NULL when there is none. */
const struct segment_block *store_segment_find(const struct store_segment *segment, uint32_t type);

/* Where in `file` a block of a segment begins: to read what should not be held in memory. */
uint64_t store_segment_offset(const struct store_segment *segment,
                              const struct segment_block *block);

/* Sets a bit in dead [(rows + 63) / 64], which it clears first, for each dead row. */
enum akin_status store_read_dead(const struct store *store, uint64_t frame, size_t rows,
                                 uint64_t *dead, size_t *dead_count, struct akin_error *error);

/* The tail: ROWS and DELETE frames from layout.sealed on, in order. All of it is one map, and what
 * operations point to is valid until store_tail_close. */
struct store_operation {
    bool is_delete;
    uint64_t first;                     /* number of its first operation */
    size_t count;                       /* rows or ids; never 0 */
    const int64_t *ids;                 /* [count] */
    const void *vectors;                /* [count][dimension]; NULL for a delete */
    struct segment_blocks blocks;       /* every block of the frame, in the order given */
};

struct store_tail;
enum akin_status store_tail_open(const struct store *store, struct store_tail **tail,
                                 struct akin_error *error);
/* *more is false behind the last one. Checksums are verified: AKIN_FORMAT names the damage. */
enum akin_status store_tail_next(struct store_tail *tail, struct store_operation *operation,
                                 bool *more, struct akin_error *error);
void store_tail_close(struct store_tail **tail);

/* ---- writing ---------------------------------------------------------------------------- */
/* A failed append leaves the file as it was (AKIN_IO: disk full, ...) and may be tried again. After
 * a failed store_sync nobody knows what the disk holds: the handle refuses every later write with
 * AKIN_IO and the first failure's text. */

struct store_rows {
    const int64_t *ids;                 /* [count], 0 or larger */
    const void *vectors;                /* [count][dimension] of the element; finite */
    size_t count;
    const struct segment_block *extra;  /* keys, columns: block types other than the two above */
    size_t extra_count;
};

/* Written straight from the caller's memory. *first (may be NULL): number of the first operation.
 */
enum akin_status store_append_rows(struct store *store, const struct store_rows *rows,
                                   uint64_t *first, struct akin_error *error);
enum akin_status store_append_delete(struct store *store, const int64_t *ids, size_t count,
                                     uint64_t *first, struct akin_error *error);

/* A new segment, streamed. Its sink may be used on another thread while the store appends rows; it
 * goes to a file without a name and is copied in by store_segment_end, straight into the file while
 * that has not appeared (then nothing else may be appended before the end). */
struct store_segment_writer;
enum akin_status store_segment_begin(struct store *store, struct store_segment_writer **writer,
                                     struct akin_error *error);
/* The same, straight into the file whether it has appeared or not: nothing else may be appended
 * before the end. */
enum akin_status store_segment_begin_here(struct store *store,
                                          struct store_segment_writer **writer,
                                          struct akin_error *error);
struct segment_sink store_segment_sink(struct store_segment_writer *writer);
/* Appends the frame; `writer` is gone whatever happens. */
enum akin_status store_segment_end(struct store_segment_writer **writer, uint32_t kind, size_t rows,
                                   uint64_t *frame, struct akin_error *error);
void store_segment_abort(struct store_segment_writer **writer);

/* Takes back this frame and all behind it, of which nothing was published or synced. */
void store_take_back(struct store *store, uint64_t frame);

/* A DEAD frame for a segment of `rows` rows: the whole truth, not what was added to it. */
enum akin_status store_append_dead(struct store *store, const uint64_t *dead, size_t rows,
                                   uint64_t *frame, struct akin_error *error);

/* Appends a manifest: from the next store_sync on (and at once for this handle) `layout` counts.
 * Its frames must be in this file, and `sealed` the first operation of a tail frame or the next
 * operation. AKIN_ARGUMENT otherwise. */
enum akin_status store_publish(struct store *store, const struct store_layout *layout,
                               struct akin_error *error);

/* When it returns AKIN_OK, every operation below *durable (may be NULL), all that was appended and
 * the last published layout survive a kill and a power loss. Nothing new: nothing is done. */
enum akin_status store_sync(struct store *store, uint64_t *durable, struct akin_error *error);

uint64_t store_operations(const struct store *store);   /* number of the next operation */
uint64_t store_durable(const struct store *store);      /* operations below it are promised */

struct store_stats {
    uint64_t file_bytes;                /* up to the last frame appended */
    uint64_t live_bytes, dead_bytes;    /* their sum is file_bytes */
    uint64_t tail_bytes;                /* of live ROWS and DELETE frames */
    uint64_t tail_frames, tail_operations;
    size_t segment_count;
};
void store_stats(const struct store *store, struct store_stats *stats);

/* Writes what is live to a new file and puts it in place of the old one. Operation numbers and the
 * order of segments stay, offsets change (see store_layout). Readers of the old file go on. */
enum akin_status store_compact(struct store *store, struct akin_error *error);

/* For whoever merges segments into a new file while the old one goes on taking rows: what is large
 * is streamed (store_segment_begin) or copied from a reading handle of its own; then, on the
 * writer's thread, the tail that came meanwhile, store_publish, and store_appear in the old one's
 * place. Frames are copied as they are, checksums included.
 *
 * A segment with its dead rows; what it is called in `to` is in *copied. */
enum akin_status store_copy_segment(struct store *to, const struct store *from,
                                    const struct store_segment_ref *ref,
                                    struct store_segment_ref *copied, struct akin_error *error);
/* The frames of the tail of `from` whose operations are not in `to` yet. AKIN_ARGUMENT unless the
 * next operation of `to` is the first of a frame, or the next one, of `from`. */
enum akin_status store_copy_tail(struct store *to, const struct store *from,
                                 struct akin_error *error);

/* ---- checking --------------------------------------------------------------------------- */

struct store_report {
    uint32_t version;
    uint64_t frames, rows, deletes, segments;   /* frames of all types; in live and dead ones */
    uint64_t promised_bytes;
    uint64_t unpromised_bytes;          /* behind the newest mark; no loss when they are cut */
    bool in_tail;                       /* the error is about those */
};

/* Reads the whole file, both versions: checksums, zeros between blocks, that frames agree with each
 * other, that ids are not negative and vectors finite. AKIN_FORMAT names the first damage: frame,
 * block, offsets. Bytes behind the mark may end in the middle of a frame, as after a kill; whole
 * frames among them are checked as well, unless a writer is at work. `report` may be NULL. */
enum akin_status store_check(const char *path, struct store_report *report,
                             struct akin_error *error);
