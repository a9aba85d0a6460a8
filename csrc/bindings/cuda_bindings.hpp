// One function per kernel family adds it to the module.
#pragma once

#include "cuda_arrays.hpp"

namespace lad::bindings {

void bind_cuda_maps(py::module_& m);

}  // namespace lad::bindings
