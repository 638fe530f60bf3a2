/* Inside of collection*.c: parts, snapshots, and what a writer keeps.
 *
 * Parts, bits and snapshots are counted references; whoever holds one may read it without a lock.
 * A chunk of the tail is written behind the rows that any snapshot counts, by the writer alone;
 * the release of the gate makes that visible to whoever takes the next snapshot. */
#pragma once

#include <stdatomic.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/thread.h"
#include "compute/screen.h"
#include "index/collection.h"
#include "index/columns.h"
#include "index/index.h"
#include "index/segment.h"
#include "index/segment_card.h"
#include "index/store.h"

/* Blocks of ROWS and SEGMENT frames beside vectors and ids. */
enum {
    COLLECTION_BLOCK_KEYS = 3,          /* struct texts; 4 to 6 are those of columns.h */
    COLLECTION_BLOCK_KEY_ORDER = 7,     /* SEGMENT: uint32 [rows], rows by key; without: last */
    COLLECTION_BLOCK_WHY = 8,           /* SEGMENT: why it is of this kind, where that was chosen */
};

/* A text for each row, as a block: offsets [rows + 1] from the end of the offsets, bytes. */
struct texts {
    const uint64_t *offsets;            /* NULL: all are empty */
    const char *bytes;
    uint64_t count;                     /* of bytes */
};

struct text {
    const char *bytes;
    size_t count;
};

struct text texts_row(const struct texts *texts, size_t row);

/* A sealed segment, or a chunk of the tail. */
struct part {
    atomic_size_t refs;
    uint64_t number;                    /* of no other part of this collection */
    size_t rows;                        /* of the segment; that the chunk has room for */
    size_t dim;
    bool sealed;
    const int64_t *ids;                 /* sealed: ascending; NULL: the row numbers */
    const void *vectors;                /* [rows][dim] of `element`; of ELEMENT_I8 none */
    enum element_type element;          /* of a chunk: ELEMENT_F32 */
    /* sealed */
    struct store_segment *stored;
    struct segment *segment;
    struct texts keys;
    struct columns columns;             /* of a chunk: those of no metadata */
    const uint32_t *key_order;
    struct mutex *card_lock;            /* one search at a time; NULL: there is no card */
    atomic_int card_state;
    struct segment_card *card;
    /* chunk */
    float *own_vectors;
    uint8_t *own_codes;                 /* the rows as bytes, and what is known of them: */
    float *own_terms;                   /* [4][rows], see compute/screen.h */
    _Atomic(double) length_max;         /* of all rows so far */
    int64_t *own_ids;
    struct text *own_keys;              /* [rows]; NULL: none in this chunk */
    struct columns_tail *own_columns;   /* NULL: no metadata in this chunk */
    const struct text *borrowed;        /* [rows] metadata of rows that are being built; or NULL */
    struct string_pool pool;
};

/* Which rows of a part live; immutable once a snapshot has it. */
struct bits {
    atomic_size_t refs;
    size_t dead;                        /* how many do not */
    uint64_t number;                    /* 1 and on; no others of the part that were ever seen */
    size_t words;
    uint64_t alive[];                   /* a chunk's rows to come count as alive */
};

struct view {
    struct part *part;
    struct bits *bits;                  /* NULL: all live */
    size_t rows;                        /* of the part that count */
    uint64_t frame;                     /* sealed: its SEGMENT frame in the file of now */
    uint64_t dead_frame;                /* the DEAD frame written last; 0: none */
    size_t dead_written;                /* dead rows that it has */
};

struct snapshot {
    atomic_size_t refs;
    size_t count, sealed;               /* views; the first ones are sealed */
    size_t live, dead;                  /* rows */
    struct view views[];
};

/* As the file keeps it: store_settings.creation. */
struct collection_creation {
    uint32_t version;                   /* 1 */
    uint32_t kind;                      /* enum segment_kind; 0: auto */
    uint64_t seed;
    uint32_t nlist, pq_bytes, degree, beam;
    float recall;
    uint16_t pq_bits;                   /* 4, 8; 0: 4 */
    uint16_t storage;                   /* enum akin_storage */
};

