// Linear maps of the encoder in eight bits: mma.m16n8k32 of unsigned by signed bytes into int32.
// What comes from a LayerNorm has one scale a row, so the whole depth is one exact sum. What comes
// from GELU has a scale for each 64 columns, because the kernel that makes it sees no more of a
// row: such groups are exact sums as well, which are scaled and added in float32, in order. So
// tiles for few rows and for many give the same bits.
#include "compute/cuda/encode_tile.cuh"

namespace {

enum { EPILOGUE_PLAIN, EPILOGUE_GELU };

typedef tiling<32, 64, 2, 1, 3> few_rows;       // a warp has a whole group of a row
typedef tiling<32, 64, 2, 2, 3> few_grouped;
typedef tiling<128, 64, 2, 2, 3> many_grouped;
static_assert((int)many_rows::WARP_COLS == (int)GROUP_COLS
                  && (int)few_rows::WARP_COLS == (int)GROUP_COLS,
              "a warp finds the scale of a group by itself");

struct rows_job {
    factors product;
    const narrow_scale *rows;   // of the left factor
    const float *step, *sum, *bias;
    half_t *out;                // EPILOGUE_PLAIN
    encode_groups groups;       // EPILOGUE_GELU
};

// Sums become the bits of float32: step_row * step_col * sum + low_row * sum of the weights + bias.
template <typename Tiling, int EPILOGUE>
__device__ inline void widen(const rows_job &j,
                             int32_t sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                             const tile_place &at)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    narrow_scale row[Tiling::ROW_TILES][2];
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++)
            row[m][half] = j.rows[at.row + (size_t)(at.warp_row + 16 * m + 8 * half + g)];
    UNROLL
    for (int n = 0; n < Tiling::COL_TILES; n++)
        for (int i = 0; i < 2; i++) {
            size_t col = at.col + (size_t)(at.warp_col + 8 * n + 2 * t + i);
            bool valid = col < j.product.cols;
            float step = valid ? j.step[col] : 0, sum = valid ? j.sum[col] : 0;
            float bias = valid ? j.bias[col] : 0;
            UNROLL
            for (int m = 0; m < Tiling::ROW_TILES; m++)
                for (int half = 0; half < 2; half++) {
                    float x = fmaf(round_product(row[m][half].step, step),
                                   (float)sums[m][n][2 * half + i],
                                   fmaf(row[m][half].low, sum, bias));
                    if (EPILOGUE == EPILOGUE_GELU)
                        x = gelu(x);
                    sums[m][n][2 * half + i] = (int32_t)score_bits(x);
                }
        }
}

__device__ inline float float_of(int32_t bits)
{
    return bits_score((uint32_t)bits);
}

template <typename Tiling>
__device__ inline void plain_epilogue(const int32_t sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                      half_t *tile, const tile_place &at)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            half_t *row = tile + (at.warp_row + 16 * m + 8 * half + g) * Tiling::OUT_STRIDE;
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++)
                *reinterpret_cast<uint32_t *>(row + at.warp_col + 8 * n + 2 * t)
                    = pack<half_t>(float_of(sums[m][n][2 * half]),
                                   float_of(sums[m][n][2 * half + 1]));
        }
}

template <typename Tiling>
__device__ inline void gelu_epilogue(const rows_job &j,
                                     const int32_t sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                     unsigned char *tile, const tile_place &at)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    size_t first = at.col + (size_t)at.warp_col, groups = j.product.cols / GROUP_COLS;
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++)
        for (int half = 0; half < 2; half++) {
            int r = at.warp_row + 16 * m + 8 * half + g;
            float high = GELU_LEAST;
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++)
                high = fmaxf(high, fmaxf(float_of(sums[m][n][2 * half]),
                                         float_of(sums[m][n][2 * half + 1])));
            narrow_scale scale = scale_between(GELU_LEAST, quad_max(high));
            float inverse = 1.0f / scale.step;
            if (first < j.product.cols && t == 0)       // of a group all columns are, or none
                j.groups.steps[(at.row + (size_t)r) * groups + first / GROUP_COLS] = scale.step;
            UNROLL
            for (int n = 0; n < Tiling::COL_TILES; n++) {
                float pair[2] = {float_of(sums[m][n][2 * half]),
                                 float_of(sums[m][n][2 * half + 1])};
                *reinterpret_cast<uint16_t *>(tile + r * Tiling::BYTE_STRIDE + at.warp_col + 8 * n
                                              + 2 * t)
                    = narrow_pair(pair, scale.low, inverse);
            }
        }
}

