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

}  // namespace lad::cuda
