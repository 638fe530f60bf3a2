/* Lines of a file, a pipe or standard input.
 *
 * A file is known by its inode and the bytes that it begins with, so that another one of the same
 * name is told apart; its cursor is "1:<generation>:<inode>:<offset>:<head bytes>:<head hash>". The
 * generation counts the files that had the name, so that the ids of lines differ although inode and
 * offset may come again. A file that is followed is read to its end before the one that took its
 * name: until that one has content and the old one has been still for ROTATE_MS, since who writes
 * goes on in the old one for a while. inotify only shortens the waits. Of two rotations between two
 * looks (LOOK_MS, or while nothing ran) the file between is not seen. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "events/line_buffer.h"
#include "events/source_kinds.h"

enum {
    READ_BYTES = 1 << 17,
    HEAD_BYTES = 1024,          /* that a file is known by */
    LOOK_MS = 100,              /* between looks at what has the name now */
    ROTATE_MS = 250,
    ROTATE_MS_MAX = 10000,      /* for a writer that never changes to the new file */
    CURSOR_BYTES = 128,
};

struct place {                  /* what a cursor says */
    unsigned long long generation, inode, offset, head_hash;
    unsigned head_bytes;
};

struct lines_source {
    struct event_source base;
    struct source_note note;
    struct source_form form;
    char *name, *path;
    bool standard_input, follow, regular, ended;
    int fd;                     /* -1: the file is not there (yet) */
    int watch;                  /* inotify, or -1 */
    int watched;                /* its descriptor of the file, or -1 */
    dev_t device;
    struct place at;            /* generation and inode of the open file; the rest as of `cursor` */
    uint64_t identity;          /* of the file, in ids */
    struct line_buffer lines;
    char head[HEAD_BYTES];
    size_t head_count;
    bool was_at_end;            /* the last read brought nothing */
    uint64_t looked_ns, grown_ns;   /* when the name was looked at, and when bytes came last */
    uint64_t newer_ns;          /* since when another file has the name; 0: none */
    int told;                   /* errno of what was told last about opening */
    char cursor[CURSOR_BYTES], id[64];
};

static struct lines_source *lines_of(struct event_source *source)
{
    return (struct lines_source *)source;
}

/* ---- which file it is ------------------------------------------------------------------------ */

static bool read_place(const char *cursor, struct place *place)
{
    int used = 0;
    return sscanf(cursor, "1:%llu:%llu:%llu:%u:%llx%n", &place->generation, &place->inode,
                  &place->offset, &place->head_bytes, &place->head_hash, &used) == 5
           && !cursor[used] && place->head_bytes <= HEAD_BYTES
           && place->offset <= INT64_MAX && place->head_bytes <= place->offset;
}

static size_t read_head(int fd, char head[HEAD_BYTES], size_t count)
{
    ssize_t got = TEMP_FAILURE_RETRY(pread(fd, head, count, 0));
    return got > 0 ? (size_t)got : 0;
}

static bool has_head(int fd, const struct place *place)
{
    struct stat info;
    char head[HEAD_BYTES];
    return !fstat(fd, &info) && (unsigned long long)info.st_size >= place->offset
           && read_head(fd, head, place->head_bytes) == place->head_bytes
           && hash_bytes(head, place->head_bytes) == place->head_hash;
}

static bool is_inode(int fd, const struct place *place)
{
    struct stat info;
    return !fstat(fd, &info) && info.st_ino == place->inode;
}

static void write_cursor(struct lines_source *s)
{
    size_t head = s->lines.offset < HEAD_BYTES ? (size_t)s->lines.offset : HEAD_BYTES;
    if (head != s->at.head_bytes) {
        s->at.head_bytes = (unsigned)head;
        s->at.head_hash = hash_bytes(s->head, head);
    }
    s->at.offset = s->lines.offset;
    snprintf(s->cursor, sizeof s->cursor, "1:%llu:%llu:%llu:%u:%llx", s->at.generation, s->at.inode,
             s->at.offset, s->at.head_bytes, s->at.head_hash);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* -1 with errno. A FIFO that is followed is opened for writing too, and so never ends. */
static int open_file(const char *path, bool follow)
{
    struct stat info;
    int fd = TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (fd < 0)
        return -1;
    if (fstat(fd, &info) || S_ISDIR(info.st_mode)) {
        close(fd);
        errno = EISDIR;
        return -1;
    }
    if (follow && S_ISFIFO(info.st_mode)) {
        close(fd);
        fd = TEMP_FAILURE_RETRY(open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK));
    }
    return fd;
}

