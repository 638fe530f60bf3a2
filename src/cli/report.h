/* Reports of benchmarks and embeddings: the keys that every report carries, and the files under
 * results/. */
#pragma once

#include "cli/cli.h"

/* Adds akin_version, commit, timestamp, hostname, cpu, threads, kernels, device. */
void report_common(struct cli *cli, json_t *report);

/* Writes FOLDER/<kind>_<device>_<timestamp>.json and tells where on standard output; with --json
 * prints the report instead of telling. Takes `report`. */
enum akin_status report_write(struct cli *cli, const char *kind, json_t *report);
/* The same as FOLDER/<name>_<timestamp>.json. */
enum akin_status report_write_as(struct cli *cli, const char *name, json_t *report);

/* "texts: 9,742" and the like: label and value aligned. */
void report_line(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));
void report_machine(struct cli *cli);

/* Where the threads of an engine run, in a line and as an object. */
enum { PLACEMENT_BYTES = 256 };
const char *placement_text(const struct akin_engine *engine, char *text, size_t bytes);
json_t *placement_json(const struct akin_engine *engine);
/* Cores that its threads can keep busy: fewer than threads where these must share. */
int placement_cores(const struct akin_engine *engine);

/* ---- embedding reports ------------------------------------------------------------------- */

/* Adds up the reports of several calls, as if all texts had been one. */
void embed_report_add(struct akin_embed_report *sum, const struct akin_embed_report *part);

/* Texts, speed, norms and memory, as JSON keys and for people. */
void embed_report_json(struct cli *cli, const struct akin_model_info *model,
                       const struct akin_embed_report *embed, json_t *report);
void embed_report_print(const struct akin_model_info *model, const struct akin_embed_report *embed,
                        uint64_t peak_rss_bytes);

/* ---- weights that were looked for -------------------------------------------------------- */

json_t *weights_found_json(const struct akin_weights_found *found);
void weights_found_print(const char *label, const struct akin_weights_found *found);
/* {"mean": .., "interval_95": [.., ..]} */
json_t *estimate_json(const struct akin_estimate *estimate);

/* ---- a training ------------------------------------------------------------------------- */

json_t *training_json(const struct akin_training *training);
void training_print(const struct akin_training *training);
/* The curves of its losses, as SVG. */
enum akin_status training_draw(const char *path, const struct akin_training *training,
                               struct akin_error *error);
