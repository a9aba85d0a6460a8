// The tables of the books: transposed, so that threads read neighbours, and padded to whole tiles.
#include <algorithm>

#include "quantizer.cuh"

namespace lad::cuda {
namespace {

using Book = Quantizer::Book;

int padded(int n, int to) { return (n + to - 1) / to * to; }

// (rows, columns), row-major, to (columns padded, rows padded): transposed, zeros behind.
std::vector<float> transposed(const float* matrix, int rows, int columns, int padded_columns, int padded_rows) {
    std::vector<float> out(static_cast<std::size_t>(padded_columns) * padded_rows, 0.0f);
    for (int row = 0; row < rows; ++row)
        for (int column = 0; column < columns; ++column)
            out[static_cast<std::size_t>(column) * padded_rows + row] =
                matrix[static_cast<std::size_t>(row) * columns + column];
    return out;
}

std::vector<float> widened(const float* table, int rows, int columns, int pitch, float filling) {
    std::vector<float> out(static_cast<std::size_t>(rows) * pitch, filling);
    for (int row = 0; row < rows; ++row)
        std::copy_n(table + static_cast<std::size_t>(row) * columns, columns,
                    out.data() + static_cast<std::size_t>(row) * pitch);
    return out;
}

Book make_book(const CodebookView& from, Tables& tables) {
    Book book{};
    book.rounding = search_rounding(from);
    book.token_width = from.token_width, book.width = from.width, book.entries = from.entries;
    book.memory_width = from.memory_width, book.projected = from.projection != nullptr;
    book.pitch = padded(from.entries, panel), book.projected_pitch = padded(from.width, projected_columns);
    book.shift_step = from.shift_rows == 1 ? 0 : from.width;
    const int rows = from.prior ? from.prior_rows : 1;
    book.prior_step = rows == 1 ? 0 : book.pitch;
    if (book.projected)
        book.projection = tables.add(transposed(from.projection, from.width, from.token_width,
                                                padded(from.token_width, projection_steps), book.projected_pitch));
    book.shift = tables.add(widened(from.shift, from.shift_rows, from.width, from.width, 0));
    book.codebook =
        tables.add(transposed(from.codebook, from.entries, from.width, padded(from.width, steps), book.pitch));
    const std::vector<float> zeros(from.entries), bias = search_bias(from);
    // No padding ever wins.
    book.prior = tables.add(widened(from.prior ? from.prior : zeros.data(), rows, from.entries, book.pitch, lowest()));
    book.bias = tables.add(widened(bias.data(), rows, from.entries, book.pitch, lowest()));
    if (from.memory)
        book.memory = tables.add(widened(from.memory, from.entries, from.memory_width, from.memory_width, 0));
    return book;
}

}  // namespace

Quantizer::Quantizer(const CodebookView& top, const std::vector<CodebookView>& levels)
    : levels_(static_cast<int>(levels.size())),
      token_width_(top.token_width),
      memory_width_(levels.empty() ? 0 : levels.back().memory_width) {
    std::vector<Book> books{make_book(top, tables_)};
    for (const CodebookView& level : levels) books.push_back(make_book(level, tables_));
    for (const Book& book : books)
        if (book.projected) projected_pitch_ = std::max(projected_pitch_, book.projected_pitch);
    books_ = tables_.add(books);
}

}  // namespace lad::cuda
