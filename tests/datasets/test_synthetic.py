"""The synthetic kit: same seed same bytes, good kits obey the rules, bad ones break them, masks tell the truth."""

from __future__ import annotations

import json
from collections import Counter

import cv2
import numpy as np
import pytest

from lad_edge.datasets import open_dataset, read_channels
from lad_edge.datasets.check import check
from lad_edge.datasets.synthetic import JPEG_QUALITY, SPLITS, generate, make_sample
from lad_edge.datasets.synthetic_defects import DEFECT_TYPES, LOGICAL, STRUCTURAL, nth_defect
from lad_edge.datasets.synthetic_field import Field
from lad_edge.datasets.synthetic_render import compartment_stencil, render
from lad_edge.datasets.synthetic_scene import COMPARTMENTS, VARIANTS, broken_rules, discs, draw_scene, place
from lad_edge.datasets.synthetic_shapes import FOOTPRINTS, relief
from lad_edge.errors import DataError, UsageError

WIDTH = 320  # half size: four times as fast
LOGICAL_TYPES = [defect for defect in DEFECT_TYPES if defect.label == LOGICAL]
STRUCTURAL_TYPES = [defect for defect in DEFECT_TYPES if defect.label == STRUCTURAL]


def scene(seed: int):
    return draw_scene(np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1]))


def contents(parts):
    """What lies in each compartment, as (compartment, kinds in order)."""
    return {(name, tuple(sorted(p.kind for p in parts if p.compartment == name))) for name in COMPARTMENTS}


def test_good_kits_obey_the_rules_and_all_variants_occur():
    scenes = [scene(seed) for seed in range(60)]
    assert [broken_rules(s.parts) for s in scenes] == [[]] * 60
    assert {s.variant for s in scenes} == set(VARIANTS)


def test_parts_neither_touch_nor_leave_their_compartment():
    for seed in range(40):
        placed = []
        for part in scene(seed).parts:
            c, s = np.cos(part.angle), np.sin(part.angle)
            box = COMPARTMENTS[part.compartment]
            for u, v, r in discs(part.kind):
                x, y = part.x + c * u - s * v, part.y + s * u + c * v
                assert box.left + r <= x + 1e-9
                assert x - 1e-9 <= box.right - r
                assert box.top + r <= y + 1e-9
                assert y - 1e-9 <= box.bottom - r
                placed.append((x, y, r, id(part)))
        assert not [
            1 for a in placed for b in placed if a[3] < b[3] and np.hypot(a[0] - b[0], a[1] - b[1]) < a[2] + b[2]
        ]


def test_parts_may_lie_anywhere_so_no_place_tells_the_count():
    box = COMPARTMENTS["nuts"]
    cells = Counter()
    for seed in range(120):
        for part in scene(seed).parts:
            if part.kind == "nut":
                column = int(3 * (part.x - box.left) / (box.right - box.left))
                row = int(3 * (part.y - box.top) / (box.bottom - box.top))
                cells[row, column] += 1
    assert len(cells) == 9
    assert min(cells.values()) > 0.3 * max(cells.values())


@pytest.mark.parametrize("defect", LOGICAL_TYPES, ids=lambda defect: defect.name)
def test_logical_defects_break_a_rule_and_touch_only_what_their_masks_mark(defect):
    marked = {name for names in defect.channels for name in names}
    for seed in range(25):
        good = scene(seed)
        bad = defect.spoil(good, np.random.default_rng(seed))
        assert broken_rules(bad.parts)
        assert {p for p in bad.parts if p.compartment not in marked} == {
            p for p in good.parts if p.compartment not in marked
        }
        assert bad.look == good.look


@pytest.mark.parametrize("name", ["wrong_combination"])
def test_a_wrong_combination_has_only_compartments_that_some_good_kit_has(name):
    (defect,) = [d for d in DEFECT_TYPES if d.name == name]
    seen_good = set().union(*(contents(scene(seed).parts) for seed in range(60)))
    for seed in range(40):
        assert contents(defect.spoil(scene(seed), np.random.default_rng(seed)).parts) <= seen_good


def test_too_many_parts_for_a_compartment_is_an_error():
    with pytest.raises(DataError, match="expected room for"):
        place(np.random.default_rng(0), "cap", ["red_cap"] * 5)


@pytest.mark.parametrize("kind", FOOTPRINTS)
def test_footprints_are_the_areas_that_are_drawn(kind):
    unit_px = 4.0
    reach = 90
    axis = (np.arange(2 * reach * unit_px, dtype=np.float32) + 0.5) / unit_px - reach
    u, v = np.meshgrid(axis, axis)
    covers = [relief(kind, u, v, np.random.default_rng(seed), unit_px).cover.sum() / unit_px**2 for seed in range(2)]
    assert np.mean(covers) == pytest.approx(FOOTPRINTS[kind], rel=0.03)


