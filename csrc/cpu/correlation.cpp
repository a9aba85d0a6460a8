#include "lad/correlation.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "lad/elementary.hpp"
#include "lad/isa.hpp"
#include "lad/packs.hpp"
#include "lad/panels.hpp"

namespace lad {
namespace {

constexpr float epsilon = 1e-4f;  // of both logarithms: the divergence of methods.md 5.5
constexpr float ln2 = 0.693147181f;
constexpr int block = Panels::width;  // values at a time: whole packs for every instruction set

int whole_blocks(int n) { return (n + block - 1) / block * block; }

// What one call works in; each thread has its own and keeps it. Rows have room for whole blocks.
struct Scratch {
    Panels keys;          // of one head, transposed
    Floats scores;        // (6, tokens): six rows of S at a time
    Floats target;        // (tokens): one row of T
    Floats down, across;  // (side): its two factors

    void prepare(const CorrelationSpec& spec) {
        const std::size_t row = whole_blocks(spec.tokens());
        scores.resize(lines_at_once * row);
        target.resize(row + lanes);
        down.resize(whole_lanes(spec.side));
        across.resize(whole_lanes(spec.side));
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

// Sums of a row, block by block, in 64 lanes: the same order for every vector width.
template <typename V>
struct BlockSum {
    static constexpr int packs = block / floats_in<FloatPack<V>>;

    FloatPack<V> sums[packs] = {};

    // value(j): the pack of values from j on.
    template <typename Value>
    LAD_INLINE void add(int begin, int end, const Value& value) {
        for (int j = begin; j < end; j += block)
#pragma GCC unroll 8
            for (int k = 0; k < packs; ++k) sums[k] = sums[k] + value(j + k * floats_in<FloatPack<V>>);
    }

    LAD_INLINE float total() const {
        V s[block / width_of<V>];
        std::memcpy(s, sums, sizeof(s));
        for (int half = block / width_of<V> / 2; half > 0; half /= 2)
            for (int i = 0; i < half; ++i) s[i] += s[i + half];
        return sum_of(s[0]);
    }
};

template <typename V>
LAD_INLINE FloatPack<V> load_pack(const float* from) {
    FloatPack<V> pack;
    load(pack, from);
    return pack;
}

// Powers of the softmax in place, 2^-125 behind the last one: nothing beside the largest, which is 1. Returns their
// sum.
template <typename V>
LAD_INLINE float softmax_powers(float* row, int n, int padded) {
    std::fill(row + n, row + padded, -std::numeric_limits<float>::infinity());
    const float top = row_max<V>(row, padded);
    BlockSum<V> sum;
    sum.add(0, padded, [&](int j) __attribute__((always_inline)) {
        const FloatPack<V> powers = power_of_two(load_pack<V>(row + j) - top);
        store(row + j, powers);
        return powers;
    });
    return sum.total();
}

// One factor of T: a Gaussian around `centre`, not normalised; returns its sum. (distance / sigma)^2 and not
// distance^2 / sigma^2, which for the smallest sigma is near the end of float32; a sigma of 1.1e-5 leaves one 1.
template <typename V>
LAD_INLINE float gaussian_row(float sigma, int centre, int side, float* __restrict out) {
    const int padded = static_cast<int>(whole_lanes(side));
    for (int j = 0; j < padded; ++j) {
        const float distance = static_cast<float>(j - centre) / sigma;
        out[j] = power_of_two((-0.5f * log2_e) * (distance * distance));
    }
    std::fill(out + side, out + padded, 0.0f);
    return row_sum<V>(out, padded);
}

// The part of a row outside of which T is 0.
struct Window {
    int begin, end;  // whole blocks
};

// Rows of the grid that T reaches: beyond 7.3 sigma it is below 3e-12, which epsilon swallows in float32.
Window rows_reached(float sigma, int centre, int side) {
    const float reach = 7.3f * std::fabs(sigma);
    const int rows = reach < static_cast<float>(side) ? static_cast<int>(reach) : side;  // NaN: all of them
    return {std::max(0, centre - rows), std::min(side, centre + rows + 1)};
}

// T / epsilon of one token in s.target, the outer product of its factors, where it is not 0.
template <typename V>
LAD_INLINE Window target_row(const CorrelationSpec& spec, Scratch& s, const float* sigmas, int token) {
    const int side = spec.side, y = token / side, x = token % side;
    float *down = s.down.data(), *across = s.across.data(), *target = s.target.data();
    const float sum = gaussian_row<V>(sigmas[0], y, side, down) * gaussian_row<V>(sigmas[1], x, side, across);
    const float scale = 1.0f / (epsilon * sum);
    const Window rows = rows_reached(sigmas[0], y, side);
    const Window window{rows.begin * side / block * block, whole_blocks(rows.end * side)};
    // Whole vectors: what one writes too much, zeros, the next one writes over.
    for (int j = window.begin; j < rows.begin * side; j += width_of<V>) store<V>(target + j, V{});
    for (int row = rows.begin; row < rows.end; ++row)
        for (int j = 0; j < side; j += width_of<V>)
            store<V>(target + row * side + j, (scale * down[row]) * load<V>(across + j));
    for (int j = rows.end * side; j < window.end; j += width_of<V>) store<V>(target + j, V{});
    return window;
}

// sum over j of (t - s) log2((t + 1) / (s + 1)) for t = T / epsilon and s = powers * scale = S / epsilon: both
// divergences in one sum, with one logarithm. Where T and S are close the quotient is more exact than the difference
// of two logarithms.
template <typename V>
LAD_INLINE float divergence(const float* target, const float* powers, float scale, int padded, Window window) {
    BlockSum<V> sum;
    const auto alone = [&](int j) __attribute__((always_inline)) {
        const FloatPack<V> s = load_pack<V>(powers + j) * scale;
        return s * binary_logarithm(s + 1.0f);
    };
    sum.add(0, window.begin, alone);
    sum.add(window.begin, window.end, [&](int j) __attribute__((always_inline)) {
        const FloatPack<V> s = load_pack<V>(powers + j) * scale, t = load_pack<V>(target + j);
        return (t - s) * binary_logarithm((t + 1.0f) / (s + 1.0f));
    });
    sum.add(window.end, padded, alone);
    return sum.total();
}

template <typename V>
LAD_INLINE void head_body(const CorrelationSpec& spec, Scratch& s, const float* queries, const float* sigmas,
                          float* out) {
    const int n = spec.tokens(), padded = s.keys.padded_rows();
    const float share = epsilon * ln2 * (spec.weight / static_cast<float>(spec.heads));
    for (int first = 0; first < n; first += lines_at_once) {
        const int count = std::min(lines_at_once, n - first);
        float scale[lines_at_once];
        multiply_rows<V>(spec, s, queries, first);
        for (int t = 0; t < count; ++t)
            scale[t] = 1.0f / (epsilon * softmax_powers<V>(s.scores.data() + t * padded, n, padded));
        for (int t = 0; t < count; ++t) {
            const int token = first + t;
            const Window window =
                target_row<V>(spec, s, sigmas + static_cast<std::size_t>(token) * 2 * spec.heads, token);
            const float* powers = s.scores.data() + t * padded;
            out[token] += share * divergence<V>(s.target.data(), powers, scale[t], padded, window);
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
