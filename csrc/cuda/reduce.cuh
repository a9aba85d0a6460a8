// From the values of the threads of a block, and of all blocks, to one; in a fixed order.
#pragma once

#include "lad/resample.hpp"
#include "values.cuh"

namespace lad::cuda {

constexpr unsigned full_warp = 0xffffffffu;
constexpr int warp_size = 32;

// T has merge(const T&). memory: `threads` of T, a power of two; every thread calls, every thread gets the result.
template <int threads, typename T>
__device__ T block_merged(T value, T* memory) {
    memory[threadIdx.x] = value;
    for (unsigned half = threads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) memory[threadIdx.x].merge(memory[threadIdx.x + half]);
    }
    __syncthreads();
    return memory[0];
}

template <typename T>
__device__ T warp_sum(T value) {
    for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(full_warp, value, lanes);
    return value;
}

// NaN where one is: a comparison alone would lose it.
__device__ __forceinline__ float warp_max(float value) {
    for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) {
        const float other = __shfl_xor_sync(full_warp, value, lanes);
        value = other > value || other != other ? other : value;
    }
    return value;
}

// The largest value and the lowest index that has it, as one number: order key, then the complement of the index.
// Adding 0 makes equals of both zeros.
__device__ __forceinline__ Wide peak_of(float value, Wide index) {
    return static_cast<Wide>(order_key(value + 0.0f)) << 32 | (0xffffffffu - static_cast<unsigned>(index));
}

__device__ __forceinline__ float value_of(Wide peak) { return value_of_key(static_cast<unsigned>(peak >> 32)); }
__device__ __forceinline__ unsigned index_of(Wide peak) { return 0xffffffffu - static_cast<unsigned>(peak); }

}  // namespace lad::cuda
