#include "shadow.h"

namespace emulator {

bool Cell::after_write(const Moment& moment, Conflict& conflict) const {
    if (write_epoch < moment.base) {
        return true;
    }
    // A thread of the same number in another block is another thread.
    if (write_epoch >= moment.block) {
        bool same_warp = write_thread / LANES == moment.thread / LANES;
        if (write_epoch < moment.now || write_thread == moment.thread ||
            (same_warp && moment.clocks[write_thread % LANES] >= write_clock)) {
            return true;
        }
    }
    conflict = {write_epoch, write_thread, write_thread / LANES, true, false};
    return false;
}

bool Cell::after_reads(const Moment& moment, Conflict& conflict) const {
    if (read_epoch < moment.base) {
        return true;
    }
    if (read_epoch < moment.block || (flags & MANY_BLOCKS) != 0) {
        // Of readers in several blocks the last ones are known, and they may be of this block: then another's is not
        // named.
        bool known = read_epoch < moment.block;
        uint32_t thread = known ? read_warp * LANES + static_cast<uint32_t>(__builtin_ctz(read_lanes)) : Conflict::NOBODY;
        conflict = {known ? read_epoch : 0, thread, read_warp, false, false};
        return false;
    }
    if (read_epoch < moment.now) {
        return true;
    }
    uint32_t warp = moment.thread / LANES;
    if (read_warp != warp) {
        conflict = {read_epoch, read_warp * LANES + static_cast<uint32_t>(__builtin_ctz(read_lanes)), read_warp, false, false};
        return false;
    }
    if ((flags & MANY_WARPS) != 0) {
        conflict = {read_epoch, Conflict::NOBODY, static_cast<uint32_t>(flags >> OTHER_WARP), false, false};
        return false;
    }
    uint32_t others = read_lanes & ~(1u << (moment.thread % LANES));
    for (; others != 0; others &= others - 1) {
        uint32_t lane = static_cast<uint32_t>(__builtin_ctz(others));
        if (moment.clocks[lane] < read_clock) {
            conflict = {read_epoch, warp * LANES + lane, warp, false, false};
            return false;
        }
    }
    return true;
}

void Cell::note_read(const Moment& moment) {
    uint32_t lane = moment.thread % LANES;
    uint32_t warp = moment.thread / LANES;
    bool keep = false;
    if (read_epoch < moment.base) {
        flags &= SPLIT;
    } else if (read_epoch < moment.block) {
        flags = (flags & SPLIT) | MANY_BLOCKS;
    } else if (read_epoch < moment.now) {
        flags &= SPLIT | MANY_BLOCKS;
    } else if (read_warp != warp) {
        if ((flags & MANY_WARPS) == 0) {
            flags |= static_cast<uint8_t>(MANY_WARPS | (warp << OTHER_WARP));
        }
        return;
    } else {
        // Readers that all come before this one need not be kept: who comes after it comes after them.
        for (uint32_t others = read_lanes; others != 0 && !keep; others &= others - 1) {
            uint32_t other = static_cast<uint32_t>(__builtin_ctz(others));
            keep = other != lane && moment.clocks[other] < read_clock;
        }
        keep = keep || (flags & MANY_WARPS) != 0;
    }
    uint32_t clock = moment.clocks[lane];
    // Of unordered readers with different clocks (after a __syncwarp of a part of the warp) the earliest stands for
    // all: a race may be missed then, and none is invented.
    read_clock = keep && read_clock < clock ? read_clock : clock;
    read_lanes = (keep ? read_lanes : 0) | 1u << lane;
    read_warp = static_cast<uint8_t>(warp);
    read_epoch = moment.now;
}

bool Cell::touch(const Moment& moment, Access access, Conflict& conflict) {
    if (!after_write(moment, conflict)) {
        return false;
    }
    if (access == Access::Write) {
        if (!after_reads(moment, conflict)) {
            return false;
        }
        write_epoch = moment.now;
        write_clock = moment.clocks[moment.thread % LANES];
        write_thread = static_cast<uint16_t>(moment.thread);
        return true;
    }
    if (access == Access::ReadOnly && write_epoch >= moment.base) {
        conflict = {write_epoch, write_thread, write_thread / LANES, true, true};
        return false;
    }
    note_read(moment);
    return true;
}

bool Page::touch(uint32_t at, uint32_t size, const Moment& moment, Access access, Conflict& conflict) {
    uint32_t end = at + size;
    for (uint32_t word = at / 4; word * 4 < end; ++word) {
        Cell& cell = words_[word];
        bool fresh = cell.fresh(moment.base);
        uint32_t from = at > word * 4 ? at : word * 4;
        uint32_t to = end < word * 4 + 4 ? end : word * 4 + 4;
        if (to - from == 4 && !(fresh && (cell.flags & Cell::SPLIT) != 0)) {
            if (!fresh) {
                cell.flags = 0;
            }
            if (!cell.touch(moment, access, conflict)) {
                return false;
            }
        } else if (!touch_bytes(word, from, to, moment, access, conflict)) {
            return false;
        }
    }
    return true;
}

bool Page::touch_bytes(uint32_t word, uint32_t from, uint32_t to, const Moment& moment, Access access, Conflict& conflict) {
    if (bytes_ == nullptr) {
        bytes_ = std::make_unique<Cell[]>(BYTES);
    }
    Cell& cell = words_[word];
    bool fresh = cell.fresh(moment.base);
    if (!fresh || (cell.flags & Cell::SPLIT) == 0) {
        for (uint32_t byte = word * 4; byte < word * 4 + 4; ++byte) {
            bytes_[byte] = fresh ? cell : Cell{};
        }
        cell.flags = Cell::SPLIT;
    }
    // Says that the cells of the bytes are to be looked at.
    cell.read_epoch = moment.now;
    for (uint32_t byte = from; byte < to; ++byte) {
        if (!bytes_[byte].touch(moment, access, conflict)) {
            return false;
        }
    }
    return true;
}

}  // namespace emulator
