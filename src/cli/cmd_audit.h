/* What the commands of audit logs share. */
#pragma once

#include "cli/cli.h"

json_t *audit_verdict_json(const char *folder, const struct akin_audit_verdict *verdict);
/* "2026-01-02T03:04:05.000006Z" */
void audit_time_text(int64_t time_us, char text[40]);
