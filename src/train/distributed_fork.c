/* Ranks as children of one process. Their links are rings of bytes in memory that they share, which
 * has no name and is gone with them; the parent does nothing but look after them. A child that is
 * gone is told to the others through that memory; what does not end then is killed. If the parent
 * itself is killed, the kernel kills its children. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "train/distributed_ring.h"

enum { STREAM_BYTES = 1 << 20, KILL_SECONDS = LOST_GRACE_SECONDS + 3 };

/* From one rank to the next. Counters run on; a number of bytes is a multiple of four. */
struct stream {
    _Alignas(64) atomic_uint_fast64_t written;
    _Alignas(64) atomic_uint_fast64_t taken;
    _Alignas(64) atomic_bool asleep;    /* the rank that reads from it, and writes to its own */
    _Alignas(64) unsigned char bytes[STREAM_BYTES];
};

enum { FAILURE_NONE, FAILURE_BEING_WRITTEN, FAILURE_TOLD };

struct shared {
    atomic_int failure;
    char message[1024];
    struct stream streams[];    /* [rank]: what it reads */
};

struct family {
    struct shared *shared;
    size_t shared_bytes, count;
    int *events;                /* [rank] eventfd that wakes it; -1: none */
    pid_t *children;            /* 0: gone and reaped */
};

struct fork_link {
    struct family *family;
    struct stream *in, *out;
    size_t rank, next, before;
    bool told;                  /* of a failure: nothing else is waited for */
};

/* ---- the link --------------------------------------------------------------------------- */

static void ring_bell(const struct family *family, size_t rank)
{
    if (family->events[rank] >= 0)
        eventfd_write(family->events[rank], 1);
}

static void wake_if_asleep(const struct family *family, size_t rank)
{
    if (atomic_exchange(&family->shared->streams[rank].asleep, false))
        ring_bell(family, rank);
}

/* The first failure counts; whoever tells a second one finds it told. */
static void tell_family(const struct family *family, const char *message)
{
    int none = FAILURE_NONE;
    if (atomic_compare_exchange_strong(&family->shared->failure, &none, FAILURE_BEING_WRITTEN)) {
        snprintf(family->shared->message, sizeof family->shared->message, "%s", message);
        atomic_store(&family->shared->failure, FAILURE_TOLD);
    }
    for (size_t i = 0; i < family->count; i++)
        ring_bell(family, i);
}

static size_t room(const struct stream *stream)
{
    return STREAM_BYTES - (size_t)(atomic_load(&stream->written) - atomic_load(&stream->taken));
}

static enum akin_status fork_send(void *context, const void *bytes, size_t count, bool more,
                                  size_t *sent, struct akin_error *error)
{
    (void)error;
    struct fork_link *link = context;
    struct stream *out = link->out;
    uint64_t written = atomic_load(&out->written);
    size_t at = written % STREAM_BYTES, free_bytes = room(out);
    count = count < free_bytes ? count : free_bytes;
    count = count < STREAM_BYTES - at ? count : STREAM_BYTES - at;
    memcpy(out->bytes + at, bytes, count);
    atomic_store(&out->written, written + count);
    if (count && !more)
        wake_if_asleep(link->family, link->next);
    *sent = count;
    return AKIN_OK;
}

static enum akin_status fork_peek(void *context, const void **bytes, size_t *count,
                                  struct akin_error *error)
{
    (void)error;
    const struct fork_link *link = context;
    uint64_t taken = atomic_load(&link->in->taken);
    size_t at = taken % STREAM_BYTES, there = (size_t)(atomic_load(&link->in->written) - taken);
    *bytes = link->in->bytes + at;
    *count = there < STREAM_BYTES - at ? there : STREAM_BYTES - at;
    return AKIN_OK;
}

static void fork_take(void *context, size_t count)
{
    const struct fork_link *link = context;
    atomic_fetch_add(&link->in->taken, count);
    wake_if_asleep(link->family, link->before);
}

