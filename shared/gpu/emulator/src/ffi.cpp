// What the Rust side calls (src/ffi.rs), and the table of kernels.
#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "machine.h"

namespace emulator {

static const Kernel*& first_kernel() {
    static const Kernel* first = nullptr;
    return first;
}

// Runs before main, on one thread.
Kernel::Kernel(const char* name, size_t params, void (*body)(const void*), unsigned int most_threads)
    : name(name), params(params), body(body), most_threads(most_threads), next(first_kernel()) {
    first_kernel() = this;
}

// CUDA's own limits on a grid, and on a block in one dimension.
constexpr uint32_t MOST_BLOCKS_X = 0x7fffffff;
constexpr uint32_t MOST_BLOCKS_YZ = 65535;
// What one launch of a test may take: at a microsecond a block, a minute.
constexpr uint32_t MOST_BLOCKS = 1u << 26;

static const Kernel& find_kernel(const std::string& name) {
    const Kernel* found = nullptr;
    for (const Kernel* kernel = first_kernel(); kernel != nullptr; kernel = kernel->next) {
        if (name == kernel->name) {
            if (found != nullptr) {
                throw Fault{Kind::Launch, format("two kernels are called %s: give one of them another name", kernel->name)};
            }
            found = kernel;
        }
    }
    if (found == nullptr) {
        throw Fault{Kind::Launch, "no kernel is called " + name + ": no source has a DEFROST_KERNEL of that name"};
    }
    return *found;
}

static void check(const LaunchArguments& arguments, size_t params, uint32_t shared_limit) {
    const Kernel& kernel = *arguments.kernel;
    auto refuse = [&](const std::string& text) { throw Fault{Kind::Launch, format("kernel %s: ", kernel.name) + text}; };
    if (params != kernel.params) {
        refuse(format("its parameters take %zu bytes, and %zu are given", kernel.params, params));
    }
    const dim3& grid = arguments.grid;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > MOST_BLOCKS_X || grid.y > MOST_BLOCKS_YZ ||
        grid.z > MOST_BLOCKS_YZ) {
        refuse(format("a grid of %u x %u x %u blocks: each is at least 1, x at most %u, y and z at most %u", grid.x,
                      grid.y, grid.z, MOST_BLOCKS_X, MOST_BLOCKS_YZ));
    }
    if (static_cast<uint64_t>(grid.x) * grid.y > MOST_BLOCKS || static_cast<uint64_t>(grid.x) * grid.y * grid.z > MOST_BLOCKS) {
        refuse(format("a grid of %u x %u x %u blocks: the emulator runs at most %u", grid.x, grid.y, grid.z, MOST_BLOCKS));
    }
    if (arguments.block == 0 || arguments.block % LANES != 0 || arguments.block > kernel.most_threads) {
        refuse(format("blocks of %u threads: a multiple of 32 up to %u is expected", arguments.block, kernel.most_threads));
    }
    if (arguments.shared > shared_limit) {
        refuse(format("%u bytes of shared memory: the device has %u for a block", arguments.shared, shared_limit));
    }
}

// Calls `f`, and says how it ended: 0, or the kind of the fault, whose text goes to `text` as far as it holds, with a
// 0 behind.
template <class F>
static int guarded(char* text, size_t capacity, F f) {
    Fault fault;
    try {
        f();
        return 0;
    } catch (const Fault& found) {
        fault = found;
    } catch (const std::bad_alloc&) {
        fault = {Kind::Memory, "the host is out of memory"};
    }
    size_t length = std::min(capacity - 1, fault.text.size());
    std::memcpy(text, fault.text.data(), length);
    text[length] = 0;
    return static_cast<int>(fault.kind);
}

}  // namespace emulator

using emulator::Device;
using emulator::guarded;

extern "C" {

struct EmulatorLaunch {
    const char* kernel;
    size_t kernel_length;
    uint32_t grid[3];
    uint32_t block;
    uint32_t shared;
    const void* params;
    size_t params_length;
    uint64_t seed;
    int plant;
    const char* file;
    int line;
    uint64_t* times;
    uint64_t* bank_conflicts;
};

Device* emulator_device_new(uint64_t memory, uint32_t shared) { return new (std::nothrow) Device(memory, shared); }

void emulator_device_free(Device* device) { delete device; }

int emulator_allocate(Device* device, uint64_t bytes, uint64_t* address, char* text, size_t capacity) {
    return guarded(text, capacity, [&] { *address = device->allocate(bytes); });
}

int emulator_release(Device* device, uint64_t address, char* text, size_t capacity) {
    return guarded(text, capacity, [&] { device->release(address); });
}

int emulator_write(Device* device, uint64_t address, const void* from, uint64_t bytes, char* text, size_t capacity) {
    return guarded(text, capacity, [&] { device->write(address, from, bytes); });
}

int emulator_read(Device* device, uint64_t address, void* to, uint64_t bytes, char* text, size_t capacity) {
    return guarded(text, capacity, [&] { device->read(address, to, bytes); });
}

uint64_t emulator_in_use(Device* device) { return device->in_use(); }

int emulator_launch(Device* device, const EmulatorLaunch* launch, char* text, size_t capacity) {
    return guarded(text, capacity, [&] {
        const emulator::Kernel& kernel = emulator::find_kernel(std::string(launch->kernel, launch->kernel_length));
        // Aligned as any struct of parameters needs it.
        std::vector<uint64_t> aligned(launch->params_length / sizeof(uint64_t) + 1);
        std::memcpy(aligned.data(), launch->params, launch->params_length);
        emulator::LaunchArguments arguments = {&kernel,
                                               {launch->grid[0], launch->grid[1], launch->grid[2]},
                                               launch->block,
                                               launch->shared,
                                               aligned.data(),
                                               launch->seed,
                                               {static_cast<emulator::Plant>(launch->plant),
                                                {launch->file, launch->line},
                                                launch->times},
                                               launch->bank_conflicts};
        emulator::check(arguments, launch->params_length, device->shared_limit);
        emulator::Machine::own().launch(*device, arguments);
    });
}

// The name of the kernel of that number, or null behind the last.
const char* emulator_kernel_name(size_t number) {
    const emulator::Kernel* kernel = emulator::first_kernel();
    for (; kernel != nullptr && number > 0; --number) {
        kernel = kernel->next;
    }
    return kernel == nullptr ? nullptr : kernel->name;
}
}
