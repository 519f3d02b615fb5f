#include "device.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace emulator {

// Addresses begin here: no small integer, and no address of the host, is one.
constexpr uint64_t FIRST_ADDRESS = uint64_t{1} << 56;
// So far apart that an index which is wrong by 2^32 elements of 8 bytes reaches no other allocation.
constexpr uint64_t APART = uint64_t{1} << 36;
// What cuMemAlloc promises, and no more: a kernel that counts on more must find out.
constexpr uint64_t ALIGNMENT = 256;
// Fresh memory is a NaN in f32, bf16 and f16, and no small integer.
constexpr int FRESH = 0xff;

std::string format(const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}

Allocation::Allocation(uint64_t address, uint64_t bytes) : address(address), bytes(bytes) {
    uint64_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    host = static_cast<unsigned char*>(std::aligned_alloc(ALIGNMENT, rounded));
    if (host == nullptr) {
        throw std::bad_alloc();
    }
    std::memset(host, FRESH, rounded);
}

Allocation::~Allocation() { std::free(host); }

uint64_t Device::allocate(uint64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (bytes == 0) {
        throw Fault{Kind::Memory, "an allocation of 0 bytes: ask for at least one"};
    }
    if (bytes > memory_ - used_ || bytes >= APART / 2) {
        throw Fault{Kind::Memory, format("out of memory: %llu bytes wanted, %llu of %llu in use",
                                         static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(used_),
                                         static_cast<unsigned long long>(memory_))};
    }
    // Not at the start of a page either.
    uint64_t address = FIRST_ADDRESS + count_ * APART + (count_ % 15 + 1) * ALIGNMENT;
    auto allocation = std::make_shared<Allocation>(address, bytes);
    live_.emplace(address, std::move(allocation));
    used_ += bytes;
    ++count_;
    return address;
}

void Device::release(uint64_t address) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = live_.find(address);
    if (found == live_.end()) {
        const char* why = released_.count(address) != 0 ? "it was released before" : "no allocation begins there";
        throw Fault{Kind::Memory, format("release of 0x%llx: %s", static_cast<unsigned long long>(address), why)};
    }
    used_ -= found->second->bytes;
    released_.emplace(address, found->second->bytes);
    live_.erase(found);
}

uint64_t Device::in_use() {
    std::lock_guard<std::mutex> lock(mutex_);
    return used_;
}

std::shared_ptr<Allocation> Device::below(uint64_t address) {
    auto after = live_.upper_bound(address);
    return after == live_.begin() ? nullptr : std::prev(after)->second;
}

std::shared_ptr<Allocation> Device::find(uint64_t address) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto allocation = below(address);
    return allocation != nullptr && address - allocation->address < allocation->bytes ? allocation : nullptr;
}

std::string Device::describe(uint64_t address, uint64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    return outside(address, bytes);
}

std::string Device::outside(uint64_t address, uint64_t bytes) {
    auto number = [](uint64_t x) { return static_cast<unsigned long long>(x); };
    auto after = released_.upper_bound(address);
    if (after != released_.begin()) {
        auto [start, size] = *std::prev(after);
        if (address - start < size) {
            return format("in an allocation of %llu bytes that was released", number(size));
        }
    }
    if (auto before = below(address); before != nullptr && address - before->address < before->bytes + APART / 2) {
        uint64_t end = before->address + before->bytes;
        if (address < end) {
            return format("of which %llu lie past the end of the allocation of %llu bytes at 0x%llx", number(address + bytes - end),
                          number(before->bytes), number(before->address));
        }
        return format("%llu bytes past the end of the allocation of %llu bytes at 0x%llx", number(address - end),
                      number(before->bytes), number(before->address));
    }
    auto next = live_.upper_bound(address);
    if (next != live_.end() && next->first - address < APART / 2) {
        return format("%llu bytes before the allocation of %llu bytes at 0x%llx", number(next->first - address),
                      number(next->second->bytes), number(next->first));
    }
    return address == 0 ? "the address that stands for an absent argument" : "in no allocation";
}

std::shared_ptr<Allocation> Device::inside(const char* what, uint64_t address, uint64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto allocation = below(address);
    if (allocation == nullptr || address - allocation->address > allocation->bytes ||
        allocation->bytes - (address - allocation->address) < bytes) {
        throw Fault{Kind::OutOfBounds, format("the host %s %llu bytes at 0x%llx, ", what, static_cast<unsigned long long>(bytes),
                                              static_cast<unsigned long long>(address)) +
                                           outside(address, bytes)};
    }
    return allocation;
}

void Device::write(uint64_t address, const void* from, uint64_t bytes) {
    auto allocation = inside("writes", address, bytes);
    std::memcpy(allocation->host + (address - allocation->address), from, bytes);
}

void Device::read(uint64_t address, void* to, uint64_t bytes) {
    auto allocation = inside("reads", address, bytes);
    std::memcpy(to, allocation->host + (address - allocation->address), bytes);
}

}  // namespace emulator
