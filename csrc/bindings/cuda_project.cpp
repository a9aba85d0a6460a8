#include <cmath>

#include "cuda_bindings.hpp"

namespace lad::bindings {
namespace {

MapTerm checked_term(const py::object& map_object, const py::object& rows_object, const py::object& columns_object,
                     float weight, const Shape& size, std::size_t k) {
    const std::string at = "[" + std::to_string(k) + "]";
    const DeviceArray map = packed_device_array(map_object, "maps" + at, {type_f4});
    require(map.shape.size() == 2 && map.shape[0] > 0 && map.shape[1] > 0 && map.shape[0] <= max_side &&
                map.shape[1] <= max_side,
            "maps" + at + ": expected shape (h, w) with sides of 1 to 65536, got " + shape_text(map.shape));
    const DeviceArray rows = packed_device_array(rows_object, "rows" + at, {type_f4});
    const DeviceArray columns = packed_device_array(columns_object, "columns" + at, {type_f4});
    expect_shape(rows, {size[0], map.shape[0]}, "rows" + at);
    expect_shape(columns, {size[1], map.shape[1]}, "columns" + at);
    require(std::isfinite(weight), "weights: expected finite numbers, got " + std::to_string(weight));
    return {map.as<const float>(),          rows.as<const float>(),         columns.as<const float>(),
            static_cast<int>(map.shape[0]), static_cast<int>(map.shape[1]), weight};
}

Shape checked_size(const Shape& size, const std::string& name) {
    require(size.size() == 2 && size[0] > 0 && size[1] > 0 && size[0] <= max_side && size[1] <= max_side,
            name + ": expected (height, width) of 1 to 65536 pixels, got " + shape_text(size));
    return size;
}

std::size_t project_bytes(const Shape& size) {
    checked_size(size, "size");
    return cuda::project_workspace_bytes(static_cast<int>(size[0]), static_cast<int>(size[1]));
}

// A number, or a device array of one.
cuda::Constant checked_constant(const py::object& object) {
    if (py::hasattr(object, "__cuda_array_interface__")) {
        const DeviceArray a = packed_device_array(object, "constant", {type_f4});
        require(a.shape == Shape{1}, "constant: expected a number or shape (1), got " + shape_text(a.shape));
        return {0, a.as<const float>()};
    }
    const auto value = py::float_(object).cast<float>();
    require(std::isfinite(value), "constant: expected a finite number, got " + std::to_string(value));
    return {value, nullptr};
}

void checked_project_maps(const std::vector<py::object>& maps, const std::vector<py::object>& rows,
                          const std::vector<py::object>& columns, const std::vector<float>& weights,
                          const py::object& constant_object, const py::object& out_object,
                          const py::object& result_object, const py::object& workspace_object, std::uintptr_t stream) {
    const std::size_t count = maps.size();
    require(count > 0 && count <= cuda::max_map_terms && rows.size() == count && columns.size() == count &&
                weights.size() == count,
            "maps, rows, columns, weights: expected the same number of each, 1 to 64, got " +
                text_of(py::cast(std::vector<std::size_t>{count, rows.size(), columns.size(), weights.size()})));
    const cuda::Constant constant = checked_constant(constant_object);
    const Shape size = checked_size(device_array(out_object, "out", {type_f4}).shape, "out");
    auto* out = writable_device_array(out_object, "out", {type_f4}, size).as<float>();
    std::vector<MapTerm> terms;
    for (std::size_t k = 0; k < count; ++k)
        terms.push_back(checked_term(maps[k], rows[k], columns[k], weights[k], size, k));
    auto* result = writable_device_array(result_object, "result", {type_f8}, {4}).as<double>();
    void* workspace = workspace_of(workspace_object, "workspace", project_bytes(size));
    const py::gil_scoped_release unlocked;
    cuda::project_maps(terms, constant, static_cast<int>(size[0]), static_cast<int>(size[1]), out, result, workspace,
                       stream_of(stream));
}

}  // namespace

void bind_cuda_project(py::module_& m) {
    using namespace py::literals;
    m.def("project_workspace_bytes", &project_bytes, py::kw_only(), "size"_a,
          "Bytes of workspace that `project_maps` needs for an output of size (H, W).");
    m.def("project_maps", &checked_project_maps, "maps"_a, "rows"_a, "columns"_a, "weights"_a, "constant"_a, "out"_a,
          py::kw_only(), "result"_a, "workspace"_a, "stream"_a,
          "As lad_edge.kernels.project_maps, to the bit where all cells are finite.\n\n"
          "All arrays float32; constant: a number, or a device array (1,), read when the kernel runs, which makes no\n"
          "pixel finite if it is not; result: float64 (4,), filled in the order of Projected; workspace:\n"
          "project_workspace_bytes(). A rows or columns weight that is not finite shows in the pixels that it weighs.");
}

}  // namespace lad::bindings
