/* The arithmetic of the embedding report: what follows from what was measured. Nothing here
 * measures or prints. A figure that cannot be known is NaN. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "akin/model.h"

/* Operations of the encoder (a multiplication and an addition are two) for texts whose token counts
 * add up to `tokens` and whose squares to `squares`:
 *   layers * (2 tokens (4 hidden^2 + 2 hidden intermediate) + 4 squares hidden)
 * the products with weights, then scores and weighted sums of attention. What is not a product
 * (embedding rows, LayerNorm, softmax, GELU, pooling) and the tokenizer are left out. */
double encoder_flops(const struct akin_model_info *model, double tokens, double squares);

/* Speed per thread in relation to that of the run with fewest threads; 1 is perfect. */
double scaling_efficiency(double rate, int threads, double base_rate, int base_threads);

/* texts/s on `cores` cores: base_rate / base_threads * cores * efficiency. */
double cores_rate(double base_rate, int base_threads, double efficiency, int cores);

double texts_seconds(double rate, double texts);
double texts_cost(double rate, double texts, double dollars_per_hour);

/* Sorts `values`; the middle one, or the mean of the two. */
double median_of(double *values, size_t count);
/* Sorts; the smallest value that `percent` of them do not exceed (nearest rank). */
double percentile_of(double *values, size_t count, double percent);

double cosine_of(const float *a, const float *b, size_t dimension);

/* "12.3 s", "4.5 min", "1.2 h", "3.4 days"; `text` has room for NUMBER_BYTES. Returns `text`. */
const char *format_duration(char *text, double seconds);
