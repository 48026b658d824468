"""Scoring in this process."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from . import _softloss
from ._request import (
    ArrayLike,
    ScoreOptions,
    finish,
    prepare,
    takes_score_options,
)
from ._result import Result

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Engine:
    """Scores in this process, with the kernels that the server runs.

    The bits are those of a server with an equal `numerics_id`, and do not depend on `threads`.
    Any number of Python threads may call `score` at the same time; the GIL is released meanwhile.

    >>> import numpy as np, softloss
    >>> engine = softloss.Engine()
    >>> logits = np.float32([[2.0, 0.5, -1.0], [0.0, 1.0, 0.0]])
    >>> labels = np.float32([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    >>> result = engine.score(logits, labels, loss="softmax_cross_entropy")
    >>> round(result.loss, 6)
    0.796378
    >>> result.gradient.shape, result.gradient_scale
    ((2, 3), 0.5)
    """

    def __init__(self, backend: str = "cpu", threads: int | None = None) -> None:
        """Make an engine.

        Args:
            backend: one of `backends()`: ``"cpu"`` (SIMD), or ``"reference"`` (long double, slow).
            threads: how many threads share a large request; by default one a core.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads: must be at least 1; was {threads}")
        self._engine = _softloss.Engine(backend, threads or 0)

    @staticmethod
    def backends() -> tuple[str, ...]:
        """Name the backends of this build."""
        return tuple(_softloss.backend_names())

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._engine.backend

    @property
    def threads(self) -> int:
        """How many threads share a large request."""
        return self._engine.threads

    @property
    def numerics_id(self) -> str:
        """Equal ids give equal bits: backend, build, SIMD target or GPU architecture."""
        return self._engine.numerics_id

    @takes_score_options
    def score(
        self,
        prediction: ArrayLike,
        label: ArrayLike,
        **options: Unpack[ScoreOptions],
    ) -> Result:
        """Compute a loss and its gradient.

        Arrays are anything with DLPack or the buffer protocol: NumPy, torch tensors on the CPU
        (detached here), JAX arrays, ``array.array``, ``memoryview``; or lists of numbers.
        Contiguous ones are read where they lie, others are copied once.

        Args:
            prediction: logits (or probabilities, see `prediction_kind`), float32, float16,
                bfloat16 or float64, of any shape.
            label: soft labels of the prediction's shape (float32, float16, bfloat16, float64, or
                uint8, see `label_scale`), or one int32 or int64 class id a row, or a `SparseLabel`
                with k classes a row. A row is what one softmax covers: the prediction's shape
                without its class axis.
            loss: ``"sigmoid_cross_entropy"`` (the default), ``"binary_brier"`` or
                ``"quality_focal"``, a binary problem an element; or over the class axis
                ``"softmax_cross_entropy"``, ``"kl_divergence"`` KL(t‖p),
                ``"reverse_kl_divergence"`` KL(p‖t), ``"jensen_shannon_divergence"``,
                ``"distillation"`` T²·KL, ``"brier"``, ``"expected_focal"``,
                ``"poly1_cross_entropy"``, ``"generalized_cross_entropy"`` or
                ``"symmetric_cross_entropy"``; or of regions, a class in an image at once,
                ``"soft_dice"`` or ``"tversky"``. docs/losses.md has the formulas.
            reduction: ``"mean"``, ``"sum"``, or ``"none"`` for row losses alone.
            gradient: the gradient's dtype, or ``None`` for no gradient.
            class_axis: which axis holds the classes. By default 1 for softmax losses (0 if there is
                but one), as in torch, and none for sigmoid losses; for channels-last give -1.
                Losses of regions: 1 with ``activation="softmax"``, else none.
            normalizer: what a mean divides by: ``"valid"`` rows (elements for sigmoid losses),
                ``"full"`` for all of them, ``"batch"`` for ``shape[0]``, ``"weighted"`` for
                Σ row_weight · Σ class_weight · label, ``"elements"`` for rows × classes,
                ``"none"`` for 1. By default what `profile` says, else ``"valid"``.
            profile: ``"torch"`` or ``"caffe"``: their normalizers, loss by loss, and (torch) NaN as
                the mean of nothing.
            prediction_kind: ``"logits"`` or ``"probabilities"``, clamped to at least 1e-7.
            mask: bool or uint8, one a row: rows where it is 0 do not count, whatever they hold.
            row_weight: one weight a row, finite and not negative.
            label_smoothing: ε in t ← (1-ε)·t + ε/C, with C = 2 for sigmoid losses.
            class_weight: one weight a class.
            pos_weight: sigmoid cross entropy: the weight of the positive term, one or one a class.
            class_mask: one bool or integer a class: classes with 0 do not exist.
            temperature: softmax losses: logits are divided by it. 1 if not given.
            z_loss: softmax losses: λ of λ·(ln Σ e^(x/T))², added to each row's loss.
            alpha, beta, gamma, epsilon, q: parameters of the losses that have them, with their
                defaults: Jensen-Shannon β = 0.5, quality focal β = 2, expected focal γ = 2, Poly-1
                ε = 2, generalised cross entropy q = 0.7, symmetric cross entropy α = β = 1, Tversky
                α = β = 0.5, reverse KL ε = 0 (labels are at least ε).
            smooth: losses of regions: added to numerator and denominator, as MONAI and
                segmentation_models_pytorch do. 1e-5 if not given.
            activation: losses of regions: ``"softmax"`` where classes exclude each other (the
                default with a class axis), ``"sigmoid"`` where each is a question of its own (the
                default without one). Of probabilities it says which of the two made them.
            batch: losses of regions: a region is a class in all images, not in each. An image is
                what one index of the first dimension holds.
            ignore_value: labels of exactly this value do not count: the element for sigmoid losses,
                the row for softmax losses if all of its labels equal it. NaN is allowed.
            ignore_index: the class id of rows that do not count.
            label_check: labels outside [0, 1], and rows that do not sum to 1, are counted
                (``"report"``), refused (``"strict"``), or divided by their sum (``"renormalize"``).
            label_scale: what uint8 labels are divided by: ``"divide_by_255"`` (the default) or the
                row's sum (``"row_sum"``).
            row_loss: whether to return one loss a row (an element for sigmoid losses; for losses of
                regions one a class of each image, of shape (images, classes)).
            out: where to write the gradient: a contiguous array of the prediction's shape, whose
                dtype is then the gradient's.

        Returns:
            A `Result`.

        Raises:
            InvalidArgumentError: a ValueError that names the field, the rule and the value.
            TypeError: an array of an element type or device that cannot be read.
            UnimplementedError: the backend lacks what was asked for.
        """
        prepared = prepare(prediction, label, **options)
        return finish(prepared, self._engine.score(prepared.spec, prepared.request))

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def __repr__(self) -> str:
        return f"<softloss.Engine {self.numerics_id} threads={self.threads}>"
