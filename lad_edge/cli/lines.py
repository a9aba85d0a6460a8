"""The lines of one process, one for each camera: configured, run in threads of their own, reloaded by SIGHUP, watched by systemd."""

from __future__ import annotations

import argparse
import threading
from functools import partial
from typing import TYPE_CHECKING

from lad_edge.cli.config import read_config
from lad_edge.errors import LadEdgeError, UsageError
from lad_edge.stream.watchdog import Beats, ServiceNotifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lad_edge.inspector import Inspector
    from lad_edge.stream.loop import Line
    from lad_edge.stream.stopping import StopSignal

    RunLine = Callable[[argparse.Namespace, Callable[[Line], None]], object]

_POLL_S = 0.1
_RELOADED = frozenset({"engine", "runtime", "precision", "threads", "threshold", "no_gates"})
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
    except UsageError as exc:
        raise UsageError(f"{args.config}: {exc}") from exc
    names = [line.name for line in lines]
    if len(set(names)) < len(names):
        raise UsageError(f"{args.config}: each [[camera]] needs a name of its own; came {', '.join(names)}")
    return lines


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
        self.open: dict[str, Line] = {}
        self.beats = Beats()
        self.failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, args=(args,), name=f"line {args.name}") for args in told]

    def run(self, reload: Callable[[Lines], None]) -> None:
        """To the end. reload: called for each SIGHUP. Raises what the first line that failed raised."""
        self.stop.last_words = self._abandon
        for thread in self._threads:
            thread.start()
        with ServiceNotifier(self.beats, self.status) as notifier:
            while any(thread.is_alive() for thread in self._threads):
                for thread in self._threads:
                    thread.join(_POLL_S / len(self._threads))
                if self._all_open():
                    notifier.ready()
                if self.stop.reload_requested():
                    reload(self)
        if self.failure is not None:
            raise self.failure

    def status(self) -> str:
        """What has become of the parts so far, for a person."""
        return "; ".join(f"{name}: {line.stats.counts()}".lstrip(": ") for name, line in self.open.items())

    def _run(self, args: argparse.Namespace) -> None:
        try:
            self.run_line(args, partial(self._show, args.name))
        except BaseException as exc:  # a line that dies silently would leave its camera unwatched: `run` raises it
            self.failure = self.failure or exc
            self.stop.request()
        finally:
            self.beats.leave(args.name)

    def _show(self, name: str, line: Line) -> None:
        own = line.beat

        def beat() -> None:
            own()
            self.beats.beat(name)

        line.beat = beat
        self.open[name] = line

    def _all_open(self) -> bool:
        return len(self.open) == len(self.told) and all(line.capture.opened.is_set() for line in self.open.values())

    def _abandon(self) -> bool:
        written = [line.abandon() for line in self.open.values()]  # all of them, even if one fails
        return all(written)


def reload_engines(
    lines: Lines,
    again: Callable[[], Sequence[argparse.Namespace]],
    open_inspector: Callable[[argparse.Namespace], Inspector],
    notice: Callable[[str], None],
) -> None:
    """Opens the engines that the configuration names now, and hands each to its line between two parts. What is bad is refused."""
    try:
        fresh = {args.name: args for args in again()}
        opened = {name: open_inspector(args) for name, args in fresh.items() if name in lines.open}
    except LadEdgeError as exc:
        notice(f"reload refused, everything goes on as it was: {exc}")
        return
    for name, inspector in opened.items():
        lines.open[name].swap(inspector)
        notice(f"{name}: {inspector.bundle.path.name} judges from the next part on".lstrip(": "))
    left = sorted(_changed(lines.told, fresh))
    if left:
        notice(f"changed too, but taken over by a restart alone: {', '.join(left)}")


def _changed(told: Sequence[argparse.Namespace], fresh: dict[str, argparse.Namespace]) -> set[str]:
    """Settings other than those of the engine that differ."""
    changed = {"camera"} if {args.name for args in told} != set(fresh) else set()
    for args in told:
        now = vars(fresh.get(args.name, args))
        changed |= {
            name.replace("_", "-") for name, value in vars(args).items() if name not in _RELOADED and now[name] != value
        }
    return changed
