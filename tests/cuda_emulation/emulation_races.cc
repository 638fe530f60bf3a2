// What the order of fibers alone does not show: two threads that meet in shared memory with no
// barrier between them, what is read before it was written, and what is touched while an
// asynchronous copy to it is under way. The kernels are compiled with the calls that
// -fsanitize=thread puts before every access; this is who answers them, not that sanitizer's
// library.
//
// Ordered are accesses of one thread, accesses with a __syncthreads between, and in a warp with a
// __syncwarp between. Shuffles and votes order no memory (CUDA C++ Programming Guide, Warp Shuffle
// Functions); only a read before one and a write after it are let pass, since what is read goes
// into what is exchanged.
#include "emulation.cuh"

#include <cstdio>
#include <cstdlib>

namespace {

enum { GRANULE = 2, WARP = 32, NOBODY = 0xffff, MANY = 0xfffe };

// The last write of two bytes, and who has read them since.
struct mark {
    uint32_t block;             // which block of all this is about; another: as if never touched
    uint16_t writer, write_barrier, write_sync;
    uint16_t reader, read_barrier, read_meet;
    bool written, atomic, flying, reader_warp;  // reader_warp: several of its warp
};

std::vector<mark> marks;
// Of the thread of the host that runs a block: others go on beside it, with memory of their own.
__attribute__((tls_model("initial-exec"))) thread_local uintptr_t base;
__attribute__((tls_model("initial-exec"))) thread_local size_t extent;
uint32_t block_number;

[[noreturn]] void tell(const char *what, size_t at, unsigned other, const void *caller)
{
    const emulation::moment &here = emulation::here;
    fprintf(stderr, "%s: byte %zu of shared memory, thread %u of block %u, with thread %u (code at "
            "%p)\n", what, at, (unsigned)here.thread, blockIdx.x, other, caller);
    abort();
}

bool same_warp(unsigned a, unsigned b)
{
    return a / WARP == b / WARP;
}

// Whether the last write of `m` is certainly before what this thread does now.
bool write_before(const mark &m)
{
    const emulation::moment &here = emulation::here;
    return m.writer == here.thread || m.write_barrier != here.barriers
           || (same_warp(m.writer, here.thread) && m.write_sync != here.syncs);
}

bool reads_before(const mark &m)
{
    const emulation::moment &here = emulation::here;
    if (m.reader == NOBODY || m.read_barrier != here.barriers)
        return true;
    if (m.reader == MANY || !same_warp(m.reader, here.thread))
        return false;
    return (m.reader == here.thread && !m.reader_warp) || m.read_meet != here.meets;
}

void note_read(mark &m)
{
    const emulation::moment &here = emulation::here;
    if (m.reader == NOBODY || m.read_barrier != here.barriers) {
        m.reader = here.thread;
        m.reader_warp = false;
    } else if (m.reader == MANY || !same_warp(m.reader, here.thread)) {
        m.reader = MANY;
    } else if (m.read_meet != here.meets) {     // who read before the warp met, is before
        m.reader = here.thread;
        m.reader_warp = false;
    } else if (m.reader != here.thread) {
        m.reader = here.thread;
        m.reader_warp = true;
    }
    m.read_barrier = here.barriers;
    m.read_meet = here.meets;
}

void note_write(mark &m, bool atomic)
{
    const emulation::moment &here = emulation::here;
    m.writer = here.thread;
    m.write_barrier = here.barriers;
    m.write_sync = here.syncs;
    m.reader = NOBODY;
    m.written = true;
    m.atomic = atomic;
}

enum access { READ, WRITE, ATOMIC, COPY_BEGINS, COPY_ENDS };

void check(mark &m, size_t at, access what, const void *caller)
{
    if (m.flying && what != COPY_ENDS)
        tell("a copy to it is under way", at, m.writer, caller);
    if ((what == READ || what == ATOMIC) && !m.written)
        tell("nobody has written", at, NOBODY, caller);
    if (m.written && !(what == ATOMIC && m.atomic) && what != COPY_ENDS && !write_before(m))
        tell("no barrier after the write", at, m.writer, caller);
    if (what != READ && what != COPY_ENDS && !reads_before(m))
        tell("no barrier after the read", at, m.reader, caller);
}

// Whether it is shared memory at all: most is not.
inline bool watched(const void *address)
{
    return reinterpret_cast<uintptr_t>(address) - base < extent;
}

void touch(const void *address, size_t bytes, access what, const void *caller)
{
    size_t first = reinterpret_cast<uintptr_t>(address) - base;
    if (first + bytes > extent)
        tell("beyond the block's shared memory", first, NOBODY, caller);
    for (size_t at = first / GRANULE; at <= (first + bytes - 1) / GRANULE; at++) {
        mark &m = marks[at];
        if (m.block != block_number) {
            m = mark();
            m.block = block_number;
            m.reader = NOBODY;
        }
        check(m, at * GRANULE, what, caller);
        if (what == READ)
            note_read(m);
        else
            note_write(m, what == ATOMIC);
        m.flying = what == COPY_BEGINS;
    }
}

}

