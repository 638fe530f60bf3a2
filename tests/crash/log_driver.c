/* A writer of an audit log whose every state is known, for tests that kill it, fail its system
 * calls or cut its power.
 *
 *   log_driver write FOLDER RECORDS BATCHES_PER_SYNC   goes on until there are so many; prints
 *                                  "synced N" after each durable N
 *   log_driver verify FOLDER ACKED                     a fresh look: N >= ACKED, and all of N
 *   log_driver writers FOLDER THREADS RECORDS          each appends on its own and waits; prints
 *                                  "acked THREAD N" after each
 *   log_driver readers FOLDER THREADS                  a fresh look at that: "has THREAD N"
 *   log_driver kill FOLDER TRIALS SECONDS SEED         kills the two writers at random until either
 *                                  has passed, with a fresh look after each
 *
 * Record n of a source is a function of both, of 0 to 70,000 bytes; its cursor is n + 1. After a
 * failed append the writer makes sure that the log takes no more and says so, and opens it again:
 * exit 0 if that went well, 1 if the system let it do nothing, 2 for a wrong result. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "akin/audit.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/thread.h"
#include "driver.h"

enum { BATCH = 4, SOURCES = 3, CHECKPOINT_EVERY = 40, ROTATE_EVERY = 56, RECORD_MAX = 70000,
       THREADS_AT_MOST = 64 };

static void say(const char *what, uint64_t who, uint64_t number)
{
    char line[64];
    int length = strcmp(what, "synced")
                     ? snprintf(line, sizeof line, "%s %" PRIu64 " %" PRIu64 "\n", what, who,
                                number)
                     : snprintf(line, sizeof line, "%s %" PRIu64 "\n", what, number);
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        die(1, "standard output is gone");
}

/* Record n of a source. One in a hundred is empty, one in a hundred has a file of its own. */
struct made {
    char source[16], cursor[24], data[RECORD_MAX];
    struct akin_audit_record record;
};

static void make_record(uint64_t source, uint64_t n, struct made *out)
{
    uint64_t seed = mix(source * 1000003 + n);
    size_t bytes = n % 100 == 17 ? 0 : n % 100 == 31 ? RECORD_MAX - seed % 4000 : seed % 200;
    snprintf(out->source, sizeof out->source, "source %" PRIu64, source);
    snprintf(out->cursor, sizeof out->cursor, "%" PRIu64, n + 1);
    for (size_t i = 0; i < bytes; i++)
        out->data[i] = (char)(mix(seed + i / 8) >> 8 * (i % 8));
    out->record = (struct akin_audit_record){.data = out->data, .bytes = bytes,
                                             .source = out->source, .cursor = out->cursor};
}

static uint64_t cursor_of(struct akin_audit *log, uint64_t source)
{
    struct made made;
    char text[AKIN_AUDIT_CURSOR_BYTES_MAX + 1];
    make_record(source, 0, &made);
    MUST(akin_audit_cursor(log, made.source, text, sizeof text, &error));
    return strtoull(text, NULL, 10);
}

/* ---- looking ----------------------------------------------------------------------------- */

/* Reads the whole log; next[source]: how many of its records there are, each in its turn. */
static void read_all(const char *folder, uint64_t next[THREADS_AT_MOST])
{
    static struct made made;
    struct akin_audit_reader *reader;
    struct akin_audit_entry entry;
    bool more;
    uint64_t index = 0, source;
    MUST(akin_audit_reader_open(folder, 0, &reader, &error));
    for (;; index++) {
        MUST(akin_audit_reader_next(reader, &entry, &more, &error));
        if (!more)
            break;
        if (entry.index != index)
            die(2, "record %" PRIu64 " says that it is %" PRIu64, index, entry.index);
        if (entry.kind != AKIN_AUDIT_RECORD)
            continue;
        if (sscanf(entry.source, "source %" SCNu64, &source) != 1 || source >= THREADS_AT_MOST)
            die(2, "record %" PRIu64 " has source '%s'", index, entry.source);
        make_record(source, next[source]++, &made);
        if (strcmp(entry.cursor, made.cursor) || entry.bytes != made.record.bytes ||
            memcmp(entry.data, made.data, entry.bytes))
            die(2, "record %" PRIu64 " is not number %s of source %" PRIu64 " but %s", index,
                made.cursor, source, entry.cursor);
    }
    akin_audit_reader_close(&reader);
}

