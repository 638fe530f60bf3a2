// Memory that grows, and loses what was in it when it does: of the card, or pinned memory of the
// host. All zeros at first; who has it releases it.
#pragma once

#include "compute/cuda/platform.cuh"

struct buffer {
    void *memory;
    size_t bytes;
};

template <typename T> T *in(const buffer &b)
{
    return static_cast<T *>(b.memory);
}

// At least so many bytes. After an error it has none.
inline enum akin_status buffer_need(platform *p, buffer *b, size_t bytes, struct akin_error *error)
{
    if (b->bytes >= bytes)
        return AKIN_OK;
    platform_release(p, b->memory);
    *b = {};
    enum akin_status status = platform_allocate(p, bytes, &b->memory, error);
    if (status == AKIN_OK)
        b->bytes = bytes;
    return status;
}

inline enum akin_status buffer_need_pinned(platform *p, buffer *b, size_t bytes,
                                           struct akin_error *error)
{
    if (b->bytes >= bytes)
        return AKIN_OK;
    platform_release_pinned(p, b->memory);
    *b = {};
    enum akin_status status = platform_allocate_pinned(p, bytes, &b->memory, error);
    if (status == AKIN_OK)
        b->bytes = bytes;
    return status;
}
