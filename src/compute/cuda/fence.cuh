// Waiting for a card, with an end. A card that does not answer is given up by the whole process:
// what waits for it once more would wait for ever, and giving its memory back waits for its
// kernels. So its memory stays where it is, and every call to it fails at once. A driver that does
// not come back from a call cannot be left this way.
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

// Lets about half a microsecond pass, so that who asks does not keep the driver's locks from who
// starts kernels.
inline void pause_shortly()
{
#ifdef __x86_64__
    for (int i = 0; i < 12; i++)
        __builtin_ia32_pause();
#endif
}

// Until done() is true; false: `limit_ns` have passed. Busy at first, since a short answer is worth
// a processor; then with sleeps, since a long one is not. Time in which this process did not run,
// stopped or with the whole machine, is not the card's.
template <typename Done> bool wait_until(uint64_t limit_ns, Done done)
{
    const uint64_t busy_ns = 2000000, gap_ns = 100000000;
    uint64_t before = clock_monotonic_ns(), waited = 0;
    while (!done()) {
        uint64_t now = clock_monotonic_ns();
        waited += now - before < gap_ns ? now - before : gap_ns;
        before = now;
        if (waited > limit_ns)
            return false;
        if (waited > busy_ns)
            clock_sleep_us(50);
        else
            pause_shortly();
    }
    return true;
}
