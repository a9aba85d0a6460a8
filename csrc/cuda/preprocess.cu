// A block makes a part of one output row: first the vertical taps, over the bytes of the source that the part needs,
// into shared memory; then the horizontal ones. Source rows that neighbouring output rows share come from the cache.
#include "lad/preprocess.hpp"
#include "values.cuh"

namespace lad::cuda {
namespace {

constexpr int threads = 256;
constexpr int most_outputs = 192;  // of a block: 64 columns of 3 channels, or 192 of one
constexpr int chunk = 2048;        // source bytes of a row at a time
constexpr int quad = 4;            // bytes that a thread reads at once

// One axis on the device. weights of output i, tap k: [i * output_step + k * tap_step].
struct Axis {
    const int *first, *count;
    const float* weights;
    int output_step, tap_step;
};

struct Frame {
    const std::uint8_t* image;  // first byte of the region of interest
    std::ptrdiff_t pitch;
    int channels;
    int before, bytes;  // of a row: in front of the region, from its begin to the end of the row
    bool quads;         // every row begins at a multiple of 4
};

struct Output {
    int height, width;
    bool swap_rb;
    float gain[3], bias[3];
};

struct Shared {
    float row[chunk];
};

// Four bytes of a row, some of which may lie outside of it; those count as 0.
__device__ void load_quad(const Frame& frame, const std::uint8_t* row, int at, float* bytes) {
    if (frame.quads && at + quad <= frame.bytes) {
        const unsigned four = __ldg(reinterpret_cast<const unsigned*>(row + at));
        for (int i = 0; i < quad; ++i) bytes[i] = static_cast<float>(four >> (8 * i) & 0xffu);
        return;
    }
    for (int i = 0; i < quad; ++i)
        bytes[i] = at + i >= 0 && at + i < frame.bytes ? static_cast<float>(__ldg(row + at + i)) : 0.0f;
}

// Vertical taps: bytes [begin, begin + count) of output row y.
__device__ void weigh_rows(const Frame& frame, const Axis& rows, int y, int begin, int count, float* sums) {
    const std::uint8_t* first = frame.image + static_cast<std::ptrdiff_t>(rows.first[y]) * frame.pitch;
    const float* weights = rows.weights + y * rows.output_step;
    const int taps = rows.count[y];
    for (int i = quad * threadIdx.x; i < count; i += quad * threads) {
        float sum[quad] = {};
#pragma unroll 4
        for (int k = 0; k < taps; ++k) {
            float bytes[quad];
            load_quad(frame, first + k * frame.pitch, begin + i, bytes);
            for (int j = 0; j < quad; ++j) sum[j] = fmaf(weights[k], bytes[j], sum[j]);
        }
        for (int j = 0; j < quad; ++j) sums[i + j] = sum[j];
    }
}

// Horizontal taps of one output that fall into bytes [begin, begin + count).
__device__ float weigh_columns(const Axis& columns, int x, int channel, int channels, int begin, int count,
                               const float* row, float sum) {
    const int first = columns.first[x] * channels + channel;
    const int from = max(0, (begin - first + channels - 1) / channels);
    const int to = min(columns.count[x], (begin + count - first + channels - 1) / channels);
    for (int k = from; k < to; ++k)
        sum = fmaf(__ldg(columns.weights + x + k * columns.tap_step), row[first + k * channels - begin], sum);
    return sum;
}

// A single channel fills all three.
template <typename T>
__device__ void write(const Output& of, T* out, int channels, int channel, int y, int x, float sum) {
    const std::size_t plane = static_cast<std::size_t>(of.height) * of.width;
    for (int c = 0; c < 3; ++c) {
        const int source = channels == 1 ? 0 : of.swap_rb ? 2 - c : c;
        if (source == channel)
            store(out + c * plane + static_cast<std::size_t>(y) * of.width + x, sum * of.gain[c] + of.bias[c]);
    }
}

template <typename T>
__global__ void __launch_bounds__(threads) preprocess_kernel(Frame frame, Axis rows, Axis columns, Output of, T* out) {
    float* row = shared_memory<Shared>().row;
    const int y = blockIdx.x, in_block = most_outputs / frame.channels, left = blockIdx.y * in_block;
    const int right = min(left + in_block, of.width) - 1;  // its last column
    const int own = threadIdx.x % in_block, channel = threadIdx.x / in_block, x = left + own;
    const bool active = channel < frame.channels && x <= right;
    const int end = (columns.first[right] + columns.count[right]) * frame.channels;
    // Down to a multiple of 4, which may lie in front of the region.
    const int start = columns.first[left] * frame.channels;
    const int begin = frame.quads ? start - (start + frame.before) % quad : start;
    float sum = 0;
    for (int at = begin; at < end; at += chunk) {
        const int count = min(chunk, end - at);
        weigh_rows(frame, rows, y, at, count, row);
        __syncthreads();
        if (active) sum = weigh_columns(columns, x, channel, frame.channels, at, count, row, sum);
        __syncthreads();
    }
    if (active) write(of, out, frame.channels, channel, y, x, sum);
}

std::vector<float> transposed(const TriangleTaps& taps) {
    const std::size_t size = taps.first.size();
    std::vector<float> weights(size * taps.max_count);
    for (std::size_t i = 0; i < size; ++i)
        for (int k = 0; k < taps.max_count; ++k) weights[k * size + i] = taps.of(static_cast<int>(i))[k];
    return weights;
}

}  // namespace

Preprocess::Preprocess(const PreprocessSpec& spec) : spec_(spec) {
    const TriangleTaps rows(spec.roi_height, spec.height), columns(spec.roi_width, spec.width);
    row_taps_ = rows.max_count;
    offsets_ = {tables_.add(rows.first),    tables_.add(rows.count),    tables_.add(rows.weights),
                tables_.add(columns.first), tables_.add(columns.count), tables_.add(transposed(columns))};
}

void Preprocess::run(const std::uint8_t* image, std::ptrdiff_t pitch, const void* tables, Values out,
                     Stream stream) const {
    const auto integers = [&](int i) { return table_at<int>(tables, offsets_[i]); };
    const auto floats = [&](int i) { return table_at<float>(tables, offsets_[i]); };
    const Axis rows{integers(0), integers(1), floats(2), row_taps_, 1};
    const Axis columns{integers(3), integers(4), floats(5), 1, spec_.width};
    const int before = spec_.roi_x * spec_.channels;
    const bool quads = reinterpret_cast<std::uintptr_t>(image) % quad == 0 && pitch % quad == 0;
    const Frame frame{image + spec_.roi_y * pitch + before,         pitch, spec_.channels, before,
                      spec_.source_width * spec_.channels - before, quads};
    Output of{spec_.height, spec_.width, spec_.swap_rb, {}, {}};
    for (int c = 0; c < 3; ++c) of.gain[c] = spec_.gain(c), of.bias[c] = spec_.bias(c);
    const dim3 blocks(spec_.height, blocks_for(spec_.width, most_outputs / spec_.channels));
    as_typed(out, [&](auto* to) {
        using T = std::remove_pointer_t<decltype(to)>;
        launch("preprocess", preprocess_kernel<T>, blocks, threads, sizeof(Shared), stream, frame, rows, columns, of,
               to);
    });
}

}  // namespace lad::cuda
