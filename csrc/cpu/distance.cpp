#include <algorithm>

#include "lad/isa.hpp"
#include "lad/maps.hpp"
#include "lad/resample.hpp"

namespace lad {
namespace {

// Positions whose sums stay in the first-level cache while the channels stream by.
constexpr std::size_t block_positions = 4096;

LAD_INLINE float square(float x) { return x * x; }

LAD_INLINE void add_channels(const float* a, const float* b, std::size_t stride, std::size_t channels, std::size_t n,
                             float* __restrict sum) {
    std::size_t c = 0;
    for (; c + 4 <= channels; c += 4, a += 4 * stride, b += 4 * stride)
        for (std::size_t i = 0; i < n; ++i) {
            float s = sum[i] + square(a[i] - b[i]);
            s += square(a[stride + i] - b[stride + i]);
            s += square(a[2 * stride + i] - b[2 * stride + i]);
            sum[i] = s + square(a[3 * stride + i] - b[3 * stride + i]);
        }
    for (; c < channels; ++c, a += stride, b += stride)
        for (std::size_t i = 0; i < n; ++i) sum[i] += square(a[i] - b[i]);
}

LAD_INLINE std::int64_t divide_and_count(float* out, std::size_t n, float channels) {
    std::int32_t nonfinite = 0;
    for (std::size_t i = 0; i < n; ++i) {
        out[i] /= channels;
        nonfinite += !is_finite(out[i]);
    }
    return nonfinite;
}

}  // namespace

std::int64_t distance_map(const float* a, const float* b, std::size_t channels, std::size_t positions, float* out) {
    std::int64_t nonfinite = 0;
    for (std::size_t begin = 0; begin < positions; begin += block_positions) {
        const std::size_t n = std::min(block_positions, positions - begin);
        std::fill_n(out + begin, n, 0.0f);
        add_channels(a + begin, b + begin, positions, channels, n, out + begin);
        nonfinite += divide_and_count(out + begin, n, static_cast<float>(channels));
    }
    return nonfinite;
}

}  // namespace lad
