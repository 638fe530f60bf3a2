/* A connection to the servers of a JetStream cluster, with one durable pull consumer of a stream
 * looked up or made. libnats reconnects by itself, to any server of the cluster; what it cannot
 * mend is told by nats_link_is_closed, and then the link is opened anew. */
#pragma once

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "akin/watch.h"
#include "base/status.h"

struct nats_link {
    natsConnection *connection;
    jsCtx *js;
    natsSubscription *inbox;    /* gets what was pulled */
    natsInbox *reply;           /* its subject */
    natsStatistics *statistics;
    const char *servers, *stream, *consumer, *subject;  /* borrowed; subject may be NULL */
    char shown[256];            /* the servers, without users, passwords and tokens */
    int64_t created;            /* the stream: a later one of that name is another one */
    int64_t ack_wait_ns;        /* after which the server gives an event to somebody else */
    int64_t deliveries_max;     /* of one event; below 1: without limit */
    bool without_jetstream;     /* what the last look for the stream found */
};

/* AKIN_ARGUMENT, AKIN_NETWORK (no server answers). `link` has its names; the rest is empty. */
enum akin_status nats_link_open(struct nats_link *link, struct akin_error *error);
/* Looks the consumer up and makes it where it is not there (*made). AKIN_NOT_FOUND: there is no
 * such stream, and how to make it; AKIN_ARGUMENT: the consumer is of another kind; AKIN_NETWORK:
 * nobody could say, now. Waits for seconds at most. */
enum akin_status nats_link_find(struct nats_link *link, bool *made, struct akin_error *error);
/* What was asked for arrives at link->inbox. */
natsStatus nats_link_pull(struct nats_link *link, uint64_t batch, uint64_t bytes_max,
                          uint64_t expires_ns, uint64_t heartbeat_ns);
bool nats_link_is_up(struct nats_link *link);
bool nats_link_is_closed(struct nats_link *link);
uint64_t nats_link_reconnects(struct nats_link *link);
void nats_link_close(struct nats_link *link);   /* keeps the names */