/* And what changes: store_layout.state. */
struct collection_state {
    uint32_t version;                   /* 1 */
    uint32_t zero;
    int64_t next_id;
};

_Static_assert(sizeof(struct collection_creation) == 40, "as in the file");
_Static_assert(sizeof(struct collection_state) == 16, "as in the file");

struct collection {
    struct collection_host host;
    char *path;
    bool writable;
    struct collection_creation creation;
    enum akin_metric metric;
    size_t dim;
    struct collection_card *card;       /* NULL: there is none */
    struct mutex *gate;                 /* guards `current`, held for a moment */
    struct snapshot *current;
    struct mutex *writing;              /* guards all below */
    struct store *store;
    int64_t next_id;
    uint64_t next_part;
    struct part *open;                  /* the chunk that is appended to; in current; NULL: none */
    size_t open_rows;
    struct number_map tail_ids;         /* id -> place_code of its newest row in the tail */
    struct string_map tail_keys;        /* key -> the same; keys lie in their chunks */
    size_t seal_rows;
    struct condition *changed;          /* work for the background, or the end of it */
    struct background {
        struct collection *c;
        bool merges;                    /* sealed parts; otherwise it seals the tail */
        bool busy;                      /* it, or somebody in its place, is at work */
        struct thread *thread;
        struct thread_pool *pool;       /* its own: it takes no turns with searches */
        struct backend *backend;
    } sealer, merger;
    atomic_bool stopping;               /* also without the lock: a long build gives up */
    size_t failed_tail;                 /* tail rows when the background failed last; 0: it did
                                         * not */
    struct akin_error failure;
};

static inline enum score collection_score(const struct collection *c)
{
    return c->metric == AKIN_METRIC_L2 ? SCORE_L2 : SCORE_INNER_PRODUCT;
}

static inline int64_t part_id(const struct part *part, size_t row)
{
    return part->ids ? part->ids[row] : (int64_t)row;
}

static inline bool bits_alive(const struct bits *bits, size_t row)
{
    return !bits || (bits->alive[row / 64] >> row % 64 & 1);
}

static inline size_t view_live(const struct view *view)
{
    return view->rows - (view->bits ? view->bits->dead : 0);
}

/* ---- parts, bits, snapshots (collection_part.c) ------------------------------------------- */

/* An empty chunk. NULL: no memory. */
struct part *part_chunk(size_t rows, size_t dim);
/* Its first rows as bytes, for a search. */
struct screen_rows part_screen(const struct part *part, size_t rows, enum score score);
enum akin_status part_open(const struct collection *c, uint64_t frame, struct part **part,
                           struct akin_error *error);
struct text part_text(const struct part *part, size_t row, enum collection_field field);
/* The row of a sealed part with this id, or SIZE_MAX. */
size_t part_find(const struct part *part, int64_t id);
size_t part_find_key(const struct part *part, const char *key, size_t bytes);
void part_release(struct part *part);
size_t part_memory(const struct part *part);

struct bits *bits_create(size_t rows);              /* all alive */
struct bits *bits_copy(const struct bits *bits);
void bits_release(struct bits *bits);               /* NULL is fine */

/* Makes `part` one of these rows, checked before, where they are unless lengths have to be made 1:
 * to build a segment from. */
enum akin_status part_borrow(const struct collection *c, struct part *part, const float *vectors,
                             size_t count, struct akin_error *error);
/* Every text an object, or AKIN_ARGUMENT names its row. */
enum akin_status check_metadata(const struct text *texts, size_t count, struct akin_error *error);

struct snapshot *snapshot_create(size_t views);
/* Takes the current one, or gives one back. */
struct snapshot *snapshot_take(const struct collection *c);
void snapshot_release(struct snapshot *snapshot);   /* NULL is fine */
void view_copy(struct view *to, const struct view *from);   /* with references of its own */
void view_release(struct view *view);
/* Makes `next`, whose reference it takes over, the current one. */
void snapshot_put(struct collection *c, struct snapshot *next);

/* ---- sealed parts on a card (collection_card.c) -------------------------------------------- */

