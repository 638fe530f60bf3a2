/* A pull: what is there already, the listing, one file after the other, the folder in place.
 *
 * Staging, HOME/models/.pull-NAME:
 *   parts/<oid>-<path>  files as they arrive, named after their checksum, so that an interrupted
 *                       pull can only ever be continued with the same content
 *   files/              the folder to be, put together once all have arrived */
#include "model/hub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/checksums.h"
#include "model/download.h"
#include "model/listing.h"

enum { LISTING_BYTES_MAX = 16 << 20, NAME_BYTES_MAX = 128 };

struct pull {
    char owner[NAME_BYTES_MAX], name[NAME_BYTES_MAX];
    const char *hub, *revision;
    char *hub_trimmed, *revision_escaped;
    char target[PATH_BYTES_MAX], models[PATH_BYTES_MAX];
    char staging[PATH_BYTES_MAX], parts[PATH_BYTES_MAX], files[PATH_BYTES_MAX];
    int lock_fd;
    const struct akin_log *log;
    struct downloader *downloader;
    struct listing listing;
    struct bytes sums;          /* SHA256SUMS to be */
};

void model_pull_settings_default(struct akin_pull_settings *settings)
{
    *settings = (struct akin_pull_settings){.revision = "main", .retries = 5, .stall_seconds = 30};
}

/* ---- names and paths -------------------------------------------------------------------- */

static bool is_name(const char *text, size_t count)
{
    return count > 0 && count < NAME_BYTES_MAX && text[0] != '.' && text[0] != '-' &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") >=
               count;
}

static enum akin_status split_name(struct pull *pull, const char *name, struct akin_error *error)
{
    const char *slash = name ? strchr(name, '/') : NULL;
    const char *owner = slash ? name : "sentence-transformers", *last = slash ? slash + 1 : name;
    size_t owner_count = slash ? (size_t)(slash - name) : strlen(owner);
    if (!name || !is_name(owner, owner_count) || !is_name(last, strlen(last)))
        return error_set(
            error, AKIN_ARGUMENT,
            "%s: not a model's name; it is 'owner/model' or 'model', of letters, digits, "
            "'.', '_' and '-'",
            name ? name : "(none)");
    snprintf(pull->owner, sizeof pull->owner, "%.*s", (int)owner_count, owner);
    snprintf(pull->name, sizeof pull->name, "%s", last);
    return AKIN_OK;
}

static enum akin_status prepare(struct pull *pull, const char *name,
                                const struct akin_pull_settings *settings, struct akin_error *error)
{
    TRY(split_name(pull, name, error));
    if (!settings->home || !settings->home[0])
        return error_set(error, AKIN_ARGUMENT, "no home folder is given for models (--home)");
    if (!settings->hub || !settings->hub[0])
        return error_set(
            error, AKIN_ARGUMENT,
            "no hub is given to pull from: use --hub URL, or set AKIN_HUB or HF_ENDPOINT");
    pull->revision = settings->revision && settings->revision[0] ? settings->revision : "main";
    if (!path_is_safe(pull->revision) || strlen(pull->revision) >= NAME_BYTES_MAX)
        return error_set(error, AKIN_ARGUMENT, "%s: not a revision's name", pull->revision);
    pull->hub_trimmed = memory_copy_string(settings->hub);
    if (!pull->hub_trimmed)
        return error_memory(error);
    for (size_t n = strlen(pull->hub_trimmed); n && pull->hub_trimmed[n - 1] == '/'; n--)
        pull->hub_trimmed[n - 1] = 0;
    pull->hub = pull->hub_trimmed;
    char hidden[NAME_BYTES_MAX + 8];
    snprintf(hidden, sizeof hidden, ".pull-%s", pull->name);
    TRY(path_join(pull->models, sizeof pull->models, settings->home, "models", error));
    TRY(path_join(pull->target, sizeof pull->target, pull->models, pull->name, error));
    TRY(path_join(pull->staging, sizeof pull->staging, pull->models, hidden, error));
    TRY(path_join(pull->parts, sizeof pull->parts, pull->staging, "parts", error));
    return path_join(pull->files, sizeof pull->files, pull->staging, "files", error);
}

/* ---- what is there already -------------------------------------------------------------- */

static enum akin_status check_files_exist(const struct pull *pull, const struct checksums *sums,
                                          struct akin_error *error)
{
    static const char *const needed[] = { "config.json", "tokenizer.json", "model.safetensors" };
    size_t needed_count = sizeof needed / sizeof *needed;
    for (size_t i = 0; i < needed_count + sums->count; i++) {
        const char *file = i < needed_count ? needed[i] : sums->items[i - needed_count].path;
        char path[PATH_BYTES_MAX];
        TRY(path_join(path, sizeof path, pull->target, file, error));
        if (!path_exists(path))
            return error_set(error, AKIN_FORMAT,
                             "%s is there but lacks %s; remove the folder and pull again",
                             pull->target, file);
    }
    return AKIN_OK;
}

