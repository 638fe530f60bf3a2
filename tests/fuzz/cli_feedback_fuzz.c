/* A file of ratings of any bytes, as JSON lines and as CSV: batches end, their strings can be read,
 * and what is refused comes after what was good. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/feedback_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t read_ratings(const char *path, const char *format, size_t batch)
{
    struct feedback_input *input = NULL;
    struct akin_feedback feedback[7];
    struct akin_error error;
    size_t count = 1, bytes = 0;
    uint64_t line = 0;
    if (feedback_input_open(path, format, 5, 1000, &input, &error) != AKIN_OK)
        return 0;
    while (count > 0 &&
           feedback_input_next(input, feedback, batch, &count, &error) == AKIN_OK)
        for (size_t i = 0; i < count; i++) {
            bytes += strlen(feedback[i].user) + strlen(feedback[i].item);
            if (feedback_input_line(input, i) <= line)
                abort();
            line = feedback_input_line(input, i);
        }
    feedback_input_close(&input);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = { "jsonl", "csv" };
    char path[64];
    snprintf(path, sizeof path, "/tmp/akin_feedback_fuzz_%ld", (long)getpid());
    FILE *file = fopen(path, "wb");
    if (!file)
        return 0;
    bool written = fwrite(data, 1, size, file) == size;
    written &= fclose(file) == 0;
    for (int i = 0; written && i < 2; i++)
        if (read_ratings(path, formats[i], 1) != read_ratings(path, formats[i], 7))
            abort();
    unlink(path);
    return 0;
}
