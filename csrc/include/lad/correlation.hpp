// How far the correlations of tokens with reference tokens are from those of plain neighbourhood.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lad/elementary.hpp"

namespace lad {

struct CorrelationSpec {
    int side;   // the tokens are a grid of side x side, row by row
    int width;  // d: values of a token, `heads` groups of d / heads
    int heads;
    float weight;  // of this layer

    LAD_SHARED int tokens() const { return side * side; }
    LAD_SHARED int head_width() const { return width / heads; }
};

// out[i] += weight * mean over heads of sum over j of (T_ij - S_ij) (log(T_ij + 1e-4) - log(S_ij + 1e-4)), where
// S_i = softmax over j of query_i . key_j / sqrt(d / heads), and T_i is a Gaussian around token i of the grid with
// sigma_1 cells down and sigma_2 across, normalised to sum 1 over the grid: an outer product of two rows of `side`.
// queries, keys: (tokens, d); sigmas: (tokens, 2 heads): sigma_1, sigma_2 of head 0, then of head 1, ...; out:
// (tokens). Returns how many values of queries, keys and sigmas are not finite, sigmas that are not positive included;
// if none, how many values of out. Each thread keeps a scratch of its own: the steady state allocates nothing.
std::int64_t symmetric_kl(const CorrelationSpec& spec, const float* queries, const float* keys, const float* sigmas,
                          float* out);

}  // namespace lad
