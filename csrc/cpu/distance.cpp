#include "lad/distance.hpp"

#include <algorithm>

#include "lad/elementary.hpp"
#include "lad/isa.hpp"
#include "lad/lanes.hpp"
#include "lad/maps.hpp"

namespace lad {
namespace {

// Positions whose sums stay in the first-level cache while the channels stream by.
constexpr std::size_t block_positions = 4096;

LAD_INLINE float square(float x) { return x * x; }

// Channels that are added in one go over the sums. One after the other is what prefetching follows best; with narrow
// vectors reading and writing the sums would cost more.
template <typename V>
inline constexpr int channels_at_once = width_of<V> == 4 ? 4 : 1;

// A cache line after the other, each asked for this many values before: the processor's own prefetching leaves a tenth
// of the bandwidth unused.
constexpr std::size_t values_ahead = 512;

// Of `count` channels, `stride` values apart.
template <typename V, int count>
LAD_INLINE void add_channels(const float* a, const float* b, std::size_t stride, std::size_t n, float* sum) {
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        for (int c = 0; c < count; ++c) {
            __builtin_prefetch(a + c * stride + i + values_ahead);
            __builtin_prefetch(b + c * stride + i + values_ahead);
        }
#pragma GCC unroll 4
        for (std::size_t v = i; v < i + lanes; v += width_of<V>) {
            V s = load<V>(sum + v);
#pragma GCC unroll 4
            for (int c = 0; c < count; ++c) {
                const V difference = load<V>(a + c * stride + v) - load<V>(b + c * stride + v);
                s += difference * difference;
            }
            store<V>(sum + v, s);
        }
    }
    for (; i < n; ++i)
        for (int c = 0; c < count; ++c) sum[i] += square(a[c * stride + i] - b[c * stride + i]);
}

LAD_INLINE std::int64_t divide_and_count(float* out, std::size_t n, float channels) {
    std::int32_t nonfinite = 0;
    for (std::size_t i = 0; i < n; ++i) {
        out[i] /= channels;
        nonfinite += !is_finite(out[i]);
    }
    return nonfinite;
}

template <typename V>
LAD_INLINE std::int64_t square_body(const float* a, const float* b, std::size_t channels, std::size_t positions,
                                    float* out) {
    constexpr int together = channels_at_once<V>;
    std::int64_t nonfinite = 0;
    for (std::size_t begin = 0; begin < positions; begin += block_positions) {
        const std::size_t n = std::min(block_positions, positions - begin);
        std::fill_n(out + begin, n, 0.0f);
        std::size_t c = 0, at = begin;
        for (; c + together <= channels; c += together, at += together * positions)
            add_channels<V, together>(a + at, b + at, positions, n, out + begin);
        for (; c < channels; ++c, at += positions) add_channels<V, 1>(a + at, b + at, positions, n, out + begin);
        nonfinite += divide_and_count(out + begin, n, static_cast<float>(channels));
    }
    return nonfinite;
}

// ---- with the cosine

constexpr std::size_t cosine_positions = 1024;

// Sums over the channels of a block of positions.
struct Sums {
    float difference[cosine_positions], product[cosine_positions], a[cosine_positions], b[cosine_positions];
};

LAD_INLINE void add_products(const float* a, const float* b, std::size_t stride, std::size_t channels, std::size_t n,
                             Sums& sums) {
    float* __restrict difference = sums.difference, * __restrict product = sums.product;
    float* __restrict square_a = sums.a, * __restrict square_b = sums.b;
    std::size_t c = 0;
    for (; c + 2 <= channels; c += 2, a += 2 * stride, b += 2 * stride)
        for (std::size_t i = 0; i < n; ++i) {
            const float a0 = a[i], b0 = b[i], a1 = a[stride + i], b1 = b[stride + i];
            difference[i] = (difference[i] + square(a0 - b0)) + square(a1 - b1);
            product[i] = (product[i] + a0 * b0) + a1 * b1;
            square_a[i] = (square_a[i] + square(a0)) + square(a1);
            square_b[i] = (square_b[i] + square(b0)) + square(b1);
        }
    if (c < channels)
        for (std::size_t i = 0; i < n; ++i) {
            difference[i] += square(a[i] - b[i]);
            product[i] += a[i] * b[i];
            square_a[i] += square(a[i]);
            square_b[i] += square(b[i]);
        }
}

LAD_INLINE std::int64_t finish_cosine(const Sums& sums, std::size_t n, float channels, float weight, float* out) {
    std::int32_t nonfinite = 0;
    for (std::size_t i = 0; i < n; ++i) {
        out[i] = distance_with_cosine(sums.difference[i], sums.product[i], sums.a[i], sums.b[i], channels, weight);
        nonfinite += !is_finite(out[i]);
    }
    return nonfinite;
}

LAD_INLINE std::int64_t cosine_body(const float* a, const float* b, std::size_t channels, std::size_t positions,
                                    float weight, float* out) {
    std::int64_t nonfinite = 0;
    for (std::size_t begin = 0; begin < positions; begin += cosine_positions) {
        const std::size_t n = std::min(cosine_positions, positions - begin);
        Sums sums;
        for (float* sum : {sums.difference, sums.product, sums.a, sums.b}) std::fill_n(sum, n, 0.0f);
        add_products(a + begin, b + begin, positions, channels, n, sums);
        nonfinite += finish_cosine(sums, n, static_cast<float>(channels), weight, out + begin);
    }
    return nonfinite;
}

// ---- one version per instruction set

using Distance = std::int64_t (*)(const float*, const float*, std::size_t, std::size_t, float, float*);

// Without the cosine where its weight is 0.
template <typename V>
LAD_INLINE std::int64_t distance_body(const float* a, const float* b, std::size_t channels, std::size_t positions,
                                      float cosine, float* out) {
    return cosine == 0 ? square_body<V>(a, b, channels, positions, out)
                       : cosine_body(a, b, channels, positions, cosine, out);
}

std::int64_t distance_portable(const float* a, const float* b, std::size_t channels, std::size_t positions,
                               float cosine, float* out) {
    return distance_body<Float4>(a, b, channels, positions, cosine, out);
}

#if LAD_HAS_X86
LAD_TARGET_AVX2 std::int64_t distance_avx2(const float* a, const float* b, std::size_t channels, std::size_t positions,
                                           float cosine, float* out) {
    return distance_body<Float8>(a, b, channels, positions, cosine, out);
}

// The mean square waits for memory: wider vectors gain nothing, and each of them is split where the map begins 16 bytes
// off a cache line, as numpy's do.
LAD_TARGET_AVX512 std::int64_t distance_avx512(const float* a, const float* b, std::size_t channels,
                                               std::size_t positions, float cosine, float* out) {
    return distance_body<Float8>(a, b, channels, positions, cosine, out);
}

constexpr Distance versions[isa_count] = {distance_portable, distance_avx2, distance_avx512};
#else
constexpr Distance versions[isa_count] = {distance_portable, distance_portable, distance_portable};
#endif

}  // namespace

std::int64_t distance_map(const float* a, const float* b, std::size_t channels, std::size_t positions, float cosine,
                          float* out) {
    return versions[static_cast<int>(active_isa())](a, b, channels, positions, cosine, out);
}

}  // namespace lad
