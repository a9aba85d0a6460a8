// The arithmetic of `fuse`, shared by the CPU and the CUDA kernel, so that both mean and round the same.
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

// Finite, and small enough (8.5e37) that interpolating between two such values cannot overflow. A test on the bits:
// it sees NaN and Inf whatever the compiler assumes of floating point.
LAD_SHARED bool can_interpolate(float value) { return (bits_of(value) & 0x7fffffffu) < 0x7e800000u; }

// Unsigned integers in the order of the floats: negative ones below positive ones.
LAD_SHARED std::uint32_t order_key(float value) {
    const std::uint32_t bits = bits_of(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

LAD_SHARED float value_of_key(std::uint32_t key) { return float_of(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

// Where output i of `size` samples a row of `source` values: v[low] + weight * (v[low + 1] - v[low]).
// Half-pixel centres, clamped at the edges: align_corners=False of torch.nn.functional.interpolate, without antialias.
struct LinearTap {
    int low;
    float weight;
};

LAD_SHARED LinearTap linear_tap(int i, int source, int size) {
    const double position = (i + 0.5) * (static_cast<double>(source) / size) - 0.5;
    if (position <= 0) return {0, 0.0f};
    const int low = static_cast<int>(position);
    if (low >= source - 1) return {source - 1, 0.0f};
    return {low, static_cast<float>(position - low)};
}

// Between two samples. It returns `from` where the slope is 0 and never decreases when weight * slope grows: a row of
// equal values stays equal, and between two samples the largest output is the first or the last one.
LAD_SHARED float lerp(float from, float slope, float weight) { return from + weight * slope; }

// 1 / (1 + exp(-x)) with an own exp of about 1 ulp: the C library's differs between systems and does not vectorise.
LAD_SHARED float sigmoid(float x) {
    float z = -x;
    z = z < -87.0f ? -87.0f : z;  // exp stays a normal number; NaN fails both comparisons and stays NaN
    z = z > 88.0f ? 88.0f : z;
    const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    const float shifted = z * 1.44269504f + shifter;
    const float n = shifted - shifter;
    const float r = (z - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first one exact
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const float power_of_two = float_of((bits_of(shifted) - bits_of(shifter) + 127u) << 23);
    return 1.0f / (1.0f + p * power_of_two);
}

}  // namespace lad
