"""Time stamps of a stream's pictures and when they arrived go in; how old each was on arrival comes out."""

from __future__ import annotations

_WINDOW_NS = 5_000_000_000  # two clocks of 100 ppm part by 1 ms in two windows


class StreamClock:
    """How old each picture is on arrival, beyond the fastest one of the last seconds.

    A decoder holds the newest picture back until the next one comes, and gives it away when a silent connection is given up: then it looks
    fresh and is not. What is queued on the way looks fresh too.
    """

    def __init__(self) -> None:
        self._last_ns = -1  # stamp of the last picture
        self._window_ns = 0  # when the window began
        self._fastest_ns: int | None = None  # the least way from stamp to arrival in this window
        self._before_ns: int | None = None  # and in the one before

    def age_ns(self, stamp_ns: int, arrived_ns: int) -> int:
        """stamp_ns: of the picture, on the stream's clock; one that does not rise begins anew, as does a stream without stamps."""
        way_ns = arrived_ns - stamp_ns
        if stamp_ns <= self._last_ns or self._fastest_ns is None:
            self._before_ns, self._fastest_ns, self._window_ns = None, way_ns, arrived_ns
        elif arrived_ns - self._window_ns > _WINDOW_NS:
            self._before_ns, self._fastest_ns, self._window_ns = self._fastest_ns, way_ns, arrived_ns
        self._last_ns, self._fastest_ns = stamp_ns, min(self._fastest_ns, way_ns)
        fastest_ns = self._fastest_ns if self._before_ns is None else min(self._fastest_ns, self._before_ns)
        return way_ns - fastest_ns
