// The checked codebooks of a `Quantizer`, the same for the CPU and for CUDA.
#pragma once

#include <string>
#include <vector>

#include "arrays.hpp"
#include "lad/codebook.hpp"
#include "lad/lanes.hpp"

namespace lad::bindings {

constexpr py::ssize_t max_entries = 65535, max_width = 1 << 16, max_tokens = 1 << 20;

// A table of a codebook: (rows, columns) float32, all finite, or a null array where the codebook has None.
inline py::object table_of(const py::tuple& codebook, int field, const std::string& name) {
    if (codebook[field].is_none()) return py::none();
    py::array a = float_array(codebook[field], name.c_str());
    require(a.ndim() == 2 && a.shape(0) > 0 && a.shape(1) > 0 && a.shape(0) <= max_width && a.shape(1) <= max_width,
            name + ": expected shape (rows, columns), none of them 0, got " + text_of(a.attr("shape")));
    require(count_nonfinite(data_of<float>(a), static_cast<std::size_t>(a.size())) == 0,
            name + ": expected finite numbers, got NaN or Inf");
    return a;
}

inline py::array needed_table(const py::tuple& codebook, int field, const std::string& name) {
    const py::object table = table_of(codebook, field, name);
    if (table.is_none()) throw py::type_error(name + ": expected a numpy array, got None");
    return table;
}

inline void expect_table(const py::array& a, py::ssize_t top_entries, py::ssize_t columns, const std::string& name) {
    const bool rows_ok = a.shape(0) == 1 || a.shape(0) == top_entries;
    require(rows_ok && a.shape(1) == columns, name + ": expected shape " + shape_text({1, columns}) +
                                                  (top_entries > 1 ? " or " + shape_text({top_entries, columns}) : "") +
                                                  ", got " + text_of(a.attr("shape")));
}

// The tables stay alive in `kept` while the view points into them. top_entries: 1 for the top codebook itself.
inline CodebookView checked_codebook(const py::handle& object, const std::string& name, py::ssize_t top_entries,
                                     std::vector<py::object>& kept) {
    if (!py::isinstance<py::tuple>(object) || py::len(object) != 5)
        throw py::type_error(name + ": expected a lad_edge.kernels.Codebook, got " +
                             text_of(py::type::handle_of(object).attr("__name__")));
    const auto codebook = py::reinterpret_borrow<py::tuple>(object);
    const py::object projection = table_of(codebook, 0, name + ".projection");
    const py::array shift = needed_table(codebook, 1, name + ".shift");
    const py::array entries = needed_table(codebook, 2, name + ".entries");
    const py::object prior = table_of(codebook, 3, name + ".prior");
    const py::object memory = table_of(codebook, 4, name + ".memory");
    const py::ssize_t count = entries.shape(0), width = entries.shape(1);
    require(count <= max_entries, name + ".entries: expected 1 to 65535 rows, got " + std::to_string(count));
    expect_table(shift, top_entries, width, name + ".shift");
    CodebookView view{};
    view.token_width = view.width = static_cast<int>(width), view.entries = static_cast<int>(count);
    view.shift = data_of<float>(shift), view.shift_rows = static_cast<int>(shift.shape(0));
    view.codebook = data_of<float>(entries);
    if (!prior.is_none()) {
        const py::array a = prior;
        expect_table(a, top_entries, count, name + ".prior");
        view.prior = data_of<float>(a), view.prior_rows = static_cast<int>(a.shape(0));
    }
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
    kept.insert(kept.end(), {projection, shift, entries, prior, memory});
    return view;
}

// Views of a top codebook and its levels; the tables live as long as this.
struct Codebooks {
    std::vector<py::object> kept;
    CodebookView top;
    std::vector<CodebookView> levels;

    Codebooks(const py::object& top_object, const py::sequence& level_objects)
        : top(checked_codebook(top_object, "top", 1, kept)) {
        require(!top.memory, "top.memory: expected None; memories are gathered for the levels only");
        for (const py::handle& object : level_objects) {
            const std::string name = "levels[" + std::to_string(levels.size()) + "]";
            levels.push_back(checked_codebook(object, name, top.entries, kept));
            require(levels.back().token_width == top.token_width,
                    name + ": expected tokens of width " + std::to_string(top.token_width) +
                        ", as the top codebook, got " + std::to_string(levels.back().token_width));
            require(levels.back().memory_width == levels.front().memory_width,
                    name + ".memory: expected memories of one width in all levels, or in none");
        }
    }
};

}  // namespace lad::bindings
