/* The inverse of a symmetric positive definite matrix, for closed-form item models. */
#pragma once

#include <stddef.h>

#include "base/status.h"

struct kernels;
struct thread_pool;

/* a [n][n] becomes its inverse; only the lower triangle is read. Float32 throughout, in an order
 * that does not depend on the threads. AKIN_FORMAT: not positive definite (the contents are then
 * lost). */
enum akin_status symmetric_invert(const struct kernels *kernels, struct thread_pool *pool, float *a,
                                  size_t n, struct akin_error *error);
