/* The labels that people gave (akin watch label), on their way from the store to the scorer's
 * thresholds and into the audit trail, also while the watch goes on. */
#pragma once

#include "base/hash.h"
#include "watch/scorer.h"
#include "watch/keeper.h"

struct labels {
    struct scorer *scorer;
    struct keeper *keeper;
    struct number_map known;    /* event -> label + 1, of those in the trail */
    uint64_t count, digest;     /* of those that the scorer has */
    uint64_t looked_ns;         /* when they were last read */
};

/* Reads the labels of the store anew where there may be others (always with `thorough`), at most
 * the newest LABELS_MAX of each sort. */
enum akin_status labels_look(struct labels *labels, bool thorough, struct akin_error *error);
void labels_deinit(struct labels *labels);
