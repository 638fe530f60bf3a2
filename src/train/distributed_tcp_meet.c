/* How ranks on several machines find each other. Rank 0 listens on MASTER_ADDR:MASTER_PORT; each
 * other rank comes there and says who it is and where it listens for the rank before it; when all
 * are there they are told each other's addresses, and connect to a ring. The connection to rank 0
 * stays, for what goes wrong later. Numbers travel as they lie in memory (x86-64, little-endian).
 *
 * There is no secret in it: whoever reaches the port can take a rank's place. It belongs on
 * networks whose machines trust each other, as torch.distributed does. */
#include "train/distributed_tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

enum {
    HELLO_MILLISECONDS = 2000,
    RETRY_MILLISECONDS = 100,
    WELCOME_MILLISECONDS = 5000,
    TEXT_BYTES = 640,
};

static const char magic[16] = "akin ranks 1";

struct hello {
    char magic[16];
    uint64_t run, key;          /* key: of the ring, 0 to rank 0 */
    uint32_t world, rank, process, port;
    char host[64];
};

struct answer {
    char magic[16];
    uint64_t key;
    uint32_t status, reserved;
    char text[TEXT_BYTES];
};

struct place {
    struct tcp_peer peer;
    unsigned char address[16];  /* IPv6, or IPv4 mapped into it */
    uint32_t port, at_master;   /* at_master: where rank 0 was found */
};

struct meeting {
    const struct rendezvous *of;
    struct tcp_sockets *sockets;
    struct place *places;       /* [world] */
    struct hello own;
    uint64_t deadline_ns, key;
    int listener, ring_listener;
    struct sockaddr_storage master;     /* where rank 0 was found */
    socklen_t master_bytes;
    unsigned port;              /* that rank 0 got */
};

/* ---- sockets ---------------------------------------------------------------------------- */

static int milliseconds_left(uint64_t deadline_ns)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t left = now < deadline_ns ? (deadline_ns - now) / 1000000 : 0;
    return left > 3600000 ? 3600000 : (int)left;
}

static uint64_t soon(const struct meeting *meeting, int milliseconds)
{
    uint64_t at = clock_monotonic_ns() + (uint64_t)milliseconds * 1000000;
    return at < meeting->deadline_ns ? at : meeting->deadline_ns;
}

static bool wait_for(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd ready = { .fd = fd, .events = events };
    return poll(&ready, 1, milliseconds_left(deadline_ns)) == 1;
}

/* All of it until the deadline; the socket does not block. */
static bool read_all(int fd, void *bytes, size_t count, uint64_t deadline_ns)
{
    for (size_t done = 0; done < count;) {
        ssize_t got = recv(fd, (char *)bytes + done, count - done, 0);
        if (got > 0)
            done += (size_t)got;
        else if (got == 0 || (errno != EAGAIN && errno != EINTR) ||
                 !wait_for(fd, POLLIN, deadline_ns))
            return false;
    }
    return true;
}

static bool write_all(int fd, const void *bytes, size_t count, uint64_t deadline_ns)
{
    for (size_t done = 0; done < count;) {
        ssize_t sent = send(fd, (const char *)bytes + done, count - done, MSG_NOSIGNAL);
        if (sent > 0)
            done += (size_t)sent;
        else if ((errno != EAGAIN && errno != EINTR) || !wait_for(fd, POLLOUT, deadline_ns))
            return false;
    }
    return true;
}

static void close_socket(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void set_up(int fd)
{
    int on = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* -1 with errno set. */
static int connect_to(const struct sockaddr *address, socklen_t bytes, uint64_t deadline_ns)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    int failed = 0;
    if (connect(fd, address, bytes)) {
        socklen_t size = sizeof failed;
        if (errno != EINPROGRESS)
            failed = errno;
        else if (!wait_for(fd, POLLOUT, deadline_ns))
            failed = ETIMEDOUT;
        else
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size);
    }
    set_up(fd);
    if (failed)
        close_socket(&fd);
    errno = failed;
    return fd;
}

