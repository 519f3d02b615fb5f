// One vector of a sequence's rows: what is asked stands in pool.rs.
//
// A block has 32 columns of a sequence, a warp every eighth of its rows; what they found is put together in the order
// of the warps, so a sum depends on the number of rows alone.

#include "sequence.cuh"

namespace pooling {

struct PoolParams {
    View<const float> hidden;
    View<const uint32_t> sequences;
    View<float> out;
    uint32_t width, kind;
};

// As Pooling of pool.rs.
constexpr uint32_t FIRST = 0, LAST = 1, MAX = 3, SQRT = 4, WEIGHTED = 5;

// The larger one, or a NaN if one is: fmaxf would leave it out.
DEFROST_INLINE float larger(float a, float b) { return a != a || a > b ? a : b; }

DEFROST_KERNEL(pool, PoolParams) {
    const Sequence sequence = sequence_at(p.sequences, blockIdx.x);
    const uint32_t column = blockIdx.y * 32 + lane_id(), warps = blockDim.x / 32, kind = p.kind;
    const bool there = column < p.width;
    float found = kind == MAX ? -INFINITY : 0.0f;
    if (there && kind > LAST) {
        for (uint32_t row = warp_id(); row < sequence.len; row += warps) {
            const float x = p.hidden[size_t(sequence.start + row) * p.width + column];
            found = kind == MAX ? larger(x, found) : kind == WEIGHTED ? fmaf(x, float(row + 1), found) : found + x;
        }
    }
    const Shared<float> parts = shared<float>(0, blockDim.x);
    parts[threadIdx.x] = found;
    __syncthreads();
    if (warp_id() > 0 || !there) return;

    if (kind == FIRST || kind == LAST) {
        const uint32_t row = sequence.start + (kind == FIRST ? 0 : sequence.len - 1);
        found = p.hidden[size_t(row) * p.width + column];
    } else {
        for (uint32_t warp = 1; warp < warps; ++warp) {
            const float part = parts[warp * 32 + lane_id()];
            found = kind == MAX ? larger(part, found) : found + part;
        }
        const float count = float(sequence.len);
        if (kind == SQRT) found /= sqrtf(count);
        else if (kind == WEIGHTED) found /= count * (count + 1.0f) / 2.0f;
        else if (kind != MAX) found /= count;
    }
    p.out[size_t(blockIdx.x) * p.width + column] = found;
}

}  // namespace pooling
