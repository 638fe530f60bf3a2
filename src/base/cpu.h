/* CPU features: what the processor and the operating system offer, and the level that we use. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum cpu_flag {
    CPU_AVX2        = 1 << 0,   /* AVX2, FMA, F16C, BMI2 */
    CPU_AVX512      = 1 << 1,   /* F, BW, VL, DQ */
    CPU_AVX512_VNNI = 1 << 2,
    CPU_AVX512_BF16 = 1 << 3,
    CPU_AMX_INT8    = 1 << 4,   /* the CPU has it and the system granted the tiles */
    CPU_AMX_BF16    = 1 << 5,
    CPU_AVX512_VPOPCNT = 1 << 6,
    CPU_AVX512_VBMI = 1 << 7,
};

/* Features of this machine. Constant for a process; asks for AMX tile permission on first use. */
unsigned cpu_detect(void);

/* The flags of `detected` that a level allows: "ref" none, "avx2", "avx512" (with VNNI, BF16,
 * VBMI), "amx" all; NULL or "" all. Returns false for an unknown name. */
bool cpu_level(const char *name, unsigned detected, unsigned *flags);

/* The name of the highest level in `flags`: "ref", "avx2", "avx512", "amx". */
const char *cpu_level_name(unsigned flags);

/* Writes "avx2 avx512 vnni ..." */
void cpu_flags_text(unsigned flags, char *text, size_t bytes);
