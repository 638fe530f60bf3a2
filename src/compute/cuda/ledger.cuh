// What this process holds on each card, by use. One book for the process, as a card's memory is
// one.
#pragma once

#include <cstddef>

extern "C" {
#include "compute/cuda_use.h"
}

void ledger_take(int ordinal, enum cuda_use use, size_t bytes);
void ledger_give(int ordinal, enum cuda_use use, size_t bytes);
size_t ledger_held(int ordinal, enum cuda_use use);
