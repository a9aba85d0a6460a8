// Up to three kernels: projections of all books, the search of the top book, the search of the levels, which also
// copies the memory rows. A block has 16 tokens; scores stay in registers.
#include "quantizer.cuh"

namespace lad::cuda {
namespace {

using Book = Quantizer::Book;

// What all launches of a call read.
template <typename T>
struct Call {
    const void* tables;
    std::size_t books;  // offset
    const T* tokens;    // (books, count, token width)
    int count;
    float* projected;  // (books, count, pitch)
    int pitch;
    std::uint16_t* codes;
    Wide* nonfinite;

    __device__ const Book& book(int b) const { return table_at<Book>(tables, books)[b]; }
    template <typename U>
    __device__ const U* table(std::size_t offset) const {
        return table_at<U>(tables, offset);
    }
    __device__ int first_token() const { return static_cast<int>(blockIdx.x) * line_count; }
    __device__ int tokens_here() const { return min(line_count, count - first_token()); }
    // Behind the last token the last one again, whose results go nowhere.
    __device__ int token(int t) const { return min(first_token() + t, count - 1); }
    __device__ const T* token_values(int b, int t) const {
        return tokens + (static_cast<std::size_t>(b) * count + token(t)) * book(b).token_width;
    }
    // Value k of a token as the codebook knows it, under its top code.
    __device__ float value(int b, int t, int top, int k) const {
        const Book& from = book(b);
        const float* shift = table<float>(from.shift) + top * from.shift_step;
        return (from.projected ? projected_values(b, t)[k] : to_float(token_values(b, t)[k])) + __ldg(shift + k);
    }
    __device__ float* projected_values(int b, int t) const {
        return projected + (static_cast<std::size_t>(b) * count + token(t)) * pitch;
    }
};

// ---- projection

struct ProjectShared {
    float lines[projection_steps][line_pitch];
    union {
        float matrix[projection_steps][projected_columns];
        float sums[warps][line_count][projected_columns];
    };
};

// Values from `first` on of the tokens of the block, of which `tokens` has `width` each.
template <typename T>
__device__ void load_tokens(const Call<T>& of, const T* tokens, int width, int first, float (*lines)[line_pitch]) {
    for (int i = threadIdx.x; i < line_count * projection_steps; i += threads) {
        const int t = i / projection_steps, k = i % projection_steps;
        const T* from = tokens + static_cast<std::size_t>(of.token(t)) * width + first + k;
        lines[k][t] = first + k < width ? to_float(*from) : 0.0f;
    }
}

// blockIdx: 16 tokens, 64 projected values, book.
template <typename T>
__global__ void __launch_bounds__(threads, 2) project_kernel(Call<T> of) {
    auto& s = shared_memory<ProjectShared>();
    const int b = blockIdx.z, warp = threadIdx.x / warp_size, column = blockIdx.y * projected_columns;
    const Book& book = of.book(b);
    const int width = book.token_width, pitch = book.projected_pitch;
    if (!book.projected || column >= pitch) return;
    const float* matrix = of.template table<float>(book.projection) + column;
    const T* tokens = of.tokens + static_cast<std::size_t>(b) * of.count * width;
    Stage<projection_steps, projected_columns, threads> stage;
    Products products;
    stage.fetch(matrix, pitch);
    for (int k = 0; k < width; k += projection_steps) {
        load_tokens(of, tokens, width, k, s.lines);
        stage.put(s.matrix[0]);
        __syncthreads();
        if (k + projection_steps < width)
            stage.fetch(matrix + static_cast<std::size_t>(k + projection_steps) * pitch, pitch);
        products.add(s.lines[warp * steps], s.matrix[warp * steps], projected_columns);
        __syncthreads();
    }
    for (int l = 0; l < Products::lines; ++l)
        for (int c = 0; c < Products::columns; ++c)
            s.sums[warp][Products::line(l)][Products::column(c)] = products.sum[l][c];
    __syncthreads();
    for (int i = threadIdx.x; i < of.tokens_here() * projected_columns; i += threads) {
        const int t = i / projected_columns, c = i % projected_columns;
        float sum = 0;
        for (int w = 0; w < warps; ++w) sum += s.sums[w][t][c];
        of.projected_values(b, t)[column + c] = sum;
    }
}

// ---- search

struct SearchShared {
    float lines[steps][line_pitch];
    float matrix[steps][panel];
    Wide best[warps][line_count];
    int codes[line_count], top[line_count], tied[line_count];
    float rounding[line_count];
};

// One value of one line, and the tile of entries: the next of both while this one is multiplied.
template <typename T>
struct SearchStage {
    const int width, pitch, line, step;  // line and step of the value that this thread loads
    const float *codebook, *shift, *projected;
    const T* token;  // where nothing is projected
    float value = 0;
    Stage<steps, panel, threads> entries;