/* *complete when the model is in place. A folder of another origin is not touched. */
static enum akin_status look_at_target(const struct pull *pull, bool *complete,
                                       struct akin_error *error)
{
    *complete = false;
    if (!path_exists(pull->target))
        return AKIN_OK;
    struct checksums sums;
    TRY(checksums_read(pull->target, &sums, error));
    char source[3 * NAME_BYTES_MAX];
    snprintf(source, sizeof source, "%s/%s %s", pull->owner, pull->name, pull->revision);
    enum akin_status status = check_files_exist(pull, &sums, error);
    if (status == AKIN_OK && sums.source && strcmp(sums.source, source))
        status = error_set(error, AKIN_ARGUMENT,
                           "%s holds '%s', not '%s'; remove the folder to pull "
                           "the other",
                           pull->target, sums.source, source);
    *complete = status == AKIN_OK;
    checksums_deinit(&sums);
    return status;
}

/* One pull of a model at a time: the staging folder is locked, by the kernel, until the end of the
 * process at the latest. */
static enum akin_status lock_staging(struct pull *pull, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(path_make_folders(pull->parts, error));
    TRY(path_join(path, sizeof path, pull->staging, "lock", error));
    pull->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (pull->lock_fd < 0)
        return error_system(error, "%s: cannot be written", path);
    if (!flock(pull->lock_fd, LOCK_EX | LOCK_NB))
        return AKIN_OK;
    if (errno == EWOULDBLOCK)
        return error_set(error, AKIN_BUSY, "%s: another pull of %s is running", pull->staging,
                         pull->name);
    return error_system(error, "%s: cannot be locked", path);
}

/* ---- files ------------------------------------------------------------------------------ */

static enum akin_status fetch_listing(struct pull *pull, struct akin_error *error)
{
    pull->revision_escaped = download_escape(pull->downloader, pull->revision);
    struct bytes url = { 0 }, text = { 0 };
    bytes_printf(&url, "%s/api/models/%s/%s/tree/%s?recursive=true", pull->hub, pull->owner,
                 pull->name, pull->revision_escaped ? pull->revision_escaped : "");
    enum akin_status status = url.failed || !pull->revision_escaped ? error_memory(error) : AKIN_OK;
    if (status == AKIN_OK)
        status =
            download_text(pull->downloader, url.data, "listing", LISTING_BYTES_MAX, &text, error);
    if (status == AKIN_NOT_FOUND)
        status = error_set(error, AKIN_NOT_FOUND, "the hub %s has no model %s/%s at revision %s",
                           pull->hub, pull->owner, pull->name, pull->revision);
    if (status == AKIN_OK)
        status =
            listing_parse(text.data ? text.data : "", text.count, url.data, &pull->listing, error);
    bytes_deinit(&url);
    bytes_deinit(&text);
    return status;
}

static enum akin_status part_path(const struct pull *pull, const struct listed_file *file,
                                  char *path, size_t bytes, struct akin_error *error)
{
    int needed = snprintf(path, bytes, "%s/%s-%s", pull->parts, file->oid, file->path);
    if (needed < 0 || (size_t)needed >= bytes)
        return error_set(error, AKIN_LIMIT, "%s: the path is too long", pull->parts);
    for (char *at = path + strlen(pull->parts) + 1; *at; at++)
        if (*at == '/')
            *at = '_';
    return AKIN_OK;
}

/* Downloads and verifies; content that is not the listed one is thrown away and fetched once more.
 */
static enum akin_status fetch_verified(struct pull *pull, const struct listed_file *file,
                                       const char *url, const char *path, struct akin_error *error)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        TRY(download_file(pull->downloader, url, file->path, path, file->bytes, error));
        bool matches;
        char sha256[65];
        TRY(listed_file_matches(file, path, &matches, sha256, error));
        if (matches) {
            bytes_printf(&pull->sums, "%s  %s\n", sha256, file->path);
            return pull->sums.failed ? error_memory(error) : AKIN_OK;
        }
        log_write(pull->log, AKIN_LOG_WARNING, "file=%s wrong checksum sha256=%s listed=%s",
                  file->path, sha256, file->oid);
        TRY(path_remove(path, error));
    }
    return error_set(error, AKIN_FORMAT,
                     "%s: the content twice had another checksum than the listed %s", url,
                     file->oid);
}

