// The CUDA twins of the kernels: device pointers, the caller's stream, nothing allocated, every launch checked.
//
// A call returns when it is enqueued, and can be captured in a CUDA graph. It throws std::runtime_error when CUDA
// refuses the launch. Workspaces are device memory of the caller, at a multiple of 256 bytes, with any content, and not
// shared by launches that may overlap. Counts of what is not finite are added to, so that one clearing per frame serves
// all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lad/codebook.hpp"
#include "lad/correlation.hpp"
#include "lad/cuda_tables.hpp"
#include "lad/histogram.hpp"
#include "lad/maps.hpp"
#include "lad/preprocess.hpp"
#include "lad/ridge_view.hpp"

struct CUstream_st;

namespace lad::cuda {

using Stream = CUstream_st*;  // cudaStream_t

enum class Precision : int { f32, f16 };

// What an engine gives and takes. Kernels compute in float32.
struct ConstValues {
    const void* at;
    Precision precision;
};

struct Values {
    void* at;
    Precision precision;
};

// Devices that this process can use; empty without a driver or a device, which is no error.
std::vector<std::string> device_names();

// Copies the tables of a plan to the device; not to be captured. They are read until the copy is done.
void upload(const Tables& tables, void* device, Stream stream);

// As lad::Preprocess, with the same taps. Immutable: threads may share it.
class Preprocess {
  public:
    explicit Preprocess(const PreprocessSpec& spec);

    // image: on the device, rows `pitch` bytes apart. tables: a copy of tables() on the device. out: (3, height,
    // width).
    void run(const std::uint8_t* image, std::ptrdiff_t pitch, const void* tables, Values out, Stream stream) const;

    const Tables& tables() const { return tables_; }
    const PreprocessSpec& spec() const { return spec_; }

  private:
    PreprocessSpec spec_;
    Tables tables_;
    int row_taps_;
    std::array<std::size_t, 6> offsets_;  // rows, then columns: first, count, weights
};

// How many of `count` values are not finite.
void count_nonfinite(ConstValues values, std::size_t count, std::int64_t* nonfinite, Stream stream);

// As lad::distance_map, in another order of summation. a and b have one precision.
void distance_map(ConstValues a, ConstValues b, std::size_t channels, std::size_t positions, float cosine, float* out,
                  std::int64_t* nonfinite, Stream stream);

// Bytes of device memory that one `fuse` or `fuse_places` works in.
std::size_t fuse_workspace_bytes(const FuseSpec& spec);

// As lad::fuse, with the same arithmetic. result: 6 doubles in the order of FuseResult. out: (out_height, out_width) or
// null. Both maps have one precision.
void fuse(const FuseSpec& spec, ConstValues structural, ConstValues logical, float* out, double* result,
          void* workspace, Stream stream);

// As lad::fuse_places. places: (2, 2, height, width).
void fuse_places(const FuseSpec& spec, ConstValues structural, ConstValues logical, const float* places, float* out,
                 double* result, void* workspace, Stream stream);

constexpr std::size_t max_map_terms = 64;

// A number that the host knows, or, where `at` is not null, one in device memory that is read when the kernel runs.
struct Constant {
    float value;
    const float* at;
};

// Bytes of device memory that one `project_maps` works in.
std::size_t project_workspace_bytes(int out_height, int out_width);

// As lad::project_maps, with the same arithmetic; a cell reaches only where its weights are not 0. 1 to max_map_terms
// terms of device pointers. result: 4 doubles in the order of ProjectResult.
void project_maps(const std::vector<MapTerm>& terms, Constant constant, int out_height, int out_width, float* out,
                  double* result, void* workspace, Stream stream);

// As lad::masked_histograms; codes outside of the codebook are left out.
void masked_histograms(const MaskedCodes& of, std::uint16_t* out, Stream stream);

// As lad::masked_histogram_score. An empty mask makes NaN.
void masked_histogram_score(const MaskedCodes& of, ConstValues logits, float* out, std::int64_t* nonfinite,
                            Stream stream);

// As lad::Quantizer, in another order of summation. Immutable: threads may share it.
class Quantizer {
  public:
    Quantizer(const CodebookView& top, const std::vector<CodebookView>& levels);

    // Bytes of device memory that `run` works in.
    std::size_t workspace_bytes(int count) const;

