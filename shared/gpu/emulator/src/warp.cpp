// Collectives of a warp: where lanes meet, and what is then done for all of them at once.
#include "machine.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "defrost.cuh"

namespace emulator {

void Machine::refuse_mask(uint32_t mask, const Collective& collective, Site site) {
    uint32_t me = current_->index % LANES;
    if ((mask >> me & 1) == 0) {
        fault(Kind::Lanes, format("calls %s at %s with the mask 0x%08x, in which its own lane %u is missing", collective.name,
                                  at_line(site).c_str(), mask, me));
    }
}

// Lanes meet where mask, collective and line are the same. Parts of a warp may be at different ones: a meeting that
// this lane belongs to may wait for it until it has been at another, unless lanes that it wants to meet there are
// themselves among the waiting.
void Machine::meet(const Collective& collective, uint32_t mask, void* operand, Site site) {
    Thread& me = *current_;
    refuse_mask(mask, collective, site);
    me.site = site;
    uint32_t bit = 1u << (me.index % LANES);
    Meetings& meetings = meetings_[me.index / LANES];
    uint32_t at = meetings.count;
    for (uint32_t i = 0; i < meetings.count; ++i) {
        const Meeting& other = meetings.all[i];
        if (other.operands.mask == mask && other.collective == &collective && same_line(other.site, site)) {
            at = i;
        } else if ((other.operands.mask & bit) != 0 && (other.come & mask) != 0) {
            const Thread& waiting = lane(static_cast<uint32_t>(__builtin_ctz(other.come & mask)));
            fault(Kind::Lanes, format("comes to the %s of %s with the mask 0x%08x while thread %u of its warp waits at the %s "
                                      "of %s with the mask 0x%08x",
                                      collective.name, at_line(site).c_str(), mask, waiting.index,
                                      other.collective->name, at_line(other.site).c_str(), other.operands.mask));
        }
    }
    Meeting& meeting = meetings.all[at];
    if (at == meetings.count) {
        ++meetings.count;
        meeting.collective = &collective;
        meeting.site = site;
        meeting.come = 0;
        meeting.operands.mask = mask;
    }
    meeting.come |= bit;
    meeting.operands.of[me.index % LANES] = operand;
    me.state = State::AtCollective;
    if (meeting.come != mask) {
        uint32_t gone = mask & meetings.ended;
        if (gone != 0) {
            missed(me, lane(static_cast<uint32_t>(__builtin_ctz(gone))));
        }
        resume(me.context);
        return;
    }
    if (collective.mislead != nullptr && planted(Plant::WrongLane, site)) {
        collective.mislead(meeting.operands);
    }
    collective.perform(meeting.operands);
    if (at != --meetings.count) {
        meeting = meetings.all[meetings.count];
    }
    for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
        make_ready(lane(static_cast<uint32_t>(__builtin_ctz(lanes))));
    }
    resume(me.context);
}

void Machine::order_lanes(uint32_t mask) {
    uint32_t known[LANES] = {};
    for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
        const uint32_t* clocks = lane(static_cast<uint32_t>(__builtin_ctz(lanes))).clocks;
        for (uint32_t i = 0; i < LANES; ++i) {
            known[i] = known[i] > clocks[i] ? known[i] : clocks[i];
        }
    }
    for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
        uint32_t number = static_cast<uint32_t>(__builtin_ctz(lanes));
        Thread& one = lane(number);
        std::memcpy(one.clocks, known, sizeof known);
        ++one.clocks[number];
    }
}

Vote barrier(bool predicate, Site site) { return Machine::running().barrier(predicate, site); }

void meet(const Collective& collective, uint32_t mask, void* operand, Site site) {
    Machine::running().meet(collective, mask, operand, site);
}

void order_lanes(uint32_t mask) { Machine::running().order_lanes(mask); }

void bad_lane(uint32_t lane, const char* format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    Machine& machine = Machine::running();
    machine.fault_of(machine.lane(lane), Kind::Lanes, text);
}

uint32_t this_lane() { return threadIdx.x % LANES; }

