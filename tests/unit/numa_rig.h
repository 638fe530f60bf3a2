/* A made-up NVIDIA DGX A100: two sockets of 64 cores with two threads each, 16 third-level caches a
 * socket, a node each, distances 10 and 32; eight GPUs, eight network adapters, a disk, and a
 * display that is no GPU. hwloc's notation has no PCI devices, so they are put into its XML. */
#pragma once

#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

/* Devices of a socket, under its host bridge. */
static void pci_of(struct bytes *out, int socket)
{
    int id = 10000 + 100 * socket, bus = socket * 0x80;
    bytes_printf(out, "<object type=\"Bridge\" gp_index=\"%d\" bridge_type=\"0-1\" depth=\"0\" "
                      "bridge_pci=\"0000:[%02x-%02x]\">\n", id++, bus, bus + 0x7f);
    for (int i = 1; i <= 4; i++) {
        bytes_printf(out, "<object type=\"PCIDev\" gp_index=\"%d\" pci_busid=\"0000:%02x:00.0\" "
                          "pci_type=\"0302 [10de:20b0] [10de:134f] a1\" pci_link_speed=\"31.5\">\n"
                          "<info name=\"PCIVendor\" value=\"NVIDIA\"/>"
                          "<info name=\"PCIDevice\" value=\"GA100 [A100 SXM4]\"/>\n"
                          "<object type=\"OSDev\" gp_index=\"%d\" name=\"nvml%d\" "
                          "osdev_type=\"1\"/></object>\n",
                     id, bus + 16 * i, id + 1, socket * 4 + i - 1);
        bytes_printf(out, "<object type=\"PCIDev\" gp_index=\"%d\" pci_busid=\"0000:%02x:00.0\" "
                          "pci_type=\"0207 [15b3:101b] [15b3:0007] 00\" "
                          "pci_link_speed=\"31.5\"/>\n",
                     id + 2, bus + 16 * i + 2);
        id += 3;
    }
    if (socket == 1)
        bytes_printf(out, "<object type=\"PCIDev\" gp_index=\"%d\" pci_busid=\"0000:c1:00.0\" "
                          "pci_type=\"0108 [144d:a824] [144d:a801] 00\" pci_link_speed=\"7.8\"/>\n"
                          "<object type=\"PCIDev\" gp_index=\"%d\" pci_busid=\"0000:c3:00.0\" "
                          "pci_type=\"0300 [1a03:2000] [1a03:2000] 41\" pci_link_speed=\"0\"/>\n",
                     id, id + 1);
    bytes_append_text(out, "</object>\n");
}

/* Start of the last end of an object that begins before `before`. */
static size_t last_end(const char *text, size_t before)
{
    static const char end[] = "</object>";
    while (before > 0 && strncmp(text + before - 1, end, sizeof end - 1) != 0)
        before--;
    return before - 1;
}

static bool add_distances(hwloc_topology_t topology)
{
    hwloc_uint64_t values[4] = { 10, 32, 32, 10 };
    hwloc_obj_t nodes[2] = { hwloc_get_obj_by_type(topology, HWLOC_OBJ_NUMANODE, 0),
                             hwloc_get_obj_by_type(topology, HWLOC_OBJ_NUMANODE, 1) };
    hwloc_distances_add_handle_t handle = hwloc_distances_add_create(
        topology, "NUMALatency", HWLOC_DISTANCES_KIND_FROM_OS | HWLOC_DISTANCES_KIND_MEANS_LATENCY,
        0);
    return handle && !hwloc_distances_add_values(topology, handle, 2, nodes, values, 0) &&
           !hwloc_distances_add_commit(topology, handle, 0);
}

/* Writes it to `path`, which ends in .xml. */
static bool make_dgx_a100(const char *path)
{
    hwloc_topology_t topology;
    char *xml = NULL;
    int bytes = 0;
    struct bytes out = { 0 };
    bool good = !hwloc_topology_init(&topology) &&
                !hwloc_topology_set_synthetic(
                    topology, "pack:2 [numa(memory=549755813888)] l3:16(size=16777216) "
                              "l2:4(size=524288) l1d:1(size=32768) core:1 pu:2") &&
                !hwloc_topology_load(topology) && add_distances(topology) &&
                !hwloc_topology_export_xmlbuffer(topology, &xml, &bytes, 0);
    if (good) {
        size_t end = strlen(xml), second_package = 0;
        size_t first = (size_t)(strstr(xml, "<object type=\"Package\"") - xml);
        second_package = (size_t)(strstr(xml + first + 1, "<object type=\"Package\"") - xml);
        size_t a = last_end(xml, second_package), b = last_end(xml, last_end(xml, end));
        bytes_append(&out, xml, a);
        pci_of(&out, 0);
        bytes_append(&out, xml + a, b - a);
        pci_of(&out, 1);
        bytes_append_text(&out, xml + b);
        good = !out.failed && file_write(path, out.data, out.count, NULL) == AKIN_OK;
    }
    bytes_deinit(&out);
    if (xml)
        hwloc_free_xmlbuffer(topology, xml);
    hwloc_topology_destroy(topology);
    return good;
}
