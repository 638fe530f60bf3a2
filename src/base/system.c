/* /proc, sysconf and hwloc: what this machine and this process are. */
#include "base/system.h"

#include <hwloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/thread.h"

/* The value behind `key` in a file of "key : value" lines; false if there is none. */
static bool proc_field(const char *path, const char *key, char *value, size_t bytes)
{
    FILE *file = fopen(path, "re");
    char line[512];
    bool found = false;
    size_t length = strlen(key);
    while (file && !found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length))
            continue;
        const char *at = line + length;
        at += strspn(at, " \t:");
        snprintf(value, bytes, "%.*s", (int)strcspn(at, "\n"), at);
        found = true;
    }
    if (file)
        fclose(file);
    return found;
}

static uint64_t proc_kilobytes(const char *path, const char *key)
{
    char value[128];
    unsigned long long kilobytes = 0;
    if (!proc_field(path, key, value, sizeof value) || sscanf(value, "%llu", &kilobytes) != 1)
        return 0;
    return (uint64_t)kilobytes << 10;
}

static int numa_nodes(void)
{
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology))
        return 1;
    int nodes =
        hwloc_topology_load(topology) ? 1 : hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
    hwloc_topology_destroy(topology);
    return nodes < 1 ? 1 : nodes;
}

void system_describe(struct akin_machine *machine)
{
    *machine = (struct akin_machine){ .cpus = thread_cpus(), .numa_nodes = numa_nodes() };
    if (gethostname(machine->hostname, sizeof machine->hostname - 1))
        machine->hostname[0] = 0;
    proc_field("/proc/cpuinfo", "model name", machine->cpu, sizeof machine->cpu);
    cpu_flags_text(cpu_detect(), machine->cpu_features, sizeof machine->cpu_features);
    machine->memory_bytes = proc_kilobytes("/proc/meminfo", "MemTotal");
    machine->memory_available_bytes = system_available_bytes();
}

uint64_t system_peak_rss_bytes(void)
{
    return proc_kilobytes("/proc/self/status", "VmHWM");
}

uint64_t system_rss_bytes(void)
{
    return proc_kilobytes("/proc/self/status", "VmRSS");
}

uint64_t system_available_bytes(void)
{
    return proc_kilobytes("/proc/meminfo", "MemAvailable");
}
