/* Lines of whoever connects to a UNIX stream socket.
 *
 * Each client has a buffer for its half line; the ready ones take turns, one read each, so that one
 * that floods delays the others by a read at most. A client is not read while nobody asks for
 * events: it then waits in its write. What all buffers hold together is bounded: beyond it, half
 * lines are cut. Nothing is remembered: what a client wrote and nobody read is gone with us.
 *
 * The socket's file has its permissions from the moment it is there (unix(7): those of the
 * descriptor at bind). One that nobody listens at is taken over; one in use is left alone. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"
#include "events/line_buffer.h"
#include "events/source_kinds.h"

enum {
    READ_BYTES = 1 << 16,
    READY_MAX = 64,
    LOOK_MS = 1000,             /* between looks whether the file is still ours */
    LOCK_TRIES = 100,           /* of 10 ms */
};

struct client {
    int fd;
    bool ended;
    uint64_t number;            /* of those that came, from 1 */
    size_t place;               /* in the source's list */
    size_t held;                /* bytes that the source has counted */
    struct line_buffer lines;
};

struct socket_source {
    struct event_source base;
    struct source_note note;
    struct source_form form;
    char *name, *path;
    mode_t mode;
    int listener, epoll;
    bool listening;             /* the listener is in `epoll` */
    struct stat file;           /* of the socket, as it was made */
    struct client **clients;    /* [client_count] */
    size_t client_count, client_capacity, held;
    uint64_t came;
    struct epoll_event ready[READY_MAX];
    int ready_count, ready_at;
    struct client *current;     /* whose lines are handed out */
    uint64_t looked_ns, paused_ns;
    int told;                   /* errno of accept, told last; -1: that there is no more room */
};

/* ---- the socket's file ----------------------------------------------------------------------- */

static bool is_ours(const struct socket_source *s)
{
    struct stat now;
    return !lstat(s->path, &now) && now.st_ino == s->file.st_ino && now.st_dev == s->file.st_dev;
}

/* Removes what a process left behind that no longer listens. */
static enum akin_status make_way(const char *path, const struct sockaddr_un *address,
                                 struct akin_error *error)
{
    struct stat info;
    if (lstat(path, &info))
        return errno == ENOENT ? AKIN_OK : error_system(error, "%s", path);
    if (!S_ISSOCK(info.st_mode))
        return error_set(error, AKIN_IO, "%s: is there and no socket: choose another path or "
                         "remove it", path);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return error_system(error, "%s", path);
    int refused = connect(probe, (const struct sockaddr *)address, sizeof *address) ? errno : 0;
    close(probe);
    if (refused == ENOENT)
        return AKIN_OK;
    if (refused != ECONNREFUSED)
        return error_set(error, AKIN_BUSY, "%s: somebody listens there already%s%s", path,
                         refused ? ": " : "", refused ? strerror(refused) : "");
    if (unlink(path) && errno != ENOENT)
        return error_system(error, "%s", path);
    return AKIN_OK;
}

static enum akin_status listen_at(struct socket_source *s, const struct sockaddr_un *address,
                                  struct akin_error *error)
{
    TRY(make_way(s->path, address, error));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_system(error, "%s", s->path);
    if (fchmod(fd, s->mode) || bind(fd, (const struct sockaddr *)address, sizeof *address)
        || lstat(s->path, &s->file) || listen(fd, SOMAXCONN)) {
        enum akin_status status = error_system(error, "%s", s->path);
        close(fd);
        return status;
    }
    /* The umask takes away; what was asked for is given back before anybody can be let in. */
    if ((s->file.st_mode & 07777) != s->mode)
        chmod(s->path, s->mode);
    if (s->listener >= 0)
        close(s->listener);
    s->listener = fd;
    s->listening = false;
    return AKIN_OK;
}

/* Two that start at once would take each other's file for stale: the folder is locked meanwhile,
 * where it can be. */
static enum akin_status make_socket(struct socket_source *s, struct akin_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct folder_lock lock;
    char folder[PATH_BYTES_MAX];
    enum akin_status locked = AKIN_BUSY;
    int length = (int)(path_last(s->path) - s->path);
    if (strlen(s->path) >= sizeof address.sun_path)
        return error_set(error, AKIN_ARGUMENT, "%s: the path of a socket has at most %zu bytes",
                         s->path, sizeof address.sun_path - 1);
    memcpy(address.sun_path, s->path, strlen(s->path));
    snprintf(folder, sizeof folder, "%.*s", length ? length : 1, length ? s->path : ".");
    for (int i = 0; i < LOCK_TRIES && locked == AKIN_BUSY; i++) {
        locked = folder_lock_take(folder, &lock, NULL);
        if (locked == AKIN_BUSY)
            clock_sleep_us(10000);
    }
    enum akin_status status = listen_at(s, &address, error);
    if (locked == AKIN_OK)
        folder_lock_release(&lock);
    return status;
}

