// Two kernels: tiles of pixels with the largest of each, then the largest of the tiles. A block stretches the rows of
// cells that its tile needs along the columns, into shared memory, and adds them up along the rows: what lies between
// the two products never leaves the chip.
#include <algorithm>

#include "reduce.cuh"

namespace lad::cuda {
namespace {

constexpr int threads = 256;
constexpr int depth = 16;                                // cells of a side at a time
constexpr int tile_width = 64, tile_rows = 32;           // pixels
constexpr int across = 4, groups = tile_width / across;  // neighbouring pixels of a thread; threads of a row
constexpr int down = tile_rows / depth;                  // rows of pixels of a thread, `depth` apart
static_assert(threads == groups * depth);

struct Terms {
    MapTerm term[max_map_terms];
    int count;
};

// Peak as in reduce.cuh; counts of what is not finite.
struct Tops {
    Wide peak = 0;
    Wide bad_cells = 0, bad_pixels = 0;

    __device__ void merge(const Tops& other) {
        peak = max(peak, other.peak);
        bad_cells += other.bad_cells;
        bad_pixels += other.bad_pixels;
    }
};

struct Shared {
    float map[depth][depth];             // cells: row, column
    float columns[depth][tile_width];    // their weights: column of cells, pixel
    float stretched[depth][tile_width];  // rows of cells as wide as the tile
    float rows[tile_rows][depth];        // weights: pixel, row of cells
    Tops tops[threads];
};

// Neighbouring pixels of a thread; a weight of 0 keeps away what is not finite.
struct Run {
    float value[across];

