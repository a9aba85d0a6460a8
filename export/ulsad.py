"""The graph of ULSAD: image → features, their reconstruction and the autoencoder's prediction of them; distances and tail are kernels.

Foldings, each exact: batch norms go into the convolutions before them, and the last deconvolution of the reconstruction network, which
has stride 1 and most of its work, is exported as the convolution that it is (methods card §4.2). The attention exists in training only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lad_edge.export.exporter import Exported, Raw, high_levels, trace
from lad_edge.export.folding import as_convolution, fold_batch_norms
from torch import Tensor, nn

from lad_edge.detectors.ulsad import Ulsad, UlsadConfig
from lad_edge.scoring.base import Normalisation, affine
from lad_edge.scoring.ulsad import GRAPH, tail


class FoldedUlsad(nn.Module):
    """Normalised image (N, 3, side, side) → U (N, c, h, w), reconstructions (N, 2c, h, w), and Û (N, c, h, w) where there is one."""

    def __init__(self, networks: Ulsad) -> None:
        super().__init__()
        folded = fold_batch_norms(networks)
        assert isinstance(folded, Ulsad)  # noqa: S101 - a copy of it
        self.networks, layers = folded, folded.reconstruction.layers
        last = max(index for index, layer in enumerate(layers) if isinstance(layer, nn.ConvTranspose2d))
        deconvolution = layers[last]
        assert isinstance(deconvolution, nn.ConvTranspose2d)  # noqa: S101 - chosen so
        final = as_convolution(deconvolution)
        if folded.autoencoder is None:  # nothing asks for the second half of the outputs
            final = first_outputs(final, folded.channels)
        layers[last] = final

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the edge needs to compute both distances."""
        described = self.networks.describe(image)
        found = (described, self.networks.reconstruction(described))
        return found if self.networks.autoencoder is None else (*found, self.networks.autoencoder(image))


def first_outputs(layer: nn.Conv2d, count: int) -> nn.Conv2d:
    """The convolution without its later outputs."""
    made = nn.Conv2d(layer.in_channels, count, layer.kernel_size, layer.stride, layer.padding)  # type: ignore[arg-type]
    made.weight, made.bias = (
        nn.Parameter(layer.weight[:count]),
        nn.Parameter(layer.bias[:count]),  # type: ignore[index]
    )
    return made


def fold(networks: Ulsad) -> FoldedUlsad:
    """The network to export; works on copies, the given networks stay as they are."""
    return FoldedUlsad(networks).eval().requires_grad_(False)


def export(networks: Ulsad, config: UlsadConfig, _border_mode: str) -> Exported:
    """One graph with the features and their reconstructions."""
    outputs = ["described", "reconstructed", *([] if config.local_only else ["predicted"])]
    parameters = {
        "blur": config.blur,
        "channels": networks.channels,
        "global_weight": config.global_weight,
        "local_only": config.local_only,
        "local_weight": config.local_weight,
        "maps_side": config.side // 8,
    }
    return Exported({GRAPH: trace(fold(networks), GRAPH, config.side, outputs)}, parameters)


def branches(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Local, and global where there is one."""
    return ("structural",) if parameters["local_only"] else ("structural", "logical")


def normalise(raw: Raw, size: tuple[int, int], parameters: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Quantiles of the maps as they come out: enlarged and blurred (methods card §4.5)."""
    enlarge = _enlarge(size, parameters)
    return high_levels({branch: np.float32(enlarge @ maps @ enlarge.T) for branch, maps in raw.items()})


def answer(
    networks: Ulsad, pixels: Tensor, normalisation: Normalisation, parameters: Mapping[str, Any]
) -> tuple[float, Raw]:
    """The unfolded networks, and the linear tail in float64."""
    raw = dict(zip(branches(parameters), networks(pixels)[0].numpy(), strict=True))
    enlarge = _enlarge((pixels.shape[2], pixels.shape[3]), parameters).astype(np.float64)
    full = np.zeros((), np.float64)
    for branch, small in raw.items():
        scale, offset = affine(normalisation[branch])
        full = full + (scale * (enlarge @ small @ enlarge.T) + offset) / len(raw)
    return float(full.max()), raw


def _enlarge(size: tuple[int, int], parameters: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    return tail(int(parameters["maps_side"]), size[0], float(parameters["blur"]))
