// The names that our kernels are written in, with two meanings.
//
// A kernel's source includes this header and nothing else. Compiled by nvcc, the names below are thin wrappers of
// CUDA and PTX; compiled by g++, `cuda_emulator.h` (of the crate defrost-gpu-emulator) gives them a meaning on the
// CPU in which every access is checked. CUDA's own names (threadIdx, __syncthreads, __shfl_xor_sync, expf, ...) are
// used as they are.
//
//   DEFROST_KERNEL(name, Params) { ... p.field ... }       a kernel; its one parameter is the struct `p`
//   DEFROST_KERNEL_BOUNDS(name, Params, threads, blocks)   the same with __launch_bounds__
//   View<T>, View<const T>     8 bytes in a parameter struct: an address in global memory. v[i], v.at(offset), if (v)
//   Shared<T>                  a stretch of the block's shared memory: shared<T>(byte_offset, count); s[i], s.at(offset)
//   load4/8/16, store4/8/16    a vector of so many bytes (uint32_t, uint2, uint4) at element i, aligned to its size
//   bf16, f16                  16 bits without arithmetic; to_f32(x), from_f32<T>(x), pack2<T>(a, b), unpack2<T>(word)
//   mma16816<T>, mma16832      tensor cores; ldmatrix4, ldmatrix4_trans: their operands out of shared memory
//   copy_async16, copy_commit, copy_wait<N>                 global -> shared without registers
//   warp_sum, warp_max, block_sum, block_max                sums that all lanes, or all threads, receive
//
// What keeps a source valid in both worlds:
// - Elements are read into a variable of their own type (`float x = v[i];`): under g++ `v[i]` of a writable view is a
//   stand-in for the element, and `auto` would name the stand-in. A View<const T> and its elements' fields are plain
//   values.
// - A View<const T> is read through the read-only path: nothing in the launch may write there before.
// - Shared memory is dynamic, and lies at byte offsets that the kernel chooses; no `__shared__` variables.
// - Every warp function is called by all 32 lanes, and __syncthreads by all threads that there are; none has left
//   before.
// - Floats that become integers are in their range, and no NaN: what a card makes of others, a CPU does not.
// - No virtual functions, destructors, heap or `asm` in kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

// The upper half of an f32.
struct bf16 {
    uint16_t bits;
};

// IEEE 754 binary16.
struct f16 {
    uint16_t bits;
};

#ifdef __CUDACC__

#define DEFROST_INLINE __device__ __forceinline__
#define DEFROST_KERNEL(name, Params) extern "C" __global__ void name(const __grid_constant__ Params p)
#define DEFROST_KERNEL_BOUNDS(name, Params, threads, blocks) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Params p)

// The same bits as another type.
template <class To, class From>
DEFROST_INLINE To bits_as(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "bits_as keeps the size");
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}