/* A file that was removed under us is made again: nobody could connect otherwise. */
static void look_at_file(struct socket_source *s)
{
    struct akin_error error;
    struct stat info;
    uint64_t now = clock_monotonic_ns();
    if (now - s->looked_ns < LOOK_MS * 1000000ull)
        return;
    s->looked_ns = now;
    if (!lstat(s->path, &info) || errno != ENOENT)
        return;
    if (make_socket(s, &error) == AKIN_OK)
        source_tell(&s->note, s->name, "%s was removed and is made again", s->path);
}

/* ---- clients --------------------------------------------------------------------------------- */

static void drop(struct socket_source *s, struct client *c)
{
    struct client *last = s->clients[--s->client_count];
    s->clients[c->place] = last;
    last->place = c->place;
    s->held -= c->held;
    if (s->current == c)
        s->current = NULL;
    close(c->fd);
    line_buffer_deinit(&c->lines);
    memory_free(c);
}

/* Who cannot be taken waits in the queue of the listener, until one leaves or for a second. */
static void pause_listening(struct socket_source *s, int reason)
{
    epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->listener, NULL);
    s->listening = false;
    s->paused_ns = clock_monotonic_ns();
    if (reason != s->told)
        source_tell(&s->note, s->name, "%s: %s; further clients wait", s->path,
                    reason < 0 ? "as many clients as can be served" : strerror(reason));
    s->told = reason;
}

static enum akin_status resume_listening(struct socket_source *s, struct akin_error *error)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (s->listening || s->client_count == SOCKET_CLIENTS_MAX
        || (s->told > 0 && clock_monotonic_ns() - s->paused_ns < LOOK_MS * 1000000ull))
        return AKIN_OK;
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &event))
        return error_system(error, "%s", s->path);
    s->listening = true;
    return AKIN_OK;
}

static enum akin_status take_clients(struct socket_source *s, struct akin_error *error)
{
    while (s->client_count < SOCKET_CLIENTS_MAX) {
        struct client *c;
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            return AKIN_OK;
        if (fd < 0) {
            pause_listening(s, errno);
            return AKIN_OK;
        }
        if (!array_reserve((void **)&s->clients, &s->client_capacity, s->client_count + 1,
                           sizeof *s->clients)
            || !(c = memory_alloc(1, sizeof *c))) {
            close(fd);
            return error_memory(error);
        }
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        *c = (struct client){.fd = fd, .number = ++s->came, .place = s->client_count};
        if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event)) {
            pause_listening(s, errno);
            close(fd);
            memory_free(c);
            return AKIN_OK;
        }
        s->clients[s->client_count++] = c;
        s->told = 0;
    }
    pause_listening(s, -1);
    return AKIN_OK;
}

static void count_held(struct socket_source *s, struct client *c)
{
    s->held -= c->held;
    c->held = line_buffer_unread(&c->lines);
    s->held += c->held;
}

static enum akin_status read_client(struct socket_source *s, struct client *c,
                                    struct akin_error *error)
{
    c->lines.line_max = s->held > SOCKET_BYTES_MAX ? READ_BYTES : EVENT_BYTES_MAX;
    char *room = line_buffer_room(&c->lines, READ_BYTES);
    if (!room)
        return error_memory(error);
    ssize_t got = read(c->fd, room, READ_BYTES);
    if (got > 0)
        line_buffer_filled(&c->lines, (size_t)got);
    /* Whatever else is wrong with it, the connection is over, and the others are not. */
    c->ended = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
    s->current = c;
    return AKIN_OK;
}

/* ---- the table ------------------------------------------------------------------------------- */

