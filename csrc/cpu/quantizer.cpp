#include "lad/quantizer.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "lad/elementary.hpp"
#include "lad/isa.hpp"

namespace lad {
namespace {

using Book = Quantizer::Book;
constexpr float lowest = -std::numeric_limits<float>::infinity();
constexpr int tile = 48;  // tokens; with their best scores and one panel of 64 entries they fit the first-level cache

// Vectors of lane numbers: the comparison of two V is one.
template <typename V>
using IndexOf = decltype(V{} < V{});

// What one call works in; each thread has its own and keeps it.
struct Scratch {
    Floats projected;  // (tile, width padded to whole panels)
    alignas(64) float best[tile][lanes];
    alignas(64) std::int32_t index[tile][lanes];

    void prepare(const std::vector<Book>& books) {
        int width = 0;
        for (const Book& book : books) width = std::max(width, (book.width + Panels::width - 1) / Panels::width);
        projected.resize(static_cast<std::size_t>(tile) * width * Panels::width);
    }
};

Floats padded(const float* table, int rows, int columns, float filling) {
    const int pitch = (columns + Panels::width - 1) / Panels::width * Panels::width;
    Floats out(static_cast<std::size_t>(rows) * pitch, filling);
    for (int row = 0; row < rows; ++row)
        std::copy_n(table + static_cast<std::size_t>(row) * columns, columns,
                    out.data() + static_cast<std::size_t>(row) * pitch);
    return out;
}

// ---- one tile of tokens

struct Tile {
    const Book& book;
    const float* tokens;             // of the first one
    const std::uint16_t* top_codes;  // of the first one; null for the top codebook itself
    int count;

    std::size_t top(int t) const { return top_codes ? top_codes[t] : 0; }
    const float* shift(int t) const { return book.shift.data() + top(t) * book.shift_step; }
    const float* bias(int t) const { return book.bias.data() + top(t) * book.bias_step; }

