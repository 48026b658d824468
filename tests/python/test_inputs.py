"""What goes in and how it comes out: array types, layouts, out=, errors."""

from __future__ import annotations

import array
import gc
import pickle
import subprocess
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest
import softloss
import torch

SOFTMAX = {"loss": "softmax_cross_entropy"}


class Exporter:
    """An array that is nothing but DLPack."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **kwargs):
        return self.tensor.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


@pytest.fixture
def pair(rng):
    x = rng.normal(size=(6, 5)).astype(np.float32)
    t = rng.random((6, 5)).astype(np.float32)
    return x, t


def same(result, expected):
    assert result.loss == expected.loss
    np.testing.assert_array_equal(result.gradient, expected.gradient)


def test_every_kind_of_array(engine, pair):
    x, t = pair
    expected = engine.score(x, t)
    same(engine.score(torch.from_numpy(x), torch.from_numpy(t)), expected)
    same(engine.score(torch.from_numpy(x).requires_grad_(), torch.from_numpy(t)), expected)
    same(engine.score(Exporter(torch.from_numpy(x)), Exporter(torch.from_numpy(t))), expected)
    same(engine.score(memoryview(x), memoryview(t)), expected)
    same(engine.score(x.tolist(), t.tolist()), expected)
    same(engine.score(np.asfortranarray(x), t), expected)
    x.flags.writeable = False
    same(engine.score(x, t), expected)
    flat = engine.score(array.array("f", x.ravel()), array.array("f", t.ravel()))
    assert flat.loss == pytest.approx(expected.loss, rel=1e-12)


@pytest.mark.parametrize("wrap", [lambda t: t, Exporter], ids=["torch", "dlpack"])
def test_bfloat16(engine, pair, wrap):
    x, t = (torch.from_numpy(a).to(torch.bfloat16) for a in pair)
    expected = engine.score(*(np.asarray(a.float()).astype(ml_dtypes.bfloat16) for a in (x, t)))
    same(engine.score(wrap(x), wrap(t)), expected)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: t.numpy(), Exporter])
def test_strided_arrays_are_read_right(engine, rng, wrap):
    x = torch.from_numpy(rng.normal(size=(2, 6, 7, 3)).astype(np.float32))
    t = torch.from_numpy(rng.random((2, 6, 7, 3)).astype(np.float32))
    last = engine.score(x, t, class_axis=-1, **SOFTMAX)
    moved = engine.score(wrap(x.permute(0, 3, 1, 2)), wrap(t.permute(0, 3, 1, 2)), **SOFTMAX)
    assert moved.loss == pytest.approx(last.loss, rel=1e-7)
    np.testing.assert_allclose(np.moveaxis(moved.gradient, 1, -1), last.gradient, atol=1e-6)
    every_other = engine.score(wrap(x[:, ::2]), wrap(t[:, ::2]), class_axis=-1, **SOFTMAX)
    same(every_other, engine.score(x[:, ::2].clone(), t[:, ::2].clone(), class_axis=-1, **SOFTMAX))


def test_inputs_are_neither_changed_nor_kept(engine, pair):
    x, t = pair
    kept = x.copy(), t.copy()
    alive = weakref.ref(x)
    engine.score(x, t)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(t, kept[1])
    del x, pair
    gc.collect()
    # pytest's own fixture cache holds one reference; a fresh array must go.
    y = np.ones(3, np.float32)
    alive = weakref.ref(y)
    engine.score(y, y)
    del y
    assert alive() is None


def test_out(engine, pair):
    x, t = pair
    expected = engine.score(x, t, gradient="float16")
    out = np.full((6, 5), 7, np.float16)
    result = engine.score(x, t, out=out)
    assert result.gradient is out
    same(result, expected)
    tensor = torch.zeros(6, 5)
    engine.score(x, t, out=tensor)
    np.testing.assert_array_equal(tensor.numpy(), engine.score(x, t).gradient)


def test_no_gradient(engine, pair):
    result = engine.score(*pair, gradient=None)
    assert result.gradient is None
    assert result.gradient_l2_norm == 0
    assert result.loss == engine.score(*pair).loss
    with pytest.raises(ValueError, match="no gradient"):
        result.scaled_gradient()


def test_rows_may_come_flat(engine, rng):
    x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    t = rng.random(x.shape).astype(np.float32)
    mask = rng.random((2, 4, 5)) < 0.5
    weight = rng.random((2, 4, 5))
    same(
        engine.score(x, t, mask=mask.ravel(), row_weight=weight.ravel(), **SOFTMAX),
        engine.score(x, t, mask=mask, row_weight=weight, **SOFTMAX),
    )


def test_torch_backward(engine, rng):
    logits = torch.from_numpy(rng.normal(size=(9, 4))).requires_grad_()
    labels = torch.from_numpy(rng.random((9, 4)))
    result = engine.score(logits, labels, gradient="float64", **SOFTMAX)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(result.scaled_gradient(), logits.grad.numpy(), atol=1e-15)


F32 = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    "arguments, options, words",
    [
        ((F32.astype(">f4"), F32), {}, "prediction: dtype .* float32 of foreign byte order"),
        ((F32.astype(np.int32), F32), {}, "prediction: dtype .* was int32"),
        ((F32, F32.astype(bool)), {}, "label: dtype .* was bool"),
        ((F32.astype(complex), F32), {}, "prediction: dtype .* complex128"),
        ((F32, np.array(["a"])), {}, "label: dtype"),
        (("text", F32), {}, "prediction: must be an array; was str"),
        ((F32, [[1.0], [1.0, 2.0]]), {}, "label: list cannot be read"),
        ((F32, object()), {}, "label: dtype .* was object"),
        ((F32, torch.zeros(2, 3).to("meta")), {}, "label: must be in CPU memory; is on meta"),
        ((F32, torch.zeros(2, 3).to_sparse()), {}, "label: must be a dense tensor"),
        ((F32, F32), {"mask": F32}, "mask: dtype must be one of uint8; was float32"),
        ((F32, F32), {"row_weight": np.zeros(2, np.int32)}, "row_weight: dtype .* was int32"),
        ((F32, F32), {"out": np.zeros((2, 3), np.int32)}, "out: dtype"),
    ],
)
def test_type_errors_name_the_argument(engine, arguments, options, words):
    with pytest.raises(TypeError, match=words):
        engine.score(*arguments, **options)


@pytest.mark.parametrize(
    "arguments, options, field, words",
    [
        ((F32, F32[:1]), {}, "label.shape", r"\(2, 3\); was \(1, 3\)"),
        ((F32, np.int64([0, 1, 2])), SOFTMAX, "label.shape", r"\(2,\); was \(3,\)"),
        ((F32, np.int64([0, 3])), SOFTMAX, "label", "was 3"),
        ((F32, F32), {"mask": np.ones((3, 2), bool)}, "mask.shape", r"was \(3, 2\)"),
        ((F32, F32), {"row_weight": np.float32([[1]])}, "row_weight.shape", r"was \(1, 1\)"),
        ((F32, F32), {"row_weight": -np.ones_like(F32)}, "row_weight", "was -1"),
        ((F32, F32), {"out": np.zeros((3, 2), np.float32)}, "out.shape", r"was \(3, 2\)"),
        ((F32, F32), {"out": np.zeros((3, 2), np.float32).T}, "out", "strides"),
        ((F32, F32), {"class_axis": 2}, "class_axis", "was 2"),
        ((F32, F32), {"loss": "hinge"}, "loss", "hinge"),
        ((F32, F32), {"reduction": "median"}, "reduction", "none, sum, mean; was median"),
        ((F32, F32), {"normalizer": "n"}, "normalizer", "was n"),
        ((F32, F32), {"label_check": "no"}, "label_check", "was no"),
        ((F32, F32), {"label_scale": "no"}, "label_scale", "was no"),
        ((F32, F32), {"gradient": "int8"}, "gradient", "was int8"),
        ((F32, F32), {"label_smoothing": 1.5}, "label_smoothing", "1.5"),
        ((F32, F32), {"class_weight": [1, 2], **SOFTMAX}, "class_weight", "2"),
        ((F32, F32), {"class_weight": [-1, 1, 1], **SOFTMAX}, "class_weight", "-1"),
        ((F32, F32), {"class_weight": [[1]], **SOFTMAX}, "class_weight.shape", "one dimension"),
        ((F32, F32), {"pos_weight": 2.0, **SOFTMAX}, "pos_weight", "sigmoid"),
        ((np.float32(1), np.float32(1)), SOFTMAX, "prediction.class_axis", "class_axis"),
    ],
)
def test_value_errors_name_field_rule_and_value(engine, arguments, options, field, words):
    with pytest.raises(softloss.InvalidArgumentError, match=words) as caught:
        engine.score(*arguments, **options)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.field == field
    assert not caught.value.retryable
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, softloss.SoftlossError)
    assert str(caught.value).startswith(field)


def test_read_only_out(engine, pair):
    out = np.zeros((6, 5), np.float32)
    out.flags.writeable = False
    with pytest.raises(softloss.InvalidArgumentError, match="out: must be writable"):
        engine.score(*pair, out=out)


def test_errors_survive_pickling():
    error = softloss.UnavailableError("gone", field="x", retryable=True)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is softloss.UnavailableError
    assert (str(copy), copy.code, copy.field, copy.retryable) == ("gone", "UNAVAILABLE", "x", True)


def test_unknown_backend():
    with pytest.raises(softloss.SoftlossError, match="abacus"):
        softloss.Engine("abacus")
    with pytest.raises(ValueError, match="threads"):
        softloss.Engine(threads=0)


def test_repr(engine, pair):
    result = engine.score(*pair)
    assert repr(result).startswith(f"<softloss.Result loss={result.loss:.9g} valid_count=30")
    assert "gradient=float32[6, 5]" in repr(result)
    assert "Conditions" not in repr(result)
    assert repr(result.conditions) == "Conditions(clean)"
    assert float(result) == result.loss
    strange = engine.score(np.float32([1]), np.float32([2]))
    assert "Conditions(out_of_range_labels=1)" in repr(strange)


def test_version_and_command():
    run = subprocess.run(
        [sys.executable, "-m", "softloss", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"softloss {softloss.__version__}\n"
    run = subprocess.run(
        [sys.executable, "-m", "softloss", "capabilities"], capture_output=True, text=True
    )
    assert run.returncode == 2
