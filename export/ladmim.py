"""The graphs and tables of LADMIM: image → features and tokens, memories → rebuilt features, features → predictions under fixed masks.

Foldings, each exact (methods card §6.7, §10.2):
* the standardisation of the features goes into the teacher's last convolution: it commutes with the 2×2 mean;
* ψ is linear: what it makes of the top entry is a table with one row for each top code; behind the identity ψ the top entry's share of
  the score is a table over both codes. Memories are tables too: decoding begins with a look-up;
* LayerScale goes into the layer before it;
* the masks are constants: patches are projected and enter the first attention once, not once for each mask, and what stands for a
  hidden patch there is a constant;
* the last layer is computed only for the tokens that are predicted from, which see all others through their keys and values: for
  histograms the prediction token, for other targets the hidden tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from lad_edge.export.efficient_ad import first_in_two_parts, fold_standardisation
from lad_edge.export.exporter import Exported, Raw, require_finite, trace, trace_from
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lad_edge.detectors.hvq import Quantisers
from lad_edge.detectors.ladmim import Block, Ladmim, LadmimConfig, MimTransformer
from lad_edge.kernels import Codebook
from lad_edge.scoring import ladmim as scoring
from lad_edge.scoring.base import Normalisation
from lad_edge.scoring.ladmim import DECODE, ENCODE, MIM, standard, table_name

Values = NDArray[np.float64]


class FoldedEncoder(nn.Module):
    """Normalised image (1, 3, 224, 224) → h0 (1, C, side, side) and tokens (1 + levels, L, d) in the order of the codebooks."""

    def __init__(self, networks: Ladmim) -> None:
        super().__init__()
        self.trunk = first_in_two_parts(networks.teacher.trunk)
        self.head = fold_standardisation(networks.teacher.head, networks.mean, networks.std)
        self.hvq = networks.hvq

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As `Ladmim.describe` and `Hvq.encode`."""
        features = functional.avg_pool2d(self.head(self.trunk(image)), 2)
        return features, torch.cat(self.hvq.encode(features))


class FoldedDecoder(nn.Module):
    """Memories (levels, L, m), deepest first → ĥ0 (1, C, side, side)."""

    def __init__(self, networks: Ladmim) -> None:
        super().__init__()
        self.hvq = networks.hvq

    def forward(self, memories: Tensor) -> Tensor:
        """As `Hvq.decode`."""
        return self.hvq.decode(list(memories.chunk(len(memories))))


class FoldedMim(nn.Module):
    """h0 (1, C, side, side) → the target's predictions for fixed masks (M, L): logits (M, levels, K) for histograms."""

    masks: Tensor
    first: Tensor
    hidden: Tensor
    asked: Tensor

    def __init__(self, network: MimTransformer, masks: Tensor) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        self.network.blocks = nn.ModuleList(fold_layer_scale(block) for block in network.blocks)  # type: ignore[arg-type]
        self.register_buffer("masks", masks[..., None])
        self.register_buffer("first", (network.prediction + network.position[0])[None, None])
        self.register_buffer("hidden", (network.hidden + network.position[1:])[None])
        rows = torch.arange(masks.shape[0] * (1 + masks.shape[1])).view(len(masks), -1)
        self.register_buffer(
            "asked", network.target.asked(rows, masks)
        )  # of all masks' tokens in one line: (M,) or (M, n)
        block: Block = self.network.blocks[0]  # type: ignore[assignment]
        for name, tokens in (("first", self.first), ("hidden", self.hidden)):
            for part, values in zip("qkv", _queries_keys_values(block, tokens), strict=True):
                self.register_buffer(f"{name}_{part}", values)

    def forward(self, features: Tensor) -> Tensor:
        """As `MimTransformer` with each mask."""
        network, seen = self.network, self.network.embed(features.flatten(2).transpose(1, 2))
        seen = seen + network.position[1:]
        x = self._blend("", seen)
        qkv = _queries_keys_values(network.blocks[0], seen)  # type: ignore[arg-type]
        q, k, v = (self._blend(f"_{part}", values) for part, values in zip("qkv", qkv, strict=True))
        for index, block in enumerate(network.blocks):
            asking = self._asking if index == len(network.blocks) - 1 else _all
            if index:
                normed = block.norm_attend(x)  # type: ignore[operator]
                attend = block.attend
                q, k, v = attend.query(asking(normed)), attend.key(normed), attend.value(normed)  # type: ignore[operator, union-attr]
            else:
                q = asking(q)
            x = asking(x) + block.attend.mix(q, k, v)  # type: ignore[operator, union-attr]
            x = x + block.mlp(block.norm_mlp(x))  # type: ignore[operator]
        predicted = network.predict(network.norm(x)).reshape(*self.asked.shape, *network.target.shape)
        return network.target.finish(predicted)

    def _asking(self, tokens: Tensor) -> Tensor:
        """(M, 1 + L, d) → (M, k, d): those that are predicted from."""
        return tokens.flatten(0, 1)[self.asked.flatten()].reshape(len(tokens), -1, tokens.shape[2])

    def _blend(self, name: str, seen: Tensor) -> Tensor:
        """The prediction token's row, then the constant where a mask hides and `seen` where it does not: (M, 1 + L, d)."""
        tokens = torch.where(self.masks, getattr(self, f"hidden{name}"), seen)
        return torch.cat([getattr(self, f"first{name}").expand(len(tokens), -1, -1), tokens], 1)


