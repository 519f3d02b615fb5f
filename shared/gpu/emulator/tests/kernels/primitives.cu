// Each primitive by itself: what goes in and comes out lies in global memory, a place for each thread.
#include "defrost.cuh"

struct ShuffleParams {
    View<const uint32_t> values;
    View<uint32_t> out;
    View<uint64_t> wide;
    uint32_t kind;
    int32_t argument;
    int32_t width;
    uint32_t mask;
};

template <class T>
DEFROST_INLINE T any_shuffle(uint32_t kind, uint32_t mask, T x, int32_t argument, int32_t width) {
    switch (kind) {
        case 0: return __shfl_sync(mask, x, argument, width);
        case 1: return __shfl_up_sync(mask, x, argument, width);
        case 2: return __shfl_down_sync(mask, x, argument, width);
        default: return __shfl_xor_sync(mask, x, argument, width);
    }
}

DEFROST_KERNEL(test_shuffle, ShuffleParams) {
    uint32_t i = threadIdx.x;
    if ((p.mask >> lane_id() & 1) == 0) {
        return;
    }
    uint32_t x = p.values[i];
    p.out[i] = any_shuffle(p.kind, p.mask, x, p.argument, p.width);
    p.wide[i] = any_shuffle(p.kind, p.mask, static_cast<uint64_t>(x) << 32 | i, p.argument, p.width);
}

struct VoteParams {
    View<const uint32_t> values;
    View<uint32_t> out;
    uint32_t mask;
};

// Odd values are the votes. Nine results of each thread.
DEFROST_KERNEL(test_votes, VoteParams) {
    uint32_t x = p.values[threadIdx.x];
    View<uint32_t> out = p.out.at(threadIdx.x * 9);
    out[0] = __syncthreads_or(x % 2 == 1);
    out[1] = __syncthreads_and(x % 2 == 1);
    out[2] = __syncthreads_count(x % 2 == 1);
    if ((p.mask >> lane_id() & 1) != 0) {
        out[3] = __ballot_sync(p.mask, x % 2 == 1);
        out[4] = __any_sync(p.mask, x % 2 == 1);
        out[5] = __all_sync(p.mask, x % 2 == 1);
        out[6] = __reduce_add_sync(p.mask, x);
        out[7] = __reduce_max_sync(p.mask, x);
        out[8] = __reduce_min_sync(p.mask, x);
    }
}

struct ProductParams {
    View<const uint32_t> a;
    View<const uint32_t> b;
    View<float> d;
    View<int32_t> sums;
    uint32_t kind;
};

// The fragments of each lane lie one after another: 4 words of a, 2 of b, 4 of d.
DEFROST_KERNEL(test_mma, ProductParams) {
    uint32_t i = threadIdx.x;
    uint32_t a[4];
    uint32_t b[2];
    for (int j = 0; j < 4; ++j) {
        a[j] = p.a[i * 4 + j];
    }
    for (int j = 0; j < 2; ++j) {
        b[j] = p.b[i * 2 + j];
    }
    float d[4];
    int32_t sums[4];
    for (int j = 0; j < 4; ++j) {
        d[j] = p.d[i * 4 + j];
        sums[j] = p.sums[i * 4 + j];
    }
    switch (p.kind) {
        case 0: mma16816<bf16>(d, a, b); break;
        case 1: mma16816<f16>(d, a, b); break;
        default: mma16832(sums, a, b);
    }
    for (int j = 0; j < 4; ++j) {
        p.d[i * 4 + j] = d[j];
        p.sums[i * 4 + j] = sums[j];
    }
}

struct MatrixParams {
    View<const uint16_t> tile;
    View<const uint32_t> starts;
    View<uint32_t> out;
    uint32_t count;
    uint32_t transposed;
};

// `count` elements of 16 bits go to shared memory; lane l's row starts at element starts[l].
DEFROST_KERNEL(test_ldmatrix, MatrixParams) {
    Shared<uint16_t> tile = shared<uint16_t>(256, p.count);
    for (uint32_t i = threadIdx.x; i < p.count; i += blockDim.x) {
        tile[i] = p.tile[i];
    }
    __syncthreads();
    uint32_t r[4];
    uint32_t start = p.starts[threadIdx.x];
    if (p.transposed != 0) {
        ldmatrix4_trans(r, tile, start);
    } else {
        ldmatrix4(r, tile, start);
    }
    store16(p.out, threadIdx.x * 4, make_uint4(r[0], r[1], r[2], r[3]));
}

struct CopyParams {
    View<const uint8_t> from;
    View<uint8_t> to;
    uint32_t valid;
};

// Three groups of 16 bytes a thread, each awaited by itself and passed on to the neighbour.
DEFROST_KERNEL(test_copy, CopyParams) {
    uint32_t threads = blockDim.x;
    Shared<uint8_t> stages = shared<uint8_t>(0, 3 * 16 * threads);
    for (uint32_t stage = 0; stage < 3; ++stage) {
        uint32_t i = (stage * threads + threadIdx.x) * 16;
        copy_async16(stages, i, p.from, i, p.valid);
        copy_commit();
    }
    uint32_t neighbour = (threadIdx.x + 1) % threads;
    for (uint32_t stage = 0; stage < 3; ++stage) {
        if (stage == 0) {
            copy_wait<2>();
        } else if (stage == 1) {
            copy_wait<1>();
        } else {
            copy_wait<0>();
        }
        __syncthreads();
        store16(p.to, (stage * threads + threadIdx.x) * 16, load16(stages, (stage * threads + neighbour) * 16));
    }
}

