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

// The best scores of a token so far, lane by lane. Entries come in order, and only a higher score replaces: ties stay
// with the lowest index.
template <typename V>
struct Best {
    V score;
    IndexOf<V> index;

    LAD_INLINE void take(const V& value, const IndexOf<V>& at) {
        const IndexOf<V> higher = value > score;
        score = higher ? value : score;
        index = higher ? at : index;
    }
    LAD_INLINE int lane() const {
        int best = 0;
        for (int i = 1; i < width_of<V>; ++i)
            if (score[i] > score[best] || (score[i] == score[best] && index[i] < index[best])) best = i;
        return best;
    }
};

// 0, 1, 2 and so on.
template <typename V>
LAD_INLINE IndexOf<V> numbered() {
    IndexOf<V> numbers;
    for (int i = 0; i < width_of<V>; ++i) numbers[i] = i;
    return numbers;
}

// What one call works in; each thread has its own and keeps it.
struct Scratch {
    Floats projected;       // (tile, width padded to whole panels)
    Floats winner, beyond;  // an entry, and what a token is beyond it; as wide
    alignas(64) float best[tile][lanes];
    alignas(64) float second[tile][lanes];
    alignas(64) std::int32_t index[tile][lanes];

    template <typename V>
    LAD_INLINE Best<V> best_of(int t) const {
        Best<V> best{load<V>(this->best[t]), {}};
        std::memcpy(&best.index, index[t], sizeof(best.index));
        return best;
    }
    void prepare(const std::vector<Book>& books) {
        int width = 0;
        for (const Book& book : books) width = std::max(width, (book.width + Panels::width - 1) / Panels::width);
        winner.resize(static_cast<std::size_t>(width) * Panels::width);
        beyond.resize(winner.size());
        projected.resize(tile * winner.size());
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
    const float* prior(int t) const { return book.prior.data() + top(t) * book.prior_step; }
    const float* bias(int t) const { return book.bias.data() + top(t) * book.prior_step; }

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
        std::fill(out + of.book.width, out + pitch, 0.0f);
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

// Scores of 6 tokens with one panel of entries, into their best and second best ones.
template <typename V>
LAD_INLINE void search_panel(const Tile& of, const float* const* lines, int first, int panel, Scratch& s) {
    constexpr int width = width_of<V>;
    const IndexOf<V> numbers = numbered<V>();
    multiply<V>(lines, of.book.codebook.of(panel), of.book.width,
                [&](int t, int column, const V* products) __attribute__((always_inline)) {
                    if (first + t >= of.count) return;
                    const int at = panel * Panels::width + column;
                    const float* bias = of.bias(first + t) + at;
                    Best<V> best = s.best_of<V>(first + t);
                    V second = load<V>(s.second[first + t]);
                    for (int v = 0; v < vectors_at_once<V>; ++v) {
                        const V score = products[v] + load<V>(bias + v * width);
                        second = larger(score > best.score ? best.score : score, second);
                        best.take(score, numbers + (at + v * width));
                    }
                    store<V>(s.best[first + t], best.score);
                    store<V>(s.second[first + t], second);
                    std::memcpy(s.index[first + t], &best.index, sizeof(best.index));
                });
}

// Whether another entry comes as close to the best one as rounding may have moved them.
template <typename V>
LAD_INLINE bool nearly_tied(const Tile& of, int t, std::size_t pitch, const Best<V>& best, int lane, const Scratch& s) {
    const float* token = s.projected.data() + t * pitch;
    V others = best.score;
    others[lane] = lowest;
    float squares[lanes] = {};
    for (std::size_t d = 0; d < pitch; d += lanes)
        for (int i = 0; i < lanes; ++i) squares[i] += token[d + i] * token[d + i];
    const SearchRounding& rounding = of.book.rounding;
    const float lead = best.score[lane] - max_of(larger(others, load<V>(s.second[t])));
    return !(lead > rounding.each * std::sqrt(sum_of_lanes(squares)) + rounding.always);
}

// The code by differences from the entry b that won by products: for step = b_j - b and the token x, entry j scores
// step . (x - b - step / 2) more than b. Of entries that lie close together both factors keep their digits.
template <typename V>
LAD_INLINE int settle(const Tile& of, int t, std::size_t pitch, int code, Scratch& s) {
    constexpr int width = width_of<V>, vectors = vectors_at_once<V>;
    const Panels& entries = of.book.codebook;
    const float *entry = entries.of(code / Panels::width) + code % Panels::width, *prior = of.prior(t);
    for (int d = 0; d < entries.depth; ++d) {
        s.winner[d] = entry[static_cast<std::size_t>(d) * Panels::width];
        s.beyond[d] = s.projected[t * pitch + d] - s.winner[d];
    }
    Best<V> best{V{} + lowest, IndexOf<V>{}};
    for (int at = 0; at < entries.padded_rows(); at += vectors * width) {
        const float* row = entries.of(at / Panels::width) + at % Panels::width;
        V sums[vectors] = {};
        for (int d = 0; d < entries.depth; ++d, row += Panels::width)
            for (int v = 0; v < vectors; ++v) {
                const V step = load<V>(row + v * width) - s.winner[d];
                sums[v] += step * (s.beyond[d] - 0.5f * step);
            }
        for (int v = 0; v < vectors; ++v)
            best.take(sums[v] + (load<V>(prior + at + v * width) - prior[code]), numbered<V>() + (at + v * width));
    }
    return best.index[best.lane()];
}

// The best of the lanes of each token; returns the non-finite count. A value that is not finite makes every score of
// its token infinite or NaN, so that finite best scores vouch for finite tokens.
template <typename V>
LAD_INLINE std::int64_t choose(const Tile& of, std::size_t pitch, Scratch& s, std::uint16_t* codes) {
    std::int64_t nonfinite = 0;
    for (int t = 0; t < of.count; ++t) {
        const Best<V> best = s.best_of<V>(t);
        const int lane = best.lane();
        int code = best.index[lane];
        if (is_finite(best.score[lane])) {
            if (nearly_tied<V>(of, t, pitch, best, lane, s)) code = settle<V>(of, t, pitch, code, s);
            codes[t] = static_cast<std::uint16_t>(code);
            continue;
        }
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
    std::fill_n(s.second[0], tile * lanes, lowest);
    std::fill_n(s.index[0], tile * lanes, 0);
    for (int panel = 0; panel < of.book.codebook.count; ++panel)
        for (int first = 0; first < of.count; first += lines_at_once) {
            const float* lines[lines_at_once];
            of.lines(s.projected.data(), pitch, first, lines);
            search_panel<V>(of, lines, first, panel, s);
        }
    return choose<V>(of, pitch, s, codes);
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
      rounding(search_rounding(from)) {
    const std::vector<float> zeros(from.entries), searched = search_bias(from);
    const int rows = from.prior ? from.prior_rows : 1;
    prior = padded(from.prior ? from.prior : zeros.data(), rows, from.entries, lowest);
    bias = padded(searched.data(), rows, from.entries, lowest);
    shift_step = from.shift_rows == 1 ? 0 : shift.size() / from.shift_rows;
    prior_step = rows == 1 ? 0 : prior.size() / rows;
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
