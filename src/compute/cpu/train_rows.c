/* Selects the inner loops of train_rows.h. */
#include "compute/cpu/train_rows.h"

#include "base/cpu.h"

void train_rows_select(struct train_row_kernels *k, unsigned cpu_flags)
{
    train_rows_use_ref(k);
#if defined(__x86_64__)
    if (cpu_flags & CPU_AVX2)
        train_rows_use_avx2(k);
    if (cpu_flags & CPU_AVX512)
        train_rows_use_avx512(k);
    if (cpu_flags & CPU_AVX512 && cpu_flags & CPU_AVX512_BF16)
        train_rows_use_avx512bf16(k);
#else
    (void)cpu_flags;
#endif
}

static size_t up(size_t count, size_t granule)
{
    return (count + granule - 1) / granule * granule;
}

/* struct packed of train_attend_wide.h, its largest part for the queries and the rest for keys. */
size_t attend_train_scratch_bytes(size_t queries, size_t keys, size_t dim)
{
    size_t dims = up(dim, 16), padded_queries = up(queries, ATTEND_TRAIN_QUERIES),
           padded_keys = up(keys, ATTEND_TRAIN_KEYS);
    size_t floats = 2 * padded_queries * dims + 6 * padded_keys * dims +
                    ATTEND_TRAIN_QUERIES * (padded_keys + 2 * ATTEND_TRAIN_KEYS + dims);
    return floats * sizeof(float) + ATTEND_TRAIN_QUERIES * padded_keys / 8;
}
