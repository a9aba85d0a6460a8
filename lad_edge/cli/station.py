"""What one line consists of while it runs: other verbs and threads look at it, a reload exchanges parts of it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lad_edge.cli.shadowing import Trial
    from lad_edge.outputs.metrics import WatchedLine
    from lad_edge.outputs.opening import Outputs
    from lad_edge.stream.health import Health
    from lad_edge.stream.loop import Line


@dataclass
class Station:
    """args: what it was told, and has taken over since."""

    args: argparse.Namespace
    line: Line
    outputs: Outputs
    health: Health
    trial: Trial

    def watched(self) -> WatchedLine:
        """What /metrics and /health show of it."""
        from lad_edge.outputs.metrics import WatchedLine

        capture = self.line.capture
        return WatchedLine(self.health, self.line.stats, self.outputs.identity, lambda: capture.counts)

    def status(self) -> str:
        """What has become of its parts, and what is not as it should be, for a person."""
        codes = self.health.codes
        return self.line.stats.counts() + (f" ({self.health.status}: {', '.join(codes)})" if codes else "")
