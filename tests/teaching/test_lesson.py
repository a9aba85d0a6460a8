"""A lesson from pictures to an engine that judges, through the backbone that ships."""

from __future__ import annotations

import numpy as np
import pytest

import lad_edge
from lad_edge import bundle as bundles
from lad_edge.errors import DataError, UsageError
from lad_edge.teaching import Lesson, Options, default_policy, parts_for
from lad_edge.thresholds import parse_policy
from lad_edge.values import Reason, Verdict

SIZE = (96, 128)
OPTIONS = Options(name="two lamps", precision="f32", threads=1)


def lamps(seed: int, *, alike: bool = True) -> np.ndarray:
    """A grey panel with two lamps of one colour, which differs from part to part; not alike: of two colours."""
    rng = np.random.default_rng(seed)
    picture = np.full((*SIZE, 3), 120, np.uint8)
    colours = np.array([[30, 30, 200], [30, 200, 30]], np.uint8)
    left = int(rng.integers(2))
    for column, colour in ((20, left), (84, left if alike else 1 - left)):
        picture[36:60, column : column + 24] = colours[colour]
    return (picture + rng.integers(0, 8, picture.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def taught():
    with Lesson(OPTIONS) as lesson:
        for seed in range(16):
            lesson.show(f"{seed}.png", lamps(seed), "bgr8")
        return lesson.finish()


@pytest.fixture(scope="module")
def engine(taught, tmp_path_factory):
    path = tmp_path_factory.mktemp("taught") / "lamps.lad"
    taught.write(path)
    return path


def test_it_judges_parts_that_it_never_saw(engine):
    with lad_edge.load(engine, threads=1) as inspector:
        good = [inspector(lamps(seed)) for seed in range(100, 110)]
        bad = [inspector(lamps(seed, alike=False)) for seed in range(100, 110)]
    assert sum(result.verdict is Verdict.OK for result in good) >= 8
    assert all(result.verdict is Verdict.NG for result in bad)
    assert min(result.score for result in bad) > max(result.score for result in good)


def test_findings_say_where_and_beside_what(engine):
    with lad_edge.load(engine, threads=1) as inspector:
        result = inspector(lamps(3, alike=False))
    assert Reason.SCORE_WITHIN_LIMIT not in result.reasons
    assert result.findings
    for sentence in result.findings:
        assert sentence.startswith(("logical at row ", "structural at row "))
    rows, columns = zip(*((int(s.split()[3][:-1]), int(s.split()[5])) for s in result.findings), strict=True)
    assert all(6 <= row <= 11 for row in rows)
    assert max(result.structural_score, result.logical_score) == pytest.approx(result.score, rel=1e-4)
    assert all(name.endswith(".png") for s in result.findings if " most like " in s for name in s.split()[-3::2])
    assert all(3 <= column <= 14 for column in columns)


def test_threshold_and_statement_rest_on_scores_of_parts_that_the_ridge_had_not_seen(taught):
    scores = np.array(sorted(taught.scores.values()))
    assert taught.policy.statement == "≤ 10 % of good parts are rejected, n = 16"
    assert scores[-2] < taught.manifest.calibrations["f32"].threshold <= scores[-1] * 1.01
    np.testing.assert_array_equal(taught.tensors["calibration/f32/scores"], scores)


def test_the_same_lesson_gives_the_same_bytes(taught, engine, tmp_path):
    with Lesson(OPTIONS) as lesson:
        for seed in range(16):
            lesson.show(f"{seed}.png", lamps(seed), "bgr8")
        lesson.finish().write(tmp_path / "again.lad")
    assert (tmp_path / "again.lad").read_bytes() == engine.read_bytes()


def test_parts_are_added_to_an_engine_without_the_old_pictures(engine, tmp_path):
    with Lesson(Options(threads=1), bundles.read(engine)) as lesson:
        assert len(lesson) == 16
        for seed in range(200, 204):
            lesson.show(f"{seed}.png", lamps(seed), "bgr8")
        more = lesson.finish()
    more.write(tmp_path / "more.lad")
    with Lesson(OPTIONS) as lesson:
        for seed in [*range(16), *range(200, 204)]:
            lesson.show(f"{seed}.png", lamps(seed), "bgr8")
        anew = lesson.finish()
    assert list(more.scores) == list(anew.scores)
    np.testing.assert_allclose(list(more.scores.values()), list(anew.scores.values()), rtol=0.05)
    with lad_edge.load(tmp_path / "more.lad", threads=1) as inspector:
        assert inspector(lamps(300, alike=False)).verdict is Verdict.NG


def test_new_parts_must_fit_the_engine(engine):
    with Lesson(Options(threads=1), bundles.read(engine)) as lesson, pytest.raises(DataError, match="expected 128x96"):
        lesson.show("wide.png", np.zeros((96, 200, 3), np.uint8), "bgr8")


def test_an_engine_of_another_detector_or_precision_is_refused(engine, tiny_bundle):
    with pytest.raises(UsageError, match="made by 'lad-edge teach', this is"):
        Lesson(Options(), bundles.read(tiny_bundle))
    with pytest.raises(UsageError, match="taught in f32"):
        Lesson(Options(precision="bf16"), bundles.read(engine))
    with pytest.raises(UsageError, match="expected one of efficientnet-lite0"):
        Lesson(Options(backbone="resnet"))


def test_odd_parts_and_twins_are_named():
    with Lesson(OPTIONS) as lesson:
        for seed in range(14):
            lesson.show(f"{seed}.png", lamps(seed), "bgr8")
        lesson.show("twin.png", lamps(5), "bgr8")
        lesson.show("odd.png", lamps(50, alike=False), "bgr8")
        found = lesson.finish()
    assert found.odd == ["odd.png"]
    assert ("5.png", "twin.png") in found.twins
    assert max(found.scores, key=found.scores.__getitem__) == "odd.png"


def test_too_few_parts_or_one_picture_again_and_again_are_refused():
    with Lesson(OPTIONS) as lesson:
        for index in range(4):
            lesson.show(f"{index}.png", lamps(1), "bgr8")
        with pytest.raises(DataError, match="at least 5 good parts, 4 were shown"):
            lesson.finish()
        for index in range(4, 8):
            lesson.show(f"{index}.png", lamps(1), "bgr8")
        with pytest.raises(DataError, match="the same picture"):
            lesson.finish()


def test_a_policy_that_the_parts_cannot_carry_is_refused():
    with Lesson(Options(precision="f32", threads=1, policy=parse_policy("conformal:1%"))) as lesson:
        for seed in range(6):
            lesson.show(f"{seed}.png", lamps(seed), "bgr8")
        with pytest.raises(DataError, match="needs the scores of 99 good images; came 6"):
            lesson.finish()


@pytest.mark.parametrize(
    ("parts", "rate"), [(5, 0.2), (8, 0.2), (9, 0.1), (18, 0.1), (19, 0.05), (25, 0.05), (500, 0.05)]
)
def test_the_default_policy_promises_what_the_parts_can_carry(parts, rate):
    assert default_policy(parts) == ("conformal", rate)


def test_parts_for_a_rate():
    assert [parts_for(rate) for rate in (0.2, 0.05, 0.01)] == [4, 19, 99]


def test_grey_parts_and_a_region_of_interest(tmp_path):
    with Lesson(Options(precision="f32", threads=1, roi=(0, 24, 128, 48))) as lesson:
        for seed in range(10):
            lesson.show(f"{seed}.png", lamps(seed)[:, :, 1].copy(), "mono8")
        lesson.finish().write(tmp_path / "grey.lad")
    with lad_edge.load(tmp_path / "grey.lad", threads=1) as inspector:
        assert inspector(lamps(77, alike=False)[:, :, 1].copy()).verdict is Verdict.NG
