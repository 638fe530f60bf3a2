#include "watch/event_snapshot.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "audit/note.h"
#include "audit/settle.h"
#include "audit/tiles.h"
#include "base/clock.h"
#include "base/file_at.h"
#include "watch/event_store.h"

enum { SUBVOLUME_INODE = 256, TRIES = 100 };

static const char btrfs_method[] = "btrfs snapshot", reflink_method[] = "reflink",
                  copy_method[] = "copy";
static const char name_begin[] = "snapshot-", part_end[] = ".part";

struct copying {
    const char *from, *to;
    bool reflinks;                  /* worth trying */
    bool copied;                    /* some file was not shared */
    uint64_t files, bytes;
};

/* ---- one folder ------------------------------------------------------------------------------ */

/* As a subvolume; false: it is none, or may not be. */
static bool snapshot_subvolume(const char *from, const char *to)
{
    struct statfs system;
    struct stat info;
    struct btrfs_ioctl_vol_args_v2 arguments = { 0 };
    char parent[PATH_BYTES_MAX];
    bool done = false;
    if (statfs(from, &system) || (unsigned long)system.f_type != BTRFS_SUPER_MAGIC
        || stat(from, &info) || info.st_ino != SUBVOLUME_INODE)
        return false;
    snprintf(parent, sizeof parent, "%.*s", (int)(path_last(to) - to), to);
    int source = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int target = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (source >= 0 && target >= 0) {
        arguments.fd = source;
        snprintf(arguments.name, sizeof arguments.name, "%s", path_last(to));
        done = ioctl(target, BTRFS_IOC_SNAP_CREATE_V2, &arguments) == 0;
    }
    if (source >= 0)
        close(source);
    if (target >= 0)
        close(target);
    return done;
}

/* Up to its length now; a file that is gone is left out. */
static enum akin_status copy_file(struct copying *c, const char *name, struct akin_error *error)
{
    char from[PATH_BYTES_MAX], to[PATH_BYTES_MAX];
    struct file_at source, target;
    uint64_t bytes, had = 0;
    TRY(path_join(from, sizeof from, c->from, name, error));
    TRY(path_join(to, sizeof to, c->to, name, error));
    enum akin_status status = file_at_open(from, FILE_AT_READ, &source, error);
    if (status == AKIN_NOT_FOUND)
        return AKIN_OK;
    TRY(status);
    status = file_at_size(&source, &bytes, error);
    if (status == AKIN_OK && path_bytes(to, &had, NULL) == AKIN_OK && had != bytes)
        status = path_remove(to, error);
    if (status == AKIN_OK && path_exists(to)) {     /* from before; it never changes */
        file_at_close(&source);
        return AKIN_OK;
    }
    if (status == AKIN_OK)
        status = file_at_open(to, FILE_AT_CREATE, &target, error);
    if (status == AKIN_OK) {
        bool shared = c->reflinks && ioctl(target.fd, FICLONE, source.fd) == 0;
        c->reflinks = shared;
        c->copied = c->copied || !shared;
        status = shared ? file_at_truncate(&target, bytes, error)
                        : file_at_copy(&source, 0, &target, 0, bytes, error);
        file_at_take_mode(&target, &source);
        file_at_close(&target);
        c->files++;
        c->bytes += bytes;
    }
    file_at_close(&source);
    return status;
}

static enum akin_status make_folder(const char *folder, const char *name, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(path_join(path, sizeof path, folder, name, error));
    return path_make_folders(path, error);
}

static const char *method_of(const struct copying *c)
{
    return c->copied ? copy_method : reflink_method;
}

/* ---- the store ------------------------------------------------------------------------------- */

static bool is_log(const char *name)
{
    size_t length = strlen(name);
    return !strncmp(name, "events-", 7) && length > 4 && !strcmp(name + length - 4, ".log");
}

