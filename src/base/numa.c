/* NUMA by hwloc. See numa.h. */
#include "base/numa.h"

#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

/* ---- reading the machine ---------------------------------------------------------------- */

/* PCI devices as the kernel tells them. The part of hwloc that asks libpciaccess leaks memory, and
 * those for OpenCL and displays load drivers of GPUs and talk to X servers. */
static bool leave_out(hwloc_topology_t topology)
{
    static const char *const parts[] = { "pci", "opencl", "gl", "cuda", "nvml", "rsmi",
                                         "levelzero" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        (void)hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST,
                                            parts[i]);  /* refused: it is not there */
    return !hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
}

static bool load(struct numa *n, const char *made_up, bool devices)
{
    if (hwloc_topology_init(&n->hwloc)) {
        n->hwloc = NULL;
        return false;
    }
    size_t length = made_up ? strlen(made_up) : 0;
    bool xml = length > 4 && !strcmp(made_up + length - 4, ".xml");
    return (!devices || leave_out(n->hwloc)) &&
           (!xml || !hwloc_topology_set_xml(n->hwloc, made_up)) &&
           (!made_up || xml || !hwloc_topology_set_synthetic(n->hwloc, made_up)) &&
           !hwloc_topology_load(n->hwloc);
}

static hwloc_obj_t node_object(const struct numa *n, size_t i)
{
    return hwloc_get_obj_by_type(n->hwloc, HWLOC_OBJ_NUMANODE, (unsigned)i);
}

static void read_node(const struct numa *n, size_t i)
{
    hwloc_obj_t object = node_object(n, i);
    hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(n->hwloc, HWLOC_OBJ_PACKAGE, object);
    struct numa_node *node = &n->nodes[i];
    node->number = (int)object->os_index;
    node->package = package ? (int)package->logical_index : n->packages == 1 ? 0 : -1;
    node->cpus = hwloc_bitmap_weight(object->cpuset);
    node->cores = hwloc_get_nbobjs_inside_cpuset_by_type(n->hwloc, object->cpuset, HWLOC_OBJ_CORE);
    hwloc_bitmap_list_snprintf(node->cpu_list, sizeof node->cpu_list, object->cpuset);
    node->memory_bytes = object->attr->numanode.local_memory;
}

static void read_caches(struct numa *n)
{
    static const struct { hwloc_obj_type_t type; const char *name; } kinds[NUMA_CACHES_MAX] = {
        { HWLOC_OBJ_L1CACHE, "L1d" }, { HWLOC_OBJ_L2CACHE, "L2" }, { HWLOC_OBJ_L3CACHE, "L3" },
        { HWLOC_OBJ_L4CACHE, "L4" },
    };
    for (size_t i = 0; i < NUMA_CACHES_MAX; i++) {
        int count = hwloc_get_nbobjs_by_type(n->hwloc, kinds[i].type);
        if (count < 1)
            continue;
        hwloc_obj_t first = hwloc_get_obj_by_type(n->hwloc, kinds[i].type, 0);
        n->caches[n->cache_count++] = (struct numa_cache){
            .name = kinds[i].name, .bytes = first->attr->cache.size, .count = count,
            .cpus = hwloc_bitmap_weight(first->cpuset) };
    }
}

static bool read_distances(struct numa *n)
{
    struct hwloc_distances_s *table = NULL;
    unsigned count = 1;
    size_t nodes = n->node_count;
    if (hwloc_distances_get_by_type(n->hwloc, HWLOC_OBJ_NUMANODE, &count, &table,
                                    HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) || count < 1)
        return true;
    n->distances = table->nbobjs == nodes ? memory_alloc(nodes * nodes, sizeof *n->distances)
                                          : NULL;
    for (size_t i = 0; n->distances && i < nodes * nodes; i++) {
        size_t from = table->objs[i / nodes]->logical_index;
        size_t to = table->objs[i % nodes]->logical_index;
        n->distances[from * nodes + to] = (double)table->values[i];
    }
    bool good = n->distances || table->nbobjs != nodes;
    hwloc_distances_release(n->hwloc, table);
    return good;
}

/* ---- devices ---------------------------------------------------------------------------- */

enum { NVIDIA = 0x10de, AMD = 0x1002, INTEL = 0x8086 };

/* A display that cannot compute, as servers have them for their console, is no GPU. */
static enum numa_device_kind kind_of(const struct hwloc_pcidev_attr_s *pci)
{
    enum { DISPLAY = 0x03, DISPLAY_3D = 0x0302, ACCELERATOR = 0x12, NETWORK = 0x02,
           STORAGE = 0x01 };
    int class = pci->class_id >> 8;
    if (class == ACCELERATOR || pci->class_id == DISPLAY_3D ||
        (class == DISPLAY && (pci->vendor_id == NVIDIA || pci->vendor_id == AMD ||
                              pci->vendor_id == INTEL)))
        return NUMA_GPU;
    return class == NETWORK ? NUMA_NETWORK : class == STORAGE ? NUMA_STORAGE : NUMA_OTHER;
}

