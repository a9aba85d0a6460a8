// Kernels on anomaly maps, all float32, row-major, packed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lad/resample.hpp"

namespace lad {

// out[p] = mean over c of (a[c, p] - b[c, p])^2 + cosine * (1 - cos(a[:, p], b[:, p])), each norm at least 1e-8;
// a, b: (channels, positions), out: (positions). Sums run over the channels in order, in float32.
// Returns how many values of out are not finite.
std::int64_t distance_map(const float* a, const float* b, std::size_t channels, std::size_t positions, float cosine,
                          float* out);

enum class BorderMode : int { zero = 0, replicate = 1 };

struct FuseSpec {
    int height, width;  // cells of the two maps
    float structural_scale, structural_offset;
    float logical_scale, logical_offset;
    bool sigmoid;               // fuse sigmoids of the normalised values instead of the values
    int border;                 // cells added on each side
    BorderMode border_mode;     // zero: the raw map continues as 0; replicate: as its nearest cell
    int out_height, out_width;  // pixels

    LAD_SHARED int padded_height() const { return height + 2 * border; }
    LAD_SHARED int padded_width() const { return width + 2 * border; }
};

struct FuseResult {
    float score;                // max of the upsampled fused map; NaN if any cell is not finite
    std::int32_t y_px, x_px;    // where, the lowest index on ties; -1 with a NaN score
    float structural, logical;  // max of each upsampled normalised map; NaN if one of its own cells is not finite
    std::int64_t nonfinite;     // cells of both maps whose raw or normalised value is not finite (or beyond 8.5e37)
};

// n = scale * map + offset for both; fused = n_structural / 2 + n_logical / 2 (or of their sigmoids); bilinear
// upsampling with half-pixel centres. structural, logical: (height, width); out: (out_height, out_width) or null.
// Each thread keeps a scratch of its own: the steady state allocates nothing.
FuseResult fuse(const FuseSpec& spec, const float* structural, const float* logical, float* out);

// The same with n = max(0, (map - usual) * weight) at each cell and fused = max(n_structural, n_logical); a border of
// zeros is 0 after that. places: (2, 2, height, width), usual of both maps, then weight of both. Scales, offsets and
// the sigmoid of the spec are not read.
FuseResult fuse_places(const FuseSpec& spec, const float* structural, const float* logical, const float* places,
                       float* out);

// One term of project_maps: weight * rows . map . columns^T.
struct MapTerm {
    const float* map;      // (height, width) cells
    const float* rows;     // (out_height, height)
    const float* columns;  // (out_width, width)
    int height, width;
    float weight;
};

struct ProjectResult {
    float score;              // max of out; NaN if nonfinite is not 0
    std::int32_t y_px, x_px;  // where, the lowest index on ties; -1 with a NaN score
    std::int64_t nonfinite;   // cells of the maps that are not finite; if none, pixels of out
};

// out = constant + sum of the terms, (out_height, out_width): enlarging and blurring as two small products for each
// map. Weights are finite. Zeros at both ends of a row of `rows` are skipped, so that a cell that is not finite shows
// only in the pixels that it reaches. Each thread keeps a scratch of its own: the steady state allocates nothing.
ProjectResult project_maps(const std::vector<MapTerm>& terms, float constant, int out_height, int out_width,
                           float* out);

}  // namespace lad
