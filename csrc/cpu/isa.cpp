#include "lad/isa.hpp"

#include <atomic>

namespace lad {
namespace {

Isa widest_isa() {
    if (isa_supported(Isa::avx512)) return Isa::avx512;
    return isa_supported(Isa::avx2) ? Isa::avx2 : Isa::portable;
}

std::atomic<Isa>& chosen() {
    static std::atomic<Isa> isa{widest_isa()};
    return isa;
}

}  // namespace

bool isa_supported(Isa isa) {
    if (isa == Isa::portable) return true;
#if LAD_HAS_X86
    if (isa == Isa::avx2) return __builtin_cpu_supports("avx2");
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

Isa active_isa() { return chosen().load(std::memory_order_relaxed); }

void set_active_isa(Isa isa) { chosen().store(isa, std::memory_order_relaxed); }

}  // namespace lad
