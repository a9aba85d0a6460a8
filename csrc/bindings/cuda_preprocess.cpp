#include "cuda_bindings.hpp"
#include "cuda_plan.hpp"
#include "preprocess_spec.hpp"

namespace lad::bindings {
namespace {

using Plan = CudaPlan<cuda::Preprocess>;

// Rows of packed pixels at any pitch.
DeviceArray checked_image(const py::object& object, const PreprocessSpec& spec) {
    const DeviceArray image = device_array(object, "image", {type_u1});
    const Shape deep{spec.source_height, spec.source_width, spec.channels}, flat{deep[0], deep[1]};
    require(image.shape == deep || (spec.channels == 1 && image.shape == flat),
            "image: expected shape " + shape_text(deep) + ", got " + shape_text(image.shape));
    const bool packed_pixels =
        (spec.source_width == 1 || image.strides[1] == spec.channels) && (spec.channels == 1 || image.strides[2] == 1);
    if (!packed_pixels)
        throw py::type_error("image: expected rows of packed pixels (any row pitch), got " + image.text());
    return image;
}

void run_plan(const Plan& plan, const py::object& image_object, const py::object& out_object, std::uintptr_t stream) {
    const PreprocessSpec& spec = plan.kernel.spec();
    const DeviceArray image = checked_image(image_object, spec);
    const DeviceArray out = writable_device_array(out_object, "out", {type_f4, type_f2}, {3, spec.height, spec.width});
    const void* tables = plan.tables();
    const py::gil_scoped_release unlocked;
    plan.kernel.run(image.as<const std::uint8_t>(), image.strides[0], tables, values(out), stream_of(stream));
}

}  // namespace

void bind_cuda_preprocess(py::module_& m) {
    using namespace py::literals;
    bind_plan<cuda::Preprocess>(m, "Preprocess", "As lad_edge.kernels.Preprocess: the same taps, in another order.")
        .def(py::init([](const std::vector<int>& source_shape, std::array<int, 2> size,
                         const std::optional<std::array<int, 4>>& roi, bool swap_rb, std::array<double, 3> mean,
                         std::array<double, 3> std) {
                 return std::make_unique<Plan>(
                     cuda::Preprocess(checked_preprocess_spec(source_shape, size, roi, swap_rb, mean, std)));
             }),
             "source_shape"_a, "size"_a, py::kw_only(), "roi"_a = py::none(), "swap_rb"_a, "mean"_a, "std"_a)
        .def("__call__", &run_plan, "image"_a, "out"_a, py::kw_only(), "stream"_a,
             "image: uint8 (H, W, C), or (H, W) for one channel; pixels packed, rows at any pitch: fastest where the\n"
             "first row begins at a multiple of 4 bytes and the pitch is one. out: float32 or float16 (3, h, w).");
}

}  // namespace lad::bindings
