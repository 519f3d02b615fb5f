// Copies of chosen rows: what is asked stands in gather.rs. A block has a row, a thread its words in turn.

#include "defrost.cuh"

namespace gathering {

template <typename Word>
struct GatherParams {
    View<const Word> from;
    View<const uint32_t> row_of;
    View<Word> out;
    uint32_t rows, width;
};

template <typename Word>
DEFROST_INLINE void gather(const GatherParams<Word>& p) {
    const size_t from = size_t(p.row_of[blockIdx.x]) * p.width, to = size_t(blockIdx.x) * p.width;
    for (uint32_t i = threadIdx.x; i < p.width; i += blockDim.x) p.out[to + i] = p.from[from + i];
}

DEFROST_KERNEL(gather_4, GatherParams<uint32_t>) { gather(p); }

DEFROST_KERNEL(gather_16, GatherParams<uint4>) { gather(p); }

}  // namespace gathering
