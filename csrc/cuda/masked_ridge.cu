// Three kernels: of every region its cells in white coordinates and what it adds to the context; the sum of that over
// the regions; the distances, a block for each cell and for the mean of each region's cells. The mean of the residuals
// is the residual of the mean: so a region has five lines that are all treated alike.
#include <type_traits>

#include "masked_ridge.cuh"
#include "reduce.cuh"

namespace lad::cuda {
namespace {

using Layout = MaskedRidge::Layout;
using RoundedRows = MaskedRidge::RoundedRows;

constexpr int threads = 256, warps = threads / warp_size;
constexpr int depth = threads;   // channels that a block standardises at a time
constexpr int rows_at_once = 4;  // that a warp multiplies, so that their loads overlap
constexpr int block_rows = warps * rows_at_once;
constexpr int white_columns = warp_size;  // of a block

using FourCells = Pack<float, cells_of_region>;

LAD_SHARED int regions_of(const Layout& of) { return of.side / 2 * (of.side / 2); }

// What all launches of a call read.
struct Call {
    Layout of;
    const void* tables;
    float* white;    // (regions, 5, pitch)
    float* context;  // (r + 1, regions): what each region adds; the last row: 1 where one of its values is not finite
    float* total;    // (r + 1): the same, of all regions
    float *fine, *coarse, *own;
    Wide* nonfinite;

    __device__ int regions() const { return regions_of(of); }
    // Of the region of a block: its number in a row of the context.
    __device__ float& context_of(int row) const {
        return context[static_cast<std::size_t>(row) * regions() + blockIdx.x];
    }
    // Of cell k of a region in the picture.
    __device__ int place(int region, int k) const {
        const int half = of.side / 2;
        return (region / half * 2 + k / 2) * of.side + region % half * 2 + k % 2;
    }
    __device__ const float* table(std::size_t offset) const { return table_at<float>(tables, offset); }
    __device__ const Rounded* row(const RoundedRows& rows, std::size_t i) const {
        return table_at<Rounded>(tables, rows.values) + i * of.pitch;
    }
    __device__ float scale(const RoundedRows& rows, std::size_t i) const { return __ldg(table(rows.scales) + i); }
};

// ---- products of rows

// Of the rows from `first` on, for one warp. Behind the last row the last one again, whose products go nowhere.
template <int lines>
struct RowProducts {
    const Rounded* row[rows_at_once];
    float sum[rows_at_once][lines] = {};

    __device__ RowProducts(const Rounded* rows, int pitch, int first, int count) {
        for (int i = 0; i < rows_at_once; ++i)
            row[i] = rows + static_cast<std::size_t>(min(first + i, count - 1)) * pitch;
    }
    // with: `width` values of each line, an even number, for those of the rows from `begin` on.
    __device__ void add(const float* const (&with)[lines], int begin, int width) {
#pragma unroll 2
        for (int k = static_cast<int>(threadIdx.x) % warp_size * 2; k < width; k += warp_size * 2) {
            Pack<float, 2> line[lines];
            for (int l = 0; l < lines; ++l) line[l] = load_pack<2>(with[l] + k);
            for (int i = 0; i < rows_at_once; ++i) {
                const auto pair = load_pack<2>(row[i] + begin + k);
                for (int l = 0; l < lines; ++l)
                    for (int v = 0; v < 2; ++v)
                        sum[i][l] = fmaf(line[l].part[v], static_cast<float>(pair.part[v]), sum[i][l]);
            }
        }
    }
};

// ---- regions

struct RegionShared {
    FourCells cells[depth];  // standardised
    float mean[depth];       // of the four
    FourCells sums[warps][white_columns];
};

// Channels from `first` on of the region's cells, one for each thread; returns how many of its values are not finite.
template <typename T>
__device__ unsigned standardise(const Call& call, const T* cells, int first, RegionShared& s) {
    const int thread = threadIdx.x, c = first + thread, region = blockIdx.x;
    FourCells z{};
    unsigned bad = 0;
    if (c < call.of.channels) {
        const std::size_t at = static_cast<std::size_t>(region) * call.of.channels + c;
        const auto mean = load_pack<cells_of_region>(call.table(call.of.mean) + at * cells_of_region);
        const T* plane = cells + static_cast<std::size_t>(c) * call.of.side * call.of.side;
        const float scale = __ldg(call.table(call.of.scale) + c);
        for (int k = 0; k < cells_of_region; ++k) {
            const float value = to_float(plane[call.place(region, k)]);
            bad += !is_finite(value);
            z.part[k] = (value - mean.part[k]) * scale;
        }
    }
    s.cells[thread] = z;
    s.mean[thread] = ((z.part[0] + z.part[1]) + (z.part[2] + z.part[3])) * 0.25f;
    return bad;
}

// Some columns of the region's lines in white coordinates; each warp has its part of the depth.
struct WhiteColumns {
    int column;
    FourCells sum{};

