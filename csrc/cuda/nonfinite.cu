#include <algorithm>

#include "reduce.cuh"

namespace lad::cuda {
namespace {

constexpr int threads = 256;
constexpr unsigned max_blocks = 1024;

template <int width, typename T>
__global__ void __launch_bounds__(threads) count_kernel(const T* values, Wide packs, Wide* nonfinite) {
    unsigned bad = 0;
    for (Wide i = blockIdx.x * static_cast<Wide>(threads) + threadIdx.x; i < packs; i += gridDim.x * threads) {
        const auto pack = load_pack<width>(values + i * width);
        for (int k = 0; k < width; ++k) bad += !is_finite(to_float(pack.part[k]));
    }
    bad = warp_sum(bad);
    if (threadIdx.x % warp_size == 0 && bad != 0) atomicAdd(nonfinite, Wide{bad});
}

template <int width, typename T>
void run(const T* values, std::size_t count, std::int64_t* nonfinite, Stream stream) {
    const std::size_t packs = count / width;
    const dim3 blocks(std::min(blocks_for(packs, threads), max_blocks));
    launch("count_nonfinite", count_kernel<width, T>, blocks, threads, 0, stream, values, static_cast<Wide>(packs),
           reinterpret_cast<Wide*>(nonfinite));
}

}  // namespace

void count_nonfinite(ConstValues values, std::size_t count, std::int64_t* nonfinite, Stream stream) {
    as_typed(values, [&](const auto* from) {
        constexpr int width = 16 / sizeof(*from);
        packable<width>(from, count) ? run<width>(from, count, nonfinite, stream)
                                     : run<1>(from, count, nonfinite, stream);
    });
}

}  // namespace lad::cuda