/* What holds after every crash: the log opens, is what the model says, verifies, and goes on. */
static void look(const char *folder, uint64_t next[THREADS_AT_MOST])
{
    struct akin_audit *log;
    struct akin_audit_verdict verdict;
    struct akin_audit_info info;
    static struct made made;
    make_record(0, 0, &made);
    made.record.source = made.record.cursor = NULL;
    MUST(akin_audit_open(folder, &log, &error));
    read_all(folder, next);
    for (uint64_t i = 0; i < THREADS_AT_MOST; i++)
        if (cursor_of(log, i) != next[i])
            die(2, "source %" PRIu64 " has %" PRIu64 " records, and its cursor is %" PRIu64, i,
                next[i], cursor_of(log, i));
    MUST(akin_audit_checkpoint(log, NULL, &error));
    akin_audit_info(log, &info);
    akin_audit_close(&log);
    MUST(akin_audit_verify(folder, NULL, &verdict, &error));
    if (verdict.records != info.records || verdict.checkpoint != info.records || verdict.writer)
        die(2, "%" PRIu64 " records, of which %" PRIu64 " verified and %" PRIu64
            " under a checkpoint", info.records, verdict.records, verdict.checkpoint);
}

static uint64_t total(const uint64_t next[THREADS_AT_MOST])
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < THREADS_AT_MOST; i++)
        sum += next[i];
    return sum;
}

/* Record n of all belongs to source n % SOURCES. */
static int verify(const char *folder, uint64_t acked)
{
    uint64_t next[THREADS_AT_MOST] = {0};
    if (!acked && !path_exists(folder))
        return 0;                       /* not made yet */
    look(folder, next);
    uint64_t n = total(next);
    for (uint64_t i = 0; i < SOURCES; i++)
        if (next[i] != (n + SOURCES - 1 - i) / SOURCES)
            die(2, "%" PRIu64 " records, and %" PRIu64 " of source %" PRIu64, n, next[i], i);
    if (n < acked)
        die(2, "%" PRIu64 " records only", n);
    return 0;
}

static int readers(const char *folder, uint64_t threads)
{
    uint64_t next[THREADS_AT_MOST] = {0};
    if (path_exists(folder))
        look(folder, next);
    for (uint64_t i = 0; i < threads; i++)
        say("has", i, next[i]);
    return 0;
}

/* ---- one writer -------------------------------------------------------------------------- */

/* After a failure: nothing more is taken, and the reason is told. */
static void check_refusal(struct akin_audit *log)
{
    struct made *made = malloc(sizeof *made);
    if (!made)
        die(1, "no memory");
    make_record(0, 0, made);
    fprintf(stderr, "failed: %s\n", error.message);
    struct akin_error again = {0};
    if (akin_audit_append(log, &made->record, 1, NULL, &again) != AKIN_IO ||
        !strstr(again.message, "no more records"))
        die(2, "a log that failed took a record: %s", again.message);
    if (akin_audit_checkpoint(log, NULL, &again) != AKIN_IO)
        die(2, "a log that failed signed a checkpoint: %s", again.message);
    free(made);
}

/* From record n to the last; false when something failed. */
static bool append_all(struct akin_audit *log, uint64_t n, uint64_t records, uint64_t every)
{
    static struct made made[BATCH];
    struct akin_audit_record batch[BATCH];
    uint64_t end, batches = 0;
    while (n < records) {
        size_t count = 0;
        for (; n < records && (count == 0 || n % BATCH); count++, n++) {
            make_record(n % SOURCES, n / SOURCES, &made[count]);
            batch[count] = made[count].record;
        }
        if (akin_audit_submit(log, batch, count, &end, &error) != AKIN_OK)
            return false;
        bool last = n >= records || n % CHECKPOINT_EVERY == 0 || n % ROTATE_EVERY == 0;
        if (++batches % every && !last)
            continue;
        if (akin_audit_wait(log, end, NULL, &error) != AKIN_OK)
            return false;
        say("synced", 0, n);
        if (n % ROTATE_EVERY == 0 && akin_audit_rotate_key(log, &error) != AKIN_OK)
            return false;
        if (n % CHECKPOINT_EVERY == 0 && akin_audit_checkpoint(log, NULL, &error) != AKIN_OK)
            return false;
    }
    return true;
}