    __device__ void add(float scale, const float* from) {
        const auto pack = load_pack<across>(from);
        for (int i = 0; i < across; ++i)
            if (scale != 0) value[i] += scale * pack.part[i];
    }
    // The same where the weights are the pack.
    __device__ void add_weighted(float cell, const float* weights) {
        const auto pack = load_pack<across>(weights);
        for (int i = 0; i < across; ++i)
            if (pack.part[i] != 0) value[i] += cell * pack.part[i];
    }
};

// A part of a matrix, 0 behind its borders.
__device__ float entry(const float* matrix, int rows, int columns, int row, int column) {
    return row < rows && column < columns ? __ldg(matrix + static_cast<std::size_t>(row) * columns + column) : 0.0f;
}

// Weights of rows of cells from `cell` on; returns whether any is not 0, the same to all threads.
__device__ bool load_rows(Shared& s, const MapTerm& term, int out_height, int top, int cell) {
    bool any = false;
    for (int i = threadIdx.x; i < tile_rows * depth; i += threads) {
        const float weight = entry(term.rows, out_height, term.height, top + i / depth, cell + i % depth);
        s.rows[i / depth][i % depth] = weight;
        any |= weight != 0;
    }
    return __syncthreads_or(any) != 0;
}

// `depth` rows of cells from `cell` on times the columns of the tile.
__device__ void stretch(Shared& s, const MapTerm& term, int out_width, int left, int cell) {
    const int row = threadIdx.x / groups, pixel = threadIdx.x % groups * across;
    Run sums = {};
    for (int column = 0; column < term.width; column += depth) {
        s.map[threadIdx.x / depth][threadIdx.x % depth] =
            entry(term.map, term.height, term.width, cell + threadIdx.x / depth, column + threadIdx.x % depth);
        for (int i = threadIdx.x; i < tile_width * depth; i += threads)
            s.columns[i % depth][i / depth] =
                entry(term.columns, out_width, term.width, left + i / depth, column + i % depth);
        __syncthreads();
        for (int k = 0; k < depth; ++k) sums.add_weighted(s.map[row][k], &s.columns[k][pixel]);
        __syncthreads();
    }
    for (int i = 0; i < across; ++i) s.stretched[row][pixel + i] = sums.value[i] * term.weight;
    __syncthreads();
}

__device__ void count_cells(const Terms& terms, Tops& tops) {
    const unsigned block = blockIdx.y * gridDim.x + blockIdx.x, step = gridDim.x * gridDim.y * threads;
    for (int t = 0; t < terms.count; ++t) {
        const Wide cells = static_cast<Wide>(terms.term[t].height) * terms.term[t].width;
        for (Wide i = Wide{block} * threads + threadIdx.x; i < cells; i += step)
            tops.bad_cells += !is_finite(terms.term[t].map[i]);
    }
}

__global__ void __launch_bounds__(threads)
    project_kernel(Terms terms, Constant constant, int out_height, int out_width, float* out, Tops* tops) {
    Shared& s = shared_memory<Shared>();
    const float start = constant.at == nullptr ? constant.value : __ldg(constant.at);
    const int left = blockIdx.x * tile_width, top = blockIdx.y * tile_rows;
    const int row = threadIdx.x / groups, pixel = threadIdx.x % groups * across;
    Run sums[down];
    for (Run& run : sums)
        for (float& value : run.value) value = start;
    for (int t = 0; t < terms.count; ++t) {
        const MapTerm& term = terms.term[t];
        for (int cell = 0; cell < term.height; cell += depth) {
            if (!load_rows(s, term, out_height, top, cell)) continue;
            stretch(s, term, out_width, left, cell);
            for (int k = 0; k < depth; ++k)
                for (int i = 0; i < down; ++i) sums[i].add(s.rows[row + i * depth][k], &s.stretched[k][pixel]);
            __syncthreads();
        }
    }
    Tops own;
    count_cells(terms, own);
    for (int i = 0; i < down; ++i)
        for (int k = 0; k < across; ++k) {
            const int y = top + row + i * depth, x = left + pixel + k;
            if (y >= out_height || x >= out_width) continue;
            const Wide index = static_cast<Wide>(y) * out_width + x;
            out[index] = sums[i].value[k];
            own.peak = max(own.peak, peak_of(sums[i].value[k], index));
            own.bad_pixels += !is_finite(sums[i].value[k]);
        }
    own = block_merged<threads>(own, s.tops);
    if (threadIdx.x == 0) tops[blockIdx.y * gridDim.x + blockIdx.x] = own;
}

__global__ void __launch_bounds__(threads) finish_kernel(int out_width, const Tops* tops, unsigned tiles, double* out) {
    Tops all;
    for (unsigned i = threadIdx.x; i < tiles; i += threads) all.merge(tops[i]);
    all = block_merged<threads>(all, shared_memory<Shared>().tops);
    if (threadIdx.x != 0) return;
    const Wide bad = all.bad_cells != 0 ? all.bad_cells : all.bad_pixels;
    out[0] = bad == 0 ? value_of(all.peak) : float_of(0x7fc00000u);
    out[1] = bad == 0 ? static_cast<double>(index_of(all.peak) / out_width) : -1;
    out[2] = bad == 0 ? static_cast<double>(index_of(all.peak) % out_width) : -1;
    out[3] = static_cast<double>(bad);
}

dim3 tiles_of(int out_height, int out_width) {
    return dim3(blocks_for(out_width, tile_width), blocks_for(out_height, tile_rows));
}

}  // namespace

std::size_t project_workspace_bytes(int out_height, int out_width) {
    const dim3 tiles = tiles_of(out_height, out_width);
    return sizeof(Tops) * tiles.x * tiles.y;
}

void project_maps(const std::vector<MapTerm>& terms, Constant constant, int out_height, int out_width, float* out,
                  double* result, void* workspace, Stream stream) {
    Terms of{};
    std::copy(terms.begin(), terms.end(), of.term);
    of.count = static_cast<int>(terms.size());
    const dim3 tiles = tiles_of(out_height, out_width);
    auto* tops = static_cast<Tops*>(workspace);
    launch("project_maps: tiles", project_kernel, tiles, threads, sizeof(Shared), stream, of, constant, out_height,
           out_width, out, tops);
    launch("project_maps: finish", finish_kernel, dim3(1), threads, sizeof(Shared), stream, out_width, tops,
           tiles.x * tiles.y, result);
}

}  // namespace lad::cuda
