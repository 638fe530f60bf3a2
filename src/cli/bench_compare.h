/* Runs of the training benchmark side by side: read from reports (ours, or those of the PyTorch
 * script with the same keys), checked to be of one configuration, and shown. What a report does not
 * say is NAN. */
#pragma once

#include <stdio.h>

#include "base/file.h"
#include "base/json.h"

enum { COMPARE_RUNS_MAX = 64, COMPARE_DIFFERENCES_MAX = 64 };

struct compared_run {
    char *path;
    json_t *report;
    char device[96];            /* "NVIDIA H100 80GB HBM3"; "" where not said */
    double devices;
    double samples_per_s, epoch_s, memory_mb, utilisation_pct, mfu_pct, step_p50_ms;
    double num_samples, seq_len;
    double price;               /* dollars for one device for an hour */
    /* what follows */
    double scaling_pct;         /* of the fastest run on one such device, times the devices */
    double tokens_per_s, dollars_per_million, dollars_per_epoch;
    unsigned best;              /* bit i: the best of column i */
};

struct comparison {
    struct compared_run runs[COMPARE_RUNS_MAX];
    size_t count;
    char *differences[COMPARE_DIFFERENCES_MAX]; /* "config.d_model: 128 in a.json, 256 in b.json" */
    size_t difference_count;
};

/* Columns with a best value. */
enum compare_column {
    COMPARE_SAMPLES, COMPARE_SCALING, COMPARE_MEMORY, COMPARE_MFU, COMPARE_MILLION, COMPARE_EPOCH,
};

/* compare_read.c */

/* A report, or the bench_*.json of a folder in the order of their names. */
enum akin_status comparison_add(struct comparison *c, const char *path, struct akin_error *error);
/* One price for all, or one for each run in order. AKIN_ARGUMENT otherwise. */
enum akin_status comparison_price(struct comparison *c, const double *prices, size_t count,
                                  struct akin_error *error);
/* Works out what follows. Runs of different configurations: AKIN_ARGUMENT names the first field,
 * or with `force` all are listed in `differences`. */
enum akin_status comparison_finish(struct comparison *c, bool force, struct akin_error *error);
void comparison_deinit(struct comparison *c);

/* compare_print.c */
void comparison_print(const struct comparison *c, FILE *stream);
void comparison_csv(const struct comparison *c, struct bytes *out);
json_t *comparison_json(const struct comparison *c);

/* compare_html.c: one page without links, scripts or fonts; the table and charts. */
enum akin_status comparison_html(const struct comparison *c, struct bytes *page,
                                 struct akin_error *error);
/* "2: NVIDIA H100 80GB HBM3 x 8", cut where it is long. */
void compared_label(const struct comparison *c, size_t run, char *text, size_t bytes);
