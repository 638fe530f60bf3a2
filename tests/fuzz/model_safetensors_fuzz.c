/* Any bytes as a safetensors file: parsed or refused, and what is parsed lies inside the bytes. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct safetensors *file = NULL;
    struct akin_error error;
    if (safetensors_parse(data, bytes, "input", &file, &error) != AKIN_OK) {
        ASSERT(!file && error.message[0]);
        return 0;
    }
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const struct safetensors_tensor *tensor = safetensors_at(file, i);
        ASSERT(tensor->data >= data && tensor->bytes <= bytes);
        ASSERT(tensor->data + tensor->bytes <= data + bytes);
        ASSERT(safetensors_find(file, tensor->name) == tensor);
        volatile unsigned char sum = 0;
        for (size_t b = 0; b < tensor->bytes; b++)
            sum = (unsigned char)(sum + tensor->data[b]);
        struct host_matrix matrix;
        safetensors_matrix(file, tensor->name, tensor->dims > 1 ? tensor->shape[0] : 1,
                           tensor->dims ? tensor->shape[tensor->dims - 1] : 1, &matrix, &error);
    }
    safetensors_close(&file);
    return 0;
}
