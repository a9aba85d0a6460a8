"""What a bundle says of pictures that must not be judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from lad_edge.bundle.fields import Fields, checked_list, finite_number
from lad_edge.bundle.layout import check_tensor_name
from lad_edge.bundle.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Gates:
    """Limits of `views.Quality` and of the part's shift, for the inspected region of the frame.

    median, brightness: a frame under both is dark. contrast, sharpness: the least. saturated: the largest share of the pixels. shift: the
    largest in shares of width and height, None if good parts lie anywhere. mean: float32 tensor (side, side), the mean small picture.
    measured: float32 tensor (n, 7), what each good part had. n, statement: parts that the limits rest on, and how.
    """

    median: float
    brightness: float
    saturated: float
    contrast: float
    sharpness: float
    shift: tuple[float, float] | None
    mean: str
    measured: str
    n: int
    statement: str


def parse_gates(value: object) -> Gates:
    """Return the gates in a JSON value; a missing, unknown or wrong key is refused by its dotted name."""
    fields = Fields(value, "gates")
    gates = Gates(
        median=fields.number("median"),
        brightness=fields.number("brightness"),
        saturated=fields.number("saturated"),
        contrast=fields.number("contrast"),
        sharpness=fields.number("sharpness"),
        shift=fields.optional("shift", _shift),
        mean=check_tensor_name(fields.text("mean")),
        measured=check_tensor_name(fields.text("measured")),
        n=fields.integer("n", 1, 2**31),
        statement=fields.text("statement"),
    )
    fields.end()
    return gates


def check_gates(gates: Gates, tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """Refuse tensors that are not what the gates say."""
    for name, key, columns in ((gates.mean, "mean", None), (gates.measured, "measured", 7)):
        tensor = tensors.get(name)
        if tensor is None:
            raise Refused("MANIFEST", f"'gates.{key}' names the tensor '{name}', which is not in the bundle")
        rows = gates.n if columns else tensor.shape[-1]
        if tensor.dtype != np.float32 or tensor.shape != (rows, columns or rows) or not np.isfinite(tensor).all():
            raise Refused(
                "SHAPE",
                f"'gates.{key}': expected finite F32 ({rows}, {columns or rows}), came {tensor.dtype} {tensor.shape}",
            )


def _shift(value: object, where: str) -> tuple[float, float]:
    return cast(
        "tuple[float, float]", tuple(float(finite_number(item, where)) for item in checked_list(value, 2, where))
    )
