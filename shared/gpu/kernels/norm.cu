// Norms of rows: what is asked stands in norm.rs.
//
// A group of threads, a warp or a block, has a row in its registers: thread t of a group of G has the vectors of four
// columns at 4 (t + i G). Sums go over a thread's own values first, then over the group. All loads of a row begin
// before anything waits for one of them.

#include "defrost.cuh"

namespace norms {

struct NormParams {
    View<float> x;
    View<const uint32_t> row_of;
    View<const float> weight, bias;
    View<uint16_t> out;
    View<float> out_f32;
    View<int8_t> q;
    View<float> scales;
    uint32_t rows, width;
    float eps;
    uint32_t flags;
};

// As in norm.rs.
constexpr uint32_t RMS = 1, KEEP = 2, F16 = 4;
constexpr uint32_t FULL = 4;

struct Warp {
    DEFROST_INLINE uint32_t size() const { return 32; }
    DEFROST_INLINE uint32_t index() const { return lane_id(); }
    DEFROST_INLINE float sum(float x) const { return warp_sum(x); }
    DEFROST_INLINE float max(float x) const { return warp_max(x); }
};

struct Block {
    Shared<float> scratch;
    DEFROST_INLINE uint32_t size() const { return blockDim.x; }
    DEFROST_INLINE uint32_t index() const { return threadIdx.x; }
    DEFROST_INLINE float sum(float x) const { return block_sum(x, scratch); }
    DEFROST_INLINE float max(float x) const { return block_max(x, scratch); }
};

// Up to four columns of a row from one on. WHOLE: there are four of them wherever there is one, as in every row whose
// width is a multiple of four. Other rows do not begin at multiples of 16 bytes, and values come and go one by one.
template <bool WHOLE, typename V>
DEFROST_INLINE void read(float (&into)[FULL], V from, size_t row, uint32_t width, uint32_t column) {
    if constexpr (WHOLE) {
        if (column < width) {
            const uint4 word = load16(from, row + column);
            into[0] = bits_as<float>(word.x);
            into[1] = bits_as<float>(word.y);
            into[2] = bits_as<float>(word.z);
            into[3] = bits_as<float>(word.w);
        }
    } else {
#pragma unroll
        for (uint32_t j = 0; j < FULL; ++j) {
            if (column + j < width) into[j] = from[row + column + j];
        }
    }
}

template <bool WHOLE>
DEFROST_INLINE void write(View<float> to, const float (&from)[FULL], size_t row, uint32_t width, uint32_t column) {
    if constexpr (WHOLE) {
        store16(to, row + column,
                make_uint4(bits_as<uint32_t>(from[0]), bits_as<uint32_t>(from[1]), bits_as<uint32_t>(from[2]),
                           bits_as<uint32_t>(from[3])));
    } else {
#pragma unroll
        for (uint32_t j = 0; j < FULL; ++j) {
            if (column + j < width) to[row + column + j] = from[j];
        }
    }
}

template <bool WHOLE, typename T>
DEFROST_INLINE void write_half(View<uint16_t> to, const float (&from)[FULL], size_t row, uint32_t width,
                               uint32_t column) {
    if constexpr (WHOLE) {
        store8(to, row + column, make_uint2(pack2<T>(from[0], from[1]), pack2<T>(from[2], from[3])));
    } else {
#pragma unroll
        for (uint32_t j = 0; j < FULL; ++j) {
            if (column + j < width) to[row + column + j] = from_f32<T>(from[j]).bits;
        }
    }
}

template <bool WHOLE>
DEFROST_INLINE void write_int8(View<int8_t> to, const float (&from)[FULL], float factor, size_t row, uint32_t width,
                               uint32_t column) {
    int32_t q[FULL];
#pragma unroll
    for (uint32_t j = 0; j < FULL; ++j) {
        // To the nearest, ties to even. Without a factor, values may be what no integer is.
        q[j] = factor == 0.0f ? 0 : static_cast<int32_t>(rintf(from[j] * factor));
    }
    if constexpr (WHOLE) {
        store4(to, row + column,
               uint32_t(q[0] & 255) | uint32_t(q[1] & 255) << 8 | uint32_t(q[2] & 255) << 16 | uint32_t(q[3]) << 24);
    } else {
#pragma unroll
        for (uint32_t j = 0; j < FULL; ++j) {
            if (column + j < width) to[row + column + j] = static_cast<int8_t>(q[j]);
        }
    }
}

template <bool WHOLE, uint32_t VECTORS, typename Group>
DEFROST_INLINE void normalize_row(const NormParams& p, const Group& group, uint32_t row) {
    const uint32_t width = p.width, stride = group.size() * FULL, own = group.index() * FULL;
    const uint32_t source = p.row_of ? p.row_of[row] : row;
    const size_t from = size_t(source) * width, to = size_t(row) * width;
    float x[VECTORS][FULL] = {};
#pragma unroll
    for (uint32_t i = 0; i < VECTORS; ++i) read<WHOLE>(x[i], p.x, from, width, own + i * stride);

    float mean = 0.0f;
    if (!(p.flags & RMS)) {
        float sum = 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < VECTORS; ++i) sum += x[i][0] + x[i][1] + (x[i][2] + x[i][3]);
        mean = group.sum(sum) / float(width);
    }
    float squares = 0.0f;
#pragma unroll
    for (uint32_t i = 0; i < VECTORS; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < FULL; ++j) {
            x[i][j] -= mean;
            if (own + i * stride + j < width) squares = fmaf(x[i][j], x[i][j], squares);
        }
    }
    const float inverse = 1.0f / sqrtf(group.sum(squares) / float(width) + p.eps);

    // The greatest magnitude by the bits: these order as integers do, and NaN and infinity are the greatest.
    uint32_t greatest = 0;
