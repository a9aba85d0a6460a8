// lad_edge.kernels._cpu: checks arrays once, releases the GIL, calls the kernels.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings.hpp"
#include "lad/elementary.hpp"
#include "lad/isa.hpp"
#include "lad/packs.hpp"

namespace lad::bindings {
namespace {

constexpr const char* isa_names[isa_count] = {"portable", "avx2", "avx512"};

std::vector<std::string> supported_isas() {
    std::vector<std::string> names;
    for (int i = 0; i < isa_count; ++i)
        if (isa_supported(static_cast<Isa>(i))) names.emplace_back(isa_names[i]);
    return names;
}

float logarithm(float x) {
    const Pack<Float4, 1> every_lane{{Float4{} + x}};
    return 0.693147181f * binary_logarithm(every_lane).part[0][0];
}

void use_isa(const std::string& name) {
    for (int i = 0; i < isa_count; ++i)
        if (name == isa_names[i] && isa_supported(static_cast<Isa>(i))) return set_active_isa(static_cast<Isa>(i));
    throw py::value_error("isa: expected one of " + text_of(py::cast(supported_isas())) + ", got '" + name + "'");
}

}  // namespace
}  // namespace lad::bindings

PYBIND11_MODULE(_cpu, m) {
    using namespace lad::bindings;
    m.doc() = "Native CPU kernels: numpy arrays in, numpy arrays out; single thread, no allocation per call.";
    m.def("isas", &supported_isas, "Instruction sets that this processor has and the kernels know, narrowest first.");
    m.def("isa", [] { return isa_names[static_cast<int>(lad::active_isa())]; }, "The instruction set in use.");
    m.def("use_isa", &use_isa, py::arg("name"), "Pin the instruction set; for tests and benchmarks.");
    m.def("exponential", py::vectorize([](float x) { return lad::exponential(x); }), py::arg("x"),
          "e^x as the kernels compute it; for tests.");
    m.def("power_of_two", py::vectorize([](float x) { return lad::power_of_two(x); }), py::arg("x"),
          "2^x as the kernels compute it; for tests.");
    m.def("logarithm", py::vectorize(&logarithm), py::arg("x"),
          "ln x from log2 x as the kernels compute it; for tests.");
    bind_preprocess(m);
    bind_maps(m);
    bind_quantiles(m);
    bind_histogram(m);
    bind_quantizer(m);
    bind_project(m);
    bind_correlation(m);
    bind_masked_ridge(m);
}