template <typename Tiling, int EPILOGUE>
__global__ void __launch_bounds__(Tiling::THREADS) rows_kernel(rows_job j)
{
    SHARED(unsigned char, stages);
    tile_place at = place_of_thread<Tiling>();
    int32_t sums[Tiling::ROW_TILES][Tiling::COL_TILES][4] = {};
    each_stage<Tiling>(j.product, stages, at, [&](const unsigned char *stage) {
        multiply<Tiling>(sums, stage, at);
    });
    widen<Tiling, EPILOGUE>(j, sums, at);
    if (EPILOGUE == EPILOGUE_PLAIN)
        plain_epilogue<Tiling>(sums, reinterpret_cast<half_t *>(stages), at);
    else
        gelu_epilogue<Tiling>(j, sums, stages, at);
    __syncthreads();
    if (EPILOGUE == EPILOGUE_PLAIN)
        store_tile<Tiling>(j.out, j.product.cols, reinterpret_cast<const half_t *>(stages),
                           Tiling::OUT_STRIDE, at);
    else
        store_tile<Tiling>(j.groups.bytes, j.product.cols, stages, Tiling::BYTE_STRIDE, at);
}

// ---- groups ------------------------------------------------------------------------------------

struct groups_job {
    factors product;
    const float *steps;         // of the left factor [rows][depth / GROUP_COLS]
    const float *step, *bias;   // [cols]
    float *sums;                // where LayerNorm is a kernel of its own
};

enum { STAGE_GROUPS = DEPTH_BYTES / GROUP_COLS, GROUP_PRODUCTS = GROUP_COLS / PRODUCT_BYTES };

template <typename Tiling> size_t grouped_shared(size_t depth)
{
    return Tiling::shared() + sizeof(float) * Tiling::ROWS * (depth / GROUP_COLS);
}

// sums += steps * (a group's product). An int32 that starts at the bits of 3 * 2^22 is, while no
// more than 2^22 is added, the bits of 3 * 2^22 + sum: so it becomes a float32 without conversion.
template <typename Tiling>
__device__ inline void add_group(float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                 const unsigned char *stage, int group, const float *steps,
                                 size_t groups, const tile_place &at)
{
    const int32_t start = 0x4b400000;
    static_assert(GROUP_COLS * 255 * 128 < 1 << 22, "the sum stays below");
    const unsigned char *left = stage, *right = stage + Tiling::ROWS * DEPTH_BYTES;
    uint32_t a[GROUP_PRODUCTS][Tiling::ROW_TILES][4];
    float scale[Tiling::ROW_TILES][2];
    int g = (int)(threadIdx.x % 32) / 4;
    UNROLL
    for (int m = 0; m < Tiling::ROW_TILES; m++) {
        UNROLL
        for (int k = 0; k < GROUP_PRODUCTS; k++)
            left_fragment(a[k][m], left, at.warp_row + 16 * m, GROUP_PRODUCTS * group + k);
        for (int half = 0; half < 2; half++)
            scale[m][half] = steps[(size_t)(at.warp_row + 16 * m + 8 * half + g) * groups];
    }
    UNROLL
    for (int n = 0; n < Tiling::COL_TILES; n += 2) {
        int32_t part[Tiling::ROW_TILES][2][4];
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            for (int i = 0; i < 8; i++)
                part[m][i / 4][i % 4] = start;
        UNROLL
        for (int k = 0; k < GROUP_PRODUCTS; k++) {
            uint32_t b[4];
            right_fragment(b, right, at.warp_col + 8 * n, GROUP_PRODUCTS * group + k);
            UNROLL
            for (int m = 0; m < Tiling::ROW_TILES; m++) {
                warp_multiply_bytes<uint8_t>(part[m][0], a[k][m], b);
                warp_multiply_bytes<uint8_t>(part[m][1], a[k][m], b + 2);
            }
        }
        UNROLL
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            for (int i = 0; i < 8; i++) {
                float sum = bits_score((uint32_t)part[m][i / 4][i % 4]) - bits_score(start);
                sums[m][n + i / 4][i % 4] = fmaf(scale[m][i % 4 / 2], sum,
                                                 sums[m][n + i / 4][i % 4]);
            }
    }
}