/* Goes on in `fd`, which becomes the source's, at `offset`. */
static void take_file(struct lines_source *s, int fd, uint64_t offset)
{
    struct stat info;
    char watched[64];
    if (s->watched >= 0)
        inotify_rm_watch(s->watch, s->watched);
    if (s->fd >= 0 && s->fd != fd)
        close(s->fd);
    s->fd = fd;
    s->watched = -1;
    s->regular = !s->standard_input && !fstat(fd, &info) && S_ISREG(info.st_mode);
    s->was_at_end = s->ended = false;
    s->newer_ns = s->looked_ns = s->grown_ns = 0;
    line_buffer_restart(&s->lines, offset);
    s->head_count = 0;
    s->told = 0;
    if (!s->regular)
        return;
    s->device = info.st_dev;
    s->at = (struct place){.generation = s->at.generation, .inode = info.st_ino};
    if (offset) {
        lseek(fd, (off_t)offset, SEEK_SET);
        s->head_count = read_head(fd, s->head, offset < HEAD_BYTES ? (size_t)offset : HEAD_BYTES);
    }
    const uint64_t seeds[] = {s->at.generation, s->at.inode};
    s->identity = hash_bytes_seed(seeds, sizeof seeds, hash_bytes(s->name, strlen(s->name)));
    if (s->watch >= 0 && s->follow) {
        snprintf(watched, sizeof watched, "/proc/self/fd/%d", fd);
        s->watched = inotify_add_watch(s->watch, watched,
                                       IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF);
    }
}

/* A file of the folder that the cursor means, renamed while nobody looked. -1: none. */
static int find_renamed(const char *path, const struct place *place, char found[PATH_BYTES_MAX])
{
    struct names names = {0};
    const char *last = path_last(path);
    int fd = -1, length = (int)(last - path);
    char folder[PATH_BYTES_MAX];
    snprintf(folder, sizeof folder, "%.*s", length ? length : 1, length ? path : ".");
    if (path_list(folder, &names, NULL) != AKIN_OK)
        return -1;
    for (size_t i = 0; i < names.count && fd < 0; i++) {
        struct stat info;
        if (path_join(found, PATH_BYTES_MAX, folder, names.items[i], NULL) != AKIN_OK
            || stat(found, &info) || !S_ISREG(info.st_mode) || info.st_ino != place->inode)
            continue;
        fd = open_file(found, false);
        if (fd >= 0 && !(is_inode(fd, place) && has_head(fd, place))) {
            close(fd);
            fd = -1;
        }
    }
    names_deinit(&names);
    return fd;
}

/* Goes on behind the cursor: in the file that has the name, or had it, or from the start. */
static void resume(struct lines_source *s, int fd, const char *cursor)
{
    struct place old;
    struct stat info;
    char found[PATH_BYTES_MAX];
    bool regular = fd >= 0 && !fstat(fd, &info) && S_ISREG(info.st_mode);
    s->at.generation = 1;
    if (*cursor && !read_place(cursor, &old)) {
        source_tell(&s->note, s->name, "the cursor \"%.60s\" is none of a file; %s is read from "
                    "its start", cursor, s->path);
    } else if (*cursor && (fd < 0 || regular)) {
        bool same = fd >= 0 && is_inode(fd, &old);
        s->at.generation = old.generation;
        if (same && has_head(fd, &old)) {
            take_file(s, fd, old.offset);
            return;
        }
        int renamed = s->follow ? find_renamed(s->path, &old, found) : -1;
        if (renamed >= 0) {
            source_tell(&s->note, s->name, "goes on in %s, which had the name before", found);
            if (fd >= 0)
                close(fd);
            take_file(s, renamed, old.offset);
            return;
        }
        if (fd >= 0 && old.head_bytes == HEAD_BYTES && has_head(fd, &old)) {
            source_tell(&s->note, s->name, "%s was copied or written anew; it begins as before and "
                        "is gone on with", s->path);
            take_file(s, fd, old.offset);
            return;
        }
        s->at.generation++;
        source_tell(&s->note, s->name, "%s%s", s->path,
                    same ? " was cut or overwritten; it is read from its start"
                         : ": the file of that name that was read before is gone, and what was not "
                           "read of it is lost");
    }
    if (fd >= 0)
        take_file(s, fd, 0);
}

