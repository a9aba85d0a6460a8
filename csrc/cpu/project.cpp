#include <algorithm>
#include <limits>
#include <vector>

#include "lad/elementary.hpp"
#include "lad/isa.hpp"
#include "lad/lanes.hpp"
#include "lad/maps.hpp"

namespace lad {
namespace {

constexpr int cells_at_once = 4;

// A row of weights is zero outside [begin, end): a blurred bilinear row reaches over few cells.
struct Span {
    int begin, end;
};

// What one call works in; each thread has its own and keeps it.
struct Scratch {
    Floats columns;    // (w_k, W) of the map at hand: its column weights, transposed
    Floats stretched;  // (h_0 + h_1 + ..., W): each map times its column weights, and its own weight

    void prepare(const std::vector<MapTerm>& terms, int width) {
        std::size_t widest = 0, rows = 0;
        for (const MapTerm& term : terms) widest = std::max<std::size_t>(widest, term.width), rows += term.height;
        columns.resize(widest * width);
        stretched.resize(rows * width);
    }
};

Span span_of(const float* weights, int n) {
    Span span{0, n};
    while (span.begin < span.end && weights[span.begin] == 0) ++span.begin;
    while (span.begin < span.end && weights[span.end - 1] == 0) --span.end;
    return span;
}

// The span that holds those of all rows, in whole lanes where the row has them.
Span span_of_rows(const float* weights, int rows, int n) {
    Span all{n, 0};
    for (int row = 0; row < rows; ++row) {
        const Span span = span_of(weights + static_cast<std::size_t>(row) * n, n);
        if (span.begin < span.end) all = {std::min(all.begin, span.begin), std::max(all.end, span.end)};
    }
    if (all.begin >= all.end) return {0, 0};
    return {all.begin / lanes * lanes, std::min(n, static_cast<int>(whole_lanes(all.end)))};
}

LAD_INLINE void transpose(const float* from, int rows, int columns, float* to) {
    for (int row = 0; row < rows; ++row)
        for (int column = 0; column < columns; ++column)
            to[static_cast<std::size_t>(column) * rows + row] = from[static_cast<std::size_t>(row) * columns + column];
}

// to += scale[0] * from[0] + scale[1] * from[1] + ..., rows of n values `pitch` apart. Four at once spare most of the
// loads and stores of `to`; the sum is in the same order.
LAD_INLINE void add_rows(const float* from, std::size_t pitch, const float* scale, int count, int n,
                         float* __restrict to) {
    int c = 0;
    for (; c + 4 <= count; c += 4, from += 4 * pitch) {
        const float *f0 = from, *f1 = f0 + pitch, *f2 = f1 + pitch, *f3 = f2 + pitch;
        const float s0 = scale[c], s1 = scale[c + 1], s2 = scale[c + 2], s3 = scale[c + 3];
        for (int x = 0; x < n; ++x) to[x] = (((to[x] + s0 * f0[x]) + s1 * f1[x]) + s2 * f2[x]) + s3 * f3[x];
    }
    for (; c < count; ++c, from += pitch)
        for (int x = 0; x < n; ++x) to[x] += scale[c] * from[x];
}

// stretched = weight * map * columns^T; returns how many cells of the map are not finite.
LAD_INLINE std::int64_t stretch(const MapTerm& term, int width, Scratch& s, float* stretched) {
    transpose(term.columns, width, term.width, s.columns.data());
    std::fill_n(stretched, static_cast<std::size_t>(term.height) * width, 0.0f);
    for (int c = 0; c < term.width; c += cells_at_once) {
        const int cells = std::min(cells_at_once, term.width - c);
        const float* columns = s.columns.data() + static_cast<std::size_t>(c) * width;
        const Span span = span_of_rows(columns, cells, width);
        for (int y = 0; y < term.height; ++y)
            add_rows(columns + span.begin, width, term.map + static_cast<std::size_t>(y) * term.width + c, cells,
                     span.end - span.begin, stretched + static_cast<std::size_t>(y) * width + span.begin);
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(term.height) * width; ++i) stretched[i] *= term.weight;
    return count_nonfinite(term.map, static_cast<std::size_t>(term.height) * term.width);
}

template <typename V>
LAD_INLINE ProjectResult project_body(const std::vector<MapTerm>& terms, float constant, int height, int width,
                                      Scratch& s, float* out) {
    ProjectResult result{std::numeric_limits<float>::quiet_NaN(), -1, -1, 0};
    float* stretched = s.stretched.data();
    for (const MapTerm& term : terms) {
        result.nonfinite += stretch(term, width, s, stretched);
        stretched += static_cast<std::size_t>(term.height) * width;
    }
    float top = -std::numeric_limits<float>::infinity();
    std::int64_t bad_pixels = 0;
    for (int y = 0; y < height; ++y) {
        float* row = out + static_cast<std::size_t>(y) * width;
        std::fill_n(row, width, constant);
        const float* from = s.stretched.data();
        for (const MapTerm& term : terms) {
            const float* weights = term.rows + static_cast<std::size_t>(y) * term.height;
            const Span span = span_of(weights, term.height);
            add_rows(from + static_cast<std::size_t>(span.begin) * width, width, weights + span.begin,
                     span.end - span.begin, width, row);
            from += static_cast<std::size_t>(term.height) * width;
        }
        bad_pixels += count_nonfinite(row, width);
        const float best = row_max<V>(row, width);
        if (best > top) top = best, result.y_px = y;
    }
    if (result.nonfinite == 0) result.nonfinite = bad_pixels;
    if (result.nonfinite != 0) return {result.score, -1, -1, result.nonfinite};
    const float* row = out + static_cast<std::size_t>(result.y_px) * width;
    result.score = top;
    result.x_px = static_cast<std::int32_t>(std::find(row, row + width, top) - row);
    return result;
}

// ---- one version per instruction set

using Project = ProjectResult (*)(const std::vector<MapTerm>&, float, int, int, Scratch&, float*);

ProjectResult project_portable(const std::vector<MapTerm>& terms, float constant, int height, int width, Scratch& s,
                               float* out) {
    return project_body<Float4>(terms, constant, height, width, s, out);
}

#if LAD_HAS_X86
LAD_TARGET_AVX2 ProjectResult project_avx2(const std::vector<MapTerm>& terms, float constant, int height, int width,
                                           Scratch& s, float* out) {
    return project_body<Float8>(terms, constant, height, width, s, out);
}

LAD_TARGET_AVX512 ProjectResult project_avx512(const std::vector<MapTerm>& terms, float constant, int height, int width,
                                               Scratch& s, float* out) {
    return project_body<Float16>(terms, constant, height, width, s, out);
}

constexpr Project versions[isa_count] = {project_portable, project_avx2, project_avx512};
#else
constexpr Project versions[isa_count] = {project_portable, project_portable, project_portable};
#endif

}  // namespace

ProjectResult project_maps(const std::vector<MapTerm>& terms, float constant, int height, int width, float* out) {
    thread_local Scratch scratch;
    scratch.prepare(terms, width);
    return versions[static_cast<int>(active_isa())](terms, constant, height, width, scratch, out);
}

}  // namespace lad
