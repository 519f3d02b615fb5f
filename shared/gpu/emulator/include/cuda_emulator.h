// CUDA's names, and those of defrost.cuh, with a meaning under g++ -std=c++17. See the page of the crate (src/lib.rs).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulator/runtime.h"

#define __device__
#define __host__
#define __forceinline__ inline
#define DEFROST_INLINE inline

#include "emulator/arithmetic.h"
#include "emulator/halves.h"
#include "emulator/memory.h"
#include "emulator/warp.h"

// A kernel is a function and the entry that makes it known by its name.
#define DEFROST_KERNEL(name, Params) DEFROST_KERNEL_BOUNDS(name, Params, 1024, 1)
#define DEFROST_KERNEL_BOUNDS(name, Params, threads, blocks)                                             \
    static void name(const Params& p);                                                                   \
    static const ::emulator::Kernel name##_entry(                                                        \
        #name, sizeof(Params), [](const void* p) { name(*static_cast<const Params*>(p)); }, threads);    \
    static void name(const Params& p)