/* Sealed segments first, when nobody needs to wait for them; they never change. */
static enum akin_status copy_store(struct copying *c, bool sealed_only, struct akin_error *error)
{
    struct names names = { 0 };
    size_t last = SIZE_MAX;
    enum akin_status status = path_list(c->from, &names, error);
    for (size_t i = 0; i < names.count; i++)
        if (is_log(names.items[i]))
            last = i;
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        const char *name = names.items[i];
        size_t length = strlen(name);
        bool part = length > 5 && !strcmp(name + length - 5, part_end);
        if (!part && (!sealed_only || (is_log(name) && i != last)))
            status = copy_file(c, name, error);
    }
    names_deinit(&names);
    return status;
}

static enum akin_status snapshot_store(const char *from, const char *to,
                                       struct akin_snapshot_report *report,
                                       struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct file_at lock = { .fd = -1 };
    struct copying c = { .from = from, .to = to, .reflinks = true };
    if (!event_store_is_there(from))
        return error_set(error, AKIN_NOT_FOUND, "%s: no store of events", from);
    TRY(path_join(path, sizeof path, from, "lock", error));
    enum akin_status status = file_at_open(path, FILE_AT_READ, &lock, error);
    if (status != AKIN_OK && status != AKIN_NOT_FOUND)
        return status;
    status = AKIN_OK;
    if (lock.fd >= 0)
        status = file_at_wait_lock(&lock, true, error);
    bool whole = status == AKIN_OK && snapshot_subvolume(from, to);
    if (!whole && lock.fd >= 0)
        file_at_unlock(&lock);
    report->store_method = btrfs_method;
    if (status == AKIN_OK && !whole) {
        status = path_make_folders(to, error);
        if (status == AKIN_OK)
            status = copy_store(&c, true, error);
        if (status == AKIN_OK && lock.fd >= 0)
            status = file_at_wait_lock(&lock, true, error);
        if (status == AKIN_OK)
            status = copy_store(&c, false, error);
        report->store_method = method_of(&c);
    }
    file_at_close(&lock);
    report->files += c.files;
    report->bytes += c.bytes;
    return status;
}

/* ---- the trail ------------------------------------------------------------------------------- */

/* Everything below inner ("" or ending in '/'), but what copy_trail begins with. */
static enum akin_status copy_tree(struct copying *c, const char *inner, unsigned depth,
                                  struct akin_error *error)
{
    char path[PATH_BYTES_MAX], name[PATH_BYTES_MAX];
    struct names names = { 0 };
    TRY(path_join(path, sizeof path, c->from, inner, error));
    enum akin_status status = path_list(path, &names, error);
    if (status == AKIN_NOT_FOUND && depth)
        return AKIN_OK;             /* partial tiles that went */
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        if (!depth && (!strcmp(names.items[i], "journal") || !strcmp(names.items[i], "checkpoint")
                       || !strcmp(names.items[i], "key.next")))
            continue;
        int length = snprintf(name, sizeof name, "%s%s", inner, names.items[i]);
        if (length < 0 || (size_t)length >= sizeof name - 1 || depth > 10)
            status = error_set(error, AKIN_LIMIT, "%s: too deep for an audit trail", path);
        if (status == AKIN_OK)
            status = path_join(path, sizeof path, c->from, name, error);
        if (status != AKIN_OK || !path_is_folder(path)) {
            status = status == AKIN_OK ? copy_file(c, name, error) : status;
            continue;
        }
        name[length] = '/';
        name[length + 1] = 0;
        status = make_folder(c->to, name, error);
        if (status == AKIN_OK)
            status = copy_tree(c, name, depth + 1, error);
    }
    names_deinit(&names);
    return status;
}

