// The CUDA twins of the kernels: device pointers, the caller's stream, nothing allocated, every launch checked.
//
// A call returns when it is enqueued, and can be captured in a CUDA graph. It throws std::runtime_error when CUDA
// refuses the launch. Workspaces are device memory of the caller, at a multiple of 256 bytes, with any content, and not
// shared by launches that may overlap. Counts of what is not finite are added to, so that one clearing per frame serves
// all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lad/maps.hpp"

struct CUstream_st;

namespace lad::cuda {

using Stream = CUstream_st*;  // cudaStream_t

enum class Precision : int { f32, f16 };

// What an engine gives and takes. Kernels compute in float32.
struct ConstValues {
    const void* at;
    Precision precision;
};

struct Values {
    void* at;
    Precision precision;
};

// Devices that this process can use; empty without a driver or a device, which is no error.
std::vector<std::string> device_names();

// Bytes of device memory that one `fuse` or `fuse_places` works in.
std::size_t fuse_workspace_bytes(const FuseSpec& spec);

// As lad::fuse, with the same arithmetic. result: 6 doubles in the order of FuseResult. out: (out_height, out_width) or
// null. Both maps have one precision.
void fuse(const FuseSpec& spec, ConstValues structural, ConstValues logical, float* out, double* result,
          void* workspace, Stream stream);

// As lad::fuse_places. places: (2, 2, height, width).
void fuse_places(const FuseSpec& spec, ConstValues structural, ConstValues logical, const float* places, float* out,
                 double* result, void* workspace, Stream stream);

}  // namespace lad::cuda
