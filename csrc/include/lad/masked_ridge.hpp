// How far the cells of a picture are from what the rest of the picture lets expect: the detector that is fitted in
// closed form. What the tables hold, RidgeTables of lad_edge.kernels says.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lad/panels.hpp"
#include "lad/ridge_view.hpp"
#include "lad/rounded_matrices.hpp"

namespace lad {

// Immutable after construction: threads may share it. Each thread keeps a scratch of its own.
class MaskedRidge {
  public:
    explicit MaskedRidge(const RidgeView& view);

    // cells: (C, side, side). Distances, never negative; fine, own: (side, side); coarse: (side / 2, side / 2). Returns
    // how many values of cells are not finite; if none, how many of the outputs. Where it is not 0, the outputs are
    // NaN.
    std::int64_t run(const float* cells, float* fine, float* coarse, float* own) const;

    int side() const { return tables_.side; }
    int channels() const { return tables_.channels; }

    // Read by the kernel. Predictions are in white coordinates: then one product per cell whitens both what it is and
    // what is left of it.
    struct Tables {
        int side, channels;
        Floats mean, scale;  // (C, side, side), (C)
        float root_gain[3];
        Panels whitening;
        RoundedMatrices context, prediction, fine_directions, coarse_directions;

        int regions() const { return side / 2 * (side / 2); }
        std::size_t places() const { return static_cast<std::size_t>(side) * side; }
        std::size_t pitch() const { return whole_lanes(channels); }  // of a cell
        int white_pitch() const { return whitening.padded_rows(); }  // of a cell in white coordinates

        // Of cell k of a region in the picture.
        std::size_t place(int region, int k) const {
            const int half = side / 2;
            return static_cast<std::size_t>(region / half * 2 + k / 2) * side + region % half * 2 + k % 2;
        }
    };

  private:
    Tables tables_;
};

}  // namespace lad
