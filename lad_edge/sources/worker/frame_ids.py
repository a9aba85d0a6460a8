"""The numbers that a camera gives its frames go in; how many frames between them nobody received comes out."""

from __future__ import annotations

_LAST_16_BIT = 65535  # GigE Vision 1.x counts in 16 bits; after the last number comes 1
_MOST_LATE = (
    32  # a number that is lower by no more than that is a frame that was overtaken, not a camera that began anew
)


class FrameIds:
    """Counts gaps over one connection."""

    def __init__(self) -> None:
        self._highest = 0

    def missing_before(self, number: int) -> int:
        """Frames that the camera took since the last one, and that did not come. 0 is a frame whose number was lost as well."""
        highest, self._highest = self._highest, self._next_highest(number)
        if not highest or self._highest == highest:
            return 0
        if number > highest:
            return number - highest - 1
        return _LAST_16_BIT - highest + number - 1 if _is_wrapped(highest, number) else 0

    def _next_highest(self, number: int) -> int:
        late = self._highest - _MOST_LATE <= number <= self._highest
        return self._highest if not number or late else number


def _is_wrapped(highest: int, number: int) -> bool:
    """The counter went round, and the camera has not begun anew: that would be far from both ends."""
    return _LAST_16_BIT // 2 < highest <= _LAST_16_BIT and number < _LAST_16_BIT // 2