// Reads through the read-only path. Not volatile: what is read so does not change during a launch. Written out,
// because `__ldg` is a library function, which not every build of the toolkit resolves.
DEFROST_INLINE uint16_t read_only2(const void* at) {
    uint16_t x;
    asm("ld.global.nc.u16 %0, [%1];" : "=h"(x) : "l"(at));
    return x;
}
DEFROST_INLINE uint32_t read_only4(const void* at) {
    uint32_t x;
    asm("ld.global.nc.u32 %0, [%1];" : "=r"(x) : "l"(at));
    return x;
}
DEFROST_INLINE uint2 read_only8(const void* at) {
    uint2 x;
    asm("ld.global.nc.v2.u32 {%0,%1}, [%2];" : "=r"(x.x), "=r"(x.y) : "l"(at));
    return x;
}
DEFROST_INLINE uint4 read_only16(const void* at) {
    uint4 x;
    asm("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(at));
    return x;
}

template <class T>
DEFROST_INLINE T read_only(const T* at) {
    if constexpr (sizeof(T) == 2 && alignof(T) == 2) {
        return bits_as<T>(read_only2(at));
    } else if constexpr (sizeof(T) == 4 && alignof(T) == 4) {
        return bits_as<T>(read_only4(at));
    } else if constexpr (sizeof(T) == 8 && alignof(T) == 8) {
        return bits_as<T>(read_only8(at));
    } else if constexpr (sizeof(T) == 16 && alignof(T) == 16) {
        return bits_as<T>(read_only16(at));
    } else {
        return *at;
    }
}

template <class T>
struct View {
    T* pointer;

    DEFROST_INLINE decltype(auto) operator[](size_t i) const {
        if constexpr (std::is_const_v<T>) {
            return read_only<std::remove_const_t<T>>(pointer + i);
        } else {
            return static_cast<T&>(pointer[i]);
        }
    }

    DEFROST_INLINE View at(int64_t offset) const { return View{pointer + offset}; }
    DEFROST_INLINE explicit operator bool() const { return pointer != nullptr; }
    template <class U, class = std::enable_if_t<std::is_same_v<U, const T> && !std::is_const_v<T>>>
    DEFROST_INLINE operator View<U>() const {
        return View<U>{pointer};
    }
};

template <class T>
struct Shared {
    T* pointer;

    DEFROST_INLINE T& operator[](size_t i) const { return pointer[i]; }
    DEFROST_INLINE Shared at(int64_t offset) const { return Shared{pointer + offset}; }
};

extern __shared__ __align__(128) unsigned char defrost_shared[];

template <class T>
DEFROST_INLINE Shared<T> shared(uint32_t byte_offset, uint32_t) {
    return Shared<T>{reinterpret_cast<T*>(defrost_shared + byte_offset)};
}

// The same bytes as elements of another type; T's elements fill whole ones.
template <class U, class T>
DEFROST_INLINE Shared<U> shared_as(Shared<T> s) {
    return Shared<U>{reinterpret_cast<U*>(s.pointer)};
}

template <class U, class T>
DEFROST_INLINE View<U> view_as(View<T> v) {
    return View<U>{reinterpret_cast<U*>(v.pointer)};
}

// Vectors: `i` counts elements, and the place is aligned to the vector's size.
#define DEFROST_VECTOR(bytes, Word)                                                                        \
    template <class T>                                                                                     \
    DEFROST_INLINE Word load##bytes(View<T> v, size_t i) {                                                 \
        if constexpr (std::is_const_v<T>) {                                                                \
            return read_only##bytes(v.pointer + i);                                                        \
        } else {                                                                                           \
            return *reinterpret_cast<const Word*>(v.pointer + i);                                          \
        }                                                                                                  \
    }                                                                                                      \
    template <class T>                                                                                     \
    DEFROST_INLINE Word load##bytes(Shared<T> s, size_t i) {                                               \
        return *reinterpret_cast<const Word*>(s.pointer + i);                                              \
    }                                                                                                      \
    template <class T>                                                                                     \
    DEFROST_INLINE void store##bytes(View<T> v, size_t i, Word value) {                                    \
        *reinterpret_cast<Word*>(v.pointer + i) = value;                                                   \
    }                                                                                                      \
    template <class T>                                                                                     \
    DEFROST_INLINE void store##bytes(Shared<T> s, size_t i, Word value) {                                  \
        *reinterpret_cast<Word*>(s.pointer + i) = value;                                                   \
    }
DEFROST_VECTOR(4, uint32_t)
DEFROST_VECTOR(8, uint2)
DEFROST_VECTOR(16, uint4)
#undef DEFROST_VECTOR

