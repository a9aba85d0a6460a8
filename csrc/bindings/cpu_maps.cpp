#include <pybind11/stl.h>

#include <array>
#include <cmath>

#include "bindings.hpp"
#include "fuse_spec.hpp"
#include "lad/maps.hpp"

namespace lad::bindings {
namespace {

std::int64_t checked_distance_map(const py::object& a_object, const py::object& b_object, float cosine,
                                  const py::object& out_object) {
    const py::array a = float_array(a_object, "a"), b = float_array(b_object, "b");
    py::array out = writable_float_array(out_object, "out");
    const auto shape = shape_of(a, 3);
    require(shape.size() == 3 && shape[0] > 0 && shape[1] > 0 && shape[2] > 0,
            "a: expected shape (C, H, W) or (1, C, H, W), none of them 0, got " + text_of(a.attr("shape")));
    expect_shape(b, shape, "b");
    expect_shape(out, {shape[1], shape[2]}, "out");
    require(std::isfinite(cosine) && cosine >= 0,
            "cosine: expected a finite weight of 0 or more, got " + std::to_string(cosine));
    const auto *from_a = static_cast<const float*>(a.data()), *from_b = static_cast<const float*>(b.data());
    auto* to = static_cast<float*>(out.mutable_data());
    const py::gil_scoped_release unlocked;
    return distance_map(from_a, from_b, static_cast<std::size_t>(shape[0]),
                        static_cast<std::size_t>(shape[1] * shape[2]), cosine, to);
}

// The arrays of one call, checked; they stay alive with it.
struct FuseArrays {
    py::array structural, logical, places, out;
    std::vector<py::ssize_t> shape;

    FuseArrays(const py::object& structural_object, const py::object& logical_object, const py::object& out_object,
               const std::array<int, 2>& size)
        : structural(float_array(structural_object, "structural")),
          logical(float_array(logical_object, "logical")),
          shape(shape_of(structural, 2)) {
        require(shape.size() == 2, "structural: expected shape (h, w), got " + text_of(structural.attr("shape")));
        expect_shape(logical, shape, "logical");
        if (out_object.is_none()) return;
        out = writable_float_array(out_object, "out");
        expect_shape(out, {size[0], size[1]}, "out");
    }

    // Without places as the scales and offsets of the spec say.
    py::tuple run(const FuseSpec& spec) {
        const auto *st = static_cast<const float*>(structural.data()), *lg = static_cast<const float*>(logical.data());
        const auto* levels = places.size() ? static_cast<const float*>(places.data()) : nullptr;
        auto* to = out.size() ? static_cast<float*>(out.mutable_data()) : nullptr;
        FuseResult r;
        {
            const py::gil_scoped_release unlocked;
            r = fuse_places(spec, st, lg, levels, to);
        }
        return py::make_tuple(r.score, r.y_px, r.x_px, r.structural, r.logical, r.nonfinite);
    }
};

py::tuple checked_fuse(const py::object& structural, const py::object& logical, Pair scale, Pair offset, bool sigmoid,
                       int border, const std::string& border_mode, std::array<int, 2> size, const py::object& out) {
    FuseArrays arrays(structural, logical, out, size);
    return arrays.run(
        checked_fuse_spec(arrays.shape[0], arrays.shape[1], scale, offset, sigmoid, border, border_mode, size));
}

py::tuple checked_fuse_places(const py::object& structural, const py::object& logical, const py::object& places,
                              int border, const std::string& border_mode, std::array<int, 2> size,
                              const py::object& out) {
    FuseArrays arrays(structural, logical, out, size);
    arrays.places = float_array(places, "places");
    expect_shape(arrays.places, {2, 2, arrays.shape[0], arrays.shape[1]}, "places");
    return arrays.run(
        checked_fuse_spec(arrays.shape[0], arrays.shape[1], {1, 1}, {0, 0}, false, border, border_mode, size));
}

}  // namespace

void bind_maps(py::module_& m) {
    using namespace py::literals;
    m.def("distance_map", &checked_distance_map, "a"_a, "b"_a, py::kw_only(), "cosine"_a = 0.0f, "out"_a,
          "out[y, x] = mean over c of (a[c, y, x] - b[c, y, x])^2 + cosine * (1 - cos(a[:, y, x], b[:, y, x])).\n\n"
          "Returns how many values of out are not finite. a, b: float32 (C, H, W) or (1, C, H, W); out: float32\n"
          "(H, W); all C-contiguous. cosine: weight of the second term, 0 leaves it out; each norm counts as 1e-8 at\n"
          "least. A NaN or Inf anywhere in a column of channels makes that position non-finite. Raises TypeError for\n"
          "dtype or layout, ValueError for sizes. (EfficientAD, ULSAD, FOD; methods.md 2.6 and 7.2.)");
    m.def("fuse", &checked_fuse, "structural"_a, "logical"_a, py::kw_only(), "scale"_a, "offset"_a, "sigmoid"_a,
          "border"_a, "border_mode"_a, "size"_a, "out"_a = py::none(), "See lad_edge.kernels.fuse.");
    m.def("fuse_places", &checked_fuse_places, "structural"_a, "logical"_a, py::kw_only(), "places"_a, "border"_a,
          "border_mode"_a, "size"_a, "out"_a = py::none(), "See lad_edge.kernels.fuse_places.");
}

}  // namespace lad::bindings
