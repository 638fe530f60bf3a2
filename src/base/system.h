/* What the operating system tells about this machine and process. */
#pragma once

#include "akin/engine.h"

void system_describe(struct akin_machine *machine);
uint64_t system_peak_rss_bytes(void);
uint64_t system_rss_bytes(void);
uint64_t system_available_bytes(void);      /* memory that can be had without swapping */
