// See ledger.cuh.
#include "compute/cuda/ledger.cuh"

#include <atomic>

enum { LEDGER_CARDS_MAX = 64 };

static std::atomic<size_t> held[LEDGER_CARDS_MAX][CUDA_USES];

static bool is_kept(int ordinal, enum cuda_use use)
{
    return ordinal >= 0 && ordinal < LEDGER_CARDS_MAX && use >= 0 && use < CUDA_USES;
}

void ledger_take(int ordinal, enum cuda_use use, size_t bytes)
{
    if (is_kept(ordinal, use))
        held[ordinal][use].fetch_add(bytes);
}

void ledger_give(int ordinal, enum cuda_use use, size_t bytes)
{
    if (is_kept(ordinal, use))
        held[ordinal][use].fetch_sub(bytes);
}

size_t ledger_held(int ordinal, enum cuda_use use)
{
    return is_kept(ordinal, use) ? held[ordinal][use].load() : 0;
}
