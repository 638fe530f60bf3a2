/* akin bench train: how fast an encoder-decoder Transformer learns here. Reads the command line;
 * train_run.c does the work. docs/training.md says what is computed and what the report holds. */
#include <string.h>

#include "base/file.h"
#include "cli/bench_train.h"

static const struct option train_options[] = {
    {"single", 0, OPTION_FLAG, "", NULL, "one device, where there are more", 0, 0},
    {"full", 0, OPTION_FLAG, "", NULL, "7,500,000 samples, about 30 GB at the usual sizes", 0, 0},
    {"disk", 0, OPTION_FLAG, "", NULL, "write the data to ./data once, read them from there", 0, 0},
    {"data-dir", 0, OPTION_TEXT, "DIR", NULL, "the same in this folder", 0, 0},
    {"num-shards", 0, OPTION_COUNT, "N", NULL, "files; without it: of about 128 MiB", 1, 1000000},
    {"token-type", 0, OPTION_CHOICE, "i64|u16", "i64", "of tokens in files; u16: a quarter", 0, 0},
    {"batch-size", 0, OPTION_COUNT, "N", "128", "samples of a step on each device", 1, 1 << 24},
    {"seq-len", 0, OPTION_COUNT, "N", "256", "tokens of a source and of a target", 2, 1 << 24},
    {"vocab-size", 0, OPTION_COUNT, "N", "8192", "different tokens", 1, 1 << 24},
    {"num-samples", 0, OPTION_COUNT, "N", "3750000", "of the data set", 1, 1e12},
    {"epochs", 0, OPTION_COUNT, "N", "3", "measured", 1, TRAIN_EPOCHS_MAX},
    {"warmup-epochs", 0, OPTION_COUNT, "N", "1", "before them", 0, TRAIN_EPOCHS_MAX},
    {"steps", 0, OPTION_COUNT, "N", NULL, "of each epoch; without it: all samples once", 1, 1e9},
    {"amp", 0, OPTION_FLAG, "", NULL, "mixed precision, the default: fp16, on CPUs bf16", 0, 0},
    {"no-amp", 0, OPTION_FLAG, "", NULL, "fp32", 0, 0},
    {"precision", 0, OPTION_CHOICE, "auto|fp32|bf16|fp16", "auto", "of products", 0, 0},
    {"num-workers", 0, OPTION_COUNT, "N", "1", "threads that make or read batches", 1, 64},
    {"d-model", 0, OPTION_COUNT, "N", "128", "width", 1, 1 << 24},
    {"nhead", 0, OPTION_COUNT, "N", "4", "attention heads; divides the width", 1, 1 << 24},
    {"num-encoder-layers", 0, OPTION_COUNT, "N", "3", "of the source", 0, TRAIN_LAYERS_MAX},
    {"num-decoder-layers", 0, OPTION_COUNT, "N", "3", "of the target", 0, TRAIN_LAYERS_MAX},
    {"dim-feedforward", 0, OPTION_COUNT, "N", "512", "width between the two products", 1, 1 << 24},
    {"dropout", 0, OPTION_NUMBER, "P", "0.1", "share that is dropped", 0, 0.99},
    {"optimizer", 0, OPTION_CHOICE, "adamw|adam|sgd", "adamw", "update rule", 0, 0},
    {"lr", 0, OPTION_NUMBER, "RATE", "1e-4", "learning rate", 0, 1e6},
    {"weight-decay", 0, OPTION_NUMBER, "D", NULL, "without it: 0.01 with adamw, else 0", 0, 1e6},
    {"seed", 0, OPTION_COUNT, "N", "1", "of data, first weights and dropout", 0, 9e15},
    {"slice", 0, OPTION_COUNT, "N", "0", "samples that pass at once; 0: what suits", 0, 1 << 24},
    {"recompute", 0, OPTION_FLAG, "", NULL, "less memory: layers run again on the way back", 0, 0},
    {"processes", 0, OPTION_COUNT, "N", NULL,
     "train one model together; without it: one, or as a launcher says", 1, 256},
    {"device", 0, OPTION_TEXT, "auto|cpu|cuda", NULL, "where to train", 0, 0},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results", "folder of the report", 0, 0},
    {"init", 0, OPTION_TEXT, "FILE", NULL, "first weights, safetensors with PyTorch's names", 0, 0},
    {"save", 0, OPTION_TEXT, "FILE", NULL, "write the last weights there", 0, 0},
    {"batch-src", 0, OPTION_TEXT, "S.npy", NULL,
     "check: sources [step][sample][token], a step each; prints the losses", 0, 0},
    {"batch-tgt", 0, OPTION_TEXT, "T.npy", NULL, "their targets", 0, 0},
    {"dump-grads", 0, OPTION_TEXT, "FILE", NULL, "check: gradients of the first step", 0, 0},
};

static const size_t full_samples = 7500000;

/* ---- reading the options ----------------------------------------------------------------- */

