// Vectors that go through the same arithmetic side by side, and the logarithm. A polynomial is a chain in which every
// step waits for the one before; next to other chains the processor has something to do meanwhile.
#pragma once

#include <cstdint>

#include "lad/elementary.hpp"
#include "lad/lanes.hpp"

namespace lad {

#define LAD_EACH_PART _Pragma("GCC unroll 4") for (int i = 0; i < count; ++i)

// `count` vectors of floats, or of integers.
template <typename Vector, int count>
struct Pack {
    Vector part[count];

#define LAD_PACK_OPERATOR(op)                                          \
    friend LAD_INLINE Pack operator op(const Pack& a, const Pack& b) { \
        Pack result;                                                   \
        LAD_EACH_PART result.part[i] = a.part[i] op b.part[i];         \
        return result;                                                 \
    }                                                                  \
    template <typename Scalar>                                         \
    friend LAD_INLINE Pack operator op(const Pack& a, Scalar b) {      \
        Pack result;                                                   \
        LAD_EACH_PART result.part[i] = a.part[i] op b;                 \
        return result;                                                 \
    }
    LAD_PACK_OPERATOR(+)
    LAD_PACK_OPERATOR(-)
    LAD_PACK_OPERATOR(*)
    LAD_PACK_OPERATOR(/)
    LAD_PACK_OPERATOR(&)
    LAD_PACK_OPERATOR(|)
    LAD_PACK_OPERATOR(<<)
    LAD_PACK_OPERATOR(>>)
#undef LAD_PACK_OPERATOR
};

// As many of them as the registers hold beside the constants of a polynomial: AVX-512 has 32, the others 16.
template <typename V>
using FloatPack = Pack<V, width_of<V> == 16 ? 4 : 2>;

template <typename P>
inline constexpr int floats_in = static_cast<int>(sizeof(P) / sizeof(float));

template <typename V, int count>
LAD_INLINE void load(Pack<V, count>& pack, const float* from) {
    LAD_EACH_PART pack.part[i] = load<V>(from + i * width_of<V>);
}

template <typename V, int count>
LAD_INLINE void store(float* to, const Pack<V, count>& pack) {
    LAD_EACH_PART store<V>(to + i * width_of<V>, pack.part[i]);
}

// A vector of other elements, as wide as V.
template <typename Element, typename V>
struct VectorLike {
    typedef Element type __attribute__((vector_size(sizeof(V))));
};

template <typename Element, typename V, int count>
LAD_INLINE auto reinterpret(const Pack<V, count>& values) {
    Pack<typename VectorLike<Element, V>::type, count> result;
    LAD_EACH_PART result.part[i] = reinterpret_cast<typename VectorLike<Element, V>::type>(values.part[i]);
    return result;
}

// ---- what elementary.hpp has for floats

template <typename V, int count>
LAD_INLINE auto bits_of(const Pack<V, count>& values) {
    return reinterpret<std::uint32_t>(values);
}

template <typename V, int count>
LAD_INLINE auto float_of(const Pack<V, count>& bits) {
    return reinterpret<float>(bits);
}

template <typename V, int count>
LAD_INLINE Pack<V, count> at_least(const Pack<V, count>& x, float bound) {
    Pack<V, count> result;
    LAD_EACH_PART result.part[i] = x.part[i] < bound ? V{} + bound : x.part[i];
    return result;
}

// ---- logarithm

// For mantissas in each sixteenth of [1, 2): 1 / c of its middle c, and -log2 of that float.
alignas(64) inline constexpr float log_reciprocals[16] = {
    0.969697f,  0.9142857f, 0.8648649f, 0.82051283f, 0.7804878f, 0.74418604f, 0.7111111f,  0.68085104f,
    0.6530612f, 0.627451f,  0.6037736f, 0.58181816f, 0.5614035f, 0.5423729f,  0.52459013f, 0.50793654f};
alignas(64) inline constexpr float log_middles[16] = {
    0.044394076f, 0.12928301f, 0.20945333f, 0.2854022f,  0.35755205f, 0.42626476f, 0.49185306f, 0.5545889f,
    0.61470985f,  0.67242527f, 0.7279204f,  0.78135973f, 0.83289f,    0.88264304f, 0.93073744f, 0.97727984f};

// table[index % 16] for each lane.
template <typename V, typename Index>
LAD_INLINE V look_up(const float (&table)[16], const Index& index) {
#if __has_builtin(__builtin_shuffle)
    if constexpr (width_of<V> == 16) return __builtin_shuffle(load<V>(table), index);
    if constexpr (width_of<V> == 8) return __builtin_shuffle(load<V>(table), load<V>(table + 8), index);
#endif
    V found;
    for (int lane = 0; lane < width_of<V>; ++lane) found[lane] = table[index[lane] % 16];
    return found;
}

template <typename V, int count, typename Index>
LAD_INLINE Pack<V, count> look_up(const float (&table)[16], const Pack<Index, count>& index) {
    Pack<V, count> found;
    LAD_EACH_PART found.part[i] = look_up<V>(table, index.part[i]);
    return found;
}

// Of 2^n * m with m in [1, 2): n.
template <typename V, int count, typename U>
LAD_INLINE Pack<V, count> exponent_of(const Pack<U, count>& bits) {
    typedef typename VectorLike<std::int32_t, V>::type Signed;
    Pack<V, count> n;
    LAD_EACH_PART n.part[i] = __builtin_convertvector(reinterpret_cast<Signed>(bits.part[i] >> 23) - 127, V);
    return n;
}

// log2 x, for normal positive x; of anything else it makes a finite number. Off by less than 1.5e-7 + 1.2e-7 |log2 x|.
// x = 2^n c (1 + r) with |r| <= 1/33: n + log2 c + r p(r), the cubic fitted to 5.3e-8.
template <typename V, int count>
LAD_INLINE Pack<V, count> binary_logarithm(const Pack<V, count>& x) {
    const auto bits = bits_of(x), sixteenth = bits >> 19;
    const Pack<V, count> mantissa = float_of((bits & 0x7fffffu) | 0x3f800000u);
    const Pack<V, count> r = mantissa * look_up<V>(log_reciprocals, sixteenth) - 1.0f;
    Pack<V, count> p = r * 0.481273353f - 0.72162205f;
    p = p * r + 1.4426949f;
    return p * r + (exponent_of<V>(bits) + look_up<V>(log_middles, sixteenth));
}

#undef LAD_EACH_PART

}  // namespace lad
