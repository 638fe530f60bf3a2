/* Tampers with an audit log, again and again, always otherwise: all of it must be found.
 *
 *   log_tamper FOLDER TRIALS SEED [JUDGE]     FOLDER is made, and removed when all went well
 *
 * Two logs are tampered with: one whose records are all under a checkpoint, and one that a killed
 * writer has left records in the journal of. Who checks has kept the first public key and a
 * checkpoint. JUDGE is the program of judge.go: it must find what touches files that it reads. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "akin/audit.h"
#include "audit/journal.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"

enum { GROUP = 25, RECORDS = 700, ROTATE_AT = 350, LEFT = 6, FILES_MAX = 256, LARGE = 70000,
       KEPT = 300 };

static struct akin_error error;

__attribute__((format(printf, 1, 2), noreturn))
static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "log_tamper: ");
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    exit(1);
}

#define MUST(call)                                          \
    do {                                                    \
        if ((call) != AKIN_OK)                              \
            die("%s: %s", #call, error.message);            \
    } while (0)

/* ---- logs -------------------------------------------------------------------------------- */

/* Files of a folder: their names from there, and bytes. */
struct image {
    struct { char name[64]; bool is_folder; unsigned char *data; size_t bytes; } files[FILES_MAX];
    size_t count;
};

static char work[PATH_BYTES_MAX - 128];

static const char *path_of(const char *folder, const char *name)
{
    static char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/%s%s%s", work, folder, *name ? "/" : "", name);
    return path;
}

static void put(const char *folder, const char *name, const void *data, size_t bytes)
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s", path_of(folder, name));
    *(char *)(uintptr_t)(path_last(path) - 1) = 0;
    if (!path_is_folder(path))
        MUST(path_make_folders(path, &error));
    FILE *file = fopen(path_of(folder, name), "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file))
        die("%s cannot be written", path);
}

static void take(const char *folder, const char *inner, struct image *image)
{
    struct names names = {0};
    MUST(path_list(path_of(folder, inner), &names, &error));
    for (size_t i = 0; i < names.count; i++) {
        char name[64];
        struct bytes data = {0};
        snprintf(name, sizeof name, "%s%s%s", inner, *inner ? "/" : "", names.items[i]);
        bool is_folder = path_is_folder(path_of(folder, name));
        if (is_folder)
            take(folder, name, image);
        if (image->count == FILES_MAX)
            die("too many files");
        memcpy(image->files[image->count].name, name, sizeof name);
        image->files[image->count].is_folder = is_folder;
        if (is_folder) {
            image->count++;
            continue;
        }
        MUST(file_read(path_of(folder, name), LARGE * 4, &data, &error));
        image->files[image->count].data = (unsigned char *)data.data;
        image->files[image->count++].bytes = data.count;
    }
    names_deinit(&names);
}

static void copy(const struct image *image, const char *folder)
{
    MUST(path_remove_tree(path_of(folder, ""), &error));
    for (size_t i = 0; i < image->count; i++) {
        if (image->files[i].is_folder)
            MUST(path_make_folders(path_of(folder, image->files[i].name), &error));
        else
            put(folder, image->files[i].name, image->files[i].data, image->files[i].bytes);
    }
    if (chmod(path_of(folder, "key"), 0600))
        die("no mode");
}

/* Appends records [from, to); `altered` has another content. */
static void append(struct akin_audit *log, uint64_t from, uint64_t to, uint64_t altered)
{
    static char data[GROUP][LARGE];
    struct akin_audit_record records[GROUP];
    for (uint64_t n = from; n < to;) {
        size_t count = 0;
        for (; count < GROUP && n < to; count++, n++) {
            size_t bytes = n % 200 == 120 ? LARGE : 20 + n * 37 % 90;
            memset(data[count], 'a' + (int)(n % 26), bytes);
            snprintf(data[count], bytes, "record %" PRIu64 "%s", n, n == altered ? "!" : "");
            records[count] = (struct akin_audit_record){
                .data = data[count], .bytes = bytes, .time_us = 1600000000000000 + (int64_t)n,
                .source = "tamper", .cursor = data[count]};
        }
        MUST(akin_audit_append(log, records, count, NULL, &error));
    }
}

/* The whole history of a log that is empty. */
static void fill(const char *folder, uint64_t altered)
{
    struct akin_audit *log;
    MUST(akin_audit_open(path_of(folder, ""), &log, &error));
    for (uint64_t n = 0; n < RECORDS; n += 50) {
        if (n == ROTATE_AT)
            MUST(akin_audit_rotate_key(log, &error));
        append(log, n, n + 50, altered);
        if (n % 100)
            MUST(akin_audit_checkpoint(log, NULL, &error));
    }
    akin_audit_close(&log);
}

