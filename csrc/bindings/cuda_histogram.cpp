#include "cuda_bindings.hpp"

namespace lad::bindings {
namespace {

constexpr py::ssize_t max_count = 65535;  // what a uint16 can hold

MaskedCodes checked_masked_codes(const DeviceArray& codes, const DeviceArray& masks, py::ssize_t entries) {
    require(codes.shape.size() == 2 && codes.shape[0] > 0 && codes.shape[0] <= max_side && codes.shape[1] > 0 &&
                codes.shape[1] <= max_count,
            "codes: expected shape (levels, tokens) with 1 to 65535 tokens, got " + shape_text(codes.shape));
    const py::ssize_t words = (codes.shape[1] + 31) / 32;
    require(masks.shape.size() == 2 && masks.shape[0] > 0 && masks.shape[0] <= max_side && masks.shape[1] == words,
            "masks: expected shape (masks, " + std::to_string(words) + ") for " + std::to_string(codes.shape[1]) +
                " tokens, got " + shape_text(masks.shape));
    require(entries > 0 && entries <= max_count, "expected 1 to 65535 entries, got " + std::to_string(entries));
    return {codes.as<const std::uint16_t>(),  masks.as<const std::uint32_t>(),  static_cast<int>(codes.shape[0]),
            static_cast<int>(codes.shape[1]), static_cast<int>(masks.shape[0]), static_cast<int>(entries)};
}

void checked_masked_histograms(const py::object& codes, const py::object& masks, py::ssize_t entries,
                               const py::object& out_object, std::uintptr_t stream) {
    const MaskedCodes of = checked_masked_codes(packed_device_array(codes, "codes", {type_u2}),
                                                packed_device_array(masks, "masks", {type_u4}), entries);
    auto* out =
        writable_device_array(out_object, "out", {type_u2}, {of.mask_count, of.levels, of.entries}).as<std::uint16_t>();
    const py::gil_scoped_release unlocked;
    cuda::masked_histograms(of, out, stream_of(stream));
}

void checked_masked_histogram_score(const py::object& codes, const py::object& masks, const py::object& logits_object,
                                    const py::object& out_object, const py::object& nonfinite, std::uintptr_t stream) {
    const DeviceArray logits = packed_device_array(logits_object, "logits", {type_f4, type_f2});
    require(logits.shape.size() == 3,
            "logits: expected shape (masks, levels, entries), got " + shape_text(logits.shape));
    const MaskedCodes of = checked_masked_codes(packed_device_array(codes, "codes", {type_u2}),
                                                packed_device_array(masks, "masks", {type_u4}), logits.shape[2]);
    expect_shape(logits, {of.mask_count, of.levels, of.entries}, "logits");
    auto* out = writable_device_array(out_object, "out", {type_f4}, {of.mask_count}).as<float>();
    std::int64_t* to = counter(nonfinite);
    const py::gil_scoped_release unlocked;
    cuda::masked_histogram_score(of, const_values(logits), out, to, stream_of(stream));
}

}  // namespace

void bind_cuda_histogram(py::module_& m) {
    using namespace py::literals;
    m.def("masked_histograms", &checked_masked_histograms, "codes"_a, "masks"_a, "entries"_a, "out"_a, py::kw_only(),
          "stream"_a,
          "As lad_edge.kernels.masked_histograms.\n\n"
          "codes: uint16 (levels, tokens); those of entries or more are left out. masks: uint32 (masks, words), of\n"
          "pack_masks; out: uint16 (masks, levels, entries).");
    m.def("masked_histogram_score", &checked_masked_histogram_score, "codes"_a, "masks"_a, "logits"_a, "out"_a,
          py::kw_only(), "nonfinite"_a, "stream"_a,
          "As lad_edge.kernels.masked_histogram_score.\n\n"
          "codes, masks: as for `masked_histograms`; an empty mask makes NaN. logits: float32 or float16 (masks, "
          "levels,\n"
          "entries); out: float32 (masks,), NaN for masks with logits that are not finite.");
}

}  // namespace lad::bindings
