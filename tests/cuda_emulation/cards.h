// The cards that are made up, and how they fail: told by the environment, which only the plug-in of
// the tests reads.
//
//   AKIN_EMULATED_CARDS=3        how many there are; 1
//   AKIN_EMULATED_MEMORY=BYTES   of each; 8 GiB, and one more for each card
//   AKIN_EMULATED_CAPABILITY=75  what they are: 90
//   AKIN_EMULATED_SHARED=BYTES   of shared memory that a block may have: 227 KiB
//   AKIN_EMULATED_FAIL=1:3       card 1 fails at its third batch, and at all later ones
//   AKIN_EMULATED_HANG=0:2       card 0 does not answer from its second batch on
//   AKIN_EMULATED_WAIT_MS=500    how long that is waited for; 2000
//   AKIN_EMULATED_LOG=FILE       gets a line "card N" for every batch that is done
//
// A batch is what ends in a download.
#pragma once

#include <cstddef>
#include <cstdint>

enum { EMULATED_CARDS_MAX = 16 };

enum card_fault { CARD_FINE, CARD_FAILS, CARD_HANGS };

int cards_count();
uint64_t cards_wait_ns();
int cards_capability();
size_t cards_shared_bytes();
size_t cards_memory(int ordinal);
size_t cards_free(int ordinal);
// Of its memory; false: it has not so much.
bool cards_take(int ordinal, size_t bytes);
void cards_give(int ordinal, size_t bytes);
// Counts a batch.
card_fault cards_batch(int ordinal);