/* The next line of the current client; false: it has none for now. */
static bool take_line(struct socket_source *s, struct event *event, enum source_state *state,
                      enum akin_status *status, struct akin_error *error)
{
    struct client *c = s->current;
    const char *line = "";
    size_t bytes = 0;
    enum line_found found;
    char place[SOURCE_NAME_BYTES_MAX];
    do
        found = line_buffer_next(&c->lines, c->ended, &line, &bytes);
    while (found == LINE_WHOLE && !bytes);
    *status = AKIN_OK;
    snprintf(place, sizeof place, "%s, client %llu", s->path, (unsigned long long)c->number);
    if (found == LINE_WHOLE) {
        *status = source_form_parse(&s->form, line, bytes, place, c->lines.number, event, state,
                                    error);
    } else if (found == LINE_LONG) {
        source_too_long(place, c->lines.number, c->lines.line_max, state, error);
    } else if (c->ended) {
        drop(s, c);
    } else {
        line_buffer_shrink(&c->lines);
        count_held(s, c);
        s->current = NULL;
    }
    return found != LINE_NONE;
}

static enum akin_status socket_next(struct event_source *source, int timeout_ms,
                                    struct event *event, enum source_state *state,
                                    struct akin_error *error)
{
    struct socket_source *s = (struct socket_source *)source;
    uint64_t wait_ns = timeout_ms > 0 ? (uint64_t)timeout_ms * 1000000 : 0;
    uint64_t deadline = clock_monotonic_ns() + wait_ns;
    enum akin_status status;
    for (bool last_look = false;;) {
        if (s->current) {
            if (take_line(s, event, state, &status, error))
                return status;
            continue;
        }
        if (s->ready_at < s->ready_count) {
            struct client *c = s->ready[s->ready_at++].data.ptr;
            TRY(c ? read_client(s, c, error) : take_clients(s, error));
            continue;
        }
        *state = SOURCE_QUIET;
        if (last_look)
            return AKIN_OK;
        TRY(resume_listening(s, error));
        uint64_t now = clock_monotonic_ns();
        uint64_t left_ms = deadline > now ? (deadline - now + 999999) / 1000000 : 0;
        s->ready_at = 0;
        s->ready_count = epoll_wait(s->epoll, s->ready, READY_MAX,
                                    (int)(left_ms < LOOK_MS ? left_ms : LOOK_MS));
        if (s->ready_count < 0 && errno != EINTR)
            return error_system(error, "%s", s->path);
        if (s->ready_count <= 0)
            look_at_file(s);
        last_look = s->ready_count < 0 || clock_monotonic_ns() >= deadline;
    }
}

/* Who wrote a line cannot be asked for it again. */
static enum akin_status socket_stored(struct event_source *source, uint64_t ticket,
                                      struct akin_error *error)
{
    (void)source;
    (void)ticket;
    (void)error;
    return AKIN_OK;
}

static void socket_close(struct event_source *source)
{
    struct socket_source *s = (struct socket_source *)source;
    while (s->client_count)
        drop(s, s->clients[0]);
    memory_free(s->clients);
    if (s->listener >= 0) {
        if (is_ours(s))
            unlink(s->path);
        close(s->listener);
    }
    if (s->epoll >= 0)
        close(s->epoll);
    source_form_deinit(&s->form);
    memory_free(s->name);
    memory_free(s->path);
    memory_free(s);
}

static enum akin_status begin(struct socket_source *s, const struct akin_watch_source *settings,
                              struct akin_error *error)
{
    if (settings->mode & ~0777u)
        return error_set(error, AKIN_ARGUMENT, "mode: the permissions of a socket are 0 to 0777");
    TRY(source_form_init(&s->form, settings, error));
    s->name = memory_copy_string(settings->name);
    s->path = memory_copy_string(settings->address);
    if (!s->name || !s->path)
        return error_memory(error);
    s->base.name = s->name;
    s->mode = settings->mode ? settings->mode : 0600;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0)
        return error_system(error, "%s", s->path);
    TRY(make_socket(s, error));
    s->looked_ns = clock_monotonic_ns();
    return resume_listening(s, error);
}

enum akin_status source_socket_open(const struct akin_watch_source *settings, const char *cursor,
                                    struct source_note note, struct event_source **source,
                                    struct akin_error *error)
{
    struct socket_source *s = memory_alloc(1, sizeof *s);
    (void)cursor;
    if (!s)
        return error_memory(error);
    *s = (struct socket_source){
        .base = {.waits = true, .next = socket_next, .stored = socket_stored,
                 .close = socket_close},
        .note = note, .listener = -1, .epoll = -1,
    };
    enum akin_status status = begin(s, settings, error);
    if (status != AKIN_OK)
        socket_close(&s->base);
    else
        *source = &s->base;
    return status;
}
