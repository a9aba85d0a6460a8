#include "check.cuh"
#include "lad/cuda.hpp"

namespace lad::cuda {

std::vector<std::string> device_names() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) {
        cudaGetLastError();  // no driver, no device, or a driver that is too old: nothing to run on
        return {};
    }
    std::vector<std::string> names;
    for (int device = 0; device < count; ++device) {
        cudaDeviceProp properties;
        check(cudaGetDeviceProperties(&properties, device), "device_names");
        names.emplace_back(properties.name);
    }
    return names;
}

void upload(const Tables& tables, void* device, Stream stream) {
    check(cudaMemcpyAsync(device, tables.data(), tables.size(), cudaMemcpyHostToDevice, stream), "prepare");
}

}  // namespace lad::cuda