/* A writer that ends without closing. */
static void leave(const char *folder)
{
    struct akin_audit *log;
    pid_t child = fork();
    if (child == 0) {
        MUST(akin_audit_open(path_of(folder, ""), &log, &error));
        append(log, RECORDS, RECORDS + GROUP * LEFT, UINT64_MAX);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status)
        die("the writer of %s failed", folder);
}

/* ---- judges ------------------------------------------------------------------------------ */

static char public_key[PATH_BYTES_MAX];     /* files that were kept */
static FILE *to_judge, *from_judge;

static void start_judge(const char *program)
{
    int to[2], from[2];
    char second[PATH_BYTES_MAX];
    snprintf(second, sizeof second, "%s", path_of("kept", "key.second"));
    if (pipe(to) || pipe(from))
        die("no pipe");
    if (fork() == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        close(to[0]);
        close(to[1]);
        close(from[0]);
        close(from[1]);
        execl(program, program, public_key, second, (char *)NULL);
        _exit(99);
    }
    close(to[0]);
    close(from[1]);
    to_judge = fdopen(to[1], "w");
    from_judge = fdopen(from[0], "r");
}

static bool judge_says_ok(const char *folder, const char *since)
{
    char line[4096];
    fprintf(to_judge, "%s %s\n", path_of(folder, ""), since);
    fflush(to_judge);
    if (!fgets(line, sizeof line, from_judge))
        die("the judge has gone");
    return strncmp(line, "ok ", 3) == 0;
}

static enum akin_status verify(const char *folder, const char *since)
{
    struct akin_audit_verify_options options = {.public_key = public_key, .since = since};
    struct akin_audit_verdict verdict;
    return akin_audit_verify(path_of(folder, ""), &options, &verdict, &error);
}

/* ---- tampering --------------------------------------------------------------------------- */

static struct image logs[2], empty, old, foreign;
static const char *const log_names[2] = {"closed", "left"};

struct trial {
    const struct image *image;
    const char *folder;
    struct rng rng;
    char what[200];
    const char *since;              /* the checkpoint that was kept */
    bool judged;                    /* the judge must find it as well */
    size_t dirty[4], dirty_count;   /* files to put back */
};

static size_t below(struct trial *t, size_t n)
{
    return (size_t)(rng_next(&t->rng) % n);
}

/* A file that is checked: all but the secret key and the lock. */
static size_t any_file(struct trial *t)
{
    for (;;) {
        size_t i = below(t, t->image->count);
        if (strcmp(t->image->files[i].name, "key") && strcmp(t->image->files[i].name, "lock") &&
            t->image->files[i].bytes)
            return i;
    }
}

static bool is_in(const char *name, const char *folder)
{
    return strncmp(name, folder, strlen(folder)) == 0;
}

/* The last digit of a signature has two bits that say nothing, and Go does not look at them. */
static bool is_last_digit(const unsigned char *before, const unsigned char *data, size_t bytes)
{
    return bytes > 3 && !memcmp(before, data, bytes - 3) && data[bytes - 2] == '=' &&
           data[bytes - 1] == '\n';
}

static void change(struct trial *t, size_t file, const void *data, size_t bytes)
{
    const char *name = t->image->files[file].name;
    bool is_note = is_in(name, "checkpoint");
    put(t->folder, name, data, bytes);
    t->dirty[t->dirty_count++] = file;
    if (is_in(name, "tile/") || (is_note && bytes != t->image->files[file].bytes) ||
        (is_note && !is_last_digit(t->image->files[file].data, data, bytes)))
        t->judged = true;
}

static unsigned char *copy_of(struct trial *t, size_t file, size_t extra)
{
    unsigned char *data = memory_alloc_aligned(t->image->files[file].bytes + extra + 1, 1);
    if (!data)
        die("no memory");
    memcpy(data, t->image->files[file].data, t->image->files[file].bytes);
    return data;
}

static bool flip(struct trial *t)
{
    size_t file = any_file(t), at = below(t, t->image->files[file].bytes);
    unsigned char *data = copy_of(t, file, 0), bit = (unsigned char)(1 << below(t, 8));
    data[at] ^= bit;
    change(t, file, data, t->image->files[file].bytes);
    snprintf(t->what, sizeof t->what, "byte %zu of %s ^ %d", at, t->image->files[file].name, bit);
    memory_free(data);
    return true;
}

