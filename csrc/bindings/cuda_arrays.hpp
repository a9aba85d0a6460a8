// Checks of device arrays (__cuda_array_interface__): form, type and place; what they hold stays on the device.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <numeric>
#include <utility>

#include "arrays.hpp"
#include "lad/cuda.hpp"

namespace lad::bindings {

using Shape = std::vector<py::ssize_t>;
using Types = std::initializer_list<const char*>;

constexpr const char *type_f4 = "<f4", *type_f2 = "<f2", *type_u1 = "|u1", *type_u2 = "<u2", *type_u4 = "<u4",
                     *type_i8 = "<i8", *type_f8 = "<f8";

// Nothing is copied.
struct DeviceArray {
    std::uintptr_t pointer;
    Shape shape, strides;  // strides in bytes
    std::string type;      // typestr of the interface
    bool read_only;

    template <typename T>
    T* as() const {
        return reinterpret_cast<T*>(pointer);
    }
    // "<f4 (3, 4)", with its strides: what a message says of an array that came.
    std::string text() const { return type + " " + shape_text(shape) + " with strides " + shape_text(strides); }
};

inline Shape packed_strides(const Shape& shape, py::ssize_t item_bytes) {
    Shape strides(shape.size(), item_bytes);
    for (std::size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
    return strides;
}

inline DeviceArray device_array(const py::object& object, const std::string& name, Types types) {
    if (!py::hasattr(object, "__cuda_array_interface__"))
        throw py::type_error(name + ": expected a device array with __cuda_array_interface__, got " +
                             text_of(py::type::handle_of(object).attr("__name__")));
    const py::dict interface = object.attr("__cuda_array_interface__");
    const auto [pointer, read_only] = interface["data"].cast<std::pair<std::uintptr_t, bool>>();
    DeviceArray a{pointer, interface["shape"].cast<Shape>(), {}, interface["typestr"].cast<std::string>(), read_only};
    const py::object strides = interface.attr("get")("strides");
    a.strides = strides.is_none() ? packed_strides(a.shape, a.type.back() - '0') : strides.cast<Shape>();
    std::string expected;
    for (const char* type : types) expected += (expected.empty() ? "" : " or ") + std::string(type);
    if (std::find(types.begin(), types.end(), a.type) == types.end())
        throw py::type_error(name + ": expected a device array of type " + expected + ", got " + a.text());
    return a;
}

inline bool is_packed(const DeviceArray& a) {
    const Shape packed = packed_strides(a.shape, a.type.back() - '0');
    for (std::size_t i = 0; i < packed.size(); ++i)
        if (a.shape[i] != 1 && a.strides[i] != packed[i]) return false;
    return true;
}

inline DeviceArray packed_device_array(const py::object& object, const std::string& name, Types types) {
    DeviceArray a = device_array(object, name, types);
    if (!is_packed(a)) throw py::type_error(name + ": expected a C-contiguous device array, got " + a.text());
    return a;
}

inline py::ssize_t element_count(const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), py::ssize_t{1}, std::multiplies<>());
}

// The shape without a leading 1 where it has one dimension more than `ndim`.
inline Shape without_batch(const Shape& shape, std::size_t ndim) {
    const bool batch_of_one = shape.size() == ndim + 1 && shape[0] == 1;
    return {shape.begin() + (batch_of_one ? 1 : 0), shape.end()};
}

inline void expect_shape(const DeviceArray& a, const Shape& expected, const std::string& name) {
    require(without_batch(a.shape, expected.size()) == expected,
            name + ": expected shape " + shape_text(expected) + ", got " + shape_text(a.shape));
}

inline DeviceArray writable_device_array(const py::object& object, const std::string& name, Types types,
                                         const Shape& shape) {
    DeviceArray a = packed_device_array(object, name, types);
    if (a.read_only) throw py::type_error(name + ": expected a writable device array, got a read-only one");
    expect_shape(a, shape, name);
    return a;
}

inline cuda::Precision precision_of(const DeviceArray& a) {
    return a.type == type_f2 ? cuda::Precision::f16 : cuda::Precision::f32;
}

inline cuda::ConstValues const_values(const DeviceArray& a) { return {a.as<const void>(), precision_of(a)}; }
inline cuda::Values values(const DeviceArray& a) { return {a.as<void>(), precision_of(a)}; }

// Where a kernel adds the number of values that are not finite.
inline std::int64_t* counter(const py::object& object) {
    return writable_device_array(object, "nonfinite", {type_i8}, {1}).as<std::int64_t>();
}

// Device memory to work in: bytes, at least `needed` of them.
inline void* workspace_of(const py::object& object, const std::string& name, std::size_t needed) {
    const DeviceArray a = packed_device_array(object, name, {type_u1});
    require(
        !a.read_only && a.shape.size() == 1 && static_cast<std::size_t>(a.shape[0]) >= needed && a.pointer % 256 == 0,
        name + ": expected " + std::to_string(needed) + " writable bytes or more at a multiple of 256, got shape " +
            shape_text(a.shape) + " at " + std::to_string(a.pointer));
    return a.as<void>();
}

inline cuda::Stream stream_of(std::uintptr_t handle) { return reinterpret_cast<cuda::Stream>(handle); }

}  // namespace lad::bindings
