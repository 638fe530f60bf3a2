// What a model of taste says of a history. A block has one request. Rows of weights are added one
// after the other, each weight by a thread, two sums at once by half of the threads each, so that
// every sum has one order; the next rows are on their way meanwhile.
#include "compute/cuda/personal_cuda.cuh"

namespace {

enum {
    WARPS = PERSONAL_WARPS, THREADS = PERSONAL_THREADS, HALF = THREADS / 2,
    AHEAD = 8,                          // rows on their way
    SCALED_BEST = 20,
    SORTED = 4096,                      // room for all items of a model
};

static_assert((int)PERSONAL_ROW_MAX <= (int)HALF && (int)PERSONAL_MODEL_MAX <= (int)SORTED, "room");

struct room {
    float *sums[2];             // [PERSONAL_MODEL_MAX] each
    float *scores;              // [PERSONAL_MODEL_MAX]
    uint32_t *sorted;           // [SORTED]
    float *means, *user;        // [PERSONAL_HEADS][PERSONAL_WIDTH_MAX], [PERSONAL_WIDTH_MAX]
    float *warps;               // [WARPS]
};

enum { ROOM_BYTES = (3 * PERSONAL_MODEL_MAX + SORTED + (PERSONAL_HEADS + 1) * PERSONAL_WIDTH_MAX
                     + WARPS) * sizeof(float) };

__device__ inline room room_in(float *block)
{
    room r;
    r.sums[0] = block;
    r.sums[1] = r.sums[0] + PERSONAL_MODEL_MAX;
    r.scores = r.sums[1] + PERSONAL_MODEL_MAX;
    r.sorted = reinterpret_cast<uint32_t *>(r.scores + PERSONAL_MODEL_MAX);
    r.means = reinterpret_cast<float *>(r.sorted + SORTED);
    r.user = r.means + PERSONAL_HEADS * PERSONAL_WIDTH_MAX;
    r.warps = r.user + PERSONAL_WIDTH_MAX;
    return r;
}

struct history {
    const uint32_t *places;     // oldest first
    unsigned count;
};

// One of two sums by each half of the threads; -1: none.
__device__ inline void add_rows(const room &r, const device_taste &taste, const history &h,
                                int first, int second)
{
    int half = (int)threadIdx.x / HALF, which = half ? second : first;
    unsigned t = threadIdx.x % HALF, most = h.count, mine = 0;
    unsigned reach = taste.reach[first];
    if (second >= 0 && taste.reach[second] > reach)
        reach = taste.reach[second];
    most = reach < most ? reach : most;
    if (which >= 0)
        mine = taste.reach[which] < h.count ? taste.reach[which] : h.count;
    const personal_sum &sum = taste.sums[which < 0 ? first : which];
    float *out = r.sums[half];
    for (unsigned i = t; i < taste.size; i += HALF)
        out[i] = 0;
    __syncthreads();
    for (unsigned begin = 0; begin < most; begin += AHEAD) {
        float values[AHEAD];
        unsigned columns[AHEAD];
        UNROLL
        for (unsigned i = 0; i < AHEAD; i++) {
            unsigned age = begin + i;
            values[i] = 0;
            columns[i] = 0;
            if (age < mine && t < sum.width) {
                const unsigned char *row = sum.rows + h.places[h.count - 1 - age] * sum.stride;
                values[i] = sum.weights[age] * reinterpret_cast<const float *>(row)[t];
                columns[i] = reinterpret_cast<const uint16_t *>(
                    reinterpret_cast<const float *>(row) + sum.width)[t];
            }
        }
        UNROLL
        for (unsigned i = 0; i < AHEAD; i++) {
            if (begin + i < mine && t < sum.width)
                out[columns[i]] += values[i];
            __syncthreads();
        }
    }
}

// scores += weight * what a sum says.
__device__ inline void say_sum(const room &r, const device_taste &taste, const history &h,
                               int which, const float *from, float weight)
{
    const personal_sum &sum = taste.sums[which];
    float total = sum.totals[h.count], nothing = logf(sum.floor);
    for (unsigned i = threadIdx.x; i < taste.size; i += THREADS) {
        float said = from[i];
        if (sum.shares)
            said = (said > 0 || said < 0 ? logf(said / total + sum.floor) : nothing)
                   - sum.shares[i];
        r.scores[i] += weight * said;
    }
}

__device__ inline void say_scaled(const room &r, const device_taste &taste, const history &h,
                                  const float *ease, float weight)
{
    float sum = 0;
    for (unsigned i = threadIdx.x; i < SORTED; i += THREADS) {
        float value = i < taste.size ? ease[i] : 0;
        r.sorted[i] = value > 0 ? score_bits(value) : 0;
    }
    __syncthreads();
    for (unsigned e = threadIdx.x; e < h.count; e += THREADS)
        r.sorted[h.places[e]] = 0;
    __syncthreads();
    block_sort(r.sorted, SORTED);
    for (unsigned i = 0; i < SCALED_BEST; i++)
        sum += bits_score(r.sorted[i]);
    sum /= SCALED_BEST;
    float scale = 1 / (sum > 0.05f ? sum : 0.05f);
    for (unsigned i = threadIdx.x; i < taste.size; i += THREADS)
        r.scores[i] += weight * (ease[i] * scale);
}

// ---- the sequence ---------------------------------------------------------------------------

template <typename F>
__device__ inline float block_join(const room &r, float mine, F both)
{
    for (int step = 16; step > 0; step /= 2)
        mine = both(mine, warp_shuffle(mine, (int)(threadIdx.x % 32) ^ step));
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        r.warps[threadIdx.x / 32] = mine;
    __syncthreads();
    float all = r.warps[0];
    for (int w = 1; w < WARPS; w++)
        all = both(all, r.warps[w]);
    return all;
}

__device__ inline void remember(const room &r, const personal_sequence &s, const history &h)
{
    unsigned used = h.count < s.length ? h.count : (unsigned)s.length, dim = (unsigned)s.dim;
    for (unsigned i = threadIdx.x; i < PERSONAL_HEADS * dim; i += THREADS) {
        unsigned head = i / dim, d = i % dim;
        const float *weights = s.weights + head * s.length;
        float sum = 0;
        for (unsigned begin = 0; begin < used; begin += AHEAD) {
            float values[AHEAD];
            UNROLL
            for (unsigned a = 0; a < AHEAD; a++)
                values[a] = begin + a < used
                                ? s.history[h.places[h.count - 1 - begin - a] * s.dim + d] : 0;
            UNROLL
            for (unsigned a = 0; a < AHEAD; a++)
                if (begin + a < used)
                    sum += weights[begin + a] * values[a];
        }
        r.means[head * PERSONAL_WIDTH_MAX + d] = sum / s.totals[head * (s.length + 1) + used];
    }
    __syncthreads();
    for (unsigned d = threadIdx.x; d < dim; d += THREADS) {
        float sum = 0;
        for (unsigned head = 0; head < PERSONAL_HEADS; head++)
            sum += s.scale[head * dim + d] * r.means[head * PERSONAL_WIDTH_MAX + d];
        r.user[d] = sum;
    }
    __syncthreads();
}

__device__ inline void say_sequence(const room &r, const device_taste &taste, const history &h,
                                    float weight)
{
    const personal_sequence &s = taste.sequence;
    float *logits = r.sums[0], top = -INFINITY, sum = 0;
    remember(r, s, h);
    for (unsigned i = threadIdx.x; i < taste.size; i += THREADS) {
        float logit = 0;
        for (unsigned d = 0; d < s.dim; d++)
            logit = fmaf(s.output[d * taste.size + i], r.user[d], logit);
        logit += s.output[s.dim * taste.size + i];
        logits[i] = logit;
        top = fmaxf(top, logit);
    }
    top = block_join(r, top, [](float a, float b) { return fmaxf(a, b); });
    for (unsigned i = threadIdx.x; i < taste.size; i += THREADS)
        sum += expf(logits[i] - top);
    sum = block_join(r, sum, [](float a, float b) { return a + b; });
    float total = logf(sum) + top;
    for (unsigned i = threadIdx.x; i < taste.size; i += THREADS)
        r.scores[i] += weight * (logits[i] - (total + s.shares[i]));
    __syncthreads();
}

// ---- all of it ------------------------------------------------------------------------------

__device__ inline bool is_wanted(const personal_mood &mood, int sum)
{
    float weight = mood.sums[sum];
    return weight > 0 || weight < 0
           || (sum == PERSONAL_EASE && (mood.scaled > 0 || mood.scaled < 0));
}

__global__ void __launch_bounds__(THREADS, 2) taste_kernel(taste_job j)
{
    SHARED(float, block);
    room r = room_in(block);
    const device_taste &taste = j.taste;
    const personal_request *request = j.requests + blockIdx.x;
    if (request->mood == PERSONAL_NO_MOOD)
        return;
    const personal_mood &mood = taste.moods[request->mood];
    history h = {j.lists + request->history_first, request->history_count};
    for (unsigned i = threadIdx.x; i < taste.size; i += THREADS)
        r.scores[i] = mood.standing[taste.items[i]];
    __syncthreads();
    for (int sum = 0, pair[2], found = 0; h.count && sum <= PERSONAL_SUMS; sum++) {
        if (sum < PERSONAL_SUMS && is_wanted(mood, sum))
            pair[found++] = sum;
        if (found < 2 && (sum < PERSONAL_SUMS || found == 0))
            continue;
        add_rows(r, taste, h, pair[0], found > 1 ? pair[1] : -1);
        for (int i = 0; i < found; i++) {
            if (mood.sums[pair[i]] > 0 || mood.sums[pair[i]] < 0)
                say_sum(r, taste, h, pair[i], r.sums[i], mood.sums[pair[i]]);
            if (pair[i] == PERSONAL_EASE && (mood.scaled > 0 || mood.scaled < 0))
                say_scaled(r, taste, h, r.sums[i], mood.scaled);
        }
        __syncthreads();
        found = 0;
    }
    if (h.count && (mood.sequence > 0 || mood.sequence < 0))
        say_sequence(r, taste, h, mood.sequence);
    __syncthreads();
    for (unsigned i = threadIdx.x; i < taste.size; i += THREADS)
        j.scores[(size_t)blockIdx.x * taste.size + i] = r.scores[i];
}

}

bool personal_say_fits(const platform *p)
{
    return (size_t)ROOM_BYTES <= platform_shared_bytes(p);
}

void personal_say(platform *p, const taste_job *job, size_t count)
{
    platform_allow_shared(p, reinterpret_cast<const void *>(taste_kernel), ROOM_BYTES);
    LAUNCH(taste_kernel, (unsigned)count, THREADS, ROOM_BYTES, platform_stream(p), *job);
    platform_started(p, "what a model says");
}
