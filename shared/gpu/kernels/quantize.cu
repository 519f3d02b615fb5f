// Rows to int8 with one scale each, to the bit as the CPU engine rounds them.
//
// A block takes a row twice: for its largest magnitude, and, out of the cache, to round it. Magnitudes are compared as
// integers, among which NaN and infinity are the largest: such a row gets the scale NaN, and zeros.
#include "defrost.cuh"

namespace quantizing {

template <class T>
struct QuantizeParams {
    View<const T> x;
    View<int8_t> q;
    View<float> scales;
    uint32_t width, vectors;
};

DEFROST_INLINE uint32_t magnitude(float x) { return bits_as<uint32_t>(x) & 0x7fffffffu; }

// 8 neighbouring values, on 16 bytes.
DEFROST_INLINE void load_eight(float (&values)[8], View<const float> x, size_t at) {
#pragma unroll
    for (uint32_t i = 0; i < 8; i += 4) {
        const uint4 four = load16(x, at + i);
        values[i] = bits_as<float>(four.x);
        values[i + 1] = bits_as<float>(four.y);
        values[i + 2] = bits_as<float>(four.z);
        values[i + 3] = bits_as<float>(four.w);
    }
}

template <class T>
DEFROST_INLINE void load_eight(float (&values)[8], View<const T> x, size_t at) {
    const uint4 eight = load16(x, at);
    const uint32_t pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        const float2 pair = unpack2<T>(pairs[i]);
        values[2 * i] = pair.x;
        values[2 * i + 1] = pair.y;
    }
}

// To the nearest, ties to even. A product and a rounding, never a fused one: the engine has two roundings.
DEFROST_INLINE int32_t round_to_int8(float x, float inverse) { return static_cast<int32_t>(rintf(x * inverse)); }

// Four codes in a word, as they lie in memory.
DEFROST_INLINE uint32_t four_codes(const float* values, float inverse) {
    uint32_t word = 0;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        word |= (static_cast<uint32_t>(round_to_int8(values[i], inverse)) & 0xff) << (8 * i);
    }
    return word;
}

// The largest over the block, in all of its threads.
DEFROST_INLINE uint32_t block_largest(uint32_t x, Shared<uint32_t> scratch) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        x = max(x, __shfl_xor_sync(ALL_LANES, x, step));
    }
    if (lane_id() == 0) {
        scratch[warp_id()] = x;
    }
    __syncthreads();
    uint32_t largest = 0;
    for (uint32_t warp = 0; warp < blockDim.x / 32; warp++) {
        const uint32_t other = scratch[warp];
        largest = max(largest, other);
    }
    return largest;
}

template <class T>
DEFROST_INLINE void quantize(const QuantizeParams<T>& p) {
    const size_t first = static_cast<size_t>(blockIdx.x) * p.width;
    const View<const T> x = p.x.at(first);
    const View<int8_t> q = p.q.at(first);
    uint32_t largest = 0;
    if (p.vectors != 0) {
        for (uint32_t at = threadIdx.x * 8; at < p.width; at += blockDim.x * 8) {
            float values[8];
            load_eight(values, x, at);
#pragma unroll
            for (uint32_t i = 0; i < 8; i++) {
                largest = max(largest, magnitude(values[i]));
            }
        }
    } else {
        for (uint32_t at = threadIdx.x; at < p.width; at += blockDim.x) {
            largest = max(largest, magnitude(to_f32(x[at])));
        }
    }
    largest = block_largest(largest, shared<uint32_t>(0, blockDim.x / 32));

    const float most = bits_as<float>(largest);
    const bool finite = largest < 0x7f800000u;
    // Below this 127 / most overflows; such a row is zero for every purpose.
    const bool rounds = finite && most > 1e-36f;
    const float inverse = rounds ? 127.0f / most : 0.0f;
    if (threadIdx.x == 0) {
        p.scales[blockIdx.x] = finite ? most / 127.0f : bits_as<float>(0x7fc00000u);
    }
    if (p.vectors != 0) {
        for (uint32_t at = threadIdx.x * 8; at < p.width; at += blockDim.x * 8) {
            float values[8];
            load_eight(values, x, at);
            const uint2 codes = make_uint2(four_codes(values, inverse), four_codes(values + 4, inverse));
            store8(q, at, rounds ? codes : make_uint2(0, 0));
        }
    } else {
        for (uint32_t at = threadIdx.x; at < p.width; at += blockDim.x) {
            q[at] = static_cast<int8_t>(rounds ? round_to_int8(to_f32(x[at]), inverse) : 0);
        }
    }
}

DEFROST_KERNEL(quantize_f32, QuantizeParams<float>) { quantize(p); }
DEFROST_KERNEL(quantize_bf16, QuantizeParams<bf16>) { quantize(p); }
DEFROST_KERNEL(quantize_f16, QuantizeParams<f16>) { quantize(p); }

}  // namespace quantizing
