/* Matrices as weights files have them. */
#include <string.h>

#include "compute/backend.h"
#include "compute/cpu/half.h"

size_t element_bytes(enum element_type type)
{
    return type == ELEMENT_F32 ? 4 : type == ELEMENT_I8 ? 1 : 2;
}

void host_matrix_to_f32(const struct host_matrix *matrix, float *out)
{
    size_t count = matrix->rows * matrix->cols;
    const unsigned char *from = matrix->data;
    if (matrix->type == ELEMENT_F32) {
        memcpy(out, from, count * sizeof *out);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, from + 2 * i, sizeof half);
        out[i] = matrix->type == ELEMENT_F16 ? f16_to_f32(half) : bf16_to_f32(half);
    }
}
