"""A second engine on the same parts: counted, kept, and never in the way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted import CollectingSink, ScriptedSource, frame, lost
from tiny import good_picture, spotted_picture

from lad_edge.errors import EngineError, SinkError
from lad_edge.images import read_image
from lad_edge.inspector import Inspector, Options
from lad_edge.stream.loop import Line
from lad_edge.stream.shadow import Shadow, mcnemar
from lad_edge.values import Frame, Result, Verdict

WAIT_S = 20.0
OpenInspector = Callable[..., Inspector]


def judged(shadow: Shadow, count: int) -> None:
    limit_s = time.monotonic() + WAIT_S
    while sum(shadow.counts.values()) + shadow.skipped < count and time.monotonic() < limit_s:
        time.sleep(0.005)


def test_disagreements_are_counted_and_kept(open_inspector: OpenInspector, tmp_path: Path) -> None:
    shadow = Shadow(open_inspector(Options(threshold=-1e6)), tmp_path / "shadow")  # rejects everything
    pictures = [good_picture(0), good_picture(1), spotted_picture(2)]

    def when_the_shadow_is_done(result: Result) -> None:
        judged(shadow, result.seq - 1)

    source = ScriptedSource([frame(picture, f"p{i}") for i, picture in enumerate(pictures)], live=False)
    Line(source, open_inspector(Options()), [CollectingSink(when_the_shadow_is_done), shadow]).run()
    judged(shadow, 3)
    shadow.close()
    assert shadow.counts == {(Verdict.OK, Verdict.NG): 2, (Verdict.NG, Verdict.NG): 1}
    lines = [json.loads(line) for line in (tmp_path / "shadow" / "disagreements.jsonl").read_text().splitlines()]
    assert [(line["line"]["verdict"], line["shadow"]["verdict"]) for line in lines] == [("OK", "NG")] * 2
    kept = read_image(tmp_path / "shadow" / lines[0]["picture"]).image
    assert (kept == pictures[0]).all()
    assert "1 of 3 verdicts agree" in shadow.table()
    assert "by the shadow alone 2" in shadow.table()


def test_a_slow_shadow_skips_parts_and_the_line_does_not_wait(
    open_inspector: OpenInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, release = open_inspector(Options()), threading.Event()
    judge = slow.inspect

    def wait(picture: Frame) -> Result:
        release.wait(WAIT_S)
        return judge(picture)

    monkeypatch.setattr(slow, "inspect", wait)
    shadow, sink = Shadow(slow), CollectingSink()
    source = ScriptedSource([frame(good_picture(0)) for _ in range(10)], live=False)
    Line(source, open_inspector(Options()), [shadow, sink]).run()
    assert len(sink.results) == 10  # all written while the shadow still looks at the first one
    release.set()
    shadow.close()
    assert shadow.skipped >= 8


def test_what_was_not_judged_is_no_business_of_the_shadow(open_inspector: OpenInspector) -> None:
    shadow = Shadow(open_inspector(Options()))
    Line(ScriptedSource([lost()], live=False), open_inspector(Options()), [shadow]).run()
    shadow.close()
    assert not shadow.counts
    assert shadow.skipped == 0


def test_a_shadow_that_fails_fails_alone(open_inspector: OpenInspector, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, failed = open_inspector(Options()), threading.Event()

    def fail(_: Frame) -> Result:
        failed.set()
        raise EngineError("scripted")

    monkeypatch.setattr(broken, "inspect", fail)
    shadow, sink = Shadow(broken), CollectingSink()
    Line(ScriptedSource([frame(good_picture(0))], live=False), open_inspector(Options()), [shadow, sink]).run()
    assert failed.wait(WAIT_S)
    shadow.close()
    assert [result.verdict for result in sink.results] == [Verdict.OK]


def test_a_folder_that_cannot_be_made_is_named(open_inspector: OpenInspector, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="choose another folder"):
        Shadow(open_inspector(Options()), tmp_path / "file" / "shadow")


def test_mcnemar_is_the_sign_test_of_the_disagreements() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(0, 10) == pytest.approx(2 / 1024)
    assert mcnemar(8, 1) == mcnemar(1, 8) == pytest.approx(2 * (1 + 9) / 512)
