// Turns rows of 64 around through shared memory, and has forgotten the barrier between writing and reading.
#include "defrost.cuh"

struct MissingBarrierParams {
    View<const float> from;
    View<float> to;
};

DEFROST_KERNEL(planted_missing_barrier, MissingBarrierParams) {
    Shared<float> row = shared<float>(0, 64);
    uint32_t first = blockIdx.x * 64;
    row[threadIdx.x] = p.from[first + threadIdx.x];
    float turned = row[63 - threadIdx.x];
    p.to[first + threadIdx.x] = turned;
}
