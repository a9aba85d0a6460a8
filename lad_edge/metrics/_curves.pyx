# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The two loops of the overlap curves: good scores counted between region scores, and areas under the curve."""

import numpy as np


def count_good(const float[::1] good, const float[::1] scores, unsigned int[::1] below, unsigned int[::1] ties):
    """See _curves.pyi."""
    cdef Py_ssize_t i = 0, j = 0, good_count = good.shape[0], count = scores.shape[0]
    cdef bint passed
    if below.shape[0] != count or ties.shape[0] != count:
        raise ValueError(f"expected below and ties of {count}, got {below.shape[0]} and {ties.shape[0]}")
    with nogil:
        while i < count and j < good_count:  # a merge without a branch that the processor would have to guess
            ties[i] += good[j] == scores[i]
            passed = good[j] <= scores[i]
            below[i] += passed
            j += passed
            i += not passed


cdef inline double area_right_of(double above, double tied, double limit) noexcept nogil:
    """Under a step from 0 to 1 that begins at `above` and takes `tied` to rise, up to `limit`."""
    if limit <= above:
        return 0.0
    if limit < above + tied:
        return 0.5 * (limit - above) * (limit - above) / tied
    return limit - above - 0.5 * tied


def areas(const float[::1] scores, const unsigned int[::1] regions, const double[::1] weights,
          const unsigned int[::1] below, const unsigned int[::1] ties, double good_px, const double[::1] limits):
    """See _curves.pyi."""
    cdef Py_ssize_t i, k, count = scores.shape[0], limit_count = limits.shape[0]
    if regions.shape[0] != count or below.shape[0] != count or ties.shape[0] != count:
        raise ValueError(f"expected regions, below and ties of {count} scores")
    cdef double above = good_px, rise = 0.0
    found = np.zeros(limit_count)
    cdef double[::1] sums = found
    with nogil:
        for i in range(count):
            above -= below[i]
        for i in range(count - 1, -1, -1):
            rise += weights[regions[i]]
            if i == 0 or scores[i] != scores[i - 1]:
                for k in range(limit_count):
                    sums[k] += rise * area_right_of(above, ties[i], limits[k])
                above += below[i]
                rise = 0.0
    return found
