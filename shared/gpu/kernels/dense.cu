// Layers of heads: activation(x W^T + bias), in f32 throughout, since what they compute is the answer.
//
// dense       for few rows or columns. A warp computes one column of up to ROWS rows: its lanes share k, each reads its
//             part of the weight's row once for all of the rows, and the sums meet by shuffles.
// dense_tile  for many of both (a vector for every token). A block computes TILE x TILE values, a thread 4 x 4 of them;
//             STEP of k at a time lies in shared memory, transposed, so that a thread reads its 4 rows and its 4
//             columns as one vector each. The next step is read into registers while one is multiplied.
//
// The order of additions depends on k and the kernel alone.
#include "activations.cuh"
#include "defrost.cuh"

namespace dense_layers {

struct DenseParams {
    View<const float> x, weight, bias;
    View<float> out;
    uint32_t rows, n, k, activation, vectors, has_bias;
};

// Rows of a warp and warps of a block; then the side of a tile, a thread's part of it, and k that is held at a time.
// `dense.rs` has the same.
constexpr uint32_t ROWS = 4, WARPS = 4;
constexpr uint32_t TILE = 64, PART = 4, STEP = 16;
// From one k to the next in shared memory: 16 bytes more than a tile, so that rows meet in fewer banks.
constexpr uint32_t PITCH = TILE + 4;

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

// 4 neighbours along k of a row; zeros beyond its end, or if there is no such row.
DEFROST_INLINE void load_four(float (&values)[4], View<const float> from, size_t row, uint32_t at, bool valid,
                              uint32_t k, bool vectors) {
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        values[i] = 0.0f;
    }
    if (!valid || at >= k) {
        return;
    }
    if (vectors) {
        const uint4 four = load16(from, row * k + at);
        values[0] = bits_as<float>(four.x);
        values[1] = bits_as<float>(four.y);
        values[2] = bits_as<float>(four.z);
        values[3] = bits_as<float>(four.w);
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        if (at + i < k) {
            values[i] = from[row * k + at + i];
        }
    }
}

DEFROST_KERNEL_BOUNDS(dense_tile, DenseParams, 256, 2) {
    const uint32_t across = ceil_div(p.n, TILE);
    const uint32_t first_row = blockIdx.x / across * TILE, first_column = blockIdx.x % across * TILE;
    const uint32_t thread = threadIdx.x;
    const Shared<float> x_step = shared<float>(0, STEP * PITCH);
    const Shared<float> w_step = shared<float>(STEP * PITCH * sizeof(float), STEP * PITCH);
    // What this thread brings: 4 of a row of x and of the weight.
    const uint32_t own = thread / (STEP / 4), own_k = thread % (STEP / 4) * 4;
    const bool has_row = first_row + own < p.rows, has_column = first_column + own < p.n;
    // What it computes.
    const uint32_t row = thread / (TILE / PART) * PART, column = thread % (TILE / PART) * PART;
    float x[4], w[4], sums[PART][PART] = {};
    load_four(x, p.x, first_row + own, own_k, has_row, p.k, p.vectors != 0);
    load_four(w, p.weight, first_column + own, own_k, has_column, p.k, p.vectors != 0);
    for (uint32_t at = 0; at < p.k; at += STEP) {
        __syncthreads();
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            x_step[(own_k + i) * PITCH + own] = x[i];
            w_step[(own_k + i) * PITCH + own] = w[i];
        }
        __syncthreads();
        load_four(x, p.x, first_row + own, at + STEP + own_k, has_row, p.k, p.vectors != 0);
        load_four(w, p.weight, first_column + own, at + STEP + own_k, has_column, p.k, p.vectors != 0);
#pragma unroll
        for (uint32_t i = 0; i < STEP; i++) {
            const uint4 rows = load16(x_step, i * PITCH + row), columns = load16(w_step, i * PITCH + column);
            const uint32_t left[PART] = {rows.x, rows.y, rows.z, rows.w};
            const uint32_t right[PART] = {columns.x, columns.y, columns.z, columns.w};
#pragma unroll
            for (uint32_t r = 0; r < PART; r++) {
#pragma unroll
                for (uint32_t c = 0; c < PART; c++) {
                    sums[r][c] = fmaf(bits_as<float>(left[r]), bits_as<float>(right[c]), sums[r][c]);
                }
            }
        }
    }
#pragma unroll
    for (uint32_t c = 0; c < PART; c++) {
        const uint32_t own_column = first_column + column + c;
        const float bias = p.has_bias != 0 && own_column < p.n ? p.bias[own_column] : 0.0f;
#pragma unroll
        for (uint32_t r = 0; r < PART; r++) {
            const uint32_t own_row = first_row + row + r;
            if (own_row < p.rows && own_column < p.n) {
                p.out[static_cast<size_t>(own_row) * p.n + own_column] = activated(sums[r][c] + bias, p.activation);
            }
        }
    }
}

}  // namespace dense_layers
