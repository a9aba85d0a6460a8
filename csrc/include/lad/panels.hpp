// Products of a few lines with many rows, results in registers: what the codebook search and the correlations share.
//
// Every product is summed over the depth in order and in float32, one multiplication and one addition at a time: the
// same bits for every vector width and every grouping of lines.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "lad/lanes.hpp"

namespace lad {

// A matrix (rows, depth), transposed in panels of 64 rows, so that vectors run over the rows; zeros behind the last.
struct Panels {
    static constexpr int width = 64;

    int count = 0, depth = 0;
    Floats values;  // (count, depth, width)

    // matrix: rows `pitch` values apart; each value times `factor`. Allocates only when it grows.
    void pack(const float* matrix, int rows, int new_depth, std::size_t pitch, float factor = 1.0f) {
        count = (rows + width - 1) / width, depth = new_depth;
        values.assign(static_cast<std::size_t>(count) * width * depth, 0.0f);
        for (int row = 0; row < rows; ++row) {
            const float* from = matrix + row * pitch;
            float* to = values.data() + static_cast<std::size_t>(row / width) * depth * width + row % width;
            for (int d = 0; d < new_depth; ++d) to[static_cast<std::size_t>(d) * width] = factor * from[d];
        }
    }

    const float* of(int panel) const { return values.data() + static_cast<std::size_t>(panel) * depth * width; }
    int padded_rows() const { return count * width; }
};

constexpr int lines_at_once = 6;

// Vectors of products that one line holds in registers: 6 x 4 of the 32 registers of AVX-512, else 6 x 2 of 16.
template <typename V>
inline constexpr int vectors_at_once = width_of<V> == 16 ? 4 : 2;

// For each of 6 lines and each group of columns of one panel: take(line, column, products), where products is an array
// of vectors_at_once<V> vectors, the products of the line with the rows from `column` of the panel on.
template <typename V, typename Take>
LAD_INLINE void multiply(const float* const* lines, const float* panel, int depth, const Take& take) {
    constexpr int width = width_of<V>, vectors = vectors_at_once<V>;
    const float* line[lines_at_once];
    std::copy_n(lines, lines_at_once, line);
    for (int column = 0; column < Panels::width; column += vectors * width) {
        V sums[lines_at_once][vectors] = {};
        const float* row = panel + column;
        for (int d = 0; d < depth; ++d, row += Panels::width) {
            V right[vectors];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) right[v] = load<V>(row + v * width);
#pragma GCC unroll 6
            for (int t = 0; t < lines_at_once; ++t)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; ++v) sums[t][v] += line[t][d] * right[v];
        }
#pragma GCC unroll 6
        for (int t = 0; t < lines_at_once; ++t) take(t, column, sums[t]);
    }
}

}  // namespace lad
