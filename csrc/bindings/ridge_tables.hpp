// The checked tables of a `MaskedRidge`, the same for the CPU and for CUDA.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "lad/lanes.hpp"
#include "lad/ridge_view.hpp"

namespace lad::bindings {

constexpr int ridge_table_count = 8, max_ridge_side = 256;
constexpr py::ssize_t max_ridge_width = 1 << 12;
constexpr const char* ridge_table_names[ridge_table_count] = {
    "mean", "scale", "context", "prediction", "whitening", "fine_directions", "coarse_directions", "gain"};

using RidgeArrays = std::array<py::array, ridge_table_count>;

inline py::array finite_table(const py::handle& object, const std::string& name) {
    const py::array a = float_array(object, name.c_str());
    require(count_nonfinite(data_of<float>(a), static_cast<std::size_t>(a.size())) == 0,
            name + ": expected finite numbers, got NaN or Inf");
    return a;
}

inline RidgeArrays ridge_arrays(const py::object& tables) {
    if (!py::isinstance<py::tuple>(tables) || py::len(tables) != ridge_table_count)
        throw py::type_error("tables: expected a lad_edge.kernels.RidgeTables, got " +
                             text_of(py::type::handle_of(tables).attr("__name__")));
    RidgeArrays arrays;
    for (int i = 0; i < ridge_table_count; ++i)
        arrays[i] =
            finite_table(py::reinterpret_borrow<py::tuple>(tables)[i], std::string("tables.") + ridge_table_names[i]);
    return arrays;
}

// Half the side of the picture, from the number of regions.
inline py::ssize_t half_side(py::ssize_t regions) {
    py::ssize_t half = 1;
    while (half * half < regions) ++half;
    return half;
}

inline void expect_ridge_widths(const py::array& a, const char* name, const char* shape) {
    bool right = a.ndim() == 3;
    for (py::ssize_t axis = 1; right && axis < 3; ++axis) right = a.shape(axis) > 0 && a.shape(axis) <= max_ridge_width;
    require(right, std::string("tables.") + name + ": expected shape " + shape + ", the last two from 1 to 4096, got " +
                       text_of(a.attr("shape")));
}

inline RidgeView ridge_view(const RidgeArrays& a) {
    expect_ridge_widths(a[2], "context", "(regions, r, C)");
    expect_ridge_widths(a[6], "coarse_directions", "(regions, q, C)");
    const py::ssize_t regions = a[2].shape(0), r = a[2].shape(1), c = a[2].shape(2), q = a[6].shape(1);
    const py::ssize_t half = half_side(regions);
    require(regions > 0 && half * half == regions && 2 * half <= max_ridge_side,
            "tables.context: expected a square number of regions, 1 to 16384, got " + std::to_string(regions));
    const std::vector<py::ssize_t> shapes[ridge_table_count] = {
        {regions, 4, c}, {c}, {regions, r, c}, {regions, 4, r, c}, {c, c}, {regions, 4, q, c}, {regions, q, c}, {3}};
    std::array<const float*, ridge_table_count> at;
    for (int i = 0; i < ridge_table_count; ++i) {
        const std::vector<py::ssize_t> shape(a[i].shape(), a[i].shape() + a[i].ndim());
        require(shape == shapes[i], std::string("tables.") + ridge_table_names[i] + ": expected shape " +
                                        shape_text(shapes[i]) + ", got " + text_of(a[i].attr("shape")));
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

}  // namespace lad::bindings
