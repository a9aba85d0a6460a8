// The tables of a masked ridge, as the one of the CPU and the one of CUDA are given them. What they hold, RidgeTables
// of lad_edge.kernels says.
#pragma once

#include <cstddef>

namespace lad {

// All float32, row-major, packed, finite; read by the constructors only. Regions in row-major order, the
// cells of one: upper left, upper right, lower left, lower right.
struct RidgeView {
    int side;                        // a picture is side x side cells; even
    int channels;                    // C
    int context_width;               // r
    int directions;                  // q
    const float* mean;               // (regions, 4, C)
    const float* scale;              // (C)
    const float* context;            // (regions, r, C)
    const float* prediction;         // (regions, 4, r, C)
    const float* whitening;          // (C, C)
    const float* fine_directions;    // (regions, 4, q, C)
    const float* coarse_directions;  // (regions, q, C)
    const float* gain;               // (3): fine, coarse, own; not negative

    std::size_t regions() const { return static_cast<std::size_t>(side / 2) * (side / 2); }
};

}  // namespace lad
