/* A file of vectors of any bytes: .npy and HDF5 by what it begins with, .fvecs, .bvecs or .ivecs
 * otherwise. Opened or refused, and all rows that it claims can be read. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/vectors_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_rows(const char *path)
{
    struct vectors_input *input = NULL;
    struct akin_error error;
    const float *rows;
    size_t count = 1;
    if (vectors_input_open(path, "train", &input, &error) != AKIN_OK)
        return;
    /* A damaged file may claim more than a test has time for. */
    for (int block = 0; block < 100 && count > 0; block++)
        if (vectors_input_next(input, 100, &rows, &count, &error) != AKIN_OK)
            break;
    vectors_input_close(&input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const endings[] = {"fvecs", "bvecs", "ivecs"};
    for (int i = 0; i < 3; i++) {
        char path[64];
        struct vectors_ids ids = {0};
        snprintf(path, sizeof path, "/tmp/akin_vectors_fuzz_%ld.%s", (long)getpid(), endings[i]);
        FILE *file = fopen(path, "wb");
        if (!file)
            return 0;
        bool written = fwrite(data, 1, size, file) == size;
        written &= fclose(file) == 0;
        if (written)
            read_rows(path);
        if (written && vectors_input_ids(path, "neighbors", &ids, NULL) == AKIN_OK)
            memory_free(ids.ids);
        unlink(path);
    }
    return 0;
}
