// Two kernels: tiles of pixels with what is largest in each, then the largest of the tiles. A thread goes down a column
// of its tile and interpolates along a row of cells only when it comes to the next one, as the CPU does.
#include "reduce.cuh"

namespace lad::cuda {
namespace {

constexpr int threads = 128;  // columns of a tile
constexpr int tile_rows = 8;

struct Cell {
    float structural, logical, fused;
};

struct Pair {
    float structural, logical;
};

// Levels of the whole map: n = scale * map + offset.
struct Normalised {
    FuseSpec spec;

    __device__ Pair judged(float structural, float logical, int) const {
        return {spec.structural_scale * structural + spec.structural_offset,
                spec.logical_scale * logical + spec.logical_offset};
    }
    __device__ Pair outside() const { return {spec.structural_offset, spec.logical_offset}; }
    __device__ Cell cell(Pair n) const {
        const float fused = spec.sigmoid ? 0.5f * sigmoid(n.structural) + 0.5f * sigmoid(n.logical)
                                         : 0.5f * n.structural + 0.5f * n.logical;
        return {n.structural, n.logical, fused};
    }
};

// Levels of each place: n = max(0, (map - usual) * weight).
struct Deviating {
    const float* places;
    int map;  // cells

    __device__ Pair judged(float structural, float logical, int at) const {
        return {(structural - __ldg(places + at)) * __ldg(places + 2 * map + at),
                (logical - __ldg(places + map + at)) * __ldg(places + 3 * map + at)};
    }
    __device__ Pair outside() const { return {0.0f, 0.0f}; }
    __device__ Cell cell(Pair n) const {
        const float structural = at_least(n.structural, 0.0f), logical = at_least(n.logical, 0.0f);
        return {structural, logical, structural > logical ? structural : logical};
    }
};

// The padded maps.
template <typename T, typename Judge>
struct Cells {
    FuseSpec spec;
    Judge judge;
    const T *structural, *logical;

    __device__ Pair judged(int at) const { return judge.judged(to_float(structural[at]), to_float(logical[at]), at); }

    __device__ Cell padded(int row, int column) const {
        const int y = row - spec.border, x = column - spec.border;
        const bool inside = y >= 0 && y < spec.height && x >= 0 && x < spec.width;
        if (!inside && spec.border_mode == BorderMode::zero) return judge.cell(judge.outside());
        return judge.cell(judged(min(max(y, 0), spec.height - 1) * spec.width + min(max(x, 0), spec.width - 1)));
    }

    // Between two cells of a row.
    __device__ Cell between(int row, LinearTap column) const {
        const Cell left = padded(row, column.low), right = padded(row, min(column.low + 1, spec.padded_width() - 1));
        return {lerp(left.structural, right.structural - left.structural, column.weight),
                lerp(left.logical, right.logical - left.logical, column.weight),
                lerp(left.fused, right.fused - left.fused, column.weight)};
    }
};

// The largest values of some pixels; order keys and peaks of reduce.cuh.
struct Tops {
    Wide fused = 0;
    unsigned structural = 0, logical = 0;
    unsigned bad_structural = 0, bad_logical = 0;  // cells

    __device__ void take(Cell value, Wide index) {
        fused = max(fused, peak_of(value.fused, index));
        structural = max(structural, order_key(value.structural));
        logical = max(logical, order_key(value.logical));
    }
    __device__ void merge(const Tops& other) {
        fused = max(fused, other.fused);
        structural = max(structural, other.structural);
        logical = max(logical, other.logical);
        bad_structural += other.bad_structural;
        bad_logical += other.bad_logical;
    }
};

// The two rows of cells around a row of pixels, at one column.
template <typename T, typename Judge>
struct Gap {
    const Cells<T, Judge>& cells;
    LinearTap column;
    int above = -2;
    Cell upper = {}, lower = {};

