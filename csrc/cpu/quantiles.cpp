#include "lad/quantiles.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "lad/resample.hpp"

namespace lad {
namespace {

constexpr std::size_t bins = 1 << 16;
constexpr std::size_t groups_per_pass = 64;  // 32 MiB of counters
using Counts = std::vector<std::uint64_t>;

struct OrderStatistic {
    std::uint64_t rank;       // within all values; then within its group
    std::uint32_t group = 0;  // upper 16 bits of the key
    float value = 0;
};

// Adds to the counts of the upper 16 bits; false if a value is NaN.
bool count_groups(const Chunk& chunk, Counts& counts) {
    bool nan = false;
    for (std::size_t i = 0; i < chunk.count; ++i) {
        nan |= (bits_of(chunk.values[i]) & 0x7fffffffu) > 0x7f800000u;
        ++counts[order_key(chunk.values[i]) >> 16];
    }
    return !nan;
}

// Both are sorted by rank, so one walk over the counts serves all.
void find_groups(const Counts& counts, std::vector<OrderStatistic>& statistics) {
    std::uint64_t below = 0;
    std::uint32_t group = 0;
    for (OrderStatistic& s : statistics) {
        while (below + counts[group] <= s.rank) below += counts[group++];
        s.group = group;
        s.rank -= below;
    }
}

float value_at(const std::uint64_t* counts, std::uint32_t group, std::uint64_t rank) {
    std::uint32_t low = 0;
    for (std::uint64_t below = 0; below + counts[low] <= rank; ++low) below += counts[low];
    return value_of_key(group << 16 | low);
}

// The lower 16 bits, for the statistics [first, last): at most groups_per_pass distinct groups.
void find_values(const std::vector<Chunk>& chunks, OrderStatistic* first, OrderStatistic* last) {
    std::vector<std::int32_t> slot_of(bins, -1);
    std::int32_t slots = 0;
    for (OrderStatistic* s = first; s != last; ++s)
        if (slot_of[s->group] < 0) slot_of[s->group] = slots++;
    Counts counts(slots * bins);
    for (const Chunk& chunk : chunks)
        for (std::size_t i = 0; i < chunk.count; ++i) {
            const std::uint32_t key = order_key(chunk.values[i]);
            const std::int32_t slot = slot_of[key >> 16];
            if (slot >= 0) ++counts[slot * bins + (key & 0xffffu)];
        }
    for (OrderStatistic* s = first; s != last; ++s)
        s->value = value_at(counts.data() + slot_of[s->group] * bins, s->group, s->rank);
}

OrderStatistic* end_of_pass(OrderStatistic* first, OrderStatistic* last) {
    std::size_t groups = 1;
    OrderStatistic* s = first;
    while (++s != last)
        if (s->group != s[-1].group && ++groups > groups_per_pass) break;
    return s;
}

std::vector<std::uint64_t> needed_ranks(const std::vector<double>& q, std::uint64_t n) {
    std::vector<std::uint64_t> ranks;
    for (const double fraction : q) {
        const auto rank = static_cast<std::uint64_t>(fraction * static_cast<double>(n - 1));
        ranks.push_back(std::min(rank, n - 1));
        ranks.push_back(std::min(rank + 1, n - 1));
    }
    std::sort(ranks.begin(), ranks.end());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    return ranks;
}

// -inf below and +inf above give -inf, not NaN.
double interpolate(double below, double above, double weight) {
    if (weight == 0 || below == above || std::isinf(below)) return below;
    return below + weight * (above - below);
}

}  // namespace

bool quantiles(const std::vector<Chunk>& chunks, const std::vector<double>& q, double* out) {
    Counts counts(bins);
    std::uint64_t n = 0;
    for (const Chunk& chunk : chunks) {
        n += chunk.count;
        if (!count_groups(chunk, counts)) return false;
    }
    const std::vector<std::uint64_t> ranks = needed_ranks(q, n);
    std::vector<OrderStatistic> statistics;
    for (const std::uint64_t rank : ranks) statistics.push_back({rank});
    find_groups(counts, statistics);
    for (OrderStatistic *s = statistics.data(), *end = s + statistics.size(); s != end;) {
        OrderStatistic* pass_end = end_of_pass(s, end);
        find_values(chunks, s, pass_end);
        s = pass_end;
    }
    const auto value_of_rank = [&](std::uint64_t rank) {
        return statistics[std::lower_bound(ranks.begin(), ranks.end(), rank) - ranks.begin()].value;
    };
    for (std::size_t i = 0; i < q.size(); ++i) {
        const double position = q[i] * static_cast<double>(n - 1);
        const std::uint64_t rank = std::min(static_cast<std::uint64_t>(position), n - 1);
        out[i] = interpolate(value_of_rank(rank), value_of_rank(std::min(rank + 1, n - 1)),
                             position - static_cast<double>(rank));
    }
    return true;
}

}  // namespace lad