/* The file that took the name; or it is not there, which is told once. */
static void open_newer(struct lines_source *s)
{
    int fd = open_file(s->path, s->follow);
    if (fd >= 0) {
        s->at.generation++;
        take_file(s, fd, 0);
    } else if (errno != s->told) {
        s->told = errno;
        source_tell(&s->note, s->name, "%s: %s; waiting for it", s->path, strerror(errno));
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

enum filled { FILLED, NOTHING, ENDED };

static int wait_ms(uint64_t deadline_ns)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t left = deadline_ns > now ? (deadline_ns - now + 999999) / 1000000 : 0;
    return left < LOOK_MS ? (int)left : LOOK_MS;
}

/* Sleeps until the file changes, or for a while. */
static void wait_for_change(struct lines_source *s, uint64_t deadline_ns)
{
    char events[4096];
    struct pollfd p = {.fd = s->watched >= 0 ? s->watch : -1, .events = POLLIN};
    int ms = wait_ms(deadline_ns);
    if (s->watched < 0 && ms > 10)
        ms = 10;
    if (poll(&p, 1, ms) <= 0 || p.fd < 0)
        return;
    ssize_t got = read(s->watch, events, sizeof events);
    for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= got;) {
        struct inotify_event e;
        memcpy(&e, events + at, sizeof e);
        if (e.mask & ~(uint32_t)IN_MODIFY)
            s->looked_ns = 0;       /* the name may be another's by now */
        at += (ssize_t)(sizeof e + e.len);
    }
}

/* Whether another file has the name, has content, and had the time that writers need to change. */
static bool is_replaced(struct lines_source *s)
{
    struct stat info;
    uint64_t now = clock_monotonic_ns();
    if (s->looked_ns && now - s->looked_ns < LOOK_MS * 1000000ull)
        return false;
    s->looked_ns = now;
    if (stat(s->path, &info) || !info.st_size
        || (info.st_ino == s->at.inode && info.st_dev == s->device)) {
        s->newer_ns = 0;
        return false;
    }
    if (!s->newer_ns)
        s->newer_ns = now;
    uint64_t since = s->grown_ns > s->newer_ns ? s->grown_ns : s->newer_ns;
    return now - since >= ROTATE_MS * 1000000ull || now - s->newer_ns >= ROTATE_MS_MAX * 1000000ull;
}

static enum akin_status read_more(struct lines_source *s, size_t *bytes, struct akin_error *error)
{
    char *room = line_buffer_room(&s->lines, READ_BYTES);
    if (!room)
        return error_memory(error);
    ssize_t got = read(s->fd, room, READ_BYTES);
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        return error_system(error, "%s", s->path);
    *bytes = got > 0 ? (size_t)got : 0;
    s->ended = got == 0;
    uint64_t offset = s->lines.offset + line_buffer_unread(&s->lines);
    if (got > 0 && offset < HEAD_BYTES && s->regular) {
        size_t room_left = HEAD_BYTES - (size_t)offset;
        size_t count = *bytes < room_left ? *bytes : room_left;
        memcpy(s->head + offset, room, count);
        s->head_count = (size_t)offset + count;
    }
    line_buffer_filled(&s->lines, *bytes);
    return AKIN_OK;
}

/* Before reading on at what was the end: whether it still is the file that was read. */
static bool is_cut(struct lines_source *s)
{
    struct stat info;
    char head[HEAD_BYTES];
    uint64_t offset = s->lines.offset + line_buffer_unread(&s->lines);
    if (fstat(s->fd, &info) || (uint64_t)info.st_size == offset)
        return false;
    return (uint64_t)info.st_size < offset || read_head(s->fd, head, s->head_count) < s->head_count
           || memcmp(head, s->head, s->head_count);
}

static enum akin_status fill_followed(struct lines_source *s, uint64_t deadline_ns,
                                      enum filled *filled, struct akin_error *error)
{
    size_t bytes = 0;
    if (s->fd < 0)
        open_newer(s);
    if (s->fd >= 0 && !s->regular) {
        *filled = NOTHING;
        return AKIN_OK;
    }
    if (s->fd >= 0 && s->was_at_end && is_cut(s)) {
        source_tell(&s->note, s->name, "%s was cut or overwritten; it is read from its start",
                    s->path);
        lseek(s->fd, 0, SEEK_SET);
        s->at.generation++;
        take_file(s, s->fd, 0);
    }
    if (s->fd >= 0)
        TRY(read_more(s, &bytes, error));
    s->was_at_end = bytes < READ_BYTES;     /* as far as it went just then */
    s->ended = false;
    *filled = bytes ? FILLED : NOTHING;
    if (bytes)
        s->grown_ns = clock_monotonic_ns();
    else if (s->fd >= 0 && is_replaced(s))
        *filled = ENDED;
    else
        wait_for_change(s, deadline_ns);
    return AKIN_OK;
}

static enum akin_status fill(struct lines_source *s, uint64_t deadline_ns, enum filled *filled,
                             struct akin_error *error)
{
    size_t bytes;
    if (s->follow && (s->regular || s->fd < 0))
        return fill_followed(s, deadline_ns, filled, error);
    if (!s->regular) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        *filled = NOTHING;
        if (poll(&p, 1, wait_ms(deadline_ns)) <= 0)
            return AKIN_OK;
    }
    TRY(read_more(s, &bytes, error));
    *filled = bytes ? FILLED : s->ended ? ENDED : NOTHING;
    return AKIN_OK;
}

