"""The demo stream: one part a frame, decodable by the OpenCV wheel, and its truth."""

from __future__ import annotations

import json
import struct
from collections import Counter

import cv2
import numpy as np
import pytest

from lad_edge.datasets.synthetic import make_sample
from lad_edge.datasets.synthetic_defects import DEFECT_TYPES
from lad_edge.datasets.synthetic_scene import broken_rules
from lad_edge.datasets.synthetic_video import mjpeg_avi, render_video
from lad_edge.errors import DataError, UsageError

WIDTH = 320
TYPES = {defect.name: defect for defect in DEFECT_TYPES}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "stream.avi"
    return path, render_video(path, seed=5, parts=15, fps=12, width_px=WIDTH)


def frames(path):
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    while True:
        there, frame = capture.read()
        if not there:
            break
        yield frame
    capture.release()


def test_every_part_is_one_frame_and_the_pixels_are_those_of_the_stills(video):
    path, truth = video
    decoded = list(frames(path))
    assert len(decoded) == len(truth) == 15
    for part, frame in zip(truth, decoded, strict=True):
        sample = make_sample(5, "video", part.frame, TYPES.get(part.defect_type), width_px=WIDTH)
        # FFmpeg's inverse transform rounds differently from libjpeg's: 3 levels at most, colour planes being whole.
        assert np.abs(frame.astype(int) - sample.image).max() <= 4


def test_truth_agrees_with_the_scenes(video):
    _, truth = video
    assert [part.label for part in truth[:3]] == ["good"] * 3
    assert Counter(part.label for part in truth) == {"good": 9, "logical_anomalies": 4, "structural_anomalies": 2}
    for part in truth:
        sample = make_sample(5, "video", part.frame, TYPES.get(part.defect_type), width_px=WIDTH)
        assert sample.label == part.label
        assert bool(broken_rules(sample.scene.parts)) == (part.label == "logical_anomalies")
        assert bool(sample.scene.marks) == (part.label == "structural_anomalies")


def test_truth_lies_beside_the_video(video):
    path, truth = video
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["video"] == "stream.avi"
    assert [(f["frame"], f["part_id"], f["label"], f["defect_type"]) for f in told["frames"]] == [
        (p.frame, p.part_id, p.label, p.defect_type) for p in truth
    ]


def test_same_seed_same_file(video, tmp_path):
    path, truth = video
    again = tmp_path / "stream.avi"
    assert render_video(again, seed=5, parts=15, fps=12, width_px=WIDTH) == truth
    assert again.read_bytes() == path.read_bytes()


def test_size_and_rate_are_in_the_header(video):
    path, _ = video
    capture = cv2.VideoCapture(str(path))
    told = [capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)]
    capture.release()
    assert told == [WIDTH, 240, 12]


def test_the_container_holds_the_frames_untouched_and_its_index_finds_them():
    pictures = [make_sample(1, "video", i, width_px=160).jpeg for i in range(3)]
    data = mjpeg_avi(pictures, 160, 120, 10)
    assert struct.unpack_from("<4sI4s", data) == (b"RIFF", len(data) - 8, b"AVI ")
    movi, index = data.index(b"movi"), data.index(b"idx1")
    (length,) = struct.unpack_from("<I", data, index + 4)
    assert length == 16 * 3
    for i, picture in enumerate(pictures):
        name, _, offset, size = struct.unpack_from("<4sIII", data, index + 8 + 16 * i)
        assert name == data[movi + offset : movi + offset + 4] == b"00dc"
        assert data[movi + offset + 8 : movi + offset + 8 + size] == picture


def test_short_streams_work(tmp_path):
    assert [part.label for part in render_video(tmp_path / "a.avi", seed=1, parts=1, width_px=160)] == ["good"]


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"ends in \.avi"):
        render_video(tmp_path / "a.mp4", seed=1)
    with pytest.raises(UsageError, match="parts >= 1"):
        render_video(tmp_path / "a.avi", seed=1, parts=0)
    with pytest.raises(DataError, match="cannot write"):
        render_video(tmp_path / "gone" / "a.avi", seed=1, parts=1, width_px=160)
