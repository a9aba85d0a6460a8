// Bits and powers of a float, the same on every processor: the C library's differ between systems and do not vectorise.
// Free of branches, so that the compiler vectorises a loop over them. The logarithm stands in packs.hpp.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define LAD_SHARED __host__ __device__ __forceinline__
#else
#define LAD_SHARED inline __attribute__((always_inline))
#endif

namespace lad {

LAD_SHARED std::uint32_t bits_of(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

LAD_SHARED float float_of(std::uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

LAD_SHARED bool is_finite(float value) { return (bits_of(value) & 0x7fffffffu) < 0x7f800000u; }

// ln 2 in two parts, the first one with so few bits that its product with an exponent is exact.
constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;

constexpr float log2_e = 1.44269504f;  // e^x = 2^(x log2 e), for powers whose exponents are scaled anyway

// e^x within 1.2e-7 of its value, for x clamped to [-87, 88]: the result stays a normal number. NaN stays NaN.
LAD_SHARED float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;  // NaN fails both comparisons
    x = x > 88.0f ? 88.0f : x;
    const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    const float shifted = x * log2_e + shifter;
    const float n = shifted - shifter;
    const float r = (x - n * ln2_high) - n * ln2_low;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * float_of((bits_of(shifted) - bits_of(shifter) + 127u) << 23);
}

LAD_SHARED float at_least(float x, float bound) { return x < bound ? bound : x; }  // NaN stays NaN

// 2^x within 1.2e-7 of its value, for x up to 127, and 2^-125 below -125; NaN stays NaN. Cheaper than e^x: the split
// into an integer and the rest is exact. Float: float, or a Pack of packs.hpp.
template <typename Float>
LAD_SHARED Float power_of_two(Float x) {
    x = at_least(x, -125.0f);
    const float shifter = 12582912.0f;
    const Float shifted = x + shifter;
    const Float r = x - (shifted - shifter);
    Float p = r * 1.53533619e-4f + 1.33988744e-3f;
    p = p * r + 9.61843736e-3f;
    p = p * r + 0.0555033247f;
    p = p * r + 0.240226479f;
    p = p * r + 0.693147203f;
    p = p * r + 1.0f;
    return p * float_of((bits_of(shifted) + 127u) << 23);
}

}  // namespace lad
