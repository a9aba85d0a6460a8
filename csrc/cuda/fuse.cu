#include <algorithm>

#include "check.cuh"
#include "lad/cuda.hpp"
#include "lad/resample.hpp"

namespace lad::cuda {
namespace {

constexpr int threads = 256;
constexpr int max_blocks = 1024;
using Wide = unsigned long long;

// What the blocks agree on; all zero before the first of them.
struct Totals {
    Wide fused;                    // order key of the largest value, and the complement of its lowest index
    unsigned structural, logical;  // order keys
    Wide bad_structural, bad_logical;
};

struct Workspace {
    Totals* totals;
    float *structural, *logical, *fused;  // padded low-resolution maps
    LinearTap *rows, *columns;
};

std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

// Lays the workspace out from `base`; returns its size.
std::size_t lay_out(const FuseSpec& spec, char* base, Workspace& w) {
    const std::size_t map_bytes = aligned(sizeof(float) * spec.padded_height() * spec.padded_width());
    std::size_t used = 0;
    const auto take = [&](std::size_t bytes) {
        char* at = base + used;
        used += aligned(bytes);
        return at;
    };
    w.totals = reinterpret_cast<Totals*>(take(sizeof(Totals)));
    for (float** map : {&w.structural, &w.logical, &w.fused}) *map = reinterpret_cast<float*>(take(map_bytes));
    w.rows = reinterpret_cast<LinearTap*>(take(sizeof(LinearTap) * spec.out_height));
    w.columns = reinterpret_cast<LinearTap*>(take(sizeof(LinearTap) * spec.out_width));
    return used;
}

__device__ float normalised(const FuseSpec& spec, const float* raw, int y, int x, float scale, float offset) {
    const bool inside = y >= 0 && y < spec.height && x >= 0 && x < spec.width;
    if (!inside && spec.border_mode == BorderMode::zero) return offset;
    const int row = min(max(y, 0), spec.height - 1), column = min(max(x, 0), spec.width - 1);
    return scale * raw[static_cast<std::size_t>(row) * spec.width + column] + offset;
}

__device__ void normalise_cell(const FuseSpec& spec, const Workspace& w, const float* structural, const float* logical,
                               int cell) {
    const int y = cell / spec.padded_width() - spec.border, x = cell % spec.padded_width() - spec.border;
    const float st = normalised(spec, structural, y, x, spec.structural_scale, spec.structural_offset);
    const float lg = normalised(spec, logical, y, x, spec.logical_scale, spec.logical_offset);
    const bool inside = y >= 0 && y < spec.height && x >= 0 && x < spec.width;
    if (inside && !can_interpolate(st)) atomicAdd(&w.totals->bad_structural, Wide{1});
    if (inside && !can_interpolate(lg)) atomicAdd(&w.totals->bad_logical, Wide{1});
    w.structural[cell] = st;
    w.logical[cell] = lg;
    w.fused[cell] = spec.sigmoid ? 0.5f * sigmoid(st) + 0.5f * sigmoid(lg) : 0.5f * st + 0.5f * lg;
}

// One thread for each cell, each row tap and each column tap.
__global__ void normalise_kernel(FuseSpec spec, Workspace w, const float* structural, const float* logical) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < spec.padded_height() * spec.padded_width()) normalise_cell(spec, w, structural, logical, i);
    if (i < spec.out_height) w.rows[i] = linear_tap(i, spec.padded_height(), spec.out_height);
    if (i < spec.out_width) w.columns[i] = linear_tap(i, spec.padded_width(), spec.out_width);
}

// The same three interpolations as on the CPU: along the upper row, along the lower row, between them.
__device__ float sample(const FuseSpec& spec, const float* map, LinearTap row, LinearTap column) {
    const int right = min(column.low + 1, spec.padded_width() - 1), below = min(row.low + 1, spec.padded_height() - 1);
    const float* upper = map + static_cast<std::size_t>(row.low) * spec.padded_width();
    const float* lower = map + static_cast<std::size_t>(below) * spec.padded_width();
    const float from = lerp(upper[column.low], upper[right] - upper[column.low], column.weight);
    const float to = lerp(lower[column.low], lower[right] - lower[column.low], column.weight);
    return lerp(from, to - from, row.weight);
}

