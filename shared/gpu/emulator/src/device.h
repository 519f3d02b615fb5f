// The memory of one emulated device: what is allocated, and what was.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace emulator {

// Kinds of faults, as the Rust side numbers them (src/fault.rs).
enum class Kind : int {
    Launch = 1,
    Memory = 2,
    OutOfBounds = 3,
    Misaligned = 4,
    Race = 5,
    ReadOnly = 6,
    InFlight = 7,
    Lanes = 8,
    Deadlock = 9,
};

struct Fault {
    Kind kind;
    std::string text;
};

std::string format(const char* format, ...) __attribute__((format(printf, 1, 2)));

struct Allocation {
    uint64_t address;
    uint64_t bytes;
    unsigned char* host;
    Allocation(uint64_t address, uint64_t bytes);
    ~Allocation();
    Allocation(const Allocation&) = delete;
    Allocation& operator=(const Allocation&) = delete;
};

class Device {
   public:
    Device(uint64_t memory, uint32_t shared) : shared_limit(shared), memory_(memory) {}

    uint64_t allocate(uint64_t bytes);
    void release(uint64_t address);
    void write(uint64_t address, const void* from, uint64_t bytes);
    void read(uint64_t address, void* to, uint64_t bytes);
    uint64_t in_use();

    // The live allocation around an address, or null.
    std::shared_ptr<Allocation> find(uint64_t address);
    // What is the matter with an access that is not inside of one.
    std::string describe(uint64_t address, uint64_t bytes);

    const uint32_t shared_limit;

   private:
    std::shared_ptr<Allocation> inside(const char* what, uint64_t address, uint64_t bytes);
    std::shared_ptr<Allocation> below(uint64_t address);
    std::string outside(uint64_t address, uint64_t bytes);

    std::mutex mutex_;
    std::map<uint64_t, std::shared_ptr<Allocation>> live_;
    // Address -> bytes, of those that are released. Addresses are not used again.
    std::map<uint64_t, uint64_t> released_;
    const uint64_t memory_;
    uint64_t used_ = 0;
    uint64_t count_ = 0;
};

}  // namespace emulator
