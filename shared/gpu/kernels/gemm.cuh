// C = A W^T on tensor cores, with what follows a product done on the way out.
//
// A block computes one tile of C, COLUMNS rows of W by ROWS rows of A. It walks along k in steps of DEPTH bytes of
// every row. Through cp.async, STAGES - 1 of these steps are on their way while one is multiplied: step t + STAGES - 1
// goes where step t - 1 was, which the barrier at the end of t - 1 has freed, so that one barrier a step is enough.
//
//   stage   [ROWS][DEPTH] of A, [COLUMNS][DEPTH] of W. 16-byte chunk c of row r lies at c ^ swizzle(r), so that the
//           eight rows of an 8x8 matrix lie in different banks for ldmatrix, and a warp's copies fill whole lines.
//   warp    a part of the tile of C, 16 x 8 by 16 x 8. In registers: its sums, and two sets of operands, of which one is
//           loaded (ldmatrix) while the other is multiplied (mma).
//   way out 16 rows of sums at a time go through shared memory, so that a lane holds 8 neighbouring values of a row:
//           scales, bias and activation are computed on these, and stored as 16 bytes.
//
// No tile splits k: the products of a value of C are added in the order of k whatever the tile, so that it has the same bits
// in a batch of any size.
//
// Everything is counted in chunks of 16 bytes, so int8 with k in steps of 32 is the same text as 16-bit types with 16.
//
// A SwiGlu tile has COLUMNS / 2 rows of the gate and the same ones of the values, 8 and 8 in turn: gate and value of an
// element of C are sums of the same warp. Rows of A and W beyond the last, and k beyond its end, are filled with zeros.
//
// Blocks go through C in bands of BAND tiles of rows: blocks that run at the same time share the rows of A and W that
// they read, so that these come from the L2 cache.

#pragma once
#include "activations.cuh"
#include "defrost.cuh"

