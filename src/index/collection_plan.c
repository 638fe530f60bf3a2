/* What becomes a segment, of which kind, and when. */
#include <stdio.h>
#include <string.h>

#include "base/system.h"
#include "index/collection_parts.h"
#include "index/flat.h"

enum {
    SEAL_BYTES = 3 << 20,       /* of the tail's vectors: more slows every search down */
    SEAL_ROWS_MIN = 256,
    SEAL_ROWS_MAX = 2000,
    MERGED_MAX = 16,            /* at once */
    KIND_ROWS_MIN = 20000,      /* below, any index is flat: as fast, and without training */
    AUTO_FLAT_ROWS = 150000,    /* a scan of sketches beats every graph up to here */
};

size_t plan_seal_rows(size_t dim)
{
    size_t rows = SEAL_BYTES / (dim * sizeof(float));
    return rows < SEAL_ROWS_MIN ? SEAL_ROWS_MIN : rows > SEAL_ROWS_MAX ? SEAL_ROWS_MAX : rows;
}

/* ---- kinds ------------------------------------------------------------------------------- */

/* What a graph holds in memory for a row: itself in bytes, up to 32 neighbours' numbers and codes
 * of a bit per dimension. */
static double graph_bytes(size_t rows, size_t dim)
{
    return (double)rows * ((double)dim + 32 * 4 + 32 * ((double)dim / 8) + 64);
}

static enum segment_kind plan_auto(const struct collection_creation *creation, size_t rows,
                                   size_t dim, char *why, size_t bytes)
{
    struct akin_machine machine;
    system_describe(&machine);
    double free_bytes = (double)machine.memory_available_bytes;
    static const double number_bytes[] = { 4, 2, 1 };   /* by enum akin_storage */
    double graph = graph_bytes(rows, dim);
    double originals = (double)rows * (double)dim * number_bytes[creation->storage];
    if (creation->storage == AKIN_STORAGE_INT8) {
        snprintf(why, bytes, "flat: rows of int8 are searched where they lie, by this kind alone");
        return SEGMENT_FLAT;
    }
    if (rows <= AUTO_FLAT_ROWS || !segment_kind_takes(SEGMENT_IVFPQ, rows, dim)) {
        snprintf(why, bytes,
                 "flat: at %zu rows a scan of sketches takes less time than any graph, and exact "
                 "search needs no more memory", rows);
        return SEGMENT_FLAT;
    }
    if (!segment_kind_takes(SEGMENT_GRAPH, rows, dim) || graph + originals > free_bytes / 2) {
        snprintf(why, bytes,
                 "ivfpq: a graph over %zu rows and their originals take %.1f GB of the %.1f GB "
                 "that are free", rows, (graph + originals) / 1e9, free_bytes / 1e9);
        return SEGMENT_IVFPQ;
    }
    if ((double)creation->recall > 0.999) {
        snprintf(why, bytes, "flat: recall %g leaves nothing for a graph to skip",
                 (double)creation->recall);
        return SEGMENT_FLAT;
    }
    snprintf(why, bytes,
             "graph: at %zu rows it reads the least for recall %g, and its %.1f GB fit in memory",
             rows, (double)creation->recall, graph / 1e9);
    return SEGMENT_GRAPH;
}

enum segment_kind plan_kind(const struct collection_creation *creation, size_t rows, size_t dim,
                            char *why, size_t bytes)
{
    enum segment_kind kind = (enum segment_kind)creation->kind;
    if (rows == 0) {
        snprintf(why, bytes, "empty");
        return SEGMENT_PLAIN;
    }
    if (!kind)
        return plan_auto(creation, rows, dim, why, bytes);
    if (segment_kind_takes(kind, rows, dim)) {
        snprintf(why, bytes, "%s: asked for", segment_kind_name(kind));
        return kind;
    }
    snprintf(why, bytes, "flat: %zu rows are too few for %s", rows, segment_kind_name(kind));
    return segment_kind_takes(SEGMENT_FLAT, rows, dim) ? SEGMENT_FLAT : SEGMENT_PLAIN;
}

void plan_segment(const struct collection *c, struct job *job)
{
    job->kind = plan_kind(&c->creation, job->rows, c->dim, job->why, sizeof job->why);
    if (job->kind == (enum segment_kind)c->creation.kind)
        job->why[0] = 0;
}

/* What is sealed or merged by itself: other kinds are worth their training from some size on. */
static void plan_part(const struct collection *c, struct job *job)
{
    plan_segment(c, job);
    if (c->creation.kind == SEGMENT_FLAT || job->rows >= KIND_ROWS_MIN || !job->rows)
        return;
    job->kind = SEGMENT_FLAT;
    snprintf(job->why, sizeof job->why,
             "flat: a segment of %zu rows is searched as fast so, and needs no training",
             job->rows);
}

/* ---- jobs -------------------------------------------------------------------------------- */

/* Sizes of segments, each with how many become one of the next. In the space of a larger one,
 * merging is little more than copying; what has twice the rows of that is trained anew, which takes
 * most of a second. */
static const struct tier {
    size_t rows, members;
} tiers[] = { { FLAT_SKETCHED_ROWS / 2, 4 }, { FLAT_SKETCHED_ROWS, 6 },
              { 8 * FLAT_SKETCHED_ROWS, 8 }, { 64 * FLAT_SKETCHED_ROWS, 8 },
              { SIZE_MAX, 8 } };

