/* See numa_report.h. */
#include "cli/numa_report.h"

/* ---- JSON -------------------------------------------------------------------------------- */

static const char *kind_name(enum numa_device_kind kind)
{
    static const char *const names[] = {"gpu", "network", "storage", "other"};
    return names[kind];
}

static json_t *device_json(const struct numa_device *device)
{
    json_t *row = json_object();
    json_object_set_new(row, "bus", json_of_text(device->bus));
    json_object_set_new(row, "name", json_of_text(device->name));
    json_object_set_new(row, "known_as", json_of_known(device->known_as));
    json_object_set_new(row, "node", device->node < 0 ? json_null() : json_integer(device->node));
    return row;
}

json_t *numa_gpus_json(const struct numa *numa)
{
    json_t *array = json_array();
    for (size_t i = 0; i < numa->device_count; i++)
        if (numa->devices[i].kind == NUMA_GPU)
            json_array_append_new(array, device_json(&numa->devices[i]));
    return array;
}

static json_t *nodes_json(const struct numa *numa)
{
    json_t *array = json_array();
    for (size_t i = 0; i < numa->node_count; i++) {
        const struct numa_node *node = &numa->nodes[i];
        json_t *row = json_object(), *gpus = json_array();
        for (size_t j = 0; j < numa->device_count; j++)
            if (numa->devices[j].kind == NUMA_GPU && numa->devices[j].node == node->number)
                json_array_append_new(gpus, json_of_text(numa->devices[j].bus));
        json_object_set_new(row, "number", json_integer(node->number));
        json_object_set_new(row, "package",
                            node->package < 0 ? json_null() : json_integer(node->package));
        json_object_set_new(row, "cpus", json_integer(node->cpus));
        json_object_set_new(row, "cores", json_integer(node->cores));
        json_object_set_new(row, "cpu_list", json_of_text(node->cpu_list));
        json_object_set_new(row, "memory_bytes", json_of_count(node->memory_bytes));
        json_object_set_new(row, "gpus", gpus);
        json_array_append_new(array, row);
    }
    return array;
}

static json_t *distances_json(const struct numa *numa)
{
    if (!numa->distances)
        return json_null();
    json_t *rows = json_array();
    for (size_t i = 0; i < numa->node_count; i++) {
        json_t *row = json_array();
        for (size_t j = 0; j < numa->node_count; j++)
            json_array_append_new(row, json_of_double(numa->distances[i * numa->node_count + j]));
        json_array_append_new(rows, row);
    }
    return rows;
}

json_t *numa_json(const struct numa *numa)
{
    json_t *root = json_object(), *caches = json_array(), *devices = json_array();
    for (size_t i = 0; i < numa->cache_count; i++) {
        const struct numa_cache *cache = &numa->caches[i];
        json_array_append_new(caches, json_pack("{s:s, s:I, s:i, s:i}", "name", cache->name,
                                                "bytes", (json_int_t)cache->bytes, "count",
                                                cache->count, "cpus", cache->cpus));
    }
    for (size_t i = 0; i < numa->device_count; i++) {
        json_t *row = device_json(&numa->devices[i]);
        json_object_set_new(row, "kind", json_string(kind_name(numa->devices[i].kind)));
        json_array_append_new(devices, row);
    }
    json_object_set_new(root, "packages", json_integer(numa->packages));
    json_object_set_new(root, "cores", json_integer(numa->cores));
    json_object_set_new(root, "cpus", json_integer(numa->cpus));
    json_object_set_new(root, "nodes", nodes_json(numa));
    json_object_set_new(root, "distances", distances_json(numa));
    json_object_set_new(root, "caches", caches);
    json_object_set_new(root, "devices", devices);
    return root;
}

/* ---- for people -------------------------------------------------------------------------- */

static const char *node_of(const struct numa_device *device, char *text, size_t bytes)
{
    if (device->node < 0)
        snprintf(text, bytes, "node unknown");
    else
        snprintf(text, bytes, "node %d", device->node);
    return text;
}

static void node_row(struct table *table, const struct numa *numa, size_t i)
{
    const struct numa_node *node = &numa->nodes[i];
    char memory[NUMBER_BYTES], package[32] = "";
    struct bytes text = {0};
    if (node->package >= 0 && numa->packages > 1)
        snprintf(package, sizeof package, "package %d, ", node->package);
    if (node->cpus)
        bytes_printf(&text, "%s%d core%s, CPUs %s, ", package, node->cores,
                     node->cores == 1 ? "" : "s", node->cpu_list);
    else
        bytes_printf(&text, "%sno CPUs, ", package);
    bytes_printf(&text, "%s", format_bytes(memory, node->memory_bytes));
    for (size_t to = 0; numa->distances && numa->node_count > 1 && to < numa->node_count; to++)
        bytes_printf(&text, "%s%g%s", to ? " " : "; distances ",
                     numa->distances[i * numa->node_count + to],
                     to + 1 == numa->node_count ? " (10: local)" : "");
    table_cell(table, "node %d", node->number);
    table_cell(table, "%s", text.failed ? "" : text.data);
    bytes_deinit(&text);
}

void numa_rows(struct table *table, const struct numa *numa)
{
    char size[NUMBER_BYTES], node[32];
    struct bytes caches = {0};
    bool gpu = false;
    for (size_t i = 0; i < numa->cache_count; i++)
        bytes_printf(&caches, "%s%s %d x %s", i ? ", " : "", numa->caches[i].name,
                     numa->caches[i].count, format_bytes(size, numa->caches[i].bytes));
    if (caches.count && !caches.failed) {
        table_cell(table, "caches");
        table_cell(table, "%s", caches.data);
    }
    bytes_deinit(&caches);
    for (size_t i = 0; i < numa->node_count; i++)
        node_row(table, numa, i);
    for (size_t i = 0; i < numa->device_count; i++) {
        const struct numa_device *device = &numa->devices[i];
        if (device->kind == NUMA_OTHER)
            continue;
        gpu |= device->kind == NUMA_GPU;
        table_cell(table, "%s", device->kind == NUMA_GPU ? "GPU" : kind_name(device->kind));
        table_cell(table, "%s %s%s%s%s, %s", device->bus, device->name,
                   *device->known_as ? " (" : "", device->known_as, *device->known_as ? ")" : "",
                   node_of(device, node, sizeof node));
    }
    if (!gpu) {
        table_cell(table, "GPU");
        table_cell(table, "none on PCI that this process sees");
    }
}
