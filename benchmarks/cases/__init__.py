"""What the kernels are measured on: inputs, our form and the best others, each with what its result has to be."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.cases import codes, correlations, distances, images, ridges, tails
from benchmarks.cases.case import Case

# made one at a time: together their arrays take some hundred MB
CASES: tuple[Callable[[], Case], ...] = (
    images.preprocess,
    tails.fuse_with_map,
    tails.fuse_without_map,
    distances.mean_square,
    distances.mean_square_and_cosine,
    codes.flat_codebook,
    codes.star_of_codebooks,
    codes.histograms,
    tails.ulsad,
    tails.fod,
    correlations.fine_level,
    correlations.coarse_level,
    ridges.taught_from_few,
    ridges.taught_from_many,
    tails.quantiles_of_validation,
    images.regions,
)
