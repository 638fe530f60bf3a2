// Waiting for a card, with an end. A card that does not answer is given up by the whole process:
// what waits for it once more would wait for ever, and giving its memory back waits for its kernels.
// So its memory stays where it is, and every call to it fails at once. A driver that does not come
// back from a call cannot be left this way.
//
// That a card is given up is known here once for the process, as the card is there once for it.
#pragma once

#include <cstdint>

extern "C" {
#include "base/clock.h"
}

enum { FENCE_CARDS_MAX = 64 };

bool fence_is_up(int ordinal);
void fence_raise(int ordinal);

// Until done() is true; false: `limit_ns` have passed. Busy at first, since a short answer is worth
// a processor; then with sleeps, since a long one is not.
template <typename Done> bool wait_until(uint64_t limit_ns, Done done)
{
    const uint64_t busy_ns = 2000000;
    uint64_t began = clock_monotonic_ns();
    while (!done()) {
        uint64_t waited = clock_monotonic_ns() - began;
        if (waited > limit_ns)
            return false;
        if (waited > busy_ns)
            clock_sleep_us(50);
    }
    return true;
}
