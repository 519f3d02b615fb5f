// What threads do together: barriers, shuffles, votes, and the tensor core's operands and products.
#pragma once

namespace emulator {

uint32_t this_lane();

// A value of 4 or 8 bytes and the lane that the caller wants it from.
struct Shuffle {
    uint64_t value;
    uint32_t from;
    uint64_t received;
};
extern const Collective SHUFFLE, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR;

template <class T>
inline T shuffle(const Collective& collective, uint32_t mask, T value, uint32_t from, Site site) {
    static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                  "a shuffle moves a value of 4 or 8 bytes: read an element of a view into a variable first");
    Shuffle operand{0, from, 0};
    std::memcpy(&operand.value, &value, sizeof(T));
    meet(collective, mask, &operand, site);
    std::memcpy(&value, &operand.received, sizeof(T));
    return value;
}

// The first lane of the caller's run of `width` lanes.
uint32_t segment(uint32_t width);

struct Ballot {
    bool predicate;
    uint32_t votes;
};
extern const Collective BALLOT, ANY, ALL;
uint32_t ballot(const Collective& collective, uint32_t mask, bool predicate, Site site);

struct Reduce {
    uint32_t value;
    uint32_t result;
};
extern const Collective REDUCE_ADD, REDUCE_MAX, REDUCE_MIN;
inline uint32_t reduce(const Collective& collective, uint32_t mask, uint32_t value, Site site) {
    Reduce operand{value, 0};
    meet(collective, mask, &operand, site);
    return operand.result;
}

struct Product {
    void* d;
    const uint32_t* a;
    const uint32_t* b;
};
extern const Collective MMA_BF16, MMA_F16, MMA_INT8;

struct Matrices {
    uint32_t* r;
    const void* row;
};
extern const Collective LDMATRIX, LDMATRIX_TRANS;

constexpr uint32_t WHOLE_WARP = 0xffffffffu;

}  // namespace emulator

inline void __syncthreads(emulator::Site site = emulator::Site::here()) { emulator::barrier(false, site); }
inline int __syncthreads_or(int predicate, emulator::Site site = emulator::Site::here()) {
    return emulator::barrier(predicate != 0, site).any;
}
inline int __syncthreads_and(int predicate, emulator::Site site = emulator::Site::here()) {
    return emulator::barrier(predicate != 0, site).all;
}
inline int __syncthreads_count(int predicate, emulator::Site site = emulator::Site::here()) {
    return static_cast<int>(emulator::barrier(predicate != 0, site).count);
}
void __syncwarp(unsigned int mask = emulator::WHOLE_WARP, emulator::Site site = emulator::Site::here());

template <class T>
inline T __shfl_sync(unsigned int mask, T value, int lane, int width = 32, emulator::Site site = emulator::Site::here()) {
    uint32_t from = emulator::segment(width) + (static_cast<uint32_t>(lane) & static_cast<uint32_t>(width - 1));
    return emulator::shuffle(emulator::SHUFFLE, mask, value, from, site);
}
template <class T>
inline T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = 32,
                        emulator::Site site = emulator::Site::here()) {
    uint32_t me = emulator::this_lane();
    uint32_t from = me - emulator::segment(width) >= delta ? me - delta : me;
    return emulator::shuffle(emulator::SHUFFLE_UP, mask, value, from, site);
}
template <class T>
inline T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = 32,
                          emulator::Site site = emulator::Site::here()) {
    uint32_t me = emulator::this_lane();
    uint32_t left = emulator::segment(width) + static_cast<uint32_t>(width) - 1 - me;
    return emulator::shuffle(emulator::SHUFFLE_DOWN, mask, value, delta <= left ? me + delta : me, site);
}
template <class T>
inline T __shfl_xor_sync(unsigned int mask, T value, int other, int width = 32,
                         emulator::Site site = emulator::Site::here()) {
    uint32_t me = emulator::this_lane();
    uint32_t from = me ^ static_cast<uint32_t>(other);
    uint32_t last = emulator::segment(width) + static_cast<uint32_t>(width) - 1;
    return emulator::shuffle(emulator::SHUFFLE_XOR, mask, value, from <= last ? from : me, site);
}

inline unsigned int __ballot_sync(unsigned int mask, int predicate, emulator::Site site = emulator::Site::here()) {
    return emulator::ballot(emulator::BALLOT, mask, predicate != 0, site);
}
inline int __any_sync(unsigned int mask, int predicate, emulator::Site site = emulator::Site::here()) {
    return emulator::ballot(emulator::ANY, mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned int mask, int predicate, emulator::Site site = emulator::Site::here()) {
    return emulator::ballot(emulator::ALL, mask, predicate != 0, site) == mask;
}
inline unsigned int __reduce_add_sync(unsigned int mask, unsigned int value, emulator::Site site = emulator::Site::here()) {
    return emulator::reduce(emulator::REDUCE_ADD, mask, value, site);
}
inline int __reduce_add_sync(unsigned int mask, int value, emulator::Site site = emulator::Site::here()) {
    return static_cast<int>(emulator::reduce(emulator::REDUCE_ADD, mask, static_cast<uint32_t>(value), site));
}
inline unsigned int __reduce_max_sync(unsigned int mask, unsigned int value, emulator::Site site = emulator::Site::here()) {
    return emulator::reduce(emulator::REDUCE_MAX, mask, value, site);
}
inline unsigned int __reduce_min_sync(unsigned int mask, unsigned int value, emulator::Site site = emulator::Site::here()) {
    return emulator::reduce(emulator::REDUCE_MIN, mask, value, site);
}

template <class T>
inline void mma16816(float* d, const uint32_t* a, const uint32_t* b, emulator::Site site = emulator::Site::here()) {
    static_assert(std::is_same_v<T, bf16> || std::is_same_v<T, f16>, "mma16816 multiplies bf16 or f16");
    emulator::Product operand{d, a, b};
    emulator::meet(std::is_same_v<T, bf16> ? emulator::MMA_BF16 : emulator::MMA_F16, emulator::WHOLE_WARP, &operand, site);
}
inline void mma16832(int32_t* d, const uint32_t* a, const uint32_t* b, emulator::Site site = emulator::Site::here()) {
    emulator::Product operand{d, a, b};
    emulator::meet(emulator::MMA_INT8, emulator::WHOLE_WARP, &operand, site);
}

template <class T>
inline void ldmatrix4(uint32_t* r, Shared<T> s, size_t i, emulator::Site site = emulator::Site::here()) {
    emulator::Matrices operand{r, emulator::shared_access(s.stretch, s.place(i).at, 16, 16, emulator::Access::Read)};
    emulator::meet(emulator::LDMATRIX, emulator::WHOLE_WARP, &operand, site);
}
template <class T>
inline void ldmatrix4_trans(uint32_t* r, Shared<T> s, size_t i, emulator::Site site = emulator::Site::here()) {
    emulator::Matrices operand{r, emulator::shared_access(s.stretch, s.place(i).at, 16, 16, emulator::Access::Read)};
    emulator::meet(emulator::LDMATRIX_TRANS, emulator::WHOLE_WARP, &operand, site);
}