static enum akin_status fork_wait(void *context, bool sending, bool receiving, int milliseconds,
                                  struct akin_error *error)
{
    const struct fork_link *link = context;
    const struct shared *shared = link->family->shared;
    int event = link->family->events[link->rank];
    if (link->told) {
        poll(NULL, 0, milliseconds);
        return AKIN_OK;
    }
    /* Said before looking, so that what comes after the look rings the bell. */
    atomic_store(&link->in->asleep, true);
    bool ready = (sending && room(link->out)) || (receiving && room(link->in) < STREAM_BYTES) ||
                 atomic_load(&shared->failure) == FAILURE_TOLD;
    struct pollfd bell = { .fd = event, .events = POLLIN };
    if (poll(&bell, 1, ready ? 0 : milliseconds) == 1) {
        eventfd_t ignored;
        eventfd_read(event, &ignored);
    }
    atomic_store(&link->in->asleep, false);
    if (atomic_load(&shared->failure) == FAILURE_TOLD)
        return error_set(error, AKIN_NETWORK, "%s", shared->message);
    return AKIN_OK;
}

static void fork_wake(void *context)
{
    const struct fork_link *link = context;
    ring_bell(link->family, link->rank);
}

static void fork_fail(void *context, const char *message)
{
    struct fork_link *link = context;
    link->told = true;
    tell_family(link->family, message);
}

static void fork_leaving(void *context)
{
    (void)context;
}

/* ---- a child ---------------------------------------------------------------------------- */

static int be_child(const struct launch_settings *settings, struct family *family, size_t rank,
                    int (*body)(void *context, struct process_group *group), void *context)
{
    size_t next = (rank + 1) % family->count;
    struct fork_link of_rank = {
        .family = family, .rank = rank, .next = next,
        .before = (rank + family->count - 1) % family->count,
        .in = &family->shared->streams[rank], .out = &family->shared->streams[next],
    };
    struct ring_link link = {
        .name = "shared memory", .context = &of_rank, .send = fork_send, .peek = fork_peek,
        .take = fork_take, .wait = fork_wait, .wake = fork_wake, .fail = fork_fail,
        .leaving = fork_leaving, .close = fork_leaving,
    };
    struct akin_error error = { AKIN_OK, "" };
    int code = 1;
    if (group_run_over(settings, link, rank, family->count, rank, body, context, &code, &error) !=
            AKIN_OK && code == 0)
        code = 1;
    if (error.status != AKIN_OK)
        tell_family(family, error.message);
    return code;
}

/* ---- the parent ------------------------------------------------------------------------- */

struct watch {
    struct family *family;
    size_t left;
    int exit_code;
    bool interrupted, killed;
    uint64_t ending_ns;         /* since a rank was lost or a signal came; 0: not yet */
    struct akin_error error;
};

static void send_all(const struct family *family, int signal)
{
    for (size_t i = 0; i < family->count; i++)
        if (family->children[i])
            kill(family->children[i], signal);
}

static void child_ended(struct watch *watch, size_t rank, int how)
{
    struct family *family = watch->family;
    pid_t pid = family->children[rank];
    family->children[rank] = 0;
    watch->left--;
    int code = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
    if (!code)
        return;
    bool first = !watch->ending_ns;
    if (!watch->exit_code)
        watch->exit_code = code;
    if (!first)
        return;
    watch->ending_ns = clock_monotonic_ns();
    char message[256];
    if (WIFEXITED(how))
        snprintf(message, sizeof message, "rank %zu (process %d) stopped with exit code %d", rank,
                 (int)pid, code);
    else
        snprintf(message, sizeof message, "rank %zu (process %d) was killed by signal %d (%s)",
                 rank, (int)pid, WTERMSIG(how), strsignal(WTERMSIG(how)));
    if (!WIFEXITED(how))
        error_set(&watch->error, AKIN_NETWORK, "%s", message);
    tell_family(family, message);
}

