// Two kernels: divergences of 16 tokens in one head of one layer, then the sum over heads and layers. Scores of up to
// 1024 tokens stay in registers between the softmax and the divergence; of more they are computed twice. S and T are
// never written down. exp2f and log2f and not their fast forms: the divergence is small where both are close.
#include <cmath>

#include "lad/correlation.hpp"
#include "lines.cuh"

namespace lad::cuda {
namespace {

constexpr int threads = 256, warps = threads / warp_size;
constexpr int panel = warps * warp_columns;  // keys at a time
constexpr int finishing_threads = 1024;
constexpr float epsilon = 1e-4f;  // of both logarithms (methods.md 5.5)
constexpr float ln2 = 0.693147181f;

struct Counts {
    unsigned inputs = 0, keys = 0, outputs = 0;  // what is not finite

    __device__ void merge(const Counts& other) {
        inputs += other.inputs;
        keys += other.keys;
        outputs += other.outputs;
    }
};

template <typename T>
struct Call {
    CorrelationSpec spec;
    const T *queries, *keys;  // (layers, tokens, width)
    const float* sigmas;      // (layers, tokens, 2 heads)
    float scale;              // of the scores, whose powers are of 2
    bool vectors;             // whether `steps` neighbours of a key can be read at once
    float* partial;           // (layers, heads, tokens)
    Counts* counts;           // (layers, heads, tiles)

    __device__ int first_token() const { return static_cast<int>(blockIdx.x) * line_count; }
    __device__ int head() const { return blockIdx.y; }
    __device__ std::size_t block_row() const { return static_cast<std::size_t>(blockIdx.z) * spec.heads + head(); }
    // Where token t has the values of this head.
    __device__ std::size_t values(int t) const {
        return (static_cast<std::size_t>(blockIdx.z) * spec.tokens() + t) * spec.width + head() * spec.head_width();
    }
    __device__ const float* sigma(int t) const {
        return sigmas + (static_cast<std::size_t>(blockIdx.z) * spec.tokens() + t) * 2 * spec.heads + 2 * head();
    }
};

// T of a token: a Gaussian on the grid, by its place and what stands before and inside the power.
struct Target {
    int y, x;
    float down, across;  // 1 / sigma
    float scale;         // 1 / (epsilon * sum)

    // T / epsilon, not normalised.
    __device__ float power(float dy, float dx) const {
        const float v = dy * down, h = dx * across;
        return exp2f(-0.5f * log2_e * (v * v + h * h));
    }
};

struct Shared {
    float lines[steps][line_pitch];
    float keys[steps][panel];
    Target targets[line_count];
    float top[warps][line_count], sum[warps][line_count];
    Counts counts[threads];
};

__device__ unsigned not_finite(float value) { return !is_finite(value); }

// ---- T

// Infinity would make 0 * infinity of the centre; NaN stays NaN.
__device__ float inverse(float sigma) {
    const float value = 1.0f / sigma, most = 3.0e38f;
    return value > most ? most : value;
}

// Each warp prepares some of the lines.
template <typename T>
__device__ void prepare_targets(const Call<T>& of, Shared& s, Counts& counts) {
    const int side = of.spec.side, lane = threadIdx.x % warp_size;
    for (int line = threadIdx.x / warp_size; line < line_count; line += warps) {
        const int token = min(of.first_token() + line, of.spec.tokens() - 1);
        const float *sigma = of.sigma(token), down = sigma[0], across = sigma[1];
        Target target{token / side, token % side, inverse(down), inverse(across), 0};
        float rows = 0, columns = 0;
        for (int i = lane; i < side; i += warp_size) {
            rows += target.power(static_cast<float>(i - target.y), 0);
            columns += target.power(0, static_cast<float>(i - target.x));
        }
        target.scale = 1.0f / (epsilon * (warp_sum(rows) * warp_sum(columns)));
        if (lane != 0) continue;
        s.targets[line] = target;
        if (of.first_token() + line >= of.spec.tokens()) continue;
        counts.inputs += !(is_finite(down) && down > 0);
        counts.inputs += !(is_finite(across) && across > 0);
    }
}

// ---- S

// `steps` values of two keys of a thread, and one of a query.
template <typename T>
struct Stage {
    static constexpr int keys = panel / threads;

