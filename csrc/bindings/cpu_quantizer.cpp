#include <memory>

#include "bindings.hpp"
#include "codebooks.hpp"
#include "lad/quantizer.hpp"

namespace lad::bindings {
namespace {

std::unique_ptr<Quantizer> make_quantizer(const py::object& top_object, const py::sequence& level_objects) {
    const Codebooks books(top_object, level_objects);
    return std::make_unique<Quantizer>(books.top, books.levels);
}

std::int64_t run_quantizer(const Quantizer& quantizer, const py::object& tokens_object, const py::object& codes_object,
                           const py::object& memory_object) {
    const py::array tokens = float_array(tokens_object, "tokens");
    py::array codes = writable_array<std::uint16_t>(codes_object, "codes_out");
    const py::ssize_t rows = 1 + quantizer.levels();
    require(tokens.ndim() == 3 && tokens.shape(0) == rows && tokens.shape(1) > 0 && tokens.shape(1) <= max_tokens &&
                tokens.shape(2) == quantizer.token_width(),
            "tokens: expected shape (" + std::to_string(rows) + ", N, " + std::to_string(quantizer.token_width()) +
                "), N from 1 to 1048576, got " + text_of(tokens.attr("shape")));
    const py::ssize_t count = tokens.shape(1);
    expect_shape(codes, {rows, count}, "codes_out");
    float* memory = nullptr;
    if (!memory_object.is_none()) {
        require(quantizer.memory_width() > 0, "memory_out: expected None; these codebooks have no memory");
        py::array a = writable_float_array(memory_object, "memory_out");
        expect_shape(a, {rows - 1, count, quantizer.memory_width()}, "memory_out");
        memory = static_cast<float*>(a.mutable_data());
    }
    const auto* from = data_of<float>(tokens);
    auto* to = static_cast<std::uint16_t*>(codes.mutable_data());
    const py::gil_scoped_release unlocked;
    return quantizer.run(from, static_cast<int>(count), to, memory);
}

}  // namespace

void bind_quantizer(py::module_& m) {
    using namespace py::literals;
    py::class_<Quantizer>(
        m, "Quantizer",
        "Tokens to codes: the best entry of a top codebook, and of levels that depend on the top code.\n\n"
        "top, levels: Codebook; their tables are copied. Under the top code i of the same token, entry j of a level\n"
        "scores -|x - entries[j]|^2 / 2 + prior[i, j], x = projection e + shift[i]; the highest score wins, the "
        "lowest\n"
        "index on ties. Products find it, and where they are too close to tell, differences. Quantizer(top, []) is a\n"
        "flat one. float32 throughout. Raises TypeError for dtype or layout, ValueError for sizes and for tables that "
        "are not finite.\n"
        "Threads may share it. (LADMIM, methods.md 6.2, 6.7 and 7.1.)")
        .def(py::init(&make_quantizer), "top"_a, "levels"_a)
        .def("__call__", &run_quantizer, "tokens"_a, "codes_out"_a, "memory_out"_a = py::none(),
             "Returns how many token values are not finite; their tokens get code 0.\n\n"
             "tokens: float32 (1 + levels, N, D), the row of the top codebook first. codes_out: uint16 (1 + levels, "
             "N).\n"
             "memory_out: float32 (levels, N, width) or None: the memory rows of the levels' codes. All C-contiguous,\n"
             "outputs overwritten. A finite token whose scores overflow counts as one. Raises TypeError for dtype or\n"
             "layout, ValueError for sizes.");
}

}  // namespace lad::bindings
