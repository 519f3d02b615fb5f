// Accesses beside what is there: by one element, through memory that is released, at odd addresses.
#include "defrost.cuh"

struct NeighbourParams {
    View<const float> from;
    View<float> to;
    uint32_t count;
};

// The last element has no neighbour to the right.
DEFROST_KERNEL(planted_global_off_by_one, NeighbourParams) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.count) {
        p.to[i] = p.from[i + 1] - p.from[i];
    }
}

// One thread too many writes.
DEFROST_KERNEL(planted_global_write_off_by_one, NeighbourParams) {
    uint32_t i = threadIdx.x;
    if (i <= p.count) {
        p.to[i] = 1.0f;
    }
}

// The part of a row that is read has one element less than the row; what lies behind is another part.
DEFROST_KERNEL(planted_shared_off_by_one, NeighbourParams) {
    Shared<float> row = shared<float>(0, blockDim.x);
    Shared<float> other = shared<float>(blockDim.x * 4, blockDim.x);
    row[threadIdx.x] = p.from[threadIdx.x];
    other[threadIdx.x] = 0.0f;
    __syncthreads();
    float right = row[threadIdx.x + 1];
    p.to[threadIdx.x] = right;
}

// More shared memory than the launch gives.
DEFROST_KERNEL(planted_shared_too_large, NeighbourParams) {
    Shared<float> row = shared<float>(0, p.count);
    row[threadIdx.x] = 0.0f;
}

// Vectors from the second element on.
DEFROST_KERNEL(planted_misaligned, NeighbourParams) {
    store16(p.to, threadIdx.x * 4, load16(p.from, threadIdx.x * 4 + 1));
}

// Rows of 24 bytes: every second one begins at no multiple of 16.
DEFROST_KERNEL(planted_misaligned_shared, NeighbourParams) {
    Shared<float> tile = shared<float>(0, blockDim.x * 6);
    for (uint32_t i = 0; i < 6; ++i) {
        tile[threadIdx.x * 6 + i] = 0.0f;
    }
    __syncthreads();
    uint32_t r[4];
    ldmatrix4(r, tile, threadIdx.x * 6);
    p.to[threadIdx.x] = static_cast<float>(r[0]);
}
