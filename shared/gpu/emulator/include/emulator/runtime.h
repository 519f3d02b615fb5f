// What the headers ask of the runtime (src/*.cpp), and the variables that CUDA predefines.
#pragma once

#include <cstddef>
#include <cstdint>

struct uint3 {
    unsigned int x, y, z;
};
struct dim3 {
    unsigned int x, y, z;
};

// Those of the emulated thread that runs on this thread of the system.
extern __thread uint3 threadIdx;
extern __thread uint3 blockIdx;
extern __thread dim3 blockDim;
extern __thread dim3 gridDim;

namespace emulator {

// A line of a kernel's source: of the call, where it is a default argument.
struct Site {
    const char* file;
    int line;
    static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

// An entry in the table of kernels.
struct Kernel {
    const char* name;
    size_t params;
    void (*body)(const void* params);
    unsigned int most_threads;
    const Kernel* next;
    Kernel(const char* name, size_t params, void (*body)(const void*), unsigned int most_threads);
};

enum class Access : uint8_t {
    Read,
    // Through a view of const elements: what this launch has written must not be read so.
    ReadOnly,
    Write,
};

// Where the bytes lie, once the access is found right; a wrong one ends the launch.
void* global_access(uint64_t address, uint32_t size, uint32_t align, Access access);

// A stretch of shared memory, in bytes from the start of the block's.
struct Stretch {
    uint32_t first;
    uint32_t end;
};
Stretch shared_stretch(uint32_t offset, uint64_t bytes, uint32_t align);
void* shared_access(Stretch stretch, int64_t at, uint32_t size, uint32_t align, Access access);

void copy_start(Stretch stretch, int64_t at, uint64_t from, uint32_t valid, Site site);
void copy_commit();
void copy_wait(uint32_t left, Site site);

// Waits for all threads of the block. The pieces are joined by `or`, and the sum is counted.
struct Vote {
    bool any;
    bool all;
    uint32_t count;
};
Vote barrier(bool predicate, Site site);

// One operand of each lane; what a lane that is not in the mask brings is null.
struct Operands {
    void* of[32];
    uint32_t mask;
};

// A function that lanes perform together: once all lanes of the mask have come, `perform` runs for all of them.
// `mislead`, where lanes read from each other, lets each have what its neighbour should: a planted fault.
struct Collective {
    const char* name;
    void (*perform)(const Operands& operands);
    void (*mislead)(const Operands& operands);
};
void meet(const Collective& collective, uint32_t mask, void* operand, Site site);

// Orders the memory accesses of the lanes, in a collective that does so.
void order_lanes(uint32_t mask);

// Ends the launch: `lane` (of the warp that runs) did what `text` says.
[[noreturn]] void bad_lane(uint32_t lane, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace emulator