static int nearest_node(const struct numa *n, hwloc_obj_t device)
{
    hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(n->hwloc, device);
    if (!near || hwloc_bitmap_weight(near->nodeset) != 1)
        return -1;
    return hwloc_bitmap_first(near->nodeset);
}

bool numa_nvidia_name(const char *folder, const char *bus, char *name, size_t bytes)
{
    static const char label[] = "Model:";
    char path[256];
    struct bytes text = { 0 };
    snprintf(path, sizeof path, "%s/%s/information", folder, bus);
    const char *line = NULL;
    if (file_read(path, 1 << 16, &text, NULL) == AKIN_OK && text.count)
        line = strstr(text.data, label);
    if (line) {
        line += sizeof label - 1;
        line += strspn(line, " \t");
    }
    size_t count = line ? strcspn(line, "\r\n") : 0;
    if (count)
        snprintf(name, bytes, "%.*s", (int)count, line);
    bytes_deinit(&text);
    return count > 0;
}

static void read_device(const struct numa *n, hwloc_obj_t object, struct numa_device *device)
{
    const struct hwloc_pcidev_attr_s *pci = &object->attr->pcidev;
    const char *vendor = hwloc_obj_get_info_by_name(object, "PCIVendor");
    const char *name = hwloc_obj_get_info_by_name(object, "PCIDevice");
    size_t used = 0;
    device->kind = kind_of(pci);
    device->node = nearest_node(n, object);
    snprintf(device->bus, sizeof device->bus, "%04x:%02x:%02x.%01x", pci->domain, pci->bus,
             pci->dev, pci->func);
    snprintf(device->name, sizeof device->name, "%04x:%04x", pci->vendor_id, pci->device_id);
    if (vendor || name)
        snprintf(device->name, sizeof device->name, "%s%s%s", vendor ? vendor : "",
                 vendor && name ? " " : "", name ? name : "");
    if (pci->vendor_id == NVIDIA && hwloc_topology_is_thissystem(n->hwloc))
        (void)numa_nvidia_name("/proc/driver/nvidia/gpus", device->bus, device->name,
                               sizeof device->name);
    for (hwloc_obj_t child = object->io_first_child; child; child = child->next_sibling)
        if (child->type == HWLOC_OBJ_OS_DEVICE && child->name &&
            used + strlen(child->name) + 2 < sizeof device->known_as)
            used += (size_t)snprintf(device->known_as + used, sizeof device->known_as - used,
                                     "%s%s", used ? "," : "", child->name);
}

static bool read_devices(struct numa *n)
{
    size_t count = 0;
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_pcidev(n->hwloc, o));)
        count++;
    n->devices = memory_alloc(count, sizeof *n->devices);
    if (!n->devices)
        return false;
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_pcidev(n->hwloc, o));)
        read_device(n, o, &n->devices[n->device_count++]);
    return true;
}

/* ---- open, close ------------------------------------------------------------------------ */

enum akin_status numa_open(const char *made_up, bool devices, struct numa **numa,
                           struct akin_error *error)
{
    struct numa *n = memory_alloc(1, sizeof *n);
    if (!n)
        return error_memory(error);
    int nodes = load(n, made_up, devices) ? hwloc_get_nbobjs_by_type(n->hwloc, HWLOC_OBJ_NUMANODE)
                                          : 0;
    if (nodes < 1) {
        numa_close(&n);
        return made_up ? error_set(error, AKIN_ARGUMENT, "'%s' describes no machine", made_up)
                       : error_set(error, AKIN_UNSUPPORTED,
                                   "the system does not tell what its NUMA nodes are");
    }
    n->node_count = (size_t)nodes;
    n->packages = hwloc_get_nbobjs_by_type(n->hwloc, HWLOC_OBJ_PACKAGE);
    n->cores = hwloc_get_nbobjs_by_type(n->hwloc, HWLOC_OBJ_CORE);
    n->cpus = hwloc_get_nbobjs_by_type(n->hwloc, HWLOC_OBJ_PU);
    n->nodes = memory_alloc(n->node_count, sizeof *n->nodes);
    for (size_t i = 0; n->nodes && i < n->node_count; i++)
        read_node(n, i);
    read_caches(n);
    if (!n->nodes || !read_distances(n) || (devices && !read_devices(n))) {
        numa_close(&n);
        return error_memory(error);
    }
    *numa = n;
    return AKIN_OK;
}