    float key[keys][steps];
    float query = 0;

    __device__ void fetch(const Call<T>& of, int first_key, int depth, Counts* counts) {
        for (int i = 0; i < keys; ++i) {
            const int j = first_key + i * threads + static_cast<int>(threadIdx.x);
            fetch_key(of, j, depth, key[i]);
            if (counts && blockIdx.x == 0)
                for (float value : key[i]) counts->keys += not_finite(value);
        }
        if (threadIdx.x >= line_count * steps) return;
        const int token = of.first_token() + static_cast<int>(threadIdx.x) / steps;
        const int k = depth + static_cast<int>(threadIdx.x) % steps;
        query = 0;
        if (token >= of.spec.tokens() || k >= of.spec.head_width()) return;
        const float value = to_float(of.queries[of.values(token) + k]);
        if (counts && first_key == 0) counts->inputs += not_finite(value);
        query = value * of.scale;
    }

    // Zeros behind the last key and the last value.
    __device__ void fetch_key(const Call<T>& of, int j, int depth, float* to) {
        const bool real = j < of.spec.tokens();
        const T* from = of.keys + of.values(real ? j : 0) + depth;
        if (of.vectors) {
            constexpr int width = 16 / sizeof(T);
            for (int k = 0; k < steps; k += width) {
                const auto pack = load_pack<width>(from + k);
                for (int v = 0; v < width; ++v) to[k + v] = real ? to_float(pack.part[v]) : 0.0f;
            }
            return;
        }
        for (int k = 0; k < steps; ++k) to[k] = real && depth + k < of.spec.head_width() ? to_float(from[k]) : 0.0f;
    }

    __device__ void put(Shared& s) const {
        const int thread = threadIdx.x;
        for (int i = 0; i < keys; ++i)
            for (int k = 0; k < steps; ++k) s.keys[k][i * threads + thread] = key[i][k];
        if (thread < line_count * steps) s.lines[thread % steps][thread / steps] = query;
    }
};

// Scores of the lines with the keys of a panel, as powers of 2.
template <typename T>
__device__ void multiply(const Call<T>& of, Shared& s, int first_key, Products& products, Counts* counts) {
    const int own = threadIdx.x / warp_size * warp_columns, depth = of.spec.head_width();
    Stage<T> stage;
    stage.fetch(of, first_key, 0, counts);
    for (int k = 0; k < depth; k += steps) {
        stage.put(s);
        __syncthreads();
        if (k + steps < depth) stage.fetch(of, first_key, k + steps, counts);
        products.add(s.lines[0], s.keys[0] + own, panel);
        __syncthreads();
    }
}

// Key of a column of this thread.
__device__ int key_of(int first_key, int column) {
    return first_key + static_cast<int>(threadIdx.x) / warp_size * warp_columns + Products::column(column);
}

// The largest of some scores, and the sum of their powers beside it.
struct Softmax {
    float top = float_of(0xff800000u), sum = 0;  // -infinity

