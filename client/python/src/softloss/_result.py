"""What scoring returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import BFLOAT16

Array = npt.NDArray[Any]

Transport = Literal["wire", "shared_memory", "in_process"]


class Conditions(NamedTuple):
    """How often the input was out of the ordinary, over valid rows.

    Counts are of elements, except that `nonfinite_losses` and `unnormalized_labels` count rows for
    softmax losses.
    """

    nonfinite_predictions: int = 0
    nonfinite_labels: int = 0
    nonfinite_losses: int = 0
    unnormalized_labels: int = 0
    out_of_range_labels: int = 0
    #: Nothing was valid; a mean is then 0.
    empty: bool = False

    @property
    def clean(self) -> bool:
        """Whether there is nothing to report."""
        return not any(self)

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value}" for name, value in self._asdict().items() if value)
        return f"Conditions({said or 'clean'})"


class Timings(NamedTuple):
    """Where the time went, in seconds: the server's stages, summed over chunks, and `total`."""

    decode: float
    queue: float
    host_to_device: float
    compute: float
    device_to_host: float
    encode: float
    #: From the call to the result, in this process.
    total: float


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Result:
    """A loss and its gradient.

    >>> import numpy as np, softloss
    >>> with softloss.Engine() as engine:
    ...     result = engine.score(np.float32([20.0]), np.float32([1.0]))
    >>> f"{result.loss:.3g}"
    '2.06e-09'
    """

    #: After the reduction; for ``reduction="none"`` the sum.
    loss: float
    #: Σ row_weight · loss over valid rows.
    loss_sum: float
    #: What a mean divided by; 1 for other reductions.
    denominator: float
    #: What to multiply `gradient` by: 1 / denominator for a mean, otherwise 1.
    gradient_scale: float
    #: Of the unscaled gradient; 0 without one.
    gradient_l2_norm: float
    #: The gradient of `loss_sum` in the prediction's shape, as the kernel wrote it; or ``None``.
    #: It is not scaled, so that small types do not underflow under a mean.
    gradient: Array | None
    #: One loss a row (softmax losses), an element (sigmoid losses) or a region (of shape (images,
    #: classes)), before row weights reduce them; or ``None``.
    row_loss: Array | None
    #: Rows (softmax losses), elements (sigmoid losses) or regions that were neither masked nor
    #: ignored.
    valid_count: int
    conditions: Conditions
    timings: Timings
    #: Equal ids give equal bits: backend, build, SIMD target or GPU architecture.
    numerics_id: str
    #: How often the request was sent; 1 unless a connection broke.
    attempts: int = 1
    #: How the tensors got there: ``"shared_memory"`` if they did not travel (`Client.allocate`),
    #: ``"wire"``, or ``"in_process"`` from an `Engine`.
    transport: Transport = "in_process"

    def scaled_gradient(self, out: Array | None = None) -> Array:
        """Multiply the gradient by `gradient_scale`, once.

        Returns a new array of the gradient's dtype, or fills `out` (which may be `self.gradient`
        itself, or an array of a wider dtype).

        Raises:
            ValueError: the request asked for no gradient.
        """
        if self.gradient is None:
            raise ValueError("scaled_gradient: the request asked for no gradient")
        if out is None:
            out = np.empty_like(self.gradient)
        # The product is rounded once, into the output's type. bfloat16 has no wide multiply.
        if self.gradient.dtype == np.float64 or out.dtype == np.float64:
            np.multiply(self.gradient, self.gradient_scale, out=out, dtype=np.float64)
        elif self.gradient.dtype == BFLOAT16 or out.dtype == BFLOAT16:
            out[...] = self.gradient.astype(np.float32) * np.float32(self.gradient_scale)
        else:
            np.multiply(
                self.gradient,
                np.float32(self.gradient_scale),
                out=out,
                dtype=np.float32,
                casting="same_kind",
            )
        return out

    def __float__(self) -> float:
        return self.loss

    def __repr__(self) -> str:
        parts = [f"loss={self.loss:.9g}", f"valid_count={self.valid_count}"]
        for name in ("gradient", "row_loss"):
            array: Array | None = getattr(self, name)
            if array is not None:
                parts.append(f"{name}={array.dtype.name}{list(array.shape)}")
        if not self.conditions.clean:
            parts.append(repr(self.conditions))
        parts.append(f"{self.timings.total * 1e3:.3g} ms")
        return f"<softloss.Result {' '.join(parts)}>"
