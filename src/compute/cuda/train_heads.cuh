// What both ways of computing the heads share: the plain one (train_heads_plain.cu: any precision,
// any size) and the one on tensor cores (train_heads_tensor.cu: 16-bit numbers, heads of 16, 32, 64
// or 128 columns).
#pragma once

#include "compute/cuda/train_cuda.cuh"

// Place of a weight's dropout: block (of eight keys) of query `i` in head `head` of `sample`.
template <typename T>
__device__ inline uint64_t heads_drop_block(const heads<T> &h, size_t sample, size_t head, size_t i,
                                            size_t key)
{
    size_t row = ((h.first_sample + sample) * h.count + head) * h.queries + i;
    return row * ((h.keys + 7) / 8) + key / 8;
}

template <typename T> void heads_plain_forward(cuda_train *, const dropping &, const heads<T> &);
template <typename T>
void heads_plain_backward(cuda_train *, const dropping &, const heads<T> &,
                          const heads_gradient<T> &);
// Whether heads of this size can be done on tensor cores.
bool heads_tensor_fits(size_t head_dim);
template <typename T> void heads_tensor_forward(cuda_train *, const dropping &, const heads<T> &);
template <typename T>
void heads_tensor_backward(cuda_train *, const dropping &, const heads<T> &,
                           const heads_gradient<T> &);
// delta [sample][head][query] = sum over columns of o_gradient * o
template <typename T>
void heads_delta(cuda_train *, const heads<T> &, const heads_gradient<T> &);
