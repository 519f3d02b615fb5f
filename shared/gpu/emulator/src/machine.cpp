#include "machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

__thread uint3 threadIdx;
__thread uint3 blockIdx;
__thread dim3 blockDim;
__thread dim3 gridDim;

namespace emulator {

// Bytes of shared memory that a block finds: NaNs, as in fresh global memory.
constexpr int UNWRITTEN = 0xff;
// Alignment of shared memory, that of defrost.cuh.
constexpr size_t SHARED_ALIGNMENT = 128;

uint64_t Random::next() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

// A file without its folders.
static const char* name_of(const char* file) {
    const char* slash = std::strrchr(file, '/');
    return slash == nullptr ? file : slash + 1;
}

std::string at_line(Site site) {
    if (site.file == nullptr) {
        return "its start";
    }
    return format("%s:%d", name_of(site.file), site.line);
}

// Records of pages that are kept for the next launch: 2 MiB of memory with its 12 MiB of cells, or 60 MiB where bytes
// are told apart.
constexpr size_t KEPT_PAGES = 512;

// Epochs are numbered anew from here on, half-way to the end of their numbers: no launch has 2^31 barriers.
constexpr uint32_t LATE_EPOCH = 1u << 31;

__thread Machine* Machine::running_;

bool same_line(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

Machine::Machine() : shared_memory_(nullptr, std::free) {}

Machine& Machine::own() {
    static thread_local Machine machine;
    return machine;
}

void Machine::launch(Device& device, const LaunchArguments& arguments) {
    running_ = this;
    device_ = &device;
    arguments_ = arguments;
    random_ = Random(arguments.seed);
    ahead_ = arguments.seed % 2 == 0 ? 0 : random_.below(8);
    failed_ = false;

    threads_.resize(arguments.block);
    while (stacks_.size() < arguments.block) {
        stacks_.emplace_back();
    }
    meetings_.resize(arguments.block / LANES);
    if (shared_capacity_ < arguments.shared) {
        size_t rounded = (arguments.shared + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT;
        shared_memory_.reset(static_cast<unsigned char*>(std::aligned_alloc(SHARED_ALIGNMENT, rounded)));
        if (shared_memory_ == nullptr) {
            shared_capacity_ = 0;
            throw std::bad_alloc();
        }
        shared_capacity_ = static_cast<uint32_t>(rounded);
        in_flight_.assign(rounded / 16 + 1, 0);
        while (shared_pages_.size() * Page::BYTES < rounded) {
            shared_pages_.push_back(std::make_unique<Page>());
        }
    }
    cache_.assign(CACHED, Known{});
    known_.clear();
    pages_used_ = 0;
    blocks_.clear();
    if (epoch_ > LATE_EPOCH) {
        epoch_ = 0;
        pages_.clear();
        for (auto& page : shared_pages_) {
            page = std::make_unique<Page>();
        }
    }
    launch_epoch_ = epoch_ + 1;
    gridDim = arguments.grid;
    blockDim = {arguments.block, 1, 1};

    uint32_t count = arguments.grid.x * arguments.grid.y * arguments.grid.z;
    std::vector<uint32_t> order(count);
    for (uint32_t i = 0; i < count; ++i) {
        order[i] = i;
    }
    for (uint32_t i = count; i > 1; --i) {
        std::swap(order[i - 1], order[random_.below(i)]);
    }
    for (uint32_t block : order) {
        run_block(block);
        if (failed_) {
            break;
        }
    }
    held_.clear();
    if (pages_.size() > KEPT_PAGES) {
        pages_.resize(KEPT_PAGES);
    }
    if (failed_) {
        throw std::move(fault_);
    }
}

void Machine::run_block(uint32_t block) {
    const dim3& grid = arguments_.grid;
    blockIdx = {block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y};
    block_epoch_ = ++epoch_;
    blocks_.emplace_back(epoch_, block);
    if (arguments_.shared > 0) {
        std::memset(shared_memory_.get(), UNWRITTEN, arguments_.shared);
    }
    ended_ = 0;
    arrived_ = 0;
    collecting_ = {false, true, 0};
    ready_.clear();
    for (Meetings& meetings : meetings_) {
        meetings.count = 0;
        meetings.ended = 0;
    }
    for (uint32_t i = 0; i < arguments_.block; ++i) {
        Thread& thread = threads_[i];
        thread.index = i;
        thread.site = {nullptr, 0};
        std::fill_n(thread.clocks, LANES, 0);
        thread.clocks[i % LANES] = 1;
        thread.copies.clear();
        thread.groups = 0;
        prepare(thread.context, stacks_[i], enter);
        make_ready(thread);
    }
    resume(outside_);
    if (!failed_ && ended_ < arguments_.block) {
        fault_ = deadlock();
        failed_ = true;
    }
    std::fill(in_flight_.begin(), in_flight_.end(), 0);
}

void Machine::enter() {
    Machine& machine = running();
    machine.arguments_.kernel->body(machine.arguments_.params);
    machine.end_thread();
}

void Machine::make_ready(Thread& thread) {
    thread.state = State::Ready;
    ready_.push_back(thread.index);
}

Thread* Machine::pick() {
    if (ready_.empty()) {
        return nullptr;
    }
    uint32_t last = static_cast<uint32_t>(ready_.size()) - 1;
    uint32_t chosen = ahead_ > 0 && random_.below(8) < ahead_ ? last : random_.below(last + 1);
    std::swap(ready_[chosen], ready_[last]);
    Thread* thread = &threads_[ready_[last]];
    ready_.pop_back();
    return thread;
}

// Goes on with another thread, or outside of all where none can.
void Machine::resume(Context& from) {
    Thread* next = pick();
    Context& to = next == nullptr ? outside_ : next->context;
    if (next != nullptr) {
        current_ = next;
        threadIdx = {next->index, 0, 0};
    }
    if (&from != &to) {
        switch_to(from, to);
    }
}

void Machine::end_thread() {
    Thread& me = *current_;
    Meetings& meetings = meetings_[me.index / LANES];
    meetings.ended |= 1u << (me.index % LANES);
    for (uint32_t i = 0; i < meetings.count; ++i) {
        const Meeting& meeting = meetings.all[i];
        if ((meeting.operands.mask >> (me.index % LANES) & 1) != 0) {
            missed(lane(static_cast<uint32_t>(__builtin_ctz(meeting.come))), me);
        }
    }
    me.state = State::Ended;
    ++ended_;
    if (arrived_ > 0) {
        missed(*any(State::AtBarrier), me);
    }
    resume(me.context);
    std::abort();
}

bool Machine::planted(Plant plant, Site site) const {
    const Planted& planted = arguments_.planted;
    if (planted.plant != plant || planted.site.line != site.line ||
        std::strcmp(name_of(site.file), planted.site.file) != 0) {
        return false;
    }
    ++*planted.times;
    return true;
}

Vote Machine::barrier(bool predicate, Site site) {
    Thread& me = *current_;
    if (planted(Plant::LeaveOut, site)) {
        return {predicate, predicate, predicate ? 1u : 0u};
    }
    me.site = site;
    if (arrived_ > 0) {
        const Thread* first = any(State::AtBarrier);
        if (!same_line(first->site, site)) {
            fault(Kind::Lanes, format("comes to the __syncthreads of %s while thread %u waits at that of %s: all threads must "
                                      "come to the same",
                                      at_line(site).c_str(), first->index, at_line(first->site).c_str()));
        }
    }
    me.state = State::AtBarrier;
    if (ended_ > 0) {
        missed(me, *any(State::Ended));
    }
    collecting_.any |= predicate;
    collecting_.all &= predicate;
    collecting_.count += predicate ? 1 : 0;
    if (++arrived_ < arguments_.block) {
        resume(me.context);
        return vote_;
    }
    ++epoch_;
    vote_ = collecting_;
    collecting_ = {false, true, 0};
    arrived_ = 0;
    for (Thread& thread : threads_) {
        make_ready(thread);
    }
    resume(me.context);
    return vote_;
}

void Machine::leave(Fault fault) {
    fault_ = std::move(fault);
    failed_ = true;
    switch_to(current_->context, outside_);
    std::abort();
}

std::string Machine::place(const Thread& thread) const {
    return format("kernel %s, block (%u, %u, %u), thread %u", arguments_.kernel->name, blockIdx.x, blockIdx.y, blockIdx.z,
                  thread.index) +
           (thread.site.file == nullptr ? "" : ", after " + at_line(thread.site)) + ": ";
}

void Machine::fault_of(const Thread& thread, Kind kind, const std::string& text) { leave({kind, place(thread) + text}); }

void Machine::fault(Kind kind, const std::string& text) { fault_of(*current_, kind, text); }

const Meeting* Machine::meeting_of(const Thread& thread) const {
    const Meetings& meetings = meetings_[thread.index / LANES];
    for (uint32_t i = 0; i < meetings.count; ++i) {
        if ((meetings.all[i].come >> (thread.index % LANES) & 1) != 0) {
            return &meetings.all[i];
        }
    }
    return nullptr;
}

std::string Machine::waits_at(const Thread& thread) const {
    const Meeting* meeting = thread.state == State::AtCollective ? meeting_of(thread) : nullptr;
    const char* name = meeting == nullptr ? "__syncthreads" : meeting->collective->name;
    return format("%s of %s", name, at_line(thread.site).c_str());
}

void Machine::missed(const Thread& waiting, const Thread& missing) {
    leave({Kind::Deadlock, format("kernel %s, block (%u, %u, %u), thread %u: has ended, and thread %u waits for it at the %s",
                                  arguments_.kernel->name, blockIdx.x, blockIdx.y, blockIdx.z, missing.index, waiting.index,
                                  waits_at(waiting).c_str())});
}

const Thread* Machine::any(State state) const {
    auto found = std::find_if(threads_.begin(), threads_.end(), [&](const Thread& t) { return t.state == state; });
    return found == threads_.end() ? nullptr : &*found;
}

// Nobody can go on: some wait at the barrier of the block, others for lanes of their warp.
Fault Machine::deadlock() {
    const Thread* in_warp = any(State::AtCollective);
    if (in_warp == nullptr) {
        return {Kind::Deadlock, format("kernel %s: threads wait for each other", arguments_.kernel->name)};
    }
    std::string text = place(*in_warp) + "waits at the " + waits_at(*in_warp) + " for lanes that do not come";
    const Meeting* meeting = meeting_of(*in_warp);
    uint32_t missing = meeting->operands.mask & ~meeting->come;
    const Thread& other = threads_[in_warp->index / LANES * LANES + static_cast<uint32_t>(__builtin_ctz(missing))];
    return {Kind::Deadlock, text + format(": thread %u waits at the %s", other.index, waits_at(other).c_str())};
}

uint32_t Machine::block_at(uint32_t epoch) const {
    auto after = std::upper_bound(blocks_.begin(), blocks_.end(), std::make_pair(epoch, ~0u));
    return after == blocks_.begin() ? 0 : std::prev(after)->second;
}

}  // namespace emulator
