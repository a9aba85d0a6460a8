"""The lines of one process, one for each camera: configured, run in threads of their own, reloaded by SIGHUP, watched by systemd."""

from __future__ import annotations

import argparse
import threading
from functools import partial
from typing import TYPE_CHECKING

from lad_edge.cli.config import read_config
from lad_edge.cli.outputs import check_apart
from lad_edge.errors import UsageError
from lad_edge.stream.watchdog import Beats, ServiceNotifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lad_edge.cli.station import Station
    from lad_edge.stream.stopping import StopSignal

    RunLine = Callable[[argparse.Namespace, Callable[[Station], None]], object]

_POLL_S = 0.1
_NO_SETTINGS = frozenset({"config", "check"})


def configured(args: argparse.Namespace, parser: argparse.ArgumentParser) -> list[argparse.Namespace]:
    """What `run` was told, for each camera. Raises UsageError."""
    if args.config is None:
        return [_complete(args, "the command line")]
    plain = vars(parser.parse_args([]))
    beside = [name for name, value in plain.items() if name not in _NO_SETTINGS and getattr(args, name) != value]
    if beside:
        raise UsageError(f"--{beside[0].replace('_', '-')} beside -c: write it into {args.config}, where it is kept")
    try:
        lines = [_complete(parser.parse_args(words), "it") for words in read_config(args.config, parser)]
        _check_together(lines)
    except UsageError as exc:
        raise UsageError(f"{args.config}: {exc}") from exc
    return lines


def _check_together(lines: Sequence[argparse.Namespace]) -> None:
    names = [line.name for line in lines]
    if len(set(names)) < len(names):
        raise UsageError(f"each [[camera]] needs a name of its own; came {', '.join(names)}")
    check_apart(lines)


def _complete(args: argparse.Namespace, where: str) -> argparse.Namespace:
    for what, given in (("engine", args.engine), ("source", args.source or args.camera)):
        if not given:
            raise UsageError(f"{where} names no {what}: lad-edge run --engine X.lad --camera 0, or -c LINE.toml")
    return args


class Lines:
    """Runs them until all have ended. One that fails ends the others, cleanly; a camera that is lost is no failure."""

    def __init__(self, told: Sequence[argparse.Namespace], stop: StopSignal, run_line: RunLine) -> None:
        """run_line: opens and runs one line, and shows it to its second argument before it runs."""
        self.told, self.stop, self.run_line = list(told), stop, run_line
        self.open: dict[str, Station] = {}
        self.beats = Beats()
        self.failure: BaseException | None = None
        self._threads = {
            args.name: threading.Thread(target=self._run, args=(args,), name=f"line {args.name}") for args in told
        }

    def run(self, reload: Callable[[Lines], None]) -> None:
        """To the end. reload: called for each SIGHUP. Raises what the first line that failed raised."""
        self.stop.last_words = self._abandon
        threads = list(self._threads.values())
        for thread in threads:
            thread.start()
        with ServiceNotifier(self.beats, self.status) as notifier:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(_POLL_S / len(threads))
                if self._all_open():
                    notifier.ready()
                if len(self.open) == len(self.told) and self.stop.reload_requested():  # earlier ones wait
                    reload(self)
        if self.failure is not None:
            raise self.failure

    @property
    def running(self) -> dict[str, Station]:
        """Those that have not ended."""
        return {name: station for name, station in self.open.items() if self._threads[name].is_alive()}

    def status(self) -> str:
        """What has become of the parts so far, for a person."""
        return "; ".join(f"{name}: {station.status()}".lstrip(": ") for name, station in self.open.items())

    def _run(self, args: argparse.Namespace) -> None:
        try:
            self.run_line(args, partial(self._show, args.name))
        except BaseException as exc:  # a line that dies silently would leave its camera unwatched: `run` raises it
            self.failure = self.failure or exc
            self.stop.request()
        finally:
            self.beats.leave(args.name)

    def _show(self, name: str, station: Station) -> None:
        line = station.line
        own = line.beat

        def beat() -> None:
            own()
            self.beats.beat(name)

        line.beat = beat
        self.open[name] = station

    def _all_open(self) -> bool:
        return len(self.open) == len(self.told) and all(
            station.line.capture.opened.is_set() for station in self.open.values()
        )

    def _abandon(self) -> bool:
        written = [station.line.abandon() for station in self.open.values()]  # all of them, even if one fails
        return all(written)