/* false: no memory. */
bool collection_card_create(struct collection *c);
void collection_card_destroy(struct collection *c);
bool part_card_create(const struct collection *c, struct part *part);
void part_card_destroy(struct part *part);
size_t part_card_bytes(struct part *part);
/* Of a sealed part, on the card or the CPU; `number` is that of the bits allowed, or 0. */
enum akin_status part_search(const struct collection *c, struct part *part,
                             const struct segment_query *query, uint64_t number,
                             const struct segment_hits *hits, struct akin_error *error);

/* ---- numbers as they are kept (collection_form.c) ------------------------------------------ */

enum element_type collection_element(const struct collection *c);   /* of sealed vectors */
/* `kind`: what is asked for, 0 for auto. */
enum akin_status check_storage(enum akin_storage storage, uint32_t kind, struct akin_error *error);
/* AKIN_ARGUMENT names the number that cannot be kept. */
enum akin_status check_range(const struct collection *c, const float *vectors, size_t count,
                             struct akin_error *error);
/* To what is kept of it; a row that was rounded once stays as it is. */
void round_row(const struct collection *c, float *row);
/* A row of any part, [dim]. */
void part_row(const struct collection *c, const struct part *part, size_t row, float *out);

/* ---- changes (collection_edit.c) ----------------------------------------------------------- */

struct place {
    size_t view, row;
};

static inline uint64_t place_code(const struct part *part, size_t row)
{
    return part->number << 32 | row;
}

/* Live rows, by the writer. */
bool collection_find(const struct collection *c, const struct snapshot *s, int64_t id,
                     struct place *place);
bool collection_find_key(const struct collection *c, const struct snapshot *s, const char *key,
                         struct place *place);

/* The snapshot to come: that of now, with room for one part more. */
enum akin_status edit_begin(const struct collection *c, struct snapshot **next,
                            struct akin_error *error);
enum akin_status edit_kill(const struct collection *c, struct snapshot *next, struct place place,
                           struct akin_error *error);
void edit_count(struct snapshot *next);             /* live and dead, from the views */

/* ---- the tail (collection_tail.c) ---------------------------------------------------------- */

/* Rows that were checked: of length 1 or as they are, ids given. */
struct new_rows {
    const float *vectors;
    bool unit;                          /* to be brought to length 1 */
    bool keep;                          /* to be rounded to what is kept */
    const int64_t *ids;
    const struct text *keys, *metadata; /* [count] or NULL */
    size_t count;
};

/* Copies them behind the rows of the open chunk, or of a new one; no snapshot counts them yet.
 * Sets *first to the first one's row and *part. */
enum akin_status tail_append(struct collection *c, struct snapshot *next,
                             const struct new_rows *rows, struct part **part, size_t *first,
                             struct akin_error *error);
/* Once they count: makes them known by id and key. Room was made by tail_append. */
void tail_register(struct collection *c, struct part *part, size_t first, size_t count);
/* Maps of the rows in the chunks of `next`. */
enum akin_status tail_index(struct collection *c, const struct snapshot *next,
                            struct number_map *ids, struct string_map *keys,
                            struct akin_error *error);
/* Replays the file's tail into `next`. */
enum akin_status tail_replay(struct collection *c, struct snapshot **next,
                             struct akin_error *error);
size_t tail_rows(const struct snapshot *s);         /* live and dead */
/* |row| is 1, or it is brought to that; a row of zeros stays. */
void unit_row(const float *in, size_t dim, float *out);
bool is_unit_row(const float *row, size_t dim);
/* AKIN_ARGUMENT names the row that is not finite. */
enum akin_status check_finite(const float *vectors, size_t count, size_t dim, const char *what,
                              struct akin_error *error);
enum akin_status texts_parse(const struct segment_block *block, size_t rows, struct texts *texts,
                             struct akin_error *error);

/* It is in use: those given out later are greater, while there are any. */
static inline void take_id(struct collection *c, int64_t id)
{
    if (id >= c->next_id)
        c->next_id = id + (id != INT64_MAX);
}

/* ---- batches that are segments (collection_batch.c) ---------------------------------------- */

