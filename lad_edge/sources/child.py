"""A camera whose driver runs in a process of its own comes out as a source: it may hang and crash there, and is started anew."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lad_edge.errors import SourceError
from lad_edge.sources.process import Beat, DriverProcess, Hung
from lad_edge.sources.ring import Kind, Message
from lad_edge.sources.source import fault_now
from lad_edge.values import Frame, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MOST_LOST = 1000  # records for one gap: a camera that counts wrongly must not fill the disk

# pixel format → numpy type and channels; a format that is not here comes as rows of bytes, for the gate to refuse
_PIXELS = {
    "mono8": ("|u1", 1),
    "bgr8": ("|u1", 3),
    "rgb8": ("|u1", 3),
    "bgra8": ("|u1", 4),
    "mono16": ("<u2", 1),
    **dict.fromkeys(("bayer_rg8", "bayer_bg8", "bayer_gr8", "bayer_gb8"), ("|u1", 1)),
}


@dataclass(frozen=True)
class Limits:
    """Seconds. silence_s: without a word for that long the driver hangs, and is killed; open_s: for one attempt to open.

    farewell_s: as DriverProcess has it.
    """

    silence_s: float = 1.0
    open_s: float = 8.0
    farewell_s: float = 0.0


class CameraError(SourceError):
    """A camera that does not open; `reason` says which fault its frames have meanwhile."""

    def __init__(self, text: str, reason: Reason = Reason.CAMERA_LOST) -> None:
        super().__init__(text)
        self.reason = reason


def _no_check() -> None:
    """Nothing is known before the driver tries."""


class DriverSource:
    """Frames of a driver process. counts: frames, incomplete, dropped, missing, lost, killed, over the life of the source."""

    live = True

    def __init__(
        self,
        name: str,
        driver: str,
        request: Mapping[str, object],
        limits: Limits | None = None,
        *,
        free_running: bool = True,
        on_demand: bool = False,
        check: Callable[[], None] = _no_check,
        command: Sequence[str] = (),
    ) -> None:
        """name: without secrets. on_demand: each picture is taken by `trigger`. command: see DriverProcess.

        check: raises SourceError for what can be known without the driver.
        """
        self.name, self.limits, self.free_running, self.on_demand = name, limits or Limits(), free_running, on_demand
        self.counts: Counter[str] = Counter()
        self.opened = ""  # what the driver says that it opened
        self._check = check
        self.process = DriverProcess(driver, request, command, farewell_s=self.limits.farewell_s)
        self._count = 0
        self._owed: deque[Frame] = deque()  # frames that came with the last message: lost ones first, then it

    def open(self) -> None:
        """Starts the driver and lets it open the camera. Raises CameraError, SourceError, MissingDependencyError."""
        self._check()
        try:
            message = self.process.open(self.limits.open_s)
        except Hung as exc:
            self.counts["killed"] += 1
            raise CameraError(f"{self.name} does not open: {exc}; check its cable, power and address") from exc
        except InterruptedError as exc:
            raise CameraError(f"{self.name} was not opened: interrupted") from exc
        text = self.process.text(message)
        if message.kind is not Kind.OPENED:
            raise CameraError(text, _reason(message))
        self.opened = text
        self.process.request = {**self.process.request, "opened": text}  # a driver made anew finds its camera faster

    def read(self) -> Frame | None:
        """The next picture with the time of its capture, or the statement that there is none; None when interrupted."""
        while not self._owed:
            try:
                message = self.process.next(self.limits.silence_s) if self.process.started else None
            except InterruptedError:
                return None
            except Hung as exc:
                self.counts["killed"] += 1
                return self._lost(f"{self.name}: {exc}; its driver process was ended")
            if message is None:
                return self._lost(f"{self.name} is not open")
            if not isinstance(message, Beat):
                self._take(message)
        return self._owed.popleft()

    def close(self) -> None:
        """Gives the camera back and ends the process."""
        self.process.end()

    def trigger(self) -> None:
        """Takes a picture now, if the camera waits for software triggers (`genicam://…?trigger=software`)."""
        if self.on_demand:
            self.process.trigger()

    def interrupt(self) -> None:
        """Ends an `open` or `read` that waits."""
        self.process.interrupt()

    def _take(self, message: Message) -> None:
        self._owe(message.missing, "missing", Reason.FRAME_MISSING, "the camera took a frame that never arrived")
        self._owe(message.dropped, "dropped", Reason.DROPPED, "newer frames arrived while all memory was in use")
        self._owed.append(self._frame(message))

    def _frame(self, message: Message) -> Frame:
        if message.kind is Kind.LOST:
            return self._lost(self.process.text(message))
        if message.kind is not Kind.FRAME:
            reason, detail = _reason(message), self.process.text(message)
            self.counts["incomplete"] += reason is Reason.FRAME_INCOMPLETE
            return self._of(message, None, "none", reason, detail)
        self.counts["frames"] += 1
        dtype, shape = _layout(message)
        image = self.process.picture(self.process.slot, dtype, shape)
        return self._of(message, image, message.pixel_format)

    def _of(
        self, message: Message, image: object, pixel_format: str, fault: Reason | None = None, detail: str = ""
    ) -> Frame:
        self._count += 1
        number = message.device_id if message.device_id >= 0 else self._count
        return Frame(
            0,
            f"{self.name}#{number}",
            image,  # type: ignore[arg-type]
            pixel_format,
            message.captured_ns,
            message.utc_ns,
            fault,
            detail,
            source=self.name,
        )

    def _lost(self, detail: str) -> Frame:
        self.counts["lost"] += 1
        return fault_now(f"{self.name}#lost{self.counts['lost']}", Reason.CAMERA_LOST, detail, self.name)

    def _owe(self, frames: int, kind: str, reason: Reason, detail: str) -> None:
        self.counts[kind] += frames
        for _ in range(min(frames, _MOST_LOST)):
            self._count += 1
            self._owed.append(fault_now(f"{self.name}#{kind}{self._count}", reason, detail, self.name))


def _layout(message: Message) -> tuple[str, tuple[int, ...]]:
    """Type and shape of the pixels for numpy: (H, W) or (H, W, C), or (H, bytes of a row) for a format that is only known by name."""
    dtype, channels = _PIXELS.get(message.pixel_format, ("|u1", 0))
    size = message.height * message.width * channels * int(dtype[-1])
    if size != message.bytes:
        return "|u1", (message.bytes,)
    return dtype, (message.height, message.width) if channels == 1 else (message.height, message.width, channels)


def _reason(message: Message) -> Reason:
    return Reason(message.reason) if message.reason in Reason.__members__ else Reason.CAMERA_LOST
