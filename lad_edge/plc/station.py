"""A handshake on a bus, as a line takes it: the trigger of its parts and a sink for their results, or the sink alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lad_edge.plc.handshake import Handshake
from lad_edge.plc.policy import UnknownPolicy
from lad_edge.stream.records import safe_id
from lad_edge.stream.triggers import OnDemand
from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from lad_edge.stream.parts import Parts
    from lad_edge.stream.watchdog import Beats
    from lad_edge.values import Frame, Result

_BUSY = "triggered while the part before it was inspected: the PLC has to wait for READY"


class Bus(Protocol):
    """A server that shows a handshake to PLCs, from a thread of its own."""

    port: int  # the real one, where 0 was asked for

    def publish(self) -> None:
        """The outputs have changed. Never waits."""

    def close(self) -> None:
        """Takes leave of its clients and frees the port."""


class Display:
    """One of the sinks of a line that somebody else triggers: shows each result until the next one, to clients that only look.

    Owns the server: close it after the line. Its heartbeat moves while the line does. policy: what is shown of parts that are UNKNOWN.
    """

    def __init__(
        self, open_bus: Callable[[Handshake, Callable[[], None]], Bus], beats: Beats, *, attended: bool = False
    ) -> None:
        """open_bus: (handshake, what it calls every HEARTBEAT_S) → a running server; raises UsageError. attended: see `Handshake`."""
        self.beats, self.policy = beats, UnknownPolicy()
        self._bus: Bus | None = None
        self.handshake = Handshake(self._changed, attended=attended)
        self._bus = open_bus(self.handshake, self._beat)
        self.port = self._bus.port

    def write(self, _frame: Frame, result: Result) -> None:
        """Shows a result; never waits for a client."""
        self.handshake.show(self.policy(result))

    def close(self) -> None:
        """Ends the server."""
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.close()

    def _beat(self) -> None:
        if self.beats.moving():
            self.handshake.beat()

    def _changed(self) -> None:
        if self._bus is not None:
            self._bus.publish()


class Plc(Display):
    """`LineOptions(trigger=plc)` as well: its client triggers each part and acknowledges each result.

    The heartbeat moves from the start of the line on, while no stage of `beats` is stuck; it stops for good with the line.
    """

    def __init__(self, open_bus: Callable[[Handshake, Callable[[], None]], Bus], beats: Beats) -> None:
        self._running = False
        super().__init__(open_bus, beats, attended=True)

    def __call__(self, parts: Parts, pictures: int = 1) -> PlcTrigger:
        """The trigger of a line. pictures: of each part."""
        return PlcTrigger(parts, self, pictures)

    def close(self) -> None:
        """Ends the server."""
        self._running = False
        super().close()

    def start(self, trigger: PlcTrigger) -> None:
        """READY; the heartbeat moves."""
        self._running = True
        self.handshake.open(trigger.ask, trigger.refuse)

    def stop(self) -> None:
        """Not READY any more, and without a heartbeat."""
        self._running = False
        self.handshake.close()

    def _beat(self) -> None:
        if self._running and not self.beats.stuck():
            self.handshake.beat()


class PlcTrigger(OnDemand):
    """A part for each trigger of the PLC: one that is judged, or, while BUSY, one that is UNKNOWN at once."""

    def __init__(self, parts: Parts, plc: Plc, pictures: int) -> None:
        super().__init__(parts, pictures)
        self.plc = plc

    def start(self) -> None:
        """The source is open: READY."""
        super().start()
        self.plc.start(self)

    def close(self) -> None:
        """No trigger is taken any more."""
        self.plc.stop()
        super().close()

    def ask(self, part_id: str) -> bool:
        """A part that will be judged; False once the line ends."""
        return self.fire(_name(part_id)) is not None

    def refuse(self, part_id: str) -> bool:
        """A part that is UNKNOWN; False once the line ends."""
        return self.parts.refuse(_name(part_id), Reason.CAMERA_BUSY, _BUSY) is not None


def _name(part_id: str) -> str:
    return safe_id(part_id) if part_id else ""
