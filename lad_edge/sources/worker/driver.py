"""What a driver is: it opens one camera, and copies its next picture into memory that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class DriverError(Exception):
    """The camera does not open, or is lost. `reason` is a code of lad_edge.values.Reason."""

    def __init__(self, text: str, reason: str = "CAMERA_LOST") -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Shot:
    """One picture, rows packed, or with a `fault` the statement that there is none.

    device_id: the camera's own number, -1 = it has none. captured_ns, utc_ns: monotonic and wall clock. missing: pictures before this
    one that the camera took, and nobody received. fault: a code of lad_edge.values.Reason, with `detail` for a person.
    """

    captured_ns: int
    utc_ns: int
    width: int = 0
    height: int = 0
    bytes: int = 0
    pixel_format: str = ""
    device_id: int = -1
    missing: int = 0
    fault: str = ""
    detail: str = ""


Room = Callable[[], memoryview | None]


class Driver(Protocol):
    """One camera. An object is opened once, and thrown away after the first error."""

    def open(self) -> str:
        """Opens the camera; returns what it is, for a person. Raises DriverError."""

    def read(self, room: Room) -> Shot | None:
        """The next picture, copied into the memory that `room` gives once the picture is there, or thrown away if it gives none.

        Returns None when none came for a while, and the camera is known to be there. Raises DriverError when it is lost.
        """

    def trigger(self) -> None:
        """Takes one picture, if the camera waits for that. Raises DriverError."""

    def close(self) -> None:
        """Gives the camera back."""
