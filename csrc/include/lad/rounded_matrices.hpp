// Matrices in 16 bits, for products with one or two vectors: what such a product costs is reading the matrix.
//
// Whole numbers times a scale for each row, not half floats: at most 1/65534 of the row's largest value off, and shifts
// and conversions that every processor has make floats of them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "lad/lanes.hpp"
#include "lad/packs.hpp"
#include "lad/rounding.hpp"

namespace lad {

// `count` matrices, each as a product reads it: panels of 16 outputs, zeros behind the last ones, and in a panel one
// input after the other. Two of them share a word of 32 bits, the first one below.
struct RoundedMatrices {
    static constexpr int step = 4;  // inputs at a time, a sum for each: meanwhile the processor adds to the others

    int outputs = 0, inputs = 0;  // padded, to whole lanes and whole steps
    int scale_pitch = 0;
    Floats scales;                                                      // (count, scale_pitch): of the rows
    std::vector<std::uint32_t, AlignedAllocator<std::uint32_t>> words;  // (count, outputs / 16, inputs / 2, 16)

    std::size_t words_of_one() const { return static_cast<std::size_t>(outputs) * inputs / 2; }
    const std::uint32_t* of(std::size_t matrix) const { return words.data() + matrix * words_of_one(); }
    const float* scales_of(std::size_t matrix) const { return scales.data() + matrix * scale_pitch; }

    // matrices: (count, rows, columns), rows `pitch` values apart. A product makes a value for each row of a vector of
    // `columns` values; times the scale of its row it is the product with the matrix.
    void pack_rows(const float* matrices, std::size_t count, int rows, int columns, std::size_t pitch) {
        resize(count, rows, columns, rows);
        round(matrices, count, rows, columns, pitch, [&](int row, int i) { return std::pair(row, i); });
    }

    // The same transposed: a product makes `columns` values of a vector with a value for each row, times its scale.
    void pack_columns(const float* matrices, std::size_t count, int rows, int columns, std::size_t pitch) {
        resize(count, columns, rows, rows);
        round(matrices, count, rows, columns, pitch, [&](int row, int i) { return std::pair(i, row); });
    }

  private:
    void resize(std::size_t count, int new_outputs, int new_inputs, int rows) {
        outputs = static_cast<int>(whole_lanes(new_outputs));
        inputs = (new_inputs + step - 1) / step * step;
        words.assign(count * words_of_one(), 0);
        scale_pitch = static_cast<int>(whole_lanes(rows));
        scales.assign(count * scale_pitch, 0.0f);
    }

    // output_and_input: of value i of a row.
    template <typename Place>
    void round(const float* values, std::size_t count, int rows, int columns, std::size_t pitch,
               const Place& output_and_input) {
        for (std::size_t m = 0; m < count; ++m)
            for (int row = 0; row < rows; ++row, values += pitch) {
                const double unit = rounding_unit(values, columns);
                scales[m * scale_pitch + row] = static_cast<float>(unit);
                if (!(unit > 0)) continue;
                for (int i = 0; i < columns; ++i) {
                    const auto [output, input] = output_and_input(row, i);
                    const auto bits = static_cast<std::uint16_t>(std::lrint(values[i] / unit));
                    word(m, output, input) |= std::uint32_t{bits} << (input % 2 * 16);
                }
            }
    }

    std::uint32_t& word(std::size_t matrix, int output, int input) {
        const int row = output / lanes * (inputs / 2) + input / 2;
        return words[matrix * words_of_one() + row * lanes + output % lanes];
    }
};

// The numbers of two inputs, for as many outputs as V has floats.
template <typename V>
struct InputPair {
    V first, second;

    explicit LAD_INLINE InputPair(const std::uint32_t* from) {
        typename VectorLike<std::uint32_t, V>::type pairs;
        typedef typename VectorLike<std::int32_t, V>::type Signed;
        std::memcpy(&pairs, from, sizeof(pairs));
        first = __builtin_convertvector(reinterpret_cast<Signed>(pairs << 16) >> 16, V);
        second = __builtin_convertvector(reinterpret_cast<Signed>(pairs) >> 16, V);
    }
};

// out[l][output] = sum over the inputs of line[l][input] * number, of one matrix. Lines are read, and outs written, to
// the padding of the matrices. The order is one for every vector width: four sums, each of every fourth input.
template <typename V, int lines>
LAD_INLINE void multiply(const RoundedMatrices& of, std::size_t matrix, const float* const (&line)[lines],
                         float* const (&out)[lines]) {
    constexpr int width = width_of<V>, step = RoundedMatrices::step;
    const std::uint32_t* panel = of.of(matrix);
    for (int output = 0; output < of.outputs; output += lanes, panel += of.inputs / 2 * lanes)
        for (int column = 0; column < lanes; column += width) {
            V sums[lines][step] = {};
            const std::uint32_t* from = panel + column;
            for (int input = 0; input < of.inputs; input += step, from += step / 2 * lanes)
#pragma GCC unroll 2
                for (int i = 0; i < step; i += 2) {
                    const InputPair<V> numbers(from + i / 2 * lanes);
#pragma GCC unroll 2
                    for (int l = 0; l < lines; ++l) {
                        sums[l][i] += line[l][input + i] * numbers.first;
                        sums[l][i + 1] += line[l][input + i + 1] * numbers.second;
                    }
                }
#pragma GCC unroll 2
            for (int l = 0; l < lines; ++l)
                store<V>(out[l] + output + column, (sums[l][0] + sums[l][1]) + (sums[l][2] + sums[l][3]));
        }
}

}  // namespace lad
