/* The sum over ranks as a ring of byte streams, each rank to the next and the last to the first.
 * Inside of the distributed*.c files only. */
#pragma once

#include "train/distributed.h"

/* What lies between this rank and its neighbours. One thread calls it, but for `wake`. */
struct ring_link {
    const char *name;
    void *context;
    /* *sent of the bytes went to the next rank; 0: no room now. With `more` they may wait for what
     * is sent next. */
    enum akin_status (*send)(void *context, const void *bytes, size_t count, bool more,
                             size_t *sent, struct akin_error *error);
    /* Bytes that came from the rank before, a multiple of four and so aligned; 0: none now. They
     * stay until taken. */
    enum akin_status (*peek)(void *context, const void **bytes, size_t *count,
                             struct akin_error *error);
    void (*take)(void *context, size_t count);
    /* Sleeps until there is room (if `sending`), bytes came (if `receiving`), `wake` was called or
     * the time is over. Also looks after the ranks: an error names the one that is lost. */
    enum akin_status (*wait)(void *context, bool sending, bool receiving, int milliseconds,
                             struct akin_error *error);
    void (*wake)(void *context);
    /* Tells all ranks, which then stop with it. */
    void (*fail)(void *context, const char *message);
    /* From now on ranks may leave: not to be taken for lost. */
    void (*leaving)(void *context);
    void (*close)(void *context);
};

/* Runs `body` in a group over this link, which is closed. The identity of the machine tells which
 * ranks share it; `local_rank` SIZE_MAX: to be found. */
enum akin_status group_run_over(const struct launch_settings *settings, struct ring_link link,
                                size_t rank, size_t world, size_t local_rank,
                                int (*body)(void *context, struct process_group *group),
                                void *context, int *exit_code, struct akin_error *error);

/* The ways to start. */
enum akin_status fork_run(const struct launch_settings *settings,
                          int (*body)(void *context, struct process_group *group), void *context,
                          int *exit_code, struct akin_error *error);

struct rendezvous {
    size_t rank, world;
    char address[256];          /* MASTER_ADDR */
    unsigned port, ports;       /* the first, and how many to try */
    uint64_t run;               /* tells apart runs that use one port */
    double seconds;
    const char *world_name;     /* of the variable: WORLD_SIZE */
    const char *port_name;
};
enum akin_status tcp_connect(const struct rendezvous *rendezvous, struct ring_link *link,
                             struct akin_error *error);

/* In a library of its own, MPI_LIBRARY, which is loaded when mpirun started the process: so that
 * nothing else needs MPI. It lies beside the program, or in ../lib/akin from there. */
#define MPI_LIBRARY "libakin-mpi.so"
#define MPI_CONNECT "akin_mpi_connect"
AKIN_API enum akin_status akin_mpi_connect(struct ring_link *link, size_t *rank, size_t *world,
                                           struct akin_error *error);

/* ---- the ring --------------------------------------------------------------------------- */

enum ring_kind { RING_FLOATS = 1, RING_DOUBLES, RING_PROBE };

struct ring_job {
    enum ring_kind kind;
    void *values;               /* PROBE: floats that replace those of the next rank, whatever */
    size_t count;
};

struct ring_cursor {
    uint64_t job;
    size_t offset;
};

enum { RING_CHUNK_BYTES = 64 << 10, RING_JOBS_MAX = 1024 };

struct ring_message {
    uint32_t magic;
    uint16_t pass, kind;
    uint32_t rank, count;
    uint64_t job, offset;
};

/* A partial sum goes from rank 0 to the last, which has then all, and the whole goes on from there
 * to 0 and to the last but one. Chunks follow each other, so that all links are busy. */
struct ring {
    struct ring_link link;
    size_t rank, world;
    const struct ring_job *jobs;        /* [RING_JOBS_MAX], job n at n % RING_JOBS_MAX */
    struct ring_cursor partial_in, partial_out, whole_in, whole_out;

    struct ring_message in;
    size_t in_bytes, in_payload;        /* received of the message, and of its numbers */
    bool in_checked;
    struct ring_message out;
    const unsigned char *out_payload;
    size_t out_bytes, out_sent;         /* out_bytes 0: no message is under way */
    unsigned char *scratch;             /* a chunk that comes in, of doubles */
    bool full, held;                    /* why nothing moved: no room; the job is not ours yet */
    uint64_t bytes_sent;
};

bool ring_init(struct ring *ring, const struct ring_link *link, size_t rank, size_t world,
               const struct ring_job *jobs);
void ring_deinit(struct ring *ring);
/* Moves what can be moved of the jobs below `end`, and says whether anything did. */
enum akin_status ring_step(struct ring *ring, uint64_t end, bool *moved, struct akin_error *error);
/* Jobs that are done, from the first on. */
uint64_t ring_done(struct ring *ring, uint64_t end);
