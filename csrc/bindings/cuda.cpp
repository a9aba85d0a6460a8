// lad_edge.kernels._cuda: device arrays through __cuda_array_interface__; imports anywhere, with or without a GPU.
#include "lad/cuda.hpp"

#include <cstdint>

#include "fuse_spec.hpp"

namespace lad::bindings {
namespace {

// A packed device array; nothing is copied.
struct DeviceArray {
    std::uintptr_t pointer;
    std::vector<py::ssize_t> shape;
    std::string dtype;
    bool read_only;
};

std::vector<py::ssize_t> packed_strides(const DeviceArray& a, py::ssize_t item_bytes) {
    std::vector<py::ssize_t> strides(a.shape.size(), item_bytes);
    for (std::size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * a.shape[i];
    return strides;
}

DeviceArray device_array(const py::object& object, const char* name, const std::string& dtype) {
    if (!py::hasattr(object, "__cuda_array_interface__"))
        throw py::type_error(std::string(name) + ": expected a device array with __cuda_array_interface__, got " +
                             text_of(py::type::handle_of(object).attr("__name__")));
    const py::dict interface = object.attr("__cuda_array_interface__");
    const auto data = interface["data"].cast<std::pair<std::uintptr_t, bool>>();
    DeviceArray a{data.first, interface["shape"].cast<std::vector<py::ssize_t>>(),
                  interface["typestr"].cast<std::string>(), data.second};
    const py::object strides = interface.attr("get")("strides");
    const auto item_bytes = static_cast<py::ssize_t>(a.dtype.back() - '0');
    if (a.dtype != dtype ||
        (!strides.is_none() && strides.cast<std::vector<py::ssize_t>>() != packed_strides(a, item_bytes)))
        throw py::type_error(std::string(name) + ": expected a C-contiguous device array of type " + dtype + ", got " +
                             a.dtype + " with shape " + shape_text(a.shape) + " and strides " + text_of(strides));
    return a;
}

template <typename T>
T* pointer(const DeviceArray& a) {
    return reinterpret_cast<T*>(a.pointer);
}

DeviceArray writable_device_array(const py::object& object, const char* name, const std::string& dtype,
                                  const std::vector<py::ssize_t>& shape) {
    DeviceArray a = device_array(object, name, dtype);
    if (a.read_only)
        throw py::type_error(std::string(name) + ": expected a writable device array, got a read-only one");
    require(a.shape == shape,
            std::string(name) + ": expected shape " + shape_text(shape) + ", got " + shape_text(a.shape));
    return a;
}

DeviceArray checked_workspace(const py::object& object, std::size_t needed) {
    DeviceArray a = device_array(object, "workspace", "|u1");
    require(a.shape.size() == 1 && static_cast<std::size_t>(a.shape[0]) >= needed && a.pointer % 256 == 0,
            "workspace: expected at least " + std::to_string(needed) +
                " bytes (fuse_workspace_bytes) at a multiple of 256, got shape " + shape_text(a.shape));
    return a;
}

void checked_fuse(const py::object& structural_object, const py::object& logical_object, Pair scale, Pair offset,
                  bool sigmoid, int border, const std::string& border_mode, std::array<int, 2> size,
                  const py::object& out_object, const py::object& result_object, const py::object& workspace_object,
                  std::uintptr_t stream) {
    const DeviceArray structural = device_array(structural_object, "structural", "<f4");
    const DeviceArray logical = device_array(logical_object, "logical", "<f4");
    require(structural.shape.size() == 2 && logical.shape == structural.shape,
            "structural, logical: expected one shape (h, w), got " + shape_text(structural.shape) + " and " +
                shape_text(logical.shape));
    const FuseSpec spec =
        checked_fuse_spec(structural.shape[0], structural.shape[1], scale, offset, sigmoid, border, border_mode, size);
    float* out = nullptr;
    if (!out_object.is_none())
        out = pointer<float>(writable_device_array(out_object, "out", "<f4", {size[0], size[1]}));
    auto* result = pointer<double>(writable_device_array(result_object, "result", "<f8", {6}));
    auto* workspace = pointer<void>(checked_workspace(workspace_object, cuda::fuse_workspace_bytes(spec)));
    const py::gil_scoped_release unlocked;
    cuda::fuse(spec, pointer<const float>(structural), pointer<const float>(logical), out, result, workspace,
               reinterpret_cast<cuda::Stream>(stream));
}

std::size_t workspace_bytes(std::array<int, 2> map_size, int border, std::array<int, 2> size) {
    return cuda::fuse_workspace_bytes(
        checked_fuse_spec(map_size[0], map_size[1], {1, 1}, {0, 0}, false, border, "zero", size));
}

}  // namespace
}  // namespace lad::bindings

PYBIND11_MODULE(_cuda, m) {
    using namespace lad::bindings;
    using namespace py::literals;
    m.doc() = "Native CUDA kernels: device arrays in and out, on the caller's stream.";
    m.def("device_names", &lad::cuda::device_names,
          "Names of the GPUs that this process can use; [] without a driver.");
    m.def("device_count", [] { return lad::cuda::device_names().size(); }, "How many there are; 0 without a driver.");
    m.def("fuse_workspace_bytes", &workspace_bytes, py::kw_only(), "map_size"_a, "border"_a, "size"_a,
          "Bytes of device memory that `fuse` needs for maps of map_size (h, w).");
    m.def("fuse", &checked_fuse, "structural"_a, "logical"_a, py::kw_only(), "scale"_a, "offset"_a, "sigmoid"_a,
          "border"_a, "border_mode"_a, "size"_a, "out"_a = py::none(), "result"_a, "workspace"_a, "stream"_a,
          "As lad_edge.kernels.fuse, enqueued on `stream` (a cudaStream_t as an integer); returns at once.\n\n"
          "structural, logical: float32 (h, w); out: float32 (H, W) or None; result: float64 (6,), filled in the order "
          "of\n"
          "Fused; workspace: uint8, at least fuse_workspace_bytes(); all device arrays (__cuda_array_interface__),\n"
          "C-contiguous. Raises TypeError, ValueError, and RuntimeError when CUDA refuses the launch.");
}
