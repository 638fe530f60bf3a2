/* The sum over ranks: which chunk may move when. See distributed_ring.h for the way of a chunk.
 *
 * Not the ring all-reduce of Patarasuk and Yuan (2009), which sums each chunk in another order of
 * ranks: here all go through the ranks from 0 on, at the same number of bytes a link (twice the
 * gradients, where theirs is 2 (N-1)/N), and the bits are those of a plain loop over ranks.
 *
 * A chunk needs no memory but the caller's: the partial sum is made in place of the rank's own
 * numbers, and the whole can only come back after it was sent. So nothing that comes in ever waits
 * for something to go out, and the ring cannot lock up whatever the links hold. */
#include "train/distributed_ring.h"

#include <string.h>

#include "base/memory.h"

enum { MAGIC = 0x6b6e6172, PASS_PARTIAL = 1, PASS_WHOLE };

bool ring_init(struct ring *ring, const struct ring_link *link, size_t rank, size_t world,
               const struct ring_job *jobs)
{
    *ring = (struct ring){ .link = *link, .rank = rank, .world = world, .jobs = jobs };
    ring->scratch = memory_alloc_aligned(1, RING_CHUNK_BYTES);
    return ring->scratch != NULL;
}

void ring_deinit(struct ring *ring)
{
    memory_free(ring->scratch);
}

static const struct ring_job *job_at(const struct ring *ring, uint64_t job)
{
    return &ring->jobs[job % RING_JOBS_MAX];
}

static size_t element_bytes(enum ring_kind kind)
{
    return kind == RING_DOUBLES ? sizeof(double) : sizeof(float);
}

static size_t chunk_count(const struct ring_job *job, size_t offset)
{
    size_t most = RING_CHUNK_BYTES / element_bytes(job->kind), left = job->count - offset;
    return left < most ? left : most;
}

/* Whether this rank has a part in a job at a cursor. */
static bool takes_part(const struct ring *ring, const struct ring_cursor *cursor,
                       enum ring_kind kind)
{
    bool first = ring->rank == 0, last = ring->rank == ring->world - 1;
    if (kind == RING_PROBE)
        return cursor == &ring->partial_out || cursor == &ring->whole_in;
    if (cursor == &ring->partial_in)
        return !first;
    if (cursor == &ring->whole_out)
        return ring->rank + 2 != ring->world;
    return !last;
}

/* Steps over jobs that have nothing for it; false at the end. */
static bool settle(const struct ring *ring, struct ring_cursor *cursor, uint64_t end)
{
    while (cursor->job < end && !takes_part(ring, cursor, job_at(ring, cursor->job)->kind))
        cursor->job++;
    return cursor->job < end;
}

static void advance(const struct ring *ring, struct ring_cursor *cursor, size_t count)
{
    cursor->offset += count;
    if (cursor->offset == job_at(ring, cursor->job)->count)
        *cursor = (struct ring_cursor){ .job = cursor->job + 1 };
}

static bool is_behind(const struct ring_cursor *a, const struct ring_cursor *b)
{
    return a->job < b->job || (a->job == b->job && a->offset < b->offset);
}

uint64_t ring_done(struct ring *ring, uint64_t end)
{
    struct ring_cursor *all[] = {
        &ring->partial_in, &ring->partial_out, &ring->whole_in, &ring->whole_out,
    };
    uint64_t done = end;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (settle(ring, all[i], end) && all[i]->job < done)
            done = all[i]->job;
    return done;
}

/* ---- what comes in ---------------------------------------------------------------------- */

static struct ring_cursor *cursor_in(struct ring *ring)
{
    return ring->in.pass == PASS_PARTIAL ? &ring->partial_in : &ring->whole_in;
}

/* The message must be what the ranks agree to do next; `job` is begun here. */
static enum akin_status check_message(struct ring *ring, uint64_t end, struct akin_error *error)
{
    const struct ring_message *in = &ring->in;
    struct ring_cursor *cursor = cursor_in(ring);
    const struct ring_job *job = job_at(ring, in->job);
    if (settle(ring, cursor, end) && cursor->job == in->job && cursor->offset == in->offset &&
        job->kind == (enum ring_kind)in->kind && in->count == chunk_count(job, in->offset)) {
        ring->in_checked = true;
        return AKIN_OK;
    }
    return error_set(error, AKIN_ARGUMENT, "rank %u and rank %zu do not sum the same numbers (sum "
                     "%llu: %u from number %llu on, of %zu here): were they started with the same "
                     "options?", in->rank, ring->rank, (unsigned long long)in->job, in->count,
                     (unsigned long long)in->offset, job->count);
}

static enum akin_status check_header(const struct ring *ring, struct akin_error *error)
{
    const struct ring_message *in = &ring->in;
    size_t before = (ring->rank + ring->world - 1) % ring->world;
    if (in->magic != MAGIC || in->pass < PASS_PARTIAL || in->pass > PASS_WHOLE ||
        in->kind < RING_FLOATS || in->kind > RING_PROBE || in->rank != before || !in->count ||
        in->count > RING_CHUNK_BYTES / element_bytes((enum ring_kind)in->kind))
        return error_set(error, AKIN_NETWORK, "rank %zu sent something that is no part of a sum: "
                         "do all ranks run the same version?", before);
    return AKIN_OK;
}

static void add_floats(float *restrict own, const float *restrict from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        own[i] = from[i] + own[i];
}

static void add_doubles(double *restrict own, const double *restrict from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        own[i] = from[i] + own[i];
}