template <typename T>
__device__ T block_max(T value) {
    __shared__ T values[threads];
    values[threadIdx.x] = value;
    for (int half = threads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) values[threadIdx.x] = max(values[threadIdx.x], values[threadIdx.x + half]);
    }
    __syncthreads();
    const T largest = values[0];
    __syncthreads();
    return largest;
}

__global__ void upsample_kernel(FuseSpec spec, Workspace w, float* out) {
    const Wide pixels = static_cast<Wide>(spec.out_height) * spec.out_width;
    Wide fused = 0;
    unsigned structural = 0, logical = 0;
    for (Wide i = blockIdx.x * static_cast<Wide>(blockDim.x) + threadIdx.x; i < pixels; i += gridDim.x * blockDim.x) {
        const LinearTap row = w.rows[i / spec.out_width], column = w.columns[i % spec.out_width];
        const float value = sample(spec, w.fused, row, column);
        if (out) out[i] = value;
        fused = max(fused, static_cast<Wide>(order_key(value)) << 32 | (0xffffffffu - static_cast<unsigned>(i)));
        structural = max(structural, order_key(sample(spec, w.structural, row, column)));
        logical = max(logical, order_key(sample(spec, w.logical, row, column)));
    }
    fused = block_max(fused);
    structural = block_max(structural);
    logical = block_max(logical);
    if (threadIdx.x != 0) return;
    atomicMax(&w.totals->fused, fused);
    atomicMax(&w.totals->structural, structural);
    atomicMax(&w.totals->logical, logical);
}

__global__ void finish_kernel(FuseSpec spec, const Totals* totals, double* result) {
    const double nan = float_of(0x7fc00000u);
    const bool finite = totals->bad_structural + totals->bad_logical == 0;
    const unsigned index = 0xffffffffu - static_cast<unsigned>(totals->fused);
    result[0] = finite ? value_of_key(static_cast<unsigned>(totals->fused >> 32)) : nan;
    result[1] = finite ? static_cast<double>(index / spec.out_width) : -1;
    result[2] = finite ? static_cast<double>(index % spec.out_width) : -1;
    result[3] = totals->bad_structural == 0 ? value_of_key(totals->structural) : nan;
    result[4] = totals->bad_logical == 0 ? value_of_key(totals->logical) : nan;
    result[5] = static_cast<double>(totals->bad_structural + totals->bad_logical);
}

int blocks_for(std::size_t work) { return static_cast<int>((work + threads - 1) / threads); }

}  // namespace

std::size_t fuse_workspace_bytes(const FuseSpec& spec) {
    Workspace unused;
    return lay_out(spec, nullptr, unused);
}

void fuse(const FuseSpec& spec, const float* structural, const float* logical, float* out, double* result,
          void* workspace, Stream stream) {
    Workspace w;
    lay_out(spec, static_cast<char*>(workspace), w);
    const std::size_t cells = static_cast<std::size_t>(spec.padded_height()) * spec.padded_width();
    const std::size_t pixels = static_cast<std::size_t>(spec.out_height) * spec.out_width;
    const std::size_t preparations = std::max<std::size_t>(
        {cells, static_cast<std::size_t>(spec.out_height), static_cast<std::size_t>(spec.out_width)});
    check(cudaMemsetAsync(w.totals, 0, sizeof(Totals), stream), "fuse: clear");
    normalise_kernel<<<blocks_for(preparations), threads, 0, stream>>>(spec, w, structural, logical);
    check(cudaGetLastError(), "fuse: normalise");
    upsample_kernel<<<std::min(blocks_for(pixels), max_blocks), threads, 0, stream>>>(spec, w, out);
    check(cudaGetLastError(), "fuse: upsample");
    finish_kernel<<<1, 1, 0, stream>>>(spec, w.totals, result);
    check(cudaGetLastError(), "fuse: finish");
}

}  // namespace lad::cuda
