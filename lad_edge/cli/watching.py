"""--dashboard of `lad-edge run`: words go in, the operator's page and a sink for each line come out."""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lad_edge.cli.arguments import read_token
from lad_edge.cli.outputs import camera_name, host_port
from lad_edge.errors import SinkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import ExitStack

    from lad_edge.dashboard.feed import CameraFeed, Dashboard
    from lad_edge.dashboard.process import Settings
    from lad_edge.inspector import Inspector
    from lad_edge.stream.health import Health

_SETTINGS = (
    *("dashboard", "dashboard_token_file", "dashboard_cert", "dashboard_key", "dashboard_plain"),
    *("dashboard_labels", "dashboard_shifts"),
)


def add_dashboard_options(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    group = parser.add_argument_group("the operator's page")
    group.add_argument(
        "--dashboard", type=host_port, metavar="HOST:PORT", help="serve it there, such as :8600 on this machine only"
    )
    group.add_argument(
        "--dashboard-token-file",
        type=Path,
        metavar="FILE",
        help="whoever looks gives this token; a must for other machines",
    )
    group.add_argument(
        "--dashboard-cert",
        type=Path,
        metavar="FILE",
        help="its certificate (PEM): https, a must for other machines too",
    )
    group.add_argument("--dashboard-key", type=Path, metavar="FILE", help="the key of that; default: in the same file")
    group.add_argument(
        "--dashboard-plain", action="store_true", help="other machines without https: their network may read the token"
    )
    group.add_argument(
        "--dashboard-labels",
        type=Path,
        metavar="FOLDER",
        help="keep what operators say with 'false reject' and 'missed'",
    )
    group.add_argument(
        "--dashboard-shifts",
        type=shift_hours,
        default=(6, 14, 22),
        metavar="H,H,H",
        help="hours of the day at which shifts begin; default: 6,14,22",
    )


def shift_hours(text: str) -> tuple[int, ...]:
    """`6,14,22` → hours."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) < 24 for word in words):
        raise argparse.ArgumentTypeError(f"expected hours of the day, such as 6,14,22; came '{text}'")
    return tuple(sorted({int(word) for word in words}))


def check_dashboard(told: Sequence[argparse.Namespace]) -> None:
    """Serves nothing. Raises UsageError, MissingDependencyError."""
    settings = _settings(told)
    if settings is not None:
        from lad_edge.dashboard.server import check

        try:
            check(settings)
        except UsageError as exc:
            raise UsageError(f"--dashboard {settings.host}:{settings.port}: {exc}") from exc


@contextmanager
def open_dashboard(told: Sequence[argparse.Namespace], notice: Callable[[str], None]) -> Iterator[Dashboard | None]:
    """The page of all these lines, or None when nobody asked for it. Raises UsageError, SinkError, MissingDependencyError."""
    settings = _settings(told)
    if settings is None:
        yield None
        return
    from lad_edge.dashboard.feed import Dashboard

    try:
        dashboard = Dashboard(settings, notice)
    except OSError as exc:
        raise SinkError(f"--dashboard: its process does not come up: {exc}") from exc
    notice(f"the operator's page: {'https' if settings.certificate else 'http'}://{settings.host}:{dashboard.port}")
    try:
        yield dashboard
    finally:
        dashboard.close()


def _settings(told: Sequence[argparse.Namespace]) -> Settings | None:
    """Of the page of all these lines; None when nobody asked for one. Raises UsageError."""
    args = told[0]
    if any(getattr(each, name) != getattr(args, name) for each in told for name in _SETTINGS):
        raise UsageError("there is one page for all cameras: write its settings above the first [[camera]]")
    if args.dashboard is None:
        return None
    from lad_edge.dashboard.process import Settings

    if args.dashboard_key and not args.dashboard_cert:
        raise UsageError("--dashboard-key is the key of --dashboard-cert: give both, or neither")
    host, port = args.dashboard
    return Settings(
        host=host,
        port=port,
        token=read_token(args.dashboard_token_file, "--dashboard-token-file"),
        labels=_resolved(args.dashboard_labels),
        certificate=_resolved(args.dashboard_cert),
        key=_resolved(args.dashboard_key),
        plain=args.dashboard_plain,
    )


def _resolved(path: Path | None) -> str:
    """For a process that works in another folder."""
    return "" if path is None else str(path.resolve())


def open_feed(
    dashboard: Dashboard | None,
    args: argparse.Namespace,
    inspector: Inspector,
    source: str,
    health: Health,
    stack: ExitStack,
) -> list[CameraFeed]:
    """The sink that shows this line on the page; none without a page."""
    if dashboard is None:
        return []
    from lad_edge.dashboard.feed import CameraFeed
    from lad_edge.stream.overlays import heat_span

    manifest = inspector.bundle.manifest
    about = {"engine": manifest.name, "source": source, "deadline_ms": args.deadline}
    span = heat_span(inspector.bundle.scores(inspector.runtime.precision), inspector.threshold)
    feed = CameraFeed(camera_name(args), about, inspector.sight.area, span, args.dashboard_shifts)
    feed.health = health
    stack.callback(feed.close)
    dashboard.add(feed)
    return [feed]
