// Checks at the border between Python and the kernels: everything below this line sees raw pointers only.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

namespace lad::bindings {

namespace py = pybind11;

constexpr int max_side = 1 << 16;  // cells and pixels; keeps every index of a row inside an int

inline std::string text_of(const py::handle& object) { return py::str(object).cast<std::string>(); }

// "float32 (3, 4)", with its strides if it is not packed: what a message says of an array that came.
inline std::string describe(const py::array& a) {
    std::string text = text_of(a.dtype()) + " " + text_of(a.attr("shape"));
    if (!(a.flags() & py::array::c_style)) text += " with strides " + text_of(a.attr("strides"));
    return text;
}

inline std::string shape_text(const std::vector<py::ssize_t>& shape) {
    std::string text = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + ")";
}

inline py::array as_array(const py::handle& object, const char* name) {
    if (!py::isinstance<py::array>(object))
        throw py::type_error(std::string(name) + ": expected a numpy array, got " +
                             text_of(py::type::handle_of(object).attr("__name__")));
    return py::reinterpret_borrow<py::array>(object);
}

// A packed, aligned array of T, taken as it is: never copied, never converted.
template <typename T>
py::array packed_array(const py::handle& object, const char* name) {
    const py::array a = as_array(object, name);
    const bool usable = py::isinstance<py::array_t<T>>(a) && (a.flags() & py::array::c_style) &&
                        (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_);
    if (usable) return a;
    const std::string type = text_of(py::dtype::of<T>());
    throw py::type_error(std::string(name) + ": expected a C-contiguous " + type + " array, got " + describe(a) +
                         "; use numpy.ascontiguousarray(x, numpy." + type + ")");
}

template <typename T>
py::array writable_array(const py::handle& object, const char* name) {
    const py::array a = packed_array<T>(object, name);
    if (!a.writeable()) throw py::type_error(std::string(name) + ": expected a writable array, got a read-only one");
    return a;
}

inline py::array float_array(const py::handle& object, const char* name) { return packed_array<float>(object, name); }

inline py::array writable_float_array(const py::handle& object, const char* name) {
    return writable_array<float>(object, name);
}

template <typename T>
const T* data_of(const py::array& a) {
    return static_cast<const T*>(a.data());
}

// The shape without a leading 1 where the array has one dimension more than `ndim`.
inline std::vector<py::ssize_t> shape_of(const py::array& a, py::ssize_t ndim) {
    const bool batch_of_one = a.ndim() == ndim + 1 && a.shape(0) == 1;
    return {a.shape() + (batch_of_one ? 1 : 0), a.shape() + a.ndim()};
}

inline void expect_shape(const py::array& a, const std::vector<py::ssize_t>& expected, const char* name) {
    const auto ndim = static_cast<py::ssize_t>(expected.size());
    if (shape_of(a, ndim) != expected)
        throw py::value_error(std::string(name) + ": expected shape " + shape_text(expected) + ", got " +
                              text_of(a.attr("shape")));
}

inline void require(bool holds, const std::string& message) {
    if (!holds) throw py::value_error(message);
}

}  // namespace lad::bindings