static enum akin_status fetch_file(struct pull *pull, const struct listed_file *file,
                                   struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    TRY(part_path(pull, file, path, sizeof path, error));
    struct bytes url = { 0 };
    bytes_printf(&url, "%s/%s/%s/resolve/%s/%s", pull->hub, pull->owner, pull->name,
                 pull->revision_escaped, file->path);
    enum akin_status status = url.failed ? error_memory(error)
                                         : fetch_verified(pull, file, url.data, path, error);
    bytes_deinit(&url);
    return status;
}

/* ---- into place ------------------------------------------------------------------------- */

static enum akin_status sync_folder(const char *path, struct akin_error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_system(error, "%s", path);
    enum akin_status status = AKIN_OK;
    if (fsync(fd) && errno != EINVAL)   /* EINVAL: this file system cannot sync folders */
        status = error_system(error, "%s: cannot be made durable", path);
    close(fd);
    return status;
}

/* Makes the folder of files/`path` and gives its own path. */
static enum akin_status make_folder_of(const char *path, char *folder, size_t bytes,
                                       struct akin_error *error)
{
    snprintf(folder, bytes, "%.*s", (int)(path_last(path) - path) - 1, path);
    return path_make_folders(folder, error);
}

static enum akin_status put_together(const struct pull *pull, struct akin_error *error)
{
    TRY(path_remove_tree(pull->files, error));
    TRY(path_make_folders(pull->files, error));
    for (size_t i = 0; i < pull->listing.count; i++) {
        char part[PATH_BYTES_MAX], path[PATH_BYTES_MAX], folder[PATH_BYTES_MAX];
        TRY(part_path(pull, &pull->listing.files[i], part, sizeof part, error));
        TRY(path_join(path, sizeof path, pull->files, pull->listing.files[i].path, error));
        TRY(make_folder_of(path, folder, sizeof folder, error));
        TRY(path_rename(part, path, error));
        TRY(sync_folder(folder, error));
    }
    char sums[PATH_BYTES_MAX];
    TRY(path_join(sums, sizeof sums, pull->files, CHECKSUMS_FILE, error));
    TRY(file_write(sums, pull->sums.data, pull->sums.count, error));
    TRY(path_rename(pull->files, pull->target, error));
    TRY(sync_folder(pull->models, error));
    return path_remove_tree(pull->staging, error);
}

static enum akin_status run_pull(struct pull *pull, const struct akin_pull_settings *settings,
                                 struct akin_error *error)
{
    bool complete;
    TRY(look_at_target(pull, &complete, error));
    if (complete) {
        log_write(pull->log, AKIN_LOG_INFO, "model=%s is complete, nothing downloaded",
                  pull->target);
        return AKIN_OK;
    }
    TRY(lock_staging(pull, error));
    TRY(look_at_target(pull, &complete, error));    /* another pull may have ended meanwhile */
    if (complete)
        return AKIN_OK;
    struct downloader_settings downloader = {
        .retries = settings->retries > 0 ? settings->retries : 0,
        .stall_seconds = settings->stall_seconds > 0 ? settings->stall_seconds : 30,
        .progress = settings->progress};
    TRY(downloader_create(&downloader, &pull->downloader, error));
    TRY(fetch_listing(pull, error));
    bytes_printf(&pull->sums, "# %s/%s %s\n", pull->owner, pull->name, pull->revision);
    for (size_t i = 0; i < pull->listing.count; i++)
        TRY(fetch_file(pull, &pull->listing.files[i], error));
    return put_together(pull, error);
}

enum akin_status model_pull(const char *name, const struct akin_pull_settings *settings,
                            const struct akin_log *log, char *path, size_t path_bytes,
                            struct akin_error *error)
{
    struct pull *pull = memory_alloc(1, sizeof *pull);
    if (!pull)
        return error_memory(error);
    pull->lock_fd = -1;
    pull->log = log;
    enum akin_status status = prepare(pull, name, settings, error);
    if (status == AKIN_OK && strlen(pull->target) >= path_bytes)
        status = error_set(error, AKIN_LIMIT, "%.200s: the path is too long", pull->target);
    if (status == AKIN_OK)
        status = run_pull(pull, settings, error);
    if (status == AKIN_OK)
        snprintf(path, path_bytes, "%s", pull->target);
    else if (pull->lock_fd >= 0 && !rmdir(pull->parts))     /* nothing came that could be kept */
        path_remove_tree(pull->staging, NULL);
    downloader_destroy(&pull->downloader);
    listing_deinit(&pull->listing);
    bytes_deinit(&pull->sums);
    memory_free(pull->hub_trimmed);
    memory_free(pull->revision_escaped);
    if (pull->lock_fd >= 0)
        close(pull->lock_fd);
    memory_free(pull);
    return status;
}
