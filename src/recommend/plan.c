/* Who teaches and who is judged. Nothing that is judged is learned from. */
#include <stdlib.h>

#include "base/rng.h"
#include "recommend/plan.h"

static int compare_items(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Histories of the events that `learn` says, in the order of the file. */
static enum akin_status gather(const struct split *split, const bool *learn,
                               struct histories *histories, struct akin_error *error)
{
    struct history_event *events = memory_alloc(split->event_count, sizeof *events);
    if (!events)
        return error_memory(error);
    size_t count = 0;
    for (size_t e = 0; e < split->event_count; e++)
        if (learn[e])
            events[count++] = (struct history_event){ split->events[e].user, split->events[e].item,
                                                      split->events[e].timestamp };
    enum akin_status status = histories_create(events, count, split->user_count, split->item_count,
                                               histories, error);
    memory_free(events);
    return status;
}

/* Sorted, without repetitions and without what the history has; returns how many remain. */
static size_t unseen(uint32_t *items, size_t count, const uint32_t *history, size_t seen_count,
                     bool *seen)
{
    size_t kept = 0;
    for (size_t i = 0; i < seen_count; i++)
        seen[history[i]] = true;
    qsort(items, count, sizeof *items, compare_items);
    for (size_t i = 0; i < count; i++)
        if (!seen[items[i]] && (kept == 0 || items[kept - 1] != items[i]))
            items[kept++] = items[i];
    for (size_t i = 0; i < seen_count; i++)
        seen[history[i]] = false;
    return kept;
}

static int64_t earliest(const int64_t *times, size_t count)
{
    int64_t first = times[0];
    for (size_t i = 1; i < count; i++)
        first = times[i] < first ? times[i] : first;
    return first;
}

/* ---- the rows of a part, person by person ------------------------------------------------ */

static enum akin_status judge_part(const struct split *split, enum split_part part,
                                   struct evaluation_plan *plan, struct akin_error *error)
{
    bool *judged = memory_alloc(split->event_count, sizeof *judged);
    bool *seen = memory_alloc(split->item_count, sizeof *seen);
    struct histories chosen = { 0 };
    enum akin_status status = judged && seen ? AKIN_OK : error_memory(error);
    for (size_t e = 0; status == AKIN_OK && e < split->event_count; e++)
        judged[e] = split->events[e].part == part;
    if (status == AKIN_OK)
        status = gather(split, judged, &chosen, error);
    for (size_t u = 0; status == AKIN_OK && u < split->user_count; u++) {
        struct judged_point point = { .user = (uint32_t)u, .first_positive = chosen.offsets[u] };
        size_t count = chosen.offsets[u + 1] - chosen.offsets[u];
        point.history = histories_of(&plan->learned, u, &point.count);
        if (!count || !point.count)
            continue;
        point.times = plan->learned.times + plan->learned.offsets[u];
        point.when = earliest(chosen.times + point.first_positive, count);
        point.positive_count = unseen(chosen.items + point.first_positive, count, point.history,
                                      point.count, seen);
        plan->judged += point.positive_count > 0;
        plan->points[plan->point_count++] = point;
    }
    plan->positives = chosen.items;
    chosen.items = NULL;
    histories_deinit(&chosen);
    memory_free(judged);
    memory_free(seen);
    return status;
}

/* Whether all of a part lies behind all that was learned. */
static enum blend_context context_of(const struct split *split, const bool *learn,
                                     enum split_part part)
{
    int64_t last = INT64_MIN, first = INT64_MAX;
    for (size_t e = 0; e < split->event_count; e++) {
        int64_t when = split->events[e].timestamp;
        if (learn[e])
            last = when > last ? when : last;
        else if (split->events[e].part == part)
            first = when < first ? when : first;
    }
    return first >= last ? BLEND_RETURN : BLEND_NEXT;
}

static enum akin_status plan_parts(const struct split *split, bool valid, bool *learn,
                                   struct evaluation_plan *plan, struct akin_error *error)
{
    enum split_part part = valid ? SPLIT_VALID : SPLIT_TEST;
    for (size_t e = 0; e < split->event_count; e++)
        learn[e] = split->events[e].part < part;
    plan->context = context_of(split, learn, part);
    TRY(gather(split, learn, &plan->learned, error));
    plan->points = memory_alloc(split->user_count, sizeof *plan->points);
    if (!plan->points)
        return error_memory(error);
    return judge_part(split, part, plan, error);
}

/* ---- replay ------------------------------------------------------------------------------ */

/* Half of the people, drawn with the seed. */
static enum akin_status draw_teachers(size_t users, uint64_t seed, bool *teacher,
                                      struct akin_error *error)
{
    uint32_t *order = memory_alloc(users, sizeof *order);
    struct rng rng;
    if (!order)
        return error_memory(error);
    rng_seed(&rng, seed);
    for (size_t u = 0; u < users; u++)
        order[u] = (uint32_t)u;
    rng_shuffle(&rng, order, users);
    for (size_t u = 0; u < users / 2; u++)
        teacher[order[u]] = true;
    memory_free(order);
    return AKIN_OK;
}

/* Points of one person: each set of that size is as likely. A choice made before is none. */
static void draw_points(const struct histories *others, size_t user, bool *seen,
                        const struct akin_evaluate_settings *settings, struct evaluation_plan *plan)
{
    struct rng rng;
    size_t count;
    const uint32_t *items = histories_of(others, user, &count);
    const int64_t *times = others->times + others->offsets[user];
    if (count < 2)
        return;
    rng_seed(&rng, settings->seed * 0x100000001u + user + 1);
    size_t wanted = count - 1 < settings->replay_points ? count - 1 : settings->replay_points;
    size_t taken = 0;
    seen[items[0]] = true;
    for (size_t c = 1; c < count; c++) {
        if (rng_below(&rng, count - c) < wanted - taken) {
            taken++;
            if (!seen[items[c]]) {
                plan->positives[plan->point_count] = items[c];
                plan->points[plan->point_count] = (struct judged_point){
                    .user = (uint32_t)user, .history = items, .count = c, .times = times,
                    .following = count - c, .when = times[c],
                    .first_positive = plan->point_count, .positive_count = 1
                };
                plan->point_count++;
                plan->judged++;
            }
        }
        seen[items[c]] = true;
    }
    for (size_t c = 0; c < count; c++)
        seen[items[c]] = false;
}

static enum akin_status draw_all_points(const struct split *split, const bool *learn,
                                        const struct akin_evaluate_settings *settings, bool *seen,
                                        struct evaluation_plan *plan, struct akin_error *error)
{
    bool *rest = memory_alloc(split->event_count, sizeof *rest);
    struct histories others = { 0 };
    enum akin_status status = rest ? AKIN_OK : error_memory(error);
    for (size_t e = 0; rest && e < split->event_count; e++)
        rest[e] = !learn[e];
    if (status == AKIN_OK)
        status = gather(split, rest, &others, error);
    for (size_t u = 0; status == AKIN_OK && u < split->user_count; u++)
        draw_points(&others, u, seen, settings, plan);
    plan->own = others.items;
    plan->own_times = others.times;
    others.items = NULL;
    others.times = NULL;
    histories_deinit(&others);
    memory_free(rest);
    return status;
}

static enum akin_status plan_replay(const struct split *split,
                                    const struct akin_evaluate_settings *settings, bool *learn,
                                    struct evaluation_plan *plan, struct akin_error *error)
{
    bool *teacher = memory_alloc(split->user_count, sizeof *teacher);
    bool *seen = memory_alloc(split->item_count, sizeof *seen);
    plan->points = memory_alloc(split->event_count, sizeof *plan->points);
    plan->positives = memory_alloc(split->event_count, sizeof *plan->positives);
    enum akin_status status =
        teacher && seen && plan->points && plan->positives
            ? draw_teachers(split->user_count, settings->seed, teacher, error)
            : error_memory(error);
    for (size_t e = 0; status == AKIN_OK && e < split->event_count; e++)
        learn[e] = teacher[split->events[e].user];
    if (status == AKIN_OK)
        status = gather(split, learn, &plan->learned, error);
    if (status == AKIN_OK)
        status = draw_all_points(split, learn, settings, seen, plan, error);
    memory_free(teacher);
    memory_free(seen);
    return status;
}

enum akin_status plan_create(const struct split *split,
                             const struct akin_evaluate_settings *settings,
                             struct evaluation_plan *plan, struct akin_error *error)
{
    struct evaluation_plan made = { .context = BLEND_NEXT };
    made.learn = memory_alloc(split->event_count, sizeof *made.learn);
    enum akin_status status = made.learn ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK)
        status = settings->replay ? plan_replay(split, settings, made.learn, &made, error)
                                  : plan_parts(split, settings->valid, made.learn, &made, error);
    for (size_t u = 0; status == AKIN_OK && u < split->user_count; u++)
        made.learned_users += made.learned.offsets[u + 1] > made.learned.offsets[u];
    if (status == AKIN_OK && !made.judged)
        status = error_set(error, AKIN_ARGUMENT,
                           "%s: nothing to judge: %s", settings->split,
                           settings->replay  ? "nobody in the half that is replayed has two events"
                           : settings->valid ? "no valid row of a user who has train rows"
                                             : "no test row of a user who has train or valid rows");
    if (status == AKIN_OK)
        *plan = made;
    else
        plan_deinit(&made);
    return status;
}

void plan_deinit(struct evaluation_plan *plan)
{
    histories_deinit(&plan->learned);
    memory_free(plan->learn);
    memory_free(plan->own);
    memory_free(plan->own_times);
    memory_free(plan->points);
    memory_free(plan->positives);
    *plan = (struct evaluation_plan){ 0 };
}
