// How the tables of a masked ridge lie on the device.
#pragma once

#include "lad/cuda.hpp"

namespace lad::cuda {

using Rounded = std::int16_t;  // a value of MaskedRidge::RoundedRows

constexpr int cells_of_region = 4, lines_of_region = cells_of_region + 1;  // the last line is the mean of the cells

}  // namespace lad::cuda
