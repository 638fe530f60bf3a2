/* A copy of the folder of an audit log that was taken while the log was written to, made into what
 * the log was at one moment: such a log verifies, and can be gone on with. */
#pragma once

#include <stdbool.h>

#include "base/status.h"

/* Removes from the copy what came behind its checkpoint and the last whole frame of its journal.
 * *settled false: tiles, checkpoint and journal are not of one moment, so that records would be
 * missing: take another copy. It is enough that checkpoint, journal and partial tiles were copied
 * first: the rest only grows. */
enum akin_status audit_settle(const char *folder, bool *settled, struct akin_error *error);
