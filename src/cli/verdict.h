/* What is known about the precisions of a model, for people and for programs. */
#pragma once

#include "cli/cli.h"

/* The precision that "auto" stands for, with notes: that it is measured now, and which it is. */
enum akin_status verdict_decide(struct cli *cli, const char *path, enum akin_precision *precision);
/* {"auto": "int8", "texts": .., "measured": .., "kept_in": .., "precisions": [..]} */
json_t *verdict_json(const struct akin_verdict *verdict);
void verdict_print(const struct akin_verdict *verdict);
