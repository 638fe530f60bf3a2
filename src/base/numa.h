/* The machine as memory sees it: NUMA nodes with their CPUs, memory and distances, caches, and the
 * PCI devices near each; and binding a thread with its memory to one node. For who asks what a
 * machine is, and for --numa; where the threads of a pool run is decided in topology.h.
 *
 * Nodes go by the system's numbers, as numactl, lstopo and nvidia-smi have them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct numa_node {
    int number;
    int package;                /* from 0; -1: it belongs to none, or to several */
    int cpus, cores;            /* hardware threads and cores; 0: memory alone */
    char cpu_list[128];         /* "0-63,128-191" */
    uint64_t memory_bytes;
};

struct numa_cache {
    const char *name;           /* "L1d", "L2", "L3" */
    uint64_t bytes;             /* of one */
    int count, cpus;            /* how many there are; hardware threads that share the first */
};

enum numa_device_kind { NUMA_GPU, NUMA_NETWORK, NUMA_STORAGE, NUMA_OTHER };

struct numa_device {            /* on PCI */
    enum numa_device_kind kind;
    char bus[24];               /* "0000:07:00.0" */
    char name[128];             /* "NVIDIA A100-SXM4-40GB" by its driver, or "10de:20b0" */
    char known_as[64];          /* by the system: "eth0", "cuda0"; "": nothing */
    int node;                   /* the nearest; -1: none is told, or several are as near */
};

enum { NUMA_CACHES_MAX = 4 };

struct numa {
    int packages, cores, cpus;
    size_t node_count;          /* >= 1 */
    struct numa_node *nodes;
    double *distances;          /* [from][to], 10 is local; NULL: the firmware does not tell */
    size_t cache_count;
    struct numa_cache caches[NUMA_CACHES_MAX];
    size_t device_count;        /* 0 where devices were not asked for */
    struct numa_device *devices;
    struct hwloc_topology *hwloc;   /* of numa.c */
};

/* `made_up` (NULL: this machine, as far as the process may use it) is hwloc's notation, such as
 * "node:2 core:4 pu:1", or a path that ends in .xml, as lstopo writes it; binding does nothing
 * there. Looking for devices takes tens of milliseconds. AKIN_ARGUMENT: a wrong description.
 * AKIN_UNSUPPORTED: the system tells nothing. AKIN_MEMORY. */
enum akin_status numa_open(const char *made_up, bool devices, struct numa **numa,
                           struct akin_error *error);
void numa_close(struct numa **numa);
/* Index of the node with that number, or -1. */
int numa_find(const struct numa *numa, int number);
/* The number of the node nearest to the device with that address; -1: as in struct numa_device, or
 * there is none, or devices were not asked for. */
int numa_node_of_device(const struct numa *numa, const char *bus);

/* Binds the calling thread to the CPUs of node `at` that it may use, and the memory that it touches
 * first from here on to the node's, where there is room; threads that it starts inherit both, as
 * with numactl. AKIN_ARGUMENT: it may use none of them. A system that refuses to bind memory (a
 * container without the right to) leaves it to the first touch, which is of that node too. */
struct numa_bound {
    bool cpus, memory;
};

enum akin_status numa_bind(const struct numa *numa, size_t at, struct numa_bound *bound,
                           struct akin_error *error);

/* What NVIDIA's driver calls a GPU, by files such as FOLDER/0000:07:00.0/information; false: it is
 * not known there. The driver's own folder is /proc/driver/nvidia/gpus. */
bool numa_nvidia_name(const char *folder, const char *bus, char *name, size_t bytes);

/* The number of the node that all pages of a block are on; -1: several, or unknown. */
int numa_node_of(const struct numa *numa, const void *block, size_t bytes);

/* What --numa says: "auto" (or NULL), "off", or a node's number. For a number the calling thread is
 * bound, on a machine of several nodes; with one there is nothing to do, whatever the number.
 * AKIN_ARGUMENT: no such choice, or no such node; it names those that there are. */
struct numa_choice {
    bool off;
    int node;                   /* bound to; -1: none */
    struct numa_bound bound;
};

enum akin_status numa_choose(const char *text, struct numa_choice *choice,
                             struct akin_error *error);
/* The same on a machine that is known. */
enum akin_status numa_choose_on(const struct numa *numa, const char *text,
                                struct numa_choice *choice, struct akin_error *error);
/* "auto", "off", or a number of at most four digits. */
bool numa_is_choice(const char *text);
