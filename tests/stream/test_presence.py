"""A part that comes by gives one picture: the one in which it is nearest to the middle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from scripted import frame, lost

from lad_edge.stream.parts import Part, Parts
from lad_edge.stream.presence import Presence
from lad_edge.values import Frame, Reason, Result, Verdict

WIDTH, HEIGHT, SIDE = 320, 240, 80


def belt(left: int | None, seed: int, light: float = 0.0) -> Frame:
    """A noisy belt with a square part from `left` on (outside pixels are cut off); None = no part."""
    grey = np.random.default_rng(seed).normal(90 + light, 3, (HEIGHT, WIDTH))
    if left is not None:
        grey[80 : 80 + SIDE, max(0, left) : max(0, left + SIDE)] += 70
    return frame(np.clip(grey, 0, 255).astype(np.uint8), f"{left}")


def empty(count: int, light: float = 0.0) -> list[Frame]:
    return [belt(None, seed, light) for seed in range(count)]


def passing(start: int = -SIDE, step: int = 20) -> list[Frame]:
    return [belt(left, 1000 + left) for left in range(start, WIDTH, step)]


def unjudged(part: Part, reason: Reason, detail: str) -> Result:
    return Result(part.seq, "", Verdict.UNKNOWN, (reason,), 0, 0, detail=detail)


@pytest.fixture
def trigger() -> Presence:
    return Presence(Parts(100, unjudged, wait_when_full=False))


def taken(frames: Iterable[Frame], place: tuple[int, int, int, int] | None = None, fps: float = 20.0) -> list[str]:
    """Ids of the pictures that became parts."""

    parts = Parts(100, unjudged, wait_when_full=False)
    trigger = Presence(parts, place)
    for number, picture in enumerate(frames):
        assert trigger.put(replace(picture, captured_ns=round(1e9 * number / fps)))
    found = []
    while (part := parts.take(0)) is not None:
        found.append(part.frames[0].frame_id)
    return found


def test_each_part_gives_the_picture_nearest_to_the_middle() -> None:
    middle = str((WIDTH - SIDE) // 2)
    assert taken([*empty(12), *passing(), *empty(2), *passing(), *empty(1)]) == [middle, middle]


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_a_slow_part_gives_a_picture_near_the_middle(step: int) -> None:
    """With 1 px a picture it comes by in 20 seconds."""
    (name,) = taken([*empty(12), *passing(step=step), *empty(2)])
    assert abs(int(name) - (WIDTH - SIDE) // 2) <= WIDTH // 64 + step


def test_a_part_that_stops_gives_one_picture_however_long_it_lies() -> None:
    resting = [belt(60, seed) for seed in range(30)]
    assert taken([*empty(12), *resting, *empty(2)]) == ["60"]


def test_a_part_at_rest_gives_its_newest_picture() -> None:
    resting = [replace(belt(60, seed), frame_id=f"{seed}") for seed in range(30)]
    assert taken([*empty(12), *resting, *empty(2)], fps=20.0) == ["6"]


def test_a_part_that_stops_at_the_border_is_waited_for_until_it_goes_on() -> None:
    stopped = [belt(-40, seed) for seed in range(20)]
    assert taken([*empty(12), *stopped, *passing(start=-20), *empty(2)]) == [str((WIDTH - SIDE) // 2)]


def test_a_part_that_stays_at_the_border_gives_its_picture_all_the_same() -> None:
    stopped = [belt(-40, seed) for seed in range(40)]
    assert taken([*empty(12), *stopped]) == ["-40"]


def test_a_part_that_is_larger_than_the_place_gives_one_picture_when_it_has_left() -> None:
    place = (100, 60, 60, 120)
    assert len(taken([*empty(12), *passing(step=40), *empty(1)], place)) == 1


def test_an_empty_belt_gives_nothing_though_the_light_drifts() -> None:
    drifting = [belt(None, index, light=0.1 * index) for index in range(300)]
    assert taken([*empty(12), *drifting]) == []


def test_colour_is_looked_at_as_grey() -> None:
    pictures = [*empty(12), *passing(), *empty(1)]
    coloured = [frame(np.repeat(picture.image[..., None], 3, 2), picture.frame_id) for picture in pictures]
    assert taken(coloured) == taken(pictures)


@pytest.mark.parametrize("learnt", [0, 12])
def test_a_lost_camera_is_one_record(learnt: int) -> None:
    assert taken([*empty(learnt), lost()]) == ["lost"]


def cut(picture: Frame, size: tuple[int, ...]) -> Frame:
    """Of another size than the camera's; of one dimension: rows that lost their geometry on the way."""
    assert picture.image is not None
    return replace(picture, image=np.resize(picture.image, size), frame_id="cut")


@pytest.mark.parametrize("size", [(HEIGHT // 2, WIDTH), (HEIGHT, WIDTH - 8), (1000,), (16, 16)])
@pytest.mark.parametrize("place", [None, (40, 40, 240, 160)])
def test_a_camera_that_changes_its_size_is_one_record_and_parts_are_seen_again_afterwards(
    size: tuple[int, ...], place: tuple[int, int, int, int] | None
) -> None:
    changed = [cut(picture, size) for picture in passing()]
    middle = str((WIDTH - SIDE) // 2)
    assert taken([*empty(12), *changed, *empty(2), *passing(), *empty(1)], place) == ["cut", middle]


def test_a_part_in_sight_has_its_record_when_the_camera_changes() -> None:
    half_way = passing()[:8]
    seen, refused = taken([*empty(12), *half_way, cut(belt(None, 0), (10, 10))])
    assert seen == half_way[-1].frame_id
    assert refused == "cut"


def test_while_pictures_do_not_fit_the_trigger_is_in_trouble(trigger: Presence) -> None:
    for picture in empty(12):
        trigger.put(picture)
    trigger.put(cut(belt(None, 0), (10, 10)))
    assert "learnt in 320×240 px, came 10×10" in trigger.trouble
    part = trigger.parts.take(0)
    assert part is not None
    assert part.frame().fault is Reason.FRAME_FORMAT
    trigger.put(belt(None, 1))
    assert trigger.trouble == ""
