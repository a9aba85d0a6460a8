// Camera image to network input: crop, antialiased bilinear resize, normalise; one pass over the source.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lad/triangle_taps.hpp"

namespace lad {

struct PreprocessSpec {
    int source_height, source_width, channels;  // pixels; channels is 1 or 3, interleaved
    int roi_x, roi_y, roi_width, roi_height;    // pixels of the source; the resize does not look outside
    int height, width;                          // pixels of the network input
    bool swap_rb;                               // true: source channel 0 becomes network channel 2
    std::array<double, 3> mean, std;            // per network channel, on the 0..1 scale

    // What normalises a resized byte: resized * gain + bias.
    float gain(int channel) const { return static_cast<float>(1.0 / (255.0 * std[channel])); }
    float bias(int channel) const { return static_cast<float>(-mean[channel] / std[channel]); }
};

// A plan for one geometry. It owns a row buffer, so that a call allocates nothing; one call at a time.
class Preprocess {
  public:
    explicit Preprocess(const PreprocessSpec& spec);

    // image: (source_height, source_width, channels) uint8, pixels packed, rows row_pitch bytes apart.
    // out: (3, height, width) float32, packed: (resized / 255 - mean) / std; one source channel fills all three.
    void run(const std::uint8_t* image, std::ptrdiff_t row_pitch, float* out);

    const PreprocessSpec& spec() const { return spec_; }

    // A vector of 16 lanes covers this many horizontal taps of all channels: 5 of 3 channels, or 16 of one.
    static constexpr int lanes = 16;
    static constexpr int taps_per_vector(int channels) { return channels == 3 ? 5 : lanes; }

    // Read by the kernel.
    struct Tables {
        TriangleTaps rows;                // vertical taps
        int vectors;                      // 16-lane vectors per output column
        std::vector<int> column_offset;   // (width): first float of the row buffer
        std::vector<float> lane_weight;   // (width, vectors, lanes): horizontal weights, repeated for each channel
        std::array<float, 3> gain, bias;  // per network channel: resized * gain + bias
        std::vector<float> row;           // one source row after the vertical taps, and zeros behind it
    };

  private:
    PreprocessSpec spec_;
    Tables tables_;
};

}  // namespace lad