namespace products {

template <class T>
struct GemmParams {
    View<const T> a, weight;
    View<const float> a_scales, weight_scales, bias;
    View<uint8_t> out;
    uint32_t m, n, k, a_stride, out_stride, epilogue, out_type, flags;
};

enum GemmEpilogue : uint32_t { STORE, GELU, SWIGLU, ADD_TO };
enum GemmOut : uint32_t { OUT_BF16, OUT_F16, OUT_F32 };
enum GemmFlag : uint32_t { OUT_VECTORS = 1, HAS_BIAS = 2 };

template <int ROWS_, int COLUMNS_, int WARPS_M_, int WARPS_N_, int DEPTH_, int STAGES_>
struct GemmTile {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, DEPTH = DEPTH_, STAGES = STAGES_;
    static constexpr int WARPS_M = WARPS_M_, WARPS_N = WARPS_N_;
    static constexpr int THREADS = WARPS_M * WARPS_N * 32;
    // 16-byte chunks of a row of a stage, and how far apart the rows are that a thread copies one after the other.
    static constexpr int CHUNKS = DEPTH / 16, ROW_STEP = THREADS / CHUNKS;
    // What a warp multiplies: 16 rows of A and 8 of W at once, 32 bytes of k at once.
    static constexpr int WARP_ROWS = ROWS / WARPS_M, WARP_COLUMNS = COLUMNS / WARPS_N;
    static constexpr int M_PARTS = WARP_ROWS / 16, N_PARTS = WARP_COLUMNS / 8, K_PARTS = DEPTH / 32;
    // From a row of sums to the next on their way out: 8 banks further on than a multiple of 32 or of 16.
    static constexpr int PITCH = WARP_COLUMNS + 8;
    static_assert(ROWS % ROW_STEP == 0 && COLUMNS % ROW_STEP == 0, "each thread copies as many chunks");
    static_assert(ROW_STEP % 16 == 0, "the rows that a thread copies have one swizzle, and one half of the gate");
    static_assert(M_PARTS >= 1 && N_PARTS % 2 == 0, "a warp multiplies whole parts");
    static_assert(K_PARTS % 2 == 0, "the two sets of operands take turns, and begin a stage alike");
    static_assert(STAGES >= 2 && (CHUNKS == 4 || CHUNKS >= 8), "known swizzles");
};

using Gemm128x256 = GemmTile<128, 256, 2, 4, 64, 4>;
using Gemm128x128 = GemmTile<128, 128, 2, 2, 64, 3>;
using Gemm128x64 = GemmTile<128, 64, 2, 2, 64, 4>;
using Gemm64x128 = GemmTile<64, 128, 2, 2, 64, 4>;
using Gemm64x64 = GemmTile<64, 64, 2, 2, 128, 3>;
using Gemm32x64 = GemmTile<32, 64, 2, 2, 128, 4>;
using Gemm16x64 = GemmTile<16, 64, 1, 4, 128, 6>;
using Gemm16x32 = GemmTile<16, 32, 1, 2, 64, 8>;

// Tiles of rows of a band.
constexpr uint32_t BAND = 8;

// The type of the sums.
template <class T>
using SumOf = std::conditional_t<std::is_same_v<T, int8_t>, int32_t, float>;

template <class T>
DEFROST_INLINE void multiply(SumOf<T> (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    if constexpr (std::is_same_v<T, int8_t>) {
        mma16832(d, a, b);
    } else {
        mma16816<T>(d, a, b);
    }
}

// Where a chunk of a row lies among the row's chunks: rows of 64 bytes share a line of all banks with their neighbour.
template <int CHUNKS>
DEFROST_INLINE uint32_t swizzled(uint32_t row, uint32_t chunk) {
    return chunk ^ (CHUNKS == 4 ? (row >> 1) & 3 : row & 7);
}

// The first `count` of 8 neighbouring elements, from and to memory.
DEFROST_INLINE void add_eight(float (&values)[8], View<float> from, size_t at, uint32_t count, bool vectors) {
    if (vectors && count == 8) {
#pragma unroll
        for (uint32_t i = 0; i < 8; i += 4) {
            const uint4 four = load16(from, at + i);
            values[i] += __uint_as_float(four.x);
            values[i + 1] += __uint_as_float(four.y);
            values[i + 2] += __uint_as_float(four.z);
            values[i + 3] += __uint_as_float(four.w);
        }
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        if (i < count) {
            const float before = from[at + i];
            values[i] += before;
        }
    }
}

template <class Out>
DEFROST_INLINE void store_eight(const float (&values)[8], View<Out> to, size_t at, uint32_t count, bool vectors) {
    if (vectors && count == 8) {
        if constexpr (std::is_same_v<Out, float>) {
#pragma unroll
            for (uint32_t i = 0; i < 8; i += 4) {
                store16(to, at + i, make_uint4(__float_as_uint(values[i]), __float_as_uint(values[i + 1]),
                                               __float_as_uint(values[i + 2]), __float_as_uint(values[i + 3])));
            }
        } else {
            store16(to, at, make_uint4(pack2<Out>(values[0], values[1]), pack2<Out>(values[2], values[3]),
                                       pack2<Out>(values[4], values[5]), pack2<Out>(values[6], values[7])));
        }
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        if (i < count) {
            to[at + i] = from_f32<Out>(values[i]);
        }
    }
}

// Scale and bias of 8 neighbouring rows of W, of which `count` exist.
template <class T>
struct Channels {
    float scales[8], biases[8];

    DEFROST_INLINE Channels(const GemmParams<T>& p, uint32_t row, uint32_t count) {
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            biases[i] = 0.0f;
            scales[i] = 1.0f;
            if (i < count) {
                if ((p.flags & HAS_BIAS) != 0) {
                    biases[i] = p.bias[row + i];
                }
                if constexpr (std::is_same_v<T, int8_t>) {
                    scales[i] = p.weight_scales[row + i];
                }
            }
        }
    }

    DEFROST_INLINE void apply(float (&values)[8], const SumOf<T> (&sums)[8], float row_scale) const {
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            if constexpr (std::is_same_v<T, int8_t>) {
                values[i] = fmaf(static_cast<float>(sums[i]) * row_scale, scales[i], biases[i]);
            } else {
                values[i] = sums[i] + biases[i];
            }
        }
    }
};

