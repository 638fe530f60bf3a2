/* The ring over MPI: a stream of bytes to the next rank, in messages of one size at most. After the
 * start only the thread of the group calls MPI (MPI_THREAD_SERIALIZED). mpirun looks after the
 * ranks: it ends all, and names the first, when one is killed or fails. */
#include <mpi.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "train/distributed_ring.h"

/* A slot holds a chunk and its head; as many are under way as hide what two ranks need to agree on
 * a message. */
enum { SLOT_BYTES = RING_CHUNK_BYTES + 64, SLOTS = 16, TAG = 7, SPIN_MICROSECONDS = 200 };

/* Slots are used in turn; `busy`: MPI has it. */
struct slot {
    unsigned char *bytes;
    size_t begin, end;
    MPI_Request request;
    bool busy, incoming;
};

struct mpi_link {
    int next, before, event;
    struct slot out[SLOTS], in[SLOTS];
    size_t out_turn, in_turn;
    bool failed;
};

static bool is_over(struct slot *slot)
{
    int over = 1, bytes = 0;
    MPI_Status status;
    if (!slot->busy)
        return true;
    MPI_Test(&slot->request, &over, &status);
    if (!over)
        return false;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    slot->end = slot->incoming ? (size_t)bytes : 0;
    slot->begin = 0;
    slot->busy = false;
    return true;
}

static void receive_into(struct mpi_link *link, struct slot *slot)
{
    slot->busy = slot->incoming = true;
    MPI_Irecv(slot->bytes, SLOT_BYTES, MPI_BYTE, link->before, TAG, MPI_COMM_WORLD,
              &slot->request);
}

/* A slot with more to come is kept until that has come. */
static enum akin_status mpi_send(void *context, const void *bytes, size_t count, bool more,
                                 size_t *sent, struct akin_error *error)
{
    (void)error;
    struct mpi_link *link = context;
    struct slot *slot = &link->out[link->out_turn];
    *sent = 0;
    if (!is_over(slot))
        return AKIN_OK;
    size_t there = slot->end - slot->begin, room = SLOT_BYTES - there;
    *sent = count < room ? count : room;
    memcpy(slot->bytes + there, bytes, *sent);
    slot->end += *sent;
    if (more && slot->end < SLOT_BYTES)
        return AKIN_OK;
    MPI_Isend(slot->bytes, (int)slot->end, MPI_BYTE, link->next, TAG, MPI_COMM_WORLD,
              &slot->request);
    slot->busy = true;
    link->out_turn = (link->out_turn + 1) % SLOTS;
    return AKIN_OK;
}

static enum akin_status mpi_peek(void *context, const void **bytes, size_t *count,
                                 struct akin_error *error)
{
    (void)error;
    struct mpi_link *link = context;
    struct slot *slot = &link->in[link->in_turn];
    bool there = is_over(slot);
    *bytes = slot->bytes + slot->begin;
    *count = there ? slot->end - slot->begin : 0;
    return AKIN_OK;
}

static void mpi_take(void *context, size_t count)
{
    struct mpi_link *link = context;
    struct slot *slot = &link->in[link->in_turn];
    slot->begin += count;
    if (slot->begin == slot->end) {
        receive_into(link, slot);
        link->in_turn = (link->in_turn + 1) % SLOTS;
    }
}

/* MPI cannot be waited for together with anything else: it is asked often at first, then less. */
static enum akin_status mpi_wait(void *context, bool sending, bool receiving, int milliseconds,
                                 struct akin_error *error)
{
    (void)error;
    struct mpi_link *link = context;
    uint64_t start = clock_monotonic_ns(), passed;
    do {
        passed = (clock_monotonic_ns() - start) / 1000;
        struct timespec pause = { .tv_nsec = passed < SPIN_MICROSECONDS ? 0 : 50000 };
        struct pollfd bell = { .fd = link->event, .events = POLLIN };
        if (ppoll(&bell, 1, &pause, NULL) == 1) {
            eventfd_t ignored;
            eventfd_read(link->event, &ignored);
            return AKIN_OK;
        }
        if ((sending && is_over(&link->out[link->out_turn])) ||
            (receiving && is_over(&link->in[link->in_turn])))
            return AKIN_OK;
    } while (passed < (uint64_t)milliseconds * 1000);
    return AKIN_OK;
}

static void mpi_wake(void *context)
{
    const struct mpi_link *link = context;
    eventfd_write(link->event, 1);
}

/* A rank that ends without MPI_Finalize has mpirun end the others. */
static void mpi_fail(void *context, const char *message)
{
    (void)message;
    struct mpi_link *link = context;
    link->failed = true;
}

static void mpi_leaving(void *context)
{
    (void)context;
}

static void mpi_close(void *context)
{
    struct mpi_link *link = context;
    if (!link->failed) {
        for (size_t i = 0; i < SLOTS; i++) {
            if (link->out[i].busy)
                MPI_Wait(&link->out[i].request, MPI_STATUS_IGNORE);
            if (link->in[i].busy) {
                MPI_Cancel(&link->in[i].request);
                MPI_Wait(&link->in[i].request, MPI_STATUS_IGNORE);
            }
        }
        MPI_Finalize();
    }
    close(link->event);
    for (size_t i = 0; i < SLOTS && !link->failed; i++) {
        memory_free(link->out[i].bytes);
        memory_free(link->in[i].bytes);
    }
    memory_free(link);
}

enum akin_status akin_mpi_connect(struct ring_link *made, size_t *rank, size_t *world,
                                  struct akin_error *error)
{
    int has = MPI_THREAD_SINGLE, own, all;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &has) != MPI_SUCCESS)
        return error_set(error, AKIN_NETWORK, "MPI does not start");
    MPI_Comm_rank(MPI_COMM_WORLD, &own);
    MPI_Comm_size(MPI_COMM_WORLD, &all);
    if (has < MPI_THREAD_SERIALIZED)
        return error_set(error, AKIN_UNSUPPORTED, "this MPI lets only one thread call it: build "
                         "it with threads, or use torchrun");
    if (all > RANKS_MAX)
        return error_set(error, AKIN_LIMIT, "%d ranks are more than %d", all, RANKS_MAX);
    *rank = (size_t)own;
    *world = (size_t)all;
    struct mpi_link *link = memory_alloc(1, sizeof *link);
    if (!link)
        return error_memory(error);
    link->next = (own + 1) % all;
    link->before = (own + all - 1) % all;
    link->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool complete = link->event >= 0;
    for (size_t i = 0; i < SLOTS; i++) {
        link->out[i].bytes = memory_alloc_aligned(1, SLOT_BYTES);
        link->in[i].bytes = memory_alloc_aligned(1, SLOT_BYTES);
        complete = complete && link->out[i].bytes && link->in[i].bytes;
    }
    if (!complete)
        return error_memory(error);
    for (size_t i = 0; i < SLOTS; i++)
        receive_into(link, &link->in[i]);
    *made = (struct ring_link){
        .name = "mpi", .context = link, .send = mpi_send, .peek = mpi_peek, .take = mpi_take,
        .wait = mpi_wait, .wake = mpi_wake, .fail = mpi_fail, .leaving = mpi_leaving,
        .close = mpi_close,
    };
    return AKIN_OK;
}
