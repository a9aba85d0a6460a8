// Constant tables of a plan: made on the host, copied once into device memory of the caller.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

#include "lad/elementary.hpp"

namespace lad::cuda {

class Tables {
  public:
    // Returns where the copy lies, in bytes from the beginning: a multiple of 16.
    template <typename T>
    std::size_t add(const std::vector<T>& values) {
        const std::size_t at = bytes_.size(), size = values.size() * sizeof(T);
        bytes_.resize((at + size + 15) / 16 * 16);
        if (size != 0) std::memcpy(bytes_.data() + at, values.data(), size);
        return at;
    }

    const void* data() const { return bytes_.data(); }
    std::size_t size() const { return bytes_.size(); }

  private:
    std::vector<std::byte> bytes_;
};

// A table on the device, where the copy of the tables begins.
template <typename T>
LAD_SHARED const T* table_at(const void* tables, std::size_t offset) {
    return reinterpret_cast<const T*>(static_cast<const char*>(tables) + offset);
}

}  // namespace lad::cuda
