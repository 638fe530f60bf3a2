/* What NVIDIA's driver tells about GPUs, through its library where it is there: no build and no run
 * needs it. Prototypes are ours, after NVIDIA's NVML API reference (12.9). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct nvml;

/* `library`: NULL is libnvidia-ml.so.1. NULL: there is none, or it does not start. */
struct nvml *nvml_open(const char *library);
void nvml_close(struct nvml **nvml);

size_t nvml_device_count(const struct nvml *nvml);
/* "550.54.15"; "" where unknown. */
const char *nvml_driver(const struct nvml *nvml);

/* What a device does now; NAN: it does not say. */
struct nvml_reading {
    double busy_pct;            /* of the last sampling period: some kernel ran */
    double memory_used_bytes, memory_total_bytes;
    double power_w, energy_j;   /* energy: since the driver was loaded */
    double sm_mhz, memory_mhz;
};

/* Takes up to some milliseconds. One thread at a time. */
void nvml_read(struct nvml *nvml, size_t device, struct nvml_reading *reading);
/* "" where unknown. */
void nvml_name(struct nvml *nvml, size_t device, char *name, size_t bytes);
