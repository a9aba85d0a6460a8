// The part of CUDA's runtime that the kernels use, on the processor: the same .cu files, compiled by any C++17
// compiler.
//
// Blocks run one after the other. The threads of a block are fibers (ucontext): each runs until it waits at a barrier
// or for its warp, in an order that the test chooses, so that a missing barrier shows as a result that depends on the
// order. Shared memory is filled with 0xff (NaN) before each block, and what is written behind its end is seen. Every
// barrier needs all threads, every warp exchange all lanes: stricter than the hardware.
#pragma once

#include <math.h>
#include <ucontext.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

// ---- types

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(16) float4 {
    float x, y, z, w;
};

struct alignas(8) uint2 {
    unsigned x, y;
};

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

// ---- one block: its threads, its barriers

namespace lad::cuda {
extern __shared__ __align__(16) unsigned char block_memory[];  // as the kernels declare it
}

namespace on_host {

constexpr std::size_t stack_bytes = 1 << 16, shared_bytes = 48 << 10, guard_bytes = 256;
constexpr unsigned warp_size = 32;

enum class Order : int { forward, backward };

// What threads wait for: the last of them lets all of them go on.
struct Meeting {
    unsigned arrived = 0, round = 0;
    int any = 0, answer = 0;
};

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(stack_bytes);
    uint3 thread;
    unsigned number;
    bool finished;
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Meeting> warps;
    std::vector<std::array<char, warp_size * 16>> slots;  // what the lanes of a warp show each other
    Meeting all;
    unsigned members = 0;
    unsigned long events = 0;
    ucontext_t scheduler;
    Fiber* running = nullptr;
    void (*entry)(void*) = nullptr;
    void* arguments = nullptr;
    std::string failure;
};

inline Block block;
inline Order order = Order::forward;
inline unsigned char* const shared_memory = lad::cuda::block_memory;

inline void pause() { swapcontext(&block.running->context, &block.scheduler); }

// Never to be resumed: the launch ends with this message.
inline void fail(const char* message) {
    if (block.failure.empty()) block.failure = message;
    for (;;) pause();
}

inline int meet(Meeting& meeting, unsigned members, int any = 0) {
    const unsigned round = meeting.round;
    ++block.events;
    meeting.any |= any;
    if (++meeting.arrived == members) {
        meeting.answer = meeting.any;
        meeting.arrived = 0, meeting.any = 0, ++meeting.round;
    } else {
        while (meeting.round == round) pause();
    }
    return meeting.answer;
}

inline void meet_warp(unsigned mask) {
    if (mask != 0xffffffffu) fail("warp exchange: only the full mask is supported");
    if (block.members % warp_size != 0) fail("warp exchange: the block is no multiple of 32 threads");
    meet(block.warps[block.running->number / warp_size], warp_size);
}

// The value of `lane`, which all lanes show.
template <typename T>
T exchanged(unsigned mask, T value, unsigned lane) {
    static_assert(sizeof(T) <= 16);
    char* shown = block.slots[block.running->number / warp_size].data();
    std::memcpy(shown + block.running->number % warp_size * 16, &value, sizeof(T));
    meet_warp(mask);
    std::memcpy(&value, shown + lane % warp_size * 16, sizeof(T));
    meet_warp(mask);
    return value;
}

inline unsigned lane() { return block.running->number % warp_size; }

inline void run_fiber() {
    block.entry(block.arguments);
    block.running->finished = true;
    ++block.events;
    for (;;) pause();
}

inline void start(Fiber& fiber, unsigned number) {
    fiber.number = number, fiber.finished = false;
    fiber.thread = {number % blockDim.x, number / blockDim.x % blockDim.y, number / (blockDim.x * blockDim.y)};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_fiber, 0);
}

inline unsigned in_order(unsigned i) { return order == Order::forward ? i : block.members - 1 - i; }

inline void check_guard(std::size_t bytes) {
    for (std::size_t i = bytes; i < shared_bytes + guard_bytes; ++i)
        if (shared_memory[i] != 0xff) throw std::runtime_error("shared memory is written behind its end");
}

