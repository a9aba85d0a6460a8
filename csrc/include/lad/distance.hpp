// The end of `distance_map` with the cosine, shared by the CPU and the CUDA kernel.
#pragma once

#include <cmath>

#include "lad/elementary.hpp"

namespace lad {

// Each norm is at least 1e-8, as in torch's cosine_similarity; NaN stays NaN. The direct sum of squared differences is
// kept beside the others: |a|^2 + |b|^2 - 2ab would cancel where a and b are close, which is the normal case.
LAD_SHARED float distance_with_cosine(float difference, float product, float square_a, float square_b, float channels,
                                      float weight) {
    const float norms = at_least(sqrtf(square_a), 1e-8f) * at_least(sqrtf(square_b), 1e-8f);
    const float value = difference / channels + weight * (1.0f - product / norms);
    // An infinite norm would make the cosine a plausible 0.
    return is_finite(norms) ? value : float_of(0x7fc00000u);
}

}  // namespace lad