    __device__ void enter(int row) {
        if (row == above) return;
        const int below = min(row + 1, cells.spec.padded_height() - 1);
        upper = row == above + 1 ? lower : cells.between(row, column);
        lower = cells.between(below, column);
        above = row;
    }
    __device__ Cell at(float weight) const {
        return {lerp(upper.structural, lower.structural - upper.structural, weight),
                lerp(upper.logical, lower.logical - upper.logical, weight),
                lerp(upper.fused, lower.fused - upper.fused, weight)};
    }
};

struct Shared {
    LinearTap rows[tile_rows];
    Tops tops[threads];
};

// source / size of both axes.
struct Scale {
    double rows, columns;
};

// Each block looks at its share of the cells, wherever its pixels are.
template <typename T, typename Judge>
__device__ void count_cells(const Cells<T, Judge>& cells, Tops& tops) {
    const unsigned block = blockIdx.y * gridDim.x + blockIdx.x, step = gridDim.x * gridDim.y * threads;
    const unsigned count = static_cast<unsigned>(cells.spec.height) * cells.spec.width;
    for (Wide i = Wide{block} * threads + threadIdx.x; i < count; i += step) {
        const Pair n = cells.judged(static_cast<int>(i));
        tops.bad_structural += !can_interpolate(n.structural);
        tops.bad_logical += !can_interpolate(n.logical);
    }
}

template <typename T, typename Judge>
__global__ void __launch_bounds__(threads) upsample_kernel(Cells<T, Judge> cells, Scale scale, float* out, Tops* tops) {
    Shared& s = shared_memory<Shared>();
    const FuseSpec& spec = cells.spec;
    const int first = blockIdx.y * tile_rows, x = blockIdx.x * threads + threadIdx.x;
    if (threadIdx.x < tile_rows)
        s.rows[threadIdx.x] = linear_tap_at(first + threadIdx.x, spec.padded_height(), scale.rows);
    __syncthreads();
    Tops own;
    count_cells(cells, own);
    if (x < spec.out_width) {
        Gap<T, Judge> gap{cells, linear_tap_at(x, spec.padded_width(), scale.columns)};
        for (int row = 0; row < min(tile_rows, spec.out_height - first); ++row) {
            gap.enter(s.rows[row].low);
            const Cell value = gap.at(s.rows[row].weight);
            const Wide index = static_cast<Wide>(first + row) * spec.out_width + x;
            if (out) out[index] = value.fused;
            own.take(value, index);
        }
    }
    own = block_merged<threads>(own, s.tops);
    if (threadIdx.x == 0) tops[blockIdx.y * gridDim.x + blockIdx.x] = own;
}

__global__ void __launch_bounds__(threads) finish_kernel(int out_width, const Tops* tops, unsigned tiles, double* out) {
    Tops all;
    for (unsigned i = threadIdx.x; i < tiles; i += threads) all.merge(tops[i]);
    all = block_merged<threads>(all, shared_memory<Shared>().tops);
    if (threadIdx.x != 0) return;
    const double nan = float_of(0x7fc00000u);
    const Wide bad = Wide{all.bad_structural} + all.bad_logical;
    out[0] = bad == 0 ? value_of(all.fused) : nan;
    out[1] = bad == 0 ? static_cast<double>(index_of(all.fused) / out_width) : -1;
    out[2] = bad == 0 ? static_cast<double>(index_of(all.fused) % out_width) : -1;
    out[3] = all.bad_structural == 0 ? value_of_key(all.structural) : nan;
    out[4] = all.bad_logical == 0 ? value_of_key(all.logical) : nan;
    out[5] = static_cast<double>(bad);
}

dim3 tiles_of(const FuseSpec& spec) {
    return dim3(blocks_for(spec.out_width, threads), blocks_for(spec.out_height, tile_rows));
}

template <typename Judge>
void run(const FuseSpec& spec, const Judge& judge, ConstValues structural, ConstValues logical, float* out,
         double* result, void* workspace, Stream stream) {
    const dim3 tiles = tiles_of(spec);
    const Scale scale{static_cast<double>(spec.padded_height()) / spec.out_height,
                      static_cast<double>(spec.padded_width()) / spec.out_width};
    auto* tops = static_cast<Tops*>(workspace);
    as_typed(structural, [&](const auto* map) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(map)>>;
        const Cells<T, Judge> cells{spec, judge, map, static_cast<const T*>(logical.at)};
        launch("fuse: upsample", upsample_kernel<T, Judge>, tiles, threads, sizeof(Shared), stream, cells, scale, out,
               tops);
    });
    launch("fuse: finish", finish_kernel, dim3(1), threads, sizeof(Shared), stream, spec.out_width, tops,
           tiles.x * tiles.y, result);
}

}  // namespace

std::size_t fuse_workspace_bytes(const FuseSpec& spec) {
    const dim3 tiles = tiles_of(spec);
    return sizeof(Tops) * tiles.x * tiles.y;
}

void fuse(const FuseSpec& spec, ConstValues structural, ConstValues logical, float* out, double* result,
          void* workspace, Stream stream) {
    run(spec, Normalised{spec}, structural, logical, out, result, workspace, stream);
}

void fuse_places(const FuseSpec& spec, ConstValues structural, ConstValues logical, const float* places, float* out,
                 double* result, void* workspace, Stream stream) {
    run(spec, Deviating{places, spec.height * spec.width}, structural, logical, out, result, workspace, stream);
}

}  // namespace lad::cuda
