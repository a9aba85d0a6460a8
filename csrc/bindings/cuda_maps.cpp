#include <pybind11/stl.h>

#include <optional>

#include "cuda_bindings.hpp"
#include "fuse_spec.hpp"

namespace lad::bindings {
namespace {

// The arrays that `fuse` and `fuse_places` share, checked.
struct FuseArrays {
    DeviceArray structural, logical;
    float* out = nullptr;
    double* result;

    FuseArrays(const py::object& structural_object, const py::object& logical_object, const py::object& out_object,
               const py::object& result_object, const std::array<int, 2>& size)
        : structural(packed_device_array(structural_object, "structural", {type_f4, type_f2})),
          logical(packed_device_array(logical_object, "logical", {structural.type.c_str()})),
          result(writable_device_array(result_object, "result", {type_f8}, {6}).as<double>()) {
        require(structural.shape.size() == 2 && logical.shape == structural.shape,
                "structural, logical: expected one shape (h, w), got " + shape_text(structural.shape) + " and " +
                    shape_text(logical.shape));
        if (out_object.is_none()) return;
        out = writable_device_array(out_object, "out", {type_f4}, {size[0], size[1]}).as<float>();
    }
};

void checked_fuse(const py::object& structural, const py::object& logical, Pair scale, Pair offset, bool sigmoid,
                  int border, const std::string& border_mode, std::array<int, 2> size, const py::object& out,
                  const py::object& result, const py::object& workspace_object, std::uintptr_t stream) {
    const FuseArrays a(structural, logical, out, result, size);
    const FuseSpec spec = checked_fuse_spec(a.structural.shape[0], a.structural.shape[1], scale, offset, sigmoid,
                                            border, border_mode, size);
    void* workspace = workspace_of(workspace_object, "workspace", cuda::fuse_workspace_bytes(spec));
    const py::gil_scoped_release unlocked;
    cuda::fuse(spec, const_values(a.structural), const_values(a.logical), a.out, a.result, workspace,
               stream_of(stream));
}

void checked_fuse_places(const py::object& structural, const py::object& logical, const py::object& places_object,
                         int border, const std::string& border_mode, std::array<int, 2> size, const py::object& out,
                         const py::object& result, const py::object& workspace_object, std::uintptr_t stream) {
    const FuseArrays a(structural, logical, out, result, size);
    const FuseSpec spec = checked_fuse_spec(a.structural.shape[0], a.structural.shape[1], {1, 1}, {0, 0}, false, border,
                                            border_mode, size);
    const DeviceArray places = packed_device_array(places_object, "places", {type_f4});
    expect_shape(places, {2, 2, spec.height, spec.width}, "places");
    void* workspace = workspace_of(workspace_object, "workspace", cuda::fuse_workspace_bytes(spec));
    const py::gil_scoped_release unlocked;
    cuda::fuse_places(spec, const_values(a.structural), const_values(a.logical), places.as<const float>(), a.out,
                      a.result, workspace, stream_of(stream));
}

std::size_t fuse_bytes(std::array<int, 2> size) {
    return cuda::fuse_workspace_bytes(checked_fuse_spec(1, 1, {1, 1}, {0, 0}, false, 0, "zero", size));
}

}  // namespace

void bind_cuda_maps(py::module_& m) {
    using namespace py::literals;
    m.def("fuse_workspace_bytes", &fuse_bytes, py::kw_only(), "size"_a,
          "Bytes of workspace that `fuse` and `fuse_places` need.");
    m.def("fuse", &checked_fuse, "structural"_a, "logical"_a, py::kw_only(), "scale"_a, "offset"_a, "sigmoid"_a,
          "border"_a, "border_mode"_a, "size"_a, "out"_a = py::none(), "result"_a, "workspace"_a, "stream"_a,
          "As lad_edge.kernels.fuse, to the bit.\n\n"
          "structural, logical: float32 or float16 (h, w); out: float32 (H, W) or None; result: float64 (6,), filled\n"
          "in the order of Fused; workspace: fuse_workspace_bytes().");
    m.def("fuse_places", &checked_fuse_places, "structural"_a, "logical"_a, py::kw_only(), "places"_a, "border"_a,
          "border_mode"_a, "size"_a, "out"_a = py::none(), "result"_a, "workspace"_a, "stream"_a,
          "As lad_edge.kernels.fuse_places, to the bit; arrays as those of `fuse`, and places: float32 (2, 2, h, w).");
}

}  // namespace lad::bindings