/* As many as are sealed at once, and few segments. With the writer's lock held. */
bool batch_seals(const struct collection *c, size_t rows);
/* Writes the rows and the tail of `next` as one segment and makes that current, with what `next`
 * says of the others. Not *sealed: nothing was done, add them to the tail. While the sealer is not
 * busy. */
enum akin_status batch_seal(struct collection *c, struct snapshot *next,
                            const struct new_rows *rows, bool *sealed, struct akin_error *error);

/* ---- sealing (collection_seal.c, collection_plan.c) ---------------------------------------- */

/* A sealed part that stays as it is in a new file. */
struct moved {
    struct part *part;                  /* with a reference */
    uint64_t frame;                     /* in the new file */
};

/* Parts that become one segment. */
struct job {
    struct view *sources;               /* [count], with references */
    size_t count;
    bool tail;                          /* all of it, up to operation `sealed` */
    uint64_t sealed;
    enum segment_kind kind;
    char why[256];                      /* it is of this kind; "" where it was asked for */
    struct backend *backend;
    struct thread_pool *pool;
    const struct akin_progress *progress;
    struct store *before;               /* whose place c->store takes with it; or NULL */
    const struct moved *moved;          /* [moved_count]: then, all that are no sources */
    size_t moved_count;
    const struct snapshot *now;         /* NULL: the current one; else one that is not yet */
    struct part *like;                  /* whose sketches' space is used again; NULL: none */
    struct origin *origins;             /* [rows] by id */
    size_t rows;
};

struct origin {
    int64_t id;
    uint32_t source, row;
};

int origin_order(const void *a, const void *b);     /* by id */

/* Of an index's kind for so many rows, and why, in one sentence: from the settings, the rows and
 * the memory that is free now. */
enum segment_kind plan_kind(const struct collection_creation *creation, size_t rows, size_t dim,
                            char *why, size_t bytes);
/* The same for a segment that is about to be written: job->kind and job->why. */
void plan_segment(const struct collection *c, struct job *job);
/* The next job, under the writer's lock; false: nothing to do. `force`: whatever the size. */
bool plan_tail(struct collection *c, bool force, struct job *job);
/* The tail of `next`, which is about to become the current one. false: no memory, or a segment of a
 * kind that is worth its training, which is left to the background. */
bool plan_batch(const struct collection *c, const struct snapshot *next, struct job *job);
bool plan_merge(struct collection *c, struct job *job);
bool plan_everything(struct collection *c, struct job *job);     /* that is sealed */
size_t plan_seal_rows(size_t dim);
enum akin_status job_run(struct collection *c, struct job *job, struct akin_error *error);
void job_deinit(struct job *job);
/* The segment (frame of c->store; without rows: none) in the place of the job's sources. Under the
 * writer's lock; the caller syncs. */
enum akin_status job_place(struct collection *c, const struct job *job, uint64_t frame,
                           struct akin_error *error);
/* Writes the rows of a job to `sink`. */
enum akin_status job_write(const struct collection *c, struct job *job,
                           const struct segment_sink *sink, struct akin_error *error);
void seal_background(void *context);   /* of struct background */
bool seal_wanted(const struct collection *c);
/* From here on, with the writer's lock held, no segment comes or goes but by the caller; he may
 * give the lock away meanwhile. */
enum akin_status seal_claim(struct collection *c, struct akin_error *error);
void seal_unclaim(struct collection *c);
/* One job; the lock is held on entry and exit. */
enum akin_status seal_run(struct collection *c, struct job *job, struct akin_error *error);

/* ---- opening (collection_open.c) ----------------------------------------------------------- */

struct store_settings collection_store_settings(const struct collection *c);
enum akin_status collection_init(const struct collection_host *host, const char *path,
                                 struct collection **out, struct akin_error *error);
enum akin_status collection_set_creation(struct collection *c, size_t dimension,
                                         const struct akin_index_settings *settings,
                                         struct akin_error *error);
/* Makes what the file describes the current snapshot. */
enum akin_status collection_load(struct collection *c, struct akin_error *error);
