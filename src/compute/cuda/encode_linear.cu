// Linear maps of the encoder in fp16 with what follows them in the same kernel: bias, GELU, or the
// residual and its LayerNorm; mma.m16n8k16. Every sum runs over the depth in order, sixteen at a
// time, whatever the tile: so tiles for few rows and for many give the same bits.
#include "compute/cuda/encode_tile.cuh"

namespace {

enum { EPILOGUE_PLAIN, EPILOGUE_GELU, EPILOGUE_FLOAT };

typedef tiling<32, 64, 2, 2, 3> few_rows;

struct job {
    factors product;
    const float *bias;
    half_t *out;
    float *sums;                // EPILOGUE_FLOAT
};

template <typename Tiling, int EPILOGUE>
__device__ inline void plain_epilogue(const job &j,
                                      float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4],
                                      half_t *tile, const tile_place &at)
{
    int lane = (int)(threadIdx.x % 32), g = lane / 4, t = lane % 4;
    UNROLL
    for (int n = 0; n < Tiling::COL_TILES; n++) {
        int c = at.warp_col + 8 * n + 2 * t;
        size_t col = at.col + (size_t)c, cols = j.product.cols;
        bool valid = col < cols;
        float bias[2] = {valid ? j.bias[col] : 0, valid ? j.bias[col + 1] : 0};
        UNROLL
        for (int m = 0; m < Tiling::ROW_TILES; m++)
            for (int half = 0; half < 2; half++) {
                int r = at.warp_row + 16 * m + 8 * half + g;
                float low = sums[m][n][2 * half] + bias[0];
                float high = sums[m][n][2 * half + 1] + bias[1];
                if (EPILOGUE == EPILOGUE_GELU) {
                    low = gelu(low);
                    high = gelu(high);
                }
                if (EPILOGUE != EPILOGUE_FLOAT) {
                    *reinterpret_cast<uint32_t *>(tile + r * Tiling::OUT_STRIDE + c)
                        = pack<half_t>(low, high);
                } else if (valid) {
                    float *to = j.sums + (at.row + r) * cols + col;
                    to[0] = low;
                    to[1] = high;
                }
            }
    }
}

template <typename Tiling, int EPILOGUE>
__global__ void __launch_bounds__(Tiling::THREADS) linear_kernel(job j)
{
    SHARED(unsigned char, stages);
    tile_place at = place_of_thread<Tiling>();
    float sums[Tiling::ROW_TILES][Tiling::COL_TILES][4] = {};
    each_stage<Tiling>(j.product, stages, at, [&](const unsigned char *stage) {
        multiply<Tiling>(sums, stage, at);
    });
    half_t *tile = reinterpret_cast<half_t *>(stages);      // where the stages were
    plain_epilogue<Tiling, EPILOGUE>(j, sums, tile, at);
    if (EPILOGUE == EPILOGUE_FLOAT)
        return;
    __syncthreads();
    store_tile<Tiling>(j.out, j.product.cols, tile, Tiling::OUT_STRIDE, at);
}

template <bool NARROW>
__global__ void __launch_bounds__(norm_rows::THREADS) linear_norm_kernel(factors product,
                                                                         norm_job j)
{
    SHARED(unsigned char, stages);
    tile_place at = place_of_thread<norm_rows>();
    float sums[norm_rows::ROW_TILES][norm_rows::COL_TILES][4] = {};
    each_stage<norm_rows>(product, stages, at, [&](const unsigned char *stage) {
        multiply<norm_rows>(sums, stage, at);
    });
    norm_epilogue<norm_rows, NARROW>(j, sums, stages, at);
}

job job_of(const encode_linear *linear, const half_t *in)
{
    job j = {};
    j.product = {reinterpret_cast<const unsigned char *>(in),
                 reinterpret_cast<const unsigned char *>(linear->weight), linear->cols,
                 linear->depth * sizeof(half_t)};
    j.bias = linear->bias;
    return j;
}

template <typename Tiling, int EPILOGUE> void start(platform *p, const job &j, size_t rows)
{
    auto *kernel = linear_kernel<Tiling, EPILOGUE>;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), Tiling::shared());
    LAUNCH(kernel, tile_grid<Tiling>(rows, j.product.cols), Tiling::THREADS, Tiling::shared(),
           platform_stream(p), j);
    platform_started(p, "a linear map");
}

template <int EPILOGUE> void start_sized(platform *p, const job &j, size_t rows)
{
    if (rows > FEW)
        start<many_rows, EPILOGUE>(p, j, rows);
    else
        start<few_rows, EPILOGUE>(p, j, rows);
}

template <bool NARROW>
void start_norm(platform *p, const factors &product, const norm_job &j, size_t rows)
{
    auto *kernel = linear_norm_kernel<NARROW>;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), norm_rows::shared());
    LAUNCH(kernel, tile_grid<norm_rows>(rows, product.cols), norm_rows::THREADS,
           norm_rows::shared(), platform_stream(p), product, j);
    platform_started(p, "a linear map with LayerNorm");
}

}

void encode_multiply(platform *p, const encode_linear *linear, const half_t *x, size_t rows,
                     half_t *out)
{
    job j = job_of(linear, x);
    j.out = out;
    start_sized<EPILOGUE_PLAIN>(p, j, rows);
}

void encode_multiply_gelu(platform *p, const encode_linear *linear, const half_t *x, size_t rows,
                          half_t *out)
{
    job j = job_of(linear, x);
    j.out = out;
    start_sized<EPILOGUE_GELU>(p, j, rows);
}

size_t encode_sum_rows(const platform *p, size_t rows, size_t cols)
{
    return rows_apart(p, rows, cols, norm_rows::shared());
}

void encode_multiply_norm(platform *p, const encode_linear *linear, const encode_norm *norm,
                          const half_t *in, size_t rows, half_t *x, float *sums,
                          const encode_narrowing *narrow)
{
    job j = job_of(linear, in);
    j.sums = sums;
    if (whole_rows(p, rows, linear->cols, norm_rows::shared())) {
        norm_job with = {linear->bias, *norm, x, *narrow};
        narrow->bytes ? start_norm<true>(p, j.product, with, rows)
                      : start_norm<false>(p, j.product, with, rows);
        return;
    }
    start_sized<EPILOGUE_FLOAT>(p, j, rows);
    encode_norm_rows(p, norm, sums, rows, linear->cols, x, narrow);
}
