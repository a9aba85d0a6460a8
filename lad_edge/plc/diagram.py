"""The timing diagram of the handshake, as the state machine really moves: as text, and as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from lad_edge.plc.handshake import Handshake
from lad_edge.values import Reason, Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LOW, _HIGH = "▁", "█"
_TEXT_STEP = 4  # characters of one moment
_STEP_PX, _ROW_PX, _LABEL_PX, _HIGH_PX = 56, 30, 130, 18


@dataclass(frozen=True)
class Moment:
    """What happens, and all signals after it."""

    event: str
    signals: Mapping[str, bool]


class _Script:
    """Plays a PLC and a line at one handshake."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self._trigger = self._ack = False
        self._seq = 0
        self._handshake = Handshake()
        self._handshake.open(lambda _: True, lambda _: True)
        self._note("the line runs")

    def plc(self, event: str, *, trigger: bool | None = None, ack: bool | None = None) -> None:
        """The PLC changes a signal."""
        self._trigger = self._trigger if trigger is None else trigger
        self._ack = self._ack if ack is None else ack
        self._handshake.set_levels(trigger=self._trigger, ack=self._ack)
        self._note(event)

    def result(self, event: str, verdict: Verdict, reason: Reason) -> None:
        """The line has a result."""
        self._seq += 1
        self._handshake.show(Result(self._seq, "", verdict, (reason,), 0, 0))
        self._note(event)

    def _note(self, event: str) -> None:
        bits = self._handshake.outputs.bits
        bits.pop("HEARTBEAT")  # it has a rhythm of its own
        self.moments.append(Moment(event, {"TRIGGER": self._trigger, "ACK": self._ack, **bits}))


def moments() -> list[Moment]:
    """A good part, and a bad one during which the PLC triggers once more."""
    script = _Script()
    script.plc("PLC: TRIGGER rises while READY", trigger=True)
    script.result("result OK", Verdict.OK, Reason.SCORE_WITHIN_LIMIT)
    script.plc("PLC: ACK rises, the result falls", ack=True)
    script.plc("PLC: TRIGGER and ACK fall", trigger=False, ack=False)
    script.plc("PLC: the next part", trigger=True)
    script.plc("PLC: TRIGGER falls", trigger=False)
    script.plc("PLC: TRIGGER rises while BUSY: ERROR, this part will be UNKNOWN", trigger=True)
    script.result("result NG of the part in work waits", Verdict.NG, Reason.LOGICAL_ABOVE_LIMIT)
    script.result("result UNKNOWN of the other one waits too", Verdict.UNKNOWN, Reason.CAMERA_BUSY)
    script.plc("PLC: ACK rises, ERROR falls", ack=True)
    script.plc("PLC: ACK falls, the result NG is shown", ack=False)
    script.plc("PLC: ACK rises, the result falls", ack=True)
    script.plc("PLC: ACK falls, the result UNKNOWN is shown", ack=False)
    script.plc("PLC: ACK rises", ack=True)
    script.plc("PLC: TRIGGER and ACK fall", trigger=False, ack=False)
    return script.moments


def as_text(shown: Sequence[Moment]) -> Iterator[str]:
    """Lines: a row of each signal, then what happens at each number."""
    names = list(shown[0].signals)
    width = max(map(len, names))
    yield " " * width + " " + "".join(f"{number:<{_TEXT_STEP}}" for number in range(1, len(shown) + 1))
    for name in names:
        yield f"{name:>{width}} " + "".join((_HIGH if moment.signals[name] else _LOW) * _TEXT_STEP for moment in shown)
    yield ""
    yield from (f"{number:>3}  {moment.event}" for number, moment in enumerate(shown, start=1))
    yield ""
    yield "HEARTBEAT turns 4 times a second while the line moves. No OK, or a heartbeat that stands still: reject the part."


def as_svg(shown: Sequence[Moment]) -> str:
    """A picture of the same, for manuals: black lines, readable on white."""
    names = list(shown[0].signals)
    width = _LABEL_PX + _STEP_PX * len(shown) + 20
    below = _ROW_PX * (len(names) + 1)
    rows = [_svg_row(name, row, shown) for row, name in enumerate(names, start=1)]
    marks = [_svg_text(_LABEL_PX + _STEP_PX * i, 18, str(i + 1)) for i in range(len(shown))]
    legend = [_svg_text(10, below + 26 + 20 * i, f"{i + 1}  {moment.event}") for i, moment in enumerate(shown)]
    height = below + 20 * len(shown) + 30
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
            '<rect width="100%" height="100%" fill="white"/>',
            *marks,
            *rows,
            *legend,
            "</svg>\n",
        ]
    )


def _svg_row(name: str, row: int, shown: Sequence[Moment]) -> str:
    low = _ROW_PX * (row + 1) - 8
    path = f"M{_LABEL_PX} {low}"
    for step, moment in enumerate(shown):
        path += f" V{low - _HIGH_PX * moment.signals[name]} H{_LABEL_PX + _STEP_PX * (step + 1)}"
    return f'{_svg_text(10, low - 4, name)}\n<path d="{path}" fill="none" stroke="black" stroke-width="1.5"/>'


def _svg_text(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y}">{escape(text)}</text>'
