// Matrices in 16 bits, for products with one or two vectors: what such a product costs is reading the matrix.
//
// Whole numbers times one scale for each row of C values, not half floats: twice as fast to read as float32, on every
// processor with two conversions that it has anyway, and at most 1/65534 of the row's largest value off.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "lad/lanes.hpp"
#include "lad/packs.hpp"

namespace lad {

// `count` matrices, each stored as outputs x inputs of a product, in panels of 16 outputs; zeros behind the last ones.
struct RoundedMatrices {
    static constexpr int step =
        4;  // inputs at a time: as many sums side by side as hide the time that an addition takes

    int outputs = 0, inputs = 0;                                       // padded, to whole lanes and whole steps
    Floats scales;                                                     // (count, rows), rows padded to whole lanes
    std::vector<std::int16_t, AlignedAllocator<std::int16_t>> values;  // (count, outputs / 16, inputs, 16)

    const std::int16_t* of(std::size_t matrix) const { return values.data() + matrix * outputs * inputs; }

    // matrices: (count, rows, columns), finite. A product takes a vector of `columns` values to one value for each row;
    // times the scale of the row that is the product.
    void pack_rows(const float* matrices, std::size_t count, int rows, int columns, std::size_t pitch) {
        resize(count, rows, columns);
        fill(matrices, count, rows, columns, pitch, [&](int row, int column) { return at(row, column); });
    }

    // The same transposed: a product takes a vector of `rows` values, each times the scale of its row, to `columns`
    // values.
    void pack_columns(const float* matrices, std::size_t count, int rows, int columns, std::size_t pitch) {
        resize(count, columns, rows);
        fill(matrices, count, rows, columns, pitch, [&](int row, int column) { return at(column, row); });
    }

    const float* scales_of(std::size_t matrix) const { return scales.data() + matrix * scale_pitch; }

  private:
    std::size_t scale_pitch = 0;

    void resize(std::size_t count, int new_outputs, int new_inputs) {
        outputs = static_cast<int>(whole_lanes(new_outputs));
        inputs = (new_inputs + step - 1) / step * step;
        values.assign(count * outputs * inputs, 0);
    }

    // NaN for a row that is not finite: so is every product with it.
    static double unit_of(const float* row, int columns) {
        if (count_nonfinite(row, columns) != 0) return std::numeric_limits<double>::quiet_NaN();
        float largest = 0;
        for (int i = 0; i < columns; ++i) largest = std::max(largest, std::abs(row[i]));
        return largest / 32767.0;
    }

    std::size_t at(int output, int input) const {
        return (static_cast<std::size_t>(output / lanes) * inputs + input) * lanes + output % lanes;
    }

    template <typename At>
    void fill(const float* matrices, std::size_t count, int rows, int columns, std::size_t pitch, const At& place) {
        scale_pitch = whole_lanes(rows);
        scales.assign(count * scale_pitch, 0.0f);
        for (std::size_t m = 0; m < count; ++m)
            for (int row = 0; row < rows; ++row, matrices += pitch) {
                const double unit = unit_of(matrices, columns);
                scales[m * scale_pitch + row] = static_cast<float>(unit);
                if (!(unit > 0)) continue;
                std::int16_t* to = values.data() + m * outputs * inputs;
                for (int i = 0; i < columns; ++i)
                    to[place(row, i)] = static_cast<std::int16_t>(std::lrint(matrices[i] / unit));
            }
    }
};

// As many numbers of 16 bits as V has floats.
template <typename V>
struct ShortsLike {
    typedef std::int16_t type __attribute__((vector_size(sizeof(V) / 2)));
};

template <typename V>
LAD_INLINE V load(const std::int16_t* from) {
    typename ShortsLike<V>::type numbers;
    std::memcpy(&numbers, from, sizeof(numbers));
    typedef typename VectorLike<std::int32_t, V>::type Integers;
    return __builtin_convertvector(__builtin_convertvector(numbers, Integers), V);
}

// out[l][output] = sum over the inputs of line[l][input] * number, of one matrix. Lines are read, and outs written, to
// the padding of the matrices. Every sum has one order, whatever the vector width: four sums of every fourth input.
template <typename V, int lines>
LAD_INLINE void multiply(const RoundedMatrices& of, std::size_t matrix, const float* const (&line)[lines],
                         float* const (&out)[lines]) {
    constexpr int width = width_of<V>, step = RoundedMatrices::step;
    const std::int16_t* panel = of.of(matrix);
    for (int output = 0; output < of.outputs; output += lanes, panel += of.inputs * lanes)
        for (int column = 0; column < lanes; column += width) {
            V sums[lines][step] = {};
            const std::int16_t* from = panel + column;
            for (int input = 0; input < of.inputs; input += step, from += step * lanes)
#pragma GCC unroll 4
                for (int i = 0; i < step; ++i) {
                    const V numbers = load<V>(from + i * lanes);
#pragma GCC unroll 2
                    for (int l = 0; l < lines; ++l) sums[l][i] += line[l][input + i] * numbers;
                }
#pragma GCC unroll 2
            for (int l = 0; l < lines; ++l)
                store<V>(out[l] + output + column, (sums[l][0] + sums[l][1]) + (sums[l][2] + sums[l][3]));
        }
}

}  // namespace lad
