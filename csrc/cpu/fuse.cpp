#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "lad/isa.hpp"
#include "lad/lanes.hpp"
#include "lad/maps.hpp"
#include "lad/resample.hpp"

namespace lad {
namespace {

// Rows are computed in steps of 16 lanes; buffers have room for one step more.

// Taps of one axis, grouped by the cell that they start from.
struct Axis {
    int source = 0, size = 0;
    std::vector<int> begin;     // (source + 1): cell c is the low one of outputs begin[c] .. begin[c + 1] - 1
    std::vector<float> weight;  // (size + lanes)

    void prepare(int new_source, int new_size) {
        if (source == new_source && size == new_size) return;
        begin.assign(new_source + 1, new_size);
        weight.assign(new_size + lanes, 0.0f);
        for (int i = 0, cell = 0; i < new_size; ++i) {
            const LinearTap tap = linear_tap(i, new_source, new_size);
            weight[i] = tap.weight;
            while (cell <= tap.low) begin[cell++] = i;
        }
        source = new_source, size = new_size;
    }
};

// What one call works in; each thread has its own and keeps it.
struct Scratch {
    Axis rows, columns;
    std::vector<float> structural, logical, fused;  // padded low-resolution maps, normalised
    std::vector<float> upper, lower, slope, line;   // one output row each, and `lanes` values of room

    void prepare(const FuseSpec& spec) {
        rows.prepare(spec.padded_height(), spec.out_height);
        columns.prepare(spec.padded_width(), spec.out_width);
        const std::size_t cells = static_cast<std::size_t>(spec.padded_height()) * spec.padded_width();
        for (auto* map : {&structural, &logical, &fused}) map->resize(cells + lanes);
        for (auto* row : {&upper, &lower, &slope, &line}) row->resize(spec.out_width + lanes);
    }
};

// ---- low resolution: normalise, pad, fuse

LAD_INLINE std::int64_t normalise_row(const float* raw, int n, float scale, float offset, float* __restrict out) {
    std::int32_t bad = 0;
    for (int i = 0; i < n; ++i) {
        out[i] = scale * raw[i] + offset;
        bad += !can_interpolate(out[i]);
    }
    return bad;
}

LAD_INLINE std::int64_t deviate_row(const float* raw, const float* usual, const float* weight, int n,
                                    float* __restrict out) {
    std::int32_t bad = 0;
    for (int i = 0; i < n; ++i) {
        const float deviation = (raw[i] - usual[i]) * weight[i];
        out[i] = deviation < 0.0f ? 0.0f : deviation;
        bad += !can_interpolate(deviation);
    }
    return bad;
}

// Continues the cells inside the border: as `outside`, or as the nearest of them.
LAD_INLINE void pad(const FuseSpec& spec, float outside, float* out) {
    const int pitch = spec.padded_width(), border = spec.border;
    const bool zero = spec.border_mode == BorderMode::zero;
    for (int y = 0; y < spec.height; ++y) {
        float* row = out + static_cast<std::size_t>(y + border) * pitch;
        std::fill_n(row, border, zero ? outside : row[border]);
        std::fill_n(row + border + spec.width, border, zero ? outside : row[border + spec.width - 1]);
    }
    const float *first = out + static_cast<std::size_t>(border) * pitch, *last = first + (spec.height - 1) * pitch;
    for (int y = 0; y < border; ++y) {
        float *above = out + y * pitch, *below = out + static_cast<std::size_t>(border + spec.height + y) * pitch;
        zero ? std::fill_n(above, pitch, outside) : std::copy_n(first, pitch, above);
        zero ? std::fill_n(below, pitch, outside) : std::copy_n(last, pitch, below);
    }
}

// Returns the number of cells that are not finite.
LAD_INLINE std::int64_t normalise_map(const FuseSpec& spec, const float* raw, float scale, float offset, float* out) {
    std::int64_t bad = 0;
    for (int y = 0; y < spec.height; ++y)
        bad += normalise_row(raw + static_cast<std::size_t>(y) * spec.width, spec.width, scale, offset,
                             out + static_cast<std::size_t>(y + spec.border) * spec.padded_width() + spec.border);
    pad(spec, offset, out);
    return bad;
}

// The same with the levels of each place.
LAD_INLINE std::int64_t deviate_map(const FuseSpec& spec, const float* raw, const float* usual, const float* weight,
                                    float* out) {
    std::int64_t bad = 0;
    for (int y = 0; y < spec.height; ++y) {
        const std::size_t from = static_cast<std::size_t>(y) * spec.width;
        bad += deviate_row(raw + from, usual + from, weight + from, spec.width,
                           out + static_cast<std::size_t>(y + spec.border) * spec.padded_width() + spec.border);
    }
    pad(spec, 0.0f, out);
    return bad;
}

LAD_INLINE void fuse_cells(const float* structural, const float* logical, std::size_t n, bool use_sigmoid,
                           float* __restrict fused) {
    if (use_sigmoid)
        for (std::size_t i = 0; i < n; ++i) fused[i] = 0.5f * sigmoid(structural[i]) + 0.5f * sigmoid(logical[i]);
    else
        for (std::size_t i = 0; i < n; ++i) fused[i] = 0.5f * structural[i] + 0.5f * logical[i];
}

LAD_INLINE void larger_cells(const float* structural, const float* logical, std::size_t n, float* __restrict fused) {
    for (std::size_t i = 0; i < n; ++i) fused[i] = structural[i] > logical[i] ? structural[i] : logical[i];
}

// ---- full resolution: rows of cells to rows of pixels

// `step` pixels at a time, in vectors of type V: it may run over into the pixels of the next cell, which repairs them.
template <typename V, int step>
LAD_INLINE void widen_by(const float* cells, const Axis& columns, float* pixels) {
    constexpr int width = sizeof(V) / sizeof(float);
    const float* weights = columns.weight.data();
    const int* begin = columns.begin.data();
    for (int c = 0; c < columns.source; ++c) {
        const float from = cells[c], slope = c + 1 < columns.source ? cells[c + 1] - from : 0.0f;
        for (int x = begin[c]; x < begin[c + 1]; x += step)
            for (int part = 0; part < step; part += width) {
                V weight;
                std::memcpy(&weight, weights + x + part, sizeof(V));
                const V value = from + weight * slope;  // lerp
                std::memcpy(pixels + x + part, &value, sizeof(V));
            }
    }
}

template <typename V>
LAD_INLINE void widen(const float* cells, const Axis& columns, float* pixels) {
    if (columns.size < 8 * columns.source)
        widen_by<Float4, 4>(cells, columns, pixels);
    else
        widen_by<V, lanes>(cells, columns, pixels);
}

LAD_INLINE void blend(const float* upper, const float* slope, float weight, int n, float* __restrict out) {
    for (int x = 0; x < n; ++x) out[x] = lerp(upper[x], slope[x], weight);
}

// The pixel rows between two rows of cells.
struct Band {
    const FuseSpec& spec;
    Scratch& scratch;

