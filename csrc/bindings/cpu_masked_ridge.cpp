#include <memory>

#include "bindings.hpp"
#include "lad/masked_ridge.hpp"
#include "ridge_tables.hpp"

namespace lad::bindings {
namespace {

std::unique_ptr<MaskedRidge> make_masked_ridge(const py::object& tables) {
    const RidgeArrays arrays = ridge_arrays(tables);
    const RidgeView view = ridge_view(arrays);
    const py::gil_scoped_release unlocked;
    return std::make_unique<MaskedRidge>(view);
}

float* map_of(const py::handle& object, py::ssize_t side, const char* name) {
    py::array a = writable_float_array(object, name);
    expect_shape(a, {side, side}, name);
    return static_cast<float*>(a.mutable_data());
}

std::int64_t run_masked_ridge(const MaskedRidge& ridge, const py::object& cells_object, const py::object& fine_object,
                              const py::object& coarse_object, const py::object& own_object) {
    const py::array cells = float_array(cells_object, "cells");
    const py::ssize_t side = ridge.side();
    expect_shape(cells, {ridge.channels(), side, side}, "cells");
    const auto* from = data_of<float>(cells);
    float* fine = map_of(fine_object, side, "fine");
    float* coarse = map_of(coarse_object, side / 2, "coarse");
    float* own = map_of(own_object, side, "own");
    const py::gil_scoped_release unlocked;
    return ridge.run(from, fine, coarse, own);
}

}  // namespace

void bind_masked_ridge(py::module_& m) {
    using namespace py::literals;
    py::class_<MaskedRidge>(
        m, "MaskedRidge",
        "Cells of a picture to their distances from what good parts, and the rest of the picture, let expect.\n\n"
        "tables: RidgeTables; copied, all but mean, scale and whitening in 16 bits: rows of C whole numbers times one\n"
        "scale, at most 1/65534 of the row's largest value off. Raises TypeError for dtype or layout, ValueError for\n"
        "sizes, for tables that are not finite and for a gain below 0. Threads may share it.")
        .def(py::init(&make_masked_ridge), "tables"_a)
        .def("__call__", &run_masked_ridge, "cells"_a, "fine"_a, "coarse"_a, "own"_a,
             "Returns how many values of cells are not finite, or, if all are, how many distances: then all outputs "
             "are NaN.\n\n"
             "cells: float32 (C, side, side). fine, own: float32 (side, side), coarse: float32 (side / 2, side / 2),\n"
             "overwritten: distances as `reference.masked_ridge` defines them. All C-contiguous; a leading 1 is\n"
             "allowed. Raises TypeError for dtype or layout, ValueError for sizes.");
}

}  // namespace lad::bindings
