// The tables of a codebook, as the CPU and the CUDA quantiser are given them.
#pragma once

namespace lad {

// Score of entry j for token e under the top code i: (projection e + shift[i]) . entries[j] + bias[i, j].
// A table of one row holds for every top code. All float32, row-major, packed; copied by the Quantizer.
struct CodebookView {
    int token_width, width, entries;  // D, dq, K
    const float* projection;          // (dq, D), or null: identity, and dq = D
    const float* shift;               // (shift_rows, dq)
    const float* codebook;            // (K, dq)
    const float* bias;                // (bias_rows, K)
    const float* memory;              // (K, memory_width), or null
    int shift_rows, bias_rows, memory_width;
};

}  // namespace lad
