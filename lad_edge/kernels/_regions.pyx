# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Connected areas of a map above a threshold: one pass over the rows, union-find over runs of pixels."""

from libc.math cimport INFINITY, nextafterf
from libc.stdlib cimport free, realloc
from libc.string cimport memset

import numpy as np


cdef struct Area:
    Py_ssize_t parent  # itself for a root; else an older area that it was joined to
    Py_ssize_t left, top, right, bottom, pixels
    Py_ssize_t peak_x, peak_y
    float peak


cdef struct Run:  # pixels [begin, end) of one row
    Py_ssize_t begin, end, area


cdef struct Areas:
    Area* items
    Py_ssize_t count, room


cdef enum:
    STRIDE = 64  # pixels that are looked at together


cdef inline Py_ssize_t root_of(Area* items, Py_ssize_t i) noexcept nogil:
    while items[i].parent != i:
        items[i].parent = items[items[i].parent].parent
        i = items[i].parent
    return i


cdef Py_ssize_t new_area(Areas* areas, const Area* first) except -1 nogil:
    cdef Area* grown
    if areas.count == areas.room:
        grown = <Area*>realloc(areas.items, 2 * (areas.room + 32) * sizeof(Area))
        if grown == NULL:
            raise MemoryError("label_regions: no memory left for the regions; raise the threshold")
        areas.items = grown
        areas.room = 2 * (areas.room + 32)
    areas.items[areas.count] = first[0]
    areas.items[areas.count].parent = areas.count
    areas.count += 1
    return areas.count - 1


cdef inline bint comes_before(const Area* a, const Area* b) noexcept nogil:
    return a.peak_y < b.peak_y or (a.peak_y == b.peak_y and a.peak_x < b.peak_x)


cdef inline void absorb(Area* into, const Area* other) noexcept nogil:
    into.left = min(into.left, other.left)
    into.right = max(into.right, other.right)
    into.top = min(into.top, other.top)
    into.bottom = max(into.bottom, other.bottom)
    into.pixels += other.pixels
    if other.peak > into.peak or (other.peak == into.peak and comes_before(other, into)):
        into.peak, into.peak_x, into.peak_y = other.peak, other.peak_x, other.peak_y


cdef inline Py_ssize_t join(Area* items, Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """The older root takes the younger one in; returns it."""
    a = root_of(items, a)
    b = root_of(items, b)
    if a == b:
        return a
    if b < a:
        a, b = b, a
    absorb(&items[a], &items[b])
    items[b].parent = a
    return a


cdef inline Py_ssize_t skip_low(const float* row, Py_ssize_t x, Py_ssize_t width, float threshold) noexcept nogil:
    """The next x whose value is not at or under the threshold (NaN included)."""
    cdef int above
    cdef Py_ssize_t i
    while x + STRIDE <= width:
        above = 0
        for i in range(STRIDE):
            above += not row[x + i] <= threshold
        if above:
            break
        x += STRIDE
    while x < width and row[x] <= threshold:
        x += 1
    return x


cdef Py_ssize_t measure_run(const float* row, Py_ssize_t x, Py_ssize_t y, Py_ssize_t width, float threshold,
                            Area* area) except -1 nogil:
    """Statistics of the run that begins at x; returns its end."""
    area.left, area.top, area.bottom = x, y, y
    area.peak, area.peak_x, area.peak_y = row[x], x, y
    while x < width and not row[x] <= threshold:
        if row[x] != row[x]:
            raise ValueError(f"anomaly_map: expected numbers, got NaN at y={y}, x={x}")
        if row[x] > area.peak:
            area.peak, area.peak_x = row[x], x
        x += 1
    area.right = x - 1
    area.pixels = x - area.left
    return x


cdef int label(const float* pixels, Py_ssize_t height, Py_ssize_t width, float threshold, Run* above, Run* here,
               Areas* areas) except -1 nogil:
    """Fill areas. above, here: room for the runs of one row each."""
    cdef Py_ssize_t y, x, k, first, above_count = 0, here_count
    cdef const float* row
    cdef Area found
    cdef Run run
    for y in range(height):
        row = pixels + y * width
        here_count = first = 0
        x = skip_low(row, 0, width, threshold)
        while x < width:
            run.begin = x
            run.end = x = measure_run(row, x, y, width, threshold, &found)
            run.area = new_area(areas, &found)
            while first < above_count and above[first].end < run.begin:
                first += 1
            k = first
            while k < above_count and above[k].begin <= run.end:  # diagonal neighbours touch
                run.area = join(areas.items, run.area, above[k].area)
                k += 1
            here[here_count] = run
            here_count += 1
            x = skip_low(row, x, width, threshold)
        above, here = here, above
        above_count = here_count
    return 0


cdef list rows_of(const Areas* areas, Py_ssize_t min_area_px):
    cdef Py_ssize_t i
    cdef Area* a
    found = []
    for i in range(areas.count):
        a = &areas.items[i]
        if a.parent == i and a.pixels >= min_area_px:
            found.append((a.left, a.top, a.right - a.left + 1, a.bottom - a.top + 1, a.pixels, a.peak, a.peak_x, a.peak_y))
    found.sort(key=lambda row: (-row[5], row[7], row[6]))
    return found


cdef float round_down(double threshold) noexcept:
    """The float32 that separates the same values as the float64: v > threshold for exactly the same v."""
    cdef float rounded = <float>threshold
    return nextafterf(rounded, -INFINITY) if rounded > threshold else rounded


def label_regions(anomaly_map, double threshold, Py_ssize_t min_area_px):
    """See lad_edge.kernels.label_regions; returns plain tuples in the order of LabelledRegion."""
    if not isinstance(anomaly_map, np.ndarray) or anomaly_map.dtype != np.float32 or not anomaly_map.flags.c_contiguous:
        strides = getattr(anomaly_map, "strides", None)
        came = f"{getattr(anomaly_map, 'dtype', '')} {type(anomaly_map).__name__} with strides {strides}".strip()
        raise TypeError(f"anomaly_map: expected a C-contiguous float32 array, got {came}")
    if anomaly_map.ndim != 2:
        raise ValueError(f"anomaly_map: expected shape (H, W), got {anomaly_map.shape}")
    if threshold != threshold:
        raise ValueError("threshold: expected a number, got NaN")
    cdef const float[:, ::1] pixels = anomaly_map
    cdef Py_ssize_t height = pixels.shape[0], width = pixels.shape[1]
    if height == 0 or width == 0:
        return []
    cdef float limit = round_down(threshold)
    cdef Areas areas
    memset(&areas, 0, sizeof(areas))
    cdef Run* runs = <Run*>realloc(NULL, 2 * (width // 2 + 1) * sizeof(Run))
    if runs == NULL:
        raise MemoryError("label_regions: no memory left for one row of the map")
    try:
        with nogil:
            label(&pixels[0, 0], height, width, limit, runs, runs + width // 2 + 1, &areas)
        return rows_of(&areas, min_area_px)
    finally:
        free(runs)
        free(areas.items)
