#include <cmath>

#include "bindings.hpp"
#include "lad/correlation.hpp"

namespace lad::bindings {
namespace {

constexpr int max_grid = 256, max_token_width = 1 << 16;

std::int64_t checked_symmetric_kl(const py::object& queries_object, const py::object& keys_object,
                                  const py::object& sigmas_object, int heads, int side, float weight,
                                  const py::object& out_object) {
    const py::array queries = float_array(queries_object, "queries"), keys = float_array(keys_object, "keys");
    const py::array sigmas = float_array(sigmas_object, "sigmas");
    py::array out = writable_float_array(out_object, "out");
    require(side > 0 && side <= max_grid, "side: expected 1 to 256 tokens, got " + std::to_string(side));
    const py::ssize_t tokens = static_cast<py::ssize_t>(side) * side;
    const auto shape = shape_of(queries, 2);
    require(shape.size() == 2 && shape[0] == tokens && shape[1] > 0 && shape[1] <= max_token_width,
            "queries: expected shape (" + std::to_string(tokens) + ", d), d from 1 to 65536, got " +
                text_of(queries.attr("shape")));
    require(heads > 0 && shape[1] % heads == 0, "heads: expected a divisor of " + std::to_string(shape[1]) +
                                                    ", the width of the queries, got " + std::to_string(heads));
    require(std::isfinite(weight), "weight: expected a finite number, got " + std::to_string(weight));
    expect_shape(keys, shape, "keys");
    expect_shape(sigmas, {tokens, 2 * static_cast<py::ssize_t>(heads)}, "sigmas");
    expect_shape(out, {tokens}, "out");
    const CorrelationSpec spec{side, static_cast<int>(shape[1]), heads, weight};
    const float *q = data_of<float>(queries), *k = data_of<float>(keys), *s = data_of<float>(sigmas);
    auto* to = static_cast<float*>(out.mutable_data());
    const py::gil_scoped_release unlocked;
    return symmetric_kl(spec, q, k, s, to);
}

}  // namespace

void bind_correlation(py::module_& m) {
    using namespace py::literals;
    m.def(
        "symmetric_kl", &checked_symmetric_kl, "queries"_a, "keys"_a, "sigmas"_a, py::kw_only(), "heads"_a, "side"_a,
        "weight"_a, "out"_a,
        "out[i] += weight * mean over heads of KL(S_i, T_i) + KL(T_i, S_i): reference against neighbourhood.\n\n"
        "S_i = softmax over j of query_i . key_j / sqrt(d / heads); T_i: a Gaussian on the grid around token i,\n"
        "sigmas[i, 2h] cells down and sigmas[i, 2h + 1] across in head h, normalised to sum 1; both logarithms of\n"
        "x + 1e-4. Returns how many inputs are not finite, or not positive in sigmas; if none, how many values of\n"
        "out. queries, keys: float32 (L, d), L = side * side, or (1, L, d). sigmas: float32 (L, 2 heads). weight: of\n"
        "the layer, 1 / layers for a mean. out: float32 (L,), added to. All C-contiguous. Raises TypeError for dtype\n"
        "or layout, ValueError for sizes. (FOD, equation 12; methods.md 5.4 to 5.6 and 7.4.)");
}

}  // namespace lad::bindings
