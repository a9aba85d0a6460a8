// Sums and maxima of a row in vectors of type V (Float4, Float8 or Float16): the compiler does not vectorise them by
// itself, because the order of a float sum matters. Here it is fixed: 16 lanes, whatever the vector width.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "lad/elementary.hpp"
#include "lad/isa.hpp"

namespace lad {

constexpr int lanes = 16;

// Memory for whole vectors: the widest ones would cross a cache line at every load from an ordinary std::vector.
template <typename T>
struct AlignedAllocator {
    using value_type = T;
    static constexpr std::align_val_t alignment{64};

    AlignedAllocator() = default;
    template <typename U>
    AlignedAllocator(const AlignedAllocator<U>&) {}
    T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), alignment)); }
    void deallocate(T* memory, std::size_t) { ::operator delete(memory, alignment); }
    bool operator==(const AlignedAllocator&) const { return true; }
    bool operator!=(const AlignedAllocator&) const { return false; }
};

using Floats = std::vector<float, AlignedAllocator<float>>;

template <typename V>
inline constexpr int width_of = static_cast<int>(sizeof(V) / sizeof(float));

constexpr std::size_t whole_lanes(std::size_t n) { return (n + lanes - 1) / lanes * lanes; }

template <typename V>
LAD_INLINE V load(const float* from) {
    V value;
    std::memcpy(&value, from, sizeof(V));
    return value;
}

template <typename V>
LAD_INLINE void store(float* to, const V& value) {
    std::memcpy(to, &value, sizeof(V));
}

// In blocks, so that the counters of the vectors have 32 bits.
LAD_INLINE std::int64_t count_nonfinite(const float* values, std::size_t n) {
    constexpr std::size_t block = 1 << 16;
    std::int64_t total = 0;
    for (std::size_t begin = 0; begin < n; begin += block) {
        const std::size_t end = std::min(n, begin + block);
        std::int32_t nonfinite = 0;
        for (std::size_t i = begin; i < end; ++i) nonfinite += !is_finite(values[i]);
        total += nonfinite;
    }
    return total;
}

LAD_INLINE float sum_of_lanes(float* s) {
    for (int half = lanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) s[i] += s[i + half];
    return s[0];
}

// The two halves of a vector.
template <typename Half, typename V>
struct Halves {
    Half lower, upper;

    explicit LAD_INLINE Halves(const V& v) { std::memcpy(this, &v, sizeof(V)); }
};

template <typename V>
LAD_INLINE V larger(const V& a, const V& b) {
    return a > b ? a : b;
}

// Of the lanes: the upper half onto the lower one, until one is left.
LAD_INLINE float sum_of(const Float4& v) { return (v[0] + v[2]) + (v[1] + v[3]); }
LAD_INLINE float sum_of(const Float8& v) {
    const Halves<Float4, Float8> h(v);
    return sum_of(h.lower + h.upper);
}
LAD_INLINE float sum_of(const Float16& v) {
    const Halves<Float8, Float16> h(v);
    return sum_of(h.lower + h.upper);
}

LAD_INLINE float max_of(const Float4& v) { return larger(larger(v[0], v[2]), larger(v[1], v[3])); }
LAD_INLINE float max_of(const Float8& v) {
    const Halves<Float4, Float8> h(v);
    return max_of(larger(h.lower, h.upper));
}
LAD_INLINE float max_of(const Float16& v) {
    const Halves<Float8, Float16> h(v);
    return max_of(larger(h.lower, h.upper));
}

template <typename V>
LAD_INLINE float row_sum(const float* values, std::size_t n) {
    constexpr int width = width_of<V>, parts = lanes / width;
    V sums[parts] = {};
    std::size_t x = 0;
    for (; x + lanes <= n; x += lanes)
        for (int p = 0; p < parts; ++p) sums[p] += load<V>(values + x + p * width);
    float s[lanes];
    std::memcpy(s, sums, sizeof(s));
    for (int i = 0; x < n; ++x, ++i) s[i] += values[x];
    return sum_of_lanes(s);
}

// Of at least one value. It does not tell a NaN: the caller counts them.
template <typename V>
LAD_INLINE float row_max(const float* values, std::size_t n) {
    constexpr int width = width_of<V>, parts = lanes / width;
    V top[parts];
    for (int p = 0; p < parts; ++p) top[p] = V{} + values[0];
    std::size_t x = 0;
    for (; x + lanes <= n; x += lanes)
        for (int p = 0; p < parts; ++p) top[p] = larger(load<V>(values + x + p * width), top[p]);
    for (int p = 1; p < parts; ++p) top[0] = larger(top[p], top[0]);
    float best = max_of(top[0]);
    for (; x < n; ++x) best = std::max(best, values[x]);
    return best;
}

}  // namespace lad
