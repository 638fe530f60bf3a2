/* The inside of a log that is written. One thread, the flusher, owns the disk and the tree: it
 * takes what callers have queued, makes it durable in one frame of the journal, and does what they
 * ask for in between. Callers share nothing with it but the queue.
 *
 *   queue  ->  journal, one fdatasync      acknowledged
 *          ->  tiles, bundles, one syncfs  integrated
 *          ->  checkpoints/SIZE, checkpoint, an empty journal */
#pragma once

#include "audit/journal.h"
#include "audit/tiles.h"
#include "base/file_at.h"
#include "base/thread.h"

enum {
    INTEGRATE_RECORDS = 1 << 16,    /* in the journal, before they become tiles unasked */
    INTEGRATE_BYTES = 32 << 20,
};

/* A record with a file of its own, queued. */
struct large_record {
    uint64_t index;
    char *data;
    size_t bytes;
};

/* Hashes of one level of tiles, from the last whole tile that is on disk on. */
struct level {
    struct tree_hash *items;
    size_t count, capacity;
    size_t written;                 /* of them, on disk in a partial tile */
    uint64_t first;                 /* number of items[0], a multiple of 256 */
};

/* The tree and what is not yet in tiles. */
struct growth {
    struct tree_edge edge;
    struct level levels[TILE_LEVELS];
    struct bytes entries;           /* as in bundles, from levels[0].first on */
    struct cursors cursors;
    bool failed;                    /* memory ran out */
};

/* What a caller wants the flusher to do. */
struct request {
    enum akin_status (*run)(struct akin_audit *audit, void *context, struct akin_error *error);
    void *context;
    enum akin_status status;
    struct akin_error error;
    bool done;
    struct request *next;
};

struct queue {
    struct bytes entries;
    struct large_record *larges;
    size_t large_count, large_capacity, large_bytes;
    uint64_t first, count;
};

struct akin_audit {
    char folder[PATH_BYTES_MAX];
    struct signer signer;
    struct file_at lock_file;
    struct thread *flusher;

    struct mutex *lock;             /* guards all down to the next blank line */
    struct condition *changed;
    struct queue queue;             /* of the callers */
    struct request *requests;
    uint64_t next;                  /* number of the next record */
    uint64_t durable;
    uint64_t checkpoint;
    bool stopping;
    struct akin_error failure;      /* the first one; nothing is written after it */

    struct file_at journal;         /* the flusher's */
    uint64_t journal_bytes;
    uint64_t groups[2];             /* records of the last ones */
    uint64_t sync_ns;               /* of the last one's fdatasync */
    struct queue taken;
    struct tree_hash *leaves;
    size_t leaf_capacity;
    struct growth growth;
    struct tree_hash history;       /* of the checkpoints up to the integrated one */
    uint64_t integrated;
    uint64_t recovered, cut_bytes;
};

/* ---- growth.c ---------------------------------------------------------------------------- */

/* Takes over entries whose leaves are known. */
enum akin_status growth_add(struct growth *growth, const void *entries, size_t bytes,
                            const struct tree_hash *leaves, size_t count,
                            struct akin_error *error);
/* From the tiles of a log of `size` records. */
enum akin_status growth_load(struct growth *growth, const char *folder, uint64_t size,
                             struct akin_error *error);
void growth_deinit(struct growth *growth);

/* ---- integrate.c: the flusher's, or before it runs ---------------------------------------- */

/* Tiles and bundles of all that is durable, a checkpoint over it, an empty journal. */
enum akin_status log_integrate(struct akin_audit *audit, struct akin_error *error);
/* A new journal for what comes behind the growth. */
enum akin_status log_begin_journal(struct akin_audit *audit, struct akin_error *error);
/* `checkpoint` and its copy in the history. */
enum akin_status log_write_checkpoint(const char *folder, const struct signer *signer,
                                      uint64_t size, const struct tree_hash *root,
                                      struct akin_error *error);

/* ---- recover.c, recover_key.c ------------------------------------------------------------ */

enum akin_status log_recover(struct akin_audit *audit, struct akin_error *error);

/* A change of keys that the journal records. */
struct key_change {
    bool found;
    uint64_t index;                 /* of its record */
    struct public_key old;          /* signs all of the journal; the log's where none was found */
    struct signer signer;           /* the new one; its type is 0 where the file is missing */
};

enum akin_status log_find_change(struct akin_audit *audit, struct key_change *change,
                                 struct akin_error *error);
/* Once the journal is replayed: takes the new key, or drops one that nothing names. */
enum akin_status log_finish_change(struct akin_audit *audit, const struct key_change *change,
                                   struct akin_error *error);

/* ---- rotate.c ---------------------------------------------------------------------------- */

/* From key.next, if it is still there, to key; and its public half. */
enum akin_status log_take_key(struct akin_audit *audit, const struct signer *signer,
                              struct akin_error *error);

/* ---- append.c ---------------------------------------------------------------------------- */

/* The thread. */
void log_flush_loop(void *audit);
/* Appends one entry by the flusher itself, in a frame of its own. */
enum akin_status log_append_entry(struct akin_audit *audit, const struct entry *entry,
                                  struct akin_error *error);
/* Has the flusher run something, and waits. */
enum akin_status log_request(struct akin_audit *audit,
                             enum akin_status (*run)(struct akin_audit *audit, void *context,
                                                     struct akin_error *error),
                             void *context, struct akin_error *error);
void queue_clear(struct queue *queue);
