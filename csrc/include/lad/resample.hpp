// The arithmetic of `fuse`, shared by the CPU and the CUDA kernel, so that both mean and round the same.
#pragma once

#include "lad/elementary.hpp"

namespace lad {

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

// scale: source / size.
LAD_SHARED LinearTap linear_tap_at(int i, int source, double scale) {
    const double position = (i + 0.5) * scale - 0.5;
    if (position <= 0) return {0, 0.0f};
    const int low = static_cast<int>(position);
    if (low >= source - 1) return {source - 1, 0.0f};
    return {low, static_cast<float>(position - low)};
}

LAD_SHARED LinearTap linear_tap(int i, int source, int size) {
    return linear_tap_at(i, source, static_cast<double>(source) / size);
}

// Between two samples. It returns `from` where the slope is 0 and never decreases when weight * slope grows: a row of
// equal values stays equal, and between two samples the largest output is the first or the last one.
LAD_SHARED float lerp(float from, float slope, float weight) { return from + weight * slope; }

// 1 / (1 + exp(-x)).
LAD_SHARED float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

}  // namespace lad
