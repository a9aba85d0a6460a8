// Codes of tokens: the nearest, or best scored, entry of each codebook. Flat, or a star of levels around one top code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lad/codebook.hpp"
#include "lad/panels.hpp"

namespace lad {

// Immutable after construction: threads may share it. Each thread keeps a scratch of its own.
class Quantizer {
  public:
    Quantizer(const CodebookView& top, const std::vector<CodebookView>& levels);

    // codes[0, n]: the code of tokens[0, n] in the top codebook; codes[1 + l, n]: of tokens[1 + l, n] in level l, under
    // the top code of n. The highest score wins, the lowest index on ties; what float32 products cannot tell apart is
    // searched again by differences from the winner. A token that has no finite highest score gets code 0. tokens: (1 +
    // levels, count, D); codes: (1 + levels, count); memory: (levels, count, memory_width), the rows of the levels'
    // codes, or null. Returns how many token values are not finite, or, of finite tokens whose scores overflow, the
    // number of such tokens.
    std::int64_t run(const float* tokens, int count, std::uint16_t* codes, float* memory) const;

    int levels() const { return static_cast<int>(books_.size()) - 1; }
    int token_width() const { return books_[0].token_width; }
    int memory_width() const { return books_.back().memory_width; }

    // Read by the kernel.
    struct Book {
        explicit Book(const CodebookView& from);

        int token_width, width, entries, memory_width;
        bool projected;
        std::size_t shift_step, prior_step;  // from one top code to the next; 0 where one row holds for all
        Panels projection, codebook;
        Floats shift;        // (rows, width), padded to whole panels
        Floats prior, bias;  // (rows, entries), padded to whole panels with -infinity: no padding ever wins
        Floats memory;       // (entries, memory_width)
        SearchRounding rounding;
    };

  private:
    std::vector<Book> books_;  // top, then levels
};

}  // namespace lad