#pragma unroll
    for (uint32_t i = 0; i < VECTORS; ++i) {
        const uint32_t column = own + i * stride;
        if (column >= width) continue;
        float weight[FULL] = {}, bias[FULL] = {};
        read<WHOLE>(weight, p.weight, 0, width, column);
        if (p.bias) read<WHOLE>(bias, p.bias, 0, width, column);
#pragma unroll
        for (uint32_t j = 0; j < FULL; ++j) {
            x[i][j] = x[i][j] * inverse * weight[j];
            if (p.bias) x[i][j] += bias[j];
            const uint32_t magnitude = bits_as<uint32_t>(x[i][j]) & 0x7fffffff;
            if (column + j < width && magnitude > greatest) greatest = magnitude;
        }
        if (p.flags & KEEP) write<WHOLE>(p.x, x[i], from, width, column);
        if (p.out_f32) write<WHOLE>(p.out_f32, x[i], to, width, column);
        if (p.out && p.flags & F16) write_half<WHOLE, f16>(p.out, x[i], to, width, column);
        if (p.out && !(p.flags & F16)) write_half<WHOLE, bf16>(p.out, x[i], to, width, column);
    }
    if (!p.q) return;
    // A NaN would be lost among floats; infinity stands for it.
    const float largest = group.max(greatest >= 0x7f800000 ? INFINITY : bits_as<float>(greatest));
    const bool finite = largest < INFINITY;
    // As the CPU's engine: below 1e-36, 127 / largest overflows, and such a row is zero for every purpose.
    const float factor = finite && largest > 1e-36f ? 127.0f / largest : 0.0f;
#pragma unroll
    for (uint32_t i = 0; i < VECTORS; ++i) {
        if (own + i * stride < width) write_int8<WHOLE>(p.q, x[i], factor, to, width, own + i * stride);
    }
    if (group.index() == 0) p.scales[row] = finite ? largest / 127.0f : NAN;
}

template <uint32_t VECTORS, typename Group>
DEFROST_INLINE void normalize(const NormParams& p, const Group& group, uint32_t row) {
    if (p.width % FULL == 0) {
        normalize_row<true, VECTORS>(p, group, row);
    } else {
        normalize_row<false, VECTORS>(p, group, row);
    }
}

DEFROST_KERNEL_BOUNDS(norm_warp, NormParams, 128, 5) {
    const uint32_t row = blockIdx.x * (blockDim.x / 32) + warp_id();
    if (row < p.rows) normalize<8>(p, Warp{}, row);
}

DEFROST_KERNEL_BOUNDS(norm_block, NormParams, 1024, 1) {
    normalize<4>(p, Block{shared<float>(0, 32)}, blockIdx.x);
}

}  // namespace norms