namespace emulation {

#ifndef AKIN_EMULATION_TOLD      // of some accesses alone nothing can be said
void watch_block(void *, size_t) {}
#else
void watch_block(void *memory, size_t bytes)
{
    base = reinterpret_cast<uintptr_t>(memory);
    extent = bytes;
    block_number++;
    if (marks.size() < bytes / GRANULE + 1)
        marks.resize(bytes / GRANULE + 1);
}
#endif

void watch_atomic(const void *word, size_t bytes)
{
    if (watched(word))
        touch(word, bytes, ATOMIC, __builtin_return_address(0));
}

void watch_copy(const void *to, bool begins)
{
    if (watched(to))
        touch(to, 16, begins ? COPY_BEGINS : COPY_ENDS, __builtin_return_address(0));
}

}

#ifdef AKIN_EMULATION_TOLD      // the kernels are compiled to call these

#define ACCESS(name, bytes, what)                                                               \
    extern "C" void name(void *address)                                                         \
    {                                                                                           \
        if (watched(address))                                                                   \
            touch(address, bytes, what, __builtin_return_address(0));                           \
    }

ACCESS(__tsan_read1, 1, READ)
ACCESS(__tsan_read2, 2, READ)
ACCESS(__tsan_read4, 4, READ)
ACCESS(__tsan_read8, 8, READ)
ACCESS(__tsan_read16, 16, READ)
ACCESS(__tsan_unaligned_read2, 2, READ)
ACCESS(__tsan_unaligned_read4, 4, READ)
ACCESS(__tsan_unaligned_read8, 8, READ)
ACCESS(__tsan_unaligned_read16, 16, READ)
ACCESS(__tsan_write1, 1, WRITE)
ACCESS(__tsan_write2, 2, WRITE)
ACCESS(__tsan_write4, 4, WRITE)
ACCESS(__tsan_write8, 8, WRITE)
ACCESS(__tsan_write16, 16, WRITE)
ACCESS(__tsan_unaligned_write2, 2, WRITE)
ACCESS(__tsan_unaligned_write4, 4, WRITE)
ACCESS(__tsan_unaligned_write8, 8, WRITE)
ACCESS(__tsan_unaligned_write16, 16, WRITE)

extern "C" void __tsan_read_range(void *address, size_t bytes)
{
    if (bytes && watched(address))
        touch(address, bytes, READ, __builtin_return_address(0));
}

extern "C" void __tsan_write_range(void *address, size_t bytes)
{
    if (bytes && watched(address))
        touch(address, bytes, WRITE, __builtin_return_address(0));
}

// Of a static variable's guard.
extern "C" uint8_t __tsan_atomic8_load(const volatile uint8_t *address, int)
{
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}

// Of the host.
extern "C" uint32_t __tsan_atomic32_load(const volatile uint32_t *address, int)
{
    return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}

extern "C" void __tsan_init(void) {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void) {}
extern "C" void __tsan_vptr_update(void *, void *) {}
extern "C" void __tsan_vptr_read(void *) {}

#endif
