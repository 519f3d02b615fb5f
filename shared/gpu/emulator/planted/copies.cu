// Asynchronous copies whose end is not awaited, or whose target is still in use.
#include "defrost.cuh"

struct StageParams {
    View<const float> from;
    View<float> to;
    uint32_t rounds;
};

// Commits, and reads without waiting.
DEFROST_KERNEL(planted_forgotten_wait, StageParams) {
    Shared<float> tile = shared<float>(0, blockDim.x * 4);
    copy_async16(tile, threadIdx.x * 4, p.from, threadIdx.x * 4, 16);
    copy_commit();
    __syncthreads();
    store16(p.to, threadIdx.x * 4, load16(tile, threadIdx.x * 4));
}

// Waits for all groups, of which there is none.
DEFROST_KERNEL(planted_forgotten_commit, StageParams) {
    Shared<float> tile = shared<float>(0, blockDim.x * 4);
    copy_async16(tile, threadIdx.x * 4, p.from, threadIdx.x * 4, 16);
    copy_wait<0>();
    __syncthreads();
    store16(p.to, threadIdx.x * 4, load16(tile, threadIdx.x * 4));
}

// Waits for one group too few.
DEFROST_KERNEL(planted_short_wait, StageParams) {
    Shared<float> tile = shared<float>(0, blockDim.x * 4);
    copy_async16(tile, threadIdx.x * 4, p.from, threadIdx.x * 4, 16);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    store16(p.to, threadIdx.x * 4, load16(tile, threadIdx.x * 4));
}

// Waits for its own copy, and reads a neighbour's.
DEFROST_KERNEL(planted_wait_without_barrier, StageParams) {
    Shared<float> tile = shared<float>(0, blockDim.x * 4);
    copy_async16(tile, threadIdx.x * 4, p.from, threadIdx.x * 4, 16);
    copy_commit();
    copy_wait<0>();
    store16(p.to, threadIdx.x * 4, load16(tile, (threadIdx.x * 4 + 4) % (blockDim.x * 4)));
}

// Two stages, of which one is filled again while others may still read it.
DEFROST_KERNEL(planted_stage_in_use, StageParams) {
    uint32_t stride = blockDim.x * 4;
    Shared<float> tiles = shared<float>(0, 2 * stride);
    uint32_t mine = threadIdx.x * 4;
    uint32_t beside = (mine + 4) % stride;
    float sum = 0.0f;
    copy_async16(tiles, mine, p.from, mine, 16);
    copy_commit();
    for (uint32_t round = 0; round < p.rounds; ++round) {
        copy_wait<0>();
        __syncthreads();
        uint32_t stage = round % 2 * stride;
        sum += tiles[stage + beside];
        // The same stage, where the other one was meant.
        copy_async16(tiles, stage + mine, p.from, mine, 16);
        copy_commit();
    }
    p.to[threadIdx.x] = sum;
}