// sums times the weights' steps, of all groups.
template <typename Tiling>
__device__ inline void multiply_groups(const groups_job &j, unsigned char *shared,
                                       float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                       const tile_place &at)
{
    size_t groups = j.product.depth / GROUP_COLS;
    float *copied = reinterpret_cast<float *>(shared + Tiling::shared());
    const float *steps = copied;
    for (size_t i = threadIdx.x; i < Tiling::ROWS * groups; i += Tiling::THREADS)
        copied[i] = j.steps[at.row * groups + i];
    each_stage<Tiling>(j.product, shared, at, [&](const unsigned char *stage) {
        ROLLED                  // both at once need more registers than there are
        for (int group = 0; group < STAGE_GROUPS; group++)
            add_group<Tiling>(sums, stage, group, steps++, groups, at);
    });
    int t = (int)(threadIdx.x % 4);
    UNROLL
    for (int n = 0; n < Tiling::COL_TILES; n++)
        for (int i = 0; i < 2; i++) {
            size_t col = at.col + (size_t)(at.warp_col + 8 * n + 2 * t + i);
            float factor = col < j.product.cols ? j.step[col] : 0;
            UNROLL
            for (int m = 0; m < Tiling::ROW_TILES; m++) {
                sums[m][n][i] = round_product(sums[m][n][i], factor);
                sums[m][n][i + 2] = round_product(sums[m][n][i + 2], factor);
            }
        }
}

template <typename Tiling>
__global__ void __launch_bounds__(Tiling::THREADS) groups_kernel(groups_job j)
{
    SHARED(unsigned char, shared);
    tile_place at = place_of_thread<Tiling>();
    float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4] = {};
    multiply_groups<Tiling>(j, shared, sums, at);
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    UNROLL
    for (int n = 0; n < Tiling::COL_TILES; n++) {
        size_t col = at.col + (size_t)(at.warp_col + 8 * n + 2 * t), cols = j.product.cols;
        if (col >= cols)
            continue;
        UNROLL
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            for (int half = 0; half < 2; half++) {
                size_t row = at.row + (size_t)(at.warp_row + 16 * m + 8 * half + g);
                j.sums[row * cols + col] = sums[m][n][2 * half] + j.bias[col];
                j.sums[row * cols + col + 1] = sums[m][n][2 * half + 1] + j.bias[col + 1];
            }
    }
}

template <bool NARROW>
__global__ void __launch_bounds__(norm_rows::THREADS) groups_norm_kernel(groups_job j,
                                                                         norm_job norm)
{
    SHARED(unsigned char, shared);
    tile_place at = place_of_thread<norm_rows>();
    float sums[norm_rows::ROW_TILES][norm_rows::COL_TILES][4] = {};
    multiply_groups<norm_rows>(j, shared, sums, at);
    norm_epilogue<norm_rows, NARROW>(norm, sums, shared, at);
}

// ---- starting them -----------------------------------------------------------------------------

