/* Which precision "auto" stands for: measured once per weights, CPU, kernels and version, kept in a
 * file, and looked up from then on. */
#pragma once

#include "akin/model.h"
#include "compute/backend.h"

struct thread_pool;

struct precision_place {
    struct backend *backend;
    struct thread_pool *pool;
    const char *directory;      /* of the model */
    const char *home;           /* where to keep what the model's folder cannot; NULL: nowhere */
    const char *kernels;        /* the instruction sets in use: base/cpu.h, cpu_flags_text */
    const char *version;        /* of the program: other versions have other kernels */
    const struct akin_log *log;
};

/* As akin_model_verdict. */
enum akin_status precision_verdict(const struct precision_place *place, enum akin_verdict_ask ask,
                                   struct akin_verdict *verdict, struct akin_error *error);

/* Sets `passes` of all figures, and `chosen`. */
void precision_judge(struct akin_verdict *verdict);

/* trial.c: opens the model at every precision that this CPU has, embeds the sample at each in turn,
 * and fills figures, texts and what precision_judge sets. */
enum akin_status precision_measure(const struct precision_place *place,
                                   struct akin_verdict *verdict, struct akin_error *error);