static bool overwrite(struct trial *t)
{
    size_t file = any_file(t), bytes = t->image->files[file].bytes;
    size_t at = below(t, bytes), count = 1 + below(t, bytes - at < 64 ? bytes - at : 64);
    unsigned char *data = copy_of(t, file, 0);
    for (size_t i = 0; i < count; i++)
        data[at + i] = (unsigned char)below(t, 256);
    bool differs = memcmp(data, t->image->files[file].data, bytes) != 0;
    if (differs)
        change(t, file, data, bytes);
    snprintf(t->what, sizeof t->what, "%zu bytes at %zu of %s", count, at,
             t->image->files[file].name);
    memory_free(data);
    return differs;
}

static bool remove_file(struct trial *t)
{
    size_t file = any_file(t);
    const char *name = t->image->files[file].name;
    if (unlink(path_of(t->folder, name)))
        die("%s cannot be removed", name);
    t->dirty[t->dirty_count++] = file;
    t->judged = strcmp(name, "checkpoint") == 0 || is_in(name, "tile/");
    snprintf(t->what, sizeof t->what, "without %s", name);
    return true;
}

/* The end of a whole frame is where a killed writer may have ended too. */
static bool ends_frame(const unsigned char *data, size_t bytes, size_t end)
{
    struct journal_header header;
    struct frame frame;
    if (journal_header_read(data, bytes, &header))
        die("not a journal");
    size_t at = header.bytes;
    while (at < end && !frame_read(data + at, bytes - at, &frame))
        at += frame.bytes;
    return at == end;
}

static bool cut(struct trial *t)
{
    size_t file = any_file(t), bytes = t->image->files[file].bytes, left = below(t, bytes);
    const unsigned char *data = t->image->files[file].data;
    if (!strcmp(t->image->files[file].name, "journal") && ends_frame(data, bytes, left))
        return false;
    change(t, file, data, left);
    snprintf(t->what, sizeof t->what, "%s cut to %zu bytes", t->image->files[file].name, left);
    return true;
}

static bool lengthen(struct trial *t)
{
    size_t file = any_file(t), bytes = t->image->files[file].bytes, more = 1 + below(t, 100);
    unsigned char *data = copy_of(t, file, more);
    for (size_t i = 0; i < more; i++)
        data[bytes + i] = (unsigned char)(below(t, 2) ? below(t, 256) : 0);
    change(t, file, data, bytes + more);
    snprintf(t->what, sizeof t->what, "%zu bytes behind %s", more, t->image->files[file].name);
    memory_free(data);
    return true;
}

static bool exchange_files(struct trial *t)
{
    size_t a = any_file(t), b = any_file(t);
    if (t->image->files[a].bytes == t->image->files[b].bytes &&
        !memcmp(t->image->files[a].data, t->image->files[b].data, t->image->files[a].bytes))
        return false;
    /* The history holds the same note as `checkpoint`; two such pairs may be two notes only. */
    change(t, a, t->image->files[b].data, t->image->files[b].bytes);
    change(t, b, t->image->files[a].data, t->image->files[a].bytes);
    snprintf(t->what, sizeof t->what, "%s and %s in each other's place", t->image->files[a].name,
             t->image->files[b].name);
    return true;
}

static size_t entry_bytes(const unsigned char *at)
{
    return 2 + ((size_t)at[0] << 8 | at[1]);
}

/* Two entries of a bundle change places, one goes, or one comes twice. */
static bool edit_bundle(struct trial *t)
{
    size_t file, begins[257], count = 0, at = 0;
    do
        file = any_file(t);
    while (!is_in(t->image->files[file].name, "tile/entries/"));
    const unsigned char *data = t->image->files[file].data;
    for (; at < t->image->files[file].bytes && count < 256; at += entry_bytes(data + at))
        begins[count++] = at;
    begins[count] = at;
    size_t a = below(t, count), b = below(t, count), how = below(t, 3);
    struct bytes out = {0};
    for (size_t i = 0; i < count; i++) {
        size_t from = how == 0 && i == a ? b : how == 0 && i == b ? a : i;
        if (how == 1 && i == a)
            continue;
        bytes_append(&out, data + begins[from], begins[from + 1] - begins[from]);
        if (how == 2 && i == a)
            bytes_append(&out, data + begins[b], begins[b + 1] - begins[b]);
    }
    bool differs = how || a != b;
    if (differs)
        change(t, file, out.data, out.count);
    snprintf(t->what, sizeof t->what, "%s, entries %zu and %zu, way %zu",
             t->image->files[file].name, a, b, how);
    bytes_deinit(&out);
    return differs;
}