static int write_all(const char *folder, uint64_t records, uint64_t every)
{
    struct akin_audit *log;
    for (int attempt = 0; attempt < 2; attempt++) {
        if (!path_exists(folder) && akin_audit_create(folder, NULL, &error) != AKIN_OK) {
            fprintf(stderr, "failed: %s\n", error.message);
            continue;
        }
        if (akin_audit_open(folder, &log, &error) != AKIN_OK) {
            fprintf(stderr, "failed: %s\n", error.message);
            continue;
        }
        uint64_t n = 0;
        for (uint64_t i = 0; i < SOURCES; i++)
            n += cursor_of(log, i);
        if (n)
            say("synced", 0, n);
        if (append_all(log, n, records, every)) {
            akin_audit_close(&log);
            return 0;
        }
        check_refusal(log);
        akin_audit_close(&log);
    }
    return 1;
}

/* ---- many writers ------------------------------------------------------------------------ */

struct writer {
    struct akin_audit *log;
    uint64_t number, next, end;
};

static void write_own(void *context)
{
    struct writer *w = context;
    struct made *made = malloc(sizeof *made);
    struct akin_error failure;
    while (made && w->next < w->end) {
        make_record(w->number, w->next, made);
        if (akin_audit_append(w->log, &made->record, 1, NULL, &failure) != AKIN_OK)
            die(2, "%s", failure.message);
        say("acked", w->number, ++w->next);
    }
    free(made);
}

static int writers(const char *folder, uint64_t threads, uint64_t records)
{
    struct writer all[THREADS_AT_MOST];
    struct thread *started[THREADS_AT_MOST];
    struct akin_audit *log;
    if (!path_exists(folder))
        MUST(akin_audit_create(folder, NULL, &error));
    MUST(akin_audit_open(folder, &log, &error));
    for (uint64_t i = 0; i < threads; i++) {
        uint64_t next = cursor_of(log, i);
        all[i] = (struct writer){log, i, next, next + records};
        started[i] = thread_start(write_own, &all[i], false);
        if (!started[i])
            die(1, "no thread");
    }
    for (uint64_t i = 0; i < threads; i++)
        thread_join(&started[i]);
    akin_audit_close(&log);
    return 0;
}

/* ---- kills ------------------------------------------------------------------------------- */

/* Starts this program anew with standard output in *output. */
static pid_t start(char *const arguments[], int *output)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die(1, "no pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execv("/proc/self/exe", arguments);
        _exit(99);
    }
    close(ends[1]);
    *output = ends[0];
    return child;
}

/* Takes over what whole lines "WORD [WHO] N" say, until the end, or until the clock says so. */
struct listener {
    char line[64];
    size_t used;
    uint64_t most[THREADS_AT_MOST];
};

static void take_line(struct listener *l)
{
    uint64_t who = 0, n = 0;
    l->line[l->used] = 0;
    if (sscanf(l->line, "synced %" SCNu64, &n) == 1 ||
        (sscanf(l->line, "%*s %" SCNu64 " %" SCNu64, &who, &n) == 2 && who < THREADS_AT_MOST))
        l->most[who] = n > l->most[who] ? n : l->most[who];
    l->used = 0;
}

static bool hear(struct listener *l, int fd, uint64_t until_ns)
{
    char bytes[4096];
    for (;;) {
        uint64_t now = clock_monotonic_ns();
        if (now >= until_ns)
            return true;
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        uint64_t ms = (until_ns - now) / 1000000;
        if (poll(&wait, 1, ms > 1000 ? 1000 : (int)ms) <= 0)
            continue;
        ssize_t got = read(fd, bytes, sizeof bytes);
        if (got <= 0)
            return false;
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] == '\n')
                take_line(l);
            else if (l->used < sizeof l->line - 1)
                l->line[l->used++] = bytes[i];
        }
    }
}

