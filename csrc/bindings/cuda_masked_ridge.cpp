#include <memory>

#include "cuda_bindings.hpp"
#include "cuda_plan.hpp"
#include "ridge_tables.hpp"

namespace lad::bindings {
namespace {

using MaskedRidgePlan = CudaPlan<cuda::MaskedRidge>;

std::unique_ptr<MaskedRidgePlan> make_masked_ridge_plan(const py::object& tables) {
    const RidgeArrays arrays = ridge_arrays(tables);
    const RidgeView view = ridge_view(arrays);
    const py::gil_scoped_release unlocked;
    return std::make_unique<MaskedRidgePlan>(cuda::MaskedRidge(view));
}

float* ridge_map(const py::object& object, const std::string& name, py::ssize_t side) {
    return writable_device_array(object, name, {type_f4}, {side, side}).as<float>();
}

void run_masked_ridge_plan(const MaskedRidgePlan& plan, const py::object& cells_object, const py::object& fine_object,
                           const py::object& coarse_object, const py::object& own_object, const py::object& nonfinite,
                           const py::object& workspace_object, std::uintptr_t stream) {
    const cuda::MaskedRidge& kernel = plan.kernel;
    const py::ssize_t side = kernel.side();
    const DeviceArray cells = packed_device_array(cells_object, "cells", {type_f4, type_f2});
    expect_shape(cells, {kernel.channels(), side, side}, "cells");
    float* fine = ridge_map(fine_object, "fine", side);
    float* coarse = ridge_map(coarse_object, "coarse", side / 2);
    float* own = ridge_map(own_object, "own", side);
    std::int64_t* bad = counter(nonfinite);
    void* workspace = workspace_of(workspace_object, "workspace", kernel.workspace_bytes());
    const void* tables = plan.tables();
    const py::gil_scoped_release unlocked;
    kernel.run(const_values(cells), tables, fine, coarse, own, bad, workspace, stream_of(stream));
}

}  // namespace

void bind_cuda_masked_ridge(py::module_& m) {
    using namespace py::literals;
    bind_plan<cuda::MaskedRidge>(m, "MaskedRidge",
                                 "As lad_edge.kernels.MaskedRidge, in another order of summation.\n\n"
                                 "Adds to `nonfinite` how many values of cells are not finite: then all outputs are "
                                 "NaN. If all are\n"
                                 "finite, adds how many distances are not: these alone are NaN.")
        .def(py::init(&make_masked_ridge_plan), "tables"_a)
        .def_property_readonly(
            "workspace_bytes", [](const MaskedRidgePlan& plan) { return plan.kernel.workspace_bytes(); },
            "Bytes of workspace for a call.")
        .def("__call__", &run_masked_ridge_plan, "cells"_a, "fine"_a, "coarse"_a, "own"_a, py::kw_only(), "nonfinite"_a,
             "workspace"_a, "stream"_a,
             "cells: float32 or float16 (C, side, side). fine, own: float32 (side, side), coarse: float32\n"
             "(side / 2, side / 2), overwritten. A leading 1 is allowed. workspace: workspace_bytes.");
}

}  // namespace lad::bindings
