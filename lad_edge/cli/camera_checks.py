"""The trials of `lad-edge camera doctor`: settings of this machine that lose frames, and a camera that is read for a while."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from lad_edge.cli.trial import Finding
from lad_edge.errors import LadEdgeError, MissingDependencyError
from lad_edge.values import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lad_edge.sources.source import Source

_RECEIVE_BYTES = 32 * 2**20  # a few frames of a 5 megapixel camera, for the moments in which nobody reads
_USB_MIB = 256  # Linux gives 16 to all USB cameras together
_JUMBO_BYTES = 9000
_LOSSES = {Reason.FRAME_INCOMPLETE: "incomplete", Reason.FRAME_MISSING: "missing", Reason.DROPPED: "dropped"}
_FEWEST_PERIODS = 10
_BURST_S = 1.0  # a stream begins with what was held back while its format was found out, all at once
_PROC, _SYS = Path("/proc"), Path("/sys")


def examine(uri: str | None, seconds: float) -> Iterator[Finding]:
    """What this machine has, and with a URI how many frames of that camera are lost."""
    yield from check_drivers()
    yield from check_rights()
    yield from check_interfaces()
    yield from check_receive_buffer()
    yield from check_usb_memory()
    if uri is not None:
        yield from check_losses(uri, seconds)


def check_drivers() -> Iterator[Finding]:
    """The optional drivers, and which Python runs them."""
    yield _driver("genicam", "GigE Vision and USB3 Vision")
    yield _driver("gst", "GStreamer pipelines")


def check_rights() -> Iterator[Finding]:
    """Whether this user may open the video devices."""
    from lad_edge.sources.devices import v4l2_devices, v4l2_name

    for device in v4l2_devices():
        usable = os.access(device, os.R_OK | os.W_OK)
        remedy = "" if usable else "sudo usermod -aG video $USER, then log in again"
        yield Finding("rights", "ok" if usable else "fail", f"{device} {v4l2_name(device)}".strip(), remedy)


def check_interfaces() -> Iterator[Finding]:
    """Packet size of the networks: GigE cameras need a sixth of the packets, and of the interrupts, with jumbo frames."""
    for interface in sorted((_SYS / "class/net").glob("*")):
        mtu, link = _number(interface / "mtu"), interface / "device"
        if mtu is None or not link.exists():  # loopback, bridges and tunnels carry no camera
            continue
        enough = mtu >= _JUMBO_BYTES
        remedy = "" if enough else f"if a GigE camera is on it: sudo ip link set {interface.name} mtu {_JUMBO_BYTES}"
        yield Finding("packets", "ok" if enough else "warn", f"{interface.name}: MTU {mtu} bytes", remedy)


def check_receive_buffer() -> Iterator[Finding]:
    """How much the kernel keeps of a network camera while nobody reads."""
    size = _number(_PROC / "sys/net/core/rmem_max")
    if size is None:
        return
    enough = size >= _RECEIVE_BYTES
    remedy = "" if enough else f"for GigE cameras: sudo sysctl -w net.core.rmem_max={_RECEIVE_BYTES}"
    yield Finding("socket buffer", "ok" if enough else "warn", f"net.core.rmem_max {size / 2**20:.1f} MiB", remedy)


def check_usb_memory() -> Iterator[Finding]:
    """How much memory all USB cameras share."""
    file = _SYS / "module/usbcore/parameters/usbfs_memory_mb"
    size = _number(file)
    if size is None:
        return
    enough = size == 0 or size >= _USB_MIB  # 0 = no limit
    remedy = "" if enough else f"for USB3 Vision cameras: echo {_USB_MIB} | sudo tee {file}"
    yield Finding("usb memory", "ok" if enough else "warn", f"usbfs_memory_mb {size}", remedy)


def check_losses(uri: str, seconds: float) -> Iterator[Finding]:
    """Reads the camera; every frame that did not come whole is a failure."""
    from lad_edge.sources.opening import open_source

    source = open_source(uri)
    try:
        start_s = time.monotonic()
        source.open()
        yield Finding("opening", "ok", f"{source.name} after {time.monotonic() - start_s:.2f} s")
        seen = _read(source, seconds)
    except LadEdgeError as exc:
        yield Finding("opening", "fail", str(exc))
        return
    finally:
        source.close()
    yield _losses(seen)
    yield from _pace(seen)


def _driver(driver: str, what: str) -> Finding:
    from lad_edge.sources.interpreters import interpreter

    try:
        return Finding(driver, "ok", f"{what}, under {interpreter(driver)}")
    except MissingDependencyError as exc:
        return Finding(driver, "ok", f"{what}: not installed (optional)", str(exc).partition("; ")[2])


@dataclass
class _Seen:
    """counts: frames by what became of them. captured_ns: times of whole ones; age_ms: from their capture to the reader."""

    counts: Counter[str] = field(default_factory=Counter)
    captured_ns: list[int] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)


def _read(source: Source, seconds: float) -> _Seen:
    """Everything but what was dropped of the burst with which a stream begins."""
    seen, start_s = _Seen(), time.monotonic()
    limit_s = start_s + seconds
    alarm = threading.Timer(seconds + 1, source.interrupt)  # a camera that waits for triggers says nothing
    alarm.start()
    while time.monotonic() < limit_s and (frame := source.read()) is not None:
        if frame.fault is Reason.DROPPED and time.monotonic() - start_s < _BURST_S:
            continue
        if frame.image is not None:
            seen.captured_ns.append(frame.captured_ns)
            seen.age_ms.append((time.monotonic_ns() - frame.captured_ns) / 1e6)
        seen.counts[_LOSSES.get(frame.fault, "lost") if frame.fault else "whole"] += 1
        if frame.fault is Reason.CAMERA_LOST:
            break
    alarm.cancel()
    return seen


def _losses(seen: _Seen) -> Finding:
    whole, all_ = seen.counts["whole"], seen.counts.total()
    others = ", ".join(f"{count} {name}" for name, count in sorted(seen.counts.items()) if name != "whole")
    detail = f"{whole} of {all_} frames came whole" + (f"; {others}" if others else "")
    if not all_:
        return Finding("losses", "fail", detail, "is it waiting for a trigger? free-run: trigger=off")
    if whole < all_:
        remedy = "larger packets and socket buffers as above, a network card of its own, a lower rate (?fps=…)"
        return Finding("losses", "fail", detail, remedy)
    return Finding("losses", "ok", detail)


def _pace(seen: _Seen) -> Iterator[Finding]:
    """Rate, regularity, and how old frames are when they arrive here."""
    periods_ms = [(after - before) / 1e6 for before, after in pairwise(seen.captured_ns)]
    if len(periods_ms) < _FEWEST_PERIODS:
        return
    typical, late = median(periods_ms), quantiles(periods_ms, n=100)[-1]
    yield Finding("rate", "ok", f"{1e3 / typical:.1f} frames/s; periods {typical:.1f} ms, p99 {late:.1f} ms")
    age = f"median {median(seen.age_ms):.2f} ms, p99 {quantiles(seen.age_ms, n=100)[-1]:.2f} ms"
    yield Finding("age on arrival", "ok", age)


def _number(file: Path) -> int | None:
    """A number that the kernel shows; None where it does not."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
