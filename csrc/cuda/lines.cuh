// Products of 16 lines with many columns, in float32: 4 lines by 8 columns in the registers of a thread, 16 by 64 in
// those of a warp, so that one load from shared memory serves ten multiplications. Tensor cores would take it only in
// three passes of TF32 or with float16 parts: near-ties between codes need all bits of float32 (methods.md 7.1).
#pragma once

#include "reduce.cuh"

namespace lad::cuda {

constexpr int line_count = 16;
constexpr int line_pitch = 20;  // keeps vectors aligned and spreads a line over the banks
constexpr int warp_columns = 64;
constexpr int steps = 8;  // of the depth at a time

struct Products {
    static constexpr int lines = 4, columns = 8;

    float sum[lines][columns] = {};

    // Which line and column of the warp's; both grow with i.
    static __device__ int line(int i) { return static_cast<int>(threadIdx.x) % 4 * lines + i; }
    static __device__ int column(int i) { return own_columns() + i % 4 + i / 4 * (warp_columns / 2); }

    // lines: (steps, line_pitch), matrix: (steps, pitch), both in shared memory, at the warp's first column.
    __device__ void add(const float* lines_at, const float* matrix, int pitch) {
        const float *left = lines_at + line(0), *right = matrix + own_columns();
#pragma unroll
        for (int k = 0; k < steps; ++k, left += line_pitch, right += pitch) {
            const auto line = load_pack<4>(left);
            const auto near = load_pack<4>(right), far = load_pack<4>(right + warp_columns / 2);
            for (int l = 0; l < lines; ++l)
                for (int c = 0; c < 4; ++c) {
                    sum[l][c] = fmaf(line.part[l], near.part[c], sum[l][c]);
                    sum[l][c + 4] = fmaf(line.part[l], far.part[c], sum[l][c + 4]);
                }
        }
    }

  private:
    static __device__ int own_columns() { return static_cast<int>(threadIdx.x) % warp_size / 4 * 4; }
};

// A tile of a padded matrix on its way from memory through registers to shared memory: fetched while the one before is
// multiplied.
template <int rows, int columns, int threads>
struct Stage {
    static constexpr int width = 4, packs = rows * columns / (width * threads);

    Pack<float, width> part[packs];

    __device__ void fetch(const float* from, std::size_t pitch) {
        for (int i = 0; i < packs; ++i) {
            const int at = (i * threads + static_cast<int>(threadIdx.x)) * width;
            part[i] = load_pack<width>(from + at / columns * pitch + at % columns);
        }
    }
    __device__ void put(float* to) const {
        for (int i = 0; i < packs; ++i)
            reinterpret_cast<Pack<float, width>*>(to)[i * threads + static_cast<int>(threadIdx.x)] = part[i];
    }
};

}  // namespace lad::cuda
