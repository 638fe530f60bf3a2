#include "watch/feedback.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

static const double off_label = 0.69314718055994531;    /* ln 2 */

static int by_kind(const void *a, const void *b)
{
    const struct feedback_label *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return (x->surprise > y->surprise) - (x->surprise < y->surprise);
}

static size_t wrong_at(const struct feedback_label *labels, size_t count, double threshold)
{
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++)
        wrong += (labels[i].surprise > threshold) != labels[i].anomaly;
    return wrong;
}

/* Only places beside a label can be better than where it stands. Quadratic, in labels that people
 * gave one by one. */
static double best_cut(const struct feedback_label *labels, size_t count, double standing)
{
    double best = standing;
    size_t fewest = wrong_at(labels, count, standing);
    if (!fewest)
        return standing;
    for (size_t i = 0; i < count; i++) {
        double cut = labels[i].surprise + (labels[i].anomaly ? -off_label : off_label);
        size_t wrong = wrong_at(labels, count, cut);
        if (wrong < fewest
            || (wrong == fewest && fabs(cut - standing) < fabs(best - standing))) {
            fewest = wrong;
            best = cut;
        }
    }
    return best > 0 ? best : 0;
}

static size_t kinds_of(const struct feedback_label *labels, size_t count)
{
    size_t kinds = 0;
    for (size_t i = 0; i < count; i++)
        kinds += i == 0 || labels[i].kind != labels[i - 1].kind;
    return kinds;
}

bool feedback_set(struct feedback *feedback, double standing, struct feedback_label *labels,
                  size_t count)
{
    struct feedback made = {.overall = standing};
    if (count)
        qsort(labels, count, sizeof *labels, by_kind);
    size_t kinds = kinds_of(labels, count);
    made.thresholds = memory_alloc(kinds, sizeof *made.thresholds);
    if (!made.thresholds || !number_map_reserve(&made.places, kinds)) {
        feedback_deinit(&made);
        return false;
    }
    if (count >= OVERALL_LABELS_MIN && kinds >= OVERALL_KINDS_MIN)
        made.overall = best_cut(labels, count, standing);
    for (size_t begin = 0, end; begin < count; begin = end) {
        for (end = begin; end < count && labels[end].kind == labels[begin].kind; end++)
            ;
        made.thresholds[made.count] = best_cut(labels + begin, end - begin, made.overall);
        number_map_set(&made.places, labels[begin].kind, made.count++);
    }
    feedback_deinit(feedback);
    *feedback = made;
    return true;
}

double feedback_threshold(const struct feedback *feedback, uint64_t kind)
{
    uint64_t place;
    return number_map_get(&feedback->places, kind, &place) ? feedback->thresholds[place]
                                                           : feedback->overall;
}

void feedback_deinit(struct feedback *feedback)
{
    number_map_deinit(&feedback->places);
    memory_free(feedback->thresholds);
    *feedback = (struct feedback){0};
}
