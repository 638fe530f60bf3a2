// See fence.cuh.
#include "compute/cuda/fence.cuh"

#include <atomic>

static std::atomic<bool> raised[FENCE_CARDS_MAX];

bool fence_is_up(int ordinal)
{
    return ordinal >= 0 && ordinal < FENCE_CARDS_MAX && raised[ordinal].load();
}

void fence_raise(int ordinal)
{
    if (ordinal >= 0 && ordinal < FENCE_CARDS_MAX)
        raised[ordinal].store(true);
}
