// Inverted files on CUDA, the second kernel and the third: sums of the codes of all rows in the
// cells that were chosen, and which of them are candidates. A warp takes eight blocks of rows of
// the query's cells, put one behind the other: four lanes a block, eight rows a lane. Codes of four
// bits are looked up in registers, four at a time, by the instruction that permutes bytes (after
// André et al., "Quicker ADC", 2019); codes of eight in shared memory.
#include "compute/cuda/ivf_cuda.cuh"

namespace {

enum { LANE_ROWS = 8 };

// ---- codes ------------------------------------------------------------------------------------

__device__ inline uint32_t file_byte(const uint32_t words[16], unsigned byte)
{
    return words[byte / 4] >> 8 * (byte % 4) & 0xff;
}

// Where a file has a row's byte within the 32 of a half group.
__device__ inline unsigned file_row(unsigned row)
{
    return row % 16 * 2 + row / 16;
}

// A group per thread. In files byte b < 32 has parts 0 (low half) and 2 of row b / 2 + 16 (b % 2),
// byte 32 + b parts 1 and 3; here a lane's 16 bytes have eight rows: of four bits a word for each
// part, of eight bits two words for each of two parts.
__global__ void __launch_bounds__(IVF_THREADS) arrange_kernel(uint4 *codes, size_t groups,
                                                              bool wide)
{
    size_t group = (size_t)blockIdx.x * IVF_THREADS + threadIdx.x;
    if (group >= groups)
        return;
    uint32_t words[16];
    UNROLL
    for (int i = 0; i < 4; i++) {
        uint4 piece = codes[group * 4 + i];
        words[4 * i] = piece.x;
        words[4 * i + 1] = piece.y;
        words[4 * i + 2] = piece.z;
        words[4 * i + 3] = piece.w;
    }
    for (unsigned lane = 0; lane < 4; lane++) {
        uint32_t out[4] = {};
        for (unsigned i = 0; i < LANE_ROWS; i++)
            for (unsigned part = 0; part < (wide ? 2u : 4u); part++) {
                unsigned byte = part % 2 * 32 + file_row(lane * LANE_ROWS + i);
                uint32_t code = file_byte(words, byte);
                if (wide)
                    out[2 * part + i / 4] |= code << 8 * (i % 4);
                else
                    out[part] |= (part >= 2 ? code >> 4 : code & 15) << 4 * i;
            }
        uint4 piece;
        piece.x = out[0];
        piece.y = out[1];
        piece.z = out[2];
        piece.w = out[3];
        codes[group * 4 + lane] = piece;
    }
}

// ---- sums -------------------------------------------------------------------------------------

// Of eight rows, two in a word: even[h] has rows 4 h and 4 h + 2, odd[h] the next ones.
struct row_sums {
    uint32_t even[2], odd[2];
};

__device__ inline void add_bytes(row_sums &s, int half, uint32_t bytes)
{
    s.even[half] += bytes & 0x00ff00ffu;
    s.odd[half] += bytes >> 8 & 0x00ff00ffu;
}

// A part of four bits: eight codes are looked up in a table of 16 bytes, of which the permutation
// reaches eight, by their low three bits; their top bits choose between the two.
__device__ inline void look_up(uint32_t out[2], uint32_t codes, uint4 table)
{
    uint32_t low = codes & 0x77777777u, which = (codes >> 1 & 0x44444444u) | 0x32103210u;
    UNROLL
    for (int half = 0; half < 2; half++) {
        uint32_t first = pick_bytes(table.x, table.y, low >> 16 * half & 0xffff);
        uint32_t second = pick_bytes(table.z, table.w, low >> 16 * half & 0xffff);
        out[half] = pick_bytes(first, second, which >> 16 * half & 0xffff);
    }
}

// Entries are at most 127, so that those of two parts fit a byte.
__device__ inline void add_group(row_sums &s, uint4 codes, const uint4 *tables)
{
    uint32_t a[2], b[2];
    look_up(a, codes.x, tables[0]);
    look_up(b, codes.y, tables[1]);
    add_bytes(s, 0, a[0] + b[0]);
    add_bytes(s, 1, a[1] + b[1]);
    look_up(a, codes.z, tables[2]);
    look_up(b, codes.w, tables[3]);
    add_bytes(s, 0, a[0] + b[0]);
    add_bytes(s, 1, a[1] + b[1]);
}

__device__ inline uint32_t look_up_wide(uint32_t codes, const uint8_t *table)
{
    return table[codes & 255] | (uint32_t)table[codes >> 8 & 255] << 8
           | (uint32_t)table[codes >> 16 & 255] << 16 | (uint32_t)table[codes >> 24] << 24;
}

__device__ inline void add_group_wide(row_sums &s, uint4 codes, const uint8_t *tables)
{
    add_bytes(s, 0, look_up_wide(codes.x, tables));
    add_bytes(s, 1, look_up_wide(codes.y, tables));
    add_bytes(s, 0, look_up_wide(codes.z, tables + 256));
    add_bytes(s, 1, look_up_wide(codes.w, tables + 256));
}

// ---- which rows -------------------------------------------------------------------------------

// The eight rows of a lane: where they lie, and how many of them there are.
struct lane_rows {
    unsigned cell, block, count;
};

// Of virtual block `at`: the cell whose blocks, put behind those before it, hold it.
__device__ inline lane_rows rows_at(const ivf_data &d, const uint32_t *chosen,
                                    const uint32_t *first, unsigned probes, unsigned at)
{
    unsigned low = 0, high = probes;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (first[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    lane_rows r;
    r.cell = chosen[low];
    unsigned block = at - first[low], begin = block * IVF_BLOCK_ROWS
                                              + threadIdx.x % 4 * LANE_ROWS;
    unsigned rows = d.cell[r.cell].rows;
    r.block = d.cell[r.cell].first + block;
    r.count = begin < rows ? rows - begin : 0;
    r.count = r.count < LANE_ROWS ? r.count : (unsigned)LANE_ROWS;
    return r;
}

__device__ inline uint32_t entry_at(const ivf_data &d, const lane_rows &r, unsigned i)
{
    return d.entries[(size_t)r.block * IVF_BLOCK_ROWS + threadIdx.x % 4 * LANE_ROWS + i];
}

// Whether row i of a lane may be found; a row that there is not only stands in a damaged file.
__device__ inline bool may(const ivf_data &d, const lane_rows &r, unsigned i,
                           const uint64_t *allowed, uint32_t *entry)
{
    if (i >= r.count)
        return false;
    *entry = entry_at(d, r, i);
    return *entry < d.rows && ivf_passes(allowed, *entry);
}

// The best score there can be is table_most, because the best cell's is 0.
__device__ inline unsigned bin_of(int score, unsigned most, unsigned shift)
{
    unsigned bin = ((unsigned)((int)most - score)) >> shift;
    return bin < IVF_BINS ? bin : IVF_BINS - 1;
}

__device__ inline unsigned sum_of(uint4 sums, int i)
{
    uint32_t word = i < 2 ? sums.x : i < 4 ? sums.y : i < 6 ? sums.z : sums.w;
    return i % 2 ? word >> 16 : word & 0xffff;
}

// ---- scan -------------------------------------------------------------------------------------

__device__ inline uint4 sum_codes(const ivf_data &d, const lane_rows &r, const uint8_t *tables)
{
    const uint4 *codes = d.codes + (size_t)r.block * d.groups * 4 + threadIdx.x % 4;
    row_sums s = {};
    uint4 next = codes[0];
    for (unsigned group = 0; group < d.groups; group++) {
        uint4 own = next;
        if (group + 1 < d.groups)
            next = codes[(group + 1) * 4];      // on its way while this one is looked up
        if (d.wide)
            add_group_wide(s, own, tables + group * 512);
        else
            add_group(s, own, reinterpret_cast<const uint4 *>(tables) + group * 4);
    }
    uint4 out;
    out.x = (s.even[0] & 0xffff) | s.odd[0] << 16;
    out.y = s.even[0] >> 16 | (s.odd[0] & 0xffff0000u);
    out.z = (s.even[1] & 0xffff) | s.odd[1] << 16;
    out.w = s.even[1] >> 16 | (s.odd[1] & 0xffff0000u);
    return out;
}

__host__ __device__ inline size_t scan_bytes(unsigned table_bytes)
{
    return table_bytes + IVF_BINS * sizeof(uint32_t) + (IVF_WARPS + 8) * sizeof(unsigned);
}

__global__ void __launch_bounds__(IVF_THREADS) scan_kernel(ivf_data d, ivf_work w)
{
    SHARED(uint8_t, tables);
    uint32_t *bins = reinterpret_cast<uint32_t *>(tables + w.table_bytes);
    unsigned *scratch = bins + IVF_BINS, *out = scratch + IVF_WARPS;
    size_t q = blockIdx.x;
    ivf_state *state = w.state + q;
    unsigned probes = w.job->probes, blocks = state->blocks, shift = state->shift;
    unsigned most = state->table_most, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t *chosen = w.chosen + q * (w.probes_room + 1);
    const uint32_t *first = w.first + q * (w.probes_room + 1);
    const uint64_t *allowed = w.job->masked ? w.allowed : nullptr;
    for (unsigned i = threadIdx.x; i < w.table_bytes / 16; i += IVF_THREADS)
        reinterpret_cast<uint4 *>(tables)[i]
            = reinterpret_cast<const uint4 *>(w.tables + q * w.table_bytes)[i];
    for (unsigned i = threadIdx.x; i < IVF_BINS; i += IVF_THREADS)
        bins[i] = 0;
    __syncthreads();
    unsigned step = gridDim.y * IVF_WARPS * IVF_TILE_BLOCKS;
    for (unsigned tile = (blockIdx.y * IVF_WARPS + warp) * IVF_TILE_BLOCKS; tile < blocks;
         tile += step) {
        unsigned at = tile + lane / 4;
        if (at >= blocks)
            continue;
        lane_rows r = rows_at(d, chosen, first, probes, at);
        uint4 sums = sum_codes(d, r, tables);
        *reinterpret_cast<uint4 *>(w.sums + q * w.rows_room + at * IVF_BLOCK_ROWS
                                   + lane % 4 * LANE_ROWS) = sums;
        int base = w.bases[q * d.cells + r.cell];
        UNROLL
        for (int i = 0; i < LANE_ROWS; i++) {
            uint32_t entry;
            if ((unsigned)i < r.count && (!allowed || may(d, r, i, allowed, &entry)))
                atomicAdd(&bins[bin_of(base + (int)sum_of(sums, i), most, shift)], 1u);
        }
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < IVF_BINS; i += IVF_THREADS)
        if (bins[i])
            atomicAdd(&w.bins[q * IVF_BINS + i], bins[i]);
    if (!last_block(&state->scanned, gridDim.y, scratch))
        return;
    find_bin<true>(w.bins + q * IVF_BINS, IVF_BINS, w.job->candidates, scratch, out);
    if (threadIdx.x == 0)
        state->bin = out[0];
}

// ---- gather -----------------------------------------------------------------------------------

// Room for `count` things of this thread in a list of the query that has `*held`.
__device__ inline unsigned reserve(unsigned count, unsigned *held, unsigned *scratch)
{
    unsigned before = block_before(count, scratch), all = block_sum(count, scratch);
    __syncthreads();
    if (threadIdx.x == 0)
        scratch[IVF_WARPS] = all > 0 ? atomicAdd(held, all) : 0;
    __syncthreads();
    unsigned begin = scratch[IVF_WARPS];
    __syncthreads();
    return begin + before;
}

// The best of the rows in the bin where the candidates end join them.
__device__ inline void take_border(const ivf_work &w, size_t q, ivf_select *s)
{
    ivf_state *state = w.state + q;
    unsigned certain = read_fresh(&state->certain), border = read_fresh(&state->border);
    unsigned candidates = w.job->candidates;
    certain = certain < candidates ? certain : candidates;
    unsigned left = candidates - certain, wanted = border < left ? border : left;
    const uint64_t *keys = w.border + q * w.rows_room;
    if (threadIdx.x == 0)
        state->listed = certain + wanted;
    if (wanted == 0)
        return;
    uint64_t least = wanted == border ? 0 : least_kept<true>(keys, border, wanted, s);
    if (threadIdx.x == 0)
        s->out[0] = 0;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < border; i += IVF_THREADS) {
        uint64_t key = read_fresh(keys + i);
        unsigned at = key >= least ? atomicAdd(&s->out[0], 1u) : wanted;
        if (at < wanted)
            w.list[q * w.candidates_room + certain + at] = ivf_key_row(key);
    }
}

// Rows above the bin where the candidates end are candidates; those in it are compared by the last
// block. The order in which a list is filled decides nothing.
__global__ void __launch_bounds__(IVF_THREADS) gather_kernel(ivf_data d, ivf_work w)
{
    SHARED(ivf_select, s);
    size_t q = blockIdx.x;
    ivf_state *state = w.state + q;
    unsigned blocks = state->blocks, bin = state->bin, shift = state->shift;
    unsigned most = state->table_most, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    unsigned probes = w.job->probes;
    const uint32_t *chosen = w.chosen + q * (w.probes_room + 1);
    const uint32_t *first = w.first + q * (w.probes_room + 1);
    const uint64_t *allowed = w.job->masked ? w.allowed : nullptr;
    unsigned turn = IVF_WARPS * IVF_TILE_BLOCKS;
    for (unsigned tile = blockIdx.y * turn; tile < blocks; tile += gridDim.y * turn) {
        unsigned at = tile + warp * IVF_TILE_BLOCKS + lane / 4, certain = 0, border = 0;
        uint64_t keys[LANE_ROWS];
        lane_rows r = {};
        uint4 sums = {};
        int base = 0;
        if (at < blocks) {
            r = rows_at(d, chosen, first, probes, at);
            base = w.bases[q * d.cells + r.cell];
            sums = *reinterpret_cast<const uint4 *>(w.sums + q * w.rows_room + at * IVF_BLOCK_ROWS
                                                    + lane % 4 * LANE_ROWS);
        }
        UNROLL
        for (int i = 0; i < LANE_ROWS; i++) {
            int score = base + (int)sum_of(sums, i);
            unsigned own = bin_of(score, most, shift);
            uint32_t entry = 0;
            bool found = own <= bin && may(d, r, i, allowed, &entry);
            keys[i] = found ? ivf_key((uint32_t)score ^ 0x80000000u, entry) : 0;
            certain += found && own < bin;
            border += found && own == bin;
        }
        unsigned into = reserve(certain, &state->certain, s->scratch);
        unsigned beside = reserve(border, &state->border, s->scratch);
        UNROLL
        for (int i = 0; i < LANE_ROWS; i++) {
            if (!keys[i])
                continue;
            int score = base + (int)sum_of(sums, i);
            if (bin_of(score, most, shift) == bin)
                w.border[q * w.rows_room + beside++] = keys[i];
            else if (into < w.candidates_room)
                w.list[q * w.candidates_room + into++] = ivf_key_row(keys[i]);
        }
    }
    if (last_block(&state->gathered, gridDim.y, s->scratch))
        take_border(w, q, s);
}

// Many for one query, one for each of many.
unsigned blocks_each(const platform *p, size_t queries)
{
    size_t all = 4 * platform_processors(p);
    return (unsigned)(queries < all ? all / queries : 1);
}

}

size_t ivf_scan_shared(const ivf_data *d)
{
    return scan_bytes(d->groups * ivf_group_parts(*d) * ivf_codes(*d));
}

void ivf_arrange(platform *p, uint4 *codes, size_t groups, bool wide)
{
    LAUNCH(arrange_kernel, (unsigned)((groups + IVF_THREADS - 1) / IVF_THREADS), IVF_THREADS, 0,
           platform_stream(p), codes, groups, wide);
    platform_started(p, "the order of codes");
}

void ivf_scan(platform *p, const ivf_data *d, const ivf_work *w, size_t queries)
{
    auto *kernel = scan_kernel;
    size_t shared = scan_bytes(w->table_bytes);
    platform_allow_shared(p, reinterpret_cast<const void *>(kernel), shared);
    LAUNCH(kernel, dim3((unsigned)queries, blocks_each(p, queries)), IVF_THREADS, shared,
           platform_stream(p), *d, *w);
    platform_started(p, "the scan of codes");
}

void ivf_gather(platform *p, const ivf_data *d, const ivf_work *w, size_t queries)
{
    LAUNCH(gather_kernel, dim3((unsigned)queries, blocks_each(p, queries)), IVF_THREADS,
           sizeof(ivf_select), platform_stream(p), *d, *w);
    platform_started(p, "the choice of candidates");
}