/* Until somebody says the first whole line; false: the end came first. */
static bool hear_first(struct listener *l, int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    for (bool said = false; !said;) {
        char byte;
        if (poll(&wait, 1, -1) < 0 || read(fd, &byte, 1) != 1)
            return false;
        said = byte == '\n';
        if (said)
            take_line(l);
        else if (l->used < sizeof l->line - 1)
            l->line[l->used++] = byte;
    }
    return true;
}

/* A writer, killed after a while, and a fresh look. `acked` goes on over the trials of one log. One
 * in four is killed a while after what it acknowledges first: a slow machine may come to nothing in
 * that while from its start on. */
static uint64_t kill_once(const char *folder, bool many, uint64_t random, uint64_t *acked)
{
    char *write_arguments[] = {"log_driver", many ? "writers" : "write", (char *)(uintptr_t)folder,
                               many ? "64" : "100000000", many ? "100000000" : "2", NULL};
    char *read_arguments[] = {"log_driver", "readers", (char *)(uintptr_t)folder, "64", NULL};
    static const uint64_t longest_us[] = {3000, 20000, 60000, 150000};
    struct listener said = {0}, found = {0};
    int output, status;
    pid_t child = start(write_arguments, &output);
    uint64_t us = mix(random) % longest_us[random % 4];
    bool ran = random / 4 % 4 || hear_first(&said, output);
    ran = ran && hear(&said, output, clock_monotonic_ns() + us * 1000);
    kill(child, SIGKILL);
    hear(&said, output, UINT64_MAX);  /* what it had said by then */
    close(output);
    if (waitpid(child, &status, 0) != child || !ran || !WIFSIGNALED(status))
        die(2, "the writer ended by itself");
    child = start(read_arguments, &output);
    hear(&found, output, UINT64_MAX);
    close(output);
    if (waitpid(child, &status, 0) != child || status)
        die(2, "a fresh look failed");
    if (!many) {                        /* "synced N" counts the records of all sources */
        acked[0] = said.most[0] > acked[0] ? said.most[0] : acked[0];
        if (total(found.most) < acked[0])
            die(2, "%" PRIu64 " of %" PRIu64 " records are there", total(found.most), acked[0]);
        return acked[0];
    }
    for (uint64_t i = 0; i < THREADS_AT_MOST; i++) {
        acked[i] = said.most[i] > acked[i] ? said.most[i] : acked[i];
        if (found.most[i] < acked[i])
            die(2, "%" PRIu64 " of %" PRIu64 " records of source %" PRIu64 " are there",
                found.most[i], acked[i], i);
    }
    return total(acked);
}

static int kill_all(const char *folder, uint64_t trials, uint64_t seconds, uint64_t seed)
{
    uint64_t end = clock_monotonic_ns() + seconds * 1000000000, most = 0, trial = 0;
    uint64_t acked[THREADS_AT_MOST] = {0};
    for (; trial < trials && clock_monotonic_ns() < end; trial++) {
        if (trial % 10 == 0) {
            MUST(path_remove_tree(folder, &error));
            memset(acked, 0, sizeof acked);
        }
        uint64_t now = kill_once(folder, trial / 10 % 2, mix(seed * 100003 + trial), acked);
        most = now > most ? now : most;
    }
    MUST(path_remove_tree(folder, &error));
    printf("%" PRIu64 " kills, up to %" PRIu64 " records acknowledged, none lost\n", trial, most);
    return most == 0;
}

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "write"))
        return write_all(argv[2], number(argv[3]), number(argv[4]));
    if (argc == 4 && !strcmp(argv[1], "verify"))
        return verify(argv[2], number(argv[3]));
    if (argc == 5 && !strcmp(argv[1], "writers") && number(argv[3]) <= THREADS_AT_MOST)
        return writers(argv[2], number(argv[3]), number(argv[4]));
    if (argc == 4 && !strcmp(argv[1], "readers") && number(argv[3]) <= THREADS_AT_MOST)
        return readers(argv[2], number(argv[3]));
    if (argc == 6 && !strcmp(argv[1], "kill"))
        return kill_all(argv[2], number(argv[3]), number(argv[4]), number(argv[5]));
    die(64, "see the top of log_driver.c");
}
