// One function per kernel family adds it to the module.
#pragma once

#include "cuda_arrays.hpp"

namespace lad::bindings {

void bind_cuda_preprocess(py::module_& m);
void bind_cuda_maps(py::module_& m);
void bind_cuda_project(py::module_& m);
void bind_cuda_histogram(py::module_& m);
void bind_cuda_quantizer(py::module_& m);
void bind_cuda_correlation(py::module_& m);
void bind_cuda_masked_ridge(py::module_& m);
void bind_cuda_tails(py::module_& m);

}  // namespace lad::bindings