/* ---- the table ------------------------------------------------------------------------------- */

static char *hex(char *to, uint64_t number)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        *to++ = "0123456789abcdef"[number >> shift & 15];
    return to;
}

static enum akin_status deliver(struct lines_source *s, const char *line, size_t bytes,
                                uint64_t begin, struct event *event, enum source_state *state,
                                struct akin_error *error)
{
    TRY(source_form_parse(&s->form, line, bytes, s->path, s->lines.number, event, state, error));
    if (*state != SOURCE_EVENT)
        return AKIN_OK;
    if (s->regular) {
        write_cursor(s);
        event->cursor = s->cursor;
    }
    if (s->regular && !*event->id) {
        char *end = hex(s->id, hash_bytes_seed(line, bytes, s->identity));
        *end++ = '@';
        *hex(end, begin) = 0;
        event->id = s->id;
    }
    return AKIN_OK;
}

static enum akin_status lines_next(struct event_source *source, int timeout_ms, struct event *event,
                                   enum source_state *state, struct akin_error *error)
{
    struct lines_source *s = lines_of(source);
    uint64_t wait_ns = timeout_ms > 0 ? (uint64_t)timeout_ms * 1000000 : 0;
    uint64_t deadline = clock_monotonic_ns() + wait_ns;
    bool last_look = false;
    for (;;) {
        const char *line = "";
        size_t bytes = 0;
        uint64_t begin = s->lines.offset;
        enum line_found found = line_buffer_next(&s->lines, s->ended, &line, &bytes);
        enum filled filled;
        if (found == LINE_LONG) {
            source_too_long(s->path, s->lines.number, EVENT_BYTES_MAX, state, error);
            return AKIN_OK;
        }
        if (!begin && bytes >= 3 && !memcmp(line, "\xef\xbb\xbf", 3)) {
            line += 3;          /* a mark of UTF-8 at the start of a file is no text */
            bytes -= 3;
        }
        if (found == LINE_WHOLE && bytes)
            return deliver(s, line, bytes, begin, event, state, error);
        if (found == LINE_WHOLE)
            continue;
        if (s->ended && !(s->follow && s->regular)) {
            *state = SOURCE_END;
            return AKIN_OK;
        }
        if (s->ended)   /* all of the file that was renamed is read */
            open_newer(s);
        *state = SOURCE_QUIET;
        if (last_look)
            return AKIN_OK;
        TRY(fill(s, deadline, &filled, error));
        s->ended = filled == ENDED;
        last_look = clock_monotonic_ns() >= deadline;
    }
}

/* The cursor that goes with each event is all there is to remember. */
static enum akin_status lines_stored(struct event_source *source, uint64_t ticket,
                                     struct akin_error *error)
{
    (void)source;
    (void)ticket;
    (void)error;
    return AKIN_OK;
}

static void lines_close(struct event_source *source)
{
    struct lines_source *s = lines_of(source);
    if (s->fd >= 0 && !s->standard_input)
        close(s->fd);
    if (s->watch >= 0)
        close(s->watch);
    line_buffer_deinit(&s->lines);
    source_form_deinit(&s->form);
    memory_free(s->name);
    memory_free(s->path);
    memory_free(s);
}

static enum akin_status begin(struct lines_source *s, const struct akin_watch_source *settings,
                              const char *cursor, struct akin_error *error)
{
    int fd;
    TRY(source_form_init(&s->form, settings, error));
    s->name = memory_copy_string(settings->name);
    s->path = memory_copy_string(strcmp(settings->address, "-") ? settings->address
                                                                : "standard input");
    if (!s->name || !s->path)
        return error_memory(error);
    s->base.name = s->name;
    if (!strcmp(settings->address, "-")) {
        s->standard_input = true;
        s->follow = false;
        take_file(s, STDIN_FILENO, 0);
        return AKIN_OK;
    }
    fd = open_file(s->path, s->follow);
    if (fd < 0 && !(s->follow && errno == ENOENT))
        return error_system(error, "%s", s->path);
    if (s->follow)
        s->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    resume(s, fd, cursor);
    return AKIN_OK;
}

enum akin_status source_lines_open(const struct akin_watch_source *settings, const char *cursor,
                                   struct source_note note, struct event_source **source,
                                   struct akin_error *error)
{
    struct lines_source *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    *s = (struct lines_source){
        .base = {.waits = true, .next = lines_next, .stored = lines_stored, .close = lines_close},
        .note = note, .follow = settings->follow, .fd = -1, .watch = -1, .watched = -1,
        .lines.line_max = EVENT_BYTES_MAX,
    };
    enum akin_status status = begin(s, settings, cursor, error);
    if (status != AKIN_OK)
        lines_close(&s->base);
    else
        *source = &s->base;
    return status;
}
