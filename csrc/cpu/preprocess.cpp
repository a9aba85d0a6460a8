#include "lad/preprocess.hpp"

#include <algorithm>
#include <cstring>

#include "lad/isa.hpp"
#include "lad/lanes.hpp"

namespace lad {
namespace {

using Tables = Preprocess::Tables;
static_assert(Preprocess::lanes == lanes);

// ---- tables, once per plan

std::vector<float> spread_over_lanes(const TriangleTaps& taps, int channels, int vectors) {
    const int per_vector = Preprocess::taps_per_vector(channels);
    std::vector<float> weights(taps.first.size() * vectors * lanes, 0.0f);
    for (std::size_t x = 0; x < taps.first.size(); ++x)
        for (int k = 0; k < taps.count[x]; ++k)
            for (int c = 0; c < channels; ++c) {
                const std::size_t vector = x * vectors + k / per_vector;
                weights[vector * lanes + (k % per_vector) * channels + c] = taps.of(static_cast<int>(x))[k];
            }
    return weights;
}

Tables make_tables(const PreprocessSpec& spec) {
    const TriangleTaps columns(spec.roi_width, spec.width);
    const int per_vector = Preprocess::taps_per_vector(spec.channels);
    const int most_taps = *std::max_element(columns.count.begin(), columns.count.end());
    const int vectors = (most_taps + per_vector - 1) / per_vector;
    Tables t{TriangleTaps(spec.roi_height, spec.height), vectors, columns.first, {}, {}, {}, {}};
    for (int& offset : t.column_offset) offset *= spec.channels;
    t.lane_weight = spread_over_lanes(columns, spec.channels, vectors);
    for (int c = 0; c < 3; ++c) t.gain[c] = spec.gain(c), t.bias[c] = spec.bias(c);
    t.row.assign(static_cast<std::size_t>(spec.roi_width) * spec.channels + vectors * lanes, 0.0f);
    return t;
}

// ---- vertical taps: rows of bytes to one row of floats

template <int taps>
LAD_INLINE void add_rows(const std::uint8_t* rows, std::ptrdiff_t pitch, const float* weights, int n, bool first,
                         float* __restrict sum) {
    const std::uint8_t *r0 = rows, *r1 = taps > 1 ? rows + pitch : rows, *r2 = taps > 2 ? rows + 2 * pitch : rows,
                       *r3 = taps > 3 ? rows + 3 * pitch : rows;
    const float w0 = weights[0], w1 = taps > 1 ? weights[1] : 0, w2 = taps > 2 ? weights[2] : 0,
                w3 = taps > 3 ? weights[3] : 0;
    const auto tap_sum = [=](int i) __attribute__((always_inline)) {
        float s = w0 * static_cast<float>(r0[i]);
        if (taps > 1) s += w1 * static_cast<float>(r1[i]);
        if (taps > 2) s += w2 * static_cast<float>(r2[i]);
        if (taps > 3) s += w3 * static_cast<float>(r3[i]);
        return s;
    };
    if (first)
        for (int i = 0; i < n; ++i) sum[i] = tap_sum(i);
    else
        for (int i = 0; i < n; ++i) sum[i] += tap_sum(i);
}

LAD_INLINE void weigh_rows(const std::uint8_t* rows, std::ptrdiff_t pitch, const float* weights, int count, int n,
                           float* sum) {
    int k = 0;
    for (; k + 4 <= count; k += 4) add_rows<4>(rows + k * pitch, pitch, weights + k, n, k == 0, sum);
    switch (count - k) {
        case 3:
            return add_rows<3>(rows + k * pitch, pitch, weights + k, n, k == 0, sum);
        case 2:
            return add_rows<2>(rows + k * pitch, pitch, weights + k, n, k == 0, sum);
        case 1:
            return add_rows<1>(rows + k * pitch, pitch, weights + k, n, k == 0, sum);
        default:
            return;
    }
}

// ---- horizontal taps: 16 lanes at a time, as vectors of type V

template <typename V>
LAD_INLINE void weigh_columns(const float* row, const float* weights, int vectors, int step, float* lane_sums) {
    constexpr int width = sizeof(V) / sizeof(float), parts = lanes / width;
    V sums[parts] = {};
    for (int v = 0; v < vectors; ++v, row += step, weights += lanes)
        for (int p = 0; p < parts; ++p) {
            V values, weight;
            std::memcpy(&values, row + p * width, sizeof(V));
            std::memcpy(&weight, weights + p * width, sizeof(V));
            sums[p] += values * weight;
        }
    std::memcpy(lane_sums, sums, sizeof(sums));
}

template <typename V>
LAD_INLINE void resize_colour_row(const PreprocessSpec& spec, const Tables& t, float* out) {
    const std::size_t plane = static_cast<std::size_t>(spec.height) * spec.width;
    const int to0 = spec.swap_rb ? 2 : 0, to2 = 2 - to0;
    const float gain0 = t.gain[to0], gain1 = t.gain[1], gain2 = t.gain[to2];
    const float bias0 = t.bias[to0], bias1 = t.bias[1], bias2 = t.bias[to2];
    float *out0 = out + to0 * plane, *out1 = out + plane, *out2 = out + to2 * plane;
    const float* weights = t.lane_weight.data();
    for (int x = 0; x < spec.width; ++x, weights += t.vectors * lanes) {
        alignas(64) float s[lanes];
        weigh_columns<V>(t.row.data() + t.column_offset[x], weights, t.vectors, lanes - 1, s);
        out0[x] = ((s[0] + s[3]) + (s[6] + s[9]) + s[12]) * gain0 + bias0;
        out1[x] = ((s[1] + s[4]) + (s[7] + s[10]) + s[13]) * gain1 + bias1;
        out2[x] = ((s[2] + s[5]) + (s[8] + s[11]) + s[14]) * gain2 + bias2;
    }
}

template <typename V>
LAD_INLINE void resize_mono_row(const PreprocessSpec& spec, const Tables& t, float* out) {
    const std::size_t plane = static_cast<std::size_t>(spec.height) * spec.width;
    const float* weights = t.lane_weight.data();
    for (int x = 0; x < spec.width; ++x, weights += t.vectors * lanes) {
        alignas(64) float s[lanes];
        weigh_columns<V>(t.row.data() + t.column_offset[x], weights, t.vectors, lanes, s);
        const float grey = sum_of_lanes(s);
        for (int c = 0; c < 3; ++c) out[c * plane + x] = grey * t.gain[c] + t.bias[c];
    }
}

template <typename V>
LAD_INLINE void preprocess_body(const PreprocessSpec& spec, Tables& t, const std::uint8_t* image, std::ptrdiff_t pitch,
                                float* out) {
    const std::uint8_t* roi = image + spec.roi_y * pitch + static_cast<std::ptrdiff_t>(spec.roi_x) * spec.channels;
    for (int y = 0; y < spec.height; ++y, out += spec.width) {
        weigh_rows(roi + t.rows.first[y] * pitch, pitch, t.rows.of(y), t.rows.count[y], spec.roi_width * spec.channels,
                   t.row.data());
        if (spec.channels == 3)
            resize_colour_row<V>(spec, t, out);
        else
            resize_mono_row<V>(spec, t, out);
    }
}

// ---- one version per instruction set

using Run = void (*)(const PreprocessSpec&, Tables&, const std::uint8_t*, std::ptrdiff_t, float*);

void run_portable(const PreprocessSpec& spec, Tables& t, const std::uint8_t* image, std::ptrdiff_t pitch, float* out) {
    preprocess_body<Float4>(spec, t, image, pitch, out);
}

#if LAD_HAS_X86
LAD_TARGET_AVX2 void run_avx2(const PreprocessSpec& spec, Tables& t, const std::uint8_t* image, std::ptrdiff_t pitch,
                              float* out) {
    preprocess_body<Float8>(spec, t, image, pitch, out);
}

LAD_TARGET_AVX512 void run_avx512(const PreprocessSpec& spec, Tables& t, const std::uint8_t* image,
                                  std::ptrdiff_t pitch, float* out) {
    preprocess_body<Float16>(spec, t, image, pitch, out);
}

constexpr Run versions[isa_count] = {run_portable, run_avx2, run_avx512};
#else
constexpr Run versions[isa_count] = {run_portable, run_portable, run_portable};
#endif

}  // namespace

Preprocess::Preprocess(const PreprocessSpec& spec) : spec_(spec), tables_(make_tables(spec)) {}

void Preprocess::run(const std::uint8_t* image, std::ptrdiff_t row_pitch, float* out) {
    versions[static_cast<int>(active_isa())](spec_, tables_, image, row_pitch, out);
}

}  // namespace lad