def test_reliefs_are_finite_and_metals_are_metal():
    axis = np.linspace(-90, 90, 200, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    for kind in FOOTPRINTS:
        made = relief(kind, u, v, np.random.default_rng(0), 1.1)
        assert np.isfinite(made.height).all()
        assert made.cover.min() >= 0
        assert made.cover.max() <= 1
        assert made.metal == float(kind in ("nut", "washer", "short_screw", "long_screw"))


def test_same_arguments_same_bytes_other_arguments_other_bytes():
    first = make_sample(3, "train/good", 5, width_px=WIDTH)
    assert make_sample(3, "train/good", 5, width_px=WIDTH).jpeg == first.jpeg
    others = [(4, "train/good", 5), (3, "test/good", 5), (3, "train/good", 6)]
    assert all(make_sample(*other, width_px=WIDTH).jpeg != first.jpeg for other in others)


def test_the_picture_is_what_the_jpeg_holds():
    sample = make_sample(3, "train/good", 0, width_px=WIDTH)
    assert sample.image.shape == (240, 320, 3)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), cv2.IMREAD_COLOR), sample.image)
    drawn, _ = render(sample.scene, WIDTH)
    assert np.abs(drawn.astype(int) - sample.image).mean() < 4, f"JPEG {JPEG_QUALITY} must stay close to what was drawn"


@pytest.mark.parametrize("defect", DEFECT_TYPES, ids=lambda defect: defect.name)
def test_masks_cover_what_the_defect_changes(defect):
    for index in range(2):
        bad = make_sample(11, f"test/{defect.label}", index, defect, width_px=WIDTH)
        good = make_sample(11, f"test/{defect.label}", index, width_px=WIDTH)
        changed = cv2.absdiff(render(bad.scene, WIDTH)[0], render(good.scene, WIDTH)[0]).max(axis=2) > 14
        marked = np.any(bad.masks, axis=0)
        assert all(changed[mask].sum() >= 15 for mask in bad.masks)
        assert changed[~marked].sum() <= 0.01 * changed.sum()


@pytest.mark.parametrize("defect", STRUCTURAL_TYPES, ids=lambda defect: defect.name)
def test_structural_masks_are_not_much_larger_than_the_defect(defect):
    for index in range(3):
        bad = make_sample(12, f"test/{STRUCTURAL}", index, defect, width_px=WIDTH)
        assert len(bad.masks) == len(bad.scene.marks) >= 1
        assert all(0 < mask.mean() < 0.03 for mask in bad.masks)


def test_compartment_masks_follow_the_tray():
    sample = make_sample(5, "train/good", 1, width_px=WIDTH)
    mask = compartment_stencil(["cap"], sample.scene.look, WIDTH)
    (cap,) = [part for part in sample.scene.parts if part.compartment == "cap"]
    unit = WIDTH / 640
    c, s = np.cos(sample.scene.look.turn), np.sin(sample.scene.look.turn)
    x = (320 + c * cap.x + s * cap.y + sample.scene.look.shift_x) * unit
    y = (240 - s * cap.x + c * cap.y + sample.scene.look.shift_y) * unit
    assert mask[round(y), round(x)]
    blue, green, red = sample.image[round(y) - 12 : round(y) + 12, round(x) - 12 : round(x) + 12].mean(axis=(0, 1))
    strongest = {"red_cap": red > 1.5 * blue, "blue_cap": blue > 1.5 * red, "yellow_cap": min(red, green) > 1.5 * blue}
    assert strongest[cap.kind], "the cap lies where the scene says"


