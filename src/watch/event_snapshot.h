/* Snapshots of a store of events and an audit trail: akin_snapshot_make of akin/events.h. A folder
 * that is a btrfs subvolume is snapshot as one; else its files are shared (FICLONE) where the file
 * system has reflinks, or copied. */
#pragma once

#include "akin/events.h"

enum akin_status event_snapshot_make(const struct akin_snapshot_settings *settings,
                                     struct akin_snapshot_report *report,
                                     struct akin_error *error);
