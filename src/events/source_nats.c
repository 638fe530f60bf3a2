/* Events of a NATS JetStream stream, by a durable pull consumer that several processes may share.
 *
 * An event is acknowledged when it is stored; what a process that died had taken, the server gives
 * to the others once the consumer's ack wait is over, and what one that closes has taken, at once.
 * An event that takes long to be stored is kept by saying that it is in progress. Its id is the
 * header Nats-Msg-Id, otherwise the stream (with the moment it was made) and the number in it.
 *
 * Pulled by requests of our own (the message protocol of JetStream's API, ADR-13), not by
 * natsSubscription_Fetch, which hands out nothing before a batch is whole or its time over. One
 * request is out at a time, renewed when half of it has come; its size follows how fast events are
 * taken, so that few wait here while another process is idle. The server's heartbeats tell whether
 * the request still stands: elections and dead servers silently drop it. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "events/nats_link.h"
#include "events/source_kinds.h"

#define MS UINT64_C(1000000)

enum {
    BATCH_FIRST = 32,
    BATCH_MAX = 512,
    LOOK_MS = 10,               /* between looks at connection and requests */
    HEARTBEAT_MS = 1000,
    SILENCE_MS = 3000,          /* a request that is not heard of for so long is gone */
    EXPIRES_MS = 30000,
    FAST_MS = 1000, SLOW_MS = 4000,     /* a batch taken faster or slower changes the next */
    RETRY_MS = 250, RETRY_MS_MAX = 5000,
    FLUSH_MS = 2000,
    OPEN_MS = 20000,            /* in which a cluster may elect, at the start; */
    OPEN_WITHOUT_MS = 1000,     /* where there is no JetStream */
    PULL_BYTES = 8 << 20,       /* of one request */
};

struct taken {                  /* and not stored yet */
    char *reply;                /* where it is acknowledged */
    uint64_t since_ns;          /* taken, or last said to be in progress */
};

struct nats_source {
    struct event_source base;
    struct source_note note;
    struct source_form form;
    char *name, *servers, *stream, *consumer, *subject;
    struct nats_link link;
    struct taken *taken;        /* [NATS_IN_FLIGHT_MAX], a ring */
    uint64_t stored, given;     /* tickets; between them lies what is taken */
    natsMsg *message;           /* whose views were handed out */
    uint64_t wanted;            /* asked for and not here */
    uint64_t batch, asked_ns, heard_ns, looked_ns, progress_ns;
    uint64_t retry_ns, delay_ms;        /* not before; 0: no trouble */
    uint64_t reconnects;
    bool single;                /* the next event is too large for a request: asked for alone */
    char told[256];             /* the trouble that was told of */
    char id[EVENT_ID_BYTES_MAX + 1];
};

static struct taken *taken_at(struct nats_source *s, uint64_t ticket)
{
    return &s->taken[ticket % NATS_IN_FLIGHT_MAX];
}

/* ---- trouble --------------------------------------------------------------------------------- */

/* Told once, until all is well again; tried again after a while, and then after a longer one. */
static void trouble(struct nats_source *s, const char *what)
{
    s->wanted = 0;
    s->delay_ms = s->delay_ms ? 2 * s->delay_ms : RETRY_MS;
    if (s->delay_ms > RETRY_MS_MAX)
        s->delay_ms = RETRY_MS_MAX;
    s->retry_ns = clock_monotonic_ns() + s->delay_ms * MS;
    if (!strncmp(s->told, what, sizeof s->told - 1))
        return;
    snprintf(s->told, sizeof s->told, "%s", what);
    source_tell(&s->note, s->name, "%s; tries again", what);
}

static void all_is_well(struct nats_source *s, uint64_t now)
{
    s->heard_ns = now;
    s->delay_ms = s->retry_ns = 0;
    if (*s->told)
        source_tell(&s->note, s->name, "events come again");
    s->told[0] = 0;
}

static void look_up(struct nats_source *s)
{
    struct akin_error error;
    bool made;
    if (nats_link_find(&s->link, &made, &error) != AKIN_OK)
        trouble(s, error.message);
    else if (made)
        source_tell(&s->note, s->name, "the consumer %s was gone and is made again; events that "
                    "were stored come again and are left out by their ids", s->consumer);
    s->heard_ns = clock_monotonic_ns();
}

