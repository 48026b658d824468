"""From the arguments of `score` to a request, and from totals to a result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from . import _softloss
from ._arrays import DTYPES, FLOATS, contiguous, dtype_name, raw, to_numpy
from ._errors import InvalidArgumentError
from ._result import Conditions, Result, Timings, Transport

Array = npt.NDArray[Any]

#: Anything with DLPack or the buffer protocol, or (nested) lists of numbers.
ArrayLike = Any

LossName = Literal[
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "kl_divergence",
    "reverse_kl_divergence",
    "jensen_shannon_divergence",
    "distillation",
    "brier",
    "binary_brier",
    "quality_focal",
    "expected_focal",
    "poly1_cross_entropy",
    "generalized_cross_entropy",
    "symmetric_cross_entropy",
    "soft_dice",
    "tversky",
]
Reduction = Literal["mean", "sum", "none"]
Normalizer = Literal["valid", "full", "batch", "weighted", "elements", "none"]
PredictionKind = Literal["logits", "probabilities"]
Profile = Literal["torch", "caffe"]
Activation = Literal["sigmoid", "softmax"]
FloatName = Literal["float32", "float16", "bfloat16", "float64"]
LabelCheck = Literal["report", "strict", "renormalize"]
LabelScale = Literal["divide_by_255", "row_sum"]
TailRule = Literal["renormalize", "uniform", "bucket", "zero"]

_F = TypeVar("_F", bound=Callable[..., Any])

_LABELS = (*FLOATS, "uint8", "int32", "int64")


@dataclass(frozen=True)
class SparseLabel:
    """A soft label that names k classes a row: what is given as the label of `score`.

    >>> import softloss
    >>> label = softloss.SparseLabel(ids=[[2, 0]], values=[[0.75, 0.25]], tail="zero")
    >>> with softloss.Engine() as engine:
    ...     result = engine.score([[0.1, 2.0, -1.0]], label, loss="softmax_cross_entropy")

    All tails but ``"bucket"`` give what the dense label that they describe would give. The rest of
    the mass is 1 - Σ values, or 0 where that is negative.

    Attributes:
        ids: the classes, integers; the rows' shape (the prediction's without its class axis) and
            then k, at most 1024. A row's classes must differ.
        values: their probabilities, of the ids' shape.
        tail: what the other classes hold. ``"renormalize"``: nothing, and the values are divided by
            their sum. ``"uniform"``: the rest of the mass, in equal parts. ``"bucket"``: the rest
            of the mass as one class, whose probability is the sum of theirs. ``"zero"``: nothing.
    """

    ids: ArrayLike
    values: ArrayLike
    tail: TailRule


class Prepared(NamedTuple):
    """A request, and the arrays that its answer fills."""

    spec: _softloss.Spec
    request: _softloss.Request
    gradient: Array | None
    row_loss: Array | None
    #: The gradient's shape and dtype if `gradient` is to come back with the totals.
    returned: tuple[tuple[int, ...], np.dtype[Any]] | None = None


@functools.lru_cache(maxsize=256)
def _spec(*args: Any) -> _softloss.Spec:
    *most, parameters = args
    make: Callable[..., _softloss.Spec] = _softloss.Spec
    return make(*(list(v) if isinstance(v, tuple) else v for v in most), dict(parameters))


def _weights(name: str, weights: ArrayLike | None) -> tuple[float, ...]:
    if weights is None:
        return ()
    if isinstance(weights, tuple):
        return weights
    array = to_numpy(name, weights)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name}: must hold numbers; was {array.dtype.name}")
    if array.ndim > 1:
        raise InvalidArgumentError(
            f"{name}.shape: must have one dimension; was {array.shape}", field=f"{name}.shape"
        )
    return tuple(np.atleast_1d(array).astype(np.float64).tolist())


def _class_mask(mask: ArrayLike | None) -> tuple[int, ...]:
    if mask is None:
        return ()
    array = to_numpy("class_mask", mask)
    if array.dtype != np.bool_ and array.dtype.kind not in "iu":
        raise TypeError(f"class_mask: must hold booleans; was {array.dtype.name}")
    if array.ndim != 1:
        raise InvalidArgumentError(
            f"class_mask.shape: must have one dimension; was {array.shape}",
            field="class_mask.shape",
        )
    return tuple((array != 0).astype(np.uint8).tolist())


def _class_axis(needed: bool, axis: int | None, ndim: int) -> int | None:
    if axis is None:
        return min(1, ndim - 1) if needed and ndim > 0 else None
    if not -ndim <= axis < ndim:
        raise InvalidArgumentError(
            f"class_axis: must be in [{-ndim}, {ndim}); was {axis}", field="class_axis"
        )
    return axis % ndim


def _per_row(name: str, obj: ArrayLike | None, rows: tuple[int, ...]) -> Array | None:
    if obj is None:
        return None
    array = to_numpy(name, obj)
    if name == "mask":
        if isinstance(obj, (list, tuple)) or array.dtype == np.bool_:
            array = array.astype(np.bool_, copy=False).view(np.uint8)
        dtype_name(name, array, ("uint8",))
    else:
        dtype_name(name, array, (*FLOATS, "int64") if isinstance(obj, (list, tuple)) else FLOATS)
        array = array.astype(np.float32, copy=False)
    # Rows may come flat, as the kernels see them.
    if array.shape != rows and array.ndim == 1 and array.size == int(np.prod(rows)):
        array = array.reshape(rows)
    return contiguous(array)


class ScoreOptions(TypedDict, total=False):
    """The keyword arguments of `score` and `submit`; `Engine.score` explains each."""

    loss: LossName
    reduction: Reduction
    gradient: FloatName | None
    class_axis: int | None
    normalizer: Normalizer | None
    profile: Profile | None
    prediction_kind: PredictionKind
    mask: ArrayLike | None
    row_weight: ArrayLike | None
    label_smoothing: float
    class_weight: ArrayLike | None
    pos_weight: ArrayLike | None
    class_mask: ArrayLike | None
    temperature: float | None
    z_loss: float | None
    alpha: float | None
    beta: float | None
    gamma: float | None
    epsilon: float | None
    q: float | None
    smooth: float | None
    activation: Activation | None
    batch: bool
    ignore_value: float | None
    ignore_index: int | None
    label_check: LabelCheck
    label_scale: LabelScale | None
    row_loss: bool
    out: ArrayLike | None


def prepare(
    prediction: ArrayLike,
    label: ArrayLike,
    in_shared_memory: Callable[[Array], bool] | None = None,
    *,
    loss: LossName = "sigmoid_cross_entropy",
    reduction: Reduction = "mean",
    gradient: FloatName | None = "float32",
    class_axis: int | None = None,
    normalizer: Normalizer | None = None,
    profile: Profile | None = None,
    prediction_kind: PredictionKind = "logits",
    mask: ArrayLike | None = None,
    row_weight: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    class_weight: ArrayLike | None = None,
    pos_weight: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    temperature: float | None = None,
    z_loss: float | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    gamma: float | None = None,
    epsilon: float | None = None,
    q: float | None = None,
    smooth: float | None = None,
    activation: Activation | None = None,
    batch: bool = False,
    ignore_value: float | None = None,
    ignore_index: int | None = None,
    label_check: LabelCheck = "report",
    label_scale: LabelScale | None = None,
    row_loss: bool = False,
    out: ArrayLike | None = None,
) -> Prepared:
    """Check and convert the arguments of `score`.

    Memory for the gradient is left to the client if prediction and label are `in_shared_memory`.
    """
    parameters = {
        "temperature": temperature,
        "z_loss": z_loss,
        "alpha": alpha,
        "beta": beta,
        "gamma": gamma,
        "epsilon": epsilon,
        "q": q,
        "smooth": smooth,
    }
    spec = _spec(
        loss,
        reduction,
        normalizer,
        label_check,
        float(label_smoothing),
        _weights("class_weight", class_weight),
        _weights("pos_weight", pos_weight),
        None if ignore_value is None else float(ignore_value),
        None if ignore_index is None else int(ignore_index),
        _class_mask(class_mask),
        prediction_kind,
        profile,
        activation,
        bool(batch),
        tuple((name, float(v)) for name, v in parameters.items() if v is not None),
    )
    x = to_numpy("prediction", prediction)
    if x.dtype == np.int64 and not isinstance(prediction, np.ndarray):
        x = x.astype(np.float32)
    x_dtype = dtype_name("prediction", x, FLOATS)
    x = contiguous(x)
    over_classes = activation == "softmax" if spec.regional else not spec.elementwise
    axis = _class_axis(over_classes, class_axis, x.ndim)
    rows = x.shape if axis is None else x.shape[:axis] + x.shape[axis + 1 :]

    sparse = label if isinstance(label, SparseLabel) else None
    ids = None
    if sparse is not None:
        ids = to_numpy("label_ids", sparse.ids)
        ids_dtype = dtype_name("label_ids", ids, ("int32", "int64"))
        ids = contiguous(ids)
        label = sparse.values
    t = to_numpy("label", label)
    if sparse is not None and t.dtype == np.int64 and isinstance(label, (list, tuple)):
        t = t.astype(np.float32)
    elements = spec.elementwise or axis is None
    if elements and t.dtype == np.int64 and isinstance(label, (list, tuple, int)):
        t = t.astype(np.float32)
    t_dtype = dtype_name("label", t, _LABELS if sparse is None else (*FLOATS, "uint8"))
    t = contiguous(t)
    if label_scale is not None and label_scale not in ("divide_by_255", "row_sum"):
        raise InvalidArgumentError(
            f"label_scale: must be divide_by_255 or row_sum; was {label_scale}",
            field="label_scale",
        )

    returned = None
    if gradient in FLOATS and out is None and in_shared_memory is not None and x.size > 0:
        if in_shared_memory(raw(x)) and in_shared_memory(raw(t)):
            returned = (x.shape, DTYPES[gradient])
    g = None if returned else _gradient(gradient, out, x)
    gradient_dtype = returned[1] if returned else None if g is None else g.dtype
    losses = None
    if row_loss or reduction == "none":
        losses = np.empty(
            spec.row_loss_shape(x.shape, axis),
            np.float64 if x_dtype == "float64" else np.float32,
        )
    request = _softloss.Request(
        spec,
        raw(x),
        x_dtype,
        axis,
        raw(t),
        t_dtype,
        t_dtype in ("int32", "int64"),
        label_scale == "row_sum",
        _per_row("mask", mask, rows),
        _per_row("row_weight", row_weight, rows),
        None if g is None else raw(g),
        "" if gradient_dtype is None else gradient_dtype.name,
        losses,
        ids,
        "" if ids is None else ids_dtype,
        None if sparse is None else sparse.tail,
    )
    return Prepared(spec, request, g, losses, returned)


def takes_score_options(function: _F) -> _F:
    """Give a function with ``**options`` the signature of `prepare`, for `help` and completion."""
    own = inspect.signature(function)
    options = [
        p for p in inspect.signature(prepare).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]
    plain = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    positional = [p for p in plain if p.kind is not p.KEYWORD_ONLY]
    keywords = [p for p in plain if p.kind is p.KEYWORD_ONLY]
    signature = own.replace(parameters=[*positional, *options, *keywords])
    function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _gradient(dtype: str | None, out: ArrayLike | None, x: Array) -> Array | None:
    if dtype is not None and dtype not in FLOATS:
        raise InvalidArgumentError(
            f"gradient: must be one of {', '.join(FLOATS)} or None; was {dtype}", field="gradient"
        )
    if out is None:
        return None if dtype is None else np.empty(x.shape, DTYPES[dtype])
    if dtype is None:
        raise InvalidArgumentError("out: needs a gradient; gradient was None", field="out")
    array = to_numpy("out", out)
    dtype_name("out", array, FLOATS)
    if not array.flags.c_contiguous:
        raise InvalidArgumentError("out: must be contiguous; has strides", field="out")
    if not array.flags.writeable:
        raise InvalidArgumentError("out: must be writable; is read-only", field="out")
    return array


def finish(prepared: Prepared, totals: _softloss.Totals) -> Result:
    """Join what came back with the arrays it filled."""
    gradient = prepared.gradient
    transport: Transport = "in_process"
    if isinstance(totals, _softloss.ClientTotals):
        transport = totals.transport
        if prepared.returned and totals.gradient is not None:
            shape, dtype = prepared.returned
            gradient = totals.gradient.view(dtype).reshape(shape)
    return Result(
        loss=totals.loss,
        loss_sum=totals.loss_sum,
        denominator=totals.denominator,
        gradient_scale=totals.gradient_scale,
        gradient_l2_norm=totals.gradient_l2_norm,
        gradient=gradient,
        row_loss=prepared.row_loss,
        valid_count=totals.valid_count,
        conditions=Conditions(*totals.conditions),
        timings=Timings(*(ns * 1e-9 for ns in totals.times_ns)),
        numerics_id=totals.numerics_id,
        attempts=totals.attempts,
        transport=transport,
    )
