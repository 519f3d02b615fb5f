// Lanes that a collective waits for in vain, or that it must not read.
#include "defrost.cuh"

struct LaneParams {
    View<float> to;
    uint32_t lane;
};

// One lane leaves before the sum.
DEFROST_KERNEL(planted_lane_has_left, LaneParams) {
    if (lane_id() == p.lane) {
        return;
    }
    float sum = warp_sum(1.0f);
    p.to[threadIdx.x] = sum;
}

// One lane waits for the block instead.
DEFROST_KERNEL(planted_lane_is_elsewhere, LaneParams) {
    float sum = 0.0f;
    if (lane_id() != p.lane) {
        sum = warp_sum(1.0f);
    }
    __syncthreads();
    p.to[threadIdx.x] = sum;
}

// The lower half of the warp adds up, and calls all lanes to it.
DEFROST_KERNEL(planted_wrong_mask, LaneParams) {
    float x = 1.0f;
    if (lane_id() < 16) {
        x += __shfl_xor_sync(ALL_LANES, x, 1);
    }
    __syncwarp();
    p.to[threadIdx.x] = x;
}

// Each lane of the upper half names the lower one.
DEFROST_KERNEL(planted_own_lane_missing, LaneParams) {
    float x = __shfl_xor_sync(0x0000ffffu, 1.0f, 1);
    p.to[threadIdx.x] = x;
}

// The halves by themselves, and one reads from the other.
DEFROST_KERNEL(planted_lane_left_out, LaneParams) {
    uint32_t mask = lane_id() < 16 ? 0x0000ffffu : 0xffff0000u;
    float x = __shfl_xor_sync(mask, 1.0f, 16);
    p.to[threadIdx.x] = x;
}

// Some lanes multiply, and others load the next operands.
DEFROST_KERNEL(planted_different_collectives, LaneParams) {
    Shared<bf16> tile = shared<bf16>(warp_id() * 512, 8 * 32);
    uint32_t r[4] = {};
    float d[4] = {};
    store16(tile, lane_id() * 8, make_uint4(0, 0, 0, 0));
    __syncwarp();
    if (lane_id() < p.lane) {
        ldmatrix4(r, tile, lane_id() * 8);
    } else {
        mma16816<bf16>(d, r, r);
    }
    p.to[threadIdx.x] = d[0] + static_cast<float>(r[0]);
}
