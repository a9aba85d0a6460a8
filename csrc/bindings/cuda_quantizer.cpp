#include <memory>

#include "codebooks.hpp"
#include "cuda_bindings.hpp"
#include "cuda_plan.hpp"

namespace lad::bindings {
namespace {

using QuantizerPlan = CudaPlan<cuda::Quantizer>;

constexpr py::ssize_t most_tokens = 1 << 20;

int checked_count(py::ssize_t count) {
    require(count > 0 && count <= most_tokens, "tokens: expected 1 to 1048576, got " + std::to_string(count));
    return static_cast<int>(count);
}

void run_quantizer_plan(const QuantizerPlan& plan, const py::object& tokens_object, const py::object& codes_object,
                        const py::object& memory_object, const py::object& nonfinite,
                        const py::object& workspace_object, std::uintptr_t stream) {
    const cuda::Quantizer& kernel = plan.kernel;
    const DeviceArray tokens = packed_device_array(tokens_object, "tokens", {type_f4, type_f2});
    const py::ssize_t rows = 1 + kernel.levels();
    require(tokens.shape.size() == 3 && tokens.shape[0] == rows && tokens.shape[2] == kernel.token_width(),
            "tokens: expected shape (" + std::to_string(rows) + ", N, " + std::to_string(kernel.token_width()) +
                "), got " + shape_text(tokens.shape));
    const int count = checked_count(tokens.shape[1]);
    auto* codes = writable_device_array(codes_object, "codes_out", {type_u2}, {rows, count}).as<std::uint16_t>();
    cuda::Values memory{nullptr, cuda::Precision::f32};
    if (!memory_object.is_none()) {
        require(kernel.memory_width() > 0, "memory_out: expected None; these codebooks have no memory");
        memory = values(writable_device_array(memory_object, "memory_out", {type_f4, type_f2},
                                              {rows - 1, count, kernel.memory_width()}));
    }
    std::int64_t* bad = counter(nonfinite);
    void* workspace = workspace_of(workspace_object, "workspace", kernel.workspace_bytes(count));
    const void* tables = plan.tables();
    const py::gil_scoped_release unlocked;
    kernel.run(const_values(tokens), count, tables, codes, memory, bad, workspace, stream_of(stream));
}

}  // namespace

void bind_cuda_quantizer(py::module_& m) {
    using namespace py::literals;
    bind_plan<cuda::Quantizer>(m, "Quantizer", "As lad_edge.kernels.Quantizer, in another order of summation.")
        .def(py::init([](const py::object& top, const py::sequence& levels) {
                 const Codebooks books(top, levels);
                 return std::make_unique<QuantizerPlan>(cuda::Quantizer(books.top, books.levels));
             }),
             "top"_a, "levels"_a)
        .def(
            "workspace_bytes",
            [](const QuantizerPlan& plan, py::ssize_t tokens) {
                return plan.kernel.workspace_bytes(checked_count(tokens));
            },
            "tokens"_a, "Bytes of workspace for so many tokens of each level.")
        .def(
            "__call__", &run_quantizer_plan, "tokens"_a, "codes_out"_a, "memory_out"_a = py::none(), py::kw_only(),
            "nonfinite"_a, "workspace"_a, "stream"_a,
            "tokens: float32 or float16 (1 + levels, N, D); codes_out: uint16 (1 + levels, N); memory_out: float32 or\n"
            "float16 (levels, N, width) or None; workspace: workspace_bytes(N).");
}

}  // namespace lad::bindings
