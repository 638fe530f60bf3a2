// What AddressSanitizer must be told where it cannot see: that the stack changes, which bytes are
// nobody's, and which stay for ever. Without that sanitizer nothing of it is left.
#pragma once

#include <cstddef>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>

#define UNGUARDED __attribute__((no_sanitize("address")))

// Just before the stack changes, and just after, on the other one.
inline void guard_switch(void **kept, const void *stack, size_t bytes)
{
    __sanitizer_start_switch_fiber(kept, stack, bytes);
}

inline void guard_arrived(void *kept, const void **other, size_t *other_bytes)
{
    __sanitizer_finish_switch_fiber(kept, other, other_bytes);
}

inline void guard_close(void *memory, size_t bytes)
{
    __asan_poison_memory_region(memory, bytes);
}

inline void guard_open(void *memory, size_t bytes)
{
    __asan_unpoison_memory_region(memory, bytes);
}

// It stays, and is no leak.
inline void guard_stays(const void *memory)
{
    __lsan_ignore_object(memory);
}

#else

#define UNGUARDED

inline void guard_switch(void **, const void *, size_t) {}
inline void guard_arrived(void *, const void **, size_t *) {}
inline void guard_close(void *, size_t) {}
inline void guard_open(void *, size_t) {}
inline void guard_stays(const void *) {}

#endif
