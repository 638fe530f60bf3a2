/* Moments and durations as people write them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* How long before `now_us` ("90s", "15m", "2h", "3d", "1w"; "1.5h"), or a date of UTC:
 * "2026-11-21", "2026-11-21T10:30", "2026-11-21 10:30:15", with or without a Z. false: neither. */
bool moment_parse(const char *text, int64_t now_us, int64_t *us);
/* "90s", "15m", "2h", "3d", "1w". */
bool duration_parse(const char *text, double *seconds);
