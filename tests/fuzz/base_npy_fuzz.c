/* A .npy file of any bytes: opened or refused, and what it claims to hold can be read. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/akin_npy_fuzz_%ld", (long)getpid());
    if (file_write(path, data, size, NULL) != AKIN_OK)
        return 0;
    struct npy npy;
    struct akin_error error;
    unsigned sum = 0;
    if (npy_open(path, &npy, &error) == AKIN_OK) {
        for (size_t i = 0; i < npy.data_bytes; i++)
            sum += ((const unsigned char *)npy.data)[i];
        npy_close(&npy);
    }
    unlink(path);
    return sum == 0x12345678;
}
