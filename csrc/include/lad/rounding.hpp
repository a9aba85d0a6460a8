// Rows of float32 in 16 bits: whole numbers times a unit for each row, at most 1/65534 of its largest value off.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "lad/elementary.hpp"

namespace lad {

// NaN for a row that is not finite: so is every product with it. 0 where all values are 0.
inline double rounding_unit(const float* row, int columns) {
    float largest = 0;
    for (int i = 0; i < columns; ++i) {
        if (!is_finite(row[i])) return std::numeric_limits<double>::quiet_NaN();
        largest = std::max(largest, std::abs(row[i]));
    }
    return largest / 32767.0;
}

}  // namespace lad
