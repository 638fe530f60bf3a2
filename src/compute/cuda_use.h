/* What memory of a card is used for, so that a process can tell what it holds. */
#pragma once

enum cuda_use {
    CUDA_USE_ENCODER,
    CUDA_USE_SEARCH,        /* rows of requests, lists of neighbours and events */
    CUDA_USE_INDEX,
    CUDA_USE_USERS,
    CUDA_USE_PERSONAL,
    CUDA_USE_BANDITS,
    CUDA_USE_GRAPH,
    CUDA_USE_TRAINING,
    CUDA_USE_OTHER,
    CUDA_USES
};
