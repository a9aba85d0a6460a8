// The part of CUDA's runtime that the kernels use, on the processor: the same .cu files, compiled by any C++17
// compiler.
//
// Blocks run one after the other. The threads of a block are fibers (ucontext, and setjmp, which makes no system call,
// to switch between them). Each runs until it waits at a barrier or for its warp, each warp as far as it comes without
// the others, in an order that the test chooses: a missing barrier shows as a result that depends on the order. Shared
// memory is filled with 0xff (NaN) before each block, and what is written behind its end is seen. Every barrier needs
// all threads, every warp exchange all lanes: stricter than the hardware.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
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

// Serves one thread of every block. It never moves: its stack is known to the system.
struct Fiber {
    explicit Fiber(unsigned number) : number(number), stack(new char[stack_bytes]) {}

    bool can_run() const { return !finished && !(meeting && meeting->round == round); }

    unsigned number;
    std::unique_ptr<char[]> stack;
    bool started = false, finished = false;
    const Meeting* meeting = nullptr;  // waits while it is in this round
    unsigned round = 0;
    jmp_buf paused;
};

struct Warp {
    Meeting meeting;
    std::array<std::array<char, warp_size * 16>, 2> shown;  // what the lanes show each other, in turns
};

struct Block {
    std::deque<Fiber> fibers;
    std::vector<Warp> warps;
    Meeting all;
    unsigned members = 0;
    unsigned long events = 0;
    jmp_buf scheduler;
    Fiber* running = nullptr;
    void (*entry)(void*) = nullptr;
    void* arguments = nullptr;
    std::string failure;
};

inline Block block;
inline Order order = Order::forward;
inline unsigned char* const shared_memory = lad::cuda::block_memory;

inline void pause() {
    if (_setjmp(block.running->paused) == 0) _longjmp(block.scheduler, 1);
}

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
        block.running->meeting = &meeting, block.running->round = round;
        pause();
        block.running->meeting = nullptr;
    }
    return meeting.answer;
}

inline unsigned lane() { return block.running->number % warp_size; }

inline Warp& own_warp(unsigned mask) {
    if (mask != 0xffffffffu) fail("warp exchange: only the full mask is supported");
    if (block.members % warp_size != 0) fail("warp exchange: the block is no multiple of 32 threads");
    return block.warps[block.running->number / warp_size];
}

// The value that `other` lane shows.
template <typename T>
T exchanged(unsigned mask, T value, unsigned other) {
    static_assert(sizeof(T) <= 16);
    Warp& warp = own_warp(mask);
    char* shown = warp.shown[warp.meeting.round % 2].data();
    std::memcpy(shown + lane() * 16, &value, sizeof(T));
    meet(warp.meeting, warp_size);
    std::memcpy(&value, shown + other % warp_size * 16, sizeof(T));
    return value;
}

inline void run_fiber() {
    for (;;) {
        block.entry(block.arguments);
        block.running->finished = true;
        ++block.events;
        pause();
    }
}

// Until it pauses.
__attribute__((noinline)) inline void resume(Fiber& fiber) {
    block.running = &fiber;
    threadIdx = {fiber.number % blockDim.x, fiber.number / blockDim.x % blockDim.y,
                 fiber.number / (blockDim.x * blockDim.y)};
    if (_setjmp(block.scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.paused, 1);
    fiber.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = stack_bytes;
    context.uc_link = nullptr;
    makecontext(&context, run_fiber, 0);
    setcontext(&context);
}

inline unsigned in_order(unsigned i, unsigned count) { return order == Order::forward ? i : count - 1 - i; }

inline void check_guard(std::size_t bytes) {
    for (std::size_t i = bytes; i < shared_bytes + guard_bytes; ++i)
        if (shared_memory[i] != 0xff) throw std::runtime_error("shared memory is written behind its end");
}

// The lanes of a warp, as far as they come without the other warps.
inline void run_warp(unsigned warp) {
    const unsigned begin = warp * warp_size, count = std::min(warp_size, block.members - begin);
    for (unsigned long before = ~block.events; before != block.events;) {
        before = block.events;
        for (unsigned i = 0; i < count; ++i) {
            Fiber& fiber = block.fibers[begin + in_order(i, count)];
            if (fiber.can_run()) resume(fiber);
            if (!block.failure.empty()) throw std::runtime_error(block.failure);
        }
    }
}

// A turn for every warp; returns whether all threads have finished.
inline bool run_warps() {
    const unsigned count = static_cast<unsigned>(block.warps.size());
    for (unsigned i = 0; i < count; ++i) run_warp(in_order(i, count));
    return std::all_of(block.fibers.begin(), block.fibers.begin() + block.members,
                       [](const Fiber& fiber) { return fiber.finished; });
}

inline void run_block(std::size_t bytes) {
    std::memset(shared_memory, 0xff, shared_bytes + guard_bytes);
    block.all = {};
    block.warps.assign((block.members + warp_size - 1) / warp_size, {});
    while (block.fibers.size() < block.members) block.fibers.emplace_back(block.fibers.size());
    for (unsigned i = 0; i < block.members; ++i) block.fibers[i].finished = false, block.fibers[i].meeting = nullptr;
    for (unsigned long before = block.events; !run_warps(); before = block.events)
        if (block.events == before) throw std::runtime_error("barrier: some threads wait for others that do not come");
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
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    on_host::meet(on_host::own_warp(mask).meeting, on_host::warp_size);
}

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

template <typename T>
T atomicOr(T* to, T value) {
    const T before = *to;
    *to |= value;
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
    try {
        for (unsigned long i = 0; i < count; ++i) {
            const unsigned long at = order == Order::forward ? i : count - 1 - i;
            blockIdx = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                        static_cast<unsigned>(at / grid.x / grid.y)};
            run_block(config->dynamicSmemBytes);
        }
    } catch (...) {
        block.fibers.clear();  // some are in the middle of the kernel
        block.failure.clear();
        throw;
    }
    return cudaSuccess;
}
