#include "lad/correlation.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lad/elementary.hpp"
#include "lad/isa.hpp"
#include "lad/panels.hpp"

namespace lad {
namespace {

constexpr float epsilon = 1e-4f;  // of both logarithms: the divergence of methods.md 5.5

// What one call works in; each thread has its own and keeps it. Rows have room for whole panels.
struct Scratch {
    Panels keys;          // of one head, transposed
    Floats scores;        // (6, tokens): six rows of S at a time
    Floats target;        // (tokens): one row of T
    Floats down, across;  // (side): its two factors

    void prepare(const CorrelationSpec& spec) {
        const std::size_t row = (spec.tokens() + Panels::width - 1) / Panels::width * Panels::width;
        scores.resize(lines_at_once * row);
        target.assign(row, 0.0f);
        down.resize(whole_lanes(spec.side));
        across.resize(whole_lanes(spec.side) + lanes);
    }
};

// Six rows of exponents of the softmax for one head: query . key, scaled with the keys.
template <typename V>
LAD_INLINE void multiply_rows(const CorrelationSpec& spec, Scratch& s, const float* queries, int first) {
    const float* lines[lines_at_once];
    for (int t = 0; t < lines_at_once; ++t)
        lines[t] = queries + static_cast<std::size_t>(std::min(first + t, spec.tokens() - 1)) * spec.width;
    const std::size_t pitch = s.keys.padded_rows();
    for (int panel = 0; panel < s.keys.count; ++panel)
        multiply<V>(lines, s.keys.of(panel), spec.head_width(),
                    [&](int t, int column, const V* products) __attribute__((always_inline)) {
                        float* to = s.scores.data() + t * pitch + panel * Panels::width + column;
                        for (int v = 0; v < vectors_at_once<V>; ++v) store<V>(to + v * width_of<V>, products[v]);
                    });
}

// Powers of the softmax in place, zeros behind the last one; returns 1 / their sum.
template <typename V>
LAD_INLINE float softmax_powers(float* __restrict row, int n, int padded) {
    const float top = row_max<V>(row, n);
    for (int j = 0; j < n; ++j) row[j] = power_of_two(row[j] - top);
    std::fill(row + n, row + padded, 0.0f);
    return 1.0f / row_sum<V>(row, n);
}

// One factor of T: a Gaussian around `centre`, normalised over the grid. (distance / sigma)^2 and not distance^2 /
// sigma^2, which for the smallest sigma is near the end of float32; a sigma of 1.1e-5 leaves one 1.
template <typename V>
LAD_INLINE void gaussian_row(float sigma, int centre, int side, float* __restrict out) {
    for (int j = 0; j < side; ++j) {
        const float distance = static_cast<float>(j - centre) / sigma;
        out[j] = power_of_two((-0.5f * log2_e) * (distance * distance));
    }
    const float scale = 1.0f / row_sum<V>(out, side);
    for (int j = 0; j < side; ++j) out[j] *= scale;
}

template <typename V>
LAD_INLINE void target_row(const CorrelationSpec& spec, Scratch& s, const float* sigmas, int token) {
    gaussian_row<V>(sigmas[0], token / spec.side, spec.side, s.down.data());
    gaussian_row<V>(sigmas[1], token % spec.side, spec.side, s.across.data());
    const float* across = s.across.data();
    for (int y = 0; y < spec.side; ++y) {
        float* __restrict row = s.target.data() + static_cast<std::size_t>(y) * spec.side;
        const float down = s.down[y];
        for (int x = 0; x < spec.side; ++x) row[x] = down * across[x];
    }
}

// sum over j of (T - S) log((T + epsilon) / (S + epsilon)): both divergences in one sum, with one logarithm. Where T
// and S are close the quotient is more exact than the difference of two logarithms around -9.
template <typename V>
LAD_INLINE float divergence(const float* target, float* __restrict powers, float scale, int n) {
    for (int j = 0; j < n; ++j) {
        const float t = target[j], s = powers[j] * scale;
        powers[j] = (t - s) * logarithm((t + epsilon) / (s + epsilon));
    }
    return row_sum<V>(powers, n);
}

template <typename V>
LAD_INLINE void head_body(const CorrelationSpec& spec, Scratch& s, const float* queries, const float* sigmas,
                          float* out) {
    const int n = spec.tokens(), padded = s.keys.padded_rows();
    const float share = spec.weight / static_cast<float>(spec.heads);
    for (int first = 0; first < n; first += lines_at_once) {
        multiply_rows<V>(spec, s, queries, first);
        for (int t = 0; t < lines_at_once && first + t < n; ++t) {
            float* row = s.scores.data() + static_cast<std::size_t>(t) * padded;
            const float over_sum = softmax_powers<V>(row, n, padded);
            target_row<V>(spec, s, sigmas + static_cast<std::size_t>(first + t) * 2 * spec.heads, first + t);
            out[first + t] += share * divergence<V>(s.target.data(), row, over_sum, padded);
        }
    }
}

// ---- one version per instruction set

using Head = void (*)(const CorrelationSpec&, Scratch&, const float*, const float*, float*);

void head_portable(const CorrelationSpec& spec, Scratch& s, const float* queries, const float* sigmas, float* out) {
    head_body<Float4>(spec, s, queries, sigmas, out);
}

#if LAD_HAS_X86
LAD_TARGET_AVX2 void head_avx2(const CorrelationSpec& spec, Scratch& s, const float* queries, const float* sigmas,
                               float* out) {
    head_body<Float8>(spec, s, queries, sigmas, out);
}

LAD_TARGET_AVX512 void head_avx512(const CorrelationSpec& spec, Scratch& s, const float* queries, const float* sigmas,
                                   float* out) {
    head_body<Float16>(spec, s, queries, sigmas, out);
}

constexpr Head versions[isa_count] = {head_portable, head_avx2, head_avx512};
#else
constexpr Head versions[isa_count] = {head_portable, head_portable, head_portable};
#endif

std::int64_t count_unusable(const float* sigmas, std::size_t n) {
    std::int64_t unusable = 0;
    for (std::size_t i = 0; i < n; ++i) unusable += !(is_finite(sigmas[i]) && sigmas[i] > 0);
    return unusable;
}

}  // namespace

std::int64_t symmetric_kl(const CorrelationSpec& spec, const float* queries, const float* keys, const float* sigmas,
                          float* out) {
    thread_local Scratch scratch;
    scratch.prepare(spec);
    const Head add_head = versions[static_cast<int>(active_isa())];
    const std::size_t tokens = spec.tokens(), values = tokens * spec.width;
    const float scale = log2_e / std::sqrt(static_cast<float>(spec.head_width()));
    for (int h = 0; h < spec.heads; ++h) {
        const int begin = h * spec.head_width();
        scratch.keys.pack(keys + begin, spec.tokens(), spec.head_width(), spec.width, scale);
        add_head(spec, scratch, queries + begin, sigmas + 2 * h, out);
    }
    const std::int64_t bad_keys = count_nonfinite(keys, values);
    // Every row depends on every key; an infinite one may leave a correlation of plausible size.
    if (bad_keys != 0) std::fill_n(out, tokens, std::numeric_limits<float>::quiet_NaN());
    const std::int64_t bad =
        bad_keys + count_nonfinite(queries, values) + count_unusable(sigmas, tokens * 2 * spec.heads);
    return bad != 0 ? bad : count_nonfinite(out, tokens);
}

}  // namespace lad