struct ConvertParams {
    View<const float> floats;
    View<float> widened;
    View<uint16_t> bits;
    View<uint32_t> pairs;
    uint32_t count;
    uint32_t half;
};

template <class T>
DEFROST_INLINE void convert(const ConvertParams& p) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.count) {
        return;
    }
    float x = p.floats[i];
    p.widened[i] = to_f32(T{static_cast<uint16_t>(i)});
    p.bits[i] = from_f32<T>(x).bits;
    float2 pair = unpack2<T>(pack2<T>(x, -x));
    p.pairs[i] = pack2<T>(pair.x, pair.y);
}

DEFROST_KERNEL(test_convert, ConvertParams) {
    if (p.half == 0) {
        convert<bf16>(p);
    } else {
        convert<f16>(p);
    }
}

struct Record {
    uint32_t first;
    float second;
    uint32_t rest[6];
};

struct ViewParams {
    View<const Record> records;
    View<float> out;
    View<float> absent;
    View<uint32_t> words;
};

DEFROST_KERNEL(test_views, ViewParams) {
    uint32_t i = threadIdx.x;
    Record record = p.records[i];
    View<float> out = p.out.at(i * 4);
    out[0] = record.second;
    out[1] = static_cast<float>(p.records[i].first);
    out[1] += 0.5f;
    out[2] = out[1];
    out[2] *= 2.0f;
    out[2] -= 1.0f;
    out[3] = p.absent ? p.absent[0] : (p.out ? fmaxf(out[0], out[2]) : -1.0f);
    Shared<uint32_t> words = shared<uint32_t>(128, blockDim.x * 8);
    store4(words, i * 8, load4(p.words, i * 8));
    store8(words, i * 8 + 2, load8(p.words, i * 8 + 2));
    store16(words, i * 8 + 4, load16(p.words, i * 8 + 4));
    words[i * 8 + 1] = p.words[i * 8 + 1];
    Shared<uint8_t> bytes = shared_as<uint8_t>(words.at(i * 8));
    bytes[0] = static_cast<uint8_t>(bytes[0] + 1);
    uint4 last = load16(words, i * 8 + 4);
    store4(p.words, i * 8, load4(words, i * 8));
    store8(p.words, i * 8 + 2, load8(words, i * 8 + 2));
    store16(view_as<uint4>(p.words), i * 2 + 1, make_uint4(last.w, last.z, last.y, last.x));
    p.words[i * 8 + 1] = words[i * 8 + 1];
}

struct SumParams {
    View<const float> values;
    View<float> out;
};

// Six results of each thread.
DEFROST_KERNEL(test_sums, SumParams) {
    Shared<float> scratch = shared<float>(0, 32);
    float x = p.values[threadIdx.x];
    View<float> out = p.out.at(threadIdx.x * 6);
    out[0] = warp_sum(x);
    out[1] = warp_max(x);
    out[2] = warp_sum<4>(x);
    out[3] = warp_max<8>(x);
    // One after the other in the same place.
    float half = block_sum(x * 0.5f, scratch);
    out[5] = block_max(x, scratch);
    out[4] = half + block_sum(x * 0.5f, scratch);
}

struct IndexParams {
    View<uint32_t> out;
};

// The linear number of each thread, written to its place, with what it is made of.
DEFROST_KERNEL_BOUNDS(test_indices, IndexParams, 64, 2) {
    uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    p.out[block * blockDim.x + threadIdx.x] = blockIdx.x | blockIdx.y << 8 | blockIdx.z << 16 | threadIdx.x << 24;
}

struct OrderParams {
    View<uint32_t> out;
    uint32_t rounds;
};

// Allowed, and nothing that the emulator may take for a fault: neighbouring bytes of different threads, exchanges
// within parts of a warp, reading together what one wrote, and the other way round, and writing again behind a
// barrier.
DEFROST_KERNEL(test_allowed, OrderParams) {
    Shared<uint8_t> bytes = shared<uint8_t>(0, blockDim.x);
    Shared<uint32_t> words = shared<uint32_t>(1024, blockDim.x);
    uint32_t i = threadIdx.x;
    uint32_t half = lane_id() < 16 ? 0x0000ffffu : 0xffff0000u;
    uint32_t sum = 0;
    for (uint32_t round = 0; round < p.rounds; ++round) {
        bytes[i] = static_cast<uint8_t>(i + round);
        words[i] = i * round;
        __syncwarp(half);
        sum += words[i ^ 15];
        uint32_t beside = words[i ^ 1];
        sum += __shfl_xor_sync(half, beside, 3);
        __syncwarp(half);
        words[i] = sum;
        __syncwarp();
        sum += words[i ^ 31];
        __syncthreads();
        for (uint32_t j = 0; j < blockDim.x; ++j) {
            sum += bytes[j];
        }
        sum += words[0];
        __syncthreads();
    }
    p.out[blockIdx.x * blockDim.x + i] = sum;
}
