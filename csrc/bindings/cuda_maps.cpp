#include <cmath>

#include "cuda_bindings.hpp"
#include "fuse_spec.hpp"

namespace lad::bindings {
namespace {

constexpr py::ssize_t max_positions = py::ssize_t{1} << 32;

void checked_count_nonfinite(const py::object& values_object, const py::object& nonfinite, std::uintptr_t stream) {
    const DeviceArray a = packed_device_array(values_object, "values", {type_f4, type_f2});
    const auto count = static_cast<std::size_t>(element_count(a.shape));
    require(count > 0, "values: expected at least one, got shape " + shape_text(a.shape));
    std::int64_t* to = counter(nonfinite);
    const py::gil_scoped_release unlocked;
    cuda::count_nonfinite(const_values(a), count, to, stream_of(stream));
}

void checked_distance_map(const py::object& a_object, const py::object& b_object, float cosine,
                          const py::object& out_object, const py::object& nonfinite, std::uintptr_t stream) {
    const DeviceArray a = packed_device_array(a_object, "a", {type_f4, type_f2});
    const DeviceArray b = packed_device_array(b_object, "b", {a.type.c_str()});
    const Shape shape = without_batch(a.shape, 3);
    require(shape.size() == 3 && shape[0] > 0 && shape[1] > 0 && shape[2] > 0 && shape[0] <= max_side &&
                shape[1] * shape[2] <= max_positions,
            "a: expected shape (C, H, W) or (1, C, H, W), none of them 0, C up to 65536, got " + shape_text(a.shape));
    expect_shape(b, shape, "b");
    require(std::isfinite(cosine) && cosine >= 0,
            "cosine: expected a finite weight of 0 or more, got " + std::to_string(cosine));
    auto* out = writable_device_array(out_object, "out", {type_f4}, {shape[1], shape[2]}).as<float>();
    std::int64_t* to = counter(nonfinite);
    const py::gil_scoped_release unlocked;
    cuda::distance_map(const_values(a), const_values(b), static_cast<std::size_t>(shape[0]),
                       static_cast<std::size_t>(shape[1] * shape[2]), cosine, out, to, stream_of(stream));
}

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
    m.def("count_nonfinite", &checked_count_nonfinite, "values"_a, py::kw_only(), "nonfinite"_a, "stream"_a,
          "How many values are not finite. values: float32 or float16, of any shape.");
    m.def("distance_map", &checked_distance_map, "a"_a, "b"_a, py::kw_only(), "cosine"_a = 0.0f, "out"_a, "nonfinite"_a,
          "stream"_a,
          "As lad_edge.kernels.distance_map, in another order of summation.\n\n"
          "a, b: float32 or float16, both alike, (C, H, W) or (1, C, H, W), C up to 65536; out: float32 (H, W).");
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
