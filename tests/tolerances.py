"""Every tolerance of the tests in one table, each with its reason."""

from __future__ import annotations

from typing import NamedTuple


class Tolerance(NamedTuple):
    """Bounds for numpy.testing.assert_allclose, and why they are what they are."""

    rtol: float
    atol: float
    reason: str


PREPROCESS = Tolerance(0, 5e-6, "float32 weights and sums of up to ~40 x 40 taps on a 0..1 scale over std >= 0.2")
PREPROCESS_PILLOW_GREY = Tolerance(0, 1.0, "grey levels: Pillow rounds to bytes after each axis, ours never does")
HALF_PRECISION = Tolerance(4.9e-4, 3e-8, "one rounding to 11 bits; below 6e-5 to steps of 6e-8")
DISTANCE_MAP = Tolerance(3e-6, 0, "float32 sums of up to 400 squares in channel order: about sqrt(400) half ulps")
DISTANCE_MAP_COSINE = Tolerance(
    5e-6, 1e-6, "the same, and four such sums in the cosine, of which 1 - cos cancels to ulps of 1"
)
CODES = Tolerance(
    1e-6, 1e-3, "atol: share of tokens whose two best scores lie closer than float32 sums can tell, rtol apart"
)
PROJECT_MAPS = Tolerance(2e-6, 0, "float32 sums of up to 100 + 100 products, relative to the sum of their sizes")
RESAMPLING = Tolerance(0, 1e-12, "float64 matrices; another order of summation")
MASKED_HISTOGRAM_SCORE = Tolerance(
    0, 2e-6, "per level 2 - 2 sum min(P, Q): ulps of 1 from exp, its sum and the quotient"
)
FUSE = Tolerance(0, 5e-7, "float32 normalise, fuse and two interpolations of values below about 1")
FUSE_LARGE = Tolerance(1e-6, 1e-6, "the same for values of any size, relative to the largest one")
SIGMOID = Tolerance(0, 1.2e-7, "own exp of ~1 ulp, then one addition and one division in float32")
ELEMENTARY = Tolerance(1.2e-7, 0, "own exp in float32: the bound that elementary.hpp states, one ulp")
LOGARITHM = Tolerance(
    1.8e-7, 1.2e-7, "own log2 by table and cubic: the bound that packs.hpp states, and a product with ln 2"
)
SYMMETRIC_KL = Tolerance(
    3e-6, 1e-6, "float32 scores, their rounding goes through exp (atol: per unit of the largest); logarithms up to 9"
)
MASKED_RIDGE = Tolerance(
    0, 1e-4, "tables in steps of 1/32767 of the largest value of a row, relative to the largest distance of the map"
)
SMALL_MAPS = Tolerance(2e-6, 1e-6, "float32 where numpy has float64 in places; own exp; sums of some hundred terms")
LINES = Tolerance(
    2e-4, 1e-5, "PREPROCESS through a network that amplifies it, then kernels in other orders of summation"
)
QUANTILES = Tolerance(
    1e-12, 1e-300, "order statistics are exact; float64 interpolation is written differently in numpy"
)
