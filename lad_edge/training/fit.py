"""Trains one detector on one data set of good images."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from lad_edge.backbones.frozen import weights_file
from lad_edge.datasets import Dataset
from lad_edge.detectors.batches import Images
from lad_edge.detectors.dfsc import DfscConfig, DfscTask
from lad_edge.detectors.efficient_ad import EfficientAd, EfficientAdConfig, EfficientAdTask
from lad_edge.detectors.fod import Fod, FodConfig, FodTask
from lad_edge.detectors.hvq import HvqTask
from lad_edge.detectors.ladmim import Ladmim, LadmimConfig, MimTask
from lad_edge.detectors.ulsad import Ulsad, UlsadConfig, UlsadTask
from lad_edge.errors import DataError, UsageError
from lad_edge.training.checkpoint import load_tensors, save_tensors
from lad_edge.training.photographs import load_photographs
from lad_edge.training.pictures import open_datasets, read_training_images, to_tensor
from lad_edge.training.plots import plot_losses
from lad_edge.training.presets import SCHEDULES
from lad_edge.training.run_folder import WEIGHTS, Frame, RunDescription, claim_folder, read_description
from lad_edge.training.trainer import LoopConfig, Task, choose_device, run_training

SHIPPED_TEACHERS = Path(__file__).parent.parent / "weights"
PHOTOGRAPH_SIDE = (
    512  # photographs of the penalty are brought to 512 and cropped to the network's side (methods card §2.5)
)


class Networks(Protocol):
    """What `fit` needs of a detector's networks, beside being a module: untrained when made from a configuration.

    Networks may have `specialise(images)`: after training on several categories they measure again what they keep of one category.
    """

    input_mean: Sequence[float]  # of RGB in [0, 1], as the frozen network wants it
    input_std: Sequence[float]

    def load_frozen(self, weights: Path | None) -> None:
        """Put pretrained weights into the frozen network."""

    def prepare(self, images: Images) -> None:
        """Measure what training needs of the images."""


@dataclass(frozen=True)
class Stage:
    """A task of a method. name: its folder in the run folder and the prefix of its settings (NAME_steps); "" for neither."""

    task: Callable[..., Any]  # (networks, images, config, ...) → Task
    name: str = ""

    def setting(self, of: str) -> str:
        """Name of the configuration's field, for example `steps`, of this stage."""
        return f"{self.name}_{of}" if self.name else of

    def with_steps(self, config: Any, images: int) -> Any:
        """The configuration with as many steps as the epochs hold, where it states epochs."""
        steps, epochs, batch = (self.setting(of) for of in ("steps", "epochs", "batch"))
        if getattr(config, steps):
            return config
        return replace(config, **{steps: getattr(config, epochs) * max(1, images // getattr(config, batch))})


@dataclass(frozen=True)
class Method:
    """The training half of a detector: configuration, networks of a configuration, and the tasks that train them one after the other."""

    config: type[Any]
    networks: Callable[[Any], Any]
    task: Callable[..., Any]  # of the first stage
    later: tuple[Stage, ...] = ()  # each begins with the finished result of the stages before it

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All of them, in order."""
        return (Stage(self.task), *self.later)


METHODS = {
    "efficient_ad": Method(EfficientAdConfig, EfficientAd.of, EfficientAdTask),
    "dfsc": Method(DfscConfig, EfficientAd.of, DfscTask),
    "ulsad": Method(UlsadConfig, Ulsad, UlsadTask),
    "fod": Method(FodConfig, Fod, FodTask),
    "ladmim": Method(LadmimConfig, Ladmim, HvqTask, later=(Stage(MimTask, "mim"),)),
}


@dataclass(frozen=True)
class FitOptions:
    """What is not part of the detector's recipe.

    categories: those of the data set that one detector is trained for, () = all that it holds; None: the data is one category.
    """

    categories: tuple[str, ...] | None = None
    layout: str = "auto"
    teacher: Path | None = None  # of efficient_ad, dfsc and ladmim; None = the one that ships
    weights: Path | None = (
        None  # of the frozen backbone of ulsad and fod; None = the published ones, by pip or download
    )
    photographs: Path | None = None  # for EfficientAD's penalty
    roi: tuple[int, int, int, int] | None = None
    device: str | None = None
    quiet: bool = False


def make_config(detector: str, settings: Mapping[str, Any]) -> Any:
    """The detector's configuration with `settings` over the paper's values. Raises UsageError for what is unknown or out of range."""
    if detector not in METHODS:
        raise UsageError(f"detector '{detector}': expected one of {', '.join(sorted(METHODS))}")
    kind = METHODS[detector].config
    unknown = set(settings) - set(kind.__dataclass_fields__)
    if unknown:
        raise UsageError(
            f"{detector} has no setting {', '.join(sorted(unknown))}; it has {', '.join(kind.__dataclass_fields__)}"
        )
    config = kind(**settings)
    if config.schedule not in SCHEDULES:
        raise UsageError(f"--schedule {config.schedule}: expected one of {', '.join(SCHEDULES)}")
    if config.batch < 1 or (config.steps < 1 and not hasattr(config, "epochs")):
        raise UsageError(f"--steps {config.steps} --batch {config.batch}: both must be at least 1")
    config.check()
    return config


def fit(detector: str, data: Path, out: Path, settings: Mapping[str, Any], options: FitOptions) -> RunDescription:
    """Train `detector` on the good images below `data` and fill the run folder `out`; the same call resumes a killed run.

    Several categories are one training set. Raises DataError for unusable images, UsageError for settings out of range,
    MissingDependencyError without a teacher's package.
    """
    config = make_config(detector, settings)
    device = choose_device(options.device)
    opened = open_datasets(data, options.layout, options.categories)
    datasets = [dataset.with_validation(seed=config.seed) for dataset in opened]
    pixels, frames = read_training_images(datasets, config.side, options.roi)
    method, frozen = METHODS[detector], _frozen_weights(config, options)
    for stage in method.stages:
        config = stage.with_steps(config, len(pixels))
    description = _describe(detector, config, data, datasets, frames, frozen, options)
    claim_folder(out, description)
    torch.manual_seed(config.seed)
    networks = method.networks(config)
    networks.load_frozen(frozen)
    networks.to(device, memory_format=torch.channels_last)
    images = Images(pixels, config.seed, device, networks.input_mean, networks.input_std)
    networks.prepare(images)
    photographs = _photographs(detector, config, options, device)
    seconds = 0.0
    for stage in method.stages:
        task: Task = stage.task(networks, images, config, **photographs)
        loop = LoopConfig(getattr(config, stage.setting("steps")), config.seed, quiet=options.quiet)
        seconds += _run_stage(task, loop, out / stage.name, detector)
    save_tensors(out / WEIGHTS, networks.state_dict(), {"detector": detector, **asdict(config)})
    done = RunDescription(
        **{**asdict(description), "provenance": {**description.provenance, "train_seconds": round(seconds)}}
    )
    done.write(out)
    return done


def _run_stage(task: Task, loop: LoopConfig, folder: Path, detector: str) -> float:
    """Train, or resume, one stage in its own folder; returns the seconds spent in all."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = run_training(task, loop, folder, {"detector": detector})
    plot_losses(folder / "losses.csv", folder / "losses.png")
    return seconds


def load_networks(folder: Path) -> tuple[RunDescription, Any, Any]:
    """The description, the configuration and the trained networks of a finished run, on the CPU. Raises DataError if it is unfinished."""
    description = read_description(folder)
    if not (folder / WEIGHTS).is_file():
        raise DataError(
            f"{folder}: the training has not finished (no {WEIGHTS}); run the same 'lad-edge train' command to resume it"
        )
    config = make_config(description.detector, description.config)
    networks = METHODS[description.detector].networks(config)
    tensors, _ = load_tensors(folder / WEIGHTS)
    networks.load_state_dict(tensors, strict=True)
    return description, config, networks.eval().requires_grad_(False)


def _frozen_weights(config: Any, options: FitOptions) -> Path | None:
    """The file that the frozen network is loaded from; None where it comes by pip."""
    if hasattr(config, "backbone"):
        if options.teacher is not None:
            raise UsageError("--teacher: this detector has a backbone, not a teacher; give --weights, or leave it out")
        return weights_file(config.backbone, options.weights)
    if options.weights is not None:
        raise UsageError("--weights: this detector has a teacher, not a backbone; give --teacher, or leave it out")
    return options.teacher or SHIPPED_TEACHERS / f"teacher_{config.size}.safetensors"


def _photographs(detector: str, config: Any, options: FitOptions, device: torch.device) -> dict[str, Images]:
    """Photographs for the penalty: 512, greyscale with probability 0.3, centre crop (methods card §2.5)."""
    if options.photographs is None:
        return {}
    if not getattr(config, "penalty", False):
        raise UsageError(f"--photographs: {detector} has no penalty on photographs; leave it out")
    scaled = to_tensor(load_photographs(options.photographs), "rgb8", PHOTOGRAPH_SIDE, None)
    generator = torch.Generator().manual_seed(config.seed)
    grey = torch.rand(len(scaled), generator=generator) < 0.3
    scaled[grey] = (scaled[grey] * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    start = (PHOTOGRAPH_SIDE - config.side) // 2
    cropped = scaled[:, :, start : start + config.side, start : start + config.side].contiguous()
    return {"photographs": Images(cropped, config.seed + 1, device)}


def _describe(
    detector: str,
    config: Any,
    data: Path,
    datasets: Sequence[Dataset],
    frames: Sequence[Frame],
    frozen: Path | None,
    options: FitOptions,
) -> RunDescription:
    several = options.categories is not None
    root = data if several else datasets[0].root
    names = {
        split: tuple(str(record.path.relative_to(root)) for d in datasets for record in d.select(split=split))
        for split in ("train", "validation")
    }
    width, height, pixel_format = (None, None, "") if several else frames[0]
    return RunDescription(
        detector=detector,
        name=root.resolve().name if several else root.name,
        config=asdict(config),
        data=str(root.resolve()),
        layout=options.layout if several else datasets[0].layout,
        **names,
        width=width,
        height=height,
        pixel_format=pixel_format,
        frames={dataset.category: frame for dataset, frame in zip(datasets, frames, strict=True)} if several else {},
        roi=options.roi,
        provenance={
            "data_sha256": _hash_files([root / name for name in (*names["train"], *names["validation"])]),
            "teacher_sha256": _hash_files([frozen]) if frozen and frozen.is_file() else "",
            "photographs": str(options.photographs.name) if options.photographs else "",
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )


def _hash_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
