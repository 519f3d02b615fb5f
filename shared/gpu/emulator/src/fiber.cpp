#include "fiber.h"

#include <cstdint>
#include <new>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace emulator {

// A thread of our kernels holds a few hundred floats; what is never touched takes no memory.
constexpr size_t STACK_BYTES = 256 * 1024;

static size_t page_size() {
    static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

size_t Stack::size() { return STACK_BYTES; }

Stack::Stack() {
    void* whole = mmap(nullptr, page_size() + STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED || mprotect(whole, page_size(), PROT_NONE) != 0) {
        throw std::bad_alloc();
    }
    base_ = static_cast<char*>(whole) + page_size();
}

Stack::Stack(Stack&& other) noexcept : base_(std::exchange(other.base_, nullptr)) {}

Stack::~Stack() {
    if (base_ != nullptr) {
        munmap(static_cast<char*>(base_) - page_size(), page_size() + STACK_BYTES);
    }
}

#ifdef EMULATOR_OWN_SWITCH

// What a function must keep for its caller lies on the stack that is left; the pointer to it is the whole context.
// The rounding mode and the like are the same in all fibres.
extern "C" void emulator_switch(void** from, void* to);
asm(R"(
    .text
    .globl emulator_switch
    .hidden emulator_switch
    .type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulator_switch, . - emulator_switch
    .section .note.GNU-stack, "", @progbits
    .text
)");

void prepare(Context& context, const Stack& stack, void (*entry)()) {
    // As a call would leave it: the address of a caller (none) at a multiple of 16 less 8, below it the address that
    // `ret` takes, and six registers.
    auto top = reinterpret_cast<uintptr_t>(stack.base()) + STACK_BYTES;
    auto* place = reinterpret_cast<void**>(top & ~static_cast<uintptr_t>(15));
    *--place = nullptr;
    *--place = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) {
        *--place = nullptr;
    }
    context.stack_pointer = place;
}

void switch_to(Context& from, Context& to) { emulator_switch(&from.stack_pointer, to.stack_pointer); }

#else

void prepare(Context& context, const Stack& stack, void (*entry)()) {
    getcontext(&context.start);
    context.start.uc_stack.ss_sp = stack.base();
    context.start.uc_stack.ss_size = STACK_BYTES;
    context.start.uc_link = nullptr;
    makecontext(&context.start, entry, 0);
    context.started = false;
}

void switch_to(Context& from, Context& to) {
    from.started = true;
    if (_setjmp(from.place) == 0) {
        if (to.started) {
            _longjmp(to.place, 1);
        }
        to.started = true;
        setcontext(&to.start);
    }
}

#endif

}  // namespace emulator