static enum akin_status read_device(struct cli *cli, struct train_asked *asked)
{
    const char *device = options_text(&cli->options, "device");
    return train_place_choose(cli, device ? device : cli_setting(cli, "device"), asked);
}

/* What --amp, --no-amp and --precision say together; `auto` where they leave it open. */
static enum akin_status read_precision(struct cli *cli, struct train_asked *asked)
{
    const struct options *o = &cli->options;
    const char *name = options_text(o, "precision");
    bool amp = options_flag(o, "amp"), exact = options_flag(o, "no-amp"), open = name[0] == 'a';
    bool narrow = !open && strcmp(name, "fp32") != 0;
    if (amp && exact)
        return wrong_use(cli, "--amp and --no-amp exclude each other");
    if (exact && narrow)
        return wrong_use(cli, "--no-amp is fp32: leave out --precision %s", name);
    if (amp && !open && !narrow)
        return wrong_use(cli, "--amp is bf16 or fp16: leave out --precision fp32");
    bool half = !strcmp(name, "fp16");
    if (half && !asked->cuda)
        return error_set(&cli->error, AKIN_UNSUPPORTED,
                         "precision fp16: CPUs train in bf16 or fp32; use --precision bf16");
    asked->amp = !exact && (open || narrow);
    asked->trainer.precision = !asked->amp                            ? TRAIN_FP32
                               : half || (open && asked->cuda) ? TRAIN_FP16
                                                                       : TRAIN_BF16;
    if (asked->reference && (amp || narrow))
        return error_set(&cli->error, AKIN_UNSUPPORTED,
                         "device reference computes in fp32 only; use --no-amp");
    if (asked->reference) {
        asked->amp = false;
        asked->trainer.precision = TRAIN_FP32;
    }
    return AKIN_OK;
}

static void read_optimizer(const struct options *o, struct train_update *update)
{
    const char *name = options_text(o, "optimizer");
    *update = (struct train_update){
        .optimizer = !strcmp(name, "adamw")  ? TRAIN_ADAMW
                     : !strcmp(name, "adam") ? TRAIN_ADAM
                                             : TRAIN_SGD,
        .rate = (float)options_number(o, "lr"),
        .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f,
    };
    if (options_given(o, "weight-decay"))
        update->decay = (float)options_number(o, "weight-decay");
    else
        update->decay = update->optimizer == TRAIN_ADAMW ? 0.01f : 0;
}

static void read_model(const struct options *o, struct trainer_settings *t)
{
    t->shape = (struct transformer_shape){
        .d_model = options_count(o, "d-model"),
        .nhead = options_count(o, "nhead"),
        .encoder_layers = options_count(o, "num-encoder-layers"),
        .decoder_layers = options_count(o, "num-decoder-layers"),
        .feed_forward = options_count(o, "dim-feedforward"),
        .vocab = options_count(o, "vocab-size"),
        .seq_len = options_count(o, "seq-len"),
    };
    t->batch = options_count(o, "batch-size");
    t->slice = options_count(o, "slice");
    t->recompute = options_flag(o, "recompute");
    t->dropout = (float)options_number(o, "dropout");
    t->seed = options_count(o, "seed");
    read_optimizer(o, &t->update);
}

static enum akin_status read_data(struct cli *cli, struct train_asked *asked)
{
    const struct options *o = &cli->options;
    asked->samples = options_count(o, "num-samples");
    if (options_flag(o, "full") && !options_given(o, "num-samples"))
        asked->samples = full_samples;
    asked->data_dir = options_text(o, "data-dir");
    if (!asked->data_dir && options_flag(o, "disk"))
        asked->data_dir = "data";
    if (asked->data_dir && !*asked->data_dir)
        return wrong_use(cli, "--data-dir is empty; give a folder");
    asked->narrow = !strcmp(options_text(o, "token-type"), "u16");
    if (options_given(o, "num-shards"))
        asked->shards = options_count(o, "num-shards");
    if (!asked->data_dir && (asked->narrow || asked->shards))
        return wrong_use(cli, "--num-shards and --token-type are of files: add --disk, or "
                              "--data-dir DIR");
    if (asked->narrow && asked->trainer.shape.vocab > 65536)
        return wrong_use(cli, "--token-type u16 holds 65,536 tokens, --vocab-size is %zu",
                         asked->trainer.shape.vocab);
    if (asked->shards > asked->samples)
        return wrong_use(cli, "--num-shards %zu is more than there are samples (%zu)",
                         asked->shards, asked->samples);
    return AKIN_OK;
}