/* Uses up to `count` bytes of the message's numbers. */
static size_t receive_numbers(struct ring *ring, const unsigned char *bytes, size_t count)
{
    struct ring_cursor *cursor = cursor_in(ring);
    const struct ring_job *job = job_at(ring, cursor->job);
    size_t element = element_bytes(job->kind), all = ring->in.count * element;
    if (count > all - ring->in_payload)
        count = all - ring->in_payload;
    unsigned char *own = (unsigned char *)job->values + cursor->offset * element;
    if (job->kind == RING_FLOATS && ring->in.pass == PASS_PARTIAL)
        add_floats((float *)(void *)(own + ring->in_payload), (const void *)bytes,
                   count / sizeof(float));
    else if (job->kind != RING_DOUBLES)
        memcpy(own + ring->in_payload, bytes, count);
    else
        memcpy(ring->scratch + ring->in_payload, bytes, count);
    ring->in_payload += count;
    if (ring->in_payload < all)
        return count;

    if (job->kind == RING_DOUBLES && ring->in.pass == PASS_PARTIAL)
        add_doubles((double *)(void *)own, (const double *)(const void *)ring->scratch,
                    ring->in.count);
    else if (job->kind == RING_DOUBLES)
        memcpy(own, ring->scratch, all);
    advance(ring, cursor, ring->in.count);
    ring->in_bytes = ring->in_payload = 0;
    ring->in_checked = false;
    return count;
}

static enum akin_status receive(struct ring *ring, uint64_t end, bool *moved,
                                struct akin_error *error)
{
    struct ring_link *link = &ring->link;
    for (ring->held = false;;) {
        const void *bytes;
        size_t count;
        TRY(link->peek(link->context, &bytes, &count, error));
        if (!count)
            return AKIN_OK;
        if (ring->in_bytes < sizeof ring->in) {
            size_t missing = sizeof ring->in - ring->in_bytes;
            count = count < missing ? count : missing;
            memcpy((unsigned char *)&ring->in + ring->in_bytes, bytes, count);
            ring->in_bytes += count;
            if (ring->in_bytes == sizeof ring->in)
                TRY(check_header(ring, error));
        } else if (ring->in.job >= end) {
            ring->held = true;
            return AKIN_OK;
        } else {
            if (!ring->in_checked)
                TRY(check_message(ring, end, error));
            count = receive_numbers(ring, bytes, count);
        }
        link->take(link->context, count);
        *moved = true;
    }
}

/* ---- what goes out ---------------------------------------------------------------------- */

/* Whole sums first: ranks wait for them. */
static struct ring_cursor *cursor_out(struct ring *ring, uint64_t end)
{
    bool last = ring->rank == ring->world - 1;
    settle(ring, &ring->partial_in, end);
    settle(ring, &ring->whole_in, end);
    if (settle(ring, &ring->whole_out, end) &&
        is_behind(&ring->whole_out, last ? &ring->partial_in : &ring->whole_in))
        return &ring->whole_out;
    if (settle(ring, &ring->partial_out, end) &&
        (ring->rank == 0 || job_at(ring, ring->partial_out.job)->kind == RING_PROBE ||
         is_behind(&ring->partial_out, &ring->partial_in)))
        return &ring->partial_out;
    return NULL;
}

static bool begin_message(struct ring *ring, uint64_t end)
{
    const struct ring_cursor *cursor = cursor_out(ring, end);
    if (!cursor)
        return false;
    const struct ring_job *job = job_at(ring, cursor->job);
    size_t element = element_bytes(job->kind), count = chunk_count(job, cursor->offset);
    bool whole = cursor == &ring->whole_out || job->kind == RING_PROBE;
    ring->out = (struct ring_message){
        .magic = MAGIC, .pass = whole ? PASS_WHOLE : PASS_PARTIAL, .kind = (uint16_t)job->kind,
        .rank = (uint32_t)ring->rank, .count = (uint32_t)count, .job = cursor->job,
        .offset = cursor->offset,
    };
    ring->out_payload = (const unsigned char *)job->values + cursor->offset * element;
    ring->out_bytes = sizeof ring->out + count * element;
    ring->out_sent = 0;
    return true;
}

static enum akin_status send(struct ring *ring, uint64_t end, bool *moved,
                             struct akin_error *error)
{
    ring->full = false;
    while (ring->out_bytes || begin_message(ring, end)) {
        size_t header = sizeof ring->out, at = ring->out_sent, sent;
        const unsigned char *from =
            at < header ? (unsigned char *)&ring->out + at : ring->out_payload + (at - header);
        size_t count = at < header ? header - at : ring->out_bytes - at;
        TRY(ring->link.send(ring->link.context, from, count, at < header, &sent, error));
        if (!sent) {
            ring->full = true;
            return AKIN_OK;
        }
        *moved = true;
        ring->bytes_sent += sent;
        ring->out_sent += sent;
        if (ring->out_sent == ring->out_bytes) {
            ring->out_bytes = 0;
            bool whole = ring->out.pass == PASS_WHOLE && ring->out.kind != RING_PROBE;
            advance(ring, whole ? &ring->whole_out : &ring->partial_out, ring->out.count);
        }
    }
    return AKIN_OK;
}

enum akin_status ring_step(struct ring *ring, uint64_t end, bool *moved, struct akin_error *error)
{
    *moved = false;
    TRY(receive(ring, end, moved, error));
    return send(ring, end, moved, error);
}
