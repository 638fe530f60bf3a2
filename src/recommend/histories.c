/* Events to histories. */
#include "recommend/histories.h"

#include <stdlib.h>

struct timed {
    int64_t timestamp;
    size_t at;
    uint32_t item;
};

static int compare_times(const void *a, const void *b)
{
    const struct timed *x = a, *y = b;
    if (x->timestamp != y->timestamp)
        return x->timestamp < y->timestamp ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static bool make_sequence(const struct history_event *events, size_t count, uint32_t *sequence)
{
    struct timed *timed = memory_alloc(count, sizeof *timed);
    if (!timed)
        return false;
    for (size_t e = 0; e < count; e++)
        timed[e] = (struct timed){ events[e].timestamp, e, events[e].item };
    qsort(timed, count, sizeof *timed, compare_times);
    for (size_t e = 0; e < count; e++)
        sequence[e] = timed[e].item;
    memory_free(timed);
    return true;
}

enum akin_status histories_create(const struct history_event *events, size_t count,
                                  size_t user_count, size_t item_count,
                                  struct histories *histories, struct akin_error *error)
{
    struct histories h = { user_count, item_count, count,
                           memory_alloc(user_count + 2, sizeof *h.offsets),
                           memory_alloc(count, sizeof *h.items),
                           memory_alloc(count, sizeof *h.sequence) };
    if (!h.offsets || !h.items || !h.sequence || !make_sequence(events, count, h.sequence)) {
        histories_deinit(&h);
        return error_memory(error);
    }
    /* offsets[u + 1] is where the next event of u goes, and in the end where u ends */
    for (size_t e = 0; e < count; e++)
        h.offsets[events[e].user + 2]++;
    for (size_t u = 0; u < user_count; u++)
        h.offsets[u + 2] += h.offsets[u + 1];
    for (size_t e = 0; e < count; e++)
        h.items[h.offsets[events[e].user + 1]++] = events[e].item;
    *histories = h;
    return AKIN_OK;
}

void histories_deinit(struct histories *histories)
{
    memory_free(histories->offsets);
    memory_free(histories->items);
    memory_free(histories->sequence);
    *histories = (struct histories){ 0 };
}
