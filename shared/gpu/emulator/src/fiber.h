// Fibres: many stacks on one thread of the system, of which one runs, and says itself which is next.
//
// On x86-64 a switch is a dozen instructions (fiber.cpp); elsewhere makecontext enters a stack and _setjmp/_longjmp
// switch, which, unlike swapcontext, ask the system for nothing.
#pragma once

#include <cstddef>

#if defined(__x86_64__) && !defined(EMULATOR_PORTABLE_FIBERS)
#define EMULATOR_OWN_SWITCH 1
#else
#include <csetjmp>
#include <ucontext.h>
#endif

namespace emulator {

// Memory for a stack, with a page below it that nobody may touch: an overflow ends the process instead of spoiling
// another stack.
class Stack {
   public:
    Stack();
    ~Stack();
    Stack(Stack&& other) noexcept;
    Stack& operator=(Stack&&) = delete;
    void* base() const { return base_; }
    static size_t size();

   private:
    void* base_;
};

// A place to continue at.
struct Context {
#ifdef EMULATOR_OWN_SWITCH
    void* stack_pointer;
#else
    ucontext_t start;
    jmp_buf place;
    bool started;
#endif
};

// Makes `context` begin with `entry`, which never returns, on that stack.
void prepare(Context& context, const Stack& stack, void (*entry)());

// Leaves the running stack at `from`, and goes on at `to`.
void switch_to(Context& from, Context& to);

}  // namespace emulator
