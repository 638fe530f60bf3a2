/* See nvml.h. A function that the library lacks is a figure that is not known. */
#include "compute/nvml.h"

#include <dlfcn.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"

enum { NVML_SUCCESS = 0, CLOCK_SM = 1, CLOCK_MEMORY = 2, DEVICES_MAX = 256 };

struct utilization { unsigned gpu, memory; };
struct memory { unsigned long long total, free, used; };
typedef void *device_handle;    /* NVML's own name for it is a pointer as well */

struct nvml {
    void *library;
    int (*shutdown)(void);
    int (*handle)(unsigned index, device_handle *device);
    int (*name)(device_handle device, char *name, unsigned bytes);
    int (*utilization)(device_handle device, struct utilization *utilization);
    int (*memory)(device_handle device, struct memory *memory);
    int (*power)(device_handle device, unsigned *milliwatts);
    int (*energy)(device_handle device, unsigned long long *millijoules);
    int (*clock)(device_handle device, int which, unsigned *mhz);
    char driver[80];
    size_t count;
    device_handle devices[DEVICES_MAX];
};

/* A pointer to data becomes one to a function as POSIX has it. */
static void look_up(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
}

static bool find_devices(struct nvml *n)
{
    int (*count)(unsigned *devices);
    int (*driver)(char *version, unsigned bytes);
    unsigned devices = 0;
    look_up(n->library, "nvmlDeviceGetCount_v2", &count);
    look_up(n->library, "nvmlSystemGetDriverVersion", &driver);
    if (!count || !n->handle || count(&devices) != NVML_SUCCESS)
        return false;
    for (unsigned i = 0; i < devices && n->count < DEVICES_MAX; i++)
        if (n->handle(i, &n->devices[n->count]) == NVML_SUCCESS)
            n->count++;
    if (!driver || driver(n->driver, sizeof n->driver) != NVML_SUCCESS)
        n->driver[0] = '\0';
    return true;
}

struct nvml *nvml_open(const char *library)
{
    struct nvml *n = memory_alloc(1, sizeof *n);
    int (*init)(void);
    if (!n)
        return NULL;
    n->library = dlopen(library ? library : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (n->library) {
        look_up(n->library, "nvmlInit_v2", &init);
        look_up(n->library, "nvmlShutdown", &n->shutdown);
        look_up(n->library, "nvmlDeviceGetHandleByIndex_v2", &n->handle);
        look_up(n->library, "nvmlDeviceGetName", &n->name);
        look_up(n->library, "nvmlDeviceGetUtilizationRates", &n->utilization);
        look_up(n->library, "nvmlDeviceGetMemoryInfo", &n->memory);
        look_up(n->library, "nvmlDeviceGetPowerUsage", &n->power);
        look_up(n->library, "nvmlDeviceGetTotalEnergyConsumption", &n->energy);
        look_up(n->library, "nvmlDeviceGetClockInfo", &n->clock);
        if (!init || init() != NVML_SUCCESS)
            n->shutdown = NULL;
        else if (find_devices(n))
            return n;
    }
    nvml_close(&n);
    return NULL;
}

void nvml_close(struct nvml **nvml)
{
    struct nvml *n = *nvml;
    if (!n)
        return;
    if (n->shutdown)
        n->shutdown();
    if (n->library)
        dlclose(n->library);
    memory_free(n);
    *nvml = NULL;
}

size_t nvml_device_count(const struct nvml *nvml)
{
    return nvml->count;
}

const char *nvml_driver(const struct nvml *nvml)
{
    return nvml->driver;
}

void nvml_name(struct nvml *n, size_t device, char *name, size_t bytes)
{
    if (!n->name || n->name(n->devices[device], name, (unsigned)bytes) != NVML_SUCCESS)
        name[0] = '\0';
    name[bytes - 1] = '\0';
}

static double clock_of(struct nvml *n, device_handle device, int which)
{
    unsigned mhz = 0;
    return n->clock && n->clock(device, which, &mhz) == NVML_SUCCESS ? mhz : NAN;
}

void nvml_read(struct nvml *n, size_t device, struct nvml_reading *reading)
{
    device_handle d = n->devices[device];
    struct utilization busy = {0};
    struct memory memory = {0};
    unsigned milliwatts = 0;
    unsigned long long millijoules = 0;
    *reading = (struct nvml_reading){NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    if (n->utilization && n->utilization(d, &busy) == NVML_SUCCESS)
        reading->busy_pct = busy.gpu;
    if (n->memory && n->memory(d, &memory) == NVML_SUCCESS) {
        reading->memory_used_bytes = (double)memory.used;
        reading->memory_total_bytes = (double)memory.total;
    }
    if (n->power && n->power(d, &milliwatts) == NVML_SUCCESS)
        reading->power_w = milliwatts / 1e3;
    if (n->energy && n->energy(d, &millijoules) == NVML_SUCCESS)
        reading->energy_j = (double)millijoules / 1e3;
    reading->sm_mhz = clock_of(n, d, CLOCK_SM);
    reading->memory_mhz = clock_of(n, d, CLOCK_MEMORY);
}
