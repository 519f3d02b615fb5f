// Blocks that depend on each other, within one launch.
#include "defrost.cuh"

struct BlockParams {
    View<float> to;
    View<const float> read_only;
};

// Every block writes its sum to the same place.
DEFROST_KERNEL(planted_blocks_collide, BlockParams) {
    if (threadIdx.x == 0) {
        p.to[0] = static_cast<float>(blockIdx.x);
    }
}

// The second block reads what the first one wrote.
DEFROST_KERNEL(planted_blocks_pass_on, BlockParams) {
    if (blockIdx.x == 0) {
        p.to[threadIdx.x] = 1.0f;
    } else {
        float x = p.to[threadIdx.x];
        p.to[blockDim.x + threadIdx.x] = x;
    }
}

// Threads of a block write one place of global memory.
DEFROST_KERNEL(planted_threads_collide, BlockParams) {
    p.to[threadIdx.x / 2] = 1.0f;
}

// Reads through the read-only path what the same thread has written.
DEFROST_KERNEL(planted_read_only_after_write, BlockParams) {
    p.to[threadIdx.x] = 1.0f;
    float x = p.read_only[threadIdx.x];
    p.to[threadIdx.x] = x + 1.0f;
}