/* Meanwhile, so that keys and journal may not fit. */
static bool key_changed(const char *from, const char *to)
{
    char path[PATH_BYTES_MAX];
    struct bytes now = { 0 }, copied = { 0 };
    bool same = path_join(path, sizeof path, from, "key.next", NULL) == AKIN_OK
                && !path_exists(path)
                && path_join(path, sizeof path, from, "key.pub", NULL) == AKIN_OK
                && file_read(path, 1 << 16, &now, NULL) == AKIN_OK
                && path_join(path, sizeof path, to, "key.pub", NULL) == AKIN_OK
                && file_read(path, 1 << 16, &copied, NULL) == AKIN_OK
                && !strcmp(now.data, copied.data);
    bytes_deinit(&now);
    bytes_deinit(&copied);
    return !same;
}

/* The tiles that are not full yet: they are removed when they are. */
static enum akin_status copy_edge(struct copying *c, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], name[TILE_PATH_BYTES + 8], file[PATH_BYTES_MAX];
    struct checkpoint checkpoint;
    struct bytes note = { 0 };
    TRY(path_join(path, sizeof path, c->to, "checkpoint", error));
    enum akin_status status = checkpoint_read(path, &note, &checkpoint, error);
    bytes_deinit(&note);
    for (int level = TILE_ENTRIES; status == AKIN_OK && level < TILE_LEVELS; level++) {
        uint64_t count = checkpoint.size >> 8 * (level == TILE_ENTRIES ? 0 : level);
        struct names names = { 0 };
        tile_path(name, level, count / TILE_WIDTH, 1);
        name[strlen(name) - 2] = 0;     /* the folder, less "/1" */
        TRY(path_join(path, sizeof path, c->from, name, error));
        if (count % TILE_WIDTH == 0 || !path_is_folder(path))
            continue;
        status = make_folder(c->to, name, error);
        if (status == AKIN_OK)
            status = path_list(path, &names, error);
        for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
            status = path_join(file, sizeof file, name, names.items[i], error);
            if (status == AKIN_OK)
                status = copy_file(c, file, error);
        }
        names_deinit(&names);
    }
    return status;
}

/* What must be of one moment first, in an instant; then what only grows. */
static enum akin_status copy_trail(struct copying *c, bool *changed, struct akin_error *error)
{
    static const char *const first[] = {"format", "key", "key.pub", "checkpoint", "journal"};
    TRY(path_make_folders(c->to, error));
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++)
        TRY(copy_file(c, first[i], error));
    TRY(copy_edge(c, error));
    *changed = key_changed(c->from, c->to);
    return *changed ? AKIN_OK : copy_tree(c, "", 0, error);
}

