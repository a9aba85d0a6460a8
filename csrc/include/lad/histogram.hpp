// Histograms of codes under masks, and how far predicted ones are from them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lad/elementary.hpp"

namespace lad {

struct MaskedCodes {
    const std::uint16_t* codes;  // (levels, tokens), below `entries`
    const std::uint32_t* masks;  // (mask_count, words()): bit n % 32 of word n / 32 says that token n is masked
    int levels, tokens, mask_count;
    int entries;  // of each codebook

    LAD_SHARED int words() const { return (tokens + 31) / 32; }
};

// out[m, l, k]: how many tokens masked by m have the code k at level l; (mask_count, levels, entries). At most 65535
// tokens. Each thread keeps a scratch of its own: the steady state allocates nothing, here and below.
void masked_histograms(const MaskedCodes& of, std::uint16_t* out);

// out[m] = sum over l of | softmax(logits[m, l]) - counts[m, l] / (masked tokens of m) |_1, from 0 to 2 * levels;
// logits: (mask_count, levels, entries), out: (mask_count). No mask may be empty. Returns how many logits are not
// finite; out is NaN for their masks.
std::int64_t masked_histogram_score(const MaskedCodes& of, const float* logits, float* out);

}  // namespace lad
