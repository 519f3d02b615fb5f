// Attention over packed sequences in one pass over the keys: what is asked stands in attention.rs.
//
// A block of 4 warps computes 64 queries of a head of a sequence, a warp 16 of them, the height of a product of tensor
// cores. Queries stay in registers (in shared memory where heads are 256 wide); keys and values come in tiles
// of KEYS rows:
//
//   tile j      scores = Q K^T     16 x KEYS products in f32
//               top, sum, out      rescaled by exp2 of the difference where a greater score comes (online softmax)
//               out += P V         P rounded to 16 bits
//
// While tile j is computed, tile j+1 is copied to the other of two stages. One barrier a tile is enough: at it, tile j
// has come, and every warp has read the last of tile j-1, whose stage tile j+1 takes.
//
// Tiles begin at multiples of KEYS in the sequence's list of keys. A tile that a query does not see changes nothing of
// its state, to the bit: its greatest score is -inf, so `top` stays, everything is multiplied with exp2(0) = 1, and
// zeros are added. So a row's answer depends neither on the row that it has in its tile, nor on the tiles that its
// neighbours need.
//
// Columns of a head beyond `head_dim` and rows beyond a sequence's end are zeros in shared memory, never read from
// another sequence's rows: a NaN there stays there.
//
// In shared memory a row is WIDTH values in pieces of 16 bytes, whose order is turned by the row's number: eight rows'
// pieces of one column, which `ldmatrix` reads at once, lie in different banks.

#include "sequence.cuh"

namespace attention_tiles {

template <typename T>
struct AttentionParams {
    View<const T> qkv, stored;
    View<T> out;
    View<const uint32_t> sequences, tiles;
    uint32_t head_dim, group, row, keys_at, values_at, causal, window;
    float scale;
};

constexpr uint32_t QUERIES = 64;
constexpr uint32_t THREADS = 128;
// Values of 16 bytes.
constexpr uint32_t PIECE = 8;

// Pieces whose order is turned together: rows of 64 and 192 bytes begin in two halves of the banks in turn.
template <uint32_t WIDTH>
constexpr uint32_t TURNED = WIDTH % 64 == 0 ? 8 : 4;

// The first value of a piece of a row.
template <uint32_t WIDTH>
DEFROST_INLINE uint32_t place(uint32_t row, uint32_t piece) {
    const uint32_t turn = TURNED<WIDTH> == 8 ? row % 8 : row / 2 % 4;
    return row * WIDTH + (piece ^ turn) * PIECE;
}

// The place of the piece that is 2 k pieces after an even or odd first one, from the place of that.
template <uint32_t WIDTH>
DEFROST_INLINE uint32_t along(uint32_t first, uint32_t k) {
    return (first ^ 2 * k % TURNED<WIDTH> * PIECE) + 2 * k / TURNED<WIDTH> * TURNED<WIDTH> * PIECE;
}

// What a thread copies: the same pieces of every ROWS-th row.
template <uint32_t WIDTH>
struct Part {
    static constexpr uint32_t LANES = TURNED<WIDTH>, ROWS = THREADS / LANES;
    static DEFROST_INLINE uint32_t row() { return threadIdx.x / LANES; }
    static DEFROST_INLINE uint32_t piece() { return threadIdx.x % LANES; }
};

// The keys that a sequence's queries may see, and those that one of them does.
template <typename T>
struct Keys {
    const AttentionParams<T>& p;
    // Of the list: where the prefix begins, where own rows begin, where it ends.
    uint32_t stored, before, total;
    // From a place in the list to a row of the batch.
    uint32_t to_prefix, to_own;
    // Where the head lies among heads of keys.
    uint32_t head_at;

    DEFROST_INLINE Keys(const AttentionParams<T>& p, Sequence sequence, uint32_t head)
        : p(p),
          stored(sequence.stored),
          before(sequence.stored + sequence.prefix_len),
          total(before + sequence.len),
          to_prefix(sequence.prefix_start - stored),
          to_own(sequence.start - before),
          head_at(head * p.head_dim) {}

