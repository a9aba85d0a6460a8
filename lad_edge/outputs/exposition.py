"""Counts, gauges and histograms go in, the text that Prometheus reads comes out (exposition format 0.0.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lad_edge.stream.stats import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "lad_edge_"
Labels = tuple[str, ...]
_BOUNDS_MS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000)


class Exposition:
    """Collects families in order. Names come without the prefix `lad_edge_`; counters with their `_total`.

    labels: their names; samples are found by the values of these labels.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def counter(self, name: str, what: str, labels: Labels, samples: Mapping[Labels, float]) -> None:
        """Counts; a family without samples is left out."""
        self._family(name, "counter", what, labels, samples)

    def gauge(self, name: str, what: str, labels: Labels, samples: Mapping[Labels, float]) -> None:
        """Values now; a family without samples is left out."""
        self._family(name, "gauge", what, labels, samples)

    def histograms(self, name: str, what: str, labels: Labels, samples: Mapping[Labels, Histogram]) -> None:
        """Durations in seconds."""
        self._head(name, "histogram", what)
        for values, histogram in samples.items():
            named = dict(zip(labels, values, strict=True))
            for bound_ms in _BOUNDS_MS:
                self._sample(
                    f"{name}_bucket", {**named, "le": f"{bound_ms / 1e3:g}"}, histogram.at_most(1e3 * bound_ms)
                )
            self._sample(f"{name}_bucket", {**named, "le": "+Inf"}, histogram.count)
            self._sample(f"{name}_sum", named, histogram.total_us / 1e6)
            self._sample(f"{name}_count", named, histogram.count)

    def info(self, name: str, what: str, each: Iterable[Mapping[str, str]]) -> None:
        """A constant 1 for each set of labels, which are the information."""
        self._head(name, "gauge", what)
        for labels in each:
            self._sample(name, labels, 1)

    def text(self) -> str:
        """Everything so far."""
        return "".join(f"{line}\n" for line in self._lines)

    def _family(self, name: str, kind: str, what: str, labels: Labels, samples: Mapping[Labels, float]) -> None:
        if not samples:
            return
        self._head(name, kind, what)
        for values, number in samples.items():
            self._sample(name, dict(zip(labels, values, strict=True)), number)

    def _head(self, name: str, kind: str, what: str) -> None:
        self._lines += [f"# HELP {_PREFIX}{name} {what}", f"# TYPE {_PREFIX}{name} {kind}"]

    def _sample(self, name: str, labels: Mapping[str, str], number: float) -> None:
        self._lines.append(f"{_PREFIX}{name}{{{','.join(_pairs(labels))}}} {number!r}")


def _pairs(labels: Mapping[str, str]) -> Iterable[str]:
    for label, value in labels.items():
        escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        yield f'{label}="{escaped}"'
