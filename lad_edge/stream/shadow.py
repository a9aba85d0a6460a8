"""Another engine judges the same parts in spare time: how it would have decided is counted and kept, and never delays a verdict."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import cv2

from lad_edge.errors import LadEdgeError, SinkError
from lad_edge.stream.records import safe_id, to_record
from lad_edge.values import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lad_edge.inspector import Inspector
    from lad_edge.values import Frame, Result

_MOST_PICTURES = 1000
_JOIN_S = 0.5


class Shadow:
    """A sink with an engine of its own. The newest part wins; those that it had no time for are counted.

    folder: gets `disagreements.jsonl` and a PNG of each part on which the engines disagree, at most a thousand of them.
    """

    def __init__(self, inspector: Inspector, folder: Path | None = None) -> None:
        self.inspector, self.folder = inspector, folder
        self.counts: Counter[tuple[Verdict, Verdict]] = Counter()  # (the line's, the shadow's)
        self.skipped = self.pictures = 0
        self.after_each: Callable[[], None] = lambda: None  # part that both have judged; on the shadow's thread
        self._slot: tuple[Frame, Result] | None = None
        self._changed = threading.Condition()
        self._closed = False
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise SinkError(f"--shadow-out {folder}: {exc.strerror}; choose another folder") from exc
        self._thread = threading.Thread(target=self._judge_all, name="shadow", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, result: Result) -> None:
        """Hands a judged part over and returns."""
        if frame.image is None or result.score is None:
            return  # nothing was judged that the other engine could judge
        with self._changed:
            self.skipped += self._slot is not None
            self._slot = frame, result
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread; the part that it is judging is left out."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():
            self.inspector.close()

    def table(self) -> str:
        """For a person: how often both engines agreed, who rejected what alone, and whether that can be chance."""
        both = sum(count for (line, shadow), count in self.counts.items() if line is shadow)
        line_only, shadow_only = self.counts[Verdict.NG, Verdict.OK], self.counts[Verdict.OK, Verdict.NG]
        return (
            f"shadow: {both} of {sum(self.counts.values())} verdicts agree; rejected by the line alone {line_only}, by the shadow "
            f"alone {shadow_only} (McNemar p {mcnemar(line_only, shadow_only):.3g}); no time for {self.skipped} parts"
        )

    def _judge_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slot is not None or self._closed)
                slot, self._slot = self._slot, None
                if self._closed or slot is None:
                    return
            with suppress(LadEdgeError, OSError):  # of the shadow; the line is not to hear of it
                self._judge(*slot)
                self.after_each()

    def _judge(self, frame: Frame, result: Result) -> None:
        mine = self.inspector.inspect(frame)
        self.counts[result.verdict, mine.verdict] += 1
        if mine.verdict is not result.verdict and self.folder is not None and self.pictures < _MOST_PICTURES:
            self.pictures += 1
            name = f"{result.seq:08d}-{safe_id(result.frame_id)}.png"
            line = {"picture": name, "line": to_record(result), "shadow": to_record(mine)}
            with (self.folder / "disagreements.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
            cv2.imwrite(str(self.folder / name), frame.image)


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value of McNemar's test: how likely so lopsided a disagreement is if neither engine rejects more."""
    trials, fewer = first_only + second_only, min(first_only, second_only)
    tail = sum(math.comb(trials, count) for count in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**trials))
