// lad_edge.kernels._cuda: device arrays through __cuda_array_interface__; imports anywhere, with or without a GPU.
#include "cuda_bindings.hpp"

PYBIND11_MODULE(_cuda, m) {
    using namespace lad::bindings;
    m.doc() =
        "Native CUDA kernels: device arrays in and out, on the caller's stream.\n\n"
        "Every call returns when its work is enqueued on `stream`, a cudaStream_t as an integer, and can be captured "
        "in\n"
        "a CUDA graph. It allocates nothing; workspaces are uint8 device arrays at a multiple of 256 bytes. "
        "`nonfinite`:\n"
        "int64 (1,), added to. Raises TypeError for types and layouts, ValueError for sizes, both before anything is\n"
        "enqueued, and RuntimeError when CUDA refuses a launch.";
    m.def("device_names", &lad::cuda::device_names,
          "Names of the GPUs that this process can use; [] without a driver.");
    m.def("device_count", [] { return lad::cuda::device_names().size(); }, "How many there are; 0 without a driver.");
    bind_cuda_preprocess(m);
    bind_cuda_maps(m);
    bind_cuda_project(m);
    bind_cuda_histogram(m);
    bind_cuda_quantizer(m);
    bind_cuda_correlation(m);
    bind_cuda_masked_ridge(m);
    bind_cuda_tails(m);
}