/* A file as it was at KEPT records, or as the log with another key has it. */
static bool foreign_file(struct trial *t)
{
    const struct image *other = below(t, 2) ? &old : &foreign;
    size_t file = any_file(t);
    for (size_t i = 0; i < other->count; i++) {
        if (strcmp(other->files[i].name, t->image->files[file].name) ||
            (other->files[i].bytes == t->image->files[file].bytes &&
             !memcmp(other->files[i].data, t->image->files[file].data, other->files[i].bytes)))
            continue;
        change(t, file, other->files[i].data, other->files[i].bytes);
        /* A valid older checkpoint alone is no fault to who has not kept a newer one. */
        snprintf(t->what, sizeof t->what, "%s of %s", other->files[i].name,
                 other == &old ? "earlier" : "another log");
        return true;
    }
    return false;
}

/* All of it as it was: nothing but a newer checkpoint shows that. */
static bool replay(struct trial *t)
{
    copy(&old, "scratch");
    t->folder = "scratch";
    t->judged = true;
    snprintf(t->what, sizeof t->what, "the whole log as it was");
    if (verify("scratch", NULL) != AKIN_OK)
        die("the log as it was: %s", error.message);
    return true;
}

static bool other_key(struct trial *t)
{
    copy(&foreign, "scratch");
    t->folder = "scratch";
    t->judged = true;
    t->since = NULL;
    snprintf(t->what, sizeof t->what, "the same records under another key");
    return true;
}

/* The key holder writes history anew: nothing but an earlier checkpoint shows that. */
static bool rewrite(struct trial *t)
{
    static char since[PATH_BYTES_MAX];
    size_t record = below(t, KEPT);
    copy(&empty, "scratch");
    fill("scratch", record);
    if (verify("scratch", NULL) != AKIN_OK)
        die("history written anew: %s", error.message);
    snprintf(since, sizeof since, "%s", path_of("kept", "early"));
    t->since = since;
    t->folder = "scratch";
    snprintf(t->what, sizeof t->what, "record %zu in a history written anew", record);
    return true;
}

