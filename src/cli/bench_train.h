/* What akin bench train does, in parts. */
#pragma once

#include "cli/cli.h"
#include "cli/train_record.h"
#include "train/gpu.h"

/* train_run.c: the benchmark, or with given batches the check. */
enum akin_status train_run(struct cli *cli, struct train_asked *asked);

/* train_given.c: one step on each of the given batches, of which this rank takes its part; the
 * first one prints the losses. */
enum akin_status train_given(struct cli *cli, const struct train_asked *asked,
                             struct trainer *trainer, size_t rank, size_t world);

/* train_place.c: where training happens. The pool and the topology live as long as the device. */
struct train_place {
    size_t ordinal;             /* of the GPU; set before opening */
    struct topology *topology;
    struct thread_pool *pool;
    struct train_device *device;
    struct gpu_info gpu;        /* of a GPU only */
    struct gpu_reducer *reducer;
};
/* Where `auto` leads, and on how many GPUs a training runs that no launcher started. Before any
 * process is forked. */
enum akin_status train_place_choose(struct cli *cli, const char *device, struct train_asked *asked);
/* Also settles what `asked` left open: the precision, where the device has no bf16. */
enum akin_status train_place_open(struct cli *cli, struct train_asked *asked,
                                  struct train_place *place);
void train_place_close(struct train_place *place);
/* AKIN_MEMORY with the bytes, before anything is taken, where so many trainers cannot fit. */
enum akin_status train_place_fits(struct cli *cli, const struct train_place *place,
                                  const struct trainer_settings *settings, size_t together,
                                  struct trainer_bytes *bytes);

/* train_print.c: what people read. Epoch number 0 is the warm-up. */
void train_print_begin(struct cli *cli, const struct train_asked *asked,
                       const struct train_record *record);
void train_print_epoch(const struct train_asked *asked, const struct train_epoch *epoch,
                       size_t number);
void train_print_end(const struct train_asked *asked, const struct train_record *record,
                     const struct train_sums *sums);
