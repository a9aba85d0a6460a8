"""What each layout on disk becomes, and what is said about folders that are none."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from dataset_samples import mask, photo, save
from PIL import Image

from lad_edge.datasets import categories, open_dataset, read_channels, read_masks
from lad_edge.datasets.check import check
from lad_edge.datasets.folder import open_folder
from lad_edge.errors import DataError, UsageError


def counts(dataset):
    return Counter((record.split, record.label) for record in dataset.records)


def test_plain_folder_is_good_training_images(folder):
    dataset = open_dataset(folder)
    assert (dataset.layout, dataset.category) == ("folder", "parts")
    assert counts(dataset) == {("train", "good"): 12}
    assert [record.path.name for record in dataset.records] == sorted(path.name for path in folder.iterdir())


def test_hidden_and_other_files_are_left_out(folder):
    save(folder / "._00.png", photo(90))
    (folder / "notes.txt").write_text("no image")
    assert len(open_dataset(folder).records) == 12


def test_bad_folder_is_test_with_defect_types(tmp_path, folder):
    save(tmp_path / "bad" / "a.png", photo(50))
    save(tmp_path / "bad" / "dent" / "b.png", photo(51))
    dataset = open_folder(folder, tmp_path / "bad")
    assert [(r.label, r.defect_type) for r in dataset.select(split="test")] == [
        ("defect", "defect"),
        ("defect", "dent"),
    ]
    shutil.move(folder, tmp_path / "good")
    (tmp_path / "set").mkdir()
    for name in ("good", "bad"):
        shutil.move(tmp_path / name, tmp_path / "set" / name)
    assert counts(open_dataset(tmp_path / "set")) == counts(dataset)
    assert open_dataset(tmp_path / "set").category == "set"


def test_mvtec_ad(mvtec_ad):
    dataset = open_dataset(mvtec_ad)
    assert dataset.layout == "mvtec_ad"
    assert counts(dataset) == {("train", "good"): 10, ("test", "good"): 1, ("test", "defect"): 2}
    bad = dataset.select(label="defect")[0]
    assert bad.defect_type == "scratch"
    np.testing.assert_array_equal(read_masks(bad), [mask() > 0])


def test_mvtec_ad_with_a_mask_missing_is_refused(mvtec_ad):
    (mvtec_ad / "ground_truth" / "scratch" / "001_mask.png").unlink()
    with pytest.raises(DataError, match=r"expected its mask .*001_mask\.png, found none"):
        open_dataset(mvtec_ad)


def test_without_any_ground_truth_there_are_no_masks(mvtec_ad):
    shutil.rmtree(mvtec_ad / "ground_truth")
    assert read_masks(open_dataset(mvtec_ad).select(label="defect")[0]) == []


@pytest.mark.parametrize(
    ("product", "suffix", "mask_suffix"), [("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")]
)
def test_btad_names_and_masks_by_stem(tmp_path, product, suffix, mask_suffix):
    root = tmp_path / product
    save(root / "train" / "ok" / f"0000.{suffix}", photo(1))
    save(root / "test" / "ok" / f"0000.{suffix}", photo(2))
    save(root / "test" / "ko" / f"0007.{suffix}", photo(3))
    truth = save(root / "ground_truth" / "ko" / f"0007.{mask_suffix}", mask())
    dataset = open_dataset(root)
    assert counts(dataset) == {("train", "good"): 1, ("test", "good"): 1, ("test", "defect"): 1}
    (bad,) = dataset.select(label="defect")
    assert (bad.defect_type, bad.masks) == ("ko", (truth,))
    np.testing.assert_array_equal(read_masks(bad), [mask() > 0])


def test_mpdd_has_several_defect_types(tmp_path):
    root = tmp_path / "metal_plate"
    save(root / "train" / "good" / "000.png", photo(1))
    save(root / "test" / "good" / "000.png", photo(2))
    for i, kind in enumerate(("major_rust", "scratches", "total_rust")):
        save(root / "test" / kind / "000.png", photo(3 + i))
        save(root / "ground_truth" / kind / "000_mask.png", mask())
    dataset = open_dataset(root)
    assert dataset.layout == "mvtec_ad"
    bad = dataset.select(label="defect")
    assert [record.defect_type for record in bad] == ["major_rust", "scratches", "total_rust"]
    assert {record.masks[0].parent.name for record in bad} == {record.defect_type for record in bad}


def test_grey_images_of_mvtec_ad_are_no_finding(mvtec_ad):
    """grid, screw and zipper have one channel."""
    for path in [*mvtec_ad.glob("train/*/*.png"), *mvtec_ad.glob("test/*/*.png")]:
        save(path, photo(int(path.stem) + len(path.parent.name))[..., 0])
    report = check(open_dataset(mvtec_ad))
    assert report.sizes == {"96x64 mono8": 13}
    assert not {finding.kind for finding in report.findings} & {"mixed_format", "pixel_format", "mask"}


def test_visa_goes_by_its_table(visa):
    dataset = open_dataset(visa / "candle")
    assert (dataset.layout, dataset.category) == ("visa", "candle")
    assert counts(dataset) == {("train", "good"): 3, ("test", "good"): 1, ("test", "defect"): 2}
    assert [record.path.name for record in dataset.select(split="train")] == ["0000.JPG", "0002.JPG", "0003.JPG"]
    bad = dataset.select(label="defect")
    assert {record.defect_type for record in bad} == {"anomaly"}
    for record, kind in zip(bad, (1, 3), strict=True):
        (channel,) = read_channels(record)
        assert channel.pixel_value == kind
        np.testing.assert_array_equal(channel.mask, mask(width=80) > 0)


def test_visa_opens_from_inside_its_folder(visa, monkeypatch):
    monkeypatch.chdir(visa / "candle")
    assert open_dataset(".").records == open_dataset(visa / "candle").records


def test_converted_visa_is_laid_out_like_mvtec_ad(tmp_path):
    root = tmp_path / "candle"
    for name in ("train/good/0001", "test/good/0002", "test/bad/000"):
        save(root / f"{name}.JPG", photo(len(name)))
    save(root / "ground_truth" / "bad" / "000.png", mask())
    (bad,) = open_dataset(root).select(label="defect")
    assert (bad.defect_type, bad.masks[0].name) == ("bad", "000.png")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("object,split", "category,split", "expected columns object, split"),
        ("candle,", "capsules,", r"expected images of candle, found those of \['capsules', 'pcb1'\]"),
        ("candle,train", "candle,validation", "found validation normal"),
        ("Normal/0002", "Normal/0009", r"expected candle/Data/Images/Normal/0009\.JPG in .*, found none"),
        ("candle/Data/Masks/Anomaly/001", "../elsewhere/001", r"expected \.\./elsewhere/001\.png in"),
        ("pcb1", "\0\xff", "expected a table of text"),
    ],
)
def test_a_wrong_visa_table_is_named(visa, old, new, message):
    table = visa / "split_csv" / "1cls.csv"
    table.write_bytes(table.read_text().replace(old, new).encode("latin-1"))
    with pytest.raises(DataError, match=message):
        open_dataset(visa / "candle")


def test_visa_without_its_table_says_where_it_belongs(visa):
    shutil.rmtree(visa / "split_csv")
    with pytest.raises(DataError, match=r"cannot read .*1cls\.csv: .*; it comes with VisA"):
        open_dataset(visa / "candle")


def test_mvtec_loco_keeps_channels_apart_and_names_them(mvtec_loco):
    dataset = open_dataset(mvtec_loco)
    assert dataset.layout == "mvtec_loco"
    (logical,) = dataset.select(label="logical_anomalies")
    assert logical.defect_type == "missing_nut + extra_nut"
    channels = read_channels(logical)
    assert [channel.pixel_value for channel in channels] == [255, 254]
    np.testing.assert_array_equal(channels[1].mask, mask() > 0)
    assert dataset.select(label="structural_anomalies")[0].defect_type == "scratch"
    assert [(d.name, d.saturation_threshold, d.relative_saturation) for d in dataset.defects] == [
        ("missing_nut", 120, False),
        ("extra_nut", 0.5, True),
        ("scratch", 1.0, True),
    ]


def test_mvtec_loco_without_config_falls_back_to_the_label(mvtec_loco):
    (mvtec_loco / "defects_config.json").unlink()
    assert open_dataset(mvtec_loco).select(label="logical_anomalies")[0].defect_type == "logical_anomalies"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected MVTec LOCO's list"),
        ("{}x", "expected MVTec LOCO's list"),
        ("5", "expected MVTec LOCO's list"),
        ('[{"defect_name": "a"}]', "'pixel_value' is missing"),
    ],
)
def test_a_broken_config_is_named(mvtec_loco, content, message):
    (mvtec_loco / "defects_config.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_dataset(mvtec_loco)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pixel_value", 0, "pixel_value of 1 to 255"),
        ("pixel_value", "255", "pixel_value of 1 to 255"),
        ("saturation_threshold", 0, "above 0"),
        ("saturation_threshold", True, "above 0"),
        ("relative_saturation", 1, "true or false"),
        ("relative_saturation", True, "at most 1"),
    ],
)
def test_wrong_values_in_the_config_are_named(mvtec_loco, key, value, message):
    path = mvtec_loco / "defects_config.json"
    entries = json.loads(path.read_text())
    entries[0][key] = value
    path.write_text(json.dumps(entries))
    with pytest.raises(DataError, match=message):
        open_dataset(mvtec_loco)


def test_mvtec_3d_reads_rgb_and_the_masks_beside_it(mvtec_3d):
    dataset = open_dataset(mvtec_3d)
    assert dataset.layout == "mvtec_3d"
    assert counts(dataset) == {
        ("train", "good"): 4,
        ("validation", "good"): 1,
        ("test", "good"): 1,
        ("test", "defect"): 1,
    }
    (bad,) = dataset.select(label="defect")
    assert bad.defect_type == "cut"
    assert read_masks(bad)[0].sum() == 200
    assert dataset.select(split="test", label="good")[0].masks == ()


def test_masks_of_several_sizes_or_in_colour_are_refused(mvtec_loco):
    truth = mvtec_loco / "ground_truth" / "logical_anomalies" / "000"
    record = open_dataset(mvtec_loco).select(label="logical_anomalies")[0]
    save(truth / "001.png", mask(254, width=80))
    with pytest.raises(DataError, match="masks of one size"):
        read_masks(record)
    save(truth / "001.png", photo(1))
    with pytest.raises(DataError, match="mask of 8-bit grey, got bgr8"):
        read_masks(record)


def test_validation_is_a_seeded_tenth_of_train_and_never_test(mvtec_ad):
    dataset = open_dataset(mvtec_ad)
    split = dataset.with_validation(seed=3)
    assert counts(split)["validation", "good"] == 1
    assert split.select(split="test") == dataset.select(split="test")
    assert split == dataset.with_validation(seed=3)
    chosen = {dataset.with_validation(seed).select(split="validation")[0].path for seed in range(12)}
    assert len(chosen) > 3
    everything = {record.path for record in dataset.records}
    assert {record.path for record in split.records} == everything
    assert len(dataset.with_validation(seed=0, fraction=0.999).select(split="train")) == 1


def test_an_own_validation_split_is_kept(mvtec_loco):
    dataset = open_dataset(mvtec_loco)
    assert dataset.with_validation(seed=0) is dataset


def test_good_test_images_can_be_set_aside_beside_validation(folder):
    dataset = open_dataset(folder).with_validation(seed=0).with_test_good(seed=0)
    assert counts(dataset) == {("train", "good"): 10, ("validation", "good"): 1, ("test", "good"): 1}


def test_splits_need_two_images_and_a_fraction(tmp_path, folder):
    save(tmp_path / "one" / "a.png", photo(1))
    with pytest.raises(DataError, match="at least 2 good training images"):
        open_dataset(tmp_path / "one").with_validation(seed=0)
    with pytest.raises(UsageError, match="between 0 and 1"):
        open_dataset(folder).with_validation(seed=0, fraction=1.5)
    with pytest.raises(UsageError, match="expected a split of"):
        open_dataset(folder).select(split="val")


def test_folders_that_are_no_data_set(tmp_path, folder):
    with pytest.raises(DataError, match="found nothing"):
        open_dataset(tmp_path / "gone")
    with pytest.raises(DataError, match="found a file"):
        open_dataset(folder / "00.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected good images directly in it"):
        open_dataset(tmp_path / "empty")
    with pytest.raises(DataError, match="found none"):
        open_dataset(tmp_path / "empty", layout="mvtec_loco")
    with pytest.raises(UsageError, match="expected a layout of auto"):
        open_dataset(folder, layout="coco")


def test_a_folder_of_categories_names_one_to_choose(mvtec_loco):
    with pytest.raises(DataError, match=r"give one of its 1, e\.g\. .*box"):
        open_dataset(mvtec_loco.parent)


def test_grey_masks_may_be_stored_as_colour_or_with_a_palette(mvtec_loco):
    path = mvtec_loco / "ground_truth" / "logical_anomalies" / "000" / "001.png"
    record = open_dataset(mvtec_loco).select(label="logical_anomalies")[0]
    save(path, np.dstack([mask(254)] * 3))
    assert read_channels(record)[1].pixel_value == 254
    palette = Image.fromarray((mask() > 0).astype(np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 200, 0, 30])
    palette.save(path)
    np.testing.assert_array_equal(read_masks(record)[1], mask() > 0)


def test_categories_are_the_folders_that_open(visa, mvtec_ad, mvtec_loco, folder):
    assert categories(visa) == [visa / "candle"]
    assert categories(mvtec_loco.parent) == [mvtec_loco, mvtec_ad]  # `parts` beside them is a plain folder
    for root in (mvtec_ad, visa / "candle", folder):
        assert categories(root) == [root]


def test_categories_of_plain_folders(tmp_path):
    for name in ("nuts", "bolts"):
        save(tmp_path / name / "good" / "0.png", photo(1))
    (tmp_path / "notes").mkdir()
    assert [path.name for path in categories(str(tmp_path))] == ["bolts", "nuts"]
    with pytest.raises(DataError, match="expected a category or folders that are some, found none"):
        categories(tmp_path / "notes")


def test_juice_bottle(shared):
    dataset = open_dataset(shared / "mvtec_loco" / "juice_bottle")
    assert counts(dataset) == {
        ("train", "good"): 295,
        ("validation", "good"): 64,
        ("test", "good"): 30,
        ("test", "logical_anomalies"): 142,
    }
    values = {defect.pixel_value for defect in dataset.defects}
    for record in dataset.select(label="logical_anomalies")[:20]:
        assert all(
            c.pixel_value in values and c.mask.any() and c.mask.shape == (800, 400) for c in read_channels(record)
        )


def test_tire(shared):
    dataset = open_dataset(shared / "mvtec_3d" / "tire")
    assert dataset.layout == "mvtec_3d"
    assert counts(dataset)["test", "defect"] == 87
    assert {record.defect_type for record in dataset.select(label="defect")} == {
        "combined",
        "contamination",
        "cut",
        "hole",
    }
