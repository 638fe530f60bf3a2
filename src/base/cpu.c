/* CPUID, the registers that the system saves (XCR0), and the permission for AMX tiles. */
#include "base/cpu.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From the Linux kernel's documentation of dynamic XSAVE features. */
enum { ARCH_REQ_XCOMP_PERM_ = 0x1023, XFEATURE_XTILEDATA_ = 18 };

static unsigned long long xcr0(void)
{
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}

static bool has(unsigned value, int bit)
{
    return value >> bit & 1;
}

unsigned cpu_detect(void)
{
    unsigned a, b, c, d, b7, c7, d7, a71 = 0, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 0;
    bool osxsave = has(c, 27), fma = has(c, 12), f16c = has(c, 29), avx = has(c, 28);
    if (!osxsave || !avx || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
        return 0;
    if (a >= 1)
        __get_cpuid_count(7, 1, &a71, &b, &c, &d);
    unsigned long long saved = xcr0();
    bool ymm = (saved & 0x6) == 0x6, zmm = (saved & 0xe6) == 0xe6, tiles = (saved >> 17 & 3) == 3;
    if (ymm && fma && f16c && has(b7, 5) && has(b7, 8))
        flags |= CPU_AVX2;
    if (!(flags & CPU_AVX2) || !zmm || !has(b7, 16) || !has(b7, 17) || !has(b7, 30) || !has(b7, 31))
        return flags;
    flags |= CPU_AVX512;
    if (has(c7, 11))
        flags |= CPU_AVX512_VNNI;
    if (has(a71, 5))
        flags |= CPU_AVX512_BF16;
    if (has(c7, 1))
        flags |= CPU_AVX512_VBMI;
    if (has(c7, 14))
        flags |= CPU_AVX512_VPOPCNT;
    if (tiles && has(d7, 24) &&
        !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_, XFEATURE_XTILEDATA_)) {
        if (has(d7, 25))
            flags |= CPU_AMX_INT8;
        if (has(d7, 22))
            flags |= CPU_AMX_BF16;
    }
    return flags;
}

static const unsigned avx512_flags =
    CPU_AVX2 | CPU_AVX512 | CPU_AVX512_VNNI | CPU_AVX512_BF16 | CPU_AVX512_VPOPCNT |
    CPU_AVX512_VBMI;

bool cpu_level(const char *name, unsigned detected, unsigned *flags)
{
    if (!name || !*name || !strcmp(name, "amx"))
        *flags = detected;
    else if (!strcmp(name, "ref"))
        *flags = 0;
    else if (!strcmp(name, "avx2"))
        *flags = detected & CPU_AVX2;
    else if (!strcmp(name, "avx512"))
        *flags = detected & avx512_flags;
    else
        return false;
    return true;
}

const char *cpu_level_name(unsigned flags)
{
    if (flags & (CPU_AMX_INT8 | CPU_AMX_BF16))
        return "amx";
    if (flags & CPU_AVX512)
        return "avx512";
    return flags & CPU_AVX2 ? "avx2" : "ref";
}

void cpu_flags_text(unsigned flags, char *text, size_t bytes)
{
    static const struct {
        unsigned flag;
        const char *name;
    } names[] = {
        { CPU_AVX2, "avx2" },          { CPU_AVX512, "avx512" },
        { CPU_AVX512_VNNI, "vnni" },   { CPU_AVX512_BF16, "bf16" },
        { CPU_AVX512_VPOPCNT, "vpopcnt" }, { CPU_AVX512_VBMI, "vbmi" },
        { CPU_AMX_INT8, "amx-int8" },  { CPU_AMX_BF16, "amx-bf16" },
    };
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (flags & names[i].flag && used < bytes)
            used +=
                (size_t)snprintf(text + used, bytes - used, "%s%s", used ? " " : "", names[i].name);
}
