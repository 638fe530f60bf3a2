/* The ring over TCP, and what tells that a rank is lost: its sockets end, or nothing is heard of
 * it. Rank 0 hears of all and tells all. A neighbour's socket that ends is only believed after a
 * moment in which rank 0 may tell the true cause: ranks that stop because of another one end theirs
 * too. */
#include "train/distributed_tcp.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

enum {
    RECEIVE_BYTES = 256 << 10,
    BEAT_MILLISECONDS = 500,
    SILENCE_MILLISECONDS = 4000,
    BELIEVE_MILLISECONDS = 1000,
    LINGER_MILLISECONDS = 500,
    NOTE_MAGIC = 0x65746f6e,
};

/* On the connections with rank 0: a beat (no text), or why all must stop. */
struct note {
    uint32_t magic, bytes;
    char text[1024];
};

enum { NOTE_HEAD = 2 * sizeof(uint32_t) };

struct control {
    struct note note;
    size_t have;
    uint64_t heard_ns;
};

struct tcp_link {
    struct tcp_sockets sockets;
    struct control *controls;   /* [world] */
    struct pollfd *polls;       /* [world + 3] */
    int event;
    atomic_bool leaving;
    bool told, before_ended;
    unsigned char *buffer;      /* [begin, end) came in and was not taken */
    size_t begin, end;
    size_t suspect;             /* its end of the ring is closed; SIZE_MAX: nobody */
    uint64_t suspect_ns, beat_ns;
};

static void name_rank(const struct tcp_link *link, size_t rank, char *text, size_t bytes)
{
    const struct tcp_peer *peer = &link->sockets.peers[rank];
    snprintf(text, bytes, "rank %zu (%.63s, process %u)", rank, peer->host, peer->process);
}

static enum akin_status lost(const struct tcp_link *link, size_t rank, const char *how,
                             struct akin_error *error)
{
    char name[128];
    name_rank(link, rank, name, sizeof name);
    return error_set(error, AKIN_NETWORK, "%s %s", name, how);
}

static void suspect(struct tcp_link *link, size_t rank)
{
    if (link->suspect != SIZE_MAX)
        return;
    link->suspect = rank;
    link->suspect_ns = clock_monotonic_ns();
}

/* ---- the ring --------------------------------------------------------------------------- */

