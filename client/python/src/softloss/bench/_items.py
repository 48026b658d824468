"""What a load is made of."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from .. import _softloss
from .._arrays import FLOATS
from .._errors import InvalidArgumentError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_WIDTHS = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "uint8": 1}
ELEMENTWISE = ("sigmoid_cross_entropy", "binary_brier", "quality_focal")


def parse_bytes(text: str) -> int:
    """Return a number of bytes.

    >>> parse_bytes("8KiB"), parse_bytes("2 MB"), parse_bytes("100")
    (8192, 2000000, 100)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", text, re.IGNORECASE)
    unit = match.group(2).upper() if match else None
    if match is None or unit not in _UNITS:
        raise InvalidArgumentError(
            f"size: must be like 8KiB, 2MiB or 100000; was {text!r}", field="size"
        )
    return int(float(match.group(1)) * _UNITS[unit])


@dataclasses.dataclass(frozen=True)
class Item:
    """A kind of request.

    Attributes:
        shape: of the prediction.
        name: what results call it; by default its size.
        weight: its share of the requests, over the sum of all weights.
        loss: as `softloss.Engine.score` takes it.
        class_axis: of losses over classes; by default the last.
        prediction: dtype.
        label: dtype of dense labels, or ``int32`` or ``int64`` for class ids.
        gradient: dtype, or None for no gradient.
    """

    shape: tuple[int, ...]
    name: str = ""
    weight: float = 1
    loss: str = "softmax_cross_entropy"
    class_axis: int | None = -1
    prediction: str = "float32"
    label: str = "float32"
    gradient: str | None = "float32"

    def __post_init__(self) -> None:
        if self.prediction not in FLOATS:
            raise InvalidArgumentError(
                f"prediction: must be one of {', '.join(FLOATS)}; was {self.prediction!r}"
            )
        if not self.class_ids and self.label not in _WIDTHS:
            raise InvalidArgumentError(f"label: there is no dtype {self.label!r} of labels")

    @staticmethod
    def of_size(size: str | int, classes: int = 64, **fields: Any) -> Item:
        """Return an item [rows, classes] whose prediction and label take about `size` bytes."""
        total = size if isinstance(size, int) else parse_bytes(size)
        if classes < 1:
            raise InvalidArgumentError(f"classes: must be at least 1; was {classes}")
        item = Item(shape=(1, classes), **fields)
        rows = max(1, round(total / item.request_bytes))
        name = item.name or (size if isinstance(size, str) else f"{size} B")
        return dataclasses.replace(item, shape=(rows, classes), name=name)

    @property
    def class_ids(self) -> bool:
        """Whether labels are class ids, one a row."""
        return self.label in ("int32", "int64")

    @property
    def request_bytes(self) -> int:
        """Of prediction and label."""
        elements = math.prod(self.shape)
        if not self.class_ids:
            return elements * (_WIDTHS[self.prediction] + _WIDTHS[self.label])
        axis = -1 if self.class_axis is None else self.class_axis
        return (
            elements * _WIDTHS[self.prediction]
            + elements // self.shape[axis] * int(self.label.removeprefix("int")) // 8
        )

    def native(self) -> _softloss.LoadItem:
        """Return the item as the compiled generator takes it."""
        elementwise = self.loss in ELEMENTWISE
        spec = _softloss.Spec(
            self.loss,
            "mean",
            None,
            "report",
            0.0,
            [],
            [],
            None,
            None,
            [],
            "logits",
            None,
            None,
            False,
            {},
        )
        return _softloss.LoadItem(
            name=self.name or " x ".join(map(str, self.shape)),
            weight=self.weight,
            spec=spec,
            shape=list(self.shape),
            class_axis=None if elementwise else self.class_axis,
            prediction=self.prediction,
            label=self.label,
            class_ids=self.class_ids,
            row_sum=self.label == "uint8" and not elementwise,
            gradient=self.gradient,
        )
