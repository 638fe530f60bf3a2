/* Which precision "auto" stands for: measured once per weights, CPU, kernels and version, kept in a
 * file, and looked up from then on. On cards it stands for fp16, or for int8 where that passes the
 * gate of cards and is faster. */
#pragma once

#include "akin/model.h"
#include "compute/encoder_device.h"

struct thread_pool;

struct precision_place {
    struct backend *backend;
    struct thread_pool *pool;
    const char *directory;      /* of the model */
    const char *home;           /* where to keep what the model's folder cannot; NULL: nowhere */
    const char *kernels;        /* the instruction sets in use: base/cpu.h, cpu_flags_text; or what
                                   the cards are called */
    const struct encoder_cards *cards;  /* NULL: it is about the CPU */
    const char *version;        /* of the program: other versions have other kernels */
    const struct akin_log *log;
};

/* As akin_model_verdict. */
enum akin_status precision_verdict(const struct precision_place *place, enum akin_verdict_ask ask,
                                   struct akin_verdict *verdict, struct akin_error *error);

/* Sets `passes` of all figures, and `chosen`. */
void precision_judge(struct akin_verdict *verdict, bool on_cards);
/* The figures of a precision; NULL: they are not there. */
const struct akin_precision_figures *precision_figures(const struct akin_verdict *verdict,
                                                       enum akin_precision precision);

/* trial.c: opens the model at every precision that this CPU has, or at fp32 here and at all others
 * on the cards, embeds the sample at each in turn, and fills figures, texts and what
 * precision_judge sets. */
enum akin_status precision_measure(const struct precision_place *place,
                                   struct akin_verdict *verdict, struct akin_error *error);
