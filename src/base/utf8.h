/* UTF-8. Invalid bytes are read as U+FFFD, one per maximal ill-formed subsequence (Unicode 3.9,
 * as Python's errors="replace" and Rust's from_utf8_lossy do). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads one code point at `text` (bytes >= 1); returns how many bytes it took, >= 1. */
size_t utf8_decode(const char *text, size_t bytes, uint32_t *code);
/* Writes at most 4 bytes; returns how many. `code` must be a Unicode scalar value. */
size_t utf8_encode(uint32_t code, char *text);
bool utf8_valid(const char *text, size_t bytes);
