/* Events to histories. */
#include "recommend/histories.h"

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

/* Events by time, equal times in the order given: a radix sort of their numbers, which begin and
 * end in `sequence`, as items. */
static bool make_sequence(const struct history_event *events, size_t count, uint32_t *sequence)
{
    uint32_t *other = memory_alloc(count, sizeof *other), *from = sequence, *to = other;
    int64_t first = INT64_MAX, last = INT64_MIN;
    if (!other)
        return false;
    for (size_t e = 0; e < count; e++) {
        from[e] = (uint32_t)e;
        first = events[e].timestamp < first ? events[e].timestamp : first;
        last = events[e].timestamp > last ? events[e].timestamp : last;
    }
    uint64_t range = count ? (uint64_t)last - (uint64_t)first : 0;
    for (int shift = 0; shift < 64 && range >> shift; shift += DIGIT_BITS) {
        size_t starts[DIGITS + 1] = { 0 };
        for (size_t e = 0; e < count; e++)
            starts[(((uint64_t)events[e].timestamp - (uint64_t)first) >> shift & (DIGITS - 1)) +
                   1]++;
        for (size_t d = 0; d < DIGITS; d++)
            starts[d + 1] += starts[d];
        for (size_t e = 0; e < count; e++) {
            uint64_t since = (uint64_t)events[from[e]].timestamp - (uint64_t)first;
            to[starts[since >> shift & (DIGITS - 1)]++] = from[e];
        }
        uint32_t *swapped = from;
        from = to;
        to = swapped;
    }
    for (size_t e = 0; e < count; e++)
        sequence[e] = events[from[e]].item;
    memory_free(other);
    return true;
}

enum akin_status histories_create(const struct history_event *events, size_t count,
                                  size_t user_count, size_t item_count,
                                  struct histories *histories, struct akin_error *error)
{
    ASSERT(count <= UINT32_MAX);
    struct histories h = { user_count, item_count, count,
                           memory_alloc(user_count + 2, sizeof *h.offsets),
                           memory_alloc(count, sizeof *h.items),
                           memory_alloc(count, sizeof *h.times),
                           memory_alloc(count, sizeof *h.sequence) };
    if (!h.offsets || !h.items || !h.times || !h.sequence ||
        !make_sequence(events, count, h.sequence)) {
        histories_deinit(&h);
        return error_memory(error);
    }
    /* offsets[u + 1] is where the next event of u goes, and in the end where u ends */
    for (size_t e = 0; e < count; e++)
        h.offsets[events[e].user + 2]++;
    for (size_t u = 0; u < user_count; u++)
        h.offsets[u + 2] += h.offsets[u + 1];
    for (size_t e = 0; e < count; e++) {
        size_t at = h.offsets[events[e].user + 1]++;
        h.items[at] = events[e].item;
        h.times[at] = events[e].timestamp;
    }
    *histories = h;
    return AKIN_OK;
}

void histories_deinit(struct histories *histories)
{
    memory_free(histories->offsets);
    memory_free(histories->items);
    memory_free(histories->times);
    memory_free(histories->sequence);
    *histories = (struct histories){ 0 };
}
