/* Rows of any bytes: fields lie in the input or in the reader's own buffer, and rows end. */
#include <stdint.h>
#include <stdlib.h>

#include "base/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const separators[] = { ",", "\t", "::", "|" };
    if (size < 1)
        return 0;
    struct csv_reader csv;
    struct akin_error error;
    bool row = true;
    unsigned sum = 0;
    csv_open(&csv, "fuzz", (const char *)data + 1, size - 1, separators[data[0] & 3], data[0] & 4);
    for (uint64_t line = 0; csv_next(&csv, &row, &error) == AKIN_OK && row; line = csv.line) {
        if (csv.line <= line)
            abort();
        for (size_t i = 0; i < csv.field_count; i++) {
            double number;
            uint64_t whole;
            for (size_t j = 0; j < csv.fields[i].bytes; j++)
                sum += (unsigned char)csv.fields[i].text[j];
            sum += parse_double(csv.fields[i].text, csv.fields[i].bytes, &number);
            sum += parse_uint64(csv.fields[i].text, csv.fields[i].bytes, &whole);
        }
    }
    csv_close(&csv);
    return sum == 0x12345678;
}
