// The checked parameters of `fuse`, the same for numpy arrays and for device arrays.
#pragma once

#include <pybind11/stl.h>

#include <array>
#include <cmath>

#include "arrays.hpp"
#include "lad/maps.hpp"

namespace lad::bindings {

using Pair = std::array<float, 2>;  // structural, logical

constexpr int max_cells = 8192, max_border = 1024;  // with them a padded map has less than 2^31 cells

inline BorderMode border_mode_of(const std::string& name) {
    if (name == "zero") return BorderMode::zero;
    if (name == "replicate") return BorderMode::replicate;
    throw py::value_error("border_mode: expected 'zero' or 'replicate', got '" + name + "'");
}

inline void expect_finite(const Pair& pair, const char* name) {
    require(std::isfinite(pair[0]) && std::isfinite(pair[1]),
            std::string(name) + ": expected two finite float32 numbers (structural, logical), got " +
                text_of(py::cast(pair)));
}

inline FuseSpec checked_fuse_spec(py::ssize_t height, py::ssize_t width, const Pair& scale, const Pair& offset,
                                  bool sigmoid, int border, const std::string& border_mode,
                                  const std::array<int, 2>& size) {
    require(height > 0 && width > 0 && height <= max_cells && width <= max_cells,
            "structural: expected sides of 1 to 8192 cells, got " + shape_text({height, width}));
    require(size[0] > 0 && size[1] > 0 && size[0] <= max_side && size[1] <= max_side,
            "size: expected (height, width) of 1 to 65536 pixels, got " + text_of(py::cast(size)));
    require(border >= 0 && border <= max_border, "border: expected 0 to 1024 cells, got " + std::to_string(border));
    expect_finite(scale, "scale");
    expect_finite(offset, "offset");
    return {static_cast<int>(height),
            static_cast<int>(width),
            scale[0],
            offset[0],
            scale[1],
            offset[1],
            sigmoid,
            border,
            border_mode_of(border_mode),
            size[0],
            size[1]};
}

}  // namespace lad::bindings