static enum akin_status tcp_send(void *context, const void *bytes, size_t count, bool more,
                                 size_t *sent, struct akin_error *error)
{
    (void)error;
    struct tcp_link *link = context;
    ssize_t done = send(link->sockets.next, bytes, count, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    *sent = done > 0 ? (size_t)done : 0;
    if (done < 0 && errno != EAGAIN && errno != EINTR)
        suspect(link, (link->sockets.rank + 1) % link->sockets.world);
    return AKIN_OK;
}

static enum akin_status tcp_peek(void *context, const void **bytes, size_t *count,
                                 struct akin_error *error)
{
    (void)error;
    struct tcp_link *link = context;
    if (link->end - link->begin < sizeof(float) && !link->before_ended) {
        memmove(link->buffer, link->buffer + link->begin, link->end - link->begin);
        link->end -= link->begin;
        link->begin = 0;
        ssize_t got = recv(link->sockets.before, link->buffer + link->end,
                           RECEIVE_BYTES - link->end, 0);
        if (got > 0)
            link->end += (size_t)got;
        link->before_ended = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
    }
    *bytes = link->buffer + link->begin;
    *count = (link->end - link->begin) & ~(sizeof(float) - 1);
    return AKIN_OK;
}

static void tcp_take(void *context, size_t count)
{
    struct tcp_link *link = context;
    link->begin += count;
}

/* ---- who is there ----------------------------------------------------------------------- */

static bool send_note(const struct tcp_link *link, size_t rank, const char *text)
{
    struct note note = { .magic = NOTE_MAGIC };
    note.bytes = (uint32_t)snprintf(note.text, sizeof note.text, "%s", text);
    if (note.bytes >= sizeof note.text)
        note.bytes = sizeof note.text - 1;
    size_t count = NOTE_HEAD + note.bytes;
    return send(link->sockets.controls[rank], &note, count, MSG_NOSIGNAL) == (ssize_t)count;
}

/* Hears what came from a rank. */
static enum akin_status hear(struct tcp_link *link, size_t rank, struct akin_error *error)
{
    struct control *control = &link->controls[rank];
    struct note *note = &control->note;
    for (;;) {
        bool head = control->have >= NOTE_HEAD;
        if (head && (note->magic != NOTE_MAGIC || note->bytes >= sizeof note->text))
            return lost(link, rank, "sent something that no rank sends", error);
        size_t want = NOTE_HEAD + (head ? note->bytes : 0);
        if (head && control->have == want) {
            control->have = 0;
            control->heard_ns = clock_monotonic_ns();
            note->text[note->bytes] = 0;
            if (note->bytes)
                return error_set(error, AKIN_NETWORK, "%s", note->text);
            continue;
        }
        ssize_t got = recv(link->sockets.controls[rank], (char *)note + control->have,
                           want - control->have, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return AKIN_OK;
        if (got <= 0 && link->leaving) {
            close(link->sockets.controls[rank]);
            link->sockets.controls[rank] = -1;
            return AKIN_OK;
        }
        if (got <= 0)
            return lost(link, rank, "ended", error);
        control->have += (size_t)got;
    }
}

static enum akin_status look_after(struct tcp_link *link, struct akin_error *error)
{
    bool beat = ms_since(link->beat_ns) >= BEAT_MILLISECONDS;
    if (beat)
        link->beat_ns = clock_monotonic_ns();
    for (size_t i = 0; i < link->sockets.world; i++) {
        if (link->sockets.controls[i] < 0)
            continue;
        TRY(hear(link, i, error));
        if (link->sockets.controls[i] < 0)
            continue;
        if (ms_since(link->controls[i].heard_ns) > SILENCE_MILLISECONDS)
            return lost(link, i, "has not been heard of for 4 s", error);
        if (beat)
            send_note(link, i, "");
    }
    if (link->before_ended && (!link->leaving || link->end - link->begin < sizeof(float)))
        suspect(link, (link->sockets.rank + link->sockets.world - 1) % link->sockets.world);
    if (link->suspect != SIZE_MAX && ms_since(link->suspect_ns) > BELIEVE_MILLISECONDS)
        return lost(link, link->suspect, "ended", error);
    return AKIN_OK;
}

static enum akin_status tcp_wait(void *context, bool sending, bool receiving, int milliseconds,
                                 struct akin_error *error)
{
    struct tcp_link *link = context;
    size_t count = 0;
    bool whole = link->suspect == SIZE_MAX && !link->told;
    int most = whole ? BEAT_MILLISECONDS : BEAT_MILLISECONDS / 10;
    link->polls[count++] = (struct pollfd){ .fd = link->event, .events = POLLIN };
    if (sending && whole)
        link->polls[count++] = (struct pollfd){ .fd = link->sockets.next, .events = POLLOUT };
    if (receiving && whole && !link->before_ended)
        link->polls[count++] = (struct pollfd){ .fd = link->sockets.before, .events = POLLIN };
    for (size_t i = 0; whole && i < link->sockets.world; i++)
        if (link->sockets.controls[i] >= 0)
            link->polls[count++] =
                (struct pollfd){ .fd = link->sockets.controls[i], .events = POLLIN };
    poll(link->polls, count, milliseconds < most ? milliseconds : most);
    if (link->polls[0].revents) {
        eventfd_t ignored;
        eventfd_read(link->event, &ignored);
    }
    return link->told ? AKIN_OK : look_after(link, error);
}

static void tcp_wake(void *context)
{
    const struct tcp_link *link = context;
    eventfd_write(link->event, 1);
}

/* Their sockets are shut behind it, so that a rank that is not reached otherwise sees an end. */
static void tcp_fail(void *context, const char *message)
{
    struct tcp_link *link = context;
    if (link->told)
        return;
    link->told = true;
    for (size_t i = 0; i < link->sockets.world; i++)
        if (link->sockets.controls[i] >= 0) {
            send_note(link, i, message);
            shutdown(link->sockets.controls[i], SHUT_WR);
        }
}

static void tcp_leaving(void *context)
{
    struct tcp_link *link = context;
    link->leaving = true;
}

/* What the others sent is read before the end: to close a socket with bytes in it would throw away
 * what they have not read yet. */
static void linger(struct tcp_link *link)
{
    uint64_t start = clock_monotonic_ns();
    for (size_t i = 0; i < link->sockets.world; i++)
        while (link->sockets.controls[i] >= 0 &&
               ms_since(start) < LINGER_MILLISECONDS) {
            char nothing[4096];
            ssize_t got = recv(link->sockets.controls[i], nothing, sizeof nothing, 0);
            if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
                break;
            struct pollfd more = { .fd = link->sockets.controls[i], .events = POLLIN };
            if (got < 0)
                poll(&more, 1, LINGER_MILLISECONDS / 10);
        }
}

static void tcp_close(void *context)
{
    struct tcp_link *link = context;
    if (link->told)
        linger(link);
    tcp_sockets_close(&link->sockets);
    if (link->event >= 0)
        close(link->event);
    memory_free(link->buffer);
    memory_free(link->polls);
    memory_free(link->controls);
    memory_free(link);
}

enum akin_status tcp_connect(const struct rendezvous *rendezvous, struct ring_link *made,
                             struct akin_error *error)
{
    struct tcp_link *link = memory_alloc(1, sizeof *link);
    if (!link)
        return error_memory(error);
    link->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    link->suspect = SIZE_MAX;
    link->sockets.next = link->sockets.before = -1;
    link->buffer = memory_alloc_aligned(1, RECEIVE_BYTES);
    link->polls = memory_alloc(rendezvous->world + 3, sizeof *link->polls);
    link->controls = memory_alloc(rendezvous->world, sizeof *link->controls);
    enum akin_status status = AKIN_OK;
    if (link->event < 0)
        status = error_system(error, "no descriptor for an event");
    else if (!link->buffer || !link->polls || !link->controls)
        status = error_memory(error);
    if (status == AKIN_OK)
        status = tcp_meet(rendezvous, &link->sockets, error);
    if (status != AKIN_OK) {
        tcp_close(link);
        return status;
    }
    link->beat_ns = clock_monotonic_ns();
    for (size_t i = 0; i < rendezvous->world; i++)
        link->controls[i].heard_ns = link->beat_ns;
    *made = (struct ring_link){
        .name = "tcp", .context = link, .send = tcp_send, .peek = tcp_peek, .take = tcp_take,
        .wait = tcp_wait, .wake = tcp_wake, .fail = tcp_fail, .leaving = tcp_leaving,
        .close = tcp_close,
    };
    return AKIN_OK;
}
