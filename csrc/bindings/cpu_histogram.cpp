#include <algorithm>

#include "bindings.hpp"
#include "lad/histogram.hpp"

namespace lad::bindings {
namespace {

constexpr py::ssize_t max_count = 65535;  // what a uint16 can hold

void expect_codes_below(const MaskedCodes& of) {
    const std::size_t n = static_cast<std::size_t>(of.levels) * of.tokens;
    std::uint16_t largest = 0;
    for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, of.codes[i]);
    require(largest < of.entries,
            "codes: expected codes below " + std::to_string(of.entries) + ", got " + std::to_string(largest));
}

// No mask is empty, and no bit is set behind the last token.
void expect_masks(const MaskedCodes& of) {
    const std::uint32_t behind = of.tokens % 32 == 0 ? 0u : ~0u << (of.tokens % 32);
    for (int m = 0; m < of.mask_count; ++m) {
        const std::uint32_t* mask = of.masks + static_cast<std::size_t>(m) * of.words();
        require((mask[of.words() - 1] & behind) == 0,
                "masks: mask " + std::to_string(m) + " has bits behind the last token; expected those of pack_masks");
        require(std::any_of(mask, mask + of.words(), [](std::uint32_t word) { return word != 0; }),
                "masks: expected at least one masked token in each, got none in mask " + std::to_string(m));
    }
}

MaskedCodes checked_masked_codes(const py::array& codes, const py::array& masks, py::ssize_t entries) {
    require(codes.ndim() == 2 && codes.shape(0) > 0 && codes.shape(0) <= max_side && codes.shape(1) > 0 &&
                codes.shape(1) <= max_count,
            "codes: expected shape (levels, tokens) with 1 to 65535 tokens, got " + text_of(codes.attr("shape")));
    require(masks.ndim() == 2 && masks.shape(0) > 0 && masks.shape(0) <= max_side &&
                masks.shape(1) == (codes.shape(1) + 31) / 32,
            "masks: expected shape (masks, " + std::to_string((codes.shape(1) + 31) / 32) + ") for " +
                std::to_string(codes.shape(1)) + " tokens, got " + text_of(masks.attr("shape")));
    require(entries > 0 && entries <= max_count, "expected 1 to 65535 entries, got " + std::to_string(entries));
    const MaskedCodes of{data_of<std::uint16_t>(codes),    data_of<std::uint32_t>(masks),
                         static_cast<int>(codes.shape(0)), static_cast<int>(codes.shape(1)),
                         static_cast<int>(masks.shape(0)), static_cast<int>(entries)};
    expect_codes_below(of);
    expect_masks(of);
    return of;
}

void checked_masked_histograms(const py::object& codes_object, const py::object& masks_object, py::ssize_t entries,
                               const py::object& out_object) {
    const py::array codes = packed_array<std::uint16_t>(codes_object, "codes");
    const py::array masks = packed_array<std::uint32_t>(masks_object, "masks");
    py::array out = writable_array<std::uint16_t>(out_object, "out");
    const MaskedCodes of = checked_masked_codes(codes, masks, entries);
    expect_shape(out, {of.mask_count, of.levels, of.entries}, "out");
    auto* to = static_cast<std::uint16_t*>(out.mutable_data());
    const py::gil_scoped_release unlocked;
    masked_histograms(of, to);
}

std::int64_t checked_masked_histogram_score(const py::object& codes_object, const py::object& masks_object,
                                            const py::object& logits_object, const py::object& out_object) {
    const py::array codes = packed_array<std::uint16_t>(codes_object, "codes");
    const py::array masks = packed_array<std::uint32_t>(masks_object, "masks");
    const py::array logits = float_array(logits_object, "logits");
    py::array out = writable_float_array(out_object, "out");
    require(logits.ndim() == 3,
            "logits: expected shape (masks, levels, entries), got " + text_of(logits.attr("shape")));
    const MaskedCodes of = checked_masked_codes(codes, masks, logits.shape(2));
    expect_shape(logits, {of.mask_count, of.levels, of.entries}, "logits");
    expect_shape(out, {of.mask_count}, "out");
    const auto* from = data_of<float>(logits);
    auto* to = static_cast<float*>(out.mutable_data());
    const py::gil_scoped_release unlocked;
    return masked_histogram_score(of, from, to);
}

}  // namespace

void bind_histogram(py::module_& m) {
    using namespace py::literals;
    m.def("masked_histograms", &checked_masked_histograms, "codes"_a, "masks"_a, "entries"_a, "out"_a,
          "out[m, l, k] = how many tokens that mask m covers have the code k at level l.\n\n"
          "codes: uint16 (levels, tokens), below entries. masks: uint32 (masks, words), of pack_masks, none empty.\n"
          "entries: K, size of each codebook. out: uint16 (masks, levels, K), overwritten. All C-contiguous. Raises\n"
          "TypeError for dtype or layout, ValueError for sizes, codes and masks. (LADMIM, methods.md 7.3.)");
    m.def("masked_histogram_score", &checked_masked_histogram_score, "codes"_a, "masks"_a, "logits"_a, "out"_a,
          "out[m] = sum over levels of |softmax(logits[m, l]) - histogram of the codes that mask m covers|_1.\n\n"
          "Returns how many logits are not finite; out is NaN for their masks. codes: uint16 (levels, tokens), below\n"
          "K. masks: uint32 (masks, words), of pack_masks, none empty. logits: float32 (masks, levels, K). out:\n"
          "float32 (masks,), from 0 to 2 * levels. All C-contiguous. Raises TypeError for dtype or layout, ValueError\n"
          "for sizes, codes and masks. (LADMIM, methods.md 6.5 and 7.3.)");
}

}  // namespace lad::bindings
