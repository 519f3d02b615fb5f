// Who has touched which bytes, and when: the detector of races.
//
// Time is counted in epochs. One begins with each block and with each barrier of a block; they are numbered through
// for all blocks that an OS thread ever runs, so that a record which is too old to matter is known by its number, and
// nothing is cleared. Within an epoch, the lanes of a warp are ordered by __syncwarp alone: each lane has a clock,
// and knows what of each other lane's time lies before its own (a vector clock). Two accesses of different threads
// are a race if at least one writes and
// - they are of different blocks of one launch (global memory only), or
// - they are of one epoch, and no __syncwarp of both lanes lies between.
// None of this depends on the order in which the threads happened to run.
//
// A cell describes 4 bytes, the last write and the readers since; where accesses are of fewer bytes, 4 cells describe
// one byte each.
#pragma once

#include <cstdint>
#include <memory>

#include "emulator/runtime.h"

namespace emulator {

constexpr uint32_t LANES = 32;

// Who accesses, and when.
struct Moment {
    // Records before are of no interest: the launch's first epoch for global memory, the present one for shared memory.
    uint32_t base;
    // The first epoch of this block.
    uint32_t block;
    uint32_t now;
    uint32_t thread;
    // What this lane knows of the time of each lane of its warp, its own included.
    const uint32_t* clocks;
};

// What an access meets.
struct Conflict {
    // Who was there before: a thread of the block that ran at `epoch`, or, if `thread` is NOBODY, any of the warp.
    static constexpr uint32_t NOBODY = ~0u;
    uint32_t epoch;
    uint32_t thread;
    uint32_t warp;
    bool wrote;
    // Not a race, but a read through a read-only view of what this launch wrote.
    bool stale;
};

struct Cell {
    uint32_t write_epoch;
    uint32_t write_clock;
    uint32_t read_epoch;
    uint32_t read_clock;
    // The lanes of `read_warp` that have read in `read_epoch`.
    uint32_t read_lanes;
    uint16_t write_thread;
    uint8_t read_warp;
    uint8_t flags;

    // Also readers of another warp, whose number stands above the flags.
    static constexpr uint8_t MANY_WARPS = 1;
    static constexpr uint8_t MANY_BLOCKS = 2;
    static constexpr uint8_t SPLIT = 4;
    static constexpr int OTHER_WARP = 3;

    bool fresh(uint32_t base) const { return write_epoch >= base || read_epoch >= base; }
    // Notes an access; false if it meets another, which `conflict` then describes.
    bool touch(const Moment& moment, Access access, Conflict& conflict);

   private:
    bool after_write(const Moment& moment, Conflict& conflict) const;
    bool after_reads(const Moment& moment, Conflict& conflict) const;
    void note_read(const Moment& moment);
};

// The cells of 4 KiB of memory.
class Page {
   public:
    static constexpr uint32_t BYTES = 4096;
    // Notes an access of `size` bytes at `at`, all within the page.
    bool touch(uint32_t at, uint32_t size, const Moment& moment, Access access, Conflict& conflict);

   private:
    bool touch_bytes(uint32_t word, uint32_t from, uint32_t to, const Moment& moment, Access access, Conflict& conflict);

    Cell words_[BYTES / 4] = {};
    std::unique_ptr<Cell[]> bytes_;
};

}  // namespace emulator