    // Six lines from `first` on; behind the last token the last one again, whose results go nowhere.
    void lines(const float* from, std::size_t pitch, int first, const float** out) const {
        for (int t = 0; t < lines_at_once; ++t) out[t] = from + std::min(first + t, count - 1) * pitch;
    }
};

LAD_INLINE void shift_tokens(const Tile& of, std::size_t pitch, float* projected) {
    for (int t = 0; t < of.count; ++t) {
        const float *token = of.tokens + static_cast<std::size_t>(t) * of.book.token_width, *shift = of.shift(t);
        float* __restrict out = projected + t * pitch;
        for (int d = 0; d < of.book.width; ++d) out[d] = token[d] + shift[d];
    }
}

template <typename V>
LAD_INLINE void project_tokens(const Tile& of, std::size_t pitch, float* projected) {
    constexpr int width = width_of<V>;
    for (int first = 0; first < of.count; first += lines_at_once) {
        const float* lines[lines_at_once];
        of.lines(of.tokens, of.book.token_width, first, lines);
        for (int panel = 0; panel < of.book.projection.count; ++panel)
            multiply<V>(lines, of.book.projection.of(panel), of.book.token_width,
                        [&](int t, int column, const V* products) __attribute__((always_inline)) {
                            if (first + t >= of.count) return;
                            const int at = panel * Panels::width + column;
                            const float* shift = of.shift(first + t) + at;
                            float* out = projected + (first + t) * pitch + at;
                            for (int v = 0; v < vectors_at_once<V>; ++v)
                                store<V>(out + v * width, products[v] + load<V>(shift + v * width));
                        });
    }
}

// Scores of 6 tokens with one panel of entries, into their best ones. Lane by lane entries come in order, and only a
// higher score replaces: ties stay with the lowest index.
template <typename V>
LAD_INLINE void search_panel(const Tile& of, const float* const* lines, int first, int panel, Scratch& s) {
    constexpr int width = width_of<V>;
    using Index = IndexOf<V>;
    Index numbers;
    for (int i = 0; i < width; ++i) numbers[i] = i;
    multiply<V>(lines, of.book.codebook.of(panel), of.book.width,
                [&](int t, int column, const V* products) __attribute__((always_inline)) {
                    if (first + t >= of.count) return;
                    const int at = panel * Panels::width + column;
                    const float* bias = of.bias(first + t) + at;
                    V best = load<V>(s.best[first + t]);
                    Index index;
                    std::memcpy(&index, s.index[first + t], sizeof(index));
                    for (int v = 0; v < vectors_at_once<V>; ++v) {
                        const V score = products[v] + load<V>(bias + v * width);
                        const Index higher = score > best;
                        best = higher ? score : best;
                        index = higher ? numbers + (at + v * width) : index;
                    }
                    store<V>(s.best[first + t], best);
                    std::memcpy(s.index[first + t], &index, sizeof(index));
                });
}

// The best of the lanes of each token; returns the non-finite count. A value that is not finite makes every score of
// its token infinite or NaN, so that finite best scores vouch for finite tokens.
template <typename V>
LAD_INLINE std::int64_t choose(const Tile& of, const Scratch& s, std::uint16_t* codes) {
    std::int64_t nonfinite = 0;
    for (int t = 0; t < of.count; ++t) {
        int lane = 0;
        for (int i = 1; i < width_of<V>; ++i)
            if (s.best[t][i] > s.best[t][lane] || (s.best[t][i] == s.best[t][lane] && s.index[t][i] < s.index[t][lane]))
                lane = i;
        codes[t] = static_cast<std::uint16_t>(s.index[t][lane]);
        if (is_finite(s.best[t][lane])) continue;
        codes[t] = 0;
        const int width = of.book.token_width;
        nonfinite += std::max<std::int64_t>(1, count_nonfinite(of.tokens + static_cast<std::size_t>(t) * width, width));
    }
    return nonfinite;
}

template <typename V>
LAD_INLINE std::int64_t quantize_tile(const Tile& of, Scratch& s, std::uint16_t* codes) {
    const std::size_t pitch = (of.book.width + Panels::width - 1) / Panels::width * Panels::width;
    if (of.book.projected)
        project_tokens<V>(of, pitch, s.projected.data());
    else
        shift_tokens(of, pitch, s.projected.data());
    std::fill_n(s.best[0], tile * lanes, lowest);
    std::fill_n(s.index[0], tile * lanes, 0);
    for (int panel = 0; panel < of.book.codebook.count; ++panel)
        for (int first = 0; first < of.count; first += lines_at_once) {
            const float* lines[lines_at_once];
            of.lines(s.projected.data(), pitch, first, lines);
            search_panel<V>(of, lines, first, panel, s);
        }
    return choose<V>(of, s, codes);
}

// ---- one version per instruction set

using QuantizeTile = std::int64_t (*)(const Tile&, Scratch&, std::uint16_t*);

std::int64_t quantize_portable(const Tile& of, Scratch& s, std::uint16_t* codes) {
    return quantize_tile<Float4>(of, s, codes);
}

#if LAD_HAS_X86
LAD_TARGET_AVX2 std::int64_t quantize_avx2(const Tile& of, Scratch& s, std::uint16_t* codes) {
    return quantize_tile<Float8>(of, s, codes);
}

LAD_TARGET_AVX512 std::int64_t quantize_avx512(const Tile& of, Scratch& s, std::uint16_t* codes) {
    return quantize_tile<Float16>(of, s, codes);
}

constexpr QuantizeTile versions[isa_count] = {quantize_portable, quantize_avx2, quantize_avx512};
#else
constexpr QuantizeTile versions[isa_count] = {quantize_portable, quantize_portable, quantize_portable};
#endif

void gather(const Book& book, const std::uint16_t* codes, int count, float* memory) {
    const std::size_t width = book.memory_width;
    for (int n = 0; n < count; ++n) std::copy_n(book.memory.data() + codes[n] * width, width, memory + n * width);
}

}  // namespace

Quantizer::Book::Book(const CodebookView& from)
    : token_width(from.token_width),
      width(from.width),
      entries(from.entries),
      memory_width(from.memory_width),
      projected(from.projection != nullptr),
      shift(padded(from.shift, from.shift_rows, from.width, 0.0f)),
      bias(padded(from.bias, from.bias_rows, from.entries, lowest)) {
    shift_step = from.shift_rows == 1 ? 0 : shift.size() / from.shift_rows;
    bias_step = from.bias_rows == 1 ? 0 : bias.size() / from.bias_rows;
    if (projected) projection.pack(from.projection, width, token_width, token_width);
    codebook.pack(from.codebook, entries, width, width);
    if (from.memory) memory.assign(from.memory, from.memory + static_cast<std::size_t>(entries) * memory_width);
}

Quantizer::Quantizer(const CodebookView& top, const std::vector<CodebookView>& levels) {
    books_.reserve(1 + levels.size());
    books_.emplace_back(top);
    for (const CodebookView& level : levels) books_.emplace_back(level);
}

std::int64_t Quantizer::run(const float* tokens, int count, std::uint16_t* codes, float* memory) const {
    thread_local Scratch scratch;
    scratch.prepare(books_);
    const QuantizeTile quantize = versions[static_cast<int>(active_isa())];
    std::int64_t nonfinite = 0;
    for (std::size_t b = 0; b < books_.size(); ++b) {
        const Book& book = books_[b];
        std::uint16_t* codes_of_book = codes + b * count;
        for (int first = 0; first < count; first += tile) {
            const float* from = tokens + (b * count + first) * book.token_width;
            const Tile of{book, from, b == 0 ? nullptr : codes + first, std::min(tile, count - first)};
            nonfinite += quantize(of, scratch, codes_of_book + first);
        }
        if (memory && b > 0)
            gather(book, codes_of_book, count, memory + (b - 1) * static_cast<std::size_t>(count) * book.memory_width);
    }
    return nonfinite;
}

}  // namespace lad