// 8 neighbouring sums.
template <class Sum>
DEFROST_INLINE void gather(Sum (&own)[8], Shared<Sum> slabs, uint32_t from) {
#pragma unroll
    for (uint32_t i = 0; i < 8; i += 4) {
        const uint4 four = load16(slabs, from + i);
        const uint32_t words[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) {
            own[i + j] = bits_as<Sum>(words[j]);
        }
    }
}

template <class T, class Tile>
DEFROST_INLINE void gemm(const GemmParams<T>& p) {
    using Sum = SumOf<T>;
    constexpr uint32_t GRANULE = 16 / sizeof(T), STAGE_K = Tile::DEPTH / sizeof(T);
    constexpr uint32_t STAGE = (Tile::ROWS + Tile::COLUMNS) * STAGE_K;

    const uint32_t thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const uint32_t warp_m = warp % Tile::WARPS_M, warp_n = warp / Tile::WARPS_M;
    const bool gated = p.epilogue == SWIGLU;
    const uint32_t columns = gated ? p.n / 2 : p.n;
    const uint32_t tile_columns = gated ? Tile::COLUMNS / 2 : Tile::COLUMNS;

    const uint32_t tiles_m = (p.m + Tile::ROWS - 1) / Tile::ROWS, tiles_n = (columns + tile_columns - 1) / tile_columns;
    const uint32_t band = blockIdx.x / (BAND * tiles_n), in_band = blockIdx.x % (BAND * tiles_n);
    const uint32_t band_rows = min(BAND, tiles_m - band * BAND);
    const uint32_t first_row = (band * BAND + in_band % band_rows) * Tile::ROWS;
    const uint32_t first_column = in_band / band_rows * tile_columns;

    Shared<T> stages = shared<T>(0, Tile::STAGES * STAGE);

    // What this thread copies: one chunk of every ROW_STEP-th row.
    constexpr uint32_t A_COPIES = Tile::ROWS / Tile::ROW_STEP, W_COPIES = Tile::COLUMNS / Tile::ROW_STEP;
    const uint32_t row = thread / Tile::CHUNKS, chunk = thread % Tile::CHUNKS;
    const uint32_t w_row = gated ? row / 16 * 8 + row % 8 : row, w_step = gated ? Tile::ROW_STEP / 2 : Tile::ROW_STEP;
    const uint32_t w_half = gated && row % 16 >= 8 ? columns : 0;
    const View<const T> a = p.a.at(static_cast<size_t>(first_row + row) * p.a_stride + chunk * GRANULE);
    const View<const T> w = p.weight.at(static_cast<size_t>(w_half + first_column + w_row) * p.k + chunk * GRANULE);
    const uint32_t to = row * STAGE_K + swizzled<Tile::CHUNKS>(row, chunk) * GRANULE;
    const uint32_t steps = (p.k + STAGE_K - 1) / STAGE_K;
    auto copy = [&](uint32_t step, uint32_t stage) {
        const uint32_t at = step * STAGE_K;
        const bool inside = at + chunk * GRANULE < p.k;
#pragma unroll
        for (uint32_t i = 0; i < A_COPIES; i++) {
            const bool valid = inside && first_row + row + i * Tile::ROW_STEP < p.m;
            const uint32_t below = i * Tile::ROW_STEP;
            copy_async16(stages, stage * STAGE + to + below * STAGE_K, a, below * p.a_stride + at, valid ? 16 : 0);
        }
#pragma unroll
        for (uint32_t i = 0; i < W_COPIES; i++) {
            const bool valid = inside && first_column + w_row + i * w_step < columns;
            const uint32_t below = Tile::ROWS + i * Tile::ROW_STEP;
            copy_async16(stages, stage * STAGE + to + below * STAGE_K, w, i * w_step * p.k + at, valid ? 16 : 0);
        }
    };

    // What this lane gives ldmatrix the address of: a row and one of the two chunks of 32 bytes of k.
    const uint32_t a_row = lane % 16, a_chunk = swizzled<Tile::CHUNKS>(a_row, lane / 16);
    const uint32_t w_lane_row = lane / 16 * 8 + lane % 8, w_chunk = swizzled<Tile::CHUNKS>(w_lane_row, lane / 8 % 2);
    const uint32_t a_from = (warp_m * Tile::WARP_ROWS + a_row) * STAGE_K;
    const uint32_t w_from = (Tile::ROWS + warp_n * Tile::WARP_COLUMNS + w_lane_row) * STAGE_K;

    Sum sums[Tile::M_PARTS][Tile::N_PARTS][4] = {};
    uint32_t a_part[2][Tile::M_PARTS][4], w_part[2][Tile::N_PARTS / 2][4];
    auto load = [&](uint32_t stage, uint32_t k_part, uint32_t set) {
        const uint32_t first_chunk = k_part * 2;
        const uint32_t a_at = stage * STAGE + a_from + (a_chunk ^ first_chunk) * GRANULE;
        const uint32_t w_at = stage * STAGE + w_from + (w_chunk ^ first_chunk) * GRANULE;
#pragma unroll
        for (uint32_t i = 0; i < Tile::M_PARTS; i++) {
            ldmatrix4(a_part[set][i], stages, a_at + i * 16 * STAGE_K);
        }
#pragma unroll
        for (uint32_t i = 0; i < Tile::N_PARTS; i += 2) {
            ldmatrix4(w_part[set][i / 2], stages, w_at + i * 8 * STAGE_K);
        }
    };

#pragma unroll
    for (uint32_t stage = 0; stage < Tile::STAGES - 1; stage++) {
        if (stage < steps) copy(stage, stage);
        copy_commit();
    }
    copy_wait<Tile::STAGES - 2>();
    __syncthreads();
    load(0, 0, 0);
    uint32_t reading = 0, writing = Tile::STAGES - 1;
    for (uint32_t step = 0; step < steps; step++) {
        if (step + Tile::STAGES - 1 < steps) copy(step + Tile::STAGES - 1, writing);
        copy_commit();
        writing = writing + 1 == Tile::STAGES ? 0 : writing + 1;
#pragma unroll
        for (uint32_t k_part = 0; k_part < Tile::K_PARTS; k_part++) {
            if (k_part == Tile::K_PARTS - 1) {
                copy_wait<Tile::STAGES - 2>();
                __syncthreads();
                reading = reading + 1 == Tile::STAGES ? 0 : reading + 1;
            }
            load(reading, (k_part + 1) % Tile::K_PARTS, (k_part + 1) % 2);
#pragma unroll
            for (uint32_t i = 0; i < Tile::M_PARTS; i++) {
#pragma unroll
                for (uint32_t j = 0; j < Tile::N_PARTS; j++) {
                    // There and back, so that one operand stays the same from one product to the next.
                    const uint32_t column = i % 2 == 0 ? j : Tile::N_PARTS - 1 - j;
                    const uint32_t(&pair)[4] = w_part[k_part % 2][column / 2];
                    const uint32_t w_own[2] = {pair[column % 2 * 2], pair[column % 2 * 2 + 1]};
                    multiply<T>(sums[i][column], a_part[k_part % 2][i], w_own);
                }
            }
        }
    }

    // The way out. The stages are free once all copies have landed and all warps have read the last.
    copy_wait<0>();
    __syncthreads();
    constexpr uint32_t PITCH = Tile::PITCH, SLAB = 16 * PITCH;
    Shared<Sum> slabs = shared<Sum>(0, Tile::WARPS_M * Tile::WARPS_N * SLAB);
    // A lane has one group of 8 columns in all of its rows.
    const uint32_t groups = gated ? Tile::WARP_COLUMNS / 16 : Tile::WARP_COLUMNS / 8;
    const uint32_t group = lane % groups;
    const uint32_t column = first_column + (warp_n * groups + group) * 8;
    const uint32_t count = column < columns ? min(columns - column, 8u) : 0;
    const bool vectors = (p.flags & OUT_VECTORS) != 0;
    const Channels<T> channels(p, column, count), up_channels(p, columns + column, gated ? count : 0);
    const uint32_t own_slab = warp * SLAB;
#pragma unroll 1
    for (uint32_t part = 0; part < Tile::M_PARTS; part++) {
        const Shared<Sum> slab = slabs.at(own_slab + lane / 4 * PITCH + lane % 4 * 2);
#pragma unroll
        for (uint32_t i = 0; i < Tile::M_PARTS; i++) {
            // Registers have no index: the part is chosen among all.
            if (i == part) {
#pragma unroll
                for (uint32_t j = 0; j < Tile::N_PARTS; j++) {
                    const Sum(&own)[4] = sums[i][j];
                    store8(slab, j * 8, make_uint2(bits_as<uint32_t>(own[0]), bits_as<uint32_t>(own[1])));
                    store8(slab, j * 8 + 8 * PITCH, make_uint2(bits_as<uint32_t>(own[2]), bits_as<uint32_t>(own[3])));
                }
            }
        }
        __syncwarp();
#pragma unroll 1
        for (uint32_t slot = lane; slot < 16 * groups; slot += 32) {
            const uint32_t row_of_slab = slot / groups;
            const uint32_t row_of_c = first_row + warp_m * Tile::WARP_ROWS + part * 16 + row_of_slab;
            if (row_of_c >= p.m || count == 0) {
                continue;
            }
            float values[8], row_scale = 1.0f;
            if constexpr (std::is_same_v<T, int8_t>) {
                row_scale = p.a_scales[row_of_c];
            }
            Sum own[8];
            const uint32_t from = own_slab + row_of_slab * PITCH + group * (gated ? 16 : 8);
            gather(own, slabs, from);
            channels.apply(values, own, row_scale);
            if (gated) {
                float ups[8];
                gather(own, slabs, from + 8);
                up_channels.apply(ups, own, row_scale);
#pragma unroll
                for (uint32_t i = 0; i < 8; i++) {
                    values[i] = silu_fast(values[i]) * ups[i];
                }
            } else if (p.epilogue == GELU) {
#pragma unroll
                for (uint32_t i = 0; i < 8; i++) {
                    values[i] = gelu(values[i]);
                }
            }
            const size_t at = static_cast<size_t>(row_of_c) * p.out_stride + column;
            if (p.out_type == OUT_F32) {
                const View<float> out = view_as<float>(p.out);
                if (p.epilogue == ADD_TO) {
                    add_eight(values, out, at, count, vectors);
                }
                store_eight(values, out, at, count, vectors);
            } else if (p.out_type == OUT_F16) {
                store_eight(values, view_as<f16>(p.out), at, count, vectors);
            } else {
                store_eight(values, view_as<bf16>(p.out), at, count, vectors);
            }
        }
        __syncwarp();
    }
}

}  // namespace products

// A tile's kernel. The blocks that should fit beside each other bound the registers of a thread.
#define GEMM_KERNEL(name, T, shape, blocks)                                                                 \
    DEFROST_KERNEL_BOUNDS(gemm_##name##_##shape, products::GemmParams<T>, products::Gemm##shape::THREADS, blocks) { \
        products::gemm<T, products::Gemm##shape>(p);                                                        \
    }
#define GEMM_KERNELS(name, T)        \
    GEMM_KERNEL(name, T, 128x256, 1) \
    GEMM_KERNEL(name, T, 128x128, 2) \
    GEMM_KERNEL(name, T, 128x64, 2)  \
    GEMM_KERNEL(name, T, 64x128, 2)  \
    GEMM_KERNEL(name, T, 64x64, 2)   \
    GEMM_KERNEL(name, T, 32x64, 2)   \
    GEMM_KERNEL(name, T, 16x64, 1)   \
    GEMM_KERNEL(name, T, 16x32, 2)
