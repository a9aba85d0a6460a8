// A block has a mask, a warp of it one level at a time: counts in shared memory, everything else by exchange between
// the lanes.
#include "reduce.cuh"

namespace lad::cuda {
namespace {

constexpr int warps = 4, threads = warps * warp_size;
constexpr int bins = 1024;  // entries that a warp counts at a time

struct Shared {
    unsigned counts[warps][bins];
    float sums[warps];
    unsigned bad[warps];
};

__device__ int lane_number() { return threadIdx.x % warp_size; }
__device__ int warp_number() { return threadIdx.x / warp_size; }

// Tokens under the mask of this block.
__device__ unsigned count_tokens(const MaskedCodes& of, const std::uint32_t* mask) {
    unsigned count = 0;
    for (int token = lane_number(); token < of.tokens; token += warp_size)
        count += __ldg(mask + token / warp_size) >> token % warp_size & 1u;
    return warp_sum(count);
}

// Of the entries from `first` on. Every lane of the warp calls, and may read afterwards the bins that it cleared: lane,
// lane + 32, ...
__device__ void count_codes(const MaskedCodes& of, const std::uint32_t* mask, int level, int first, unsigned* counts) {
    const std::uint16_t* codes = of.codes + static_cast<std::size_t>(level) * of.tokens;
    for (int bin = lane_number(); bin < bins; bin += warp_size) counts[bin] = 0;
    __syncwarp();
    for (int token = lane_number(); token < of.tokens; token += warp_size) {
        if ((__ldg(mask + token / warp_size) >> token % warp_size & 1u) == 0) continue;
        const int bin = codes[token] - first;
        if (bin >= 0 && bin < bins) atomicAdd(&counts[bin], 1u);
    }
    __syncwarp();
}

__device__ const std::uint32_t* own_mask(const MaskedCodes& of) {
    return of.masks + static_cast<std::size_t>(blockIdx.x) * of.words();
}

__global__ void __launch_bounds__(threads) histograms_kernel(MaskedCodes of, std::uint16_t* out) {
    unsigned* counts = shared_memory<Shared>().counts[warp_number()];
    for (int level = warp_number(); level < of.levels; level += warps) {
        std::uint16_t* to = out + (static_cast<std::size_t>(blockIdx.x) * of.levels + level) * of.entries;
        for (int first = 0; first < of.entries; first += bins) {
            count_codes(of, own_mask(of), level, first, counts);
            for (int bin = lane_number(); bin < min(bins, of.entries - first); bin += warp_size)
                to[first + bin] = static_cast<std::uint16_t>(counts[bin]);
        }
    }
}

// A row of logits as powers of its softmax.
template <typename T>
struct Softmax {
    const T* logits;
    int entries;
    float top = float_of(0xff800000u), scale = 0;  // -infinity

    // Returns how many logits of this lane are not finite.
    __device__ unsigned prepare() {
        unsigned bad = 0;
        for (int k = lane_number(); k < entries; k += warp_size) {
            top = max(top, to_float(logits[k]));
            bad += !is_finite(to_float(logits[k]));
        }
        top = warp_max(top);
        float sum = 0;
        for (int k = lane_number(); k < entries; k += warp_size) sum += power(k);
        scale = 1.0f / warp_sum(sum);
        return bad;
    }
    __device__ float power(int k) const { return power_of_two((to_float(logits[k]) - top) * log2_e); }
    __device__ float at(int k) const { return power(k) * scale; }
};

// |P - Q|_1 = 2 - 2 sum min(P, Q), as on the CPU; counts what is not finite.
template <typename T>
__device__ float distance_of_level(const MaskedCodes& of, int level, const T* logits, float share, unsigned* counts,
                                   unsigned& bad) {
    Softmax<T> predicted{logits, of.entries};
    bad += predicted.prepare();
    float common = 0;
    for (int first = 0; first < of.entries; first += bins) {
        count_codes(of, own_mask(of), level, first, counts);
        for (int bin = lane_number(); bin < min(bins, of.entries - first); bin += warp_size) {
            const float p = predicted.at(first + bin), q = static_cast<float>(counts[bin]) * share;
            common += p < q ? p : q;
        }
    }
    return 2.0f - 2.0f * warp_sum(common);
}

template <typename T>
__global__ void __launch_bounds__(threads) score_kernel(MaskedCodes of, const T* logits, float* out, Wide* nonfinite) {
    Shared& s = shared_memory<Shared>();
    const int warp = warp_number();
    const float share = 1.0f / static_cast<float>(count_tokens(of, own_mask(of)));
    const T* own = logits + static_cast<std::size_t>(blockIdx.x) * of.levels * of.entries;
    float sum = 0;
    unsigned bad = 0;
    for (int level = warp; level < of.levels; level += warps)
        sum += distance_of_level(of, level, own + static_cast<std::size_t>(level) * of.entries, share, s.counts[warp],
                                 bad);
    bad = warp_sum(bad);
    if (lane_number() == 0) s.sums[warp] = sum, s.bad[warp] = bad;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < warps; ++w) sum += s.sums[w], bad += s.bad[w];
    out[blockIdx.x] = bad == 0 ? sum : float_of(0x7fc00000u);
    if (bad != 0) atomicAdd(nonfinite, Wide{bad});
}

}  // namespace

void masked_histograms(const MaskedCodes& of, std::uint16_t* out, Stream stream) {
    launch("masked_histograms", histograms_kernel, dim3(of.mask_count), threads, sizeof(Shared), stream, of, out);
}

void masked_histogram_score(const MaskedCodes& of, ConstValues logits, float* out, std::int64_t* nonfinite,
                            Stream stream) {
    as_typed(logits, [&](const auto* from) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(from)>>;
        launch("masked_histogram_score", score_kernel<T>, dim3(of.mask_count), threads, sizeof(Shared), stream, of,
               from, out, reinterpret_cast<Wide*>(nonfinite));
    });
}

}  // namespace lad::cuda