def test_nth_defect_takes_families_in_turn():
    families = [nth_defect(LOGICAL, i).family for i in range(5)]
    assert families == ["missing", "extra", "swapped", "wrong_combination", "wrong_count"]
    assert {nth_defect(LOGICAL, i).name for i in range(30)} == {defect.name for defect in LOGICAL_TYPES}
    assert [nth_defect(STRUCTURAL, i).name for i in range(4)] == ["scratch", "stain", "dent", "crack"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    return generate(root, seed=7, train=4, validation=2, test_good=2, logical=5, structural=4, width_px=WIDTH)


def test_the_folder_is_a_sound_loco_data_set(generated):
    dataset = open_dataset(generated)
    assert dataset.layout == "mvtec_loco"
    assert {split: len(dataset.select(split=split)) for split in ("train", "validation", "test")} == {
        "train": 4,
        "validation": 2,
        "test": 11,
    }
    for label in (LOGICAL, STRUCTURAL):
        names = [record.defect_type for record in dataset.select(label=label)]
        assert names == [nth_defect(label, i).name for i in range(len(names))]
    report = check(dataset)
    assert report.findings == ()
    assert report.sizes == {"320x240 bgr8": 17}
    about = json.loads((generated / "synthetic.json").read_text())
    assert (about["seed"], about["freedom"], about["counts"]["train/good"]) == (7, 1.0, 4)


def test_mask_files_hold_one_value_each_and_saturate_inside_their_area(generated):
    dataset = open_dataset(generated)
    defects = {defect.pixel_value: defect for defect in dataset.defects}
    assert len(defects) == len(DEFECT_TYPES)
    for record in dataset.select(split="test"):
        for path, channel in zip(record.masks, read_channels(record), strict=True):
            assert set(np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))) == {0, channel.pixel_value}
            defect = defects[channel.pixel_value]
            if not defect.relative_saturation:
                assert 0 < defect.saturation_threshold <= channel.mask.sum()


def test_counts_and_format_do_not_change_the_pictures(generated, tmp_path):
    few = generate(
        tmp_path,
        seed=7,
        train=1,
        validation=0,
        test_good=0,
        logical=2,
        structural=1,
        width_px=WIDTH,
        image_format="jpg",
    )
    for split, name in (("train/good", "000"), (f"test/{LOGICAL}", "001"), (f"test/{STRUCTURAL}", "000")):
        jpg, png = (cv2.imread(str(p)) for p in (few / split / f"{name}.jpg", generated / split / f"{name}.png"))
        np.testing.assert_array_equal(jpg, png)
    masks = [path.relative_to(few) for path in sorted((few / "ground_truth").rglob("*.png"))]
    assert masks
    assert all((few / mask).read_bytes() == (generated / mask).read_bytes() for mask in masks)


def test_a_folder_with_content_is_left_alone(generated):
    before = sorted(generated.rglob("*"))
    with pytest.raises(DataError, match="expected an empty or new folder"):
        generate(generated.parent, seed=1, train=1)
    assert sorted(generated.rglob("*")) == before


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(UsageError, match="png or jpg"):
        generate(tmp_path, seed=1, image_format="gif")
    with pytest.raises(UsageError, match="0 or more"):
        generate(tmp_path, seed=-1)
    with pytest.raises(UsageError, match="width of 160 to 2560"):
        make_sample(1, SPLITS[0], 0, width_px=150)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make"):
        generate(tmp_path / "file", seed=1)
    assert not (tmp_path / "kit_tray").exists()


def test_a_crop_is_a_view():
    height, metal, gloss = np.zeros((3, 480, 640), np.float32)
    field = Field(height, np.zeros((480, 640, 3), np.float32), metal, gloss, 1.0)
    rows, columns = field.window(0, 0, 10)
    field.crop(rows, columns).height[:] = 3
    assert field.height.sum() == 3 * (rows.stop - rows.start) * (columns.stop - columns.start)
    u, v = field.local(rows, columns, 0.0, 0.0, 0.0)
    np.testing.assert_allclose([u.mean(), v.mean()], 0.5, atol=1e-4)
    assert field.copy().height is not field.height


def test_less_freedom_keeps_parts_near_their_slots_and_the_rules_alike():
    spread = {}
    for freedom in (0.0, 0.25, 1.0):
        scenes = [draw_scene(np.random.default_rng([s, 0]), np.random.default_rng([s, 1]), freedom) for s in range(40)]
        assert [broken_rules(made.parts) for made in scenes] == [[]] * 40
        rings = [(part.x, part.y) for made in scenes for part in made.parts if part.compartment == "ring"]
        spread[freedom] = float(np.std(rings, axis=0).max())
        for defect in LOGICAL_TYPES:
            spoiled = [defect.spoil(made, np.random.default_rng(i)) for i, made in enumerate(scenes[:10])]
            assert all(broken_rules(bad.parts) for bad in spoiled)
    assert spread[0.0] == 0
    assert 0 < spread[0.25] < 0.7 * spread[1.0]


def test_any_slot_may_be_the_empty_one():
    places = {
        tuple(sorted((round(p.x), round(p.y)) for p in place(np.random.default_rng(seed), "nuts", ["nut"] * 2, 0.0)))
        for seed in range(30)
    }
    assert len(places) == 3


def test_a_freedom_outside_0_to_1_is_refused():
    with pytest.raises(UsageError, match="freedom of 0 to 1"):
        make_sample(1, "train/good", 0, width_px=WIDTH, freedom=1.2)