static bool is_loopback(const struct sockaddr *address)
{
    const struct sockaddr_in *four = (const void *)address;
    const struct sockaddr_in6 *six = (const void *)address;
    if (address->sa_family == AF_INET)
        return ntohl(four->sin_addr.s_addr) == INADDR_LOOPBACK;
    if (IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        return six->sin6_addr.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

/* On that address where it is the loopback, on all of this machine otherwise. -1 with errno. */
static int listen_at(const struct sockaddr *address, unsigned port)
{
    struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
    bool use_six = address->sa_family == AF_INET6;
    if (is_loopback(address)) {
        four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        six.sin6_addr = in6addr_loopback;
    }
    int on = 1, fd = socket(use_six ? AF_INET6 : AF_INET,
                            SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, use_six ? (struct sockaddr *)&six : (struct sockaddr *)&four,
             use_six ? sizeof six : sizeof four) || listen(fd, RANKS_MAX)) {
        int failed = errno;
        close_socket(&fd);
        errno = failed;
    }
    return fd;
}

static enum akin_status listen_for_ring(struct meeting *meeting, const struct sockaddr *address,
                                        struct akin_error *error)
{
    struct sockaddr_storage bound;
    socklen_t bytes = sizeof bound;
    meeting->ring_listener = listen_at(address, 0);
    if (meeting->ring_listener < 0 ||
        getsockname(meeting->ring_listener, (struct sockaddr *)&bound, &bytes))
        return error_system(error, "rank %zu cannot listen for the rank before it",
                            meeting->of->rank);
    meeting->own.port = ntohs(bound.ss_family == AF_INET6
                              ? ((struct sockaddr_in6 *)&bound)->sin6_port
                              : ((struct sockaddr_in *)&bound)->sin_port);
    return AKIN_OK;
}

static enum akin_status resolve(const struct meeting *meeting, struct addrinfo **found,
                                struct akin_error *error)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    int failed = getaddrinfo(meeting->of->address, NULL, &hints, found);
    if (failed)
        return error_set(error, AKIN_ARGUMENT, "MASTER_ADDR is '%s', which is the name of no "
                         "machine: %s", meeting->of->address, gai_strerror(failed));
    return AKIN_OK;
}

/* ---- rank 0 ----------------------------------------------------------------------------- */

static enum akin_status open_port(struct meeting *meeting, struct akin_error *error)
{
    struct addrinfo *found;
    TRY(resolve(meeting, &found, error));
    int failed = 0;
    const struct addrinfo *at = found;
    for (unsigned i = 0; i < meeting->of->ports && meeting->listener < 0; i++) {
        meeting->port = meeting->of->port + i;
        for (at = found; at && meeting->listener < 0; at = at->ai_next) {
            meeting->listener = listen_at(at->ai_addr, meeting->port);
            failed = errno;
            if (meeting->listener >= 0 || failed == EADDRINUSE)
                break;
        }
    }
    enum akin_status status = AKIN_OK;
    if (meeting->listener >= 0)
        status = listen_for_ring(meeting, at->ai_addr, error);
    freeaddrinfo(found);
    errno = failed;
    if (meeting->listener < 0 && failed == EADDRINUSE)
        return error_set(error, AKIN_BUSY, "port %u is in use already: set %s to a free one",
                         meeting->port, meeting->of->port_name);
    if (meeting->listener < 0)
        return error_system(error, "rank 0 cannot listen on port %u (%s)", meeting->port,
                            meeting->of->port_name);
    return status;
}

static void answer_rank(const struct meeting *meeting, int fd, enum akin_status status,
                        const char *text)
{
    struct answer answer = { .key = meeting->key, .status = status };
    memcpy(answer.magic, magic, sizeof magic);
    snprintf(answer.text, sizeof answer.text, "%s", text);
    write_all(fd, &answer, sizeof answer, clock_monotonic_ns() + UINT64_C(1000000000));
}