    __device__ void raise(float to) {
        if (top != to) sum *= exp2f(top - to);
        top = to;
    }
    __device__ void merge(float other_top, float other_sum) {
        Softmax other;
        other.top = other_top, other.sum = other_sum;
        const float higher = other_top > top ? other_top : top;
        raise(higher);
        other.raise(higher);
        sum += other.sum;
    }
    // A NaN is not the top, and makes the sum NaN.
    __device__ void take(const float (&scores)[Products::columns], int count) {
        float higher = top;
#pragma unroll
        for (int c = 0; c < Products::columns; ++c) higher = c < count && scores[c] > higher ? scores[c] : higher;
        raise(higher);
#pragma unroll
        for (int c = 0; c < Products::columns; ++c)
            if (c < count) sum += exp2f(scores[c] - top);
    }
};

// How many columns of this thread have a key: those that have come first.
__device__ int columns_with_keys(int first_key, int tokens) {
    int count = 0;
    for (int c = 0; c < Products::columns; ++c) count += key_of(first_key, c) < tokens;
    return count;
}

// Of each line of the thread, over all threads.
__device__ void merge_lines(Shared& s, Softmax (&lines)[Products::lines]) {
    const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
    for (int l = 0; l < Products::lines; ++l) {
        for (int lanes = Products::lines; lanes < warp_size; lanes *= 2)
            lines[l].merge(__shfl_xor_sync(full_warp, lines[l].top, lanes),
                           __shfl_xor_sync(full_warp, lines[l].sum, lanes));
        if (lane >= line_count / Products::lines) continue;
        s.top[warp][Products::line(l)] = lines[l].top;
        s.sum[warp][Products::line(l)] = lines[l].sum;
    }
    __syncthreads();
    for (int l = 0; l < Products::lines; ++l) {
        lines[l] = {};
        for (int w = 0; w < warps; ++w) lines[l].merge(s.top[w][Products::line(l)], s.sum[w][Products::line(l)]);
    }
    __syncthreads();
}

// ---- divergence

// Adds sum over j of (t - s) log2((t + 1) / (s + 1)) for t = T / epsilon, s = S / epsilon: both divergences in one sum,
// with one logarithm. Where T and S are close the quotient is more exact than the difference of two logarithms.
__device__ void add_divergence(const Shared& s, int side, int first_key, int count, const Products& products,
                               const Softmax (&lines)[Products::lines], float (&sums)[Products::lines]) {
#pragma unroll  // by hand: an index that is not a constant would move the products out of the registers
    for (int c = 0; c < Products::columns; ++c) {
        if (c >= count) continue;
        const int key = key_of(first_key, c), y = key / side, x = key % side;
#pragma unroll
        for (int l = 0; l < Products::lines; ++l) {
            const Target& target = s.targets[Products::line(l)];
            const float t =
                target.scale * target.power(static_cast<float>(y - target.y), static_cast<float>(x - target.x));
            const float p = exp2f(products.sum[l][c] - lines[l].top) * (1.0f / (epsilon * lines[l].sum));
            sums[l] += (t - p) * log2f((t + 1.0f) / (p + 1.0f));
        }
    }
}

template <typename T>
__device__ void write_sums(const Call<T>& of, Shared& s, float (&sums)[Products::lines]) {
    const int warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size, thread = threadIdx.x;
    for (int l = 0; l < Products::lines; ++l) {
        for (int lanes = Products::lines; lanes < warp_size; lanes *= 2)
            sums[l] += __shfl_xor_sync(full_warp, sums[l], lanes);
        if (lane < line_count / Products::lines) s.sum[warp][Products::line(l)] = sums[l];
    }
    __syncthreads();
    if (thread >= line_count || of.first_token() + thread >= of.spec.tokens()) return;
    float sum = 0;
    for (int w = 0; w < warps; ++w) sum += s.sum[w][thread];
    of.partial[of.block_row() * of.spec.tokens() + of.first_token() + thread] = sum;
}

// visit(first key, products) for each panel: those of `kept` panels stay, or, if it is 0, all of them share a place.
template <int kept, typename Visit>
__device__ void each_panel(int tokens, Products* products, const Visit& visit) {
    if (kept == 0)
        for (int key = 0; key < tokens; key += panel) visit(key, products[0]);
#pragma unroll
    for (int p = 0; p < kept; ++p)
        if (p * panel < tokens) visit(p * panel, products[p]);
}

// blockIdx: 16 tokens, head, layer.
template <typename T, int kept>
__global__ void __launch_bounds__(threads, 2) divergence_kernel(Call<T> of) {
    Shared& s = shared_memory<Shared>();
    const int tokens = of.spec.tokens();
    Counts counts;
    prepare_targets(of, s, counts);
    Products products[kept == 0 ? 1 : kept];
    Softmax lines[Products::lines];
    each_panel<kept>(tokens, products, [&](int first_key, Products& scores) {
        scores = {};
        multiply(of, s, first_key, scores, &counts);
        const int count = columns_with_keys(first_key, tokens);
#pragma unroll
        for (int l = 0; l < Products::lines; ++l) lines[l].take(scores.sum[l], count);
    });
    merge_lines(s, lines);
    float sums[Products::lines] = {};
    each_panel<kept>(tokens, products, [&](int first_key, Products& scores) {
        if (kept == 0) {
            scores = {};
            multiply(of, s, first_key, scores, nullptr);
        }
        add_divergence(s, of.spec.side, first_key, columns_with_keys(first_key, tokens), scores, lines, sums);
    });
    write_sums(of, s, sums);
    counts = block_merged<threads>(counts, s.counts);
    if (threadIdx.x == 0) of.counts[of.block_row() * gridDim.x + blockIdx.x] = counts;
}

// out += share * sum over `rows` heads and layers. Every token depends on every key; an infinite one may leave a
// divergence of plausible size.
__global__ void __launch_bounds__(finishing_threads)
    finish_kernel(const float* partial, const Counts* counts, int tokens, int rows, int blocks, float share, float* out,
                  Wide* nonfinite) {
    auto* memory = shared_memory<Counts[finishing_threads]>();
    Counts all;
    for (int i = threadIdx.x; i < blocks; i += finishing_threads) all.merge(counts[i]);
    all = block_merged<finishing_threads>(all, memory);
    __syncthreads();
    Counts own;
    for (int t = threadIdx.x; t < tokens; t += finishing_threads) {
        float sum = 0;
        for (int row = 0; row < rows; ++row) sum += partial[static_cast<std::size_t>(row) * tokens + t];
        out[t] = all.keys == 0 ? out[t] + share * sum : float_of(0x7fc00000u);
        own.outputs += not_finite(out[t]);
    }
    own = block_merged<finishing_threads>(own, memory);
    const Wide inputs = Wide{all.inputs} + all.keys;
    if (threadIdx.x == 0) *nonfinite += inputs != 0 ? inputs : own.outputs;
}

struct Workspace {
    std::size_t tiles, blocks, partial_bytes;

