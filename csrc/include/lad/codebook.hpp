// The tables of a codebook, as the CPU and the CUDA quantiser are given them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

namespace lad {

// Under the top code i, token e takes the entry j with the highest -|x - codebook[j]|^2 / 2 + prior[i, j], where
// x = projection e + shift[i]. A shift of one row holds for every top code. All float32, row-major, packed; copied by
// the Quantizer.
struct CodebookView {
    int token_width, width, entries;  // D, dq, K
    const float* projection;          // (dq, D), or null: identity, and dq = D
    const float* shift;               // (shift_rows, dq)
    const float* codebook;            // (K, dq)
    const float* prior;               // (prior_rows, K), or null: zeros
    const float* memory;              // (K, memory_width), or null
    int shift_rows, prior_rows, memory_width;
};

inline double square_of_entry(const CodebookView& of, std::size_t j) {
    const float* entry = of.codebook + j * of.width;
    return std::inner_product(entry, entry + of.width, entry, 0.0);
}

// The search multiplies: the highest x . codebook[j] + bias[i, j] is the highest score of above, but for rounding.
inline std::vector<float> search_bias(const CodebookView& of) {
    const std::size_t entries = of.entries, rows = of.prior ? of.prior_rows : 1;
    std::vector<float> bias(rows * entries);
    for (std::size_t j = 0; j < entries; ++j) {
        const double square = square_of_entry(of, j);
        for (std::size_t at = j; at < bias.size(); at += entries)
            bias[at] = static_cast<float>((of.prior ? of.prior[at] : 0.0) - 0.5 * square);
    }
    return bias;
}

// Two products of a token of length |x| that are closer than `each * |x| + always` may be in the wrong order: twice the
// bound on the error of a sum of `width` rounded products (Higham, Accuracy and Stability, 3.1) and of adding the bias.
struct SearchRounding {
    float each, always;
};

inline SearchRounding search_rounding(const CodebookView& of) {
    constexpr double unit = std::numeric_limits<float>::epsilon() / 2;
    double longest = 0, highest = 0;
    for (int j = 0; j < of.entries; ++j) longest = std::max(longest, std::sqrt(square_of_entry(of, j)));
    for (const float value : search_bias(of)) highest = std::max(highest, std::abs(double{value}));
    return {static_cast<float>(2 * unit * (of.width + 2) * longest), static_cast<float>(4 * unit * highest)};
}

}  // namespace lad