    __device__ SearchStage(const Call<T>& of, const SearchShared& s, int b)
        : width(of.book(b).width),
          pitch(of.book(b).pitch),
          line(threadIdx.x / steps % line_count),
          step(threadIdx.x % steps),
          codebook(of.template table<float>(of.book(b).codebook)),
          shift(of.template table<float>(of.book(b).shift) + s.top[line] * of.book(b).shift_step),
          projected(of.book(b).projected ? of.projected_values(b, line) : nullptr),
          token(of.token_values(b, line)) {}

    __device__ void fetch(int first, int entry) {
        const int k = first + step;
        entries.fetch(codebook + static_cast<std::size_t>(first) * pitch + entry, pitch);
        if (threadIdx.x >= line_count * steps) return;
        value = k < width ? (projected ? projected[k] : to_float(token[k])) + __ldg(shift + k) : 0.0f;
    }
    __device__ void put(SearchShared& s) const {
        entries.put(s.matrix[0]);
        if (threadIdx.x < line_count * steps) s.lines[step][line] = value;
    }
};

// The best entries of the lines of a thread, and the scores of the second best. Entries come in order and only a higher
// score replaces: ties stay with the lowest index.
struct Best {
    float score[Products::lines], second[Products::lines];
    int entry[Products::lines] = {};

