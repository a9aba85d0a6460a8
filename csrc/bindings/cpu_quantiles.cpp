#include <pybind11/stl.h>

#include "bindings.hpp"
#include "lad/quantiles.hpp"

namespace lad::bindings {
namespace {

std::vector<Chunk> chunks_of(const std::vector<py::array>& arrays) {
    std::vector<Chunk> chunks;
    std::size_t total = 0;
    for (const py::array& a : arrays) {
        float_array(a, "values");
        chunks.push_back({static_cast<const float*>(a.data()), static_cast<std::size_t>(a.size())});
        total += chunks.back().count;
    }
    require(total > 0, "values: expected at least one value, got none");
    return chunks;
}

py::array_t<double> checked_quantiles(const std::vector<py::array>& arrays, const std::vector<double>& q) {
    const std::vector<Chunk> chunks = chunks_of(arrays);
    for (const double fraction : q)
        require(fraction >= 0 && fraction <= 1,
                "q: expected fractions from 0 to 1, got " + text_of(py::cast(fraction)));
    py::array_t<double> out(static_cast<py::ssize_t>(q.size()));
    double* to = out.mutable_data();
    bool clean;
    {
        const py::gil_scoped_release unlocked;
        clean = quantiles(chunks, q, to);
    }
    require(clean, "values: expected numbers, got NaN; find out where it comes from, do not calibrate without it");
    return out;
}

}  // namespace

void bind_quantiles(py::module_& m) {
    using namespace py::literals;
    m.def("quantiles", &checked_quantiles, "arrays"_a, "q"_a, "See lad_edge.kernels.quantiles.");
}

}  // namespace lad::bindings
