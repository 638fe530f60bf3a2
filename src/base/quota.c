/* Quotas of Linux control groups, versions 1 and 2. A container sees its own group as the root; a
 * service under systemd sees the whole tree, and any group above its own may be the narrow one. A
 * file that is not there, or not understood, is no limit. */
#include "base/quota.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"

enum { PATH_BYTES = 1024 };

static int cpus_of(long long quota, long long period)
{
    if (quota <= 0 || period <= 0)
        return 0;
    long long cpus = quota / period + (quota % period != 0);
    return cpus > THREADS_MAX ? THREADS_MAX : (int)cpus;
}

/* Numbers of the first line of FOLDER/NAME: how many of `a`, `b` there are. */
static int read_numbers(const char *folder, const char *name, long long *a, long long *b)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    FILE *file = fopen(path, "re");
    int read = file ? fscanf(file, "%19lld %19lld", a, b) : 0;
    if (file)
        fclose(file);
    return read;
}

static int group_cpus(const char *folder)
{
    long long quota = 0, period = 0, unused;
    if (read_numbers(folder, "cpu.max", &quota, &period) == 2)
        return cpus_of(quota, period);
    if (read_numbers(folder, "cpu.cfs_quota_us", &quota, &unused) >= 1 &&
        read_numbers(folder, "cpu.cfs_period_us", &period, &unused) >= 1)
        return cpus_of(quota, period);
    return 0;
}

static int less_of(int a, int b)
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

/* MOUNT/GROUP and all above it. */
static int chain_cpus(const char *mount, const char *group)
{
    char folder[PATH_BYTES];
    size_t root = strlen(mount);
    if (snprintf(folder, sizeof folder, "%s%s", mount, group) >= (int)sizeof folder)
        return 0;
    int cpus = 0;
    for (;;) {
        cpus = less_of(cpus, group_cpus(folder));
        char *slash = strlen(folder) > root ? strrchr(folder, '/') : NULL;
        if (!slash || (size_t)(slash - folder) < root)
            return cpus;
        *slash = 0;
    }
}

/* Whether `name` is among `list`, separated by commas. */
static int listed(const char *list, const char *name)
{
    size_t bytes = strlen(name);
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == bytes && !strncmp(at, name, bytes))
            return 1;
    return 0;
}

/* "hierarchy:controllers:/group"; version 2 has no controllers. */
static int line_cpus(char *line, const char *root)
{
    static const char *const mounts[] = { "cpu", "cpu,cpuacct" };
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : 0;
    if (!group || group[1] != '/')
        return 0;
    *group++ = 0;
    controllers++;
    group[strcspn(group, "\n")] = 0;
    if (!*controllers)
        return chain_cpus(root, group);
    int cpus = 0;
    for (size_t i = 0; listed(controllers, "cpu") && i < sizeof mounts / sizeof *mounts; i++) {
        char mount[PATH_BYTES];
        if (snprintf(mount, sizeof mount, "%s/%s", root, mounts[i]) < (int)sizeof mount)
            cpus = less_of(cpus, chain_cpus(mount, group));
    }
    return cpus;
}

int quota_cpus(const char *self, const char *root)
{
    FILE *file = fopen(self, "re");
    char line[PATH_BYTES];
    int cpus = 0;
    while (file && fgets(line, sizeof line, file))
        cpus = less_of(cpus, line_cpus(line, root));
    if (file)
        fclose(file);
    return cpus;
}

int quota_of_process(void)
{
    return quota_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
}
