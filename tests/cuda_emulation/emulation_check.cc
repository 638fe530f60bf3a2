// Whether the emulation finds what it says it finds: small kernels, each with one mistake, must
// stop their process; and those without must not. What concerns accesses is found in one of two
// builds: where they tell emulation_races.cc of themselves, or under AddressSanitizer (guard.h).
#include "emulation.cuh"

#include <cstdio>
#include <cstdlib>
#include <sys/wait.h>
#include <unistd.h>

#include "compute/cuda/platform.cuh"

#ifdef AKIN_EMULATION_TOLD
static const bool is_told = true;
#else
static const bool is_told = false;
#endif
#ifdef __SANITIZE_ADDRESS__
static const bool is_guarded = true;
#else
static const bool is_guarded = false;
#endif

enum { THREADS = 64 };

static volatile float sink;      // so that what is read is read
alignas(16) static float numbers[4 * THREADS];

static void neighbours(bool before, bool after)
{
    SHARED(float, tile);
    unsigned i = threadIdx.x;
    tile[i] = (float)i;
    if (before)
        __syncthreads();
    float other = tile[(i + 33) % THREADS];
    if (after)
        __syncthreads();
    tile[i] = other;
    __syncthreads();
    sink = tile[0];
}

static void right() { neighbours(true, true); }
static void no_barrier_before() { neighbours(false, true); }
static void no_barrier_after() { neighbours(true, false); }

// A shuffle orders no memory, and neither does the order in which lanes happen to run.
static void in_a_warp(bool synced)
{
    SHARED(float, tile);
    tile[threadIdx.x] = 1;
    if (synced)
        __syncwarp();
    float x = warp_shuffle(1.0f, 0);
    sink = x + tile[threadIdx.x ^ 1];
}

static void right_warp() { in_a_warp(true); }
static void only_a_shuffle() { in_a_warp(false); }

static void divergent()
{
    if (threadIdx.x < 40)
        __syncthreads();
    else
        __syncwarp();
    __syncthreads();
}

static void copies(bool waits, bool meets)
{
    SHARED(float, tile);
    copy_async(tile + 4 * threadIdx.x, numbers + 4 * threadIdx.x, threadIdx.x % 2 == 0);
    copy_commit();
    if (waits)
        copy_wait<0>();
    if (meets)
        __syncthreads();
    sink = tile[4 * ((threadIdx.x + 1) % THREADS)];
    if (!waits)
        copy_wait<0>();
}

static void right_copy() { copies(true, true); }
static void copy_without_wait() { copies(false, true); }
static void copy_without_barrier() { copies(true, false); }

static void copy_over_what_is_read()
{
    SHARED(float, tile);
    tile[4 * threadIdx.x] = 1;
    __syncthreads();
    sink = tile[4 * ((threadIdx.x + 40) % THREADS)];
    copy_async(tile + 4 * threadIdx.x, numbers, true);
    copy_commit();
    copy_wait<0>();
}

static void never_waits()
{
    SHARED(float, tile);
    copy_async(tile + 4 * threadIdx.x, numbers, true);
    copy_commit();
}

static void misaligned_copy()
{
    SHARED(float, tile);
    copy_async(tile + 4 * threadIdx.x, numbers + 1, true);
    copy_commit();
    copy_wait<0>();
}

static void misaligned_load()
{
    sink = (float)reinterpret_cast<const uint4 *>(numbers + 2 + threadIdx.x % 2)->x;
}

static void misaligned_matrix()
{
    SHARED(uint16_t, tile);
    uint32_t out[4];
    for (unsigned i = threadIdx.x; i < 1024; i += THREADS)
        tile[i] = 0;
    __syncthreads();
    warp_load_matrices(out, tile + 12 * (threadIdx.x % 32));
}

static void unwritten()
{
    SHARED(float, tile);
    if (threadIdx.x)
        tile[threadIdx.x] = 1;
    __syncthreads();
    sink = tile[threadIdx.x];
}

static void beyond()
{
    SHARED(float, tile);
    tile[4 * THREADS - 1 + threadIdx.x / 63] = 1;
}

static void counting(bool plain)
{
    SHARED(unsigned, count);
    if (threadIdx.x == 0)
        *count = 0;
    __syncthreads();
    if (plain)
        *count = *count + 1;
    else
        atomicAdd(count, 1);
    __syncthreads();
    sink = (float)*count;
}