    __device__ explicit WhiteColumns(int tile)
        : column(tile * white_columns + static_cast<int>(threadIdx.x) % warp_size) {}

    __device__ void add(const Call& call, const RegionShared& s, int first) {
        if (column >= call.of.pitch) return;
        const float* matrix = call.table(call.of.whitening) + static_cast<std::size_t>(first) * call.of.pitch + column;
        const int count = min(depth, call.of.channels - first);
#pragma unroll 4
        for (int k = static_cast<int>(threadIdx.x) / warp_size; k < count; k += warps) {
            const float weight = __ldg(matrix + static_cast<std::size_t>(k) * call.of.pitch);
            for (int i = 0; i < cells_of_region; ++i) sum.part[i] = fmaf(s.cells[k].part[i], weight, sum.part[i]);
        }
    }
    __device__ void store(const Call& call, RegionShared& s) {
        const int thread = threadIdx.x, pitch = call.of.pitch;
        s.sums[thread / warp_size][thread % warp_size] = sum;
        __syncthreads();
        if (thread >= warp_size || column >= pitch) return;
        for (int warp = 1; warp < warps; ++warp)
            for (int i = 0; i < cells_of_region; ++i) sum.part[i] += s.sums[warp][thread].part[i];
        float* line = call.white + static_cast<std::size_t>(blockIdx.x) * lines_of_region * pitch + column;
        for (int i = 0; i < cells_of_region; ++i, line += pitch) *line = sum.part[i];
        *line = ((sum.part[0] + sum.part[1]) + (sum.part[2] + sum.part[3])) * 0.25f;
    }
};

// Some numbers of what the region adds to the context.
struct ContextRows {
    int first_row;
    RowProducts<1> products;

    __device__ ContextRows(const Call& call, int tile)
        : first_row(tile * block_rows + static_cast<int>(threadIdx.x) / warp_size * rows_at_once),
          products(call.row(call.of.context, matrix(call)), call.of.pitch, first_row, call.of.context_width) {}

