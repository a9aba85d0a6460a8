// Kernels that are right and kernels that are wrong: test_cuda_on_host.py sees that the host tells them apart.
// faults CASE ORDER prints the sum of i * out[i], or what is wrong.
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "check.cuh"

using namespace lad::cuda;

namespace {

constexpr unsigned threads = 64;

struct Shared {
    int values[threads];
};

int* values() { return shared_memory<Shared>().values; }

__global__ void with_barrier_kernel(int* out) {
    values()[threadIdx.x] = static_cast<int>(threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = values()[threads - 1 - threadIdx.x];
}

__global__ void without_barrier_kernel(int* out) {
    values()[threadIdx.x] = static_cast<int>(threadIdx.x);
    out[threadIdx.x] = values()[threads - 1 - threadIdx.x];
}

__global__ void exchange_kernel(int* out) {
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1);
}

__global__ void half_a_warp_kernel(int* out) {
    out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, static_cast<int>(threadIdx.x), 1);
}

__global__ void lonely_barrier_kernel(int* out) {
    if (threadIdx.x != 0) __syncthreads();
    out[threadIdx.x] = 0;
}

__global__ void behind_shared_memory_kernel(int* out) {
    values()[threadIdx.x + 1] = 0;
    out[threadIdx.x] = 0;
}

using Kernel = void (*)(int*);

const std::map<std::string, Kernel> kernels = {{"with_barrier", with_barrier_kernel},
                                               {"without_barrier", without_barrier_kernel},
                                               {"exchange", exchange_kernel},
                                               {"half_a_warp", half_a_warp_kernel},
                                               {"lonely_barrier", lonely_barrier_kernel},
                                               {"behind_shared_memory", behind_shared_memory_kernel}};

}  // namespace

extern "C" void on_host_set_order(int order);

int main(int, char** arguments) {
    const std::string name = arguments[1];
    on_host_set_order(std::stoi(arguments[2]));
    std::vector<int> out(threads);
    try {
        const std::size_t bytes = name == "too_much_shared_memory" ? 64 << 10 : sizeof(Shared);
        const unsigned count = name == "too_many_threads" ? 2048 : threads;
        const auto found = kernels.find(name);
        launch("try", found == kernels.end() ? with_barrier_kernel : found->second, dim3(1), count, bytes, nullptr,
               out.data());
    } catch (const std::exception& wrong) {
        std::puts(wrong.what());
        return 0;
    }
    int sum = 0;
    for (unsigned i = 0; i < threads; ++i) sum += static_cast<int>(i) * out[i];
    std::printf("%d\n", sum);
}
