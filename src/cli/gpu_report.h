/* What akin doctor tells of CUDA: what was found, and why not. */
#pragma once

#include "cli/cli.h"

/* Library, versions, GPUs, and what is missing with its remedy. */
json_t *gpus_json(const struct akin_gpu_support *support);
void gpus_rows(struct table *table, const struct akin_gpu_support *support);
size_t gpus_usable(const struct akin_gpu_support *support);

/* What this process holds on GPUs, by use, for a report: {"cuda:0": {"encoder": bytes, ...}}. */
json_t *gpu_memory_json(const struct akin_engine *engine);

/* Which part of akin computes where: {"encoder": "cuda:0", ...}. */
json_t *parts_json(const struct akin_engine *engine);
void parts_row(struct table *table, const struct akin_engine *engine);
