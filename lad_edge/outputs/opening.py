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
from lad_edge.outputs.address import FILES, NETWORK, Address, is_address, parse
from lad_edge.outputs.delivery import Delivery
from lad_edge.outputs.files import FileOutput, JsonLines, Table
from lad_edge.outputs.images import ImageSaver, image_options, open_images
from lad_edge.outputs.ledger import Retention
from lad_edge.outputs.outbox import MOST_BYTES, Limits, Outbox
from lad_edge.outputs.rotation import Rotation
from lad_edge.stream.sinks import JsonlSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lad_edge.outputs.delivery import DeliveryHealth, Output
    from lad_edge.outputs.images import ImagesHealth
    from lad_edge.outputs.outbox import OutboxHealth
    from lad_edge.stream.records import Origin
    from lad_edge.stream.sinks import Sink

    Exchange = Callable[[Sequence[Sink], Sequence[Sink]], None]

PLAIN = "file"  # the scheme of a plain path: JSON lines, written by the line itself
_BESIDE = frozenset({PLAIN, "images"})  # what the line writes to beside the outbox
_DRAIN_S = 10.0  # at the end of a recorded source, for outputs that still take records
_STOP_S = 0.8
_POLL_S = 0.02
Opened = TypeVar("Opened", "Output", Outbox, "JsonlSink | ImageSaver")


def _csv(address: Address, _origin: Origin) -> Output:
    return FileOutput(address, Table())


def _jsonl(address: Address, _origin: Origin) -> Output:
    return FileOutput(address, JsonLines())


def _mqtt(address: Address, origin: Origin) -> Output:
    from lad_edge.outputs.mqtt import MqttOutput

    return MqttOutput(address, origin)


def _mqtt_guest(address: Address, origin: Origin) -> Output:
    from lad_edge.outputs.mqtt import MqttGuest

    return MqttGuest(address, origin)


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
# The same for somebody who tries an address, perhaps beside the line that delivers to it.
GUESTS: Mapping[str, Callable[[Address, Origin], Output]] = {**OUTPUTS, "mqtt": _mqtt_guest, "mqtts": _mqtt_guest}


def check(texts: Sequence[str], origin: Origin) -> None:
    """Opens nothing. Raises UsageError for what is wrong with the words and with the files that options name, MissingDependencyError."""
    for address in _by_name(texts, origin).values():
        _check_options(address)
        if address.scheme in NETWORK:
            OUTPUTS[address.scheme](address, origin).close()


def open_outputs(texts: Sequence[str], origin: Origin, notice: Callable[[str], None], sync: str = "close") -> Outputs:
    """Opens what the words say, and begins to deliver. Raises UsageError, SinkError, MissingDependencyError."""
    outputs = Outputs(origin, notice, sync)
    outputs.prepare(texts).apply()
    return outputs


