#include "lad/histogram.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "lad/elementary.hpp"
#include "lad/isa.hpp"
#include "lad/lanes.hpp"

namespace lad {
namespace {

// What one call works in; each thread has its own and keeps it.
struct Scratch {
    std::vector<int> tokens;           // masked by the mask at hand
    std::vector<std::int32_t> counts;  // of one level, and zeros behind it
    Floats row;                        // of one level, padded to whole lanes

    void prepare(const MaskedCodes& of) {
        tokens.resize(of.words() * 32);
        counts.assign(whole_lanes(of.entries), 0);
        row.resize(whole_lanes(of.entries));
    }
};

Scratch& scratch_for(const MaskedCodes& of) {
    thread_local Scratch scratch;
    scratch.prepare(of);
    return scratch;
}

int list_tokens(const std::uint32_t* mask, int words, int* tokens) {
    int count = 0;
    for (int w = 0; w < words; ++w)
        for (std::uint32_t left = mask[w]; left != 0; left &= left - 1) tokens[count++] = w * 32 + __builtin_ctz(left);
    return count;
}

template <typename Count>
LAD_INLINE void count_codes(const std::uint16_t* codes, const int* tokens, int n, Count* counts) {
    for (int i = 0; i < n; ++i) ++counts[codes[tokens[i]]];
}

// |P - Q|_1 = 2 - 2 sum min(P, Q), as both sum to 1: where Q is 0 nothing is added, and nothing cancels.
template <typename V>
LAD_INLINE float distance_of_level(const float* logits, int entries, const std::int32_t* counts, float share,
                                   float* __restrict row) {
    const int n = static_cast<int>(whole_lanes(entries));
    const float top = row_max<V>(logits, entries);
    std::copy_n(logits, entries, row);
    std::fill(row + entries, row + n, -std::numeric_limits<float>::max());  // 2^-125 each: too little to be seen
    for (int k = 0; k < n; ++k) row[k] = power_of_two((row[k] - top) * log2_e);
    const float scale = 1.0f / row_sum<V>(row, n);
    for (int k = 0; k < n; ++k) {
        const float predicted = row[k] * scale, counted = static_cast<float>(counts[k]) * share;
        row[k] = predicted < counted ? predicted : counted;
    }
    return 2.0f - 2.0f * row_sum<V>(row, n);
}

template <typename V>
LAD_INLINE std::int64_t score_body(const MaskedCodes& of, Scratch& s, const float* logits, float* out) {
    std::int64_t nonfinite = 0;
    for (int m = 0; m < of.mask_count; ++m) {
        const int masked =
            list_tokens(of.masks + static_cast<std::size_t>(m) * of.words(), of.words(), s.tokens.data());
        const float share = 1.0f / static_cast<float>(masked);
        std::int64_t bad = 0;
        float sum = 0;
        for (int l = 0; l < of.levels; ++l, logits += of.entries) {
            bad += count_nonfinite(logits, of.entries);
            std::fill(s.counts.begin(), s.counts.end(), 0);
            count_codes(of.codes + static_cast<std::size_t>(l) * of.tokens, s.tokens.data(), masked, s.counts.data());
            sum += distance_of_level<V>(logits, of.entries, s.counts.data(), share, s.row.data());
        }
        out[m] = bad == 0 ? sum : std::numeric_limits<float>::quiet_NaN();
        nonfinite += bad;
    }
    return nonfinite;
}

// ---- one version per instruction set

using Score = std::int64_t (*)(const MaskedCodes&, Scratch&, const float*, float*);

std::int64_t score_portable(const MaskedCodes& of, Scratch& s, const float* logits, float* out) {
    return score_body<Float4>(of, s, logits, out);
}

#if LAD_HAS_X86
LAD_TARGET_AVX2 std::int64_t score_avx2(const MaskedCodes& of, Scratch& s, const float* logits, float* out) {
    return score_body<Float8>(of, s, logits, out);
}

LAD_TARGET_AVX512 std::int64_t score_avx512(const MaskedCodes& of, Scratch& s, const float* logits, float* out) {
    return score_body<Float16>(of, s, logits, out);
}

constexpr Score versions[isa_count] = {score_portable, score_avx2, score_avx512};
#else
constexpr Score versions[isa_count] = {score_portable, score_portable, score_portable};
#endif

}  // namespace

void masked_histograms(const MaskedCodes& of, std::uint16_t* out) {
    Scratch& s = scratch_for(of);
    std::fill_n(out, static_cast<std::size_t>(of.mask_count) * of.levels * of.entries, std::uint16_t{0});
    for (int m = 0; m < of.mask_count; ++m) {
        const int masked =
            list_tokens(of.masks + static_cast<std::size_t>(m) * of.words(), of.words(), s.tokens.data());
        for (int l = 0; l < of.levels; ++l, out += of.entries)
            count_codes(of.codes + static_cast<std::size_t>(l) * of.tokens, s.tokens.data(), masked, out);
    }
}

std::int64_t masked_histogram_score(const MaskedCodes& of, const float* logits, float* out) {
    return versions[static_cast<int>(active_isa())](of, scratch_for(of), logits, out);
}

}  // namespace lad
