/* A machine's nodes, caches, distances and devices, as rows of a table and as JSON. */
#pragma once

#include "base/numa.h"
#include "cli/cli.h"

/* Rows of two cells: label and text. */
void numa_rows(struct table *table, const struct numa *numa);
/* {packages, cores, cpus, nodes:[{number, package, cpus, cores, cpu_list, memory_bytes, gpus}],
 * distances, caches, devices} */
json_t *numa_json(const struct numa *numa);
/* [{bus, name, known_as, node}] */
json_t *numa_gpus_json(const struct numa *numa);
