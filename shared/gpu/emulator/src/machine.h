// One launch on one thread of the system: its blocks one after another, the threads of a block as fibres.
//
// A thread runs until it must wait for others; which goes on then is drawn from the seed, as the order of the blocks
// is. The launch ends when all threads have, or with the first fault: the fibre that found it is left for ever, and
// so are the others; kernels have no destructors, so that a fault loses the few hundred bytes of its text and no more.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "device.h"
#include "fiber.h"
#include "emulator/runtime.h"
#include "shadow.h"

namespace emulator {

constexpr uint32_t MOST_THREADS = 1024;

// A generator of numbers (splitmix64), for orders.
class Random {
   public:
    explicit Random(uint64_t seed = 0) : state_(seed) {}
    uint64_t next();
    uint32_t below(uint32_t limit) { return static_cast<uint32_t>(((next() >> 32) * limit) >> 32); }

   private:
    uint64_t state_;
};

// 16 bytes on their way to shared memory.
struct Copy {
    uint32_t at;
    uint32_t group;
    Site site;
    alignas(16) unsigned char bytes[16];
};

enum class State : uint8_t { Ready, AtBarrier, AtCollective, Ended };

struct Thread {
    Context context;
    uint32_t index;
    State state;
    // Where it last met others, for messages.
    Site site;
    uint32_t clocks[LANES];
    std::vector<Copy> copies;
    uint32_t groups;
};

// Lanes that have come to one collective, and wait for the rest of the mask.
struct Meeting {
    const Collective* collective;
    Site site;
    uint32_t come;
    Operands operands;
};

// Those of a warp: as many as lanes at most, since each lane waits at one.
struct Meetings {
    uint32_t count;
    // The lanes whose threads have ended.
    uint32_t ended;
    Meeting all[LANES];
};

enum class Plant : int {
    None = 0,
    // Barriers and waits do nothing.
    LeaveOut = 1,
    // Collectives take of each lane what its neighbour brings.
    WrongLane = 2,
};

// A fault that is put into one line of a right kernel.
struct Planted {
    Plant plant;
    Site site;
    // How often a thread came there.
    uint64_t* times;
};

struct LaunchArguments {
    const Kernel* kernel;
    dim3 grid;
    uint32_t block;
    uint32_t shared;
    const void* params;
    uint64_t seed;
    Planted planted;
    // Passes that ldmatrix takes beyond one for each matrix are added here.
    uint64_t* bank_conflicts;
};

class Machine {
   public:
    // That of this thread of the system, and the same from within a kernel.
    static Machine& own();
    static Machine& running() { return *running_; }

    // Throws a Fault.
    void launch(Device& device, const LaunchArguments& arguments);

    // The rest is called by the threads of the kernel.
    [[noreturn]] void fault(Kind kind, const std::string& text);
    [[noreturn]] void fault_of(const Thread& thread, Kind kind, const std::string& text);
    [[noreturn]] void race(bool in_shared, uint64_t at, uint32_t size, Access access, const Conflict& conflict);
    void* global(uint64_t address, uint32_t size, uint32_t align, Access access);
    void* shared(Stretch stretch, int64_t at, uint32_t size, uint32_t align, Access access);
    Stretch stretch(uint32_t offset, uint64_t bytes, uint32_t align);
    void start_copy(Stretch stretch, int64_t at, uint64_t from, uint32_t valid, Site site);
    void wait_for_copies(uint32_t left);
    bool planted(Plant plant, Site site) const;
    void count_bank_conflicts(uint32_t passes) { *arguments_.bank_conflicts += passes; }
    Vote barrier(bool predicate, Site site);
    void meet(const Collective& collective, uint32_t mask, void* operand, Site site);
    void order_lanes(uint32_t mask);

    Thread& thread() { return *current_; }
    Thread& lane(uint32_t lane) { return threads_[current_->index / LANES * LANES + lane]; }

   private:
    Machine();
    static void enter();
    void run_block(uint32_t block);
    void make_ready(Thread& thread);
    Thread* pick();
    void resume(Context& from);
    void end_thread();
    [[noreturn]] void leave(Fault fault);
    [[noreturn]] void missed(const Thread& waiting, const Thread& missing);
    // A thread in that state, if there is one.
    const Thread* any(State state) const;
    Fault deadlock();
    std::string place(const Thread& thread) const;
    const Meeting* meeting_of(const Thread& thread) const;
    std::string waits_at(const Thread& thread) const;
    void refuse_mask(uint32_t mask, const Collective& collective, Site site);
    Moment moment(uint32_t base) const;
    uint32_t block_at(uint32_t epoch) const;

    // What is known of 4 KiB of global memory.
    struct Known {
        uint64_t number;
        uint64_t first;
        uint64_t end;
        unsigned char* host;
        Page* page;
    };
    Known& know(uint64_t address, uint32_t size, Access access);
    Page* fresh_page();
    void note_global(Known& known, uint64_t address, uint32_t size, Access access);

    static __thread Machine* running_;

    LaunchArguments arguments_ = {};
    Device* device_ = nullptr;
    Random random_;
    // How often in 8 the thread that became ready last goes on next: 0 lets all run alike, 7 lets some run far ahead.
    uint32_t ahead_ = 0;

    std::vector<Stack> stacks_;
    std::vector<Thread> threads_;
    std::vector<uint32_t> ready_;
    Thread* current_ = nullptr;
    Context outside_ = {};
    uint32_t ended_ = 0;
    bool failed_ = false;
    Fault fault_ = {};

    // The barrier of the block.
    uint32_t arrived_ = 0;
    Vote collecting_ = {};
    Vote vote_ = {};

    std::vector<Meetings> meetings_;

    uint32_t epoch_ = 0;
    uint32_t launch_epoch_ = 0;
    uint32_t block_epoch_ = 0;
    // The first epoch of each block that has run, and the block.
    std::vector<std::pair<uint32_t, uint32_t>> blocks_;

    std::unique_ptr<unsigned char, void (*)(void*)> shared_memory_;
    uint32_t shared_capacity_ = 0;
    std::vector<std::unique_ptr<Page>> shared_pages_;
    // For each 16 bytes of shared memory the thread that copies to there, and 1; or 0.
    std::vector<uint16_t> in_flight_;

    static constexpr uint32_t CACHED = 256;
    std::vector<Known> cache_;
    std::unordered_map<uint64_t, Known> known_;
    std::vector<std::shared_ptr<Allocation>> held_;
    std::vector<std::unique_ptr<Page>> pages_;
    size_t pages_used_ = 0;
};

// The file without its folders, and the line.
std::string at_line(Site site);
bool same_line(Site a, Site b);

}  // namespace emulator
