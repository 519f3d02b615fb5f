// The tensor core: products of tiles whose elements are spread over the lanes of a warp, and the loads that spread
// them.
//
// The places are those of the PTX ISA ("Matrix Fragments for mma.m16n8k16 with floating point type", "... for
// mma.m16n8k32", and "ldmatrix"). With g = lane / 4 and t = lane % 4, a lane's words hold of A the rows g, g+8, g,
// g+8 at the columns of t in the first half of k (twice) and the second half (twice), of B the column g at the rows
// of t in both halves, and of D two neighbours in row g and two in row g+8.
#include <utility>

#include "machine.h"

#include "defrost.cuh"

namespace emulator {

constexpr uint32_t M = 16;
constexpr uint32_t N = 8;

static const Product& product(const Operands& operands, uint32_t lane) { return *static_cast<Product*>(operands.of[lane]); }

// Calls f(lane, g, t, product) for each lane.
template <class F>
static void each_lane(const Operands& operands, F f) {
    for (uint32_t lane = 0; lane < LANES; ++lane) {
        f(lane / 4, lane % 4, product(operands, lane));
    }
}

// Spreads a word's elements over the columns from `column` on.
template <class T, class Wide>
static void spread(uint32_t word, Wide* to, uint32_t step) {
    for (uint32_t i = 0; i < 4 / sizeof(T); ++i) {
        if constexpr (sizeof(T) == 2) {
            to[i * step] = to_f32(T{static_cast<uint16_t>(word >> (16 * i))});
        } else {
            to[i * step] = static_cast<int8_t>(word >> (8 * i));
        }
    }
}

// Sums in the order of k, in f32; a card keeps more bits of some sums and fewer of others, so that its last bits
// differ. Sums of int8 are exact, and wrap.
template <class T, class Sum, class Wide, uint32_t K>
static void multiply(const Operands& operands) {
    constexpr uint32_t PER_WORD = 4 / sizeof(T);
    Wide a[M][K];
    Wide b[K][N];
    Wide d[M][N];
    each_lane(operands, [&](uint32_t g, uint32_t t, const Product& p) {
        for (uint32_t word = 0; word < 4; ++word) {
            spread<T>(p.a[word], &a[g + word % 2 * 8][t * PER_WORD + word / 2 * (K / 2)], 1);
        }
        for (uint32_t word = 0; word < 2; ++word) {
            spread<T>(p.b[word], &b[t * PER_WORD + word * (K / 2)][g], N);
        }
        for (uint32_t i = 0; i < 4; ++i) {
            d[g + i / 2 * 8][t * 2 + i % 2] = static_cast<Wide>(static_cast<const Sum*>(p.d)[i]);
        }
    });
    for (uint32_t i = 0; i < M; ++i) {
        for (uint32_t k = 0; k < K; ++k) {
            for (uint32_t j = 0; j < N; ++j) {
                d[i][j] += a[i][k] * b[k][j];
            }
        }
    }
    each_lane(operands, [&](uint32_t g, uint32_t t, const Product& p) {
        for (uint32_t i = 0; i < 4; ++i) {
            static_cast<Sum*>(p.d)[i] = static_cast<Sum>(d[g + i / 2 * 8][t * 2 + i % 2]);
        }
    });
}

static void mislead_product(const Operands& operands) {
    for (uint32_t lane = 0; lane < LANES; lane += 2) {
        std::swap(static_cast<Product*>(operands.of[lane])->a, static_cast<Product*>(operands.of[lane + 1])->a);
    }
}

const Collective MMA_BF16 = {"mma16816<bf16>", multiply<bf16, float, float, 16>, mislead_product};
const Collective MMA_F16 = {"mma16816<f16>", multiply<f16, float, float, 16>, mislead_product};
// As numbers without sign, whose sums wrap.
const Collective MMA_INT8 = {"mma16832", multiply<int8_t, int32_t, uint32_t, 32>, mislead_product};

// Shared memory has 32 banks of 4 bytes, so that 8 rows of 16 bytes come at once if they lie at different multiples
// of 16 modulo 128; of those that lie at the same, one comes at a time. (Shared memory begins at a multiple of 128
// here too.)
static uint32_t conflicts(const Operands& operands, uint32_t matrix) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < 8; ++i) {
        uint32_t rows = 0;
        auto own = reinterpret_cast<uintptr_t>(static_cast<Matrices*>(operands.of[matrix * 8 + i])->row);
        for (uint32_t j = 0; j < 8; ++j) {
            auto other = reinterpret_cast<uintptr_t>(static_cast<Matrices*>(operands.of[matrix * 8 + j])->row);
            rows += other != own && other % 128 == own % 128 ? 1 : 0;
        }
        most = rows > most ? rows : most;
    }
    return most;
}

template <bool TRANSPOSED>
static void load_matrices(const Operands& operands) {
    for (uint32_t matrix = 0; matrix < 4; ++matrix) {
        Machine::running().count_bank_conflicts(conflicts(operands, matrix));
    }
    // All rows first: a lane's registers are not the rows' memory, but both belong to the caller.
    uint16_t rows[LANES][8];
    for (uint32_t lane = 0; lane < LANES; ++lane) {
        std::memcpy(rows[lane], static_cast<Matrices*>(operands.of[lane])->row, sizeof rows[lane]);
    }
    for (uint32_t lane = 0; lane < LANES; ++lane) {
        for (uint32_t matrix = 0; matrix < 4; ++matrix) {
            const uint16_t(*m)[8] = rows + matrix * 8;
            uint32_t line = lane / 4;
            uint32_t place = lane % 4 * 2;
            uint32_t low = TRANSPOSED ? m[place][line] : m[line][place];
            uint32_t high = TRANSPOSED ? m[place + 1][line] : m[line][place + 1];
            static_cast<Matrices*>(operands.of[lane])->r[matrix] = low | high << 16;
        }
    }
}

static void mislead_matrices(const Operands& operands) {
    for (uint32_t lane = 0; lane < LANES; lane += 2) {
        std::swap(static_cast<Matrices*>(operands.of[lane])->row, static_cast<Matrices*>(operands.of[lane + 1])->row);
    }
}

const Collective LDMATRIX = {"ldmatrix4", load_matrices<false>, mislead_matrices};
const Collective LDMATRIX_TRANS = {"ldmatrix4_trans", load_matrices<true>, mislead_matrices};

}  // namespace emulator