static void refuse_all(const struct meeting *meeting, const struct akin_error *error)
{
    for (size_t i = 1; i < meeting->of->world; i++)
        if (meeting->sockets->controls[i] >= 0)
            answer_rank(meeting, meeting->sockets->controls[i], error->status, error->message);
}

static enum akin_status check_hello(const struct meeting *meeting, const struct hello *hello,
                                    struct akin_error *error)
{
    const struct rendezvous *of = meeting->of;
    if (hello->world != of->world)
        return error_set(error, AKIN_ARGUMENT, "%s is %u at rank %u (%s, process %u) but %zu at "
                         "rank 0: it must be the same", of->world_name, hello->world, hello->rank,
                         hello->host, hello->process, of->world);
    if (hello->rank == 0 || hello->rank >= of->world)
        return error_set(error, AKIN_ARGUMENT, "a second rank %u came (%s, process %u): each "
                         "process needs a RANK of its own", hello->rank, hello->host,
                         hello->process);
    if (meeting->sockets->controls[hello->rank] < 0)
        return AKIN_OK;
    const struct tcp_peer *other = &meeting->places[hello->rank].peer;
    return error_set(error, AKIN_ARGUMENT, "two processes are rank %u: %u on %s and %u on %s",
                     hello->rank, other->process, other->host, hello->process, hello->host);
}

static void note_place(struct meeting *meeting, int fd, const struct hello *hello)
{
    struct place *place = &meeting->places[hello->rank];
    struct sockaddr_storage from = { 0 };
    socklen_t bytes = sizeof from;
    *place = (struct place){ .port = hello->port };
    place->peer.process = hello->process;
    memcpy(place->peer.host, hello->host, sizeof place->peer.host);
    meeting->sockets->controls[hello->rank] = fd;
    place->at_master = getpeername(fd, (struct sockaddr *)&from, &bytes) ||
                       is_loopback((struct sockaddr *)&from);
    if (from.ss_family == AF_INET6) {
        memcpy(place->address, &((struct sockaddr_in6 *)&from)->sin6_addr, 16);
    } else {
        memset(place->address + 10, 0xff, 2);
        memcpy(place->address + 12, &((struct sockaddr_in *)&from)->sin_addr, 4);
    }
}

/* One that came: a rank of this run, or nobody who matters. */
static enum akin_status take_in(struct meeting *meeting, int fd, size_t *arrived,
                                struct akin_error *error)
{
    struct hello hello;
    if (!read_all(fd, &hello, sizeof hello, soon(meeting, HELLO_MILLISECONDS)) ||
        memcmp(hello.magic, magic, sizeof magic)) {
        close(fd);
        return AKIN_OK;
    }
    hello.host[sizeof hello.host - 1] = 0;
    if (hello.run != meeting->of->run) {
        answer_rank(meeting, fd, AKIN_BUSY, "another run uses this port");
        close(fd);
        return AKIN_OK;
    }
    struct akin_error wrong;
    enum akin_status status = check_hello(meeting, &hello, &wrong);
    if (status != AKIN_OK) {
        answer_rank(meeting, fd, status, wrong.message);
        close(fd);
        return error_set(error, status, "%s", wrong.message);
    }
    note_place(meeting, fd, &hello);
    answer_rank(meeting, fd, AKIN_OK, "welcome");
    ++*arrived;
    return AKIN_OK;
}

/* "2", "1 to 3, 7"; returns how many. */
static size_t list_missing(const struct meeting *meeting, char *text, size_t bytes)
{
    size_t used = 0, world = meeting->of->world, count = 0;
    text[0] = 0;
    for (size_t i = 1; i < world;) {
        size_t end = i;
        while (end < world && meeting->sockets->controls[end] < 0)
            end++;
        if (end > i && used + 32 < bytes)
            used += (size_t)(end - i > 1 ? snprintf(text + used, bytes - used, "%s%zu to %zu",
                                                    count ? ", " : "", i, end - 1)
                                         : snprintf(text + used, bytes - used, "%s%zu",
                                                    count ? ", " : "", i));
        count += end - i;
        i = end + 1;
    }
    return count;
}

