// The CUDA twins of the kernels: device pointers, the caller's stream, nothing allocated, every launch checked.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "lad/maps.hpp"

struct CUstream_st;

namespace lad::cuda {

using Stream = CUstream_st*;  // cudaStream_t

// Devices that this process can use; empty without a driver or a device, which is no error.
std::vector<std::string> device_names();

// Bytes of device memory that one `fuse` works in; 256-byte aligned, not shared by launches that may overlap.
std::size_t fuse_workspace_bytes(const FuseSpec& spec);

// As lad::fuse, with the same arithmetic, on `stream`; returns when it is enqueued, and can be captured in a CUDA
// graph. result: 6 doubles in the order of FuseResult. out: (out_height, out_width) or null. Throws std::runtime_error.
void fuse(const FuseSpec& spec, const float* structural, const float* logical, float* out, double* result,
          void* workspace, Stream stream);

}  // namespace lad::cuda
