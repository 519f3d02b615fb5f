// Accesses to global and shared memory: bounds, alignment, races, and what is still on its way.
#include "machine.h"

#include <cstring>

namespace emulator {

static const char* verb(Access access) { return access == Access::Write ? "writes" : "reads"; }

static unsigned long long number(uint64_t x) { return x; }

Moment Machine::moment(uint32_t base) const {
    return {base, block_epoch_, epoch_, current_->index, current_->clocks};
}

void Machine::race(bool in_shared, uint64_t at, uint32_t size, Access access, const Conflict& conflict) {
    std::string other = conflict.thread == Conflict::NOBODY ? "a thread" : format("thread %u", conflict.thread);
    if (conflict.thread == Conflict::NOBODY && conflict.epoch != 0) {
        other += format(" of warp %u", conflict.warp);
    }
    bool same_block = conflict.epoch >= block_epoch_;
    if (conflict.epoch == 0) {
        other += " of another block";
    } else if (!same_block) {
        uint32_t block = block_at(conflict.epoch);
        const dim3& grid = arguments_.grid;
        other += format(" of block (%u, %u, %u)", block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y);
    }
    std::string text = format(in_shared ? "%s %u bytes at byte %llu of shared memory" : "%s %u bytes at 0x%llx of global memory",
                              verb(access), size, number(at));
    if (conflict.stale) {
        fault(Kind::ReadOnly, text + " through a read-only view, after " + other + " has written there in the same launch");
    }
    const char* remedy = !same_block                                          ? "nothing orders blocks"
                         : conflict.warp == current_->index / LANES ? "no __syncwarp or __syncthreads is between"
                                                                              : "no __syncthreads is between";
    fault(Kind::Race, text + ", where " + other + (conflict.wrote ? " writes: " : " reads: ") + remedy);
}

Page* Machine::fresh_page() {
    if (pages_used_ == pages_.size()) {
        pages_.push_back(std::make_unique<Page>());
    }
    return pages_[pages_used_++].get();
}

Machine::Known& Machine::know(uint64_t address, uint32_t size, Access access) {
    uint64_t page = address / Page::BYTES;
    Known& cached = cache_[page % CACHED];
    if (cached.number == page && cached.host != nullptr) {
        return cached;
    }
    auto found = known_.find(page);
    if (found == known_.end()) {
        auto allocation = device_->find(address);
        if (allocation == nullptr) {
            fault(Kind::OutOfBounds, format("%s %u bytes at 0x%llx, ", verb(access), size, number(address)) +
                                         device_->describe(address, size));
        }
        Known known{page, allocation->address, allocation->address + allocation->bytes, allocation->host, fresh_page()};
        found = known_.emplace(page, known).first;
        if (held_.empty() || held_.back() != allocation) {
            held_.push_back(std::move(allocation));
        }
    }
    cached = found->second;
    return cached;
}

void Machine::note_global(Known& known, uint64_t address, uint32_t size, Access access) {
    Conflict conflict;
    Moment now = moment(launch_epoch_);
    uint32_t at = address % Page::BYTES;
    uint32_t here = size < Page::BYTES - at ? size : Page::BYTES - at;
    if (!known.page->touch(at, here, now, access, conflict)) {
        race(false, address, size, access, conflict);
    }
    // A struct may lie on two pages.
    if (here < size) {
        Known& next = know(address + here, size - here, access);
        if (!next.page->touch(0, size - here, now, access, conflict)) {
            race(false, address, size, access, conflict);
        }
    }
}

void* Machine::global(uint64_t address, uint32_t size, uint32_t align, Access access) {
    Known& known = know(address, size, access);
    if (address < known.first || address >= known.end || known.end - address < size) {
        fault(Kind::OutOfBounds, format("%s %u bytes at 0x%llx, ", verb(access), size, number(address)) +
                                     device_->describe(address, size));
    }
    if ((address & (align - 1)) != 0) {
        fault(Kind::Misaligned, format("%s %u bytes at 0x%llx of global memory, which is no multiple of %u", verb(access), size,
                                       number(address), align));
    }
    unsigned char* host = known.host + (address - known.first);
    note_global(known, address, size, access);
    return host;
}

Stretch Machine::stretch(uint32_t offset, uint64_t bytes, uint32_t align) {
    if (offset + bytes > arguments_.shared) {
        fault(Kind::OutOfBounds, format("takes the bytes %u to %llu of shared memory, and the launch gives %u", offset,
                                        number(offset + bytes), arguments_.shared));
    }
    if (offset % align != 0) {
        fault(Kind::Misaligned, format("takes shared memory from byte %u on for elements that lie at multiples of %u",
                                       offset, align));
    }
    return {offset, static_cast<uint32_t>(offset + bytes)};
}

void* Machine::shared(Stretch stretch, int64_t at, uint32_t size, uint32_t align, Access access) {
    if (at < stretch.first || at + size > stretch.end) {
        fault(Kind::OutOfBounds, format("%s %u bytes at byte %lld of shared memory, outside of its part, %u to %u",
                                        verb(access), size, static_cast<long long>(at), stretch.first, stretch.end));
    }
    if ((at & (align - 1)) != 0) {
        fault(Kind::Misaligned, format("%s %u bytes at byte %lld of shared memory, which is no multiple of %u",
                                       verb(access), size, static_cast<long long>(at), align));
    }
    auto place = static_cast<uint32_t>(at);
    for (uint32_t unit = place / 16; unit * 16 < place + size; ++unit) {
        if (in_flight_[unit] != 0) {
            fault(Kind::InFlight, format("%s %u bytes at byte %u of shared memory, where a copy_async16 of thread %u has not "
                                         "landed: no copy_wait of that thread is between",
                                         verb(access), size, place, in_flight_[unit] - 1u));
        }
    }
    Conflict conflict;
    Moment now = moment(epoch_);
    uint32_t in_page = place % Page::BYTES;
    uint32_t here = size < Page::BYTES - in_page ? size : Page::BYTES - in_page;
    if (!shared_pages_[place / Page::BYTES]->touch(in_page, here, now, access, conflict) ||
        (here < size && !shared_pages_[place / Page::BYTES + 1]->touch(0, size - here, now, access, conflict))) {
        race(true, place, size, access, conflict);
    }
    return shared_memory_.get() + place;
}

void Machine::start_copy(Stretch to, int64_t at, uint64_t from, uint32_t valid, Site site) {
    Thread& me = *current_;
    if (valid > 16) {
        fault(Kind::OutOfBounds, format("copies %u bytes at %s: copy_async16 copies 16 at most", valid, at_line(site).c_str()));
    }
    Copy copy{0, me.groups, site, {}};
    if (valid > 0) {
        // Checked as 16 bytes at a multiple of 16, of which the first ones are read.
        if (from % 16 != 0) {
            fault(Kind::Misaligned, format("copies from 0x%llx of global memory at %s, which is no multiple of 16", number(from),
                                           at_line(site).c_str()));
        }
        std::memcpy(copy.bytes, global(from, valid, 1, Access::Read), valid);
    }
    shared(to, at, 16, 16, Access::Write);
    copy.at = static_cast<uint32_t>(at);
    in_flight_[copy.at / 16] = static_cast<uint16_t>(me.index + 1);
    me.copies.push_back(copy);
}

void Machine::wait_for_copies(uint32_t left) {
    Thread& me = *current_;
    size_t landed = 0;
    while (landed < me.copies.size() && me.copies[landed].group + left < me.groups) {
        const Copy& copy = me.copies[landed++];
        in_flight_[copy.at / 16] = 0;
        std::memcpy(shared({copy.at, copy.at + 16}, copy.at, 16, 16, Access::Write), copy.bytes, 16);
    }
    me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<std::ptrdiff_t>(landed));
}

void* global_access(uint64_t address, uint32_t size, uint32_t align, Access access) {
    return Machine::running().global(address, size, align, access);
}

Stretch shared_stretch(uint32_t offset, uint64_t bytes, uint32_t align) {
    return Machine::running().stretch(offset, bytes, align);
}

void* shared_access(Stretch stretch, int64_t at, uint32_t size, uint32_t align, Access access) {
    return Machine::running().shared(stretch, at, size, align, access);
}

void copy_start(Stretch stretch, int64_t at, uint64_t from, uint32_t valid, Site site) {
    Machine::running().start_copy(stretch, at, from, valid, site);
}

void copy_commit() { ++Machine::running().thread().groups; }

void copy_wait(uint32_t left, Site site) {
    if (!Machine::running().planted(Plant::LeaveOut, site)) {
        Machine::running().wait_for_copies(left);
    }
}

}  // namespace emulator
