/* Opens the device that a Transformer is trained on, and says beforehand whether it fits. */
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/thread.h"
#include "cli/bench_train.h"

/* ---- the device -------------------------------------------------------------------------- */

/* Who launched this process says how many there are. */
static bool launched(void)
{
    static const char *const variables[] = {"RANK", "WORLD_SIZE", "SLURM_PROCID",
                                            "OMPI_COMM_WORLD_SIZE"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (getenv(variables[i]))
            return true;
    return false;
}

enum akin_status train_place_choose(struct cli *cli, const char *device, struct train_asked *asked)
{
    char why[GPU_WHY_BYTES];
    bool cuda = !strcmp(device, "cuda"), any = !strcmp(device, "auto");
    asked->reference = !strcmp(device, "reference");
    if (!asked->reference && !cuda && !any && strcmp(device, "cpu"))
        return wrong_use(cli, "--device: '%.40s' is not one of auto, cpu, cuda", device);
    if (!cuda && !any)
        return AKIN_OK;
    size_t count = gpu_count(cli_setting(cli, "cuda_library"), why);
    if (count == 0 && cuda)
        return error_set(&cli->error, AKIN_NOT_FOUND, "no GPU can be used: %s",
                         why[0] ? why : "this machine has no NVIDIA driver; use --device cpu");
    if (count == 0 && why[0])
        print_note(cli, "training on the CPU: %s", why);
    asked->cuda = count > 0;
    if (asked->processes > count && asked->cuda)
        return error_set(&cli->error, AKIN_UNSUPPORTED,
                         "--processes %zu: there are %zu GPUs, and each takes one process",
                         asked->processes, count);
    if (asked->cuda && asked->processes == 0 && !launched())
        asked->processes = count;
    return AKIN_OK;
}

/* The engine has checked the settings; its own pool stays asleep meanwhile. */
static enum akin_status open_cpu(struct cli *cli, const struct train_asked *asked,
                                 struct train_place *place)
{
    struct akin_engine_settings settings;
    unsigned flags = 0;
    akin_engine_settings_default(&settings);
    akin_settings_engine(cli->settings, &settings);
    cpu_level(settings.cpu, cpu_detect(), &flags);
    enum topology_pin pin = !settings.pin || !strcmp(settings.pin, "auto") ? PIN_NODES
                            : !strcmp(settings.pin, "cores")               ? PIN_CORES
                                                                           : PIN_OFF;
    place->topology = topology_create(NULL);    /* where the engine has bound this thread to */
    if (!place->topology)
        return error_memory(&cli->error);
    if (settings.numa && !strcmp(settings.numa, "off"))
        topology_flatten(place->topology);
    int threads = akin_engine_threads(cli->engine);
    place->pool = thread_pool_create_on(threads, place->topology, pin);
    if (!place->pool)
        return error_set(&cli->error, AKIN_MEMORY, "%d threads cannot be started", threads);
    return cpu_train_create(flags, place->pool, asked->trainer.precision, &place->device,
                            &cli->error);
}

enum akin_status train_place_open(struct cli *cli, struct train_asked *asked,
                                  struct train_place *place)
{
    if (asked->reference)
        return reference_train_create(&place->device, &cli->error);
    if (asked->cuda)
        return gpu_open(cli_setting(cli, "cuda_library"), place->ordinal, asked->trainer.precision,
                        &place->device, &place->gpu, &cli->error);
    enum akin_status status = open_cpu(cli, asked, place);
    bool chosen = options_flag(&cli->options, "amp") ||
                  strcmp(options_text(&cli->options, "precision"), "auto") != 0;
    if (status != AKIN_UNSUPPORTED || !asked->amp)
        return status;
    if (chosen)
        return error_context(&cli->error, status, "use --no-amp");
    train_place_close(place);
    print_note(cli, "this CPU does not multiply in bf16: training in fp32");
    asked->amp = false;
    asked->trainer.precision = TRAIN_FP32;
    return open_cpu(cli, asked, place);
}

void train_place_close(struct train_place *place)
{
    gpu_reducer_destroy(&place->reducer);
    if (place->device)
        place->device->ops->destroy(&place->device);
    thread_pool_destroy(&place->pool);
    topology_destroy(&place->topology);
}

/* ---- memory ------------------------------------------------------------------------------ */

enum akin_status train_place_fits(struct cli *cli, const struct train_place *place,
                                  const struct trainer_settings *settings, size_t together,
                                  struct trainer_bytes *bytes)
{
    struct akin_machine machine;
    size_t all, there_are;
    char needed[NUMBER_BYTES], there[NUMBER_BYTES], exact[NUMBER_BYTES];
    TRY(trainer_estimate(place->device, settings, bytes, &cli->error));
    akin_machine_describe(&machine);
    bool gpu = place->gpu.memory_total > 0;
    there_are = gpu ? place->gpu.memory_free : machine.memory_available_bytes;
    if (gpu)
        all = bytes->total + gpu_extra_bytes(settings, bytes);
    else if (!size_mul(bytes->total, together, &all))
        all = SIZE_MAX;
    if (all <= there_are || there_are == 0)
        return AKIN_OK;
    return error_set(&cli->error, AKIN_MEMORY,
                     "this needs %s%s bytes (%s) and %s are free%s%s; take a smaller --batch-size "
                     "or --slice, add --recompute, or a smaller model",
                     gpu ? "about " : "", format_count(exact, all), format_bytes(needed, all),
                     format_bytes(there, there_are), gpu ? " on " : "",
                     gpu ? place->gpu.name : "");
}