    __device__ void add(const Call& call, const RegionShared& s, int first) {
        products.add({s.mean}, first, min(depth, call.of.pitch - first));
    }
    __device__ void store(const Call& call, RegionShared&) {
        for (int i = 0; i < rows_at_once; ++i) {
            const float sum = warp_sum(products.sum[i][0]);
            const int row = first_row + i;
            if (threadIdx.x % warp_size != 0 || row >= call.of.context_width) continue;
            call.context_of(row) = sum * call.scale(call.of.context, matrix(call) + row);
        }
    }
    static __device__ std::size_t matrix(const Call& call) {
        return static_cast<std::size_t>(blockIdx.x) * call.of.context_width;
    }
};

// Returns what standardise does, for all channels.
template <typename T, typename Part>
__device__ unsigned multiply(const Call& call, const T* cells, RegionShared& s, Part part) {
    unsigned bad = 0;
    for (int first = 0; first < call.of.channels; first += depth) {
        bad += standardise(call, cells, first, s);
        __syncthreads();
        part.add(call, s, first);
        __syncthreads();
    }
    part.store(call, s);
    return bad;
}

// blockIdx: region, columns of the whitening or rows of the context behind them.
template <typename T>
__global__ void __launch_bounds__(threads) region_kernel(Call call, const T* cells) {
    auto& s = shared_memory<RegionShared>();
    const int tile = blockIdx.y, white_tiles = (call.of.pitch + white_columns - 1) / white_columns;
    if (tile < white_tiles) {
        multiply(call, cells, s, WhiteColumns(tile));
        return;
    }
    const unsigned bad = multiply(call, cells, s, ContextRows(call, tile - white_tiles));
    if (tile != white_tiles) return;
    const bool any = __syncthreads_or(bad != 0);
    if (threadIdx.x == 0) call.context_of(call.of.context_width) = any;
    if (bad != 0) atomicAdd(call.nonfinite, Wide{bad});
}

// A warp for each row of the context.
__global__ void __launch_bounds__(threads) total_kernel(Call call) {
    const int lane = threadIdx.x % warp_size, row = (blockIdx.x * threads + threadIdx.x) / warp_size;
    if (row > call.of.context_width) return;
    const int regions = call.regions();
    const float* added = call.context + static_cast<std::size_t>(row) * regions;
    float sum = 0;
#pragma unroll 4
    for (int region = lane; region < regions; region += warp_size) sum += added[region];
    sum = warp_sum(sum);
    if (lane == 0) call.total[row] = sum;
}

// ---- distances

// The squared lengths of two vectors, less what lies along the directions.
struct Squares {
    float of_residual = 0, of_cell = 0;