uint32_t segment(uint32_t width) {
    if (width == 0 || width > LANES || (width & (width - 1)) != 0) {
        bad_lane(this_lane(), "shuffles in runs of %u lanes: the width is 1, 2, 4, 8, 16 or 32", width);
    }
    return this_lane() & ~(width - 1);
}

template <class F>
static void each_lane(uint32_t mask, F f) {
    for (; mask != 0; mask &= mask - 1) {
        f(static_cast<uint32_t>(__builtin_ctz(mask)));
    }
}

static void perform_shuffle(const Operands& operands) {
    each_lane(operands.mask, [&](uint32_t lane) {
        auto* own = static_cast<Shuffle*>(operands.of[lane]);
        if ((operands.mask >> own->from & 1) == 0) {
            bad_lane(lane, "shuffles from lane %u, which the mask 0x%08x leaves out", own->from, operands.mask);
        }
        own->received = static_cast<Shuffle*>(operands.of[own->from])->value;
    });
}
static void mislead_shuffle(const Operands& operands) {
    each_lane(operands.mask, [&](uint32_t lane) { static_cast<Shuffle*>(operands.of[lane])->from ^= 1; });
}
const Collective SHUFFLE = {"__shfl_sync", perform_shuffle, mislead_shuffle};
const Collective SHUFFLE_UP = {"__shfl_up_sync", perform_shuffle, mislead_shuffle};
const Collective SHUFFLE_DOWN = {"__shfl_down_sync", perform_shuffle, mislead_shuffle};
const Collective SHUFFLE_XOR = {"__shfl_xor_sync", perform_shuffle, mislead_shuffle};

static void perform_ballot(const Operands& operands) {
    uint32_t votes = 0;
    each_lane(operands.mask, [&](uint32_t lane) {
        votes |= static_cast<uint32_t>(static_cast<Ballot*>(operands.of[lane])->predicate) << lane;
    });
    each_lane(operands.mask, [&](uint32_t lane) { static_cast<Ballot*>(operands.of[lane])->votes = votes; });
}
const Collective BALLOT = {"__ballot_sync", perform_ballot, nullptr};
const Collective ANY = {"__any_sync", perform_ballot, nullptr};
const Collective ALL = {"__all_sync", perform_ballot, nullptr};

uint32_t ballot(const Collective& collective, uint32_t mask, bool predicate, Site site) {
    Ballot operand{predicate, 0};
    meet(collective, mask, &operand, site);
    return operand.votes;
}

template <class F>
static void reduce_all(const Operands& operands, F f) {
    bool first = true;
    uint32_t result = 0;
    each_lane(operands.mask, [&](uint32_t lane) {
        uint32_t value = static_cast<Reduce*>(operands.of[lane])->value;
        result = first ? value : f(result, value);
        first = false;
    });
    each_lane(operands.mask, [&](uint32_t lane) { static_cast<Reduce*>(operands.of[lane])->result = result; });
}
const Collective REDUCE_ADD = {"__reduce_add_sync", [](const Operands& operands) {
                                   reduce_all(operands, [](uint32_t a, uint32_t b) { return a + b; });
                               }, nullptr};
const Collective REDUCE_MAX = {"__reduce_max_sync", [](const Operands& operands) {
                                   reduce_all(operands, [](uint32_t a, uint32_t b) { return a > b ? a : b; });
                               }, nullptr};
const Collective REDUCE_MIN = {"__reduce_min_sync", [](const Operands& operands) {
                                   reduce_all(operands, [](uint32_t a, uint32_t b) { return a < b ? a : b; });
                               }, nullptr};

static const Collective SYNCWARP = {"__syncwarp", [](const Operands& operands) { order_lanes(operands.mask); }, nullptr};

}  // namespace emulator

void __syncwarp(unsigned int mask, emulator::Site site) {
    if (!emulator::Machine::running().planted(emulator::Plant::LeaveOut, site)) {
        emulator::meet(emulator::SYNCWARP, mask, nullptr, site);
    }
}