static enum akin_status snapshot_trail(const char *from, const char *to,
                                       struct akin_snapshot_report *report,
                                       struct akin_error *error)
{
    bool settled = false;
    for (int i = 0; i < TRIES; i++) {
        struct copying c = { .from = from, .to = to, .reflinks = true };
        bool whole = snapshot_subvolume(from, to), changed = false;
        enum akin_status status = whole ? AKIN_OK : copy_trail(&c, &changed, error);
        report->audit_method = whole ? btrfs_method : method_of(&c);
        if (status == AKIN_OK && !changed)
            status = audit_settle(to, &settled, error);
        if (settled || (status != AKIN_OK && status != AKIN_NOT_FOUND && status != AKIN_FORMAT)) {
            report->files += c.files;
            report->bytes += c.bytes;
            return status;
        }
        if (i + 1 == TRIES && status != AKIN_OK)
            return status;
        TRY(path_remove_tree(to, error));
        clock_sleep_us(10000);
    }
    return error_set(error, AKIN_BUSY, "%s: changed faster than it could be copied, %d times: try "
                     "again", from, TRIES);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static bool is_snapshot(const char *name, bool *part)
{
    size_t length = strlen(name);
    *part = length > 5 && !strcmp(name + length - 5, part_end);
    return !strncmp(name, name_begin, sizeof name_begin - 1)
           && strspn(name + sizeof name_begin - 1, "0123456789TZ-")
                  == length - (sizeof name_begin - 1) - (*part ? 5 : 0);
}

/* The oldest beyond `keep`. Names sort by time; what is no snapshot, by its name and by the mark in
 * it, is not touched. */
static enum akin_status remove_old(const struct akin_snapshot_settings *settings, size_t *removed,
                                   struct akin_error *error)
{
    struct names names = { 0 };
    char path[PATH_BYTES_MAX], mark[PATH_BYTES_MAX];
    size_t count = 0;
    bool part;
    enum akin_status status = path_list(settings->folder, &names, error);
    for (size_t i = names.count; status == AKIN_OK && i-- > 0;) {
        if (!is_snapshot(names.items[i], &part) || part)
            continue;
        status = path_join(path, sizeof path, settings->folder, names.items[i], error);
        if (status == AKIN_OK)
            status = path_join(mark, sizeof mark, path, "snapshot", error);
        if (status != AKIN_OK || !path_exists(mark) || ++count <= settings->keep)
            continue;
        status = path_remove(mark, error);
        if (status == AKIN_OK)
            status = path_remove_tree(path, error);
        ++*removed;
    }
    names_deinit(&names);
    return status;
}

static enum akin_status fill(const struct akin_snapshot_settings *settings, const char *folder,
                             struct akin_snapshot_report *report, struct akin_error *error)
{
    static const char text[] = "akin snapshot 1\n";
    char path[PATH_BYTES_MAX];
    /* The store first: what it has acknowledged, the trail has. */
    TRY(path_join(path, sizeof path, folder, "store", error));
    TRY(snapshot_store(settings->store, path, report, error));
    if (settings->audit) {
        TRY(path_join(path, sizeof path, folder, "audit", error));
        TRY(snapshot_trail(settings->audit, path, report, error));
    }
    TRY(path_join(path, sizeof path, folder, "snapshot", error));
    TRY(file_write(path, text, sizeof text - 1, error));
    return path_sync_all(folder, error);
}

/* A name by the time, to the microsecond, so that names sort as they were made; the folder is not
 * yet called so. */
static enum akin_status begin(const struct akin_snapshot_settings *settings, char *path,
                              char *part, struct akin_error *error)
{
    TRY(path_make_folders(settings->folder, error));
    for (int i = 0; i < TRIES; i++) {
        char iso[32], stamp[32], name[96];
        size_t used = 0;
        int64_t now = clock_unix_us();
        clock_iso(now / 1000000, iso, sizeof iso);
        for (const char *at = iso; *at; at++)
            if (*at != '-' && *at != ':')
                stamp[used++] = *at;
        stamp[used] = 0;
        snprintf(name, sizeof name, "%s%s-%06d%s", name_begin, stamp, (int)(now % 1000000),
                 part_end);
        TRY(path_join(part, PATH_BYTES_MAX, settings->folder, name, error));
        snprintf(path, PATH_BYTES_MAX, "%.*s", (int)(strlen(part) - strlen(part_end)), part);
        if (!path_exists(path) && mkdir(part, 0777) == 0)
            return AKIN_OK;
    }
    return error_system(error, "%s: a snapshot cannot be begun", part);
}

enum akin_status event_snapshot_make(const struct akin_snapshot_settings *settings,
                                     struct akin_snapshot_report *report,
                                     struct akin_error *error)
{
    char path[PATH_BYTES_MAX], part[PATH_BYTES_MAX];
    struct akin_snapshot_report made = { .store_method = "", .audit_method = "" };
    uint64_t began = clock_monotonic_ns();
    _Static_assert(sizeof made.path >= PATH_BYTES_MAX, "room for a path");
    TRY(begin(settings, path, part, error));
    enum akin_status status = fill(settings, part, &made, error);
    if (status == AKIN_OK)
        status = path_rename(part, path, error);
    if (status == AKIN_OK)
        status = path_sync_folder(path, error);
    else
        path_remove_tree(part, NULL);
    if (status == AKIN_OK && settings->keep)
        status = remove_old(settings, &made.removed, error);
    snprintf(made.path, sizeof made.path, "%s", path);
    made.seconds = seconds_since(began);
    if (status == AKIN_OK)
        *report = made;
    return status;
}
