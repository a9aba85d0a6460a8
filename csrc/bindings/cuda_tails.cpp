#include <cmath>

#include "cuda_bindings.hpp"

namespace lad::bindings {
namespace {

using TwoBranches = std::array<double, 2>;

constexpr py::ssize_t most_values = py::ssize_t{1} << 30;

// As many values as an int may count, in any shape.
DeviceArray floats(const py::object& object, const std::string& name) {
    DeviceArray a = packed_device_array(object, name, {type_f4});
    const py::ssize_t count = element_count(a.shape);
    require(count > 0 && count <= most_values, name + ": expected 1 to 2^30 values, got shape " + shape_text(a.shape));
    return a;
}

int count_of(const DeviceArray& a) { return static_cast<int>(element_count(a.shape)); }

void expect_count(const DeviceArray& a, int expected, const std::string& name) {
    require(count_of(a) == expected,
            name + ": expected " + std::to_string(expected) + " values, got shape " + shape_text(a.shape));
}

const float* floats_like(const py::object& object, int count, const std::string& name) {
    const DeviceArray a = floats(object, name);
    expect_count(a, count, name);
    return a.as<const float>();
}

float* writable_floats(const py::object& object, int count, const std::string& name) {
    const DeviceArray a = floats(object, name);
    if (a.read_only) throw py::type_error(name + ": expected a writable device array, got a read-only one");
    expect_count(a, count, name);
    return a.as<float>();
}

const TwoBranches& finite(const TwoBranches& values, const std::string& name) {
    require(std::isfinite(values[0]) && std::isfinite(values[1]), name + ": expected finite numbers");
    return values;
}

void checked_take_rows(const py::object& table_object, const py::object& codes_object, const py::object& out_object,
                       std::uintptr_t stream) {
    const DeviceArray table = floats(table_object, "table"),
                      codes = packed_device_array(codes_object, "codes", {type_u2});
    require(table.shape.size() == 2, "table: expected shape (entries, width), got " + shape_text(table.shape));
    require(codes.shape.size() == 1 && codes.shape[0] > 0 && codes.shape[0] * table.shape[1] <= most_values,
            "codes: expected shape (tokens), got " + shape_text(codes.shape));
    const Shape shape{codes.shape[0], table.shape[1]};
    auto* out = writable_device_array(out_object, "out", {type_f4}, shape).as<float>();
    const py::gil_scoped_release unlocked;
    cuda::take_rows(table.as<const float>(), static_cast<int>(table.shape[0]), static_cast<int>(shape[1]),
                    codes.as<const std::uint16_t>(), static_cast<int>(shape[0]), out, stream_of(stream));
}

void checked_modulate(const py::object& error_object, const py::object& divergence_object, bool from_largest,
                      const py::object& out_object, std::uintptr_t stream) {
    const DeviceArray error = floats(error_object, "error");
    const int tokens = count_of(error);
    const float* divergence = floats_like(divergence_object, tokens, "divergence");
    float* out = writable_floats(out_object, tokens, "out");
    const py::gil_scoped_release unlocked;
    cuda::modulate(error.as<const float>(), divergence, tokens, from_largest, out, stream_of(stream));
}

void checked_larger_of_regions(const py::object& fine_object, const py::object& coarse_object,
                               const TwoBranches& scales, const py::object& out_object, std::uintptr_t stream) {
    const DeviceArray fine = floats(fine_object, "fine"), coarse = floats(coarse_object, "coarse");
    require(fine.shape.size() == 2 && fine.shape[0] == fine.shape[1] && fine.shape[0] % 2 == 0,
            "fine: expected shape (side, side), side even, got " + shape_text(fine.shape));
    expect_shape(coarse, {fine.shape[0] / 2, fine.shape[0] / 2}, "coarse");
    finite(scales, "scales");
    float* out = writable_floats(out_object, count_of(fine), "out");
    const py::gil_scoped_release unlocked;
    cuda::larger_of_regions(fine.as<const float>(), coarse.as<const float>(), static_cast<int>(fine.shape[0]),
                            static_cast<float>(scales[0]), static_cast<float>(scales[1]), out, stream_of(stream));
}

void checked_mask_maps(const py::object& distances_object, const py::object& scores_object, int channels,
                       const py::object& means, const py::object& scales, const py::object& shares_object,
                       const py::object& roots, const py::object& heat, const py::object& mean_deviation,
                       std::uintptr_t stream) {
    const DeviceArray distances = floats(distances_object, "distances"), scores = floats(scores_object, "scores");
    const DeviceArray shares = floats(shares_object, "shares");
    const int masks = count_of(scores), tokens = count_of(distances);
    require(channels > 0, "channels: expected 1 or more, got " + std::to_string(channels));
    expect_shape(shares, {masks, tokens}, "shares");
    const cuda::MaskStatistics of{floats_like(means, masks, "means"), floats_like(scales, masks, "scales"),
                                  shares.as<const float>(), masks, tokens};
    float* to_roots = writable_floats(roots, tokens, "roots");
    float* to_heat = writable_floats(heat, tokens, "heat");
    float* to_mean = writable_floats(mean_deviation, 1, "mean_deviation");
    const py::gil_scoped_release unlocked;
    cuda::mask_maps(of, distances.as<const float>(), channels, scores.as<const float>(), to_roots, to_heat, to_mean,
                    stream_of(stream));
}

void checked_join_branches(const py::object& peak_object, const py::object& mean_deviation, const TwoBranches& scale,
                           const TwoBranches& offset, const TwoBranches& drawn_offset, const py::object& scores_object,
                           const py::object& constants, const py::object& most, std::uintptr_t stream) {
    const DeviceArray peak = packed_device_array(peak_object, "peak", {type_f8});
    require(element_count(peak.shape) > 0, "peak: expected one value or more, got shape " + shape_text(peak.shape));
    const float* mean = floats_like(mean_deviation, 1, "mean_deviation");
    finite(scale, "scale"), finite(offset, "offset"), finite(drawn_offset, "drawn_offset");
    const cuda::BranchStandards of{{scale[0], scale[1]}, {offset[0], offset[1]}, {drawn_offset[0], drawn_offset[1]}};
    auto* scores = writable_device_array(scores_object, "scores", {type_f8}, {3}).as<double>();
    float *to_constants = writable_floats(constants, 2, "constants"), *to_most = writable_floats(most, 2, "most");
    const py::gil_scoped_release unlocked;
    cuda::join_branches(of, peak.as<const double>(), mean, scores, to_constants, to_most, stream_of(stream));
}

void checked_larger_capped(const py::object& first_object, const py::object& second, const py::object& most,
                           const py::object& out_object, std::uintptr_t stream) {
    const DeviceArray first = floats(first_object, "first");
    const int count = count_of(first);
    const float *other = floats_like(second, count, "second"), *caps = floats_like(most, 2, "most");
    float* out = writable_floats(out_object, count, "out");
    const py::gil_scoped_release unlocked;
    cuda::larger_capped(first.as<const float>(), other, caps, count, out, stream_of(stream));
}

}  // namespace

void bind_cuda_tails(py::module_& m) {
    using namespace py::literals;
    m.def("take_rows", &checked_take_rows, "table"_a, "codes"_a, py::kw_only(), "out"_a, "stream"_a,
          "As lad_edge.kernels.tails.take_rows. table: float32 (entries, width); codes: uint16 (N,); out: float32\n"
          "(N, width).");
    m.def("modulate", &checked_modulate, "error"_a, "divergence"_a, py::kw_only(), "from_largest"_a, "out"_a,
          "stream"_a, "As lad_edge.kernels.tails.modulate. All arrays float32, with as many values as `error`.");
    m.def("larger_of_regions", &checked_larger_of_regions, "fine"_a, "coarse"_a, py::kw_only(), "scales"_a, "out"_a,
          "stream"_a,
          "As lad_edge.kernels.tails.larger_of_regions. fine, out: float32 (side, side), side even; coarse: float32\n"
          "(side / 2, side / 2).");
    m.def("mask_maps", &checked_mask_maps, "distances"_a, "scores"_a, py::kw_only(), "channels"_a, "means"_a,
          "scales"_a, "shares"_a, "roots"_a, "heat"_a, "mean_deviation"_a, "stream"_a,
          "As lad_edge.kernels.tails.mask_maps. All arrays float32: distances, roots, heat of as many tokens; scores,\n"
          "means, scales of as many masks; shares: (masks, tokens); mean_deviation: one value.");
    m.def("join_branches", &checked_join_branches, "peak"_a, "mean_deviation"_a, py::kw_only(), "scale"_a, "offset"_a,
          "drawn_offset"_a, "scores"_a, "constants"_a, "most"_a, "stream"_a,
          "As lad_edge.kernels.tails.join_branches. peak: float64, its first value, such as a `result` of\n"
          "`project_maps`; mean_deviation: float32, one value; scores: float64 (3,); constants, most: float32 (2,).");
    m.def("larger_capped", &checked_larger_capped, "first"_a, "second"_a, "most"_a, py::kw_only(), "out"_a, "stream"_a,
          "As lad_edge.kernels.tails.larger_capped. All arrays float32: first, second, out with as many values; most\n"
          "(2,).");
}

}  // namespace lad::bindings
