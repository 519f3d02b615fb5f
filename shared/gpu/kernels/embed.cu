// Sums of rows of tables: what is asked stands in embed.rs.
//
// A block has a row, a thread its columns in turn.

#include "defrost.cuh"

namespace embedding {

struct EmbedTable {
    View<const uint32_t> ids;
    View<const uint8_t> rows;
    View<const float> scales;
    uint32_t kind, unused;
};

struct EmbedParams {
    EmbedTable words, types, positions;
    View<float> out;
    uint32_t rows, width;
};

// As TableKind of embed.rs.
constexpr uint32_t F32 = 0, BF16 = 1, HALF = 2;

// One value of a row; the first of a row is number `at` of the table.
DEFROST_INLINE float value(const EmbedTable& table, size_t at, float scale) {
    if (table.kind == F32) return view_as<const float>(table.rows)[at];
    if (table.kind == BF16) return to_f32(view_as<const bf16>(table.rows)[at]);
    if (table.kind == HALF) return to_f32(view_as<const f16>(table.rows)[at]);
    return to_f32(view_as<const int8_t>(table.rows)[at]) * scale;
}

// A table's row for a row of the batch.
struct TableRow {
    size_t at;
    float scale;

    DEFROST_INLINE TableRow(const EmbedTable& table, uint32_t row, uint32_t width) : at(0), scale(1.0f) {
        if (!table.rows) return;
        const uint32_t id = table.ids[row];
        at = size_t(id) * width;
        if (table.scales) scale = table.scales[id];
    }
};

DEFROST_KERNEL(embed, EmbedParams) {
    const uint32_t row = blockIdx.x;
    const TableRow word(p.words, row, p.width), type(p.types, row, p.width), position(p.positions, row, p.width);
    for (uint32_t column = threadIdx.x; column < p.width; column += blockDim.x) {
        float sum = value(p.words, word.at + column, word.scale);
        if (p.types.rows) sum += value(p.types, type.at + column, type.scale);
        if (p.positions.rows) sum += value(p.positions, position.at + column, position.scale);
        p.out[size_t(row) * p.width + column] = sum;
    }
}

}  // namespace embedding
