"""No damaged bundle is accepted: every byte of the file is fixed by the manifest or by a tensor hash.

Each family of mutants is seeded and large enough to matter; negative controls switch one step of the loader off and
show that the same mutants get through then, so the test can fail.
"""

from __future__ import annotations

import json
import random
import struct
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from bundle_samples import sample_manifest, sample_tensors

from lad_edge import bundle
from lad_edge.bundle import reader
from lad_edge.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Rng = random.Random
COUNT = 6_000  # mutants of each of the seven families


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path: Path = tmp_path_factory.mktemp("bundle") / "good.lad"
    bundle.write(path, sample_manifest(), sample_tensors())
    data = path.read_bytes()
    bundle.loads(data)
    return data


def flip(data: bytes, rng: Rng) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def overwrite(data: bytes, rng: Rng) -> bytes:
    at, length = rng.randrange(len(data)), rng.randint(1, 16)
    return (data[:at] + rng.randbytes(length) + data[at + length :])[: len(data)]


def truncate(data: bytes, rng: Rng) -> bytes:
    return data[: rng.randrange(len(data))]


def append(data: bytes, rng: Rng) -> bytes:
    return data + (bytes if rng.random() < 0.5 else rng.randbytes)(rng.randint(1, 64))


def insert_or_delete(data: bytes, rng: Rng) -> bytes:
    at, length = rng.randrange(len(data)), rng.randint(1, 8)
    return data[:at] + rng.randbytes(length) + data[at:] if rng.random() < 0.5 else data[:at] + data[at + length :]


def swap(data: bytes, rng: Rng) -> bytes:
    length = rng.randint(1, 64)
    low, high = sorted(rng.sample(range(0, len(data) - length, length), 2))
    first, second = data[low : low + length], data[high : high + length]
    return data[:low] + second + data[low + length : high] + first + data[high + length :]


def rewrite_header(data: bytes, rng: Rng) -> bytes:
    """Another header over the same tensors and the same manifest, of the kinds that safetensors readers accept."""
    length = struct.unpack_from("<Q", data)[0]
    text = rng.choice((spaced, reordered, retyped, reshaped, duplicated, extended))(data[8 : 8 + length].decode(), rng)
    encoded = text.encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + data[8 + length :]


def spaced(text: str, rng: Rng) -> str:
    if rng.random() < 0.3:
        return text.rstrip() + " " * (8 * rng.randint(1, 9))
    return json.dumps(json.loads(text), separators=rng.choice([(", ", ":"), (",", ": "), (" ,", " :")]))


def reordered(text: str, rng: Rng) -> str:
    items = list(json.loads(text).items())
    rng.shuffle(items)
    return json.dumps(dict(items), separators=(",", ":"))


def retyped(text: str, rng: Rng) -> str:
    header = json.loads(text)
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    entry["dtype"] = rng.choice(
        ["I8", "U8", "BOOL", "BF16", "F16", "I16", "U32", "F32", "I32", "U64", "F64", "I64", "X9"]
    )
    return json.dumps(header, separators=(",", ":"))


def reshaped(text: str, rng: Rng) -> str:
    header = json.loads(text)
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    entry["shape"] = rng.choice([[*entry["shape"], 1], [1, *entry["shape"]], entry["shape"][::-1], [-1], [2**62, 4]])
    return json.dumps(header, separators=(",", ":"))


def duplicated(text: str, rng: Rng) -> str:
    name, entry = rng.choice(list(json.loads(text).items()))
    return text.replace("{", "{" + json.dumps(name) + ":" + json.dumps(entry, separators=(",", ":")) + ",", 1)


def extended(text: str, rng: Rng) -> str:
    header = json.loads(text)
    entry = header[rng.choice(list(header))]
    entry[rng.choice(["comment", "lad_edge_more", "dtype2"])] = "x"
    return json.dumps(header, separators=(",", ":"))


FAMILIES = (flip, overwrite, truncate, append, insert_or_delete, swap, rewrite_header)


def mutants(data: bytes, mutate: Callable[[bytes, Rng], bytes], seed: int) -> Iterator[bytes]:
    rng = Rng(seed)
    while True:
        mutant = mutate(data, rng)
        if mutant != data:
            yield mutant


def accepted(data: bytes, mutate: Callable[[bytes, Rng], bytes], count: int) -> int:
    """How many mutants the loader takes; anything but BundleError ends the test."""
    return sum(map(is_accepted, islice(mutants(data, mutate, seed=20_261), count)))


def is_accepted(mutant: bytes) -> bool:
    try:
        bundle.loads(mutant)
    except BundleError:
        return False
    return True


@pytest.mark.parametrize("mutate", FAMILIES, ids=lambda mutate: mutate.__name__)
def test_no_mutant_is_accepted(good: bytes, mutate: Callable[[bytes, Rng], bytes]) -> None:
    assert accepted(good, mutate, COUNT) == 0


def test_every_single_byte_matters(good: bytes) -> None:
    for at in range(len(good)):
        with pytest.raises(BundleError):
            bundle.loads(good[:at] + bytes([good[at] ^ 0x01]) + good[at + 1 :])


@pytest.mark.parametrize("key", ["lad_edge", "lad_edge_sha256", "golden/frames"])
def test_a_splice_of_two_good_bundles_is_refused(good: bytes, tmp_path: Path, key: str) -> None:
    tensors = sample_tensors()
    tensors["golden/frames"] = 255 - tensors["golden/frames"]
    bundle.write(tmp_path / "other.lad", sample_manifest(metrics={"image_auroc": 0.12}), tensors)
    other = (tmp_path / "other.lad").read_bytes()
    length, other_length = (struct.unpack_from("<Q", data)[0] for data in (good, other))
    assert length == other_length
    header, other_header = (json.loads(data[8 : 8 + length]) for data in (good, other))
    if key in header:  # the other tensors under the good header
        spliced = good[: 8 + length] + other[8 + length :]
    else:
        header["__metadata__"][key] = other_header["__metadata__"][key]
        text = json.dumps(header, separators=(",", ":")).encode()
        spliced = good[:8] + text + b" " * (length - len(text)) + good[8 + length :]
    with pytest.raises(BundleError):
        bundle.loads(spliced)


def test_control_without_the_rebuilt_header_some_get_through(good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_check_rebuilt_header", lambda *_: None)
    assert accepted(good, rewrite_header, 300) > 50


def test_control_without_tensor_hashes_some_get_through(good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    class Agreeable(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __ne__(self, other: object) -> bool:
            return False

    parse = reader.parse_manifest

    def without_hashes(value: dict[str, dict[str, dict[str, str]]]) -> object:
        manifest = parse(value)
        for info in manifest.tensors.values():
            object.__setattr__(info, "sha256", Agreeable(info.sha256))
        return manifest

    monkeypatch.setattr(reader, "parse_manifest", without_hashes)
    assert accepted(good, flip, 300) > 50
