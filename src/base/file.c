/* Maps of files, whole reads, and paths. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum akin_status file_map_open(const char *path, struct file_map *map, struct akin_error *error)
{
    *map = (struct file_map){ .data = (const unsigned char *)"" };
    int fd = TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return error_system(error, "%s", path);
    struct stat info;
    enum akin_status status = AKIN_OK;
    if (fstat(fd, &info)) {
        status = error_system(error, "%s", path);
    } else if (!S_ISREG(info.st_mode)) {
        status = error_set(error, AKIN_IO, "%s: not a regular file", path);
    } else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            status = error_system(error, "%s", path);
        else
            *map = (struct file_map){ .data = data, .bytes = (size_t)info.st_size, .mapped = true };
    }
    close(fd);
    return status;
}

void file_map_close(struct file_map *map)
{
    if (map->mapped)
        munmap((void *)(uintptr_t)map->data, map->bytes);
    *map = (struct file_map){ .data = (const unsigned char *)"" };
}

void file_map_release(const struct file_map *map)
{
    if (map->mapped)
        madvise((void *)(uintptr_t)map->data, map->bytes, MADV_DONTNEED);
}

enum akin_status file_read(const char *path, size_t bytes_max, struct bytes *out,
                           struct akin_error *error)
{
    int fd = TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return error_system(error, "%s", path);
    char block[1 << 14];
    enum akin_status status = AKIN_OK;
    for (ssize_t got; status == AKIN_OK && (got = read(fd, block, sizeof block)) != 0;) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = error_system(error, "%s", path);
        else if (out->count + (size_t)got > bytes_max)
            status = error_set(error, AKIN_LIMIT, "%s: longer than the limit of %zu bytes", path,
                               bytes_max);
        else
            bytes_append(out, block, (size_t)got);
    }
    close(fd);
    if (status == AKIN_OK)
        bytes_append(out, "", 0);
    if (status == AKIN_OK && out->failed)
        status = error_memory(error);
    return status;
}

/* ---- paths ------------------------------------------------------------------------------ */

enum akin_status path_join(char *path, size_t bytes, const char *folder, const char *name,
                           struct akin_error *error)
{
    size_t length = strlen(folder);
    const char *slash = length && folder[length - 1] == '/' ? "" : "/";
    int needed = snprintf(path, bytes, "%s%s%s", folder, slash, name);
    if (needed < 0 || (size_t)needed >= bytes)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", folder);
    return AKIN_OK;
}

bool path_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool path_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

const char *path_last(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

enum akin_status path_bytes(const char *path, uint64_t *bytes, struct akin_error *error)
{
    struct stat info;
    if (stat(path, &info))
        return error_system(error, "%s", path);
    if (!S_ISREG(info.st_mode))
        return error_set(error, AKIN_IO, "%s: not a regular file", path);
    *bytes = (uint64_t)info.st_size;
    return AKIN_OK;
}

enum akin_status path_modified_ns(const char *path, int64_t *ns, struct akin_error *error)
{
    struct stat info;
    if (stat(path, &info))
        return error_system(error, "%s", path);
    *ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
    return AKIN_OK;
}

enum akin_status path_make_folders(const char *path, struct akin_error *error)
{
    char partial[PATH_BYTES_MAX];
    size_t length = strlen(path);
    if (length >= sizeof partial)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", path);
    memcpy(partial, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (partial[i] != '/' && partial[i] != 0)
            continue;
        char kept = partial[i];
        partial[i] = 0;
        if (mkdir(partial, 0777) && !(errno == EEXIST && path_is_folder(partial)))
            return error_system(error, "%s: the folder cannot be made", partial);
        partial[i] = kept;
    }
    return AKIN_OK;
}

enum akin_status path_remove(const char *path, struct akin_error *error)
{
    if (unlink(path) && errno != ENOENT)
        return error_system(error, "%s: cannot be removed", path);
    return AKIN_OK;
}

enum akin_status path_remove_tree(const char *path, struct akin_error *error)
{
    struct stat info;
    if (lstat(path, &info))
        return errno == ENOENT ? AKIN_OK : error_system(error, "%s", path);
    if (!S_ISDIR(info.st_mode))
        return path_remove(path, error);
    struct names names = { 0 };
    enum akin_status status = path_list(path, &names, error);
    for (size_t i = 0; status == AKIN_OK && i < names.count; i++) {
        char child[PATH_BYTES_MAX];
        status = path_join(child, sizeof child, path, names.items[i], error);
        if (status == AKIN_OK)
            status = path_remove_tree(child, error);
    }
    names_deinit(&names);
    if (status == AKIN_OK && rmdir(path))
        status = error_system(error, "%s: cannot be removed", path);
    return status;
}

enum akin_status path_resolve(const char *path, char *resolved, struct akin_error *error)
{
    _Static_assert(PATH_BYTES_MAX >= PATH_MAX, "realpath writes up to PATH_MAX bytes");
    if (strlen(path) >= PATH_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", path);
    struct stat info;
    if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode) && realpath(path, resolved))
        return AKIN_OK;
    snprintf(resolved, PATH_BYTES_MAX, "%s", path);
    return AKIN_OK;
}

enum akin_status path_rename(const char *from, const char *to, struct akin_error *error)
{
    if (rename(from, to))
        return error_system(error, "%s: cannot be renamed to %s", from, to);
    return AKIN_OK;
}

enum akin_status path_free_bytes(const char *folder, uint64_t *bytes, struct akin_error *error)
{
    struct statvfs info;
    if (statvfs(folder, &info))
        return error_system(error, "%s", folder);
    *bytes = (uint64_t)info.f_bavail * info.f_frsize;
    return AKIN_OK;
}

enum akin_status folder_lock_take(const char *folder, struct folder_lock *lock,
                                  struct akin_error *error)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_system(error, "%s", folder);
    int result;
    do {
        result = flock(fd, LOCK_EX | LOCK_NB);
    } while (result && errno == EINTR);
    if (result && errno == EWOULDBLOCK) {
        close(fd);
        return error_set(error, AKIN_BUSY,
                         "%s: another process is at work in this folder: wait for its end", folder);
    }
    lock->fd = fd;
    return AKIN_OK;
}

void folder_lock_release(struct folder_lock *lock)
{
    if (lock->fd >= 0)
        close(lock->fd);
    lock->fd = -1;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum akin_status path_list(const char *folder, struct names *names, struct akin_error *error)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return error_system(error, "%s", folder);
    enum akin_status status = AKIN_OK;
    for (struct dirent *entry; status == AKIN_OK && (errno = 0, entry = readdir(dir));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        char *name = memory_copy_string(entry->d_name);
        if (!name || !array_reserve((void **)&names->items, &names->capacity, names->count + 1,
                                    sizeof *names->items)) {
            memory_free(name);
            status = error_memory(error);
        } else {
            names->items[names->count++] = name;
        }
    }
    if (status == AKIN_OK && errno)
        status = error_system(error, "%s", folder);
    closedir(dir);
    if (names->count)
        qsort(names->items, names->count, sizeof *names->items, compare_names);
    return status;
}

void names_deinit(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        memory_free(names->items[i]);
    memory_free(names->items);
    *names = (struct names){ 0 };
}