rows_job job_of(const encode_linear *linear, const encode_narrowing *x)
{
    rows_job j = {};
    j.product = {x->bytes, reinterpret_cast<const unsigned char *>(linear->bytes), linear->cols,
                 linear->depth};
    j.rows = x->rows;
    j.step = linear->step;
    j.sum = linear->sum;
    j.bias = linear->bias;
    return j;
}

template <typename Tiling, int EPILOGUE> void start(platform *p, const rows_job &j, size_t rows)
{
    auto *kernel = rows_kernel<Tiling, EPILOGUE>;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), Tiling::shared());
    LAUNCH(kernel, tile_grid<Tiling>(rows, j.product.cols), Tiling::THREADS, Tiling::shared(),
           platform_stream(p), j);
    platform_started(p, "a linear map of bytes");
}

template <int EPILOGUE> void start_sized(platform *p, const rows_job &j, size_t rows)
{
    if (rows > FEW)
        start<many_rows, EPILOGUE>(p, j, rows);
    else
        start<few_rows, EPILOGUE>(p, j, rows);
}

template <typename Tiling> void start_groups(platform *p, const groups_job &j, size_t rows)
{
    auto *kernel = groups_kernel<Tiling>;
    size_t shared = grouped_shared<Tiling>(j.product.depth);
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), shared);
    LAUNCH(kernel, tile_grid<Tiling>(rows, j.product.cols), Tiling::THREADS, shared,
           platform_stream(p), j);
    platform_started(p, "a linear map of groups");
}

template <bool NARROW>
void start_norm(platform *p, const groups_job &j, const norm_job &norm, size_t rows, size_t shared)
{
    auto *kernel = groups_norm_kernel<NARROW>;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), shared);
    LAUNCH(kernel, tile_grid<norm_rows>(rows, j.product.cols), norm_rows::THREADS, shared,
           platform_stream(p), j, norm);
    platform_started(p, "a linear map of groups with LayerNorm");
}

}

void encode_multiply_bytes(platform *p, const encode_linear *linear, const encode_narrowing *x,
                           size_t rows, half_t *out)
{
    rows_job j = job_of(linear, x);
    j.out = out;
    start_sized<EPILOGUE_PLAIN>(p, j, rows);
}

void encode_multiply_bytes_gelu(platform *p, const encode_linear *linear, const encode_narrowing *x,
                                size_t rows, const encode_groups *out)
{
    rows_job j = job_of(linear, x);
    j.groups = *out;
    start_sized<EPILOGUE_GELU>(p, j, rows);
}

bool encode_groups_fit(const platform *p, size_t depth)
{
    return grouped_shared<few_grouped>(depth) <= platform_shared_bytes(p);
}

size_t encode_groups_sum_rows(const platform *p, size_t rows, size_t cols, size_t depth)
{
    return rows_apart(p, rows, cols, grouped_shared<norm_rows>(depth));
}

void encode_multiply_groups_norm(platform *p, const encode_linear *linear, const encode_norm *norm,
                                 const encode_groups *in, size_t rows, half_t *x, float *sums,
                                 const encode_narrowing *narrow)
{
    groups_job j = {};
    j.product = {in->bytes, reinterpret_cast<const unsigned char *>(linear->bytes), linear->cols,
                 linear->depth};
    j.steps = in->steps;
    j.step = linear->step;
    j.bias = linear->bias;
    j.sums = sums;
    size_t shared = grouped_shared<norm_rows>(linear->depth);
    if (whole_rows(p, rows, linear->cols, shared)) {
        norm_job with = {linear->bias, *norm, x, *narrow};
        narrow->bytes ? start_norm<true>(p, j, with, rows, shared)
                      : start_norm<false>(p, j, with, rows, shared);
        return;
    }
    bool many = rows > FEW && grouped_shared<many_grouped>(linear->depth)
                                  <= platform_shared_bytes(p);
    many ? start_groups<many_grouped>(p, j, rows) : start_groups<few_grouped>(p, j, rows);
    encode_norm_rows(p, norm, sums, rows, linear->cols, x, narrow);
}
