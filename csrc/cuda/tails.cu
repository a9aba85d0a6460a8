// What detectors do with their small maps between the large kernels and the score, as lad_edge/kernels/tails.py says
// it: a launch each, so that a frame needs no look at its numbers on the host.
#include "reduce.cuh"

namespace lad::cuda {
namespace {

constexpr int threads = 256;

__device__ int global_index() { return blockIdx.x * threads + threadIdx.x; }

// Minimum and maximum in which NaN stays NaN.
__device__ float lower(float a, float b) { return b < a || b != b ? b : a; }
__device__ float higher(float a, float b) { return b > a || b != b ? b : a; }

__global__ void __launch_bounds__(threads)
    take_rows_kernel(const float* table, int entries, int width, const std::uint16_t* codes, int tokens, float* out) {
    const int i = global_index();
    if (i >= tokens * width) return;
    const int entry = min(static_cast<int>(codes[i / width]), entries - 1);
    out[i] = __ldg(table + static_cast<std::size_t>(entry) * width + i % width);
}

struct Lowest {
    float value = float_of(0x7f800000u);  // infinity

    __device__ void merge(const Lowest& other) { value = lower(value, other.value); }
};

struct Sum {
    float value = 0;

    __device__ void merge(const Sum& other) { value += other.value; }
};

// One block: every token's share depends on the sum of all odds.
__global__ void __launch_bounds__(threads)
    modulate_kernel(const float* error, const float* divergence, int tokens, bool from_largest, float* out) {
    struct Shared {
        Lowest lowest[threads];
        Sum sums[threads];
    };
    Shared& s = shared_memory<Shared>();
    Lowest least;
    for (int i = threadIdx.x; i < tokens; i += threads) least.merge({divergence[i]});
    least = block_merged<threads>(least, s.lowest);
    const auto odds = [&](int i) { return power_of_two((least.value - divergence[i]) * log2_e); };
    Sum sum;
    for (int i = threadIdx.x; i < tokens; i += threads) sum.value += odds(i);
    const float share = 1.0f / block_merged<threads>(sum, s.sums).value;
    const float most = from_largest ? share : 1.0f;  // the largest odds are 1
    for (int i = threadIdx.x; i < tokens; i += threads) out[i] = error[i] * (most - odds(i) * share);
}

__global__ void __launch_bounds__(threads) larger_of_regions_kernel(const float* fine, const float* coarse, int side,
                                                                    float fine_scale, float coarse_scale, float* out) {
    const int i = global_index();
    if (i >= side * side) return;
    const int region = i / side / 2 * (side / 2) + i % side / 2;
    out[i] = higher(fine[i] * fine_scale, coarse[region] * coarse_scale);
}

// A thread has a token; all of them go through the deviations of all masks.
__global__ void __launch_bounds__(threads)
    mask_maps_kernel(MaskStatistics of, const float* distances, float channels, const float* scores, float* roots,
                     float* heat, float* mean_deviation) {
    const int token = global_index();
    if (token >= of.tokens) return;
    float sum = 0, here = 0;
    for (int mask = 0; mask < of.masks; ++mask) {
        const float deviation = (scores[mask] - __ldg(of.means + mask)) * __ldg(of.scales + mask);
        here += deviation * __ldg(of.shares + static_cast<std::size_t>(mask) * of.tokens + token);
        sum += deviation;
    }
    roots[token] = sqrtf(distances[token] * channels);
    heat[token] = here;
    if (token == 0) *mean_deviation = sum / static_cast<float>(of.masks);
}

__global__ void join_branches_kernel(BranchStandards of, const double* peak, const float* mean_deviation,
                                     double* scores, float* constants, float* most) {
    const double structural = of.scale[0] * *peak + of.offset[0];
    const double logical = of.scale[1] * *mean_deviation + of.offset[1];
    const bool stronger = structural >= logical;
    const double added[2] = {stronger && logical > 0 ? logical : 0, !stronger && structural > 0 ? structural : 0};
    scores[0] = structural + logical, scores[1] = structural, scores[2] = logical;
    for (int i = 0; i < 2; ++i) {
        constants[i] = static_cast<float>(of.drawn_offset[i] + added[i]);
        most[i] = static_cast<float>(scores[1 + i] + added[i]);
    }
}

__global__ void __launch_bounds__(threads)
    larger_capped_kernel(const float* first, const float* second, const float* most, int count, float* out) {
    const int i = global_index();
    if (i < count) out[i] = higher(lower(first[i], most[0]), lower(second[i], most[1]));
}

}  // namespace

void take_rows(const float* table, int entries, int width, const std::uint16_t* codes, int tokens, float* out,
               Stream stream) {
    launch("take_rows", take_rows_kernel, dim3(blocks_for(static_cast<std::size_t>(tokens) * width, threads)), threads,
           0, stream, table, entries, width, codes, tokens, out);
}

void modulate(const float* error, const float* divergence, int tokens, bool from_largest, float* out, Stream stream) {
    launch("modulate", modulate_kernel, dim3(1), threads, (sizeof(Lowest) + sizeof(Sum)) * threads, stream, error,
           divergence, tokens, from_largest, out);
}

void larger_of_regions(const float* fine, const float* coarse, int side, float fine_scale, float coarse_scale,
                       float* out, Stream stream) {
    launch("larger_of_regions", larger_of_regions_kernel,
           dim3(blocks_for(static_cast<std::size_t>(side) * side, threads)), threads, 0, stream, fine, coarse, side,
           fine_scale, coarse_scale, out);
}

void mask_maps(const MaskStatistics& of, const float* distances, int channels, const float* scores, float* roots,
               float* heat, float* mean_deviation, Stream stream) {
    launch("mask_maps", mask_maps_kernel, dim3(blocks_for(of.tokens, threads)), threads, 0, stream, of, distances,
           static_cast<float>(channels), scores, roots, heat, mean_deviation);
}

void join_branches(const BranchStandards& of, const double* peak, const float* mean_deviation, double* scores,
                   float* constants, float* most, Stream stream) {
    launch("join_branches", join_branches_kernel, dim3(1), 1, 0, stream, of, peak, mean_deviation, scores, constants,
           most);
}

void larger_capped(const float* first, const float* second, const float* most, int count, float* out, Stream stream) {
    launch("larger_capped", larger_capped_kernel, dim3(blocks_for(count, threads)), threads, 0, stream, first, second,
           most, count, out);
}

}  // namespace lad::cuda
