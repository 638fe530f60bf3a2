/* What a round of 1,000 bandits of 1,000 arms takes, in one call: on the CPU and, where the engine
 * has one, on a card, in turn, with the same choices. */
#pragma once

#include "cli/cli.h"

/* Of posteriors that nothing is known of, little, and much: a card ends a bandit's draws where no
 * arm that is left can be the best, the earlier the more is known. */
enum { BATCH_KINDS = 3 };

struct batch_times {
    double cpu_ms[BATCH_KINDS];         /* medians of a whole call */
    double card_ms[BATCH_KINDS];        /* NAN, these three: there is no card */
    double card_alone_ms[BATCH_KINDS];  /* by the card's clock, without copies */
    size_t card_bytes;
    size_t choices;                     /* that were compared */
};

/* AKIN_NUMERIC: other choices on the card than here. */
enum akin_status bench_bandit_batches(struct cli *cli, struct batch_times *times);
void batch_times_print(const struct batch_times *times);
json_t *batch_times_json(const struct batch_times *times);
