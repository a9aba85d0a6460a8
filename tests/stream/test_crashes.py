"""An engine that fails on part after part is opened again; where that does not help the line ends, for a supervisor to start it anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scripted import CollectingSink, ScriptedSource, frame
from tiny import good_picture

from lad_edge.errors import EngineError, GpuFaultError
from lad_edge.inspector import Inspector, Options
from lad_edge.stream.crashes import IN_A_ROW, MOST_TRIES
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.values import Reason

OpenInspector = Callable[..., Inspector]


@pytest.fixture
def inspector(open_inspector: OpenInspector) -> Inspector:
    return open_inspector(Options(maps_for=frozenset()))


def line_of(inspector: Inspector, parts: int, told: list[str] | None = None) -> tuple[Line, CollectingSink]:
    sink = CollectingSink()
    source = ScriptedSource([frame(good_picture(i), f"p{i}") for i in range(parts)], live=False)
    return Line(source, inspector, [sink], LineOptions(notice=(told if told is not None else []).append)), sink


def fail_always(_image: object, _pixel_format: str) -> object:
    raise GpuFaultError("CUDA failed: scripted, error 700")


def test_an_engine_that_has_gone_is_opened_again_and_judges(inspector: Inspector) -> None:
    inspector.runtime.close()
    told: list[str] = []
    line, sink = line_of(inspector, IN_A_ROW + 2, told)
    line.run()
    assert [r.reasons[0] for r in sink.results] == [Reason.ENGINE_CRASH] * IN_A_ROW + [Reason.SCORE_WITHIN_LIMIT] * 2
    assert told == ["the engine failed on part after part; it is opened again", "the engine is open again"]
    assert line.inspector is not inspector
    line.inspector.close()


def test_one_part_that_the_engine_cannot_take_opens_nothing(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, calls = inspector._score, iter(range(100))

    def fail_twice_of_three(*words: object) -> object:
        if next(calls) % 3:
            raise EngineError("scripted")
        return score(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(inspector, "_score", fail_twice_of_three)
    line, sink = line_of(inspector, 9)
    line.run()
    assert line.inspector is inspector
    assert [r.reasons[0] for r in sink.results].count(Reason.ENGINE_CRASH) == 6


def test_a_gpu_that_stays_lost_ends_the_line_with_its_code_in_every_record(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "_score", fail_always)
    monkeypatch.setattr(inspector, "open_again", lambda: inspector)
    line, sink = line_of(inspector, 100)
    with pytest.raises(EngineError, match=f"opened again {MOST_TRIES} times: CUDA failed: scripted, error 700"):
        line.run()
    judged = [r for r in sink.results if r.reasons != (Reason.STOPPING,)]
    assert {r.reasons for r in judged} == {(Reason.GPU_FAULT,)}
    assert len(judged) == IN_A_ROW * (MOST_TRIES + 1)


def test_an_engine_that_does_not_open_again_ends_the_line(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "_score", fail_always)
    monkeypatch.setattr("lad_edge.inspector._open_engine", lambda *_: fail_always(None, ""))
    line, sink = line_of(inspector, 100)
    with pytest.raises(GpuFaultError, match="error 700"):
        line.run()
    assert sink.seqs == list(range(1, len(sink.seqs) + 1))