void numa_close(struct numa **numa)
{
    struct numa *n = *numa;
    if (!n)
        return;
    if (n->hwloc)
        hwloc_topology_destroy(n->hwloc);
    memory_free(n->nodes);
    memory_free(n->distances);
    memory_free(n->devices);
    memory_free(n);
    *numa = NULL;
}

int numa_node_of_device(const struct numa *numa, const char *bus)
{
    for (size_t i = 0; i < numa->device_count; i++)
        if (!strcmp(numa->devices[i].bus, bus))
            return numa->devices[i].node;
    return -1;
}

int numa_find(const struct numa *numa, int number)
{
    for (size_t i = 0; i < numa->node_count; i++)
        if (numa->nodes[i].number == number)
            return (int)i;
    return -1;
}

/* ---- binding ---------------------------------------------------------------------------- */

enum akin_status numa_bind(const struct numa *numa, size_t at, struct numa_bound *bound,
                           struct akin_error *error)
{
    ASSERT(at < numa->node_count);
    hwloc_obj_t object = node_object(numa, at);
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    enum akin_status status = set ? AKIN_OK : error_memory(error);
    *bound = (struct numa_bound){ 0 };
    if (status == AKIN_OK && !hwloc_bitmap_iszero(object->cpuset)) {
        bool known = !hwloc_get_cpubind(numa->hwloc, set, HWLOC_CPUBIND_THREAD);
        hwloc_bitmap_and(set, set, object->cpuset);
        if (known && hwloc_bitmap_iszero(set))
            status = error_set(error, AKIN_ARGUMENT,
                               "node %d has the CPUs %s, none of which this process may use",
                               numa->nodes[at].number, numa->nodes[at].cpu_list);
        else
            bound->cpus = known && !hwloc_set_cpubind(numa->hwloc, set, HWLOC_CPUBIND_THREAD);
    }
    if (status == AKIN_OK)
        bound->memory = !hwloc_set_membind(numa->hwloc, object->nodeset, HWLOC_MEMBIND_BIND,
                                           HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET);
    hwloc_bitmap_free(set);
    return status;
}

int numa_node_of(const struct numa *numa, const void *block, size_t bytes)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    int node = -1;
    if (set && !hwloc_get_area_memlocation(numa->hwloc, block, bytes, set,
                                           HWLOC_MEMBIND_BYNODESET) &&
        hwloc_bitmap_weight(set) == 1)
        node = hwloc_bitmap_first(set);
    hwloc_bitmap_free(set);
    return node;
}

bool numa_is_choice(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return !strcmp(text, "auto") || !strcmp(text, "off") ||
           (digits > 0 && digits <= 4 && !text[digits]);
}

static enum akin_status no_such_node(const struct numa *numa, int number, struct akin_error *error)
{
    char list[128] = "";
    size_t used = 0;
    for (size_t i = 0; i < numa->node_count && used + 8 < sizeof list; i++)
        if (numa->nodes[i].cpus)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%d", used ? ", " : "",
                                     numa->nodes[i].number);
    return error_set(error, AKIN_ARGUMENT, "there is no node %d with CPUs here; there are: %s",
                     number, list);
}

enum akin_status numa_choose_on(const struct numa *numa, const char *text,
                                struct numa_choice *choice, struct akin_error *error)
{
    *choice = (struct numa_choice){ .node = -1 };
    if (text && !numa_is_choice(text))
        return error_set(error, AKIN_ARGUMENT,
                         "numa \"%s\" is not known: auto, off, or the number of a node", text);
    choice->off = text && !strcmp(text, "off");
    if (!text || choice->off || !strcmp(text, "auto") || numa->node_count == 1)
        return AKIN_OK;
    int number = (int)strtol(text, NULL, 10), at = numa_find(numa, number);
    if (at < 0 || !numa->nodes[at].cpus)
        return no_such_node(numa, number, error);
    TRY(numa_bind(numa, (size_t)at, &choice->bound, error));
    choice->node = number;
    return AKIN_OK;
}

enum akin_status numa_choose(const char *text, struct numa_choice *choice,
                             struct akin_error *error)
{
    struct numa alone = { .node_count = 1 }, *numa = &alone;
    bool number = text && numa_is_choice(text) && text[0] >= '0' && text[0] <= '9';
    if (number && numa_open(NULL, false, &numa, NULL) != AKIN_OK)
        numa = &alone;          /* what is not known is one node */
    enum akin_status status = numa_choose_on(numa, text, choice, error);
    if (numa != &alone)
        numa_close(&numa);
    return status;
}
