// Values of an engine, float32 or float16; kernels compute in float32.
#pragma once

#include <cuda_fp16.h>

#include "check.cuh"
#include "lad/cuda.hpp"

namespace lad::cuda {

using Wide = unsigned long long;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

__device__ __forceinline__ void store(float* to, float value) { *to = value; }
__device__ __forceinline__ void store(__half* to, float value) { *to = __float2half_rn(value); }  // Inf beyond 65504

// `count` neighbours in one access; their address is a multiple of their size.
template <typename T, int count>
struct alignas(sizeof(T) * count) Pack {
    T part[count];
};

template <int count, typename T>
__device__ __forceinline__ Pack<T, count> load_pack(const T* from) {
    return *reinterpret_cast<const Pack<T, count>*>(from);
}

// Whether rows of `width` values, the first at `at`, can be read `count` at a time.
template <int count, typename T>
bool packable(const T* at, std::size_t width) {
    return width % count == 0 && reinterpret_cast<std::uintptr_t>(at) % (sizeof(T) * count) == 0;
}

// call(pointer), with the pointer's own type.
template <typename Call>
void as_typed(ConstValues values, const Call& call) {
    if (values.precision == Precision::f16) return call(static_cast<const __half*>(values.at));
    call(static_cast<const float*>(values.at));
}

template <typename Call>
void as_typed(Values values, const Call& call) {
    if (values.precision == Precision::f16) return call(static_cast<__half*>(values.at));
    call(static_cast<float*>(values.at));
}

}  // namespace lad::cuda
