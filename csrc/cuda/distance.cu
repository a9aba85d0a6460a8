// A block has a few neighbouring positions; its threads share their channels. Position by position the maps would be
// too small to fill the chip: 576 to 3136 positions, 384 channels.
#include "lad/distance.hpp"
#include "reduce.cuh"

namespace lad::cuda {
namespace {

constexpr int threads = 256, warps = threads / warp_size;
constexpr int most_positions = 32;  // of a block
constexpr std::size_t many_positions = 4096;

// Sums over channels at one position.
template <bool cosine>
struct Sums {
    float difference = 0, product = 0, a = 0, b = 0;

    __device__ void add(float x, float y) {
        const float step = x - y;
        difference = fmaf(step, step, difference);
        if (!cosine) return;
        product = fmaf(x, y, product);
        a = fmaf(x, x, a);
        b = fmaf(y, y, b);
    }
    __device__ void merge(const Sums& other) {
        difference += other.difference;
        if (!cosine) return;
        product += other.product;
        a += other.a;
        b += other.b;
    }
    // Of the threads of a warp that are `lanes` apart.
    __device__ void merge_warp(int lanes) {
        for (int apart = lanes; apart < warp_size; apart *= 2) {
            Sums other;
            other.difference = __shfl_xor_sync(full_warp, difference, apart);
            if (cosine) {
                other.product = __shfl_xor_sync(full_warp, product, apart);
                other.a = __shfl_xor_sync(full_warp, a, apart);
                other.b = __shfl_xor_sync(full_warp, b, apart);
            }
            merge(other);
        }
    }
    __device__ float distance(float channels, float weight) const {
        return cosine ? distance_with_cosine(difference, product, a, b, channels, weight) : difference / channels;
    }
};

template <bool cosine>
struct Shared {
    Sums<cosine> sums[warps][most_positions];
};

// lanes: neighbouring threads that read one channel, `width` positions each; a power of two.
template <typename T, int width, bool cosine>
__global__ void __launch_bounds__(threads) distance_kernel(const T* a, const T* b, int channels, Wide positions,
                                                           int lanes, float weight, float* out, Wide* nonfinite) {
    auto& s = shared_memory<Shared<cosine>>();
    const int thread = threadIdx.x;
    const int lane = thread % lanes, groups = threads / lanes, in_block = lanes * width;
    const Wide first = static_cast<Wide>(blockIdx.x) * in_block, at = first + lane * width;
    Sums<cosine> sums[width];
    if (at < positions) {
#pragma unroll 4
        for (int c = thread / lanes; c < channels; c += groups) {
            const auto x = load_pack<width>(a + c * positions + at), y = load_pack<width>(b + c * positions + at);
            for (int i = 0; i < width; ++i) sums[i].add(to_float(x.part[i]), to_float(y.part[i]));
        }
    }
    for (int i = 0; i < width; ++i) {
        sums[i].merge_warp(lanes);
        if (thread % warp_size < lanes) s.sums[thread / warp_size][lane * width + i] = sums[i];
    }
    __syncthreads();
    if (thread >= warp_size) return;
    unsigned bad = 0;
    if (thread < in_block && first + thread < positions) {
        Sums<cosine> all = s.sums[0][thread];
        for (int warp = 1; warp < warps; ++warp) all.merge(s.sums[warp][thread]);
        const float distance = all.distance(static_cast<float>(channels), weight);
        out[first + thread] = distance;
        bad = !is_finite(distance);
    }
    bad = warp_sum(bad);
    if (thread == 0 && bad != 0) atomicAdd(nonfinite, Wide{bad});
}

template <int width, typename T>
void run(const T* a, const T* b, std::size_t channels, std::size_t positions, float cosine, float* out,
         std::int64_t* nonfinite, Stream stream) {
    // Half as many positions in a block make twice as many blocks of a small map.
    const int in_block = positions < many_positions ? most_positions / 2 : most_positions;
    const int lanes = in_block / width;
    const auto enqueue = [&](auto* kernel, std::size_t shared_bytes) {
        launch("distance_map", kernel, dim3(blocks_for(positions, in_block)), threads, shared_bytes, stream, a, b,
               static_cast<int>(channels), static_cast<Wide>(positions), lanes, cosine, out,
               reinterpret_cast<Wide*>(nonfinite));
    };
    cosine == 0 ? enqueue(distance_kernel<T, width, false>, sizeof(Shared<false>))
                : enqueue(distance_kernel<T, width, true>, sizeof(Shared<true>));
}

}  // namespace

void distance_map(ConstValues a, ConstValues b, std::size_t channels, std::size_t positions, float cosine, float* out,
                  std::int64_t* nonfinite, Stream stream) {
    as_typed(a, [&](const auto* from_a) {
        const auto* from_b = static_cast<decltype(from_a)>(b.at);
        constexpr int width = 16 / sizeof(*from_a);
        const bool vectors = packable<width>(from_a, positions) && packable<width>(from_b, positions);
        vectors ? run<width>(from_a, from_b, channels, positions, cosine, out, nonfinite, stream)
                : run<1>(from_a, from_b, channels, positions, cosine, out, nonfinite, stream);
    });
}

}  // namespace lad::cuda