DEFROST_INLINE float to_f32(bf16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
DEFROST_INLINE float to_f32(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

// To the nearest, ties to even; a NaN becomes 0x7fff.
template <class T>
DEFROST_INLINE T from_f32(float x);
template <>
DEFROST_INLINE bf16 from_f32<bf16>(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
template <>
DEFROST_INLINE f16 from_f32<f16>(float x) {
    f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

// Two values in one word, `a` in the lower half: as they lie in memory.
template <class T>
DEFROST_INLINE uint32_t pack2(float a, float b);
template <>
DEFROST_INLINE uint32_t pack2<bf16>(float a, float b) {
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(b), "f"(a));
    return y;
}
template <>
DEFROST_INLINE uint32_t pack2<f16>(float a, float b) {
    uint32_t y;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(b), "f"(a));
    return y;
}

// 2 to the x, and 1 / x, of about 22 bits.
DEFROST_INLINE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEFROST_INLINE float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// d += a * b on tensor cores: a is 16 x 16 row by row, b 16 x 8 column by column, d 16 x 8, spread over the warp as
// PTX's `mma.m16n8k16` has it. With g = lane / 4 and t = lane % 4:
//   a[0]: row g, columns 2t and 2t+1; a[1]: row g+8; a[2], a[3]: the same rows, columns 2t+8 and 2t+9
//   b[0]: rows 2t and 2t+1 of column g; b[1]: rows 2t+8 and 2t+9
//   d[0], d[1]: row g, columns 2t and 2t+1; d[2], d[3]: row g+8
template <class T>
DEFROST_INLINE void mma16816(float* d, const uint32_t* a, const uint32_t* b) {
    static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>, "mma16816 multiplies bf16 or f16");
    if constexpr (std::is_same_v<T, bf16>) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
}

// The same in int8 with sums of 32 bits, `mma.m16n8k32`: each word holds 4 neighbours of k, so that
//   a[0]: row g, columns 4t..4t+3; a[1]: row g+8; a[2], a[3]: the same rows, columns 4t+16..4t+19
//   b[0]: rows 4t..4t+3 of column g; b[1]: rows 4t+16..4t+19; d as above
DEFROST_INLINE void mma16832(int32_t* d, const uint32_t* a, const uint32_t* b) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16 bits. Lane l names the start of row l % 8 of matrix l / 8: 16 bytes, aligned to 16. r[m]
// receives of matrix m the row lane / 4, columns 2 (lane % 4) and the next. `_trans`: of the transposed matrix.
template <class T>
DEFROST_INLINE void ldmatrix4(uint32_t* r, Shared<T> s, size_t i) {
    uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(s.pointer + i));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
template <class T>
DEFROST_INLINE void ldmatrix4_trans(uint32_t* r, Shared<T> s, size_t i) {
    uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(s.pointer + i));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// Starts to copy 16 bytes, of which those from `valid_bytes` on become zero; with 0 nothing is read, whatever the
// address. They are there for this thread after copy_wait, for others after a barrier behind it.
template <class T, class U>
DEFROST_INLINE void copy_async16(Shared<T> to, size_t i, View<U> from, size_t j, uint32_t valid_bytes) {
    static_assert(sizeof(T) == sizeof(U), "copy_async16 keeps the size of elements");
    uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(to.pointer + i));
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :
                 : "r"(at), "l"(from.pointer + j), "r"(valid_bytes)
                 : "memory");
}
// What was started since the last commit is a group.
DEFROST_INLINE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most the N latest groups of this thread are under way.
template <int N>
DEFROST_INLINE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#else

#include "cuda_emulator.h"

#endif

// What follows is one text for both.

constexpr uint32_t ALL_LANES = 0xffffffffu;

DEFROST_INLINE float to_f32(float x) { return x; }
DEFROST_INLINE float to_f32(int8_t x) { return static_cast<float>(x); }
template <>
DEFROST_INLINE float from_f32<float>(float x) {
    return x;
}

// The two values of such a word.
template <class T>
DEFROST_INLINE float2 unpack2(uint32_t word) {
    return make_float2(to_f32(T{static_cast<uint16_t>(word)}), to_f32(T{static_cast<uint16_t>(word >> 16)}));
}

DEFROST_INLINE uint32_t lane_id() { return threadIdx.x % 32; }
DEFROST_INLINE uint32_t warp_id() { return threadIdx.x / 32; }

constexpr __host__ __device__ uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

// The sum and the maximum over each run of WIDTH lanes, in all of them.
template <int WIDTH = 32>
DEFROST_INLINE float warp_sum(float x) {
#pragma unroll
    for (int step = WIDTH / 2; step > 0; step /= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, step);
    }
    return x;
}
template <int WIDTH = 32>
DEFROST_INLINE float warp_max(float x) {
#pragma unroll
    for (int step = WIDTH / 2; step > 0; step /= 2) {
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    }
    return x;
}

// The same over the block, in all of its threads. `scratch` holds 32 floats, which are free again afterwards.
DEFROST_INLINE float block_sum(float x, Shared<float> scratch) {
    x = warp_sum(x);
    if (lane_id() == 0) {
        scratch[warp_id()] = x;
    }
    __syncthreads();
    float part = 0.0f;
    if (lane_id() < blockDim.x / 32) {
        part = scratch[lane_id()];
    }
    __syncthreads();
    return warp_sum(part);
}
DEFROST_INLINE float block_max(float x, Shared<float> scratch) {
    x = warp_max(x);
    if (lane_id() == 0) {
        scratch[warp_id()] = x;
    }
    __syncthreads();
    float part = -INFINITY;
    if (lane_id() < blockDim.x / 32) {
        part = scratch[lane_id()];
    }
    __syncthreads();
    return warp_max(part);
}
