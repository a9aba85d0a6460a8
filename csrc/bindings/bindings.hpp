// One function per kernel family adds it to the module.
#pragma once

#include "arrays.hpp"

namespace lad::bindings {

void bind_preprocess(py::module_& m);
void bind_maps(py::module_& m);
void bind_quantiles(py::module_& m);
void bind_histogram(py::module_& m);
void bind_quantizer(py::module_& m);
void bind_project(py::module_& m);
void bind_correlation(py::module_& m);
void bind_masked_ridge(py::module_& m);

}  // namespace lad::bindings
