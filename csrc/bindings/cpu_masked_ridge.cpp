#include <array>
#include <memory>

#include "bindings.hpp"
#include "lad/masked_ridge.hpp"

namespace lad::bindings {
namespace {

constexpr int table_count = 8, max_picture_side = 256;
constexpr py::ssize_t max_width = 1 << 12;
constexpr const char* names[table_count] = {"mean",      "scale",           "context",           "prediction",
                                            "whitening", "fine_directions", "coarse_directions", "gain"};

using Arrays = std::array<py::array, table_count>;

py::array finite_array(const py::handle& object, const std::string& name) {
    const py::array a = float_array(object, name.c_str());
    require(count_nonfinite(data_of<float>(a), static_cast<std::size_t>(a.size())) == 0,
            name + ": expected finite numbers, got NaN or Inf");
    return a;
}

Arrays arrays_of(const py::object& tables) {
    if (!py::isinstance<py::tuple>(tables) || py::len(tables) != table_count)
        throw py::type_error("tables: expected a lad_edge.kernels.RidgeTables, got " +
                             text_of(py::type::handle_of(tables).attr("__name__")));
    Arrays arrays;
    for (int i = 0; i < table_count; ++i)
        arrays[i] = finite_array(py::reinterpret_borrow<py::tuple>(tables)[i], std::string("tables.") + names[i]);
    return arrays;
}

// Half the side of the picture, from the number of regions.
py::ssize_t half_side(py::ssize_t regions) {
    py::ssize_t half = 1;
    while (half * half < regions) ++half;
    return half;
}

void expect_widths(const py::array& a, const char* name, const char* shape) {
    bool right = a.ndim() == 3;
    for (py::ssize_t axis = 1; right && axis < 3; ++axis) right = a.shape(axis) > 0 && a.shape(axis) <= max_width;
    require(right, std::string("tables.") + name + ": expected shape " + shape + ", the last two from 1 to 4096, got " +
                       text_of(a.attr("shape")));
}

RidgeView checked_view(const Arrays& a) {
    expect_widths(a[2], "context", "(regions, r, C)");
    expect_widths(a[6], "coarse_directions", "(regions, q, C)");
    const py::ssize_t regions = a[2].shape(0), r = a[2].shape(1), c = a[2].shape(2), q = a[6].shape(1);
    const py::ssize_t half = half_side(regions);
    require(regions > 0 && half * half == regions && 2 * half <= max_picture_side,
            "tables.context: expected a square number of regions, 1 to 16384, got " + std::to_string(regions));
    const std::vector<py::ssize_t> shapes[table_count] = {
        {regions, 4, c}, {c}, {regions, r, c}, {regions, 4, r, c}, {c, c}, {regions, 4, q, c}, {regions, q, c}, {3}};
    std::array<const float*, table_count> at;
    for (int i = 0; i < table_count; ++i) {
        const std::vector<py::ssize_t> shape(a[i].shape(), a[i].shape() + a[i].ndim());
        require(shape == shapes[i], std::string("tables.") + names[i] + ": expected shape " + shape_text(shapes[i]) +
                                        ", got " + text_of(a[i].attr("shape")));
        at[i] = data_of<float>(a[i]);
    }
    for (int i = 0; i < 3; ++i) require(at[7][i] >= 0, "tables.gain: expected no factor below 0");
    RidgeView view{};
    view.side = static_cast<int>(2 * half), view.channels = static_cast<int>(c);
    view.context_width = static_cast<int>(r), view.directions = static_cast<int>(q);
    view.mean = at[0], view.scale = at[1], view.context = at[2], view.prediction = at[3];
    view.whitening = at[4], view.fine_directions = at[5], view.coarse_directions = at[6], view.gain = at[7];
    return view;
}

std::unique_ptr<MaskedRidge> make_masked_ridge(const py::object& tables) {
    const Arrays arrays = arrays_of(tables);
    const RidgeView view = checked_view(arrays);
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