    // The first key that the own row `query` sees.
    DEFROST_INLINE uint32_t low(uint32_t query) const {
        const uint32_t end = before + query + 1;
        return end > p.window ? end - p.window : 0;
    }

    // The key after the last one that it sees.
    DEFROST_INLINE uint32_t high(uint32_t query) const {
        const uint32_t end = before + query + (p.causal ? 1 : p.window);
        return end < total ? end : total;
    }

    // Starts the copy of the COUNT keys from `first` on to `to`, and of their values behind them.
    template <uint32_t WIDTH, uint32_t COUNT>
    DEFROST_INLINE void copy(Shared<T> memory, uint32_t to, uint32_t first) const {
        // Heads of 128 leave no registers for the addresses of several rows at once, with three blocks each.
        constexpr int AT_ONCE = WIDTH == 128 ? 1 : COUNT / Part<WIDTH>::ROWS;
#pragma unroll AT_ONCE
        for (uint32_t i = 0; i < COUNT; i += Part<WIDTH>::ROWS) {
            const uint32_t row = i + Part<WIDTH>::row(), key = first + row;
            const bool in_stored = key < stored;
            const View<const T> from = in_stored ? p.stored : p.qkv;
            const uint32_t index = in_stored ? key : key + (key < before ? to_prefix : to_own);
            const size_t at =
                size_t(index) * (in_stored ? 2 * p.values_at : p.row) + (in_stored ? 0 : p.keys_at) + head_at;
#pragma unroll
            for (uint32_t j = 0; j < WIDTH / PIECE; j += Part<WIDTH>::LANES) {
                const uint32_t piece = j + Part<WIDTH>::piece(), into = to + place<WIDTH>(row, piece);
                const uint32_t valid = key < total && piece * PIECE < p.head_dim ? 16 : 0;
                copy_async16(memory, into, from, at + piece * PIECE, valid);
                copy_async16(memory, into + COUNT * WIDTH, from, at + p.values_at + piece * PIECE, valid);
            }
        }
    }
};

// What is known of a row after some tiles; `sum` is of the columns of this lane.
struct Row {
    float top, sum;
};

// Takes a tile's scores of a row into its state, leaves their probabilities, and returns what came before is worth.
template <uint32_t COLUMNS>
DEFROST_INLINE float take(Row& row, float (&scores)[COLUMNS][4], uint32_t half, float scale) {
    float top = -INFINITY;
#pragma unroll
    for (uint32_t n = 0; n < COLUMNS; ++n) top = fmaxf(top, fmaxf(scores[n][half], scores[n][half + 1]));
    top = fmaxf(row.top, warp_max<4>(top) * scale);
    // Before the first key that it sees, a row has the top -inf, of which no difference may be taken.
    const float from = top == -INFINITY ? 0.0f : top;
    const float worth = exp2_fast(row.top - from);
    row.top = top;
    float sum = 0.0f;
#pragma unroll
    for (uint32_t n = 0; n < COLUMNS; ++n) {
#pragma unroll
        for (uint32_t i = half; i < half + 2; ++i) {
            scores[n][i] = exp2_fast(fmaf(scores[n][i], scale, -from));
            sum += scores[n][i];
        }
    }
    row.sum = fmaf(row.sum, worth, sum);
    return worth;
}

// 16 x 16 times two 16 x 8, as one load of four matrices has them.
template <typename T>
DEFROST_INLINE void multiply(float (&left)[4], float (&right)[4], const uint32_t (&a)[4], const uint32_t (&b)[4]) {
    const uint32_t b_left[2] = {b[0], b[1]}, b_right[2] = {b[2], b[3]};
    mma16816<T>(left, a, b_left);
    mma16816<T>(right, a, b_right);
}

template <typename T, uint32_t WIDTH, uint32_t KEYS>
DEFROST_INLINE void attend(const AttentionParams<T>& p) {
    constexpr uint32_t TILE = KEYS * WIDTH;
    constexpr bool RESIDENT = WIDTH <= 128;
    // Queries that go to registers pass through the stage of the second tile; others have their own place.
    constexpr uint32_t STAGES = RESIDENT ? 0 : QUERIES * WIDTH;
    static_assert(!RESIDENT || QUERIES * WIDTH <= 2 * TILE, "queries fit a stage");

    const uint32_t lane = lane_id(), warp = warp_id(), head = blockIdx.y;
    const uint32_t number = p.tiles[2 * size_t(blockIdx.x)], first = p.tiles[2 * size_t(blockIdx.x) + 1];
    const Sequence sequence = sequence_at(p.sequences, number);
    // A tile that fills a list up to a graph's has no query.
    if (first >= sequence.len) return;
    const Keys<T> keys(p, sequence, head / p.group);
    const uint32_t last = (first + QUERIES < sequence.len ? first + QUERIES : sequence.len) - 1;

    const uint32_t begin = keys.low(first) / KEYS, end = (keys.high(last) + KEYS - 1) / KEYS;
    const Shared<T> memory = shared<T>(0, STAGES + 4 * TILE);
    const auto stage = [](uint32_t tile) { return STAGES + tile % 2 * 2 * TILE; };
    const uint32_t query_tile = RESIDENT ? stage(begin + 1) : 0;
#pragma unroll
    for (uint32_t i = 0; i < QUERIES; i += Part<WIDTH>::ROWS) {
        const uint32_t row = i + Part<WIDTH>::row();
#pragma unroll
        for (uint32_t j = 0; j < WIDTH / PIECE; j += Part<WIDTH>::LANES) {
            const uint32_t piece = j + Part<WIDTH>::piece();
            const bool there = first + row <= last && piece * PIECE < p.head_dim;
            const size_t at = size_t(sequence.start + first + row) * p.row + head * p.head_dim + piece * PIECE;
            copy_async16(memory, query_tile + place<WIDTH>(row, piece), p.qkv, at, there ? 16 : 0);
        }
    }
    copy_commit();

    keys.template copy<WIDTH, KEYS>(memory, stage(begin), begin * KEYS);
    copy_commit();

    // Where this lane's rows of four matrices begin: of queries and values side by side, of keys one below another.
    const uint32_t query_place = query_tile + place<WIDTH>(warp * 16 + lane % 16, lane / 16);
    const uint32_t key_place = place<WIDTH>(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    const uint32_t value_place = place<WIDTH>(lane % 16, lane / 16);
    uint32_t queries[RESIDENT ? WIDTH / 16 : 1][4];
    if constexpr (RESIDENT) {
        copy_wait<1>();
        __syncthreads();
#pragma unroll
        for (uint32_t k = 0; k < WIDTH / 16; ++k) ldmatrix4(queries[k], memory, along<WIDTH>(query_place, k));
    }

    const uint32_t warp_first = first + warp * 16, own = warp_first + lane / 4;
    const uint32_t warp_last = warp_first + 15 < last ? warp_first + 15 : last;
    const bool idle = warp_first > last;
    Row upper = {-INFINITY, 0.0f}, lower = upper;
    float out[WIDTH / 8][4] = {};

    for (uint32_t tile = begin; tile < end; ++tile) {
        const uint32_t first_key = tile * KEYS;
        copy_wait<0>();
        __syncthreads();
        if (tile + 1 < end) {
            keys.template copy<WIDTH, KEYS>(memory, stage(tile + 1), first_key + KEYS);
            copy_commit();
        }
        if (idle || first_key >= keys.high(warp_last) || first_key + KEYS <= keys.low(warp_first)) continue;

        const uint32_t key_rows = stage(tile) + key_place, value_rows = stage(tile) + TILE + value_place;
        float scores[KEYS / 8][4] = {};
#pragma unroll
        for (uint32_t k = 0; k < WIDTH / 16; ++k) {
            if constexpr (!RESIDENT) ldmatrix4(queries[0], memory, along<WIDTH>(query_place, k));
#pragma unroll
            for (uint32_t n = 0; n < KEYS / 16; ++n) {
                uint32_t b[4];
                ldmatrix4(b, memory, along<WIDTH>(key_rows, k) + n * 16 * WIDTH);
                multiply<T>(scores[2 * n], scores[2 * n + 1], queries[RESIDENT ? k : 0], b);
            }
        }

        if (first_key < keys.low(warp_last) || first_key + KEYS > keys.high(warp_first)) {
            const uint32_t low[2] = {keys.low(own), keys.low(own + 8)};
            const uint32_t count[2] = {keys.high(own) - low[0], keys.high(own + 8) - low[1]};
#pragma unroll
            for (uint32_t n = 0; n < KEYS / 8; ++n) {
#pragma unroll
                for (uint32_t i = 0; i < 4; ++i) {
                    const uint32_t key = first_key + n * 8 + lane % 4 * 2 + i % 2;
                    if (key - low[i / 2] >= count[i / 2]) scores[n][i] = -INFINITY;
                }
            }
        }
        const float above = take(upper, scores, 0, p.scale), below = take(lower, scores, 2, p.scale);
#pragma unroll
        for (uint32_t n = 0; n < WIDTH / 8; ++n) {
            out[n][0] *= above;
            out[n][1] *= above;
            out[n][2] *= below;
            out[n][3] *= below;
        }

#pragma unroll
        for (uint32_t k = 0; k < KEYS / 16; ++k) {
            const float(&left)[4] = scores[2 * k], (&right)[4] = scores[2 * k + 1];
            const uint32_t a[4] = {pack2<T>(left[0], left[1]), pack2<T>(left[2], left[3]),
                                   pack2<T>(right[0], right[1]), pack2<T>(right[2], right[3])};
#pragma unroll
            for (uint32_t n = 0; n < WIDTH / 16; ++n) {
                uint32_t b[4];
                ldmatrix4_trans(b, memory, along<WIDTH>(value_rows, n) + k * 16 * WIDTH);
                multiply<T>(out[2 * n], out[2 * n + 1], a, b);
            }
        }
    }

    // Through shared memory, of which each warp has the part of its rows, so that 16 bytes are written at once.
    __syncthreads();
    if (idle) return;
    const Shared<uint32_t> result = shared<uint32_t>(0, QUERIES * WIDTH / 2);
    const float above = 1.0f / warp_sum<4>(upper.sum), below = 1.0f / warp_sum<4>(lower.sum);
    const uint32_t row = warp * 16 + lane / 4;
#pragma unroll
    for (uint32_t n = 0; n < WIDTH / 8; ++n) {
        result[place<WIDTH>(row, n) / 2 + lane % 4] = pack2<T>(out[n][0] * above, out[n][1] * above);
        result[place<WIDTH>(row + 8, n) / 2 + lane % 4] = pack2<T>(out[n][2] * below, out[n][3] * below);
    }
    __syncwarp();
    const uint32_t pieces = p.head_dim / PIECE;
    for (uint32_t i = lane; i < 16 * pieces; i += 32) {
        const uint32_t query = warp_first + i / pieces, piece = i % pieces;
        if (query > last) break;
        const size_t at = size_t(sequence.start + query) * p.keys_at + head * p.head_dim + piece * PIECE;
        store16(p.out, at, load16(result, place<WIDTH>(warp * 16 + i / pieces, piece) / 2));
    }
}

#define ATTENTION(type, width, keys, blocks)                                                    \
    DEFROST_KERNEL_BOUNDS(attention_##type##_##width, AttentionParams<type>, THREADS, blocks) { \
        attend<type, width, keys>(p);                                                           \
    }
#define ATTENTIONS(width, keys, blocks) ATTENTION(bf16, width, keys, blocks) ATTENTION(f16, width, keys, blocks)

// As WIDTHS of attention.rs; and the blocks of a multiprocessor that registers are kept for.
ATTENTIONS(32, 64, 4)
ATTENTIONS(64, 64, 3)
ATTENTIONS(96, 64, 2)
ATTENTIONS(128, 32, 3)
ATTENTIONS(256, 32, 2)

}  // namespace attention_tiles
