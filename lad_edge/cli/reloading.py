"""SIGHUP: what the configuration says now goes in; engines, outputs and shadows of the running lines are exchanged between two parts."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from queue import Empty, Queue
from typing import TYPE_CHECKING

from lad_edge.cli.outputs import check_out, origin_of, verdicts_with_maps
from lad_edge.cli.shadowing import open_trial
from lad_edge.errors import LadEdgeError
from lad_edge.outputs.address import is_address, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lad_edge.cli.lines import Lines
    from lad_edge.cli.shadowing import Trial
    from lad_edge.cli.station import Station
    from lad_edge.inspector import Inspector
    from lad_edge.outputs.opening import Change

    OpenInspector = Callable[[argparse.Namespace, bool], Inspector]
    Notice = Callable[[str], None]

_OF_ENGINE = frozenset({"engine", "runtime", "precision", "threads", "threshold", "max_age", "no_gates"})
_RELOADED = _OF_ENGINE | {"shadow", "shadow_out", "out"}
_TAKEN_S = 5.0  # for the line to come to the end of a part


def reload(
    lines: Lines, again: Callable[[], Sequence[argparse.Namespace]], open_inspector: OpenInspector, notice: Notice
) -> None:
    """Opens everything that is new, of all lines; only then each line takes it over. What is bad is refused as a whole.

    again: reads the configuration; open_inspector: for the settings of a line, whose source is live or not.
    """
    with ExitStack() as if_it_fails:
        try:
            fresh = {args.name: args for args in again()}
            reloads = [
                _prepare(station, fresh[name], open_inspector, if_it_fails)
                for name, station in lines.running.items()
                if name in fresh
            ]
        except (LadEdgeError, OSError) as exc:
            _refuse(lines, str(exc), notice)
            return
        except Exception as exc:  # what breaks down while it opens must not take the running lines with it (F30)
            _refuse(lines, f"{type(exc).__name__}: {exc}", notice)
            return
        if_it_fails.pop_all()
    left = sorted(_left_alone(lines.told, fresh))
    for each in reloads:
        for text in each.apply():
            notice(f"{each.station.args.name}: {text}".lstrip(": "))
    if left:
        notice(f"changed too, but taken over by a restart alone: {', '.join(left)}")


def _refuse(lines: Lines, why: str, notice: Notice) -> None:
    notice(f"reload refused, everything goes on as it was: {why}")
    for station in lines.running.values():
        station.trial.refuse(why)


@dataclass(frozen=True)
class _Reload:
    """All that one line takes over, open. inspector: None where nothing has changed; trial: then that of the station."""

    station: Station
    args: argparse.Namespace
    change: Change
    inspector: Inspector | None
    trial: Trial

    def apply(self) -> Iterator[str]:
        """Gives it to the line; what happened, for a person."""
        before, line = sorted(self.station.args.out), self.station.line
        self.change.apply(line.exchange)
        self.station.args = self.args
        ended = self._swap()
        if ended is not None:
            ended.close()
            self.station.trial.begin()
        if self.inspector is not None:
            yield f"{self.inspector.bundle.path.name} judges from the next part on"
        if sorted(self.args.out) != before:
            yield f"results go to {', '.join(self.change.addresses) or 'no output'} from the next part on"

    def _swap(self) -> Trial | None:
        """Engine, name of the configuration and shadow at one moment between two parts; the trial that is over, if one is."""
        inspector, line, outputs = self.inspector, self.station.line, self.station.outputs
        if inspector is None:
            return self._exchange_trial()
        origin = origin_of(self.args, inspector, line.source.name, outputs.origin.boot_id)
        over: Queue[Trial | None] = Queue()

        def taken() -> None:
            outputs.relabel(origin)
            over.put(self._exchange_trial())

        line.swap(inspector, taken)
        with suppress(Empty):  # the engine hangs in a part: the shadow of before is left to the end of the process
            return over.get(timeout=_TAKEN_S)
        return None

    def _exchange_trial(self) -> Trial | None:
        if self.trial is self.station.trial:
            return None
        self.station.line.exchange(self.station.trial.sinks, self.trial.sinks)
        return self.station.trial.exchange(self.trial)


def _prepare(
    station: Station, fresh: argparse.Namespace, open_inspector: OpenInspector, if_it_fails: ExitStack
) -> _Reload:
    """Raises what is wrong with the new settings; what was opened by then is closed by the stack."""
    args = argparse.Namespace(**{**vars(station.args), **{name: getattr(fresh, name) for name in _RELOADED}})
    live = station.line.source.live
    check_out(args)
    inspector = _new_inspector(station, args, open_inspector)
    if inspector is not None:
        if_it_fails.callback(inspector.close)
    engine = (inspector or station.line.inspector).bundle
    trial = open_trial(args, engine, live=live, before=station.trial)
    if trial is not station.trial:
        if_it_fails.callback(trial.without(station.trial).close)
    change = station.outputs.prepare(args.out)
    if_it_fails.callback(change.cancel)
    return _Reload(station, args, change, inspector, trial)


def _new_inspector(station: Station, args: argparse.Namespace, open_inspector: OpenInspector) -> Inspector | None:
    """None where the engine and how it judges are what they were."""
    from lad_edge import bundle

    now = station.line.inspector
    same = bundle.read(args.engine).sha256 == now.bundle.sha256 and verdicts_with_maps(args) <= set(
        now.options.maps_for
    )
    if same and not _differ(station, args, _OF_ENGINE):
        return None
    return open_inspector(args, station.line.source.live)


def _differ(station: Station, args: argparse.Namespace, names: frozenset[str]) -> bool:
    return any(getattr(station.args, name) != getattr(args, name) for name in names)


def _left_alone(told: Sequence[argparse.Namespace], fresh: dict[str, argparse.Namespace]) -> set[str]:
    """Settings that have changed and stay as they were."""
    left = {"camera"} if {args.name for args in told} != set(fresh) else set()
    for args in told:
        now = fresh.get(args.name, args)
        changed = {name for name, value in vars(args).items() if name not in _RELOADED and getattr(now, name) != value}
        left |= {name.replace("_", "-") for name in changed}
        if _outboxes(args) - _outboxes(now):
            left.add("the outbox")
    return left


def _outboxes(args: argparse.Namespace) -> set[str]:
    return {text for text in args.out if is_address(text) and parse(text).scheme == "sqlite"}
