// How the tables of the books lie on the device, and the tiles that they are padded for.
#pragma once

#include "lad/codebook.hpp"
#include "lines.cuh"

namespace lad::cuda {

constexpr int threads = 256, warps = threads / warp_size;
constexpr int panel = warps * warp_columns;      // entries that a block scores at a time
constexpr int projected_columns = warp_columns;  // values of a token that a block projects
constexpr int projection_steps = warps * steps;  // each warp has its part of the depth

LAD_SHARED float lowest() { return float_of(0xff800000u); }  // -infinity

// A book on the device; offsets in bytes from the beginning of the tables.
struct Quantizer::Book {
    int token_width, width, entries, memory_width;
    int pitch;            // entries, padded to whole panels
    int projected_pitch;  // width, padded likewise
    bool projected;
    SearchRounding rounding;
    std::size_t shift_step, prior_step;  // from one top code to the next; 0 where one row holds for all
    std::size_t projection, shift, codebook, prior, bias, memory;
};

}  // namespace lad::cuda
