/* Ranks that train one model together, each on its part of a batch: how they are started, how their
 * gradients are added up, and what happens when one is lost.
 *
 * A sum runs in the order of the ranks, ((g0 + g1) + g2) + ..., each number for itself: so no bit
 * depends on how the ranks are connected, on chunks or on time, and all ranks hold the same bits.
 * A thread of each rank does it while the caller computes on. */
#pragma once

#include "train/trainer.h"

enum { RANKS_MAX = 1024, LOST_GRACE_SECONDS = 4 };

struct process_group;

struct launch_settings {
    size_t processes;           /* forked by this one; 0: as the environment says, or alone */
    /* Of a variable, or NULL (getenv). Read are RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
     * MASTER_PORT as torchrun sets them, SLURM_* as srun does, OMPI_COMM_WORLD_* of mpirun. */
    const char *(*environment)(const char *name);
    double arrival_seconds;     /* for all ranks to come together; 0: 120 */
    /* Called by a thread of the group when another rank is lost and nobody has asked for it in
     * LOST_GRACE_SECONDS, as in a long step: it should print and end the process. May be NULL. */
    void (*lost)(void *context, const struct akin_error *error);
    void *lost_context;
};

/* Runs `body` in every rank of this process's group and is told its exit code. Forked ranks are
 * children: only they run `body`, this process passes SIGINT, SIGTERM and SIGHUP on and returns
 * when all are gone, with the first exit code that is not 0 (130 after SIGINT). To be called by the
 * first thread, before any other is started. Otherwise `body` runs here. A body that returns 0 has
 * all ranks wait for each other; one that fails stops the others: it should say why with
 * process_group_fail first.
 *
 * AKIN_ARGUMENT names the variable that is wrong; AKIN_NETWORK the rank that did not come or was
 * lost, AKIN_BUSY the port. Nothing of it (child, memory, socket) is left behind. */
enum akin_status process_group_run(const struct launch_settings *settings,
                                   int (*body)(void *context, struct process_group *group),
                                   void *context, int *exit_code, struct akin_error *error);

size_t process_group_rank(const struct process_group *group);
size_t process_group_world(const struct process_group *group);
/* Among the ranks of the same machine. */
size_t process_group_local_rank(const struct process_group *group);
size_t process_group_local_world(const struct process_group *group);
/* "alone", "shared memory", "tcp" or "mpi" */
const char *process_group_link(const struct process_group *group);

/* For struct trainer_settings; NULL when the rank is alone. Valid as long as the group. */
const struct gradient_reducer *process_group_reducer(struct process_group *group);

/* values[count] become their sums over all ranks: also a barrier, and a way to gather. */
enum akin_status process_group_sum(struct process_group *group, double *values, size_t count,
                                   struct akin_error *error);

/* Tells the others why this rank stops: they get it as their error. Nothing can be summed after. */
void process_group_fail(struct process_group *group, const char *why);

struct process_group_report {
    double waited_seconds;      /* callers waited for sums */
    double summing_seconds;     /* from a start to all sums done, waiting for ranks included */
    uint64_t bytes_sent;        /* by this rank */
    uint64_t sums;              /* ranges */
};
/* Since the group began or was asked last. */
void process_group_report(struct process_group *group, struct process_group_report *report);

struct process_group_speed {
    double link_bytes_per_second;   /* of copies from each rank to the next, all at once */
    double expected_seconds;        /* of one sum of `count` numbers, from that */
    double measured_seconds;        /* of one, alone: the median of some */
};
/* Takes a second or so; all ranks call it with the same count. */
enum akin_status process_group_measure(struct process_group *group, size_t count,
                                       struct process_group_speed *speed, struct akin_error *error);
