// A kernel with constant tables, and the device memory of the caller that has a copy of them.
#pragma once

#include "cuda_arrays.hpp"

namespace lad::bindings {

template <typename Kernel>
class CudaPlan {
  public:
    explicit CudaPlan(Kernel kernel) : kernel(std::move(kernel)) {}

    const Kernel kernel;

    std::size_t table_bytes() const { return kernel.tables().size(); }

    void prepare(const py::object& tables, std::uintptr_t stream) {
        void* at = workspace_of(tables, "tables", table_bytes());
        cuda::upload(kernel.tables(), at, stream_of(stream));
        kept_ = tables, at_ = at;
    }

    const void* tables() const {
        if (!at_)
            throw std::runtime_error("the tables are not on the device yet; call prepare(tables, stream=...) once");
        return at_;
    }

  private:
    py::object kept_;
    void* at_ = nullptr;
};

template <typename Kernel>
py::class_<CudaPlan<Kernel>> bind_plan(py::module_& m, const char* name, const char* text) {
    using namespace py::literals;
    using Plan = CudaPlan<Kernel>;
    py::class_<Plan> plan(m, name, text, py::module_local());
    plan.def_property_readonly("table_bytes", &Plan::table_bytes, "Bytes of device memory for the tables.");
    plan.def(
        "prepare", &Plan::prepare, "tables"_a, py::kw_only(), "stream"_a,
        "Copies the tables to the device, once and not in a graph. tables: uint8, table_bytes or more at a multiple\n"
        "of 256 bytes; kept with the plan.");
    return plan;
}

}  // namespace lad::bindings
