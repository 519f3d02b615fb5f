// Barriers that are missing, that not all threads come to, or that are of the wrong sort.
#include "defrost.cuh"

struct RowParams {
    View<const float> from;
    View<float> to;
};

// Turns a row around through shared memory, without a barrier between writing and reading.
DEFROST_KERNEL(planted_missing_barrier, RowParams) {
    Shared<float> row = shared<float>(0, blockDim.x);
    row[threadIdx.x] = p.from[threadIdx.x];
    float turned = row[blockDim.x - 1 - threadIdx.x];
    p.to[threadIdx.x] = turned;
}

// Adds up neighbours twice, and writes again while others may still read.
DEFROST_KERNEL(planted_missing_second_barrier, RowParams) {
    Shared<float> row = shared<float>(0, blockDim.x);
    float x = p.from[threadIdx.x];
    for (int round = 0; round < 2; ++round) {
        row[threadIdx.x] = x;
        __syncthreads();
        x += row[(threadIdx.x + 1) % blockDim.x];
    }
    p.to[threadIdx.x] = x;
}

// The same over the lanes of a warp, with a shuffle for a barrier: it orders nothing.
DEFROST_KERNEL(planted_missing_syncwarp, RowParams) {
    Shared<float> row = shared<float>(0, blockDim.x);
    row[threadIdx.x] = p.from[threadIdx.x];
    float x = __shfl_sync(ALL_LANES, 1.0f, 0);
    float beside = row[threadIdx.x ^ 1];
    p.to[threadIdx.x] = x + beside;
}

// Orders lanes, where whole warps exchange.
DEFROST_KERNEL(planted_syncwarp_for_syncthreads, RowParams) {
    Shared<float> row = shared<float>(0, blockDim.x);
    row[threadIdx.x] = p.from[threadIdx.x];
    __syncwarp();
    float x = row[(threadIdx.x + 32) % blockDim.x];
    p.to[threadIdx.x] = x;
}

// The last thread has nothing to do, and leaves before the barrier.
DEFROST_KERNEL(planted_early_return, RowParams) {
    if (threadIdx.x == blockDim.x - 1) {
        return;
    }
    __syncthreads();
    p.to[threadIdx.x] = 1.0f;
}

// Two barriers in the two branches.
DEFROST_KERNEL(planted_two_barriers, RowParams) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    p.to[threadIdx.x] = 1.0f;
}
