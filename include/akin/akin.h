/* SPDX-License-Identifier: Apache-2.0
 * akin: texts to vectors, vectors to neighbours, neighbours to recommendations.
 * This header brings all of the public API. */
#ifndef AKIN_H
#define AKIN_H

#include "akin/status.h"
#include "akin/engine.h"
#include "akin/settings.h"
#include "akin/model.h"
#include "akin/index.h"
#include "akin/catalog.h"
#include "akin/neighbors.h"
#include "akin/recommend.h"
#include "akin/bandits.h"
#include "akin/evaluate.h"
#include "akin/audit.h"
#include "akin/watch.h"
#include "akin/events.h"

#define AKIN_VERSION_MAJOR 0
#define AKIN_VERSION_MINOR 1
#define AKIN_VERSION_PATCH 0
#define AKIN_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the library that is linked, such as "0.1.0", and the commit that it was built
 * from ("unknown" outside a checkout). */
AKIN_API const char *akin_version(void);
AKIN_API const char *akin_commit(void);

#ifdef __cplusplus
}
#endif
#endif
