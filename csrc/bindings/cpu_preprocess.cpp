#include <atomic>

#include "bindings.hpp"
#include "preprocess_spec.hpp"

namespace lad::bindings {
namespace {

// One call at a time: the plan's row buffer is shared, and the GIL is not held while it is in use.
class Turn {
  public:
    explicit Turn(std::atomic_flag& busy) : busy_(busy) {
        if (busy_.test_and_set(std::memory_order_acquire))
            throw std::runtime_error("Preprocess: this plan is running in another thread; make one plan per thread");
    }
    ~Turn() { busy_.clear(std::memory_order_release); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

  private:
    std::atomic_flag& busy_;
};

struct Plan {
    explicit Plan(const PreprocessSpec& spec) : kernel(spec) {}
    Preprocess kernel;
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
};

py::array checked_image(const py::handle& object, const PreprocessSpec& spec) {
    const py::array image = as_array(object, "image");
    if (!py::isinstance<py::array_t<std::uint8_t>>(image))
        throw py::type_error("image: expected uint8, got " + describe(image));
    const bool channel_axis = image.ndim() == 3;
    const bool shape_ok = (channel_axis || (image.ndim() == 2 && spec.channels == 1)) &&
                          image.shape(0) == spec.source_height && image.shape(1) == spec.source_width &&
                          (!channel_axis || image.shape(2) == spec.channels);
    require(shape_ok, "image: expected shape " + shape_text({spec.source_height, spec.source_width, spec.channels}) +
                          ", got " + text_of(image.attr("shape")));
    const bool packed_pixels =
        (spec.source_width == 1 || image.strides(1) == spec.channels) && (spec.channels == 1 || image.strides(2) == 1);
    if (!packed_pixels)
        throw py::type_error("image: expected rows of packed pixels (any row pitch), got " + describe(image) +
                             "; use numpy.ascontiguousarray(image)");
    return image;
}

void run_plan(Plan& plan, const py::object& image_object, const py::object& out_object) {
    const PreprocessSpec& spec = plan.kernel.spec();
    const py::array image = checked_image(image_object, spec);
    py::array out = writable_float_array(out_object, "out");
    expect_shape(out, {3, spec.height, spec.width}, "out");
    const auto* from = static_cast<const std::uint8_t*>(image.data());
    auto* to = static_cast<float*>(out.mutable_data());
    const std::ptrdiff_t pitch = image.strides(0);
    const Turn turn(plan.busy);
    const py::gil_scoped_release unlocked;
    plan.kernel.run(from, pitch, to);
}

}  // namespace

void bind_preprocess(py::module_& m) {
    using namespace py::literals;
    py::class_<Plan>(
        m, "Preprocess",
        "Camera image to network input: crop, antialiased bilinear resize, normalise, in one pass.\n\n"
        "source_shape: (H, W, C) or (H, W) of the images, C 1 or 3. size: (h, w) of the network input. roi:\n"
        "(x, y, w, h) in source pixels; the resize sees nothing outside it. swap_rb: True turns BGR into RGB\n"
        "(or back). mean, std: per network channel on the 0..1 scale. The filter is that of Pillow and\n"
        "torchvision (antialias=True): a triangle widened by max(1, scale), here without rounding to bytes\n"
        "between the two axes. Raises ValueError for sizes that cannot be.\n\n"
        "A plan serves one thread at a time and allocates nothing per call.")
        .def(py::init([](const std::vector<int>& source_shape, std::array<int, 2> size,
                         const std::optional<std::array<int, 4>>& roi, bool swap_rb, std::array<double, 3> mean,
                         std::array<double, 3> std) {
                 return std::make_unique<Plan>(checked_preprocess_spec(source_shape, size, roi, swap_rb, mean, std));
             }),
             "source_shape"_a, "size"_a, py::kw_only(), "roi"_a = py::none(), "swap_rb"_a, "mean"_a, "std"_a)
        .def(
            "__call__", &run_plan, "image"_a, "out"_a,
            "image: uint8 (H, W, C), or (H, W) for one channel; pixels packed, rows at any pitch, so views of a "
            "larger\n"
            "image are fine. out: float32 (3, h, w) or (1, 3, h, w), C-contiguous, overwritten; one source channel "
            "fills\n"
            "all three. Raises TypeError for dtype or layout, ValueError for sizes, RuntimeError when two threads use\n"
            "one plan at once.")
        .def_property_readonly("source_shape",
                               [](const Plan& plan) {
                                   const PreprocessSpec& s = plan.kernel.spec();
                                   return std::array<int, 3>{s.source_height, s.source_width, s.channels};
                               })
        .def_property_readonly("size", [](const Plan& plan) {
            return std::array<int, 2>{plan.kernel.spec().height, plan.kernel.spec().width};
        });
}

}  // namespace lad::bindings
