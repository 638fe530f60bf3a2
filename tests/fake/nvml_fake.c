/* A stand-in for NVIDIA's libnvidia-ml.so with two devices: device 0 tells everything, device 1
 * knows no energy and no clocks. Energy grows with each question. */
#include <stdio.h>

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlSystemGetDriverVersion(char *version, unsigned bytes);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetName(void *device, char *name, unsigned bytes);
int nvmlDeviceGetUtilizationRates(void *device, unsigned *busy);
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *bytes);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules);
int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz);

enum { OK = 0, NOT_SUPPORTED = 3 };

static int devices[2];
static unsigned long long energy = 5000;

int nvmlInit_v2(void)
{
    return OK;
}

int nvmlShutdown(void)
{
    return OK;
}

int nvmlSystemGetDriverVersion(char *version, unsigned bytes)
{
    snprintf(version, bytes, "550.54.15");
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = 2;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    *device = &devices[index];
    return OK;
}

int nvmlDeviceGetName(void *device, char *name, unsigned bytes)
{
    snprintf(name, bytes, "NVIDIA Fake %d", device == &devices[1]);
    return OK;
}

int nvmlDeviceGetUtilizationRates(void *device, unsigned *busy)
{
    busy[0] = device == &devices[0] ? 80 : 40;
    busy[1] = 10;
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *bytes)
{
    (void)device;
    bytes[0] = 80000000000ULL;
    bytes[1] = 79000000000ULL;
    bytes[2] = 1000000000ULL;
    return OK;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
    (void)device;
    *milliwatts = 350500;
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules)
{
    if (device != &devices[0])
        return NOT_SUPPORTED;
    *millijoules = energy += 1000;
    return OK;
}

int nvmlDeviceGetClockInfo(void *device, int which, unsigned *mhz)
{
    if (device != &devices[0])
        return NOT_SUPPORTED;
    *mhz = which == 1 ? 1980 : 2619;
    return OK;
}
