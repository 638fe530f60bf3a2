/* AMX: six tiles of 16 x 16 sums, each step 16 x 16 x 64 bytes. base/cpu.c has asked for the
 * permission to use tiles. */
#include "compute/cpu/peak_loops.h"

#include <immintrin.h>

#include "base/cpu.h"

enum { TILES = 8, SUMS = 6, STEPS = PEAK_TURNS / 16 };

/* The 64 bytes that LDTILECFG reads. */
struct tile_config {
    unsigned char palette, start_row, reserved[14];
    unsigned short column_bytes[16];
    unsigned char rows[16];
};

static void tiles_on(void)
{
    struct tile_config config = {.palette = 1};
    for (int i = 0; i < TILES; i++) {
        config.column_bytes[i] = 64;
        config.rows[i] = 16;
    }
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
}

static double bf16(void)
{
    tiles_on();
    for (int step = 0; step < STEPS; step++) {
        _tile_dpbf16ps(0, 6, 7);
        _tile_dpbf16ps(1, 6, 7);
        _tile_dpbf16ps(2, 6, 7);
        _tile_dpbf16ps(3, 6, 7);
        _tile_dpbf16ps(4, 6, 7);
        _tile_dpbf16ps(5, 6, 7);
    }
    _tile_release();
    return 2.0 * 16 * 16 * 32 * SUMS * STEPS;
}

static double int8(void)
{
    tiles_on();
    for (int step = 0; step < STEPS; step++) {
        _tile_dpbssd(0, 6, 7);
        _tile_dpbssd(1, 6, 7);
        _tile_dpbssd(2, 6, 7);
        _tile_dpbssd(3, 6, 7);
        _tile_dpbssd(4, 6, 7);
        _tile_dpbssd(5, 6, 7);
    }
    _tile_release();
    return 2.0 * 16 * 16 * 64 * SUMS * STEPS;
}

void peak_use_amx(struct peak_loops *loops, unsigned cpu_flags)
{
    if (cpu_flags & CPU_AMX_BF16)
        loops->bf16 = bf16;
    if (cpu_flags & CPU_AMX_INT8)
        loops->int8 = int8;
}
