/* What labels do to the threshold of alarms.
 *
 * A threshold is moved only by labels that it contradicts. That of a kind with labels is the cut
 * that misjudges the fewest of them; among equally good ones it is the one nearest to where it
 * would stand without them. A cut stands a factor of two in probability off the label that it is
 * laid beside, for the same event scores a little otherwise next time. Kinds without labels have
 * the overall threshold: the same cut through the labels of all kinds, once there are
 * OVERALL_LABELS_MIN of them on OVERALL_KINDS_MIN kinds or more; before that it stands where the
 * settings have it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/hash.h"

enum { OVERALL_LABELS_MIN = 8, OVERALL_KINDS_MIN = 4 };

struct feedback_label {
    uint64_t kind;
    double surprise;        /* -ln of probability, as it was scored */
    bool anomaly;
};

struct feedback {
    double overall;                     /* what kinds without labels are held against */
    struct number_map places;           /* kind -> place in thresholds */
    double *thresholds;
    size_t count;
};

/* `standing`: the threshold of the settings. Sorts the labels. On failure (no memory) the object is
 * as it was. */
bool feedback_set(struct feedback *feedback, double standing, struct feedback_label *labels,
                  size_t count);
double feedback_threshold(const struct feedback *feedback, uint64_t kind);
void feedback_deinit(struct feedback *feedback);
