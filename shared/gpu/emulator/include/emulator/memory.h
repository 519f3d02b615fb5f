// Views of global memory, stretches of shared memory, and asynchronous copies. Every access goes through the runtime.
#pragma once

namespace emulator {

// What stands for a writable element. `Space` knows how to reach the bytes.
template <class T, class Space>
class Element {
   public:
    explicit Element(Space space) : space_(space) {}
    Element(const Element&) = default;

    operator T() const { return space_.template read<T>(); }
    const Element& operator=(const T& value) const {
        space_.template write<T>(value);
        return *this;
    }
    const Element& operator=(const Element& other) const { return *this = static_cast<T>(other); }
    template <class U>
    const Element& operator+=(const U& value) const {
        return *this = static_cast<T>(static_cast<T>(*this) + value);
    }
    template <class U>
    const Element& operator-=(const U& value) const {
        return *this = static_cast<T>(static_cast<T>(*this) - value);
    }
    template <class U>
    const Element& operator*=(const U& value) const {
        return *this = static_cast<T>(static_cast<T>(*this) * value);
    }

   private:
    Space space_;
};

struct Global {
    uint64_t address;
    template <class T>
    T read(Access access = Access::Read) const {
        T value;
        std::memcpy(&value, global_access(address, sizeof(T), alignof(T), access), sizeof(T));
        return value;
    }
    template <class T>
    void write(const T& value) const {
        std::memcpy(global_access(address, sizeof(T), alignof(T), Access::Write), &value, sizeof(T));
    }
};

struct Local {
    Stretch stretch;
    int64_t at;
    template <class T>
    T read() const {
        T value;
        std::memcpy(&value, shared_access(stretch, at, sizeof(T), alignof(T), Access::Read), sizeof(T));
        return value;
    }
    template <class T>
    void write(const T& value) const {
        std::memcpy(shared_access(stretch, at, sizeof(T), alignof(T), Access::Write), &value, sizeof(T));
    }
};

}  // namespace emulator

template <class T>
struct View {
    uint64_t address;

    auto operator[](size_t i) const {
        if constexpr (std::is_const_v<T>) {
            return place(i).template read<std::remove_const_t<T>>(emulator::Access::ReadOnly);
        } else {
            return emulator::Element<T, emulator::Global>(place(i));
        }
    }

    View at(int64_t offset) const { return View{address + static_cast<uint64_t>(offset) * sizeof(T)}; }
    explicit operator bool() const { return address != 0; }
    template <class U, class = std::enable_if_t<std::is_same_v<U, const T> && !std::is_const_v<T>>>
    operator View<U>() const {
        return View<U>{address};
    }
    emulator::Global place(size_t i) const { return {address + i * sizeof(T)}; }
};

template <class T>
struct Shared {
    emulator::Stretch stretch;
    int64_t start;

    emulator::Element<T, emulator::Local> operator[](size_t i) const {
        return emulator::Element<T, emulator::Local>(place(i));
    }
    Shared at(int64_t offset) const { return Shared{stretch, start + offset * static_cast<int64_t>(sizeof(T))}; }
    emulator::Local place(size_t i) const { return {stretch, start + static_cast<int64_t>(i * sizeof(T))}; }
};

template <class T>
inline Shared<T> shared(uint32_t byte_offset, uint32_t count) {
    return Shared<T>{emulator::shared_stretch(byte_offset, static_cast<uint64_t>(count) * sizeof(T), alignof(T)), byte_offset};
}

template <class U, class T>
inline Shared<U> shared_as(Shared<T> s) {
    return Shared<U>{s.stretch, s.start};
}

template <class U, class T>
inline View<U> view_as(View<T> v) {
    return View<U>{v.address};
}

#define EMULATOR_VECTOR(bytes, Word)                                                                                 \
    template <class T>                                                                                               \
    inline Word load##bytes(View<T> v, size_t i) {                                                                   \
        return v.place(i).template read<Word>(std::is_const_v<T> ? emulator::Access::ReadOnly                        \
                                                                 : emulator::Access::Read);                          \
    }                                                                                                                \
    template <class T>                                                                                               \
    inline Word load##bytes(Shared<T> s, size_t i) {                                                                 \
        return s.place(i).template read<Word>();                                                                     \
    }                                                                                                                \
    template <class T>                                                                                               \
    inline void store##bytes(View<T> v, size_t i, Word value) {                                                      \
        static_assert(!std::is_const_v<T>, "a view of const elements is not written");                               \
        v.place(i).template write<Word>(value);                                                                      \
    }                                                                                                                \
    template <class T>                                                                                               \
    inline void store##bytes(Shared<T> s, size_t i, Word value) {                                                    \
        s.place(i).template write<Word>(value);                                                                      \
    }
EMULATOR_VECTOR(4, uint32_t)
EMULATOR_VECTOR(8, uint2)
EMULATOR_VECTOR(16, uint4)
#undef EMULATOR_VECTOR

template <class T, class U>
inline void copy_async16(Shared<T> to, size_t i, View<U> from, size_t j, uint32_t valid_bytes,
                         emulator::Site site = emulator::Site::here()) {
    static_assert(sizeof(T) == sizeof(U), "copy_async16 keeps the size of elements");
    emulator::copy_start(to.stretch, to.place(i).at, from.place(j).address, valid_bytes, site);
}
inline void copy_commit() { emulator::copy_commit(); }
template <int N>
inline void copy_wait(emulator::Site site = emulator::Site::here()) {
    emulator::copy_wait(N, site);
}