/* A terminal sends its signals to children by itself. */
static void signal_came(struct watch *watch, const siginfo_t *info)
{
    if (!watch->ending_ns)
        watch->ending_ns = clock_monotonic_ns();
    watch->interrupted = watch->interrupted || info->si_signo == SIGINT;
    if (!watch->exit_code)
        watch->exit_code = 128 + info->si_signo;
    error_set(&watch->error, AKIN_CANCELLED, "stopped by signal %d (%s)", info->si_signo,
              strsignal(info->si_signo));
    if (info->si_code != SI_KERNEL)
        send_all(watch->family, info->si_signo);
}

static void watch_children(struct watch *watch, const sigset_t *signals)
{
    struct family *family = watch->family;
    while (watch->left) {
        for (size_t i = 0; i < family->count; i++) {
            int how;
            if (family->children[i] && waitpid(family->children[i], &how, WNOHANG) > 0)
                child_ended(watch, i, how);
        }
        if (watch->left && watch->ending_ns && !watch->killed &&
            clock_monotonic_ns() - watch->ending_ns > KILL_SECONDS * UINT64_C(1000000000)) {
            send_all(family, SIGKILL);
            watch->killed = true;
        }
        siginfo_t info;
        struct timespec soon = { .tv_nsec = 100000000 };
        if (watch->left && sigtimedwait(signals, &info, &soon) > 0 && info.si_signo != SIGCHLD)
            signal_came(watch, &info);
    }
}

static void family_deinit(struct family *family)
{
    for (size_t i = 0; family->events && i < family->count; i++)
        if (family->events[i] >= 0)
            close(family->events[i]);
    memory_unshare(family->shared, family->shared_bytes);
    memory_free(family->events);
    memory_free(family->children);
}

static enum akin_status family_init(struct family *family, size_t count, struct akin_error *error)
{
    *family = (struct family){ .count = count };
    family->shared_bytes = sizeof(struct shared) + count * sizeof(struct stream);
    family->shared = memory_share(family->shared_bytes);
    family->events = memory_alloc(count, sizeof *family->events);
    family->children = memory_alloc(count, sizeof *family->children);
    if (!family->shared || !family->events || !family->children)
        return error_memory(error);
    for (size_t i = 0; i < count; i++)
        family->events[i] = -1;
    for (size_t i = 0; i < count; i++)
        if ((family->events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
            return error_system(error, "%zu processes: no descriptor to wake number %zu", count, i);
    return AKIN_OK;
}

enum akin_status fork_run(const struct launch_settings *settings,
                          int (*body)(void *context, struct process_group *group), void *context,
                          int *exit_code, struct akin_error *error)
{
    struct family family;
    enum akin_status status = family_init(&family, settings->processes, error);
    sigset_t signals, before;
    /* Children of a process that ignores SIGCHLD end without a trace. */
    struct sigaction usual = { .sa_handler = SIG_DFL }, of_child;
    sigaction(SIGCHLD, &usual, &of_child);
    sigemptyset(&signals);
    static const int watched[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD };
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        sigaddset(&signals, watched[i]);
    sigprocmask(SIG_BLOCK, &signals, &before);

    struct watch watch = { .family = &family };
    pid_t parent = getpid();
    fflush(NULL);
    for (size_t i = 0; status == AKIN_OK && i < family.count; i++) {
        pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            sigaction(SIGCHLD, &of_child, NULL);
            sigprocmask(SIG_SETMASK, &before, NULL);
            int code = getppid() == parent ? be_child(settings, &family, i, body, context) : 1;
            fflush(NULL);
            _exit(code);
        }
        if (child < 0) {
            status = error_system(error, "rank %zu of %zu cannot be forked", i, family.count);
            send_all(&family, SIGKILL);
            watch.ending_ns = clock_monotonic_ns();
            break;
        }
        family.children[i] = child;
        watch.left++;
    }
    watch_children(&watch, &signals);
    sigaction(SIGCHLD, &of_child, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    family_deinit(&family);
    if (status != AKIN_OK)
        return status;
    *exit_code = watch.interrupted ? 130 : watch.exit_code;
    if (watch.error.status != AKIN_OK && error)
        *error = watch.error;
    return watch.error.status;
}
