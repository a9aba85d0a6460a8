// Every CUDA call goes through here, under the name of its operation.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace lad::cuda {

inline void check(cudaError_t status, const char* operation) {
    if (status == cudaSuccess) return;
    throw std::runtime_error(std::string(operation) + ": CUDA error " + cudaGetErrorName(status) + ", " +
                             cudaGetErrorString(status));
}

// Enqueues a kernel. By a function and not by <<< >>>, which the C++ compiler of the tests does not know
// (tests/kernels/cuda_on_host). Needs CUDA 11.8.
template <typename... Parameters, typename... Arguments>
void launch(const char* operation, void (*kernel)(Parameters...), dim3 grid, unsigned threads, std::size_t shared_bytes,
            cudaStream_t stream, const Arguments&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    check(cudaLaunchKernelEx(&config, kernel, arguments...), operation);
}

inline unsigned blocks_for(std::size_t work, unsigned per_block) {
    return static_cast<unsigned>((work + per_block - 1) / per_block);
}

extern __shared__ __align__(16) unsigned char block_memory[];

// What the threads of a block share; `launch` was given its size. Without a value when the block begins.
template <typename T>
__device__ T& shared_memory() {
    return *reinterpret_cast<T*>(block_memory);
}

}  // namespace lad::cuda