/* Batches that are given have their steps; otherwise an epoch is whole batches of the data. */
static enum akin_status read_steps(struct cli *cli, struct train_asked *asked)
{
    const struct options *o = &cli->options;
    asked->batch_src = options_text(o, "batch-src");
    asked->batch_tgt = options_text(o, "batch-tgt");
    asked->dump_grads = options_text(o, "dump-grads");
    if (!asked->batch_src != !asked->batch_tgt)
        return wrong_use(cli, "--batch-src and --batch-tgt come together");
    if (asked->dump_grads && !asked->batch_src)
        return wrong_use(cli, "--dump-grads is for given batches: add --batch-src and --batch-tgt");
    asked->epochs = options_count(o, "epochs");
    asked->warmups = options_count(o, "warmup-epochs");
    size_t whole = asked->samples / asked->trainer.batch;     /* several processes divide it */
    asked->epoch_steps = whole;
    if (asked->batch_src)
        return AKIN_OK;
    if (whole == 0)
        return wrong_use(cli, "--batch-size %zu is more than --num-samples %zu: an epoch has no "
                              "whole batch", asked->trainer.batch, asked->samples);
    if (options_given(o, "steps")) {
        asked->epoch_steps = options_count(o, "steps");
        if (asked->epoch_steps > whole)
            return wrong_use(cli, "--steps %zu: %zu samples are %zu batches of %zu",
                             asked->epoch_steps, asked->samples, whole, asked->trainer.batch);
    }
    return AKIN_OK;
}

/* A shape that no model has is wrong use, told before anything is opened. */
static enum akin_status check_shape(struct cli *cli, const struct train_asked *asked)
{
    struct parameter_table table;
    enum akin_status status =
        parameter_table_create(&asked->trainer.shape, &table, &cli->error);
    parameter_table_destroy(&table);
    cli->wrong_use = status == AKIN_ARGUMENT;
    return status;
}

/* What cannot be written is found out before hours of training, not after. */
static enum akin_status try_file(struct cli *cli, const char *option, const char *path)
{
    struct file_writer *writer = NULL;
    enum akin_status status = file_writer_open(path, &writer, &cli->error);
    file_writer_abort(&writer);
    return status == AKIN_OK ? AKIN_OK
                             : error_context(&cli->error, status, "--%s cannot be written",
                                             option);
}

static enum akin_status try_folder(struct cli *cli, const char *folder)
{
    char path[PATH_BYTES_MAX];
    enum akin_status status = path_make_folders(folder, &cli->error);
    if (status != AKIN_OK)
        return error_context(&cli->error, status, "--output-dir %s", folder);
    TRY(path_join(path, sizeof path, folder, "bench_probe", &cli->error));
    return try_file(cli, "output-dir", path);
}

static enum akin_status check_outputs(struct cli *cli, const struct train_asked *asked)
{
    if (asked->save)
        TRY(try_file(cli, "save", asked->save));
    if (asked->dump_grads)
        TRY(try_file(cli, "dump-grads", asked->dump_grads));
    return asked->batch_src ? AKIN_OK : try_folder(cli, asked->output_dir);
}

static enum akin_status run_bench(struct cli *cli)
{
    struct train_asked asked = {.workers = options_count(&cli->options, "num-workers"),
                                .output_dir = options_text(&cli->options, "output-dir"),
                                .init = options_text(&cli->options, "init"),
                                .save = options_text(&cli->options, "save")};
    if (options_given(&cli->options, "processes"))
        asked.processes = options_count(&cli->options, "processes");
    if (options_flag(&cli->options, "single") && asked.processes > 1)
        return wrong_use(cli, "--single is one process: leave out --processes");
    if (options_flag(&cli->options, "single"))
        asked.processes = 1;
    read_model(&cli->options, &asked.trainer);
    TRY(check_shape(cli, &asked));
    TRY(read_device(cli, &asked));
    TRY(read_precision(cli, &asked));
    TRY(read_data(cli, &asked));
    TRY(read_steps(cli, &asked));
    TRY(check_outputs(cli, &asked));
    return train_run(cli, &asked);
}

const struct command command_bench_train = {
    .name = "bench train",
    .arguments = "[--epochs N | --steps N] [--disk] [options]",
    .summary = "how fast an encoder-decoder Transformer learns on this machine",
    .details =
        "Trains the model of torch.nn.Transformer (post-norm, ReLU, learned positions, one shared\n"
        "embedding, AdamW) on made-up tokens: one warm-up epoch, then the measured ones. What it\n"
        "needs is held against the memory that is free before anything starts. The report under\n"
        "results/ is what akin bench compare reads. All GPUs that are found train together; --amp\n"
        "there is fp16 with a loss scale, on a CPU bf16 where it multiplies in it, else fp32.\n",
    .examples =
        "  akin bench train --steps 50 --epochs 1 --batch-size 16\n"
        "  akin bench train --disk --batch-size 64 --d-model 1024 --nhead 16\n"
        "  akin bench train --no-amp --d-model 512 --nhead 8 --num-encoder-layers 6 \\\n"
        "      --num-decoder-layers 6 --dim-feedforward 2048 --steps 5\n"
        "  akin bench train --init W.safetensors --batch-src S.npy --batch-tgt T.npy \\\n"
        "      --batch-size 3 --seq-len 12 --vocab-size 97 --dropout 0 --no-amp --json ...\n",
    .options = {train_options, sizeof train_options / sizeof train_options[0]},
    .run = run_bench,
};
