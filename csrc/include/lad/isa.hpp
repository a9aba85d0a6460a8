// Which instruction set the kernels use: chosen once at start, pinned one at a time by tests and benchmarks.
//
// Every kernel has one body. Where a benchmark gains at least 1.3x, the body is compiled once more for wider vectors
// (LAD_TARGET_*) and picked from a table. All versions round alike: the build forbids contraction to fused
// multiply-add, and no body lets the vector width change the order of a sum.
#pragma once

#ifdef __FAST_MATH__
#error "lad-edge counts NaN and Inf: build it without -ffast-math"
#endif

#define LAD_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)
#define LAD_HAS_X86 1
#define LAD_TARGET_AVX2 __attribute__((target("avx2")))
#define LAD_TARGET_AVX512 __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#else
#define LAD_HAS_X86 0
#endif

namespace lad {

enum class Isa : int { portable = 0, avx2 = 1, avx512 = 2 };
inline constexpr int isa_count = 3;

// The widest vectors of each; the compiler builds them from narrower ones where it must.
typedef float Float4 __attribute__((vector_size(16)));
typedef float Float8 __attribute__((vector_size(32)));
typedef float Float16 __attribute__((vector_size(64)));

bool isa_supported(Isa isa);  // by this processor and this build
Isa active_isa();             // the widest supported one until set_active_isa() says otherwise
void set_active_isa(Isa isa);

}  // namespace lad