    __device__ void add(float residual, float cell) {
        of_residual = fmaf(residual, residual, of_residual);
        of_cell = fmaf(cell, cell, of_cell);
    }
    __device__ void take_away(float residual, float cell) {
        of_residual = fmaf(-residual, residual, of_residual);
        of_cell = fmaf(-cell, cell, of_cell);
    }
};

// Behind it the residual, (pitch), and the context of the other regions times the scales of the prediction, (r).
struct alignas(16) DistanceShared {
    Squares squares[warps];
};

std::size_t distance_bytes(const Layout& of) {
    return sizeof(DistanceShared) + sizeof(float) * (of.pitch + of.context_width);
}

__device__ void weigh_context(const Call& call, float* weights) {
    const int line = blockIdx.x, region = line / lines_of_region, r = call.of.context_width;
    for (int i = threadIdx.x; i < r; i += threads) {
        const float added = call.context[static_cast<std::size_t>(i) * call.regions() + region];
        weights[i] = (call.total[i] - added) * call.scale(call.of.prediction, static_cast<std::size_t>(line) * r + i);
    }
}

// What the context does not explain. Returns the squares of the columns of the thread.
__device__ Squares subtract_prediction(const Call& call, const float* white, const float* weights, float* residual) {
    const int r = call.of.context_width, pitch = call.of.pitch;
    const Rounded* rows = call.row(call.of.prediction, static_cast<std::size_t>(blockIdx.x) * r);
    Squares squares;
    for (int c = static_cast<int>(threadIdx.x) * 2; c < pitch; c += threads * 2) {
        const auto cell = load_pack<2>(white + c);
        auto left = cell;
#pragma unroll 16
        for (int i = 0; i < r; ++i) {
            const auto pair = load_pack<2>(rows + static_cast<std::size_t>(i) * pitch + c);
            for (int v = 0; v < 2; ++v)
                left.part[v] = fmaf(-weights[i], static_cast<float>(pair.part[v]), left.part[v]);
        }
        for (int v = 0; v < 2; ++v) squares.add(residual[c + v] = left.part[v], cell.part[v]);
    }
    return squares;
}

// By all lanes of the warp for its rows; the first one takes them away.
__device__ void subtract_along(const Call& call, const float* white, const float* residual, Squares& squares) {
    const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size, q = call.of.directions;
    const std::size_t matrix = static_cast<std::size_t>(blockIdx.x) * q;
    for (int first = warp * rows_at_once; first < q; first += block_rows) {
        RowProducts<2> products(call.row(call.of.along, matrix), call.of.pitch, first, q);
        products.add({residual, white}, 0, call.of.pitch);
        for (int i = 0; i < rows_at_once; ++i) {
            const float of_residual = warp_sum(products.sum[i][0]), of_cell = warp_sum(products.sum[i][1]);
            if (lane != 0 || first + i >= q) continue;
            const float scale = call.scale(call.of.along, matrix + first + i);
            squares.take_away(of_residual * scale, of_cell * scale);
        }
    }
}

__device__ Squares sum_of_block(DistanceShared& s, Squares squares) {
    const int warp = threadIdx.x / warp_size;
    squares.of_residual = warp_sum(squares.of_residual), squares.of_cell = warp_sum(squares.of_cell);
    if (threadIdx.x % warp_size == 0) s.squares[warp] = squares;
    __syncthreads();
    Squares sum;
    for (const Squares& part : s.squares) sum.of_residual += part.of_residual, sum.of_cell += part.of_cell;
    return sum;
}

// Returns whether it is not finite; what is written is NaN then.
__device__ bool store_distance(float square, float root_gain, float* to) {
    const float distance = root_gain * sqrtf(at_least(square, 0.0f));
    const bool finite = is_finite(distance);
    *to = finite ? distance : float_of(0x7fc00000u);
    return !finite;
}

// By one thread; returns how many distances are not finite.
__device__ unsigned store_distances(const Call& call, const Squares& squares) {
    const int region = blockIdx.x / lines_of_region, k = blockIdx.x % lines_of_region;
    const float* root_gain = call.of.root_gain;
    if (k == cells_of_region) return store_distance(squares.of_residual, root_gain[1], call.coarse + region);
    const int place = call.place(region, k);
    return store_distance(squares.of_residual, root_gain[0], call.fine + place) +
           store_distance(squares.of_cell, root_gain[2], call.own + place);
}

// blockIdx: line.
__global__ void __launch_bounds__(threads) distance_kernel(Call call) {
    auto& s = shared_memory<DistanceShared>();
    float *residual = reinterpret_cast<float*>(&s + 1), *weights = residual + call.of.pitch;
    const float* white = call.white + static_cast<std::size_t>(blockIdx.x) * call.of.pitch;
    const bool finite = call.total[call.of.context_width] == 0;
    weigh_context(call, weights);
    __syncthreads();
    Squares squares = subtract_prediction(call, white, weights, residual);
    __syncthreads();
    subtract_along(call, white, residual, squares);
    squares = sum_of_block(s, squares);
    if (threadIdx.x != 0) return;
    if (!finite) squares.of_residual = squares.of_cell = float_of(0x7fc00000u);  // counted already
    const unsigned bad = store_distances(call, squares);
    if (finite && bad != 0) atomicAdd(call.nonfinite, Wide{bad});
}

}  // namespace

std::size_t MaskedRidge::workspace_bytes() const {
    const std::size_t regions = regions_of(layout_), rows = layout_.context_width + 1;
    return sizeof(float) * (regions * lines_of_region * layout_.pitch + rows * regions + rows);
}

void MaskedRidge::run(ConstValues cells, const void* tables, float* fine, float* coarse, float* own,
                      std::int64_t* nonfinite, void* workspace, Stream stream) const {
    const unsigned regions = regions_of(layout_), lines = regions * lines_of_region, rows = layout_.context_width + 1;
    auto* white = static_cast<float*>(workspace);
    float* context = white + static_cast<std::size_t>(lines) * layout_.pitch;
    float* total = context + static_cast<std::size_t>(rows) * regions;
    const Call call{layout_, tables, white, context, total, fine, coarse, own, reinterpret_cast<Wide*>(nonfinite)};
    const unsigned tiles = blocks_for(layout_.pitch, white_columns) + blocks_for(layout_.context_width, block_rows);
    as_typed(cells, [&](const auto* from) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(from)>>;
        launch("masked_ridge: regions", region_kernel<T>, dim3(regions, tiles), threads, sizeof(RegionShared), stream,
               call, from);
    });
    launch("masked_ridge: total", total_kernel, dim3(blocks_for(rows, warps)), threads, 0, stream, call);
    launch("masked_ridge: distances", distance_kernel, dim3(lines), threads, distance_bytes(layout_), stream, call);
}

}  // namespace lad::cuda
