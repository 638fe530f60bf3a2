/* The engine handle: CPU level, pool, backend. */
#include "engine/engine.h"

#include <stdio.h>
#include <string.h>

#include "akin/akin.h"
#include "akin_commit.h"      /* made by the build */
#include "base/clock.h"
#include "base/cpu.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/system.h"
#include "base/thread.h"
#include "compute/backend.h"
#include "compute/peak.h"

const char *akin_version(void)
{
    return AKIN_VERSION;
}

const char *akin_commit(void)
{
    return AKIN_COMMIT;
}

void akin_engine_settings_default(struct akin_engine_settings *settings)
{
    *settings = (struct akin_engine_settings){ .device = "auto" };
}

static enum akin_status check_pin(const char *name, enum topology_pin *pin,
                                  struct akin_error *error)
{
    if (!name || !strcmp(name, "auto"))
        *pin = PIN_NODES;
    else if (!strcmp(name, "cores"))
        *pin = PIN_CORES;
    else if (strcmp(name, "off"))
        return error_set(error, AKIN_ARGUMENT, "pin \"%s\" is not known: auto, cores, off", name);
    return AKIN_OK;
}

enum akin_status akin_engine_open(const struct akin_engine_settings *settings,
                                  struct akin_engine **engine, struct akin_error *error)
{
    unsigned flags, detected = cpu_detect();
    enum topology_pin pin = PIN_OFF;
    if (!cpu_level(settings->cpu, detected, &flags))
        return error_set(error, AKIN_ARGUMENT,
                         "cpu level \"%s\" is not known: ref, avx2, avx512, amx", settings->cpu);
    if (settings->cpu && *settings->cpu && strcmp(cpu_level_name(flags), settings->cpu))
        return error_set(error, AKIN_UNSUPPORTED, "cpu level %s: this CPU offers %s at most",
                         settings->cpu, cpu_level_name(detected));
    if (settings->threads < 0 || settings->threads > THREADS_MAX)
        return error_set(error, AKIN_ARGUMENT, "threads %d: expected 0 to %d", settings->threads,
                         THREADS_MAX);
    struct numa_choice numa;
    TRY(check_pin(settings->pin, &pin, error));
    TRY(numa_choose(settings->numa, &numa, error));     /* before anybody counts CPUs */
    struct akin_engine *e = memory_alloc(1, sizeof *e);
    if (!e)
        return error_memory(error);
    e->log = settings->log;
    e->pin = pin;
    e->numa = numa;
    int threads = settings->threads ? settings->threads : thread_cpus();
    enum akin_status status = AKIN_OK;
    e->topology = topology_create(NULL);
    if (e->topology && numa.off)
        topology_flatten(e->topology);
    if (e->topology)
        e->pool = thread_pool_create_on(threads, e->topology, e->pin);
    if (!e->topology)
        status = error_memory(error);
    else if (!e->pool)
        status = error_set(error, AKIN_MEMORY, "%d threads cannot be started", threads);
    if (status == AKIN_OK)
        status = engine_cards_create(settings, &e->cards, error);
    if (status == AKIN_OK)
        status = cpu_backend_create(flags, e->pool, &e->backend, error);
    if (status == AKIN_OK && settings->home && !(e->home = memory_copy_string(settings->home)))
        status = error_memory(error);
    if (status != AKIN_OK) {
        akin_engine_close(&e);
        return status;
    }
    e->cpu_flags = flags;
    cpu_flags_text(flags, e->instruction_sets, sizeof e->instruction_sets);
    snprintf(e->kernels, sizeof e->kernels, "%s", cpu_level_name(flags));
    log_write(&e->log, AKIN_LOG_DEBUG, "event=engine_open kernels=%s threads=%d pinned=%d nodes=%d",
              e->kernels, threads, thread_pool_pinned(e->pool), topology_nodes(e->topology));
    *engine = e;
    return AKIN_OK;
}

void akin_engine_close(struct akin_engine **engine)
{
    struct akin_engine *e = *engine;
    if (!e)
        return;
    cpu_backend_destroy(&e->backend);
    engine_cards_destroy(&e->cards);
    thread_pool_destroy(&e->pool);
    topology_destroy(&e->topology);
    memory_free(e->home);
    memory_free(e);
    *engine = NULL;
}

int akin_engine_threads(const struct akin_engine *engine)
{
    return thread_pool_size(engine->pool);
}

void akin_engine_placement(const struct akin_engine *engine, struct akin_placement *placement)
{
    const struct topology *t = engine->topology;
    int threads = thread_pool_size(engine->pool);
    const char *why = topology_refusal(t, threads, engine->pin);
    *placement = (struct akin_placement){
        .threads = threads, .cpus = topology_cpus(t), .cores = topology_cores(t),
        .nodes = topology_nodes(t), .quota = topology_quota(t),
        .pinned = thread_pool_pinned(engine->pool), .node = engine->numa.node,
        .node_memory = engine->numa.bound.memory,
    };
    if (engine->numa.node >= 0 && engine->numa.bound.cpus && engine->pin != PIN_CORES)
        why = "all stay on one node";
    else if (engine->numa.off && engine->pin == PIN_NODES)
        why = "NUMA nodes are not looked at";
    if (placement->pinned)
        snprintf(placement->pinned_to, sizeof placement->pinned_to, "%s",
                 engine->pin == PIN_CORES ? "cores" : "nodes");
    else
        snprintf(placement->why_not, sizeof placement->why_not, "%s",
                 why ? why : "the system refused");
}

const char *akin_engine_kernels(const struct akin_engine *engine)
{
    return engine->kernels;
}

double akin_engine_peak_gflops(const struct akin_engine *engine, enum akin_precision precision)
{
    switch (precision) {
    case AKIN_PRECISION_FP32:
        return peak_gflops(engine->cpu_flags, engine->pool, COMPUTE_FP32);
    case AKIN_PRECISION_BF16:
        return peak_gflops(engine->cpu_flags, engine->pool, COMPUTE_BF16);
    case AKIN_PRECISION_INT8:
        return peak_gflops(engine->cpu_flags, engine->pool, COMPUTE_INT8);
    default:
        return 0;
    }
}

void akin_machine_describe(struct akin_machine *machine)
{
    system_describe(machine);
}

uint64_t akin_peak_rss_bytes(void)
{
    return system_peak_rss_bytes();
}

uint64_t akin_rss_bytes(void)
{
    return system_rss_bytes();
}

uint64_t akin_clock_ns(void)
{
    return clock_monotonic_ns();
}
