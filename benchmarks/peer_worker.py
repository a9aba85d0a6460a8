"""anomalib as a contestant; runs in its own environment, which has no lad_edge (see benchmarks/peer.py).

python -m benchmarks.peer_worker export WEIGHTS TRUTH OUT HEIGHT WIDTH
python -m benchmarks.peer_worker serve MODEL FRAMES raw|resized THREADS
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestant import serve

PDN = {"conv1": "trunk.0", "conv2": "trunk.3", "conv3": "trunk.6", "conv4": "head"}
LAYERS = {
    **{f"{net}.{theirs}": f"{net}.{ours}" for net in ("teacher", "student") for theirs, ours in PDN.items()},
    **{f"ae.encoder.enconv{i + 1}": f"autoencoder.encoder.{2 * i}" for i in range(6)},
    **{f"ae.decoder.deconv{i + 1}": f"autoencoder.decoder.stages.{i}.0" for i in range(6)},
    "ae.decoder.deconv7": "autoencoder.decoder.head.0",
    "ae.decoder.deconv8": "autoencoder.decoder.head.2",
}  # anomalib's name → ours


def main() -> None:
    """Export or serve."""
    verb, *arguments = sys.argv[1:]
    verbs: dict[str, Callable[..., None]] = {"export": export, "serve": serve_peer}
    verbs[verb](*arguments)


def export(weights: str, truth: str, out: str, height: str, width: str) -> None:
    """Put our weights into anomalib's network, compare, and export it twice with anomalib's own export.

    weights: our safetensors. truth: npz with pixels (1, 3, h, w) in [0, 1], our raw maps (1, 2, m, m) of them, and the
    quantiles (structural low, high, logical low, high). Prints one JSON line: relative errors of the raw maps and of
    the exported models' maps.
    """
    import torch
    from anomalib.deploy import OpenVINOInferencer  # type: ignore[import-not-found]

    known = np.load(truth)
    module = build(weights, known["quantiles"])
    pixels = torch.from_numpy(known["pixels"])
    report: dict[str, object] = {"raw_map_error": relative_error(raw_maps(module.model, pixels), known["maps"])}
    side = tuple(pixels.shape[-2:])
    with torch.inference_mode():
        expected = module(pixels).anomaly_map.numpy()
    for name, size in (("raw", (int(height), int(width))), ("resized", side)):
        model = module.to_openvino(Path(out) / name, input_size=size)
        report[name] = str(model)
    exact = OpenVINOInferencer(str(report["resized"]), device="CPU", config={"INFERENCE_PRECISION_HINT": "f32"})
    found = exact.predict(known["pixels"][0].transpose(1, 2, 0)).anomaly_map
    report["export_error"] = relative_error(found, expected)
    print(json.dumps(report))


def serve_peer(model: str, frames: str, mode: str, threads: str) -> None:
    """`predict` on BGR frames as a user calls it; raw: the exported graph resizes, resized: OpenCV does it before."""
    import cv2
    from anomalib.deploy import OpenVINOInferencer

    cv2.setNumThreads(1)  # OpenVINO's pool is the only one, as with ours
    inferencer = OpenVINOInferencer(model, device="CPU", config={"INFERENCE_NUM_THREADS": int(threads)})
    height, width = (axis.get_length() for axis in list(inferencer.model.input(0).partial_shape)[-2:])  # N is dynamic

    def raw(picture: np.ndarray) -> float:
        return _score(inferencer.predict(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)))

    def resized(picture: np.ndarray) -> float:
        return raw(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))

    executed = inferencer.model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    call = {"raw": raw, "resized": resized}[mode]
    serve(
        call, np.load(frames), precision=executed, runtime=f"openvino {_version('openvino')}", peer=_version("anomalib")
    )


def build(weights: str, quantiles: np.ndarray) -> Any:
    """Anomalib's EfficientAd with our weights, quantiles, and thresholds inside its range as after a validation."""
    import torch
    from anomalib.models import EfficientAd  # type: ignore[import-not-found]
    from safetensors.torch import load_file

    ours = load_file(weights)
    channels = ours["mean"].shape[0]
    module = EfficientAd(teacher_out_channels=channels)
    layers = LAYERS
    if "autoencoder.decoder.head.0.weight" not in ours:
        module.model.ae = lent(Path(weights).parent / "autoencoder.pt2")
        layers = {theirs: name for theirs, name in LAYERS.items() if not theirs.startswith("ae.")}
    for theirs, name in layers.items():
        put(module.model, theirs, ours[f"{name}.weight"], ours[f"{name}.bias"])
    module.model.mean_std.update({key: ours[key][None] for key in ("mean", "std")})
    names = ("qa_st", "qb_st", "qa_ae", "qb_ae")
    module.model.quantiles.update({n: torch.tensor(float(q)) for n, q in zip(names, quantiles, strict=True)})
    post = module.post_processor
    for name, value in {"_image_threshold": 0.1, "image_min": -0.2, "image_max": 0.8}.items():
        setattr(post, name, torch.tensor(value))
        setattr(post, name.replace("image", "pixel"), torch.tensor(value))
    return module.eval()


def lent(program: Path) -> Any:
    """Our autoencoder in the place of anomalib's, which has no decoder like that of XS; pictures are normalised as it does."""
    import torch
    from anomalib.models.image.efficient_ad.torch_model import imagenet_norm_batch  # type: ignore[import-not-found]

    class Lent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.export.load(str(program)).module()

        def forward(self, pixels: Any, _image_size: object) -> Any:
            return self.inner(imagenet_norm_batch(pixels))

        def train(
            self, _mode: bool = True
        ) -> Lent:  # an exported program has no other mode than the one it was exported in
            self.training = False
            return self

    return Lent()


def put(model: Any, name: str, weight: Any, bias: Any) -> None:
    """Set a convolution's weights; one of another width, of which anomalib has no setting, is replaced by that width."""
    import torch

    parent_name, _, leaf = name.rpartition(".")
    old = getattr(model.get_submodule(parent_name), leaf)
    new = torch.nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride=old.stride, padding=old.padding)
    if old.kernel_size != new.kernel_size:
        raise ValueError(f"{name}: a kernel of {old.kernel_size} there, of {new.kernel_size} here")
    new.load_state_dict({"weight": weight, "bias": bias})
    setattr(model.get_submodule(parent_name), leaf, new)


def raw_maps(model: Any, pixels: Any) -> np.ndarray:
    """Mean squares over channels before padding, upsampling and normalisation: structural, logical."""
    import torch

    with torch.inference_mode():
        student, squares = model.compute_student_teacher_distance(pixels)
        imitates_autoencoder = student[:, model.teacher_out_channels :]
        logical = (model.ae(pixels, pixels.shape[-2:]) - imitates_autoencoder).square().mean(1)
        return torch.stack([squares.mean(1), logical], 1).numpy()


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest value."""
    if np.shape(found) != np.shape(expected):
        raise ValueError(f"maps of {np.shape(found)} there, of {np.shape(expected)} here")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _score(prediction: Any) -> float:
    return float(np.ravel(prediction.pred_score)[0])


def _version(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)


if __name__ == "__main__":
    main()