class Outputs:
    """Everything that --out of one line names, open and at work. `prepare` changes it while the line runs.

    origin: stands in every record. outbox: None while nothing needs one. deliveries, sinks: by the names of their addresses.
    """

    def __init__(self, origin: Origin, notice: Callable[[str], None], sync: str = "close") -> None:
        """sync: of plain files (stream/sinks.py)."""
        self.origin, self.notice, self.sync = origin, notice, sync
        self.outbox: Outbox | None = None
        self.addresses: Mapping[str, Address] = {}
        self.deliveries: dict[str, Delivery] = {}
        self._beside: dict[str, JsonlSink | ImageSaver] = {}

    @property
    def sinks(self) -> list[Outbox | JsonlSink | ImageSaver]:
        """What the line writes to; records first."""
        return [*([self.outbox] if self.outbox is not None else []), *self._beside.values()]

    @property
    def next_seq(self) -> int:
        """Number of the next part, so that it rises over restarts (reliability.md V5)."""
        return max((sink.next_seq for sink in self.sinks), default=1)

    def prepare(self, texts: Sequence[str]) -> Change:
        """Opens what is new in these words, so that nothing can go wrong afterwards; what is at work goes on as it is.

        Outputs that deliver need an outbox: the one of `sqlite:FILE`, else one in the state folder of this user or service. An outbox
        stays for good. Raises UsageError, SinkError, MissingDependencyError.
        """
        addresses = _by_name(texts, self.origin)
        for address in addresses.values():
            _check_options(address)
        with ExitStack() as if_it_fails:
            added = {
                name: _kept(OUTPUTS[address.scheme](address, self.origin), if_it_fails)
                for name, address in addresses.items()
                if address.scheme in OUTPUTS and self._is_new(address)
            }
            beside = {
                name: _kept(self._open_beside(address), if_it_fails)
                for name, address in addresses.items()
                if address.scheme in _BESIDE and name not in self._beside
            }
            outbox = None if self.outbox is not None else self._open_outbox(addresses, if_it_fails)
            return Change(self, addresses, added, beside, outbox, if_it_fails.pop_all())

    def take_over(self, change: Change, exchange: Exchange) -> None:
        """See `Change.apply`."""
        stopped = [self.deliveries.pop(name) for name in [*self.deliveries] if change.ends(name)]
        self._stop(stopped, "when it is named again")
        gone = [self._beside.pop(name) for name in [*self._beside] if name not in change.addresses]
        self.outbox = change.outbox or self.outbox
        self._beside |= change.beside
        exchange(gone, [*([change.outbox] if change.outbox is not None else []), *change.beside.values()])
        for sink in gone:
            self._end(sink)
        self._adopt(change.addresses)
        self.addresses = change.addresses
        for name, output in change.added.items():
            self._deliver(output, change.addresses[name])

    def relabel(self, origin: Origin) -> None:
        """Records say from now on that they were made under this configuration."""
        self.origin = origin
        for sink in self.sinks:
            if not isinstance(sink, JsonlSink):
                sink.origin = origin

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
            any(delivery.worth_waiting() for delivery in self.deliveries.values())
            and time.monotonic() < limit_s
            and not stopped()
        ):
            time.sleep(_POLL_S)
        self._stop(list(self.deliveries.values()), "after the next start")
        with ExitStack() as all_of_them:
            for sink in self.sinks:
                all_of_them.callback(sink.close)  # the outbox last

    def states(self) -> list[OutboxHealth | DeliveryHealth | ImagesHealth]:
        """How each of them is doing."""
        delivered = [delivery.health() for delivery in self.deliveries.copy().values()]
        saved = [sink.health() for sink in self._beside.copy().values() if isinstance(sink, ImageSaver)]
        return [*([self.outbox.health()] if self.outbox is not None else []), *delivered, *saved]

    def identity(self) -> dict[str, str]:
        """Labels of the line."""
        origin = self.origin
        named = {"device_id": origin.device_id, "camera_id": origin.camera_id, "config_sha256": origin.config_sha256}
        return {**named, **origin.versions}

    def _is_new(self, address: Address) -> bool:
        """A file that is open already stays so, and adopts its options."""
        known = self.addresses.get(address.name)
        return known is None or (known != address and address.scheme in NETWORK)

    def _open_beside(self, address: Address) -> JsonlSink | ImageSaver:
        return (
            JsonlSink(Path(address.path), self.sync) if address.scheme == PLAIN else open_images(address, self.origin)
        )

    def _open_outbox(self, addresses: Mapping[str, Address], if_it_fails: ExitStack) -> Outbox | None:
        stores = [address for address in addresses.values() if address.scheme == "sqlite"]
        if not stores and not any(address.scheme in OUTPUTS for address in addresses.values()):
            return None
        return _kept(_open_outbox(stores, self.origin, self.notice), if_it_fails)

    def _adopt(self, addresses: Mapping[str, Address]) -> None:
        for name, sink in self._beside.items():
            if isinstance(sink, ImageSaver):
                sink.adopt(addresses[name])
        for name, delivery in self.deliveries.items():
            if isinstance(delivery.output, FileOutput):
                delivery.output.adopt(addresses[name])

    def _deliver(self, output: Output, address: Address) -> None:
        assert self.outbox is not None  # noqa: S101 - whatever delivers has brought one
        delivery = Delivery(self.outbox, output, self.notice, from_start=_from_start(address))
        self.deliveries[address.name] = delivery
        delivery.start()

    def _end(self, sink: JsonlSink | ImageSaver) -> None:
        """What a disk does not take at the end is told; the others go on."""
        try:
            sink.close()
        except SinkError as exc:
            self.notice(str(exc))

    def _stop(self, deliveries: Sequence[Delivery], when: str) -> None:
        for delivery in deliveries:
            delivery.ask_to_stop()
        limit_s = time.monotonic() + _STOP_S  # for all together: an output may hang in a connection
        for delivery in deliveries:
            delivery.stop(limit_s - time.monotonic(), when)


@dataclass(frozen=True)
class Change:
    """Outputs that are open and not yet at work: `apply` or `cancel`."""

    outputs: Outputs
    addresses: Mapping[str, Address]
    added: Mapping[str, Output]
    beside: Mapping[str, JsonlSink | ImageSaver]
    outbox: Outbox | None
    opened: ExitStack

    def apply(self, exchange: Exchange = lambda _old, _new: None) -> None:
        """Ends what is not named any more, and begins what is new. exchange: how the line gets other sinks between two records.

        What an output that ends has not taken stays in the outbox: it goes out when it is named again.
        """
        self.outputs.take_over(self, exchange)

    def cancel(self) -> None:
        """Closes what was opened."""
        self.opened.close()

    def ends(self, name: str) -> bool:
        """Whether the output of that name ends, perhaps for another one in its place."""
        return name not in self.addresses or name in self.added


def _check_options(address: Address) -> None:
    """What is read only when an output begins its work, or goes on with other options. Raises UsageError."""
    if address.scheme == "images":
        image_options(address)
    elif address.scheme == "sqlite":
        _limits(address)
    elif address.scheme in OUTPUTS:
        _from_start(address)
    if address.scheme in FILES:
        Rotation(address, b"")


def _from_start(address: Address) -> bool:
    return address.choice("from", "now", "start") == "start"


def _by_name(texts: Sequence[str], origin: Origin) -> dict[str, Address]:
    addresses = [parse(text).filled(origin) if is_address(text) else Address(PLAIN, text) for text in texts]
    names = [address.name for address in addresses]
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--out names {doubles[0]} twice; name each place once")
    if sum(address.scheme == "sqlite" for address in addresses) > 1:
        raise UsageError("--out takes one sqlite:FILE: it is the outbox from which all others are delivered")
    return dict(zip(names, addresses, strict=True))


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
