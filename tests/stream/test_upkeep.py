"""An engine that fails on part after part, or on a golden frame, is opened again; where that does not help the line ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scripted import CollectingSink, ScriptedSource, frame
from tiny import good_picture

from lad_edge.errors import EngineError, GpuFaultError, ParityError
from lad_edge.inspector import Inspector, Options
from lad_edge.scoring import FrameScorer
from lad_edge.stream.loop import Line, LineOptions
from lad_edge.stream.upkeep import IN_A_ROW, MOST_TRIES
from lad_edge.values import Reason, Scores, Verdict

OpenInspector = Callable[..., Inspector]
WAIT_S = 20.0


@pytest.fixture
def inspector(open_inspector: OpenInspector) -> Inspector:
    return open_inspector(Options(maps_for=frozenset()))


def line_of(
    inspector: Inspector, parts: int, told: list[str] | None = None, challenge_s: float = WAIT_S
) -> tuple[Line, CollectingSink]:
    sink = CollectingSink()
    source = ScriptedSource([frame(good_picture(i), f"p{i}") for i in range(parts)], live=False)
    options = LineOptions(notice=(told if told is not None else []).append, challenge_s=challenge_s)
    return Line(source, inspector, [sink], options), sink


class Stuck:
    """A scorer whose engine always gives the scores of the first frame that it saw."""

    def __init__(self, scorer: FrameScorer) -> None:
        self.scorer, self.line = scorer, scorer.line
        self.first: Scores | None = None

    def enqueue(self, image: np.ndarray) -> None:
        self.scorer.enqueue(image)

    def wait(self) -> Scores:
        scores = self.scorer.wait()
        self.first = self.first or replace(scores, anomaly_map=scores.anomaly_map.copy())
        return self.first

    def close(self) -> None:
        self.scorer.close()


def fail_always(_image: object, _pixel_format: str) -> object:
    raise GpuFaultError("CUDA failed: scripted, error 700")


def test_an_engine_that_has_gone_is_opened_again_and_judges(inspector: Inspector) -> None:
    inspector.runtime.close()
    told: list[str] = []
    line, sink = line_of(inspector, IN_A_ROW + 2, told)
    line.run()
    assert [r.reasons[0] for r in sink.results] == [Reason.ENGINE_CRASH] * IN_A_ROW + [Reason.SCORE_WITHIN_LIMIT] * 2
    assert told[0].startswith("the engine failed on part after part: ")
    assert told[1] == "the engine is open again"
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


def test_an_engine_that_always_says_the_same_is_found_by_a_golden_frame_and_opened_again(inspector: Inspector) -> None:
    for key, scorer in inspector._scorers.items():
        inspector._scorers[key] = Stuck(scorer)  # type: ignore[assignment]
    told: list[str] = []
    line, sink = line_of(inspector, 12, told, challenge_s=0.0)
    line.run()
    assert told[0].startswith("SELF_TEST_FAILED: golden frame ")
    assert line.inspector is not inspector
    assert sink.seqs == list(range(1, 13))
    assert sink.results[-1].verdict is Verdict.OK
    line.inspector.close()


def test_golden_frames_that_agree_change_nothing_and_are_no_parts(inspector: Inspector) -> None:
    told: list[str] = []
    line, sink = line_of(inspector, 12, told, challenge_s=0.0)
    line.run()
    assert (line.inspector, told) == (inspector, [])
    assert sink.seqs == list(range(1, 13))
    assert inspector._challenges >= 12


def test_an_engine_that_stays_wrong_ends_the_line(inspector: Inspector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(inspector.bundle), "golden_scores", lambda *_: [1e6] * 4)
    line, _ = line_of(inspector, 12, challenge_s=0.0)
    with pytest.raises(ParityError, match="SELF_TEST_FAILED"):
        line.run()