static enum akin_status gather_ranks(struct meeting *meeting, struct akin_error *error)
{
    for (size_t arrived = 1; arrived < meeting->of->world;) {
        if (!wait_for(meeting->listener, POLLIN, meeting->deadline_ns)) {
            char missing[256];
            size_t count = list_missing(meeting, missing, sizeof missing);
            return error_set(error, AKIN_NETWORK, "%s %s of %zu did not come to %s port %u within "
                             "%g s: were all started, with the same MASTER_ADDR, MASTER_PORT and "
                             "%s?", count > 1 ? "ranks" : "rank", missing, meeting->of->world,
                             meeting->of->address, meeting->port, meeting->of->seconds,
                             meeting->of->world_name);
        }
        int fd = accept(meeting->listener, NULL, NULL);
        if (fd < 0)
            continue;
        set_up(fd);
        TRY(take_in(meeting, fd, &arrived, error));
    }
    size_t bytes = meeting->of->world * sizeof *meeting->places;
    for (size_t i = 1; i < meeting->of->world; i++) {
        answer_rank(meeting, meeting->sockets->controls[i], AKIN_OK, "");
        if (!write_all(meeting->sockets->controls[i], meeting->places, bytes,
                       meeting->deadline_ns))
            return error_set(error, AKIN_NETWORK, "rank %zu (%s, process %u) left before all had "
                             "come", i, meeting->places[i].peer.host,
                             meeting->places[i].peer.process);
    }
    return AKIN_OK;
}

static enum akin_status meet_as_first(struct meeting *meeting, struct akin_error *error)
{
    struct akin_error why = { AKIN_OK, "" };
    TRY(open_port(meeting, error));
    struct place *own = &meeting->places[0];
    *own = (struct place){ .port = meeting->own.port, .at_master = 1 };
    own->peer.process = meeting->own.process;
    memcpy(own->peer.host, meeting->own.host, sizeof own->peer.host);
    socklen_t bytes = sizeof meeting->master;
    getsockname(meeting->listener, (struct sockaddr *)&meeting->master, &bytes);
    if (gather_ranks(meeting, &why) == AKIN_OK)
        return AKIN_OK;
    refuse_all(meeting, &why);
    return error_set(error, why.status, "%s", why.message);
}

/* ---- other ranks ------------------------------------------------------------------------ */

static bool read_answer(int fd, struct answer *answer, uint64_t deadline_ns)
{
    if (!read_all(fd, answer, sizeof *answer, deadline_ns) ||
        memcmp(answer->magic, magic, sizeof magic))
        return false;
    answer->text[TEXT_BYTES - 1] = 0;
    return true;
}

/* Says hello and is welcome or refused; false: nobody of this run is there. */
static bool say_hello(const struct meeting *meeting, int fd, struct answer *answer)
{
    uint64_t deadline = clock_monotonic_ns() + WELCOME_MILLISECONDS * UINT64_C(1000000);
    return write_all(fd, &meeting->own, sizeof meeting->own, deadline) &&
           read_answer(fd, answer, deadline) && answer->status != AKIN_BUSY;
}

/* Tries once; *failed tells why nobody answered. */
static int try_master(struct meeting *meeting, const struct addrinfo *found, unsigned port,
                      struct answer *answer, int *failed)
{
    for (; found; found = found->ai_next) {
        memcpy(&meeting->master, found->ai_addr, found->ai_addrlen);
        meeting->master_bytes = found->ai_addrlen;
        if (found->ai_family == AF_INET6)
            ((struct sockaddr_in6 *)&meeting->master)->sin6_port = htons((uint16_t)port);
        else
            ((struct sockaddr_in *)&meeting->master)->sin_port = htons((uint16_t)port);
        int fd = connect_to((struct sockaddr *)&meeting->master, meeting->master_bytes,
                            soon(meeting, HELLO_MILLISECONDS));
        if (fd < 0) {
            *failed = errno;
            continue;
        }
        *failed = 0;
        if (say_hello(meeting, fd, answer))
            return fd;
        close(fd);
    }
    return -1;
}

