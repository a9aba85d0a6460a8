"""The words after --out go in; an outbox, what delivers from it, and what keeps pictures come out, open and at work."""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lad_edge.errors import SinkError, UsageError
from lad_edge.outputs.address import Address, parse
from lad_edge.outputs.delivery import Delivery
from lad_edge.outputs.images import ImageSaver, open_images
from lad_edge.outputs.ledger import Retention
from lad_edge.outputs.outbox import MOST_BYTES, Limits, Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lad_edge.outputs.delivery import DeliveryHealth, Output
    from lad_edge.outputs.images import ImagesHealth
    from lad_edge.outputs.outbox import OutboxHealth
    from lad_edge.stream.records import Origin

_DRAIN_S = 10.0  # at the end of a recorded source, for outputs that still take records
_STOP_S = 0.8
_POLL_S = 0.02
Opened = TypeVar("Opened", "Output", Outbox, ImageSaver)


def _csv(address: Address, _origin: Origin) -> Output:
    from lad_edge.outputs.files import FileOutput, Table

    return FileOutput(address, Table())


def _jsonl(address: Address, _origin: Origin) -> Output:
    from lad_edge.outputs.files import FileOutput, JsonLines

    return FileOutput(address, JsonLines())


def _mqtt(address: Address, origin: Origin) -> Output:
    from lad_edge.outputs.mqtt import MqttOutput

    return MqttOutput(address, origin)


def _webhook(address: Address, _origin: Origin) -> Output:
    from lad_edge.outputs.webhook import WebhookOutput

    return WebhookOutput(address)


# Scheme → what delivers to it. `sqlite` is the outbox itself, `images` takes pictures from the line.
OUTPUTS: Mapping[str, Callable[[Address, Origin], Output]] = {
    "csv": _csv,
    "http": _webhook,
    "https": _webhook,
    "jsonl": _jsonl,
    "mqtt": _mqtt,
    "mqtts": _mqtt,
}


def open_outputs(texts: Sequence[str], origin: Origin, notice: Callable[[str], None]) -> Outputs:
    """Opens what the words say, and begins to deliver. Raises UsageError, SinkError, MissingDependencyError.

    Outputs that deliver need an outbox: the one of `sqlite:FILE`, else one in the state folder of this user or service.
    """
    addresses = [parse(text).filled(origin) for text in texts]
    _refuse_doubles(addresses)
    stores = [address for address in addresses if address.scheme == "sqlite"]
    with ExitStack() as if_it_fails:
        outputs = [
            (_kept(OUTPUTS[address.scheme](address, origin), if_it_fails), address)
            for address in addresses
            if address.scheme in OUTPUTS
        ]
        images = [
            _kept(open_images(address, origin), if_it_fails) for address in addresses if address.scheme == "images"
        ]
        outbox = _kept(_open_outbox(stores, origin, notice), if_it_fails) if outputs or stores else None
        deliveries = [_delivery(outbox, *pair, notice) for pair in outputs] if outbox is not None else []
        if_it_fails.pop_all()
    for delivery in deliveries:
        delivery.start()
    return Outputs(origin, outbox, deliveries, images)


@dataclass(frozen=True)
class Outputs:
    """Everything that was opened. `outbox` is None when only pictures are kept."""

    origin: Origin
    outbox: Outbox | None
    deliveries: Sequence[Delivery]
    images: Sequence[ImageSaver]

    @property
    def sinks(self) -> list[Outbox | ImageSaver]:
        """What the line writes to; records first."""
        return [*([self.outbox] if self.outbox is not None else []), *self.images]

    @property
    def next_seq(self) -> int:
        """Number of the next part, so that it rises over restarts (reliability.md V5)."""
        return max((sink.next_seq for sink in self.sinks), default=1)

    def flush(self, timeout_s: float) -> bool:
        """Waits until every record is on the disk; False when it is not in time."""
        return self.outbox is None or self.outbox.flush(timeout_s)

    def close(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Commits what waits, lets the outputs finish as long as nobody wants to stop, closes. Raises SinkError.

        What they have not taken by then stays in the outbox, and goes out after the next start.
        """
        limit_s = time.monotonic() + _DRAIN_S
        self.flush(_DRAIN_S)
        while (
            any(delivery.worth_waiting() for delivery in self.deliveries)
            and time.monotonic() < limit_s
            and not stopped()
        ):
            time.sleep(_POLL_S)
        for delivery in self.deliveries:
            delivery.ask_to_stop()
        limit_s = time.monotonic() + _STOP_S  # for all together: an output may hang in a connection
        for delivery in self.deliveries:
            delivery.stop(limit_s - time.monotonic())
        for image_saver in self.images:
            image_saver.close()
        if self.outbox is not None:
            self.outbox.close()

    def states(self) -> list[OutboxHealth | DeliveryHealth | ImagesHealth]:
        """How each of them is doing."""
        return [*([self.outbox.health()] if self.outbox is not None else []), *self._deliveries(), *self._images()]

    def codes(self) -> tuple[str, ...]:
        """Reason codes of what is not as it should be."""
        return tuple(dict.fromkeys(code for state in self.states() for code in state.codes))

    def identity(self) -> dict[str, str]:
        """Labels of the line."""
        origin = self.origin
        named = {"device_id": origin.device_id, "camera_id": origin.camera_id, "config_sha256": origin.config_sha256}
        return {**named, **origin.versions}

    def _deliveries(self) -> list[DeliveryHealth]:
        return [delivery.health() for delivery in self.deliveries]

    def _images(self) -> list[ImagesHealth]:
        return [saver.health() for saver in self.images]


def _refuse_doubles(addresses: Sequence[Address]) -> None:
    names = [address.name for address in addresses]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--out names {doubles[0]} twice; name each place once")
    if sum(address.scheme == "sqlite" for address in addresses) > 1:
        raise UsageError("--out takes one sqlite:FILE: it is the outbox from which all others are delivered")


def _delivery(outbox: Outbox, output: Output, address: Address, notice: Callable[[str], None]) -> Delivery:
    return Delivery(outbox, output, notice, from_start=address.choice("from", "now", "start") == "start")


def _open_outbox(stores: Sequence[Address], origin: Origin, notice: Callable[[str], None]) -> Outbox:
    if stores:
        return Outbox(Path(stores[0].path), origin, notice, _limits(stores[0]))
    path = _state_folder() / f"{origin.camera_id}.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SinkError(f"the outbox {path} cannot be made: {exc.strerror}; say where: --out sqlite:FILE") from exc
    notice(f"records are kept in {path}; --out sqlite:FILE chooses another place")
    return Outbox(path, origin, notice)


def _limits(address: Address) -> Limits:
    usual = Limits()
    return Limits(
        retention=Retention(
            max_bytes=address.size_bytes("max-size", MOST_BYTES),
            max_age_s=address.duration_s("keep", math.inf),
        ),
        waiting=address.whole("waiting", usual.waiting),
        when_full=address.choice("when-full", "stop", "continue"),
        reserve_bytes=address.size_bytes("reserve", usual.reserve_bytes),
    )


def _state_folder() -> Path:
    """Where a service (systemd's StateDirectory) or a user keeps what must survive a restart."""
    if service := os.environ.get("STATE_DIRECTORY"):
        return Path(service.partition(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "lad-edge"


def _kept(opened: Opened, if_it_fails: ExitStack) -> Opened:
    if_it_fails.callback(opened.close)
    return opened
