// The antialiased bilinear filter, as tables that the CPU and the CUDA kernel share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace lad {

// Weights of one axis of Pillow's and torchvision's antialiased bilinear filter: a triangle around the half-pixel
// centre (i + 0.5) * scale, widened by max(1, scale), cut at the borders and normalised to sum 1.
struct TriangleTaps {
    TriangleTaps(int source_size, int size) : first(size), count(size) {
        const double scale = static_cast<double>(source_size) / size, support = std::max(1.0, scale);
        max_count = std::min(source_size, static_cast<int>(std::ceil(support)) * 2 + 1);
        weights.assign(static_cast<std::size_t>(size) * max_count, 0.0f);
        std::vector<double> w(max_count);
        for (int i = 0; i < size; ++i) {
            const double centre = (i + 0.5) * scale;
            first[i] = std::max(0, static_cast<int>(centre - support + 0.5));
            count[i] = std::min(source_size, static_cast<int>(centre + support + 0.5)) - first[i];
            double sum = 0;
            for (int k = 0; k < count[i]; ++k) sum += w[k] = triangle((first[i] + k - centre + 0.5) / support);
            for (int k = 0; k < count[i]; ++k)
                weights[static_cast<std::size_t>(i) * max_count + k] = static_cast<float>(w[k] / sum);
        }
    }

    static double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

    const float* of(int i) const { return weights.data() + static_cast<std::size_t>(i) * max_count; }

    int max_count;
    std::vector<int> first;      // (size): first source index
    std::vector<int> count;      // (size): number of taps
    std::vector<float> weights;  // (size, max_count): zero after the last tap
};

}  // namespace lad
