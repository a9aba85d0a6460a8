// The tables of a masked ridge: rows padded to pairs, predictions whitened, the mean of each region's cells behind
// them.
#include <algorithm>
#include <cmath>
#include <vector>

#include "lad/rounding.hpp"
#include "masked_ridge.cuh"

namespace lad::cuda {
namespace {

using RoundedRows = MaskedRidge::RoundedRows;

std::vector<float> padded_rows(const float* rows, std::size_t count, int columns, int pitch) {
    std::vector<float> out(count * pitch, 0.0f);
    for (std::size_t row = 0; row < count; ++row) std::copy_n(rows + row * columns, columns, out.data() + row * pitch);
    return out;
}

RoundedRows add_rounded(const std::vector<float>& rows, int pitch, Tables& tables) {
    std::vector<Rounded> values(rows.size(), 0);
    std::vector<float> scales(rows.size() / pitch);
    for (std::size_t row = 0; row < scales.size(); ++row) {
        const float* from = rows.data() + row * pitch;
        const double unit = rounding_unit(from, pitch);
        scales[row] = static_cast<float>(unit);
        if (!(unit > 0)) continue;
        for (int i = 0; i < pitch; ++i) values[row * pitch + i] = static_cast<Rounded>(std::lrint(from[i] / unit));
    }
    return {tables.add(values), tables.add(scales)};
}

// From (regions, 4, C) to (regions, C, 4).
std::vector<float> by_channel(const RidgeView& view) {
    const std::size_t channels = view.channels;
    std::vector<float> out(view.regions() * channels * cells_of_region);
    for (std::size_t i = 0; i < out.size(); ++i) {
        const std::size_t k = i % cells_of_region, c = i / cells_of_region % channels;
        const std::size_t region = i / cells_of_region / channels;
        out[i] = view.mean[(region * cells_of_region + k) * channels + c];
    }
    return out;
}

// Of (regions, 4, r, C): in white coordinates, and behind the four of each region their mean.
std::vector<float> white_predictions(const RidgeView& view, const std::vector<float>& whitening, int pitch) {
    const std::size_t matrix = static_cast<std::size_t>(view.context_width) * pitch;
    std::vector<float> out(view.regions() * lines_of_region * matrix, 0.0f);
    const float* from = view.prediction;
    for (std::size_t region = 0; region < view.regions(); ++region) {
        float* cells = out.data() + region * lines_of_region * matrix;
        for (float* row = cells; row != cells + cells_of_region * matrix; row += pitch, from += view.channels)
            for (int c = 0; c < view.channels; ++c)
                for (int j = 0; j < pitch; ++j) row[j] += from[c] * whitening[static_cast<std::size_t>(c) * pitch + j];
        for (std::size_t i = 0; i < matrix; ++i)
            cells[cells_of_region * matrix + i] =
                ((cells[i] + cells[matrix + i]) + (cells[2 * matrix + i] + cells[3 * matrix + i])) * 0.25f;
    }
    return out;
}

// The directions of the four cells of each region, and behind them those of their mean.
std::vector<float> directions_of_lines(const RidgeView& view) {
    const std::size_t matrix = static_cast<std::size_t>(view.directions) * view.channels;
    std::vector<float> out;
    out.reserve(view.regions() * lines_of_region * matrix);
    for (std::size_t region = 0; region < view.regions(); ++region) {
        const float* fine = view.fine_directions + region * cells_of_region * matrix;
        const float* coarse = view.coarse_directions + region * matrix;
        out.insert(out.end(), fine, fine + cells_of_region * matrix);
        out.insert(out.end(), coarse, coarse + matrix);
    }
    return out;
}

}  // namespace

MaskedRidge::MaskedRidge(const RidgeView& view) : layout_{} {
    const std::size_t regions = view.regions(), lines = regions * lines_of_region;
    const int channels = view.channels, pitch = (channels + 1) / 2 * 2;
    const std::vector<float> whitening = padded_rows(view.whitening, channels, channels, pitch);
    layout_.side = view.side, layout_.channels = channels, layout_.pitch = pitch;
    layout_.context_width = view.context_width, layout_.directions = view.directions;
    for (int i = 0; i < 3; ++i) layout_.root_gain[i] = std::sqrt(view.gain[i]);
    layout_.mean = tables_.add(by_channel(view));
    layout_.scale = tables_.add(std::vector<float>(view.scale, view.scale + channels));
    layout_.whitening = tables_.add(whitening);
    layout_.context =
        add_rounded(padded_rows(view.context, regions * view.context_width, channels, pitch), pitch, tables_);
    layout_.prediction = add_rounded(white_predictions(view, whitening, pitch), pitch, tables_);
    layout_.along = add_rounded(padded_rows(directions_of_lines(view).data(), lines * view.directions, channels, pitch),
                                pitch, tables_);
}

}  // namespace lad::cuda