    // tokens: (1 + levels, count, D); codes: (1 + levels, count); memory: (levels, count, memory_width) or null.
    // tables: a copy of tables() on the device.
    void run(ConstValues tokens, int count, const void* tables, std::uint16_t* codes, Values memory,
             std::int64_t* nonfinite, void* workspace, Stream stream) const;

    const Tables& tables() const { return tables_; }
    int levels() const { return levels_; }
    int token_width() const { return token_width_; }
    int memory_width() const { return memory_width_; }

    struct Book;  // read by the kernels

  private:
    int levels_, token_width_, memory_width_;
    int projected_pitch_ = 0;  // of the widest book
    Tables tables_;
    std::size_t books_;  // where the tables have the books
};

// As lad::MaskedRidge, with tables of the same precision and in another order of summation. Immutable: threads may
// share it.
class MaskedRidge {
  public:
    explicit MaskedRidge(const RidgeView& view);

    // Bytes of device memory that `run` works in.
    std::size_t workspace_bytes() const;

    // cells: (C, side, side). tables: a copy of tables() on the device. fine, own: (side, side); coarse: (side / 2,
    // side / 2). Counts the values of cells that are not finite: then all outputs are NaN. If all are finite, counts
    // the distances that are not: these alone are NaN.
    void run(ConstValues cells, const void* tables, float* fine, float* coarse, float* own, std::int64_t* nonfinite,
             void* workspace, Stream stream) const;

    const Tables& tables() const { return tables_; }
    int side() const { return layout_.side; }
    int channels() const { return layout_.channels; }

    // Rows in 16 bits, each `pitch` whole numbers long, and a scale for each row. Offsets into the tables.
    struct RoundedRows {
        std::size_t values, scales;
    };

    // Read by the kernels. A region has five lines: its four cells, and their mean.
    struct Layout {
        int side, channels, context_width, directions;
        int pitch;  // channels, padded to whole pairs
        float root_gain[3];
        std::size_t mean, scale, whitening;  // offsets: (regions, C, 4), (C), (C, pitch)
        RoundedRows context;                 // (regions, r)
        RoundedRows prediction;              // (regions, 5, r), in white coordinates
        RoundedRows along;                   // (regions, 5, q)
    };

  private:
    Tables tables_;
    Layout layout_;
};

// Bytes of device memory that one `symmetric_kl` works in.
std::size_t correlation_workspace_bytes(const CorrelationSpec& spec, int layers);

// As lad::symmetric_kl, called for each of `layers` layers of queries, keys and sigmas, one behind the other. queries
// and keys have one precision. Counts the inputs that are not finite, or, if all are, such values of out.
void symmetric_kl(const CorrelationSpec& spec, int layers, ConstValues queries, ConstValues keys, const float* sigmas,
                  float* out, std::int64_t* nonfinite, void* workspace, Stream stream);

// The small steps of tails.py, with its names and meaning, in float32. All pointers are device memory.

// out: (tokens, width), row codes[i] of `table` (entries, width), the last one for codes beyond it.
void take_rows(const float* table, int entries, int width, const std::uint16_t* codes, int tokens, float* out,
               Stream stream);

void modulate(const float* error, const float* divergence, int tokens, bool from_largest, float* out, Stream stream);

// fine, out: (side, side); coarse: (side / 2, side / 2).
void larger_of_regions(const float* fine, const float* coarse, int side, float fine_scale, float coarse_scale,
                       float* out, Stream stream);

// means, scales: (masks); shares: (masks, tokens).
struct MaskStatistics {
    const float *means, *scales, *shares;
    int masks, tokens;
};

// distances, roots, heat: (tokens); scores: (masks); mean_deviation: one.
void mask_maps(const MaskStatistics& of, const float* distances, int channels, const float* scores, float* roots,
               float* heat, float* mean_deviation, Stream stream);

// Of the structural and of the logical branch.
struct BranchStandards {
    double scale[2], offset[2], drawn_offset[2];
};

// peak, mean_deviation: one each. scores: total, structural, logical; constants, most: two each.
void join_branches(const BranchStandards& of, const double* peak, const float* mean_deviation, double* scores,
                   float* constants, float* most, Stream stream);

void larger_capped(const float* first, const float* second, const float* most, int count, float* out, Stream stream);

}  // namespace lad::cuda
