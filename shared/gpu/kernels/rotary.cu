// Head norms and rotation of queries and keys, in place: what is asked stands in rotary.rs.
//
// A warp has a head of a row; a lane has pairs of neighbours of the lower half, and the same columns of the upper one,
// with which they turn.

#include "defrost.cuh"

namespace rotation {

struct RotaryParams {
    View<uint16_t> qkv;
    View<const uint32_t> positions;
    View<const float> angles, query_norm, key_norm;
    uint32_t rows, heads, kv_heads, head_dim;
    float eps;
    uint32_t unused;
};

// Pairs of a lane, for heads of up to 256: half of them is 128, which 32 lanes have in two.
constexpr uint32_t PAIRS = 2;

template <typename T>
DEFROST_INLINE void turn(const RotaryParams& p) {
    const uint32_t row = blockIdx.x, head = blockIdx.y * (blockDim.x / 32) + warp_id(), half = p.head_dim / 2;
    if (head >= p.heads + p.kv_heads) return;
    const size_t at = (size_t(row) * (p.heads + 2 * p.kv_heads) + head) * p.head_dim;
    float2 low[PAIRS] = {}, high[PAIRS] = {};
#pragma unroll
    for (uint32_t i = 0; i < PAIRS; ++i) {
        const uint32_t column = 2 * (lane_id() + 32 * i);
        if (column >= half) break;
        low[i] = unpack2<T>(load4(p.qkv, at + column));
        high[i] = unpack2<T>(load4(p.qkv, at + half + column));
    }

    const View<const float> weight = head < p.heads ? p.query_norm : p.key_norm;
    if (weight) {
        float squares = 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < PAIRS; ++i) {
            squares = fmaf(low[i].x, low[i].x, fmaf(low[i].y, low[i].y, squares));
            squares = fmaf(high[i].x, high[i].x, fmaf(high[i].y, high[i].y, squares));
        }
        const float inverse = 1.0f / sqrtf(warp_sum(squares) / float(p.head_dim) + p.eps);
#pragma unroll
        for (uint32_t i = 0; i < PAIRS; ++i) {
            const uint32_t column = 2 * (lane_id() + 32 * i);
            if (column >= half) break;
            low[i].x *= inverse * weight[column];
            low[i].y *= inverse * weight[column + 1];
            high[i].x *= inverse * weight[half + column];
            high[i].y *= inverse * weight[half + column + 1];
        }
    }

    const size_t angles = p.angles ? size_t(p.positions[row]) * p.head_dim : 0;
#pragma unroll
    for (uint32_t i = 0; i < PAIRS; ++i) {
        const uint32_t column = 2 * (lane_id() + 32 * i);
        if (column >= half) break;
        if (p.angles) {
            const float2 a = low[i], b = high[i];
            const float cos[2] = {p.angles[angles + column], p.angles[angles + column + 1]};
            const float sin[2] = {p.angles[angles + half + column], p.angles[angles + half + column + 1]};
            low[i] = make_float2(a.x * cos[0] - b.x * sin[0], a.y * cos[1] - b.y * sin[1]);
            high[i] = make_float2(b.x * cos[0] + a.x * sin[0], b.y * cos[1] + a.y * sin[1]);
        }
        store4(p.qkv, at + column, pack2<T>(low[i].x, low[i].y));
        store4(p.qkv, at + half + column, pack2<T>(high[i].x, high[i].y));
    }
}

DEFROST_KERNEL(rotary_bf16, RotaryParams) { turn<bf16>(p); }

DEFROST_KERNEL(rotary_f16, RotaryParams) { turn<f16>(p); }

}  // namespace rotation
