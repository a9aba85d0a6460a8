// What exists once: the shared memory, and how the test chooses the order of the threads.
#include "cuda_runtime.h"

namespace lad::cuda {
unsigned char block_memory[on_host::shared_bytes + on_host::guard_bytes];
}

extern "C" __attribute__((visibility("default"))) void on_host_set_order(int order) {
    on_host::order = static_cast<on_host::Order>(order);
}
