/* Alarms into a UNIX socket (a stream), one a line. Whoever listens may come and go: a line that
 * was cut off is sent again, whole, on the next connection. What a listener that dies has not read
 * is lost with it. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "watch/alert_outlet.h"

enum { SLICE_MS = 50 };

struct socket_sink {
    struct alert_sink sink;
    struct sockaddr_un address;
    int fd;                     /* -1: not connected */
};

static void hang_up(struct socket_sink *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

static bool call(struct socket_sink *s, struct akin_error *error)
{
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd >= 0 && !connect(s->fd, (struct sockaddr *)&s->address, sizeof s->address))
        return true;
    error_system(error, "%s", s->address.sun_path);
    hang_up(s);
    return false;
}

/* What the other side says is not wanted; that it says no more means it has gone. */
static bool is_open(const struct socket_sink *s)
{
    char waste[4096];
    ssize_t got = 1;
    for (int i = 0; i < 16 && got > 0; i++)
        got = recv(s->fd, waste, sizeof waste, MSG_DONTWAIT);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static enum sink_result socket_send(struct alert_sink *sink, char *line, size_t bytes,
                                    const atomic_bool *stop, struct akin_error *error)
{
    struct socket_sink *s = (struct socket_sink *)sink;
    if (s->fd >= 0 && !is_open(s))
        hang_up(s);
    if (s->fd < 0 && !call(s, error))
        return SINK_AGAIN;
    for (size_t sent = 0; sent < bytes && !atomic_load(stop);) {
        ssize_t count = send(s->fd, line + sent, bytes - sent, MSG_NOSIGNAL);
        if (count >= 0) {
            sent += (size_t)count;
        } else if (errno == EAGAIN) {
            struct pollfd ready = { .fd = s->fd, .events = POLLOUT };
            poll(&ready, 1, SLICE_MS);
        } else if (errno != EINTR) {
            error_system(error, "%s", s->address.sun_path);
            hang_up(s);
            return SINK_AGAIN;
        }
        if (sent == bytes)
            return SINK_TOOK;
    }
    return SINK_AGAIN;          /* told to stop */
}

static void socket_close(struct alert_sink *sink)
{
    struct socket_sink *s = (struct socket_sink *)sink;
    hang_up(s);
    memory_free(s);
}

enum akin_status alert_socket_open(const char *path, struct alert_sink **sink,
                                   struct akin_error *error)
{
    struct socket_sink *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    s->sink = (struct alert_sink){ .send = socket_send, .close = socket_close,
                                   .pause_first_ms = 100, .pause_max_ms = 5000 };
    s->fd = -1;
    s->address.sun_family = AF_UNIX;
    if (!*path || strlen(path) >= sizeof s->address.sun_path) {
        memory_free(s);
        return error_set(error, AKIN_ARGUMENT,
                         "'%s': the path of a socket has 1 to %zu bytes; choose a shorter one",
                         path, sizeof s->address.sun_path - 1);
    }
    memcpy(s->address.sun_path, path, strlen(path) + 1);
    snprintf(s->sink.name, sizeof s->sink.name, "socket %s", path);
    *sink = &s->sink;
    return AKIN_OK;
}
