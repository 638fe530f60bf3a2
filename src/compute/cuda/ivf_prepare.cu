// Inverted files on CUDA, the first kernel: what a query needs before rows are looked at. Floats
// are added and multiplied as src/index/ivfpq_prepare.c does it, fused only where that is, so that
// cells and tables are the same; this file is compiled without contraction.
#include "compute/cuda/ivf_cuda.cuh"

#include <cfloat>
#include <cmath>

namespace {

enum { TEAM = 16, TEAMS = IVF_THREADS / TEAM };     // lanes that make the table of a part

struct query_block {
    float *x;                   // [parts * width], zeros behind dim
    int16_t *narrow;            // [depth]
    float *low;                 // [parts of all groups]
    uint32_t *buckets;          // [IVF_BUCKETS]
    unsigned *scratch;          // [IVF_WARPS]
    unsigned *out;              // [2]
};

__host__ __device__ inline size_t padded(const ivf_data &d)
{
    size_t numbers = (size_t)d.parts * d.width;
    return ((numbers > d.dim ? numbers : d.dim) + 3) / 4 * 4;
}

__host__ __device__ inline size_t all_parts(const ivf_data &d)
{
    return (size_t)d.groups * ivf_group_parts(d);
}

// The query in twelve bits. Returns its scale.
__device__ inline float narrow_query(const ivf_data &d, const float *query, const query_block &b)
{
    const float magic = 12582912.0f;    // 1.5 2^23: adding it rounds to a whole number, to even
    const float top = (float)IVF_QUERY_LEVELS;
    float most = 0;
    for (unsigned i = threadIdx.x; i < padded(d); i += IVF_THREADS) {
        float x = i < d.dim ? (d.l2 ? query[i] - d.mean[i] : query[i]) : 0.0f;
        b.x[i] = x;
        most = fmaxf(most, fabsf(x));
    }
    most = block_max(most, b.scratch);
    float scale = most / top, factor = most > 0 ? top / most : 0;
    if (!(factor <= FLT_MAX))
        factor = scale = 0;
    for (unsigned i = threadIdx.x; i < d.depth; i += IVF_THREADS) {
        float level = i < d.dim ? b.x[i] * factor + magic - magic : 0;
        b.narrow[i] = level >= -top && level <= top ? (int16_t)level : (int16_t)0;
    }
    __syncthreads();
    return scale;
}

// The product of a part's code with the query; of the parts behind those, what L2 adds to a row.
__device__ inline float product(const ivf_data &d, const float *x, unsigned part, unsigned code)
{
    if (part < d.parts) {
        unsigned slices = ivf_codes(d) / IVF_SLICE_CODES;
        const float *book = d.codebook + ((size_t)part * slices + code / IVF_SLICE_CODES)
                                         * d.width * IVF_SLICE_CODES + code % IVF_SLICE_CODES;
        float sum = 0;
        for (unsigned i = 0; i < d.width; i++)
            sum = fmaf(x[part * d.width + i], book[i * IVF_SLICE_CODES], sum);
        return sum;
    }
    unsigned used = d.parts + d.norm_parts;
    if (part >= used)
        return 0;
    return d.norm_step * (float)(part + 1 < used ? code * IVF_SLICE_CODES : code);
}

// Tables in bytes; the largest step of any part sets the scale. What is below a part's smallest
// product is the same for all rows.
__device__ inline void make_tables(const ivf_data &d, const query_block &b, uint8_t *tables,
                                   ivf_state *state)
{
    unsigned parts = (unsigned)all_parts(d), codes = ivf_codes(d), lane = threadIdx.x % 32;
    unsigned levels = d.wide ? IVF_WIDE_LEVELS : IVF_TABLE_LEVELS, sum = 0;
    levels = UINT16_MAX / parts < levels ? UINT16_MAX / parts : levels;
    float range = 0;
    for (unsigned first = 0; first < parts; first += TEAMS) {      // whole warps go round
        unsigned part = first + threadIdx.x / TEAM;
        float low = INFINITY, high = -INFINITY;
        for (unsigned code = threadIdx.x % TEAM; code < codes; code += TEAM) {
            float value = product(d, b.x, part, code);
            low = fminf(low, value);
            high = fmaxf(high, value);
        }
        for (unsigned step = TEAM / 2; step > 0; step /= 2) {
            low = fminf(low, warp_shuffle(low, (int)(lane ^ step)));
            high = fmaxf(high, warp_shuffle(high, (int)(lane ^ step)));
        }
        if (part < parts && threadIdx.x % TEAM == 0)
            b.low[part] = low;
        range = part < parts ? fmaxf(range, high - low) : range;
    }
    range = block_max(range, b.scratch);
    float step = range > 0 ? range / (float)levels : 1, factor = 1 / step, top = (float)levels;
    if (!(factor <= FLT_MAX)) {
        factor = 0;
        step = 1;
    }
    for (unsigned first = 0; first < parts; first += TEAMS) {
        unsigned part = first + threadIdx.x / TEAM, most = 0;
        for (unsigned code = threadIdx.x % TEAM; code < codes && part < parts; code += TEAM) {
            float level = (product(d, b.x, part, code) - b.low[part]) * factor + 0.5f;
            level = level < top ? level : top;      // NaN is the top as well
            unsigned entry = (uint8_t)(int)level;
            tables[part * codes + code] = (uint8_t)entry;
            most = entry > most ? entry : most;
        }
        for (unsigned half = TEAM / 2; half > 0; half /= 2) {
            unsigned other = warp_shuffle(most, (int)(lane ^ half));
            most = other > most ? other : most;
        }
        sum += threadIdx.x % TEAM == 0 ? most : 0;
    }
    sum = block_sum(sum, b.scratch);
    if (threadIdx.x == 0) {
        unsigned shift = 0;
        while (sum >> shift >= IVF_BINS - 1)
            shift++;
        state->step = step;
        state->table_most = sum;
        state->shift = shift;
    }
}

// One thread, because the order of the sum is the number's bits.
__device__ inline void measure_length(const ivf_data &d, const float *x, ivf_state *state)
{
    float squares = 0;
    for (unsigned i = 0; i < d.dim; i++)
        squares += x[i] * x[i];
    state->length = sqrtf(squares);
}

// What the best row of a cell may score. With L2 a query inside of the cell's reach has nothing to
// win by it.
__device__ inline float promise(const ivf_data &d, unsigned cell, float length, float score)
{
    float reach = IVF_REACH * d.cell[cell].spread;
    if (!d.l2)
        return score + reach * length;
    float distance = sqrtf(fmaxf(0.0f, length * length - 2 * score));
    return score + reach * fmaxf(0.0f, distance - reach);
}

__device__ inline unsigned cell_blocks(const ivf_data &d, unsigned cell)
{
    return (d.cell[cell].rows + IVF_BLOCK_ROWS - 1) / IVF_BLOCK_ROWS;
}

struct cell_range {
    unsigned begin, end;        // of this thread
};

// Scores and promises of all cells; the most and the least promise.
__device__ inline void score_cells(const ivf_data &d, const ivf_work &w, size_t q,
                                   const query_block &b, cell_range own, float promises[2])
{
    const ivf_state *state = w.state + q;
    const int32_t *dots = w.dots + q * d.cells;
    int32_t *bases = w.bases + q * d.cells;
    float query_scale = read_fresh(&state->query_scale), length = read_fresh(&state->length);
    float factor = 1 / read_fresh(&state->step), best = -INFINITY;
    float most = -INFINITY, least = INFINITY;
    for (unsigned c = own.begin; c < own.end; c++) {
        float scale = d.centroid_tails[c].scale * query_scale;
        float score = (float)read_fresh(dots + c) * scale + d.cell[c].offset;
        w.promises[q * d.cells + c] = score;
        best = fmaxf(best, score);
    }
    best = block_max(best, b.scratch);
    for (unsigned c = own.begin; c < own.end; c++) {
        float score = w.promises[q * d.cells + c], steps = (score - best) * factor;
        bases[c] = steps > -(float)IVF_BASE_MAX ? (int32_t)(steps - 0.5f) : -IVF_BASE_MAX;
        float own_promise = promise(d, c, length, score);
        w.promises[q * d.cells + c] = own_promise;
        most = fmaxf(most, own_promise);
        least = fminf(least, own_promise);
    }
    promises[0] = block_max(most, b.scratch);
    promises[1] = -block_max(-least, b.scratch);
}

__device__ inline unsigned bucket_of(float promise, float most, float factor)
{
    float at = (most - promise) * factor;
    return at >= 0 && at < IVF_BUCKETS ? (unsigned)at : IVF_BUCKETS - 1;
}

// The cells that are probed, in order of their numbers: those with the most promise, to the nearest
// 1/1024 of its range, then the first ones.
__device__ inline void choose_cells(const ivf_data &d, const ivf_work &w, size_t q,
                                    const query_block &b)
{
    unsigned each = (d.cells + IVF_THREADS - 1) / IVF_THREADS, probes = w.job->probes;
    cell_range own = {threadIdx.x * each, (threadIdx.x + 1) * each};
    own.begin = own.begin < d.cells ? own.begin : d.cells;
    own.end = own.end < d.cells ? own.end : d.cells;
    const float *promises = w.promises + q * d.cells;
    float ends[2];
    score_cells(d, w, q, b, own, ends);
    float factor = ends[0] > ends[1] ? (float)(IVF_BUCKETS - 1) / (ends[0] - ends[1]) : 0;
    for (unsigned i = threadIdx.x; i < IVF_BUCKETS; i += IVF_THREADS)
        b.buckets[i] = 0;
    __syncthreads();
    for (unsigned c = own.begin; c < own.end; c++)
        atomicAdd(&b.buckets[bucket_of(promises[c], ends[0], factor)], 1u);
    __syncthreads();
    find_bin<false>(b.buckets, IVF_BUCKETS, probes, b.scratch, b.out);
    unsigned last = b.out[0], ties = 0, taken = 0, blocks = 0;
    unsigned wanted = probes - b.out[1];            // of the last bucket
    for (unsigned c = own.begin; c < own.end; c++)
        ties += bucket_of(promises[c], ends[0], factor) == last;
    unsigned tie = block_before(ties, b.scratch);
    unsigned first_tie = tie;
    for (unsigned c = own.begin; c < own.end; c++) {
        unsigned bucket = bucket_of(promises[c], ends[0], factor);
        bool in = bucket < last || (bucket == last && tie < wanted);
        tie += bucket == last;
        taken += in;
        blocks += in ? cell_blocks(d, c) : 0;
    }
    unsigned at = block_before(taken, b.scratch), block = block_before(blocks, b.scratch);
    uint32_t *chosen = w.chosen + q * (w.probes_room + 1);
    uint32_t *first = w.first + q * (w.probes_room + 1);
    tie = first_tie;
    for (unsigned c = own.begin; c < own.end; c++) {
        unsigned bucket = bucket_of(promises[c], ends[0], factor);
        bool in = bucket < last || (bucket == last && tie < wanted);
        tie += bucket == last;
        if (!in)
            continue;
        chosen[at] = c;
        first[at++] = block;
        block += cell_blocks(d, c);
    }
    blocks = block_sum(blocks, b.scratch);
    if (threadIdx.x == 0) {
        w.state[q].blocks = blocks;
        first[probes] = blocks;
    }
}

__host__ __device__ inline size_t prepare_bytes(const ivf_data &d)
{
    return padded(d) * sizeof(float) + (d.depth + 15) / 16 * 16 * sizeof(int16_t)
           + (all_parts(d) + 3) / 4 * 4 * sizeof(float) + IVF_BUCKETS * sizeof(uint32_t)
           + (IVF_WARPS + 8) * sizeof(unsigned);
}

// By blocks 2 and on, eight lanes a cell.
__device__ inline void score_centroids(const ivf_data &d, const ivf_work &w, size_t q,
                                       const query_block &b)
{
    const unsigned teams = IVF_THREADS / 8, stride = teams * (gridDim.x - 2);
    for (unsigned c = (blockIdx.x - 2) * teams; c < d.cells; c += stride) {
        unsigned cell = c + threadIdx.x / 8;
        int sum = team_dot(d.centroids + (size_t)(cell < d.cells ? cell : 0) * d.depth,
                           reinterpret_cast<const uint32_t *>(b.narrow), d.depth);
        if (cell < d.cells && threadIdx.x % 8 == 0)
            w.dots[q * d.cells + cell] = sum;
    }
}

// Block 0 of a query makes its tables, block 1 does what is left, the others score its cells.
__global__ void __launch_bounds__(IVF_THREADS) prepare_kernel(ivf_data d, ivf_work w)
{
    SHARED(float, x);
    query_block b;
    b.x = x;
    b.narrow = reinterpret_cast<int16_t *>(x + padded(d));
    b.low = reinterpret_cast<float *>(b.narrow + (d.depth + 15) / 16 * 16);
    b.buckets = reinterpret_cast<uint32_t *>(b.low + (all_parts(d) + 3) / 4 * 4);
    b.scratch = reinterpret_cast<unsigned *>(b.buckets + IVF_BUCKETS);
    b.out = b.scratch + IVF_WARPS;
    size_t q = blockIdx.y;
    ivf_state *state = w.state + q;
    float scale = narrow_query(d, w.queries + q * d.dim, b);
    if (blockIdx.x == 0) {
        make_tables(d, b, w.tables + q * w.table_bytes, state);
    } else if (blockIdx.x == 1) {
        for (unsigned i = threadIdx.x; i < d.depth; i += IVF_THREADS)
            w.narrow[q * d.depth + i] = b.narrow[i];
        for (unsigned i = threadIdx.x; i < IVF_BINS; i += IVF_THREADS)
            w.bins[q * IVF_BINS + i] = 0;
        if (threadIdx.x == 0) {
            state->query_scale = scale;
            state->certain = state->border = 0;
            measure_length(d, b.x, state);
        }
    } else {
        score_centroids(d, w, q, b);
    }
    if (last_block(&state->prepared, gridDim.x, b.scratch))
        choose_cells(d, w, q, b);
}

}

size_t ivf_prepare_shared(const ivf_data *d)
{
    return prepare_bytes(*d);
}

void ivf_prepare(platform *p, const ivf_data *d, const ivf_work *w, size_t queries)
{
    size_t teams = IVF_THREADS / 8, blocks = (d->cells + teams - 1) / teams;
    size_t most = 2 * platform_processors(p);
    auto *kernel = prepare_kernel;
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), prepare_bytes(*d));
    dim3 grid((unsigned)(2 + (blocks < most ? blocks : most)), (unsigned)queries);
    LAUNCH(kernel, grid, IVF_THREADS, prepare_bytes(*d), platform_stream(p), *d, *w);
    platform_started(p, "the choice of cells");
}