static size_t tier_of(const struct view *view)
{
    size_t tier = 0, live = view_live(view);
    while (live >= tiers[tier].rows)
        tier++;
    return tier;
}

/* The part that measured its sketches on most rows. Twice as many rows are worth a space of their
 * own. */
static void take_like(const struct collection *c, struct job *job)
{
    size_t most = 0;
    struct part *like = NULL;
    for (size_t i = 0; i < c->current->sealed; i++) {
        struct part *part = c->current->views[i].part;
        const struct flat *flat = segment_flat(part->segment);
        size_t measured = flat ? flat_measured(flat) : 0;
        if (measured > most) {
            most = measured;
            like = part;
        }
    }
    if (like && job->rows / 2 < most) {
        atomic_fetch_add(&like->refs, 1);
        job->like = like;
    }
}

/* Of the views of `s` that are marked. */
static bool take_sources(const struct collection *c, const struct snapshot *s, struct job *job,
                         const bool *marked)
{
    job->sources = memory_alloc(s->count, sizeof *job->sources);
    if (!job->sources)
        return false;                   /* tried again later */
    for (size_t i = 0; i < s->count; i++) {
        if (!marked[i])
            continue;
        view_copy(&job->sources[job->count++], &s->views[i]);
        job->rows += view_live(&s->views[i]);
    }
    plan_part(c, job);
    take_like(c, job);
    return true;
}

static size_t tail_operations(const struct collection *c)
{
    struct store_stats stats;
    store_stats(c->store, &stats);
    return stats.tail_operations;
}

bool seal_wanted(const struct collection *c)
{
    size_t rows = tail_rows(c->current);
    if (c->failed_tail)                 /* it is tried again once there is much more to gain */
        return rows > 2 * c->failed_tail;
    return rows >= c->seal_rows || tail_operations(c) >= 8 * c->seal_rows;
}

/* The tail of `s`. */
static bool take_tail(const struct collection *c, const struct snapshot *s, struct job *job)
{
    *job = (struct job){ .tail = true, .sealed = store_operations(c->store) };
    bool *marked = memory_alloc(s->count, sizeof *marked);
    for (size_t i = s->sealed; marked && i < s->count; i++)
        marked[i] = true;
    bool planned = marked && take_sources(c, s, job, marked);
    memory_free(marked);
    return planned;
}

bool plan_tail(struct collection *c, bool force, struct job *job)
{
    *job = (struct job){ 0 };
    if (!seal_wanted(c) && !(force && tail_operations(c)))
        return false;
    bool planned = take_tail(c, c->current, job);
    if (planned)
        c->open = NULL;                 /* what comes now is not of this job */
    return planned;
}

bool plan_batch(const struct collection *c, const struct snapshot *next, struct job *job)
{
    if (!take_tail(c, next, job))
        return false;
    job->now = next;
    return job->kind == SEGMENT_FLAT;
}

/* All flat ones, once they are enough to learn a space of sketches from that later ones use as
 * well. */
static bool mark_first(const struct snapshot *s, bool *marked)
{
    size_t rows = 0, count = 0;
    for (size_t i = 0; i < s->sealed; i++) {
        const struct flat *flat = segment_flat(s->views[i].part->segment);
        marked[i] = flat;
        if (flat && flat_measured(flat))
            count = s->sealed + 1;      /* there is a space already */
        rows += flat ? view_live(&s->views[i]) : 0;
        count += marked[i];
    }
    if (count >= 2 && count <= s->sealed && rows >= FLAT_SKETCHED_ROWS)
        return true;
    memset(marked, false, s->sealed);
    return false;
}

/* Marks one that is more dead than alive, or enough of one size. */
static bool mark_merge(const struct snapshot *s, bool *marked)
{
    size_t members[sizeof tiers / sizeof tiers[0]] = { 0 }, tier = 0, taken = 0;
    for (size_t i = 0; i < s->sealed; i++) {
        size_t live = view_live(&s->views[i]);
        marked[i] = !live || live < s->views[i].rows / 2;
        if (marked[i])
            return true;
        members[tier_of(&s->views[i])]++;
    }
    if (mark_first(s, marked))
        return true;
    while (tier < sizeof tiers / sizeof tiers[0] && members[tier] < tiers[tier].members)
        tier++;
    if (tier == sizeof tiers / sizeof tiers[0])
        return false;
    for (size_t i = 0; i < s->sealed && taken < MERGED_MAX; i++) {
        if (tier_of(&s->views[i]) != tier)
            continue;
        taken += marked[i] = true;
    }
    return true;
}

bool plan_merge(struct collection *c, struct job *job)
{
    *job = (struct job){ 0 };
    bool *marked = memory_alloc(c->current->count, sizeof *marked);
    bool planned = marked && !c->failed_tail && mark_merge(c->current, marked) &&
                   take_sources(c, c->current, job, marked);
    memory_free(marked);
    return planned;
}

bool plan_everything(struct collection *c, struct job *job)
{
    *job = (struct job){ 0 };
    size_t count = c->current->count;
    bool *marked = memory_alloc(count, sizeof *marked), planned = false;
    if (!marked)
        return false;
    memset(marked, true, c->current->sealed);
    planned = take_sources(c, c->current, job, marked);
    if (planned) {
        plan_segment(c, job);
        if (job->like)
            part_release(job->like);
        job->like = NULL;               /* who waits for it gets what fits all rows */
    }
    memory_free(marked);
    return planned;
}
