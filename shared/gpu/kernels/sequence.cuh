// Where a sequence's rows lie: what `SequenceRow` of attention.rs says.
#pragma once

#include "defrost.cuh"

struct Sequence {
    uint32_t start, len, prefix_start, prefix_len, stored;
};

// Words from one row of the table to the next.
constexpr uint32_t SEQUENCE_WORDS = 8;

DEFROST_INLINE Sequence sequence_at(View<const uint32_t> sequences, uint32_t index) {
    auto row = sequences.at(size_t(index) * SEQUENCE_WORDS);
    return {row[0], row[1], row[2], row[3], row[4]};
}