inline void run_block(std::size_t bytes) {
    std::memset(shared_memory, 0xff, shared_bytes + guard_bytes);
    block.all = {}, block.failure.clear();
    block.warps.assign((block.members + warp_size - 1) / warp_size, {});
    block.slots.resize(block.warps.size());
    if (block.fibers.size() < block.members) block.fibers.resize(block.members);
    for (unsigned i = 0; i < block.members; ++i) start(block.fibers[i], i);
    for (unsigned finished = 0; finished < block.members;) {
        const unsigned long before = block.events;
        finished = 0;
        for (unsigned i = 0; i < block.members; ++i) {
            block.running = &block.fibers[in_order(i)];
            threadIdx = block.running->thread;
            if (!block.running->finished) swapcontext(&block.scheduler, &block.running->context);
            finished += block.running->finished;
            if (!block.failure.empty()) throw std::runtime_error(block.failure);
        }
        if (finished < block.members && block.events == before)
            throw std::runtime_error("barrier: some threads wait for others that do not come");
    }
    check_guard(bytes);
}

template <typename... Parameters, std::size_t... i>
void call(void (*kernel)(Parameters...), std::tuple<Parameters...>& arguments, std::index_sequence<i...>) {
    kernel(std::get<i>(arguments)...);
}

}  // namespace on_host

inline void __syncthreads() { on_host::meet(on_host::block.all, on_host::block.members); }
inline int __syncthreads_or(int value) {
    const int any = on_host::meet(on_host::block.all, on_host::block.members, value != 0);
    on_host::meet(on_host::block.all, on_host::block.members);
    return any;
}
inline void __syncwarp() { on_host::meet_warp(0xffffffffu); }

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    return on_host::exchanged(mask, value, on_host::lane() ^ static_cast<unsigned>(lanes));
}

// ---- arithmetic and atomics: one thread runs at a time

template <typename T>
T min(T a, T b) {
    return b < a ? b : a;
}

template <typename T>
T max(T a, T b) {
    return a < b ? b : a;
}

template <typename T>
T __ldg(const T* from) {
    return *from;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

template <typename T>
T atomicAdd(T* to, T value) {
    const T before = *to;
    *to += value;
    return before;
}

// ---- host side

enum cudaError_t : int { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaMemcpyKind : int { cudaMemcpyHostToDevice = 1 };
using cudaStream_t = struct CUstream_st*;

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
    void* attrs;
    unsigned numAttrs;
};

struct cudaDeviceProp {
    char name[256];
};

inline const char* cudaGetErrorName(cudaError_t status) {
    return status == cudaErrorInvalidValue ? "cudaErrorInvalidValue" : "cudaErrorInvalidConfiguration";
}
inline const char* cudaGetErrorString(cudaError_t) { return "refused by the host"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
    std::strcpy(properties->name, "host");
    return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
    std::memcpy(to, from, bytes);
    return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    using namespace on_host;
    const dim3 &grid = config->gridDim, &threads = config->blockDim;
    if (config->dynamicSmemBytes > shared_bytes) return cudaErrorInvalidValue;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
        threads.x == 0 || threads.x * threads.y * threads.z > 1024)
        return cudaErrorInvalidConfiguration;
    struct Call {
        void (*kernel)(Parameters...);
        std::tuple<Parameters...> arguments;
    } call{kernel, std::tuple<Parameters...>(arguments...)};
    gridDim = grid, blockDim = threads, block.members = threads.x * threads.y * threads.z;
    block.arguments = &call;
    block.entry = [](void* of) {
        auto& call = *static_cast<Call*>(of);
        on_host::call(call.kernel, call.arguments, std::index_sequence_for<Parameters...>{});
    };
    const unsigned long count = static_cast<unsigned long>(grid.x) * grid.y * grid.z;
    for (unsigned long i = 0; i < count; ++i) {
        const unsigned long at = order == Order::forward ? i : count - 1 - i;
        blockIdx = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                    static_cast<unsigned>(at / grid.x / grid.y)};
        run_block(config->dynamicSmemBytes);
    }
    return cudaSuccess;
}
