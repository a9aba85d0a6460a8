"""Counts of codes against what good parts have: codes of a frame go in, sentences for a person come out (methods card §6.5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lad_edge.kernels import masked_histograms

MOST = 3  # sentences about a part
LEAST = 3  # patches too many or too few, before it is worth a sentence


class Expectations:
    """What the codes of good parts look like under fixed masks.

    ranges: (2, M, levels, K) int32, least and most patches of each code under each mask; places: (levels, K, 4) int32, first and last
    row and column of a code in good parts; masks: (M, words) uint32 of `pack_masks` over side × side tokens.
    """

    def __init__(
        self, ranges: NDArray[np.int32], places: NDArray[np.int32], masks: NDArray[np.uint32], side: int
    ) -> None:
        self.least, self.most, self.places, self.masks, self.side = ranges[0], ranges[1], places, masks, side
        self.entries = ranges.shape[3]
        self.counts = np.zeros(ranges.shape[1:], np.uint16)
        self.missing, self.surplus = np.zeros(ranges.shape[1:], np.int32), np.zeros(ranges.shape[1:], np.int32)

    def findings(self, codes: NDArray[np.uint16]) -> tuple[str, ...]:
        """Sentences on the codes (levels, tokens) whose number is furthest from what good parts have, the worst first."""
        masked_histograms(codes, self.masks, self.entries, self.counts)
        np.subtract(self.least, self.counts, out=self.missing)
        np.subtract(self.counts, self.most, out=self.surplus)
        worst = np.maximum(self.missing, self.surplus, out=self.surplus).max(0)
        sentences: list[str] = []
        while len(sentences) < MOST and worst.max() >= LEAST:
            level, code = (int(i) for i in np.unravel_index(worst.argmax(), worst.shape))
            worst[level, code] = 0
            sentences.append(self._sentence(codes, level, code, int(self.surplus[:, level, code].argmax())))
        return tuple(sentences)

    def _sentence(self, codes: NDArray[np.uint16], level: int, code: int, mask: int) -> str:
        """The level is named by the depth of its tokens: the first row of the codes is the deepest."""
        least, most = int(self.least[mask, level, code]), int(self.most[mask, level, code])
        found = int(self.counts[mask, level, code])
        place = self.places[level, code] if found < least else self._present(codes[level] == code, mask)
        expected = _span(least, most) if most else "no"
        return (
            f"expected {expected} patches of code {code} (level {len(codes) - 1 - level}) around "
            f"{_lines('row', place[:2])}, {_lines('column', place[2:])} of {self.side}; found {found}"
        )

    def _present(self, cells: NDArray[np.bool_], mask: int) -> NDArray[np.int64]:
        """First and last row and column between which most of these cells lie that the mask hides."""
        words = self.masks[mask][:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
        index = np.flatnonzero(cells & (words.ravel()[: len(cells)] == 1))
        rows, columns = (np.quantile(line, (0.1, 0.9)) for line in (index // self.side, index % self.side))
        return np.rint([*rows, *columns]).astype(np.int64)


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"


def _lines(name: str, ends: NDArray[np.integer]) -> str:
    first, last = (int(end) + 1 for end in ends)  # people count from one
    return f"{name}{'s' if first != last else ''} {_span(first, last)}"