static void relink(struct nats_source *s)
{
    struct akin_error error;
    nats_link_close(&s->link);
    enum akin_status status = nats_link_open(&s->link, &error);
    if (status != AKIN_OK) {
        nats_link_close(&s->link);
        trouble(s, error.message);
        return;
    }
    s->reconnects = 0;
    s->wanted = 0;
    look_up(s);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void ask(struct nats_source *s, uint64_t now)
{
    uint64_t room = NATS_IN_FLIGHT_MAX - (s->given - s->stored);
    if (s->wanted > s->batch / 2 || s->wanted >= room)
        return;
    if (s->asked_ns && !s->wanted && now - s->asked_ns > SLOW_MS * MS && s->batch > 1)
        s->batch /= 2;
    else if (s->asked_ns && now - s->asked_ns < FAST_MS * MS && s->batch < BATCH_MAX)
        s->batch *= 2;
    uint64_t count = s->single ? 1 : s->batch - s->wanted < room ? s->batch - s->wanted : room;
    natsStatus status = nats_link_pull(&s->link, count, s->single ? 0 : PULL_BYTES,
                                       EXPIRES_MS * MS, HEARTBEAT_MS * MS);
    if (status != NATS_OK) {
        trouble(s, natsStatus_GetText(status));
        return;
    }
    s->asked_ns = now;
    s->wanted += count;
    s->single = false;
}

/* What was taken long ago is still ours. */
static void say_progress(struct nats_source *s, uint64_t now)
{
    uint64_t wait = (uint64_t)s->link.ack_wait_ns;
    if (now - s->progress_ns < wait / 8)
        return;
    s->progress_ns = now;
    for (uint64_t ticket = s->stored + 1; ticket <= s->given; ticket++) {
        struct taken *t = taken_at(s, ticket);
        if (now - t->since_ns < wait / 2)
            continue;
        natsConnection_PublishString(s->link.connection, t->reply, "+WPI");
        t->since_ns = now;
    }
}

/* Connection, requests, progress: from time to time. */
static void keep_up(struct nats_source *s)
{
    uint64_t now = clock_monotonic_ns();
    bool hungry = s->wanted <= s->batch / 2 && !s->retry_ns;
    if (!hungry && now - s->looked_ns < LOOK_MS * MS)
        return;
    s->looked_ns = now;
    if (s->retry_ns && now < s->retry_ns)
        return;
    if (nats_link_is_closed(&s->link)) {
        relink(s);
        return;
    }
    if (!nats_link_is_up(&s->link)) {
        if (!*s->told)
            trouble(s, "the connection is lost");
        s->wanted = 0;
        return;
    }
    uint64_t reconnects = nats_link_reconnects(&s->link);
    bool again = s->retry_ns != 0 || now - s->heard_ns > SILENCE_MS * MS;
    if (reconnects != s->reconnects || again) {
        s->reconnects = reconnects;
        s->wanted = 0;
        s->retry_ns = 0;
        s->heard_ns = now;
        if (again)
            look_up(s);     /* a cluster that cannot say now may deliver nevertheless */
    }
    ask(s, now);
    say_progress(s, now);
}

/* ---- what comes ------------------------------------------------------------------------------ */

/* A message without an event: heartbeats, and why a request is over. */
static void take_status(struct nats_source *s, natsMsg *message, const char *code, uint64_t now)
{
    const char *why = "";
    natsMsgHeader_Get(message, "Description", &why);
    if (!strncmp(code, "100", 3)) {
        all_is_well(s, now);
    } else if (!strncmp(code, "408", 3) || !strncmp(code, "404", 3)) {
        s->heard_ns = now;
        s->wanted = 0;
    } else if (strstr(why, "MaxBytes")) {
        s->single = s->wanted > 0;
        s->wanted = 0;
    } else {
        char text[200];
        snprintf(text, sizeof text, "the server says: %.20s %.100s", code, why);
        trouble(s, text);
    }
}

static const char *id_of(struct nats_source *s, natsMsg *message, uint64_t number)
{
    const char *id = NULL;
    if (natsMsgHeader_Get(message, "Nats-Msg-Id", &id) == NATS_OK && *id
        && strlen(id) <= EVENT_ID_BYTES_MAX)
        return id;
    snprintf(s->id, sizeof s->id, "%.250s@%llx:%llu", s->stream,
             (unsigned long long)s->link.created, (unsigned long long)number);
    return s->id;
}

static enum akin_status take_event(struct nats_source *s, natsMsg *message, uint64_t now,
                                   struct event *event, enum source_state *state,
                                   struct akin_error *error)
{
    const char *data = natsMsg_GetData(message);
    size_t bytes = (size_t)natsMsg_GetDataLength(message);
    jsMsgMetaData *about = NULL;
    if (s->wanted)
        s->wanted--;
    all_is_well(s, now);
    if (natsMsg_GetMetaData(&about, message) != NATS_OK)
        return AKIN_OK;         /* not of a stream: somebody wrote to the inbox */
    uint64_t number = about->Sequence.Stream;
    jsMsgMetaData_Destroy(about);
    while (bytes && (data[bytes - 1] == '\n' || data[bytes - 1] == '\r'))
        bytes--;
    if (bytes) {
        TRY(source_form_parse(&s->form, data, bytes, s->stream, number, event, state, error));
    } else {
        error_set(error, AKIN_FORMAT, "%s:%llu: the event is empty", s->stream,
                  (unsigned long long)number);
        *state = SOURCE_BAD;
    }
    if (*state == SOURCE_BAD) {
        natsConnection_PublishString(s->link.connection, natsMsg_GetReply(message), "+TERM");
        return AKIN_OK;
    }
    char *reply = memory_copy_string(natsMsg_GetReply(message));
    if (!reply)
        return error_memory(error);
    if (!*event->id)
        event->id = id_of(s, message, number);
    if (!*event->source)
        event->source = natsMsg_GetSubject(message);
    *taken_at(s, ++s->given) = (struct taken){reply, now};
    return AKIN_OK;
}

static enum akin_status nats_next(struct event_source *source, int timeout_ms, struct event *event,
                                  enum source_state *state, struct akin_error *error)
{
    struct nats_source *s = (struct nats_source *)source;
    uint64_t deadline = clock_monotonic_ns() + (timeout_ms > 0 ? (uint64_t)timeout_ms * MS : 0);
    natsMsg_Destroy(s->message);
    s->message = NULL;
    *state = SOURCE_QUIET;
    for (;;) {
        const char *code;
        keep_up(s);
        uint64_t now = clock_monotonic_ns();
        uint64_t left = deadline > now ? (deadline - now + MS - 1) / MS : 0;
        int64_t wait = left < 1 ? 1 : left > LOOK_MS ? LOOK_MS : (int64_t)left;
        natsStatus status = NATS_TIMEOUT;
        if (s->given - s->stored < NATS_IN_FLIGHT_MAX && s->link.inbox)
            status = natsSubscription_NextMsg(&s->message, s->link.inbox, wait);
        else
            clock_sleep_us(1000);
        now = clock_monotonic_ns();
        if (status == NATS_NO_RESPONDERS)
            trouble(s, "no server has the consumer now");
        else if (status == NATS_OK && !natsMsg_GetDataLength(s->message)
                 && natsMsgHeader_Get(s->message, "Status", &code) == NATS_OK)
            take_status(s, s->message, code, now);
        else if (status == NATS_OK)
            TRY(take_event(s, s->message, now, event, state, error));
        else if (status != NATS_TIMEOUT && !s->retry_ns)
            trouble(s, natsStatus_GetText(status));
        if (*state != SOURCE_QUIET)
            return AKIN_OK;
        natsMsg_Destroy(s->message);
        s->message = NULL;
        if (status != NATS_OK && status != NATS_TIMEOUT)
            clock_sleep_us((unsigned)wait * 1000);
        if (now >= deadline)
            return AKIN_OK;
    }
}

/* An acknowledgement that is lost brings the event again, and the store knows its id. */
static enum akin_status nats_stored(struct event_source *source, uint64_t ticket,
                                    struct akin_error *error)
{
    struct nats_source *s = (struct nats_source *)source;
    (void)error;
    ASSERT(ticket <= s->given);
    while (s->stored < ticket) {
        struct taken *t = taken_at(s, ++s->stored);
        if (s->link.connection)
            natsConnection_PublishString(s->link.connection, t->reply, "+ACK");
        memory_free(t->reply);
        t->reply = NULL;
    }
    return AKIN_OK;
}

/* Gives back what was not stored, so that others need not wait for the ack wait to be over. Not at
 * once: the server would answer our own request with it (2.9 also where that has no listener any
 * more, and then forgets it until the ack wait is over). */
static void give_back(struct nats_source *s)
{
    natsMsg *message = NULL;
    while (s->given - s->stored < NATS_IN_FLIGHT_MAX
           && natsSubscription_NextMsg(&message, s->link.inbox, 1) == NATS_OK) {
        const char *reply = natsMsg_GetReply(message);
        char *copy = reply ? memory_copy_string(reply) : NULL;
        if (copy)
            *taken_at(s, ++s->given) = (struct taken){.reply = copy};
        natsMsg_Destroy(message);
    }
    natsSubscription_Unsubscribe(s->link.inbox);
    natsConnection_FlushTimeout(s->link.connection, FLUSH_MS);
    for (uint64_t ticket = s->stored + 1; ticket <= s->given; ticket++)
        natsConnection_PublishString(s->link.connection, taken_at(s, ticket)->reply,
                                     "-NAK {\"delay\": 250000000}");
    natsConnection_FlushTimeout(s->link.connection, FLUSH_MS);
}

static void nats_close(struct event_source *source)
{
    struct nats_source *s = (struct nats_source *)source;
    natsMsg_Destroy(s->message);
    if (nats_link_is_up(&s->link) && s->taken)
        give_back(s);
    while (s->taken && s->stored < s->given)
        memory_free(taken_at(s, ++s->stored)->reply);
    nats_link_close(&s->link);
    source_form_deinit(&s->form);
    memory_free(s->taken);
    memory_free(s->name);
    memory_free(s->servers);
    memory_free(s->stream);
    memory_free(s->consumer);
    memory_free(s->subject);
    memory_free(s);
}

static enum akin_status check_name(const char *what, const char *name, struct akin_error *error)
{
    if (strcspn(name, ".*>/\\ \t\r\n") == strlen(name) && strlen(name) <= 200)
        return AKIN_OK;
    return error_set(error, AKIN_ARGUMENT, "%s: \"%.200s\": a name of JetStream has at most 200 "
                     "bytes, and no blanks, dots, slashes, * or >", what, name);
}

/* A cluster that elects answers for some seconds that it is not available, or not at all. */
static enum akin_status find_patiently(struct nats_source *s, struct akin_error *error)
{
    struct akin_error reason;
    uint64_t began = clock_monotonic_ns();
    bool made;
    for (;;) {
        enum akin_status status = nats_link_find(&s->link, &made, &reason);
        uint64_t patience = (s->link.without_jetstream ? OPEN_WITHOUT_MS : OPEN_MS) * MS;
        if (status == AKIN_OK)
            break;
        if (status != AKIN_NETWORK || clock_monotonic_ns() - began > patience)
            return error_set(error, status, "%s", reason.message);
        trouble(s, reason.message);
        clock_sleep_us(RETRY_MS * 1000);
    }
    all_is_well(s, clock_monotonic_ns());
    return AKIN_OK;
}

static enum akin_status begin(struct nats_source *s, const struct akin_watch_source *settings,
                              struct akin_error *error)
{
    TRY(check_name("stream", settings->stream, error));
    TRY(check_name("consumer", settings->consumer, error));
    TRY(source_form_init(&s->form, settings, error));
    bool subject = settings->subject && *settings->subject;
    s->name = memory_copy_string(settings->name);
    s->servers = memory_copy_string(settings->address);
    s->stream = memory_copy_string(settings->stream);
    s->consumer = memory_copy_string(settings->consumer);
    s->subject = subject ? memory_copy_string(settings->subject) : NULL;
    s->taken = memory_alloc(NATS_IN_FLIGHT_MAX, sizeof *s->taken);
    if (!s->name || !s->servers || !s->stream || !s->consumer || (subject && !s->subject)
        || !s->taken)
        return error_memory(error);
    s->base.name = s->name;
    s->link = (struct nats_link){.servers = s->servers, .stream = s->stream,
                                 .consumer = s->consumer, .subject = s->subject};
    TRY(nats_link_open(&s->link, error));
    TRY(find_patiently(s, error));
    if (s->link.deliveries_max > 0)
        source_tell(&s->note, s->name, "consumer %s gives an event up after %lld deliveries: what "
                    "cannot be stored for long is lost then", s->consumer,
                    (long long)s->link.deliveries_max);
    s->heard_ns = s->progress_ns = clock_monotonic_ns();
    s->batch = BATCH_FIRST;
    return AKIN_OK;
}

/* The server remembers where the consumer is: cursors are not needed. */
enum akin_status source_nats_open(const struct akin_watch_source *settings, const char *cursor,
                                  struct source_note note, struct event_source **source,
                                  struct akin_error *error)
{
    struct nats_source *s = memory_alloc(1, sizeof *s);
    (void)cursor;
    if (!s)
        return error_memory(error);
    *s = (struct nats_source){
        .base = {.waits = true, .next = nats_next, .stored = nats_stored, .close = nats_close},
        .note = note,
    };
    enum akin_status status = begin(s, settings, error);
    if (status != AKIN_OK)
        nats_close(&s->base);
    else
        *source = &s->base;
    return status;
}
