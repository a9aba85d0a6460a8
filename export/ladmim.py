"""LADMIM as a bundle: its graphs and tables, what its calibration measures, and torch's own answer (methods card §6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lad_edge.export import ladmim_graphs as folded
from lad_edge.export.exporter import Exported, Raw, require_finite, trace, trace_from
from numpy.typing import NDArray
from torch import Tensor

from lad_edge.detectors.ladmim import Ladmim, LadmimConfig
from lad_edge.scoring import ladmim as scoring
from lad_edge.scoring.base import Normalisation
from lad_edge.scoring.ladmim import DECODE, ENCODE, MIM, standard, table_name

Values = NDArray[np.float64]


@torch.no_grad()
def export(networks: Ladmim, config: LadmimConfig, _border_mode: str) -> Exported:
    """Three graphs, the tables of the codebooks, the masks, and what the codes of good parts look like under them."""
    networks.eval()
    side, books = networks.side, folded.codebooks(networks.hvq)
    memory_width = networks.hvq.quantisers.memory_width
    rows = torch.zeros(2 + config.layers, side * side, 2 * memory_width)
    features = torch.zeros(1, networks.channels, side, side)
    parameters = {
        "channels": networks.channels,
        "code_width": config.code_width,
        "entries": config.entries,
        "levels": config.layers,
        "mask_statistics": config.mask_statistics,
        "masks": config.test_masks,
        "memory_width": memory_width,
        "psi": config.psi,
        "side": side,
        "structural_score": config.structural_score,
        "target": config.target,
        "width": config.width,
    }
    tables: dict[str, NDArray[Any]] = {
        table_name("masks"): networks.masks.numpy().astype(np.uint8),
        table_name("ranges"): networks.ranges.numpy(),
        table_name("places"): networks.places.numpy(),
        table_name("first"): folded.first_rows(networks.hvq).float().numpy(),
    }
    for name, book in zip(scoring.book_names(config.layers), books, strict=True):
        tables |= scoring.book_tables(name, book)
    encode, encoder = trace(folded.FoldedEncoder(networks), ENCODE, config.side, ["features", "tokens"])
    graphs = {
        # In bfloat16 3 % of the tokens fall to another code, and scores jump with them; in f32 it costs almost nothing.
        ENCODE: (replace(encode, precision="f32"), encoder),
        DECODE: trace_from(folded.FoldedDecoder(networks.hvq), DECODE, "rows", rows, ["rebuilt"]),
        MIM: trace_from(folded.FoldedMim(networks.mim, networks.masks), MIM, "features", features, ["predicted"]),
    }
    return Exported(graphs, parameters, tables)


def branches(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Both scores, the peak of the structural map, and each mask."""
    return scoring.branches(int(parameters["masks"]))


def normalise(raw: Raw, size: tuple[int, int], parameters: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Mean and mean + standard deviation of each branch over the validation images (decision L-8)."""
    require_finite(raw)
    maps, scores = raw["structural"].astype(np.float64), raw["logical"].astype(np.float64)
    names = scoring.mask_names(int(parameters["masks"]))
    levels = {name: _mean_and_above(scores[:, index]) for index, name in enumerate(names)}
    peaks = peak_values(maps, size[0])
    means = np.square(maps).mean((1, 2)) / int(parameters["channels"])
    levels["structural"] = _mean_and_above(peaks if parameters["structural_score"] == "max" else means)
    levels["peak"] = _mean_and_above(peaks)
    levels["logical"] = _mean_and_above(logical_values(scores, levels, parameters))
    return levels


def _mean_and_above(values: Values) -> tuple[float, float]:
    mean = float(values.mean())
    return mean, mean + max(float(values.std()), 1e-6 * max(1.0, abs(mean)))


def peak_values(maps: Values, size: int) -> Values:
    """(n, side, side) → (n,): the largest 16×16 mean of each enlarged map."""
    rows = scoring.peaks(maps.shape[-1], size).astype(np.float64)
    return np.asarray((rows @ maps @ rows.T).max((1, 2)))


def logical_values(scores: Values, levels: Mapping[str, tuple[float, float]], parameters: Mapping[str, Any]) -> Values:
    """(n, M) → (n,): the mean over masks of what a score exceeds its mask's mean by, in standard deviations if so configured."""
    pairs = [levels[name] for name in scoring.mask_names(scores.shape[1])]
    means, scales = np.array([pair[0] for pair in pairs]), np.array([standard(pair)[0] for pair in pairs])
    return np.asarray(((scores - means) * (scales if parameters["mask_statistics"] else 1.0)).mean(1))


def answer(
    networks: Ladmim, pixels: Tensor, normalisation: Normalisation, parameters: Mapping[str, Any]
) -> tuple[float, Raw]:
    """The unfolded networks with one mask after the other, codes in float64, and the scores in float64."""
    structural, scores, codes = (found.numpy() for found in networks(pixels))
    whole = structural[None].astype(np.float64)
    if parameters["structural_score"] == "max":
        value = float(peak_values(whole, pixels.shape[2])[0])
    else:
        value = float(np.square(whole).mean()) / int(parameters["channels"])
    logical = float(logical_values(scores[None].astype(np.float64), normalisation, parameters)[0])
    total = sum(
        scale * part + offset
        for part, (scale, offset) in (
            (value, standard(normalisation["structural"])),
            (logical, standard(normalisation["logical"])),
        )
    )
    return float(total), {"structural": structural, "logical": scores, "codes": codes.astype(np.float32)}
