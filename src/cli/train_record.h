/* A run of the training benchmark as data: what was asked for, what was measured, what follows. */
#pragma once

#include "base/json.h"
#include "train/trainer.h"

enum { TRAIN_EPOCHS_MAX = 10000 };

struct train_asked {
    struct trainer_settings trainer;
    bool amp;
    bool reference;             /* the plain device */
    bool cuda;                  /* on GPUs, each with a process of its own */
    size_t samples, epochs, warmups;
    size_t epoch_steps;         /* of each epoch: a whole one, or --steps */
    size_t processes;           /* 0: as the launcher says, or alone */
    size_t workers;             /* threads that make or read batches ahead of the steps */
    const char *data_dir;       /* NULL: made in memory */
    size_t shards;              /* 0: as many as make 128 MiB each */
    bool narrow;                /* tokens of 16 bits in shards */
    const char *output_dir;
    const char *init, *save, *dump_grads;
    const char *batch_src, *batch_tgt;  /* given batches instead of data; NULL: none */
};

struct train_epoch {
    double seconds, loss;       /* the mean loss of its steps */
    uint64_t samples;
};

/* What one device did in the measured epochs; on CPUs a device is a process. All are doubles, so
 * that ranks can be gathered by summing. */
struct train_device_record {
    double peak_memory_bytes, cpu_s, data_wait_s, comm_s, read_bytes, peak_flops;
    double busy_pct, energy_j, sm_mhz;  /* of GPUs; NAN on CPUs, whose use is cpu_s */
};

/* What one run was and did: all that a report is made of. NAN: not known here. */
struct train_record {
    char device[16];            /* "cpu", "cuda" */
    char device_name[128];
    char cuda[24], driver[80], blas[24];    /* versions; "" on CPUs */
    size_t count;               /* of devices */
    int threads;                /* of each */
    struct train_device_record *devices;    /* [count] */
    size_t parameters;
    size_t shards;              /* 0: in memory */
    double data_bytes;          /* of the data set, as it lies in memory or on disk */
    struct train_epoch *epochs; /* [asked.epochs], the measured ones */
    double *step_ms;            /* [step_count] of the steps, evenly spread, where there are many */
    size_t step_count;
    size_t steps;               /* in all measured epochs */
    char link[24];              /* between devices: "alone", "shared memory" */
    double reduced_bytes, expected_allreduce_ms, measured_allreduce_ms;
    char peak_source[128];
    struct trainer_bytes planned;
};

/* Sums over the measured epochs. */
struct train_sums {
    double seconds, samples, tokens;        /* tokens: of sources and of targets */
    double samples_per_s, tokens_per_s, epoch_seconds;
    double model_tflops, peak_tflops, mfu_pct;  /* of all devices together */
    double step_p50_ms, step_p95_ms, step_p99_ms, step_mean_ms;
    double data_wait_pct, comm_pct, utilisation_pct;    /* means over devices */
    double energy_j;                                    /* of all */
    double read_gb_per_s, peak_memory_bytes;            /* of all; the largest */
};

const char *train_precision_name(enum train_precision precision);

/* Sorts record->step_ms; sums that need what is not known are NAN. */
void train_record_sums(const struct train_asked *asked, struct train_record *record,
                       struct train_sums *sums);
json_t *train_record_json(const struct train_asked *asked, const struct train_record *record,
                          const struct train_sums *sums);
/* "bench_AMD_EPYC_1cpu": what the file of a report is called, without its time. */
void train_record_name(const struct train_record *record, char *name, size_t bytes);
