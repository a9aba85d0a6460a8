#include <pybind11/stl.h>

#include <cmath>

#include "bindings.hpp"
#include "lad/lanes.hpp"
#include "lad/maps.hpp"

namespace lad::bindings {
namespace {

constexpr std::size_t max_terms = 64;

py::array checked_matrix(const py::handle& object, const std::string& name) {
    py::array a = float_array(object, name.c_str());
    require(a.ndim() == 2 && a.shape(0) > 0 && a.shape(1) > 0 && a.shape(0) <= max_side && a.shape(1) <= max_side,
            name + ": expected shape (rows, columns) with sides of 1 to 65536, got " + text_of(a.attr("shape")));
    return a;
}

void expect_finite_weights(const py::array& a, const std::string& name) {
    require(count_nonfinite(data_of<float>(a), static_cast<std::size_t>(a.size())) == 0,
            name + ": expected finite weights, got NaN or Inf");
}

MapTerm checked_term(const py::handle& map_object, const py::handle& rows_object, const py::handle& columns_object,
                     float weight, const py::array& out, std::size_t k) {
    const std::string at = "[" + std::to_string(k) + "]";
    const py::array map = checked_matrix(map_object, "maps" + at);
    const py::array rows = float_array(rows_object, ("rows" + at).c_str());
    const py::array columns = float_array(columns_object, ("columns" + at).c_str());
    expect_shape(rows, {out.shape(0), map.shape(0)}, ("rows" + at).c_str());
    expect_shape(columns, {out.shape(1), map.shape(1)}, ("columns" + at).c_str());
    expect_finite_weights(rows, "rows" + at);
    expect_finite_weights(columns, "columns" + at);
    require(std::isfinite(weight), "weights: expected finite numbers, got " + std::to_string(weight));
    return {data_of<float>(map),
            data_of<float>(rows),
            data_of<float>(columns),
            static_cast<int>(map.shape(0)),
            static_cast<int>(map.shape(1)),
            weight};
}

py::tuple checked_project_maps(const py::sequence& maps, const py::sequence& rows, const py::sequence& columns,
                               const std::vector<float>& weights, float constant, const py::object& out_object) {
    writable_float_array(out_object, "out");
    py::array out = checked_matrix(out_object, "out");
    const std::size_t count = maps.size();
    require(
        count > 0 && count <= max_terms && rows.size() == count && columns.size() == count && weights.size() == count,
        "maps, rows, columns, weights: expected the same number of each, 1 to 64, got " +
            text_of(py::cast(std::vector<std::size_t>{count, rows.size(), columns.size(), weights.size()})));
    require(std::isfinite(constant), "constant: expected a finite number, got " + std::to_string(constant));
    std::vector<MapTerm> terms;
    for (std::size_t k = 0; k < count; ++k)
        terms.push_back(checked_term(maps[k], rows[k], columns[k], weights[k], out, k));
    auto* to = static_cast<float*>(out.mutable_data());
    const auto height = static_cast<int>(out.shape(0)), width = static_cast<int>(out.shape(1));
    ProjectResult r;
    {
        const py::gil_scoped_release unlocked;
        r = project_maps(terms, constant, height, width, to);
    }
    return py::make_tuple(r.score, r.y_px, r.x_px, r.nonfinite);
}

}  // namespace

void bind_project(py::module_& m) {
    using namespace py::literals;
    m.def("project_maps", &checked_project_maps, "maps"_a, "rows"_a, "columns"_a, "weights"_a, "constant"_a, "out"_a,
          "See lad_edge.kernels.project_maps.");
}

}  // namespace lad::bindings