    // Make `upper` and `slope` for the rows below cell row `cell`. In order from above, `lower` of the band before is
    // taken over; `fresh` starts anywhere.
    template <typename V>
    LAD_INLINE void enter(const float* map, int cell, bool fresh) {
        const int below = std::min(cell + 1, spec.padded_height() - 1);
        if (fresh)
            widen<V>(map + static_cast<std::size_t>(cell) * spec.padded_width(), scratch.columns, scratch.upper.data());
        else
            scratch.upper.swap(scratch.lower);
        widen<V>(map + static_cast<std::size_t>(below) * spec.padded_width(), scratch.columns, scratch.lower.data());
        const float *upper = scratch.upper.data(), *lower = scratch.lower.data();
        float* __restrict slope = scratch.slope.data();
        for (int x = 0; x < spec.out_width; ++x) slope[x] = lower[x] - upper[x];
    }

    LAD_INLINE void row(int y, float* out) const {
        blend(scratch.upper.data(), scratch.slope.data(), scratch.rows.weight[y], spec.out_width, out);
    }

    // The largest pixel of two rows, which are not written down for it.
    template <typename V>
    LAD_INLINE float max_of_rows(int y, int z) const {
        const float *upper = scratch.upper.data(), *slope = scratch.slope.data();
        const float weight_y = scratch.rows.weight[y], weight_z = scratch.rows.weight[z];
        V top = V{} - std::numeric_limits<float>::infinity();
        int x = 0;
        for (; x + width_of<V> <= spec.out_width; x += width_of<V>) {
            const V from = load<V>(upper + x), steep = load<V>(slope + x);
            top = larger(larger(from + weight_y * steep, from + weight_z * steep), top);  // lerp
        }
        float best = max_of(top);
        for (; x < spec.out_width; ++x)
            best = std::max({best, lerp(upper[x], slope[x], weight_y), lerp(upper[x], slope[x], weight_z)});
        return best;
    }
};

struct Peak {
    float value = -std::numeric_limits<float>::infinity();
    int cell = 0;  // the first row of cells whose band has it
};

// The max over all pixels of a finite map. Within a band every column is monotone (see lerp), so that its largest value
// lies in the first or the last pixel row: only those are computed, unless the map is to be written to `out`.
template <typename V>
LAD_INLINE Peak upsample(const FuseSpec& spec, Scratch& scratch, const float* map, float* out) {
    Band band{spec, scratch};
    Peak peak;
    bool fresh = true;
    for (int cell = 0; cell < spec.padded_height(); ++cell) {
        const int begin = scratch.rows.begin[cell], end = scratch.rows.begin[cell + 1];
        if (begin == end) {
            fresh = true;
            continue;
        }
        band.enter<V>(map, cell, fresh);
        fresh = false;
        const float value = band.max_of_rows<V>(begin, end - 1);
        if (value > peak.value) peak = {value, cell};
        if (out)
            for (int y = begin; y < end; ++y) band.row(y, out + static_cast<std::size_t>(y) * spec.out_width);
    }
    return peak;
}

void locate(const FuseSpec& spec, Scratch& scratch, const Peak& peak, FuseResult& result) {
    Band band{spec, scratch};
    band.enter<Float4>(scratch.fused.data(), peak.cell, true);
    const float* line = scratch.line.data();
    for (int y = scratch.rows.begin[peak.cell]; y < scratch.rows.begin[peak.cell + 1]; ++y) {
        band.row(y, scratch.line.data());
        const float* at = std::find(line, line + spec.out_width, peak.value);
        if (at == line + spec.out_width) continue;
        result.y_px = y, result.x_px = static_cast<std::int32_t>(at - line);
        return;
    }
}

template <typename V>
LAD_INLINE FuseResult fuse_body(const FuseSpec& spec, Scratch& scratch, const float* structural, const float* logical,
                                const float* places, float* out) {
    float *st = scratch.structural.data(), *lg = scratch.logical.data(), *fused = scratch.fused.data();
    const std::size_t map = static_cast<std::size_t>(spec.height) * spec.width, padded = scratch.fused.size() - lanes;
    std::int64_t bad_st, bad_lg;
    if (places) {
        bad_st = deviate_map(spec, structural, places, places + 2 * map, st);
        bad_lg = deviate_map(spec, logical, places + map, places + 3 * map, lg);
        larger_cells(st, lg, padded, fused);
    } else {
        bad_st = normalise_map(spec, structural, spec.structural_scale, spec.structural_offset, st);
        bad_lg = normalise_map(spec, logical, spec.logical_scale, spec.logical_offset, lg);
        fuse_cells(st, lg, padded, spec.sigmoid, fused);
    }
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    FuseResult result{nan, -1, -1, nan, nan, bad_st + bad_lg};
    if (bad_st == 0) result.structural = upsample<V>(spec, scratch, st, nullptr).value;
    if (bad_lg == 0) result.logical = upsample<V>(spec, scratch, lg, nullptr).value;
    if (result.nonfinite != 0 && !out) return result;
    const Peak peak = upsample<V>(spec, scratch, fused, out);
    if (result.nonfinite != 0) return result;
    result.score = peak.value;
    locate(spec, scratch, peak, result);
    return result;
}

// ---- one version per instruction set

using Fuse = FuseResult (*)(const FuseSpec&, Scratch&, const float*, const float*, const float*, float*);

FuseResult fuse_portable(const FuseSpec& spec, Scratch& s, const float* structural, const float* logical,
                         const float* places, float* out) {
    return fuse_body<Float4>(spec, s, structural, logical, places, out);
}

#if LAD_HAS_X86
LAD_TARGET_AVX2 FuseResult fuse_avx2(const FuseSpec& spec, Scratch& s, const float* structural, const float* logical,
                                     const float* places, float* out) {
    return fuse_body<Float8>(spec, s, structural, logical, places, out);
}

LAD_TARGET_AVX512 FuseResult fuse_avx512(const FuseSpec& spec, Scratch& s, const float* structural,
                                         const float* logical, const float* places, float* out) {
    return fuse_body<Float16>(spec, s, structural, logical, places, out);
}

constexpr Fuse versions[isa_count] = {fuse_portable, fuse_avx2, fuse_avx512};
#else
constexpr Fuse versions[isa_count] = {fuse_portable, fuse_portable, fuse_portable};
#endif

}  // namespace

FuseResult fuse(const FuseSpec& spec, const float* structural, const float* logical, float* out) {
    return fuse_places(spec, structural, logical, nullptr, out);
}

FuseResult fuse_places(const FuseSpec& spec, const float* structural, const float* logical, const float* places,
                       float* out) {
    thread_local Scratch scratch;
    scratch.prepare(spec);
    return versions[static_cast<int>(active_isa())](spec, scratch, structural, logical, places, out);
}

}  // namespace lad
