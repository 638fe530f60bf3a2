/* Figures of GPUs, from a library that stands in for NVIDIA's; and without any. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "compute/nvml.h"
#include "train/gpu_monitor.h"

static void test_readings(void **state)
{
    struct nvml_reading r;
    char name[32], cut[7];
    (void)state;
    struct nvml *nvml = nvml_open(AKIN_FAKE_NVML);
    assert_non_null(nvml);
    assert_int_equal(nvml_device_count(nvml), 2);
    assert_string_equal(nvml_driver(nvml), "550.54.15");
    nvml_name(nvml, 1, name, sizeof name);
    assert_string_equal(name, "NVIDIA Fake 1");
    nvml_name(nvml, 1, cut, sizeof cut);
    assert_string_equal(cut, "NVIDIA");
    nvml_read(nvml, 0, &r);
    assert_true(r.busy_pct == 80 && r.memory_used_bytes == 1e9 && r.memory_total_bytes == 8e10);
    assert_true(r.power_w == 350.5 && r.energy_j == 6 && r.sm_mhz == 1980 && r.memory_mhz == 2619);
    nvml_read(nvml, 1, &r);
    assert_true(r.busy_pct == 40 && isnan(r.energy_j) && isnan(r.sm_mhz) && isnan(r.memory_mhz));
    nvml_close(&nvml);
    assert_null(nvml);
    nvml_close(&nvml);
}

static void test_without_the_library(void **state)
{
    struct gpu_usage usage;
    (void)state;
    assert_null(nvml_open("/nowhere/libnvidia-ml.so.1"));
    assert_null(nvml_open("libm.so.6"));        /* a library, but another one */
    struct gpu_monitor *monitor = gpu_monitor_start("/nowhere/x.so", 0, 10);
    assert_null(monitor);
    gpu_monitor_stop(&monitor, &usage);
    assert_true(isnan(usage.busy_pct) && isnan(usage.energy_j) && usage.readings == 0);
    assert_null(gpu_monitor_start(AKIN_FAKE_NVML, 2, 10));      /* has devices 0 and 1 */
}

static void test_usage(void **state)
{
    struct gpu_usage usage;
    (void)state;
    struct gpu_monitor *monitor = gpu_monitor_start(AKIN_FAKE_NVML, 0, 1000000);
    assert_non_null(monitor);
    gpu_monitor_stop(&monitor, &usage);         /* does not wait for the interval */
    assert_null(monitor);
    assert_int_equal(usage.readings, 2);
    assert_true(usage.busy_pct == 80 && usage.sm_mhz == 1980 && usage.power_w == 350.5);
    assert_true(usage.memory_peak_bytes == 1e9 && usage.energy_j == 1);
    monitor = gpu_monitor_start(AKIN_FAKE_NVML, 1, 1);
    assert_non_null(monitor);
    gpu_monitor_stop(&monitor, &usage);
    assert_true(usage.busy_pct == 40 && isnan(usage.energy_j) && isnan(usage.sm_mhz));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readings),
        cmocka_unit_test(test_without_the_library),
        cmocka_unit_test(test_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
