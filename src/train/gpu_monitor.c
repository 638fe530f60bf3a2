/* See gpu_monitor.h. A pipe wakes the thread, so that stopping does not wait for an interval. */
#include "train/gpu_monitor.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/thread.h"
#include "compute/nvml.h"

struct mean {
    double sum;
    size_t count;
};

struct gpu_monitor {
    struct nvml *nvml;
    struct thread *thread;
    size_t device;
    int interval_ms, wake[2];
    struct mean busy, clock, power;
    double memory_peak, energy_first, energy_last;
    size_t readings;
};

static void add(struct mean *mean, double value)
{
    if (isfinite(value)) {
        mean->sum += value;
        mean->count++;
    }
}

static double value_of(const struct mean *mean)
{
    return mean->count ? mean->sum / (double)mean->count : NAN;
}

static void take_reading(struct gpu_monitor *m)
{
    struct nvml_reading r;
    nvml_read(m->nvml, m->device, &r);
    add(&m->busy, r.busy_pct);
    add(&m->clock, r.sm_mhz);
    add(&m->power, r.power_w);
    m->memory_peak = fmax(m->memory_peak, r.memory_used_bytes);
    if (m->readings++ == 0)
        m->energy_first = r.energy_j;
    m->energy_last = r.energy_j;
}

static void watch(void *context)
{
    struct gpu_monitor *m = context;
    struct pollfd woken = {.fd = m->wake[0], .events = POLLIN};   /* also POLLHUP */
    do
        take_reading(m);
    while (poll(&woken, 1, m->interval_ms) == 0);
    take_reading(m);            /* the energy up to now */
}

static void destroy(struct gpu_monitor **monitor)
{
    struct gpu_monitor *m = *monitor;
    for (int i = 0; i < 2; i++)
        if (m->wake[i] >= 0)
            close(m->wake[i]);
    nvml_close(&m->nvml);
    memory_free(m);
    *monitor = NULL;
}

struct gpu_monitor *gpu_monitor_start(const char *library, size_t device, int interval_ms)
{
    struct gpu_monitor *m = memory_alloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->wake[0] = m->wake[1] = -1;
    m->memory_peak = m->energy_first = m->energy_last = NAN;
    m->device = device;
    m->interval_ms = interval_ms;
    m->nvml = nvml_open(library);
    if (m->nvml && device < nvml_device_count(m->nvml) && pipe2(m->wake, O_CLOEXEC) == 0)
        m->thread = thread_start(watch, m, true);
    if (!m->thread)
        destroy(&m);
    return m;
}

void gpu_monitor_stop(struct gpu_monitor **monitor, struct gpu_usage *usage)
{
    struct gpu_monitor *m = *monitor;
    *usage = (struct gpu_usage){NAN, NAN, NAN, NAN, NAN, 0};
    if (!m)
        return;
    close(m->wake[1]);          /* the reading end becomes ready */
    m->wake[1] = -1;
    thread_join(&m->thread);
    usage->busy_pct = value_of(&m->busy);
    usage->sm_mhz = value_of(&m->clock);
    usage->power_w = value_of(&m->power);
    usage->memory_peak_bytes = m->memory_peak;
    usage->energy_j = m->energy_last - m->energy_first;
    usage->readings = m->readings;
    destroy(monitor);
}
