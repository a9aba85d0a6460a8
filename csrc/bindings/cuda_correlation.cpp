#include <cmath>

#include "cuda_bindings.hpp"

namespace lad::bindings {
namespace {

constexpr int max_grid = 256, max_heads = 1024, max_layers = 1024;
constexpr py::ssize_t max_token_width = 1 << 16;

CorrelationSpec checked_correlation_spec(int side, py::ssize_t width, int heads, float weight) {
    require(side > 0 && side <= max_grid, "side: expected 1 to 256 tokens, got " + std::to_string(side));
    require(heads > 0 && heads <= max_heads && width % heads == 0,
            "heads: expected a divisor of " + std::to_string(width) + ", the width of the queries, up to 1024, got " +
                std::to_string(heads));
    require(std::isfinite(weight), "weight: expected a finite number, got " + std::to_string(weight));
    return {side, static_cast<int>(width), heads, weight};
}

int checked_layers(py::ssize_t layers) {
    require(layers > 0 && layers <= max_layers, "expected 1 to 1024 layers, got " + std::to_string(layers));
    return static_cast<int>(layers);
}

std::size_t correlation_bytes(int heads, int side, int layers) {
    const CorrelationSpec spec = checked_correlation_spec(side, heads, heads, 1);
    return cuda::correlation_workspace_bytes(spec, checked_layers(layers));
}

// (layers, tokens, values), also of an array that has no axis for the layers.
Shape with_layers(const DeviceArray& a) {
    if (a.shape.size() != 2) return a.shape;
    return {1, a.shape[0], a.shape[1]};
}

void expect_layers(const DeviceArray& a, const Shape& expected, const std::string& name) {
    require(with_layers(a) == expected,
            name + ": expected shape " + shape_text(expected) + ", got " + shape_text(a.shape));
}

void checked_symmetric_kl(const py::object& queries_object, const py::object& keys_object,
                          const py::object& sigmas_object, int heads, int side, float weight,
                          const py::object& out_object, const py::object& nonfinite, const py::object& workspace_object,
                          std::uintptr_t stream) {
    const DeviceArray queries = packed_device_array(queries_object, "queries", {type_f4, type_f2});
    const DeviceArray keys = packed_device_array(keys_object, "keys", {queries.type.c_str()});
    const DeviceArray sigmas = packed_device_array(sigmas_object, "sigmas", {type_f4});
    const Shape shape = with_layers(queries);
    const py::ssize_t tokens = static_cast<py::ssize_t>(side) * side;
    require(shape.size() == 3 && shape[1] == tokens && shape[2] > 0 && shape[2] <= max_token_width,
            "queries: expected shape (" + std::to_string(tokens) + ", d) or (layers, " + std::to_string(tokens) +
                ", d), side * side tokens, d from 1 to 65536, got " + shape_text(queries.shape));
    const int layers = checked_layers(shape[0]);
    const CorrelationSpec spec = checked_correlation_spec(side, shape[2], heads, weight);
    expect_layers(keys, shape, "keys");
    expect_layers(sigmas, {layers, tokens, 2 * static_cast<py::ssize_t>(heads)}, "sigmas");
    auto* out = writable_device_array(out_object, "out", {type_f4}, {tokens}).as<float>();
    std::int64_t* to = counter(nonfinite);
    void* workspace = workspace_of(workspace_object, "workspace", cuda::correlation_workspace_bytes(spec, layers));
    const py::gil_scoped_release unlocked;
    cuda::symmetric_kl(spec, layers, const_values(queries), const_values(keys), sigmas.as<const float>(), out, to,
                       workspace, stream_of(stream));
}

}  // namespace

void bind_cuda_correlation(py::module_& m) {
    using namespace py::literals;
    m.def("symmetric_kl_workspace_bytes", &correlation_bytes, py::kw_only(), "heads"_a, "side"_a, "layers"_a = 1,
          "Bytes of workspace that `symmetric_kl` needs.");
    m.def("symmetric_kl", &checked_symmetric_kl, "queries"_a, "keys"_a, "sigmas"_a, py::kw_only(), "heads"_a, "side"_a,
          "weight"_a, "out"_a, "nonfinite"_a, "workspace"_a, "stream"_a,
          "As lad_edge.kernels.symmetric_kl, called for each layer, in another order of summation.\n\n"
          "queries, keys: float32 or float16, both alike, (L, d) or (layers, L, d); sigmas: float32 (L, 2 heads) or\n"
          "(layers, L, 2 heads); out: float32 (L,), added to; workspace: symmetric_kl_workspace_bytes().");
}

}  // namespace lad::bindings