    Workspace(const CorrelationSpec& spec, int layers)
        : tiles(blocks_for(spec.tokens(), line_count)),
          blocks(tiles * spec.heads * layers),
          partial_bytes((sizeof(float) * spec.tokens() * spec.heads * layers + 255) / 256 * 256) {}
};

template <typename T>
void enqueue(const Call<T>& of, const dim3& blocks, Stream stream) {
    const int panels = (of.spec.tokens() + panel - 1) / panel;
    auto* kernel = panels == 1   ? divergence_kernel<T, 1>
                   : panels == 2 ? divergence_kernel<T, 2>
                                 : divergence_kernel<T, 0>;
    launch("symmetric_kl: divergence", kernel, blocks, threads, sizeof(Shared), stream, of);
}

}  // namespace

std::size_t correlation_workspace_bytes(const CorrelationSpec& spec, int layers) {
    const Workspace w(spec, layers);
    return w.partial_bytes + sizeof(Counts) * w.blocks;
}

void symmetric_kl(const CorrelationSpec& spec, int layers, ConstValues queries, ConstValues keys, const float* sigmas,
                  float* out, std::int64_t* nonfinite, void* workspace, Stream stream) {
    const Workspace w(spec, layers);
    auto* partial = static_cast<float*>(workspace);
    auto* counts = reinterpret_cast<Counts*>(static_cast<char*>(workspace) + w.partial_bytes);
    const float scale = log2_e / std::sqrt(static_cast<float>(spec.head_width()));
    const dim3 blocks(static_cast<unsigned>(w.tiles), spec.heads, layers);
    as_typed(queries, [&](const auto* q) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(q)>>;
        const auto* k = static_cast<const T*>(keys.at);
        const bool vectors = packable<16 / sizeof(T)>(k, spec.width) && spec.head_width() % steps == 0;
        enqueue(Call<T>{spec, q, k, sigmas, scale, vectors, partial, counts}, blocks, stream);
    });
    launch("symmetric_kl: finish", finish_kernel, dim3(1), finishing_threads, sizeof(Counts) * finishing_threads,
           stream, partial, counts, spec.tokens(), spec.heads * layers, static_cast<int>(w.blocks),
           epsilon * ln2 * (spec.weight / static_cast<float>(spec.heads)), out, reinterpret_cast<Wide*>(nonfinite));
}

}  // namespace lad::cuda
