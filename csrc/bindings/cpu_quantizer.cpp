#include <pybind11/stl.h>

#include <memory>

#include "bindings.hpp"
#include "lad/quantizer.hpp"

namespace lad::bindings {
namespace {

constexpr py::ssize_t max_entries = 65535, max_width = 1 << 16, max_tokens = 1 << 20;

// A table of a codebook: (rows, columns) float32, all finite, or a null array where the codebook has None.
py::object table_of(const py::tuple& codebook, int field, const std::string& name) {
    if (codebook[field].is_none()) return py::none();
    py::array a = float_array(codebook[field], name.c_str());
    require(a.ndim() == 2 && a.shape(0) > 0 && a.shape(1) > 0 && a.shape(0) <= max_width && a.shape(1) <= max_width,
            name + ": expected shape (rows, columns), none of them 0, got " + text_of(a.attr("shape")));
    require(count_nonfinite(data_of<float>(a), static_cast<std::size_t>(a.size())) == 0,
            name + ": expected finite numbers, got NaN or Inf");
    return a;
}

py::array needed_table(const py::tuple& codebook, int field, const std::string& name) {
    const py::object table = table_of(codebook, field, name);
    if (table.is_none()) throw py::type_error(name + ": expected a numpy array, got None");
    return table;
}

void expect_table(const py::array& a, py::ssize_t top_entries, py::ssize_t columns, const std::string& name) {
    const bool rows_ok = a.shape(0) == 1 || a.shape(0) == top_entries;
    require(rows_ok && a.shape(1) == columns, name + ": expected shape " + shape_text({1, columns}) +
                                                  (top_entries > 1 ? " or " + shape_text({top_entries, columns}) : "") +
                                                  ", got " + text_of(a.attr("shape")));
}

// The tables stay alive in `kept` while the view points into them. top_entries: 1 for the top codebook itself.
CodebookView checked_codebook(const py::handle& object, const std::string& name, py::ssize_t top_entries,
                              std::vector<py::object>& kept) {
    if (!py::isinstance<py::tuple>(object) || py::len(object) != 5)
        throw py::type_error(name + ": expected a lad_edge.kernels.Codebook, got " +
                             text_of(py::type::handle_of(object).attr("__name__")));
    const auto codebook = py::reinterpret_borrow<py::tuple>(object);
    const py::object projection = table_of(codebook, 0, name + ".projection");
    const py::array shift = needed_table(codebook, 1, name + ".shift");
    const py::array entries = needed_table(codebook, 2, name + ".entries");
    const py::array bias = needed_table(codebook, 3, name + ".bias");
    const py::object memory = table_of(codebook, 4, name + ".memory");
    const py::ssize_t count = entries.shape(0), width = entries.shape(1);
    require(count <= max_entries, name + ".entries: expected 1 to 65535 rows, got " + std::to_string(count));
    expect_table(shift, top_entries, width, name + ".shift");
    expect_table(bias, top_entries, count, name + ".bias");
    CodebookView view{};
    view.token_width = view.width = static_cast<int>(width), view.entries = static_cast<int>(count);
    view.shift = data_of<float>(shift), view.shift_rows = static_cast<int>(shift.shape(0));
    view.codebook = data_of<float>(entries);
    view.bias = data_of<float>(bias), view.bias_rows = static_cast<int>(bias.shape(0));
    if (!projection.is_none()) {
        const py::array a = projection;
        require(a.shape(0) == width, name + ".projection: expected " + std::to_string(width) +
                                         " rows, the width of the entries, got " + text_of(a.attr("shape")));
        view.projection = data_of<float>(a), view.token_width = static_cast<int>(a.shape(1));
    }
    if (!memory.is_none()) {
        const py::array a = memory;
        require(a.shape(0) == count, name + ".memory: expected " + std::to_string(count) +
                                         " rows, one for each entry, got " + text_of(a.attr("shape")));
        view.memory = data_of<float>(a), view.memory_width = static_cast<int>(a.shape(1));
    }
    kept.insert(kept.end(), {projection, shift, entries, bias, memory});
    return view;
}

std::unique_ptr<Quantizer> make_quantizer(const py::object& top_object, const py::sequence& level_objects) {
    std::vector<py::object> kept;
    const CodebookView top = checked_codebook(top_object, "top", 1, kept);
    require(!top.memory, "top.memory: expected None; memories are gathered for the levels only");
    std::vector<CodebookView> levels;
    for (const py::handle& object : level_objects) {
        const std::string name = "levels[" + std::to_string(levels.size()) + "]";
        levels.push_back(checked_codebook(object, name, top.entries, kept));
        require(levels.back().token_width == top.token_width,
                name + ": expected tokens of width " + std::to_string(top.token_width) + ", as the top codebook, got " +
                    std::to_string(levels.back().token_width));
        require(levels.back().memory_width == levels.front().memory_width,
                name + ".memory: expected memories of one width in all levels, or in none");
    }
    return std::make_unique<Quantizer>(top, levels);
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
        "scores (projection e + shift[i]) . entries[j] + bias[i, j]; the highest score wins, the lowest index on\n"
        "ties. With bias -|b|^2 / 2 that is the nearest entry. Quantizer(top, []) is a flat one. float32\n"
        "throughout. Raises TypeError for dtype or layout, ValueError for sizes and for tables that are not finite.\n"
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