static void right_count() { counting(false); }
static void plain_count() { counting(true); }

// An array of a thread's own, read at an index that its neighbour has.
static void an_array(unsigned count)
{
    float mine[8];
    for (unsigned i = 0; i < 8; i++)
        mine[i] = (float)i;
    unsigned at = gather_one(threadIdx.x % count, (int)(threadIdx.x % 32) ^ 1);
    __syncthreads();
    sink = mine[at];
}

static void right_array() { an_array(8); }
static void beyond_an_array() { an_array(9); }

static float *of_the_card;      // [THREADS - 1]

static void right_memory() { of_the_card[threadIdx.x % (THREADS - 1)] = 1; }
static void beyond_memory() { of_the_card[threadIdx.x] = 1; }

static void nothing() {}

// Who finds it.
enum finder { ALWAYS, TOLD, GUARDED };

static const struct trial {
    const char *name;
    void (*kernel)();
    bool right;
    finder by = ALWAYS;
    dim3 grid = dim3(2), block = dim3(THREADS);
    size_t shared = 16 * THREADS;
} trials[] = {
    {"barriers", right, true},
    {"no barrier after a write", no_barrier_before, false, TOLD},
    {"no barrier after a read", no_barrier_after, false, TOLD},
    {"a warp's barrier", right_warp, true},
    {"a shuffle for a barrier", only_a_shuffle, false, TOLD},
    {"a barrier that some do not reach", divergent, false},
    {"a copy", right_copy, true},
    {"a copy that is not waited for", copy_without_wait, false, TOLD},
    {"a copy that others do not wait for", copy_without_barrier, false, TOLD},
    {"a copy over what others read", copy_over_what_is_read, false, TOLD},
    {"an end with a copy under way", never_waits, false},
    {"a copy from an odd place", misaligned_copy, false},
    {"a load from an odd place", misaligned_load, false},
    {"a matrix at an odd place", misaligned_matrix, false},
    {"a read of what nobody wrote", unwritten, false, TOLD},
    {"a write beyond the end", beyond, false},
    {"an array", right_array, true},
    {"a read beyond an array", beyond_an_array, false, GUARDED},
    {"memory of the card", right_memory, true},
    {"a write beyond memory of the card", beyond_memory, false, GUARDED},
    {"an atomic count", right_count, true},
    {"a count that is not atomic", plain_count, false, TOLD},
    {"as many threads as there may be", nothing, true, ALWAYS, dim3(1), dim3(1024)},
    {"too many threads", nothing, false, ALWAYS, dim3(1), dim3(1056)},
    {"no block", nothing, false, ALWAYS, dim3(0)},
    {"too many rows of blocks", nothing, false, ALWAYS, dim3(1, 65536)},
    {"as much shared memory as there may be", nothing, true, ALWAYS, dim3(1), dim3(32), 227 << 10},
    {"too much shared memory", nothing, false, ALWAYS, dim3(1), dim3(32), (227 << 10) + 1},
};

int main()
{
    int failures = 0, run = 0;
    platform *p;
    void *memory;
    if (platform_open(0, &p, nullptr, CUDA_USE_GRAPH) != AKIN_OK ||
        platform_allocate(p, (THREADS - 1) * sizeof *of_the_card, &memory, nullptr) != AKIN_OK)
        return 2;
    of_the_card = static_cast<float *>(memory);
    for (const trial &each : trials) {
        if ((each.by == TOLD && !is_told) || (each.by == GUARDED && !is_guarded))
            continue;
        run++;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            if (!each.right && !freopen("/dev/null", "w", stderr))
                _exit(2);
            emulation::run(each.grid, each.block, each.shared, each.kernel);
            _exit(0);
        }
        int state = 0;
        if (child < 0 || waitpid(child, &state, 0) != child)
            return 2;
        bool passed = WIFEXITED(state) && WEXITSTATUS(state) == 0;
        if (passed != each.right || (WIFEXITED(state) && WEXITSTATUS(state) == 2)) {
            printf("FAILED %s: %s\n", each.name, passed ? "not found" : "taken for a mistake");
            failures++;
        }
    }
    platform_release(p, memory);
    platform_close(p);
    printf("emulation_check: %d kernels, %d failed\n", run, failures);
    return failures > 0;
}
