// Exact quantiles of any number of float32 values.
#pragma once

#include <cstddef>
#include <vector>

namespace lad {

struct Chunk {
    const float* values;
    std::size_t count;
};

// Order statistics at q * (n - 1) of all chunks together, linearly interpolated, as numpy's default. A radix histogram
// over the float bits: two passes over the data for up to 64 distinct groups of 2^16 neighbouring floats, one more for
// each further 64; memory does not depend on n. Returns false if a value is NaN; q in [0, 1] and n >= 1 are assumed.
bool quantiles(const std::vector<Chunk>& chunks, const std::vector<double>& q, double* out);

}  // namespace lad
