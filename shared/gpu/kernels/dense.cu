// Small layers of heads: activation(x W^T + bias), in f32.
//
// A warp computes one column of up to ROWS rows: its lanes share k, each reads its part of the weight's row once for
// all of the rows, and the sums meet by shuffles. The order of additions depends on k alone.
#include "activations.cuh"
#include "defrost.cuh"

namespace dense_layers {

struct DenseParams {
    View<const float> x, weight, bias;
    View<float> out;
    uint32_t rows, n, k, activation, vectors, has_bias;
};

// Rows of a warp and warps of a block; `dense.rs` has the same.
constexpr uint32_t ROWS = 4, WARPS = 4;

enum Activation : uint32_t { IDENTITY, TANH, RELU, GELU, SILU, SIGMOID };

DEFROST_INLINE float activated(float x, uint32_t activation) {
    switch (activation) {
        case TANH:
            return tanhf(x);
        case RELU:
            // Keeps a NaN, which fmaxf would not.
            return x < 0.0f ? 0.0f : x;
        case GELU:
            return gelu(x);
        case SILU:
            return silu(x);
        case SIGMOID:
            return sigmoid(x);
        default:
            return x;
    }
}

DEFROST_INLINE float dot4(uint4 a, uint4 b, float sum) {
    sum = fmaf(bits_as<float>(a.x), bits_as<float>(b.x), sum);
    sum = fmaf(bits_as<float>(a.y), bits_as<float>(b.y), sum);
    sum = fmaf(bits_as<float>(a.z), bits_as<float>(b.z), sum);
    return fmaf(bits_as<float>(a.w), bits_as<float>(b.w), sum);
}

DEFROST_KERNEL(dense, DenseParams) {
    const uint32_t across = ceil_div(p.n, WARPS);
    const uint32_t column = blockIdx.x % across * WARPS + warp_id(), first = blockIdx.x / across * ROWS;
    if (column >= p.n) {
        return;
    }
    const uint32_t rows = min(p.rows - first, ROWS);
    const View<const float> x = p.x.at(static_cast<size_t>(first) * p.k);
    const View<const float> weight = p.weight.at(static_cast<size_t>(column) * p.k);
    float sums[ROWS] = {};
    if (p.vectors != 0) {
        for (uint32_t at = lane_id() * 4; at < p.k; at += 128) {
            const uint4 own = load16(weight, at);
#pragma unroll
            for (uint32_t row = 0; row < ROWS; row++) {
                if (row < rows) {
                    sums[row] = dot4(load16(x, static_cast<size_t>(row) * p.k + at), own, sums[row]);
                }
            }
        }
    } else {
        for (uint32_t at = lane_id(); at < p.k; at += 32) {
            const float own = weight[at];
#pragma unroll
            for (uint32_t row = 0; row < ROWS; row++) {
                if (row < rows) {
                    const float value = x[static_cast<size_t>(row) * p.k + at];
                    sums[row] = fmaf(value, own, sums[row]);
                }
            }
        }
    }
#pragma unroll
    for (uint32_t row = 0; row < ROWS; row++) {
        const float sum = warp_sum(sums[row]);
        if (lane_id() == 0 && row < rows) {
            const float bias = p.has_bias != 0 ? p.bias[column] : 0.0f;
            p.out[static_cast<size_t>(first + row) * p.n + column] = activated(sum + bias, p.activation);
        }
    }
}

}  // namespace dense_layers
