/* What a GPU does while it trains: read by a thread of its own, a few times a second, so that no
 * step waits for it. */
#pragma once

#include <stddef.h>

struct gpu_monitor;

struct gpu_usage {              /* NAN: not known */
    double busy_pct, sm_mhz, power_w;       /* means over the readings */
    double memory_peak_bytes;               /* of the whole device */
    double energy_j;                        /* from the start to the stop */
    size_t readings;
};

/* `library` as nvml_open has it. NULL: no such device, or nothing that tells about it. */
struct gpu_monitor *gpu_monitor_start(const char *library, size_t device, int interval_ms);
/* Ends the thread at once; NULL gives what is not known. */
void gpu_monitor_stop(struct gpu_monitor **monitor, struct gpu_usage *usage);
