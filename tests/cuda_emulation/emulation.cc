// Fibers for x86-64, because those of ucontext ask the system at every switch; see emulation.cuh.
#include "emulation.cuh"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "cards.h"
#include "guard.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

// Keeps what a call must keep on the stack, and goes on where the other left off.
extern "C" void emulation_switch(void **kept, void *other);
asm(R"(
    .text
    .globl emulation_switch
    .type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulation_switch, .-emulation_switch
    .section .note.GNU-stack,"",@progbits
    .text
)");

namespace {

enum { STACK_BYTES = 128 << 10, WARP = 32 };

struct copy {
    void *to;
    const void *from;
    bool valid, last;           // last of its group
};

struct fiber {
    void *top;                  // of its stack, while it does not run
    void *guard;                // what AddressSanitizer keeps of it meanwhile
    std::vector<copy> copies;   // that are under way
    std::vector<char> stack;
    dim3 index;
    bool done;
    unsigned block_barriers, warp_barriers, warp_syncs;     // passed so far
};

struct warp {
    unsigned arrived[2];
    unsigned char lanes[2][WARP][emulation::LANE_BYTES];
};

std::vector<fiber> fibers;
std::vector<warp> warps;
std::vector<size_t> order;      // in which threads have their turns
uint32_t shuffled = 1;
std::vector<uint4> shared_block;
size_t shared_extent;
void *scheduler, *scheduler_guard;
const void *scheduler_stack;
size_t scheduler_bytes;
size_t current, threads;
unsigned block_arrived[2];
const std::function<void()> *body;

void tell_here()
{
    const fiber &f = fibers[current];
    emulation::here = {(uint16_t)current, (uint16_t)f.block_barriers, (uint16_t)f.warp_syncs,
                       (uint16_t)f.warp_barriers};
}

// This and the next stay on their stack for ever when a thread has ended: nothing of theirs may be
// marked there for those that come after.
UNGUARDED void leave()
{
    fiber &mine = fibers[current];
    guard_switch(mine.done ? nullptr : &mine.guard, scheduler_stack, scheduler_bytes);
    emulation_switch(&mine.top, scheduler);
    guard_arrived(mine.guard, &scheduler_stack, &scheduler_bytes);
    threadIdx = mine.index;
    tell_here();
}

UNGUARDED void enter()
{
    guard_arrived(nullptr, &scheduler_stack, &scheduler_bytes);
    threadIdx = fibers[current].index;
    tell_here();
    (*body)();
    if (!fibers[current].copies.empty()) {
        fprintf(stderr, "a thread of block %u ends with copies under way\n", blockIdx.x);
        abort();
    }
    fibers[current].done = true;
    leave();
    abort();
}

void start(size_t i)
{
    fiber &f = fibers[i];
    f.stack.resize(STACK_BYTES);
    f.done = false;
    f.block_barriers = f.warp_barriers = f.warp_syncs = 0;
    f.index = dim3((unsigned)(i % blockDim.x), (unsigned)(i / blockDim.x), 0);
    // six registers and the address to go to; the stack is as behind a call there
    uintptr_t end = reinterpret_cast<uintptr_t>(f.stack.data() + STACK_BYTES) / 16 * 16;
    void **top = reinterpret_cast<void **>(end) - 8;
    top[6] = reinterpret_cast<void *>(enter);
    f.top = top;
}

// Fisher and Yates; numbers by George Marsaglia's xorshift.
void shuffle_order()
{
    order.resize(threads);
    for (size_t i = 0; i < threads; i++) {
        shuffled ^= shuffled << 13;
        shuffled ^= shuffled >> 17;
        shuffled ^= shuffled << 5;
        size_t j = shuffled % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

// Whatever blocks forever is a barrier that not all have reached.
void run_block()
{
    size_t left = threads;
    block_arrived[0] = block_arrived[1] = 0;
    for (warp &w : warps)
        w.arrived[0] = w.arrived[1] = 0;
    for (size_t i = 0; i < threads; i++)
        start(i);
    shuffle_order();
    emulation::watch_block(shared_block.data(), shared_extent);
    for (size_t idle = 0; left > 0;) {
        bool moved = false;
        for (size_t turn = 0; turn < threads; turn++) {
            current = order[turn];
            fiber &f = fibers[current];
            if (f.done)
                continue;
            unsigned before = f.block_barriers + f.warp_barriers;
            guard_switch(&scheduler_guard, f.stack.data(), f.stack.size());
            emulation_switch(&scheduler, f.top);
            guard_arrived(scheduler_guard, nullptr, nullptr);
            moved |= f.done || f.block_barriers + f.warp_barriers != before;
            left -= f.done;
        }
        idle = moved ? 0 : idle + 1;
        if (idle > 2) {
            fprintf(stderr, "a barrier that not every thread of block %u reaches\n", blockIdx.x);
            abort();
        }
    }
}

thread_local std::vector<std::function<void()>> *recorded;
std::mutex one_at_a_time;       // of what is above

}

namespace emulation {

moment here;

void misaligned()
{
    fprintf(stderr, "sixteen bytes of block %u, thread %zu, are not aligned\n", blockIdx.x,
            current);
    abort();
}

void record(std::vector<std::function<void()>> *to)
{
    recorded = to;
}

void ask(const std::function<void()> &what)
{
    if (recorded)
        recorded->push_back(what);
    else
        what();
}

// What a card refuses to start (CUDA C++ Programming Guide, Compute Capabilities).
static void check_launch(dim3 grid, dim3 block, size_t shared_bytes)
{
    const unsigned threads_max = 1024, grid_max = 65535;
    if (threads == 0 || threads % WARP != 0 || threads > threads_max || block.z != 1) {
        fprintf(stderr, "blocks are whole warps here, of up to %u threads\n", threads_max);
        abort();
    }
    if (grid.x == 0 || grid.x > INT32_MAX || grid.y == 0 || grid.y > grid_max || grid.z == 0 ||
        grid.z > grid_max) {
        fprintf(stderr, "no card starts a grid of %u x %u x %u blocks\n", grid.x, grid.y, grid.z);
        abort();
    }
    if (shared_bytes > cards_shared_bytes()) {
        fprintf(stderr, "a block asks for %zu bytes of shared memory; the card has %zu\n",
                shared_bytes, cards_shared_bytes());
        abort();
    }
}

static void run_now(dim3 grid, dim3 block, size_t shared_bytes,
                    const std::function<void()> &kernel)
{
    std::lock_guard<std::mutex> turn(one_at_a_time);
    threads = (size_t)block.x * block.y;
    check_launch(grid, block, shared_bytes);
    body = &kernel;
    gridDim = grid;
    blockDim = block;
    if (fibers.size() < threads)
        fibers.resize(threads);
    warps.assign(threads / WARP, warp());
    shared_extent = shared_bytes;
    // what nobody wrote is a number that shows: NaN
    shared_block.assign(shared_bytes / sizeof(uint4) + 1, uint4{~0u, ~0u, ~0u, ~0u});
    unsigned char *end = reinterpret_cast<unsigned char *>(shared_block.data()) + shared_bytes;
    size_t beyond = shared_block.capacity() * sizeof(uint4) - shared_bytes;
    guard_close(end, beyond);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = dim3(x, y, z);
                run_block();
            }
    watch_block(nullptr, 0);
    guard_open(end, beyond);
}

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &kernel)
{
    ask([=] { run_now(grid, block, shared_bytes, kernel); });
}

void sync_block()
{
    unsigned turn = fibers[current].block_barriers % 2;
    if (++block_arrived[turn] == threads)
        block_arrived[1 - turn] = 0;
    while (block_arrived[turn] < threads)
        leave();
    fibers[current].block_barriers++;
    tell_here();
}

const unsigned char *gather(const void *mine, size_t bytes)
{
    fiber &f = fibers[current];
    warp &w = warps[current / WARP];
    unsigned turn = f.warp_barriers % 2;
    memcpy(w.lanes[turn][current % WARP], mine, bytes);
    if (++w.arrived[turn] == WARP)
        w.arrived[1 - turn] = 0;
    while (w.arrived[turn] < WARP)
        leave();
    f.warp_barriers++;
    tell_here();
    return &w.lanes[turn][0][0];
}

void sync_warp()
{
    char nothing = 0;
    gather(&nothing, 1);
    fibers[current].warp_syncs++;
    tell_here();
}

void copy_async(void *to, const void *from, bool valid)
{
    must_be_aligned(to);
    must_be_aligned(from);
    watch_copy(to, true);
    fibers[current].copies.push_back({to, from, valid, false});
}

void copy_commit()
{
    std::vector<copy> &copies = fibers[current].copies;
    if (!copies.empty() && !copies.back().last)
        copies.back().last = true;
    else
        copies.push_back({nullptr, nullptr, false, true});      // an empty group counts as well
}

void copy_wait(size_t left)
{
    std::vector<copy> &copies = fibers[current].copies;
    size_t groups = 0, done = 0;
    for (const copy &each : copies)
        groups += each.last;
    for (; groups > left; done++) {
        const copy &each = copies[done];
        if (each.to && each.valid)
            memcpy(each.to, each.from, 16);
        else if (each.to)
            memset(each.to, 0, 16);
        if (each.to)
            watch_copy(each.to, false);
        groups -= each.last;
    }
    copies.erase(copies.begin(), copies.begin() + (ptrdiff_t)done);
}

void *shared()
{
    return shared_block.data();
}

}