def _all(tokens: Tensor) -> Tensor:
    return tokens


def _queries_keys_values(block: Block, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    normed, attend = block.norm_attend(tokens), block.attend
    return attend.query(normed), attend.key(normed), attend.value(normed)


@torch.no_grad()
def fold_layer_scale(block: Block) -> Block:
    """A copy whose last layers of attention and MLP are scaled, and which scales nothing afterwards."""
    folded = copy.deepcopy(block)
    scaled: list[tuple[Any, Tensor]] = [
        (folded.attend.project, folded.scale_attend),
        (folded.mlp[-1], folded.scale_mlp),
    ]
    for layer, scale in scaled:
        layer.weight.mul_(scale[:, None])
        layer.bias.mul_(scale)
        scale.fill_(1.0)
    return folded


@torch.no_grad()
def codebooks(quantisers: Quantisers) -> list[Codebook]:
    """The tables of `kernels.Quantizer`: the top codebook, then the levels, deepest first."""
    books = [book.entries.double() for book in quantisers.books()]
    top, width = quantisers.top.entries.double(), books[0].shape[1]
    if not isinstance(quantisers.psi_top, nn.Linear):
        nothing = torch.zeros(1, width)
        made = [_tables(None, nothing, top, _half_norms(top)[None], None)]
        for entries in books[1:]:
            bias = top @ entries[:, width:].T + _half_norms(entries)
            made.append(_tables(None, nothing, entries[:, :width], bias, entries))
        return made
    psi, levels = quantisers.psi_top, cast("list[nn.Linear]", list(quantisers.psi))
    made = [_tables(psi.weight, psi.bias[None], top, _half_norms(top)[None], None)]
    for entries, level, remember in zip(books[1:], levels, quantisers.remember, strict=True):
        weight, bias = level.weight.double(), level.bias.double()
        own = weight.shape[1] - width
        shift = top @ weight[:, own:].T + bias
        memory = remember(entries.float())
        made.append(_tables(weight[:, :own], shift, entries, _half_norms(entries)[None], memory))
    return made


def _half_norms(entries: Tensor) -> Tensor:
    return -0.5 * entries.square().sum(1)


def _tables(*tables: Tensor | None) -> Codebook:
    return Codebook(*(None if table is None else np.ascontiguousarray(table.float().numpy()) for table in tables))  # type: ignore[arg-type]


@torch.no_grad()
def export(networks: Ladmim, config: LadmimConfig, _border_mode: str) -> Exported:
    """Three graphs, the tables of the codebooks, the masks, and what the codes of good parts look like under them."""
    networks.eval()
    side, books = networks.side, codebooks(networks.hvq.quantisers)
    memory_width = networks.hvq.quantisers.memory_width
    memories = torch.zeros(config.layers, side * side, memory_width)
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
    }
    for name, book in zip(scoring.book_names(config.layers), books, strict=True):
        tables |= scoring.book_tables(name, book)
    graphs = {
        ENCODE: trace(FoldedEncoder(networks), ENCODE, config.side, ["features", "tokens"]),
        DECODE: trace_from(FoldedDecoder(networks), DECODE, "memories", memories, ["rebuilt"]),
        MIM: trace_from(FoldedMim(networks.mim, networks.masks), MIM, "features", features, ["predicted"]),
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