static const struct { const char *name; bool (*run)(struct trial *t); size_t weight; } kinds[] = {
    {"flip", flip, 40},           {"overwrite", overwrite, 10}, {"remove", remove_file, 10},
    {"cut", cut, 10},             {"lengthen", lengthen, 10},   {"exchange", exchange_files, 10},
    {"entries", edit_bundle, 14}, {"foreign", foreign_file, 6}, {"replay", replay, 1},
    {"other key", other_key, 1},  {"rewrite", rewrite, 1},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void prepare(void)
{
    char kept[PATH_BYTES_MAX];
    struct akin_audit *log;
    MUST(path_remove_tree(work, &error));
    MUST(akin_audit_create(path_of("log", ""), "example.com/log", &error));
    take("log", "", &empty);
    MUST(akin_audit_open(path_of("log", ""), &log, &error));
    append(log, 0, KEPT, UINT64_MAX);
    akin_audit_close(&log);
    take("log", "", &old);
    copy(&empty, "log");
    fill("log", UINT64_MAX);
    take("log", "", &logs[0]);
    leave("log");
    take("log", "", &logs[1]);
    MUST(akin_audit_create(path_of("other", ""), "example.com/log", &error));
    fill("other", UINT64_MAX);
    take("other", "", &foreign);
    for (size_t i = 0; i < 2; i++)
        copy(&logs[i], log_names[i]);
    for (size_t i = 0; i < logs[0].count; i++) {
        const char *name = logs[0].files[i].name, *as = NULL;
        if (!strcmp(name, "checkpoint"))
            as = "late";
        else if (!strcmp(name, "checkpoints/300"))
            as = "early";
        else if (!strcmp(name, "key.pub"))
            as = "key.second";
        if (as)
            put("kept", as, logs[0].files[i].data, logs[0].files[i].bytes);
    }
    for (size_t i = 0; i < empty.count; i++)
        if (!strcmp(empty.files[i].name, "key.pub"))
            put("kept", "key.first", empty.files[i].data, empty.files[i].bytes);
    snprintf(public_key, sizeof public_key, "%s", path_of("kept", "key.first"));
    snprintf(kept, sizeof kept, "%s", path_of("kept", "late"));
    for (size_t i = 0; i < 2; i++)
        if (verify(log_names[i], kept) != AKIN_OK)
            die("the log %s itself: %s", log_names[i], error.message);
}

/* A writer must not take damage for an append that was cut off, and throw away what was
 * acknowledged behind it. Any byte before the last group counts; but a signature covers all before
 * it, so that the others may be wrong. */
static void check_recovery(uint64_t seed, size_t trials)
{
    struct rng rng;
    struct akin_audit *log;
    size_t journal = 0, end = 1;
    rng_seed(&rng, seed);
    while (strcmp(logs[1].files[journal].name, "journal"))
        journal++;
    unsigned char *data = logs[1].files[journal].data;
    size_t bytes = logs[1].files[journal].bytes, begins[LEFT], count = 0;
    for (; end < bytes && count < LEFT; end++)
        if (ends_frame(data, bytes, end))
            begins[count++] = end;
    for (size_t i = 0; i < trials; i++) {
        size_t at = (size_t)rng_below(&rng, begins[count - 1]);
        if (i % 2)                      /* the head of a group says where the next one is */
            at = begins[rng_below(&rng, count - 1)] + (size_t)rng_below(&rng, FRAME_HEAD_BYTES);
        unsigned char bit = (unsigned char)(1 << rng_below(&rng, 8));
        copy(&logs[1], "scratch");
        data[at] ^= bit;
        put("scratch", "journal", data, bytes);
        data[at] ^= bit;
        enum akin_status status = akin_audit_open(path_of("scratch", ""), &log, &error);
        struct akin_audit_info info = {0};
        if (status == AKIN_OK) {
            akin_audit_info(log, &info);
            akin_audit_close(&log);
        }
        if (status != AKIN_FORMAT && info.records != RECORDS + 1 + GROUP * LEFT)
            die("byte %zu of %zu of the journal ^ %d: %" PRIu64 " records are left, %s", at, bytes,
                bit, info.records, status == AKIN_OK ? "" : error.message);
    }
}

static size_t choose(struct trial *t)
{
    size_t total = 0, kind = 0;
    for (size_t i = 0; i < KINDS; i++)
        total += kinds[i].weight;
    size_t at = below(t, total);
    while (at >= kinds[kind].weight)
        at -= kinds[kind++].weight;
    return kind;
}

int main(int argc, char **argv)
{
    if (argc < 4 || strlen(argv[1]) >= sizeof work)
        die("see the top of log_tamper.c");
    size_t trials = strtoull(argv[2], NULL, 10), counts[KINDS] = {0}, judged = 0, missed = 0;
    snprintf(work, sizeof work, "%s", argv[1]);
    prepare();
    char kept[PATH_BYTES_MAX];
    snprintf(kept, sizeof kept, "%s", path_of("kept", "late"));
    if (argc > 4)
        start_judge(argv[4]);
    for (size_t i = 0; i < 2 && argc > 4; i++)
        if (!judge_says_ok(log_names[i], kept))
            die("the judge refuses the log %s itself", log_names[i]);
    check_recovery(strtoull(argv[3], NULL, 10), trials / 10);
    for (size_t i = 0; i < trials;) {
        struct trial t = {.image = &logs[i % 2], .folder = log_names[i % 2], .since = kept};
        static uint64_t seed;
        rng_seed(&t.rng, strtoull(argv[3], NULL, 10) * 1000003 + seed++);
        size_t kind = choose(&t);
        if (!kinds[kind].run(&t))
            continue;
        i++;
        counts[kind]++;
        enum akin_status status = verify(t.folder, t.since);
        if (status == AKIN_OK || !error.message[0] || strchr(error.message, '\n')) {
            fprintf(stderr, "log_tamper: %s, %s: not found: %s\n", t.folder, t.what,
                    status == AKIN_OK ? "ok" : error.message);
            missed++;
        }
        if (argc > 4 && t.judged) {
            judged++;
            if (judge_says_ok(t.folder, t.since ? t.since : "")) {
                fprintf(stderr, "log_tamper: %s, %s: the judge does not find it\n", t.folder,
                        t.what);
                missed++;
            }
        }
        for (size_t d = 0; d < t.dirty_count; d++)
            put(t.folder, t.image->files[t.dirty[d]].name, t.image->files[t.dirty[d]].data,
                t.image->files[t.dirty[d]].bytes);
    }
    for (size_t k = 0; k < KINDS; k++)
        printf("%s%zu %s", k ? ", " : "", counts[k], kinds[k].name);
    printf(": %zu missed; %zu judged\n", missed, judged);
    if (missed == 0)
        MUST(path_remove_tree(work, &error));
    return missed != 0;
}
