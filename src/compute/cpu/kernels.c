#include "compute/cpu/kernels.h"

#include "base/cpu.h"

void kernels_select(struct kernels *k, unsigned cpu_flags)
{
    kernels_use_ref(k);
#if defined(__x86_64__)
    if (cpu_flags & CPU_AVX2) {
        kernels_use_avx2(k);
        kernels_use_pq_avx2(k);
        kernels_use_beta_avx2(k);
    }
    if (cpu_flags & CPU_AVX512) {
        kernels_use_avx512(k);
        kernels_use_pq_avx512(k);
        kernels_use_beta_avx512(k);
    }
    if (cpu_flags & CPU_AVX512 && cpu_flags & CPU_AVX512_VNNI)
        kernels_use_avx512vnni(k);
    if (cpu_flags & CPU_AVX512 && cpu_flags & CPU_AVX512_BF16)
        kernels_use_avx512bf16(k);
    if (cpu_flags & CPU_AVX512 && cpu_flags & CPU_AVX512_VNNI && cpu_flags & CPU_AVX512_VBMI)
        kernels_use_avx512vbmi(k);
    unsigned amx = CPU_AMX_INT8 | CPU_AMX_BF16;
    if (cpu_flags & CPU_AVX512 && cpu_flags & CPU_AVX512_BF16 && (cpu_flags & amx) == amx)
        kernels_use_amx(k);
#else
    (void)cpu_flags;
#endif
}
