#include "lad/masked_ridge.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "lad/elementary.hpp"
#include "lad/isa.hpp"

namespace lad {
namespace {

using Tables = MaskedRidge::Tables;
constexpr int cells_of_region = 4;

// What one call works in; each thread has its own and keeps it. Rows are padded with zeros.
struct Scratch {
    Floats cells;                        // (places, pitch): standardised
    Floats white;                        // (places, white_pitch): the same in white coordinates
    Floats region;                       // (pitch): the mean of a region's cells
    Floats context, total, others;       // (regions, r), (r), (r): what each region adds, all, all but one
    Floats weights;                      // (r): others, times the scales of a prediction
    Floats predicted, residual, merged;  // (white_pitch): of a cell; merged: the sum of a region's residuals
    Floats along[2];                     // (q): parts along the directions

    void prepare(const Tables& of) {
        cells.resize(of.places() * of.pitch());
        white.resize(of.places() * of.white_pitch());
        region.resize(of.pitch());
        context.resize(static_cast<std::size_t>(of.regions()) * of.context.outputs);
        for (Floats* row : {&total, &others, &weights}) row->resize(of.context.outputs);
        for (Floats* row : {&predicted, &residual, &merged}) row->resize(of.white_pitch());
        for (Floats& row : along) row.resize(of.fine_directions.outputs);
    }
};

struct Frame {
    const float* cells;
    float *fine, *coarse, *own;
};

// ---- a matrix of lines into white coordinates

template <typename V>
LAD_INLINE void whiten(const Panels& whitening, const float* lines, std::size_t pitch, std::size_t count, float* out) {
    const std::size_t out_pitch = whitening.padded_rows();
    for (int panel = 0; panel < whitening.count; ++panel)
        for (std::size_t first = 0; first < count; first += lines_at_once) {
            const float* six[lines_at_once];
            for (int t = 0; t < lines_at_once; ++t) six[t] = lines + std::min(first + t, count - 1) * pitch;
            multiply<V>(six, whitening.of(panel), whitening.depth,
                        [&](int t, int column, const V* products) __attribute__((always_inline)) {
                            if (first + t >= count) return;
                            float* to = out + (first + t) * out_pitch + panel * Panels::width + column;
                            for (int v = 0; v < vectors_at_once<V>; ++v) store<V>(to + v * width_of<V>, products[v]);
                        });
        }
}

// ---- the context

// From planes of channels to rows of cells, as many cells at a time as lie in one line of the cache.
LAD_INLINE void standardise(const Tables& of, const float* cells, float* out) {
    const std::size_t places = of.places(), pitch = of.pitch();
    for (std::size_t first = 0; first < places; first += lanes) {
        const std::size_t count = std::min<std::size_t>(lanes, places - first);
        for (int c = 0; c < of.channels; ++c) {
            const std::size_t at = c * places + first;
            float z[lanes];
            for (std::size_t i = 0; i < count; ++i) z[i] = (cells[at + i] - of.mean[at + i]) * of.scale[c];
            for (std::size_t i = 0; i < count; ++i) out[(first + i) * pitch + c] = z[i];
        }
        for (std::size_t i = 0; i < count; ++i)
            std::fill_n(out + (first + i) * pitch + of.channels, pitch - of.channels, 0.0f);
    }
}

// Of the four cells of a region.
LAD_INLINE void average(const Tables& of, const Floats& cells, int region, float* out) {
    const float* cell[cells_of_region];
    for (int k = 0; k < cells_of_region; ++k) cell[k] = cells.data() + of.place(region, k) * of.pitch();
    for (std::size_t i = 0; i < of.pitch(); ++i)
        out[i] = ((cell[0][i] + cell[1][i]) + (cell[2][i] + cell[3][i])) * 0.25f;
}

template <typename V>
LAD_INLINE void add_up_context(const Tables& of, Scratch& s) {
    const int width = of.context.outputs;
    std::fill(s.total.begin(), s.total.end(), 0.0f);
    for (int region = 0; region < of.regions(); ++region) {
        float* added = s.context.data() + static_cast<std::size_t>(region) * width;
        average(of, s.cells, region, s.region.data());
        multiply<V, 1>(of.context, region, {s.region.data()}, {added});
        const float* scales = of.context.scales_of(region);
        for (int i = 0; i < width; ++i) s.total[i] += added[i] *= scales[i];
    }
}

// ---- distances

template <typename V>
LAD_INLINE float squared_length(const float* values, std::size_t whole) {
    constexpr int width = width_of<V>, parts = lanes / width;
    V sums[parts] = {};
    for (std::size_t i = 0; i < whole; i += lanes)
        for (int p = 0; p < parts; ++p) {
            const V v = load<V>(values + i + p * width);
            sums[p] += v * v;
        }
    float s[lanes];
    std::memcpy(s, sums, sizeof(s));
    return sum_of_lanes(s);
}

// Of `lines` white vectors, their parts along the directions left out.
template <typename V, int lines>
LAD_INLINE void measure(const RoundedMatrices& directions, std::size_t matrix, std::size_t whole,
                        const float* const (&white)[lines], Scratch& s, float (&distance)[lines]) {
    float* along[lines];
    for (int l = 0; l < lines; ++l) along[l] = s.along[l].data();
    multiply<V, lines>(directions, matrix, white, along);
    const float* scales = directions.scales_of(matrix);
    for (int l = 0; l < lines; ++l) {
        for (int i = 0; i < directions.outputs; ++i) along[l][i] *= scales[i];
        const float left = squared_length<V>(white[l], whole) - squared_length<V>(along[l], directions.outputs);
        distance[l] = std::sqrt(at_least(left, 0.0f));
    }
}

// From the context of the other regions; what is left of the cell is added to that of its region.
template <typename V>
LAD_INLINE void judge_cell(const Tables& of, int region, int k, const Frame& frame, Scratch& s) {
    const std::size_t cell = static_cast<std::size_t>(region) * cells_of_region + k, place = of.place(region, k);
    const float *white = s.white.data() + place * of.white_pitch(), *scales = of.prediction.scales_of(cell);
    for (std::size_t i = 0; i < s.others.size(); ++i) s.weights[i] = s.others[i] * scales[i];
    multiply<V, 1>(of.prediction, cell, {s.weights.data()}, {s.predicted.data()});
    for (std::size_t i = 0; i < of.pitch(); ++i) s.merged[i] += s.residual[i] = white[i] - s.predicted[i];
    float distance[2];
    measure<V, 2>(of.fine_directions, cell, of.pitch(), {s.residual.data(), white}, s, distance);
    frame.fine[place] = of.root_gain[0] * distance[0];
    frame.own[place] = of.root_gain[2] * distance[1];
}

template <typename V>
LAD_INLINE void judge_region(const Tables& of, int region, const Frame& frame, Scratch& s) {
    const float* added = s.context.data() + static_cast<std::size_t>(region) * of.context.outputs;
    for (std::size_t i = 0; i < s.total.size(); ++i) s.others[i] = s.total[i] - added[i];
    std::fill(s.merged.begin(), s.merged.end(), 0.0f);
    for (int k = 0; k < cells_of_region; ++k) judge_cell<V>(of, region, k, frame, s);
    for (float& value : s.merged) value *= 1.0f / cells_of_region;
    float distance[1];
    measure<V, 1>(of.coarse_directions, region, of.pitch(), {s.merged.data()}, s, distance);
    frame.coarse[region] = of.root_gain[1] * distance[0];
}

// ---- one version per instruction set

template <typename V>
LAD_INLINE void judge_frame(const Tables& of, const Frame& frame, Scratch& s) {
    standardise(of, frame.cells, s.cells.data());
    add_up_context<V>(of, s);
    whiten<V>(of.whitening, s.cells.data(), of.pitch(), of.places(), s.white.data());
    for (int region = 0; region < of.regions(); ++region) judge_region<V>(of, region, frame, s);
}

using JudgeFrame = void (*)(const Tables&, const Frame&, Scratch&);

void judge_portable(const Tables& of, const Frame& frame, Scratch& s) { judge_frame<Float4>(of, frame, s); }

#if LAD_HAS_X86
LAD_TARGET_AVX2 void judge_avx2(const Tables& of, const Frame& frame, Scratch& s) { judge_frame<Float8>(of, frame, s); }

LAD_TARGET_AVX512 void judge_avx512(const Tables& of, const Frame& frame, Scratch& s) {
    judge_frame<Float16>(of, frame, s);
}

constexpr JudgeFrame versions[isa_count] = {judge_portable, judge_avx2, judge_avx512};
#else
constexpr JudgeFrame versions[isa_count] = {judge_portable, judge_portable, judge_portable};
#endif

// ---- the tables

// From rows of cells, region by region, to planes of channels.
Floats planes_of(const float* cells, const Tables& of) {
    Floats planes(of.channels * of.places());
    for (int region = 0; region < of.regions(); ++region)
        for (int k = 0; k < cells_of_region; ++k)
            for (int c = 0; c < of.channels; ++c) planes[c * of.places() + of.place(region, k)] = *cells++;
    return planes;
}

Panels whitening_panels(const float* whitening, int channels) {
    std::vector<float> columns(static_cast<std::size_t>(channels) * channels);
    for (int i = 0; i < channels; ++i)
        for (int j = 0; j < channels; ++j) columns[j * channels + i] = whitening[i * channels + j];
    Panels panels;
    panels.pack(columns.data(), channels, channels, channels);
    return panels;
}

RoundedMatrices white_prediction(const RidgeView& view, const Panels& whitening) {
    const std::size_t cells = view.regions() * cells_of_region, rows = cells * view.context_width;
    Floats white(rows * whitening.padded_rows());
    whiten<Float4>(whitening, view.prediction, view.channels, rows, white.data());
    RoundedMatrices rounded;
    rounded.pack_columns(white.data(), cells, view.context_width, view.channels, whitening.padded_rows());
    return rounded;
}

}  // namespace

MaskedRidge::MaskedRidge(const RidgeView& view) {
    const std::size_t regions = view.regions(), cells = regions * cells_of_region, c = view.channels;
    tables_.side = view.side, tables_.channels = view.channels;
    tables_.mean = planes_of(view.mean, tables_);
    tables_.scale.assign(view.scale, view.scale + c);
    for (int i = 0; i < 3; ++i) tables_.root_gain[i] = std::sqrt(view.gain[i]);
    tables_.whitening = whitening_panels(view.whitening, view.channels);
    tables_.context.pack_rows(view.context, regions, view.context_width, view.channels, c);
    tables_.prediction = white_prediction(view, tables_.whitening);
    tables_.fine_directions.pack_rows(view.fine_directions, cells, view.directions, view.channels, c);
    tables_.coarse_directions.pack_rows(view.coarse_directions, regions, view.directions, view.channels, c);
}

std::int64_t MaskedRidge::run(const float* cells, float* fine, float* coarse, float* own) const {
    thread_local Scratch scratch;
    const std::size_t places = tables_.places(), regions = tables_.regions();
    std::int64_t nonfinite = count_nonfinite(cells, channels() * places);
    if (nonfinite == 0) {
        scratch.prepare(tables_);
        versions[static_cast<int>(active_isa())](tables_, {cells, fine, coarse, own}, scratch);
        nonfinite = count_nonfinite(fine, places) + count_nonfinite(coarse, regions) + count_nonfinite(own, places);
    }
    if (nonfinite == 0) return 0;
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    std::fill_n(fine, places, nan), std::fill_n(coarse, regions, nan), std::fill_n(own, places, nan);
    return nonfinite;
}

}  // namespace lad