static enum akin_status find_master(struct meeting *meeting, const struct addrinfo *found,
                                    struct answer *answer, struct akin_error *error)
{
    int failed = 0;
    for (unsigned i = 0;; i = (i + 1) % meeting->of->ports) {
        meeting->sockets->controls[0] =
            try_master(meeting, found, meeting->of->port + i, answer, &failed);
        if (meeting->sockets->controls[0] >= 0)
            return AKIN_OK;
        if (milliseconds_left(meeting->deadline_ns) == 0)
            break;
        if (i + 1 == meeting->of->ports)
            poll(NULL, 0, RETRY_MILLISECONDS);
    }
    return error_set(error, AKIN_NETWORK, "rank 0 did not answer at %s port %u within %g s (%s): "
                     "does it run, and are MASTER_ADDR and MASTER_PORT the same there?",
                     meeting->of->address, meeting->of->port, meeting->of->seconds,
                     failed ? strerror(failed) : "somebody else listens there");
}

static enum akin_status meet_as_other(struct meeting *meeting, struct akin_error *error)
{
    struct addrinfo *found;
    struct answer answer;
    TRY(resolve(meeting, &found, error));
    enum akin_status status = listen_for_ring(meeting, found->ai_addr, error);
    if (status == AKIN_OK)
        status = find_master(meeting, found, &answer, error);
    freeaddrinfo(found);
    TRY(status);
    /* Rank 0 gives up by itself, and says why. */
    uint64_t deadline = meeting->deadline_ns + WELCOME_MILLISECONDS * UINT64_C(1000000);
    if (answer.status == AKIN_OK &&
        !read_answer(meeting->sockets->controls[0], &answer, deadline))
        return error_set(error, AKIN_NETWORK, "rank 0 left before all ranks had come");
    if (answer.status != AKIN_OK)
        return error_set(error, answer.status < AKIN_STATUS_COUNT
                         ? (enum akin_status)answer.status : AKIN_NETWORK, "%s", answer.text);
    meeting->key = answer.key;
    if (!read_all(meeting->sockets->controls[0], meeting->places,
                  meeting->of->world * sizeof *meeting->places, deadline))
        return error_set(error, AKIN_NETWORK, "rank 0 left before all ranks had come");
    return AKIN_OK;
}

/* ---- the ring --------------------------------------------------------------------------- */

static void name_peer(const struct meeting *meeting, size_t rank, char *text, size_t bytes)
{
    const struct tcp_peer *peer = &meeting->places[rank].peer;
    snprintf(text, bytes, "rank %zu (%.63s, process %u)", rank, peer->host, peer->process);
}

static int connect_to_place(struct meeting *meeting, const struct place *place)
{
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)place->port),
    };
    struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = six.sin6_port };
    const struct sockaddr *master = (struct sockaddr *)&meeting->master;
    memcpy(&six.sin6_addr, place->address, 16);
    memcpy(&four.sin_addr, place->address + 12, 4);
    bool use_six = !IN6_IS_ADDR_V4MAPPED(&six.sin6_addr);
    if (place->at_master && master->sa_family == AF_INET6) {
        use_six = true;
        six.sin6_addr = ((const struct sockaddr_in6 *)(const void *)master)->sin6_addr;
    } else if (place->at_master) {
        use_six = false;
        four.sin_addr = ((const struct sockaddr_in *)(const void *)master)->sin_addr;
    }
    if (use_six)
        return connect_to((struct sockaddr *)&six, sizeof six, meeting->deadline_ns);
    return connect_to((struct sockaddr *)&four, sizeof four, meeting->deadline_ns);
}

