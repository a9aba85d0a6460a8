// The checked parameters of `Preprocess`, the same for numpy arrays and for device arrays.
#pragma once

#include <pybind11/stl.h>

#include <cmath>
#include <optional>

#include "arrays.hpp"
#include "lad/preprocess.hpp"

namespace lad::bindings {

inline PreprocessSpec checked_preprocess_spec(const std::vector<int>& source_shape, std::array<int, 2> size,
                                              const std::optional<std::array<int, 4>>& roi, bool swap_rb,
                                              std::array<double, 3> mean, std::array<double, 3> std) {
    const auto text = [](const auto& value) { return text_of(py::cast(value)); };
    const bool shape_ok = (source_shape.size() == 2 || source_shape.size() == 3) && source_shape[0] > 0 &&
                          source_shape[1] > 0 && source_shape[0] <= max_side && source_shape[1] <= max_side;
    const int channels = source_shape.size() == 3 ? source_shape[2] : 1;
    require(shape_ok && (channels == 1 || channels == 3),
            "source_shape: expected (height, width) or (height, width, channels) with 1 or 3 channels and sides of 1 "
            "to 65536 pixels, got " +
                text(source_shape));
    require(size[0] > 0 && size[1] > 0 && size[0] <= max_side && size[1] <= max_side,
            "size: expected (height, width) of 1 to 65536 pixels, got " + text(size));
    const auto [x, y, w, h] = roi.value_or(std::array<int, 4>{0, 0, source_shape[1], source_shape[0]});
    require(x >= 0 && y >= 0 && w > 0 && h > 0 && w <= source_shape[1] - x && h <= source_shape[0] - y,
            "roi: expected (x, y, width, height) inside the source of " + text(source_shape) + " (height first), got " +
                text(roi));
    for (int c = 0; c < 3; ++c)
        require(
            std::isfinite(mean[c]) && std::isfinite(std[c]) && std[c] > 0,
            "mean, std: expected three finite means and three positive standard deviations on the 0..1 scale, got " +
                text(mean) + " and " + text(std));
    return {source_shape[0], source_shape[1], channels, x, y, w, h, size[0], size[1], swap_rb, mean, std};
}

}  // namespace lad::bindings
