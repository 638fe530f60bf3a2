/* Opens the device that a Transformer is trained on, and says beforehand whether it fits. */
#include <string.h>

#include "base/cpu.h"
#include "base/thread.h"
#include "cli/bench_train.h"

/* ---- the device -------------------------------------------------------------------------- */

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
    place->topology = topology_create(NULL);
    if (!place->topology)
        return error_memory(&cli->error);
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
    size_t all;
    char needed[NUMBER_BYTES], there[NUMBER_BYTES], exact[NUMBER_BYTES];
    TRY(trainer_estimate(place->device, settings, bytes, &cli->error));
    akin_machine_describe(&machine);
    if (!size_mul(bytes->total, together, &all))
        all = SIZE_MAX;
    if (all <= machine.memory_available_bytes || machine.memory_available_bytes == 0)
        return AKIN_OK;
    return error_set(&cli->error, AKIN_MEMORY,
                     "this needs %s bytes (%s) and %s are free; take a smaller --batch-size or "
                     "--slice, add --recompute, or a smaller model",
                     format_count(exact, all), format_bytes(needed, all),
                     format_bytes(there, machine.memory_available_bytes));
}
