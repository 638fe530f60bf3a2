/* What the two halves of the TCP link share: meeting, and the time after. */
#pragma once

#include "train/distributed_ring.h"

struct tcp_peer {
    char host[64];
    uint32_t process;
};

struct tcp_sockets {
    size_t rank, world;
    struct tcp_peer *peers;     /* [world] */
    int next, before;           /* of the ring; non-blocking */
    int *controls;              /* [world]: to each rank at rank 0, to rank 0 at others; else -1 */
};

/* Rank 0 listens, all come to it, are told where the others are, and make the ring. What was
 * opened is closed again where it fails. */
enum akin_status tcp_meet(const struct rendezvous *rendezvous, struct tcp_sockets *sockets,
                          struct akin_error *error);
void tcp_sockets_close(struct tcp_sockets *sockets);