    __device__ Best() {
        for (int l = 0; l < Products::lines; ++l) score[l] = second[l] = lowest();
    }
    __device__ void take(int line, float value, int at) {
        second[line] = fmaxf(second[line], fminf(score[line], value));
        if (!(value > score[line])) return;
        score[line] = value;
        entry[line] = at;
    }
    // Of all lanes that have the line.
    __device__ Wide of_warp(int line) const {
        Wide peak = peak_of(score[line], static_cast<Wide>(entry[line]));
        for (int lanes = Products::lines; lanes < warp_size; lanes *= 2)
            peak = max(peak, __shfl_xor_sync(full_warp, peak, lanes));
        return peak;
    }
};

template <typename T>
__device__ void search_panel(const Call<T>& of, const Book& book, SearchShared& s, SearchStage<T>& stage, int first,
                             Best& best) {
    const int own = threadIdx.x / warp_size * warp_columns;
    Products products;
    stage.fetch(0, first);
    for (int k = 0; k < stage.width; k += steps) {
        stage.put(s);
        __syncthreads();
        if (k + steps < stage.width) stage.fetch(k + steps, first);
        products.add(s.lines[0], s.matrix[0] + own, panel);
        __syncthreads();
    }
    const float* bias = of.template table<float>(book.bias) + first + own;
    const std::size_t bias_step = book.prior_step;
    for (int l = 0; l < Products::lines; ++l) {
        const float* row = bias + s.top[Products::line(l)] * bias_step;
        for (int c = 0; c < Products::columns; ++c)
            best.take(l, products.sum[l][c] + __ldg(row + Products::column(c)), first + own + Products::column(c));
    }
}

// A value that is not finite makes every score of its token infinite or NaN, so that a finite best score vouches for a
// finite token. Others get code 0; returns how many of its values are not finite, at least one.
template <typename T>
__device__ unsigned count_values(const Call<T>& of, int b, int t) {
    unsigned bad = 0;
    for (int k = 0; k < of.book(b).token_width; ++k) bad += !is_finite(to_float(of.token_values(b, t)[k]));
    return max(bad, 1u);
}

// Scores of a token that are closer than this may be in the wrong order.
template <typename T>
__device__ void measure_tokens(const Call<T>& of, SearchShared& s, int b) {
    const int lane = threadIdx.x % warp_size;
    for (int t = threadIdx.x / warp_size; t < line_count; t += warps) {
        float square = 0;
        for (int k = lane; k < of.book(b).width; k += warp_size) {
            const float value = of.value(b, t, s.top[t], k);
            square += value * value;
        }
        square = warp_sum(square);
        if (lane == 0) s.rounding[t] = of.book(b).rounding.each * sqrtf(square) + of.book(b).rounding.always;
    }
}

// Marks the tokens of which a second entry comes that close to the chosen one.
__device__ void find_ties(SearchShared& s, const Best& best) {
    for (int l = 0; l < Products::lines; ++l) {
        const int t = Products::line(l);
        const float other = best.entry[l] == s.codes[t] ? best.second[l] : best.score[l];
        if (!(value_of(s.best[0][t]) - other > s.rounding[t])) atomicOr(&s.tied[t], 1);
    }
}

// The code of a token by differences from the entry b that won by products: for step = b_j - b and the token x, entry j
// scores step . (x - b - step / 2) more than b. Of entries that lie close together both factors keep their digits.
template <typename T>
__device__ int settled(const Call<T>& of, const SearchShared& s, int b, int t) {
    const Book& book = of.book(b);
    const float* entries = of.template table<float>(book.codebook);
    const float* prior = of.template table<float>(book.prior) + s.top[t] * book.prior_step;
    const int code = s.codes[t];
    Wide peak = 0;
    for (int j = threadIdx.x % warp_size; j < book.entries; j += warp_size) {
        float score = prior[j] - prior[code];
        for (int k = 0; k < book.width; ++k) {
            const float* row = entries + static_cast<std::size_t>(k) * book.pitch;
            const float origin = __ldg(row + code), step = __ldg(row + j) - origin;
            score += step * (of.value(b, t, s.top[t], k) - origin - 0.5f * step);
        }
        peak = max(peak, peak_of(score, static_cast<Wide>(j)));
    }
    for (int lanes = warp_size / 2; lanes > 0; lanes /= 2) peak = max(peak, __shfl_xor_sync(full_warp, peak, lanes));
    return static_cast<int>(index_of(peak));
}

// Of all tokens that are nearly tied, a warp each.
template <typename T>
__device__ void settle(const Call<T>& of, SearchShared& s, int b) {
    for (int t = threadIdx.x / warp_size; t < of.tokens_here(); t += warps) {
        if (!s.tied[t] || !is_finite(value_of(s.best[0][t]))) continue;
        const int code = settled(of, s, b, t);
        if (threadIdx.x % warp_size == 0) s.codes[t] = code;
    }
}

template <typename T>
__device__ void choose(const Call<T>& of, SearchShared& s, int b, const Best& best) {
    const int thread = threadIdx.x, warp = thread / warp_size;
    measure_tokens(of, s, b);
    for (int l = 0; l < Products::lines; ++l) {
        const Wide peak = best.of_warp(l);
        if (thread % warp_size < line_count / Products::lines) s.best[warp][Products::line(l)] = peak;
    }
    __syncthreads();
    if (thread < line_count) {
        Wide peak = s.best[0][thread];
        for (int w = 1; w < warps; ++w) peak = max(peak, s.best[w][thread]);
        s.best[0][thread] = peak;
        s.codes[thread] = static_cast<int>(index_of(peak));
        s.tied[thread] = 0;
    }
    __syncthreads();
    find_ties(s, best);
    __syncthreads();
    settle(of, s, b);
    __syncthreads();
    if (thread < of.tokens_here()) {
        if (!is_finite(value_of(s.best[0][thread]))) {
            s.codes[thread] = 0;
            atomicAdd(of.nonfinite, Wide{count_values(of, b, thread)});
        }
        of.codes[static_cast<std::size_t>(b) * of.count + of.token(thread)] =
            static_cast<std::uint16_t>(s.codes[thread]);
    }
    __syncthreads();
}

// The memory rows of the codes, `width` values at once.
template <int width, typename T, typename Out>
__device__ void copy_memory(const Call<T>& of, const SearchShared& s, int b, Out* memory) {
    const Book& book = of.book(b);
    const int packs = book.memory_width / width;
    for (int i = threadIdx.x; i < of.tokens_here() * packs; i += threads) {
        const int t = i / packs, k = i % packs * width;
        const float* row =
            of.template table<float>(book.memory) + static_cast<std::size_t>(s.codes[t]) * book.memory_width;
        const auto from = load_pack<width>(row + k);
        Pack<Out, width> to;
        for (int v = 0; v < width; ++v) store(to.part + v, from.part[v]);
        Out* at = memory + (static_cast<std::size_t>(b - 1) * of.count + of.token(t)) * book.memory_width + k;
        *reinterpret_cast<Pack<Out, width>*>(at) = to;
    }
}

// blockIdx: 16 tokens, book from first_book on. memory: (levels, count, memory width) or null.
template <typename T, typename Out>
__global__ void __launch_bounds__(threads, 2) search_kernel(Call<T> of, int first_book, Out* memory, bool packs) {
    auto& s = shared_memory<SearchShared>();
    const int b = first_book + blockIdx.y;
    if (threadIdx.x < line_count) s.top[threadIdx.x] = b == 0 ? 0 : of.codes[of.token(threadIdx.x)];
    __syncthreads();
    SearchStage<T> stage(of, s, b);
    Best best;
    for (int entry = 0; entry < stage.pitch; entry += panel) search_panel(of, of.book(b), s, stage, entry, best);
    choose(of, s, b, best);
    if (b == 0 || !memory) return;
    packs ? copy_memory<4>(of, s, b, memory) : copy_memory<1>(of, s, b, memory);
}

}  // namespace

std::size_t Quantizer::workspace_bytes(int count) const {
    return sizeof(float) * (1 + levels_) * static_cast<std::size_t>(count) * projected_pitch_;
}

void Quantizer::run(ConstValues tokens, int count, const void* tables, std::uint16_t* codes, Values memory,
                    std::int64_t* nonfinite, void* workspace, Stream stream) const {
    const unsigned tiles = blocks_for(count, line_count);
    as_typed(tokens, [&](const auto* from) {
        using T = std::remove_const_t<std::remove_pointer_t<decltype(from)>>;
        const Call<T> of{tables,
                         books_,
                         from,
                         count,
                         static_cast<float*>(workspace),
                         projected_pitch_,
                         codes,
                         reinterpret_cast<Wide*>(nonfinite)};
        if (projected_pitch_ != 0) {
            const dim3 blocks(tiles, projected_pitch_ / projected_columns, 1 + levels_);
            launch("quantize: project", project_kernel<T>, blocks, threads, sizeof(ProjectShared), stream, of);
        }
        launch("quantize: top", search_kernel<T, float>, dim3(tiles), threads, sizeof(SearchShared), stream, of, 0,
               nullptr, false);
        if (levels_ == 0) return;
        as_typed(memory, [&](auto* to) {
            using Out = std::remove_pointer_t<decltype(to)>;
            launch("quantize: levels", search_kernel<T, Out>, dim3(tiles, levels_), threads, sizeof(SearchShared),
                   stream, of, 1, to, packable<4>(to, memory_width_));
        });
    });
}

}  // namespace lad::cuda
