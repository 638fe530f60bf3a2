#include "compute/cpu/train_kernels.h"

#include "base/cpu.h"

void train_kernels_select(struct train_kernels *k, unsigned cpu_flags)
{
    train_kernels_use_ref(k);
#if defined(__x86_64__)
    if (cpu_flags & CPU_AVX2)
        train_kernels_use_avx2(k);
    if (cpu_flags & CPU_AVX512)
        train_kernels_use_avx512(k);
    if (cpu_flags & CPU_AVX512 && cpu_flags & CPU_AVX512_BF16)
        train_kernels_use_avx512bf16(k);
#else
    (void)cpu_flags;
#endif
}