static enum akin_status make_ring(struct meeting *meeting, struct akin_error *error)
{
    size_t world = meeting->of->world, rank = meeting->of->rank;
    size_t next = (rank + 1) % world, before = (rank + world - 1) % world;
    char name[128];
    meeting->deadline_ns = clock_monotonic_ns() + UINT64_C(10000000000);
    meeting->own.key = meeting->key;
    name_peer(meeting, next, name, sizeof name);
    meeting->sockets->next = connect_to_place(meeting, &meeting->places[next]);
    if (meeting->sockets->next < 0)
        return error_system(error, "%s cannot be reached on port %u", name,
                            meeting->places[next].port);
    if (!write_all(meeting->sockets->next, &meeting->own, sizeof meeting->own,
                   meeting->deadline_ns))
        return error_set(error, AKIN_NETWORK, "%s left", name);
    name_peer(meeting, before, name, sizeof name);
    while (wait_for(meeting->ring_listener, POLLIN, meeting->deadline_ns)) {
        int fd = accept(meeting->ring_listener, NULL, NULL);
        struct hello hello;
        if (fd < 0)
            continue;
        set_up(fd);
        if (read_all(fd, &hello, sizeof hello, soon(meeting, HELLO_MILLISECONDS)) &&
            !memcmp(hello.magic, magic, sizeof magic) && hello.key == meeting->key &&
            hello.rank == before) {
            meeting->sockets->before = fd;
            return AKIN_OK;
        }
        close(fd);
    }
    return error_set(error, AKIN_NETWORK, "%s did not connect to rank %zu on port %u within 10 s: "
                     "is there a firewall between them?", name, rank, meeting->own.port);
}

void tcp_sockets_close(struct tcp_sockets *sockets)
{
    for (size_t i = 0; sockets->controls && i < sockets->world; i++)
        close_socket(&sockets->controls[i]);
    close_socket(&sockets->next);
    close_socket(&sockets->before);
    memory_free(sockets->controls);
    memory_free(sockets->peers);
    *sockets = (struct tcp_sockets){ .next = -1, .before = -1 };
}

enum akin_status tcp_meet(const struct rendezvous *rendezvous, struct tcp_sockets *sockets,
                          struct akin_error *error)
{
    *sockets = (struct tcp_sockets){
        .rank = rendezvous->rank, .world = rendezvous->world, .next = -1, .before = -1,
        .peers = memory_alloc(rendezvous->world, sizeof *sockets->peers),
        .controls = memory_alloc(rendezvous->world, sizeof *sockets->controls),
    };
    struct meeting meeting = {
        .of = rendezvous, .sockets = sockets, .listener = -1, .ring_listener = -1,
        .places = memory_alloc(rendezvous->world, sizeof *meeting.places),
        .deadline_ns = clock_monotonic_ns() + (uint64_t)(1e9 * rendezvous->seconds),
        .key = clock_monotonic_ns() ^ (uint64_t)getpid() << 40,
        .own = {
            .run = rendezvous->run, .world = (uint32_t)rendezvous->world,
            .rank = (uint32_t)rendezvous->rank, .process = (uint32_t)getpid(),
        },
    };
    memcpy(meeting.own.magic, magic, sizeof magic);
    gethostname(meeting.own.host, sizeof meeting.own.host - 1);
    for (size_t i = 0; sockets->controls && i < sockets->world; i++)
        sockets->controls[i] = -1;
    enum akin_status status = AKIN_OK;
    if (!sockets->peers || !sockets->controls || !meeting.places)
        status = error_memory(error);
    if (status == AKIN_OK)
        status = rendezvous->rank == 0 ? meet_as_first(&meeting, error)
                                       : meet_as_other(&meeting, error);
    if (status == AKIN_OK)
        status = make_ring(&meeting, error);
    for (size_t i = 0; status == AKIN_OK && i < sockets->world; i++)
        sockets->peers[i] = meeting.places[i].peer;
    close_socket(&meeting.listener);
    close_socket(&meeting.ring_listener);
    memory_free(meeting.places);
    if (status != AKIN_OK)
        tcp_sockets_close(sockets);
    return status;
}
