"""What other frameworks make of the losses, in float64: values and gradients of their own code.

`python tests/compat/frameworks.py` writes them to tests/python/golden_frameworks.json, which
`make test` compares with; `make compat` compares with the frameworks themselves, and with the file.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import pathlib
from importlib.metadata import version
from typing import Any

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "python" / "golden_frameworks.json"


def problem(rows: int = 6, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(20)
    logits = 3 * random.normal(size=(rows, classes))
    labels = random.dirichlet(np.ones(classes), size=rows)
    return logits, labels


def entry(
    source: str,
    options: dict[str, Any],
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    tolerance: float = 1e-9,
    **expected: Any,
) -> dict[str, Any]:
    """`expected`: row_loss, gradient (of their sum) or loss (the mean)."""
    return {
        "source": f"{source} of {source.split('.')[0]} {version(PACKAGES[source.split('.')[0]])}",
        "options": options,
        "logits": np.asarray(logits).tolist(),
        "labels": np.asarray(labels).tolist(),
        "tolerance": tolerance,
        "expected": {k: np.asarray(v, np.float64).tolist() for k, v in expected.items()},
    }


PACKAGES = {
    "optax": "optax",
    "tensorflow": "tensorflow-cpu",
    "keras": "keras",
    "onnx": "onnx",
    "trl": "trl",
}


def from_optax() -> list[dict[str, Any]]:
    import jax
    import optax

    jax.config.update("jax_enable_x64", True)
    x, t = problem()
    cases = {
        "sigmoid_binary_cross_entropy": (
            {"loss": "sigmoid_cross_entropy"},
            lambda v: optax.losses.sigmoid_binary_cross_entropy(v, t),
        ),
        "softmax_cross_entropy": (
            {"loss": "softmax_cross_entropy"},
            lambda v: optax.losses.softmax_cross_entropy(v, t),
        ),
        "kl_divergence": (
            {"loss": "kl_divergence"},
            lambda v: optax.losses.kl_divergence(jax.nn.log_softmax(v), t),
        ),
        "poly_loss_cross_entropy": (
            {"loss": "poly1_cross_entropy", "epsilon": 1.5},
            lambda v: optax.losses.poly_loss_cross_entropy(v, t, epsilon=1.5),
        ),
    }
    return [
        entry(
            f"optax.losses.{name}",
            options,
            x,
            t,
            row_loss=loss(x),
            gradient=jax.grad(lambda v, loss=loss: loss(v).sum())(x),
        )
        for name, (options, loss) in cases.items()
    ]


def from_tensorflow() -> list[dict[str, Any]]:
    import keras
    import tensorflow as tf

    keras.config.set_floatx("float64")
    x, t = problem()

    def differentiated(source, options, loss, labels=t, *, gradient=True, tolerance=1e-9):
        with tf.GradientTape() as tape:
            v = tf.Variable(x)
            values = loss(v)
        extra = {"gradient": tape.gradient(values, v).numpy()} if gradient else {}
        return entry(
            source, options, x, labels, row_loss=values.numpy(), tolerance=tolerance, **extra
        )

    # Keras clips probabilities at 1e-7, which shows in some.
    focal = keras.losses.categorical_focal_crossentropy
    smooth = keras.losses.categorical_crossentropy
    return [
        differentiated(
            "tensorflow.nn.softmax_cross_entropy_with_logits",
            {"loss": "softmax_cross_entropy"},
            lambda v: tf.nn.softmax_cross_entropy_with_logits(t, v),
        ),
        # Labels of any sum: the loss is right, the gradient is p - t and not S·p - t.
        differentiated(
            "tensorflow.nn.softmax_cross_entropy_with_logits",
            {"loss": "softmax_cross_entropy"},
            lambda v: tf.nn.softmax_cross_entropy_with_logits(2.5 * t, v),
            2.5 * t,
            gradient=False,
        ),
        differentiated(
            "tensorflow.nn.sigmoid_cross_entropy_with_logits",
            {"loss": "sigmoid_cross_entropy"},
            lambda v: tf.nn.sigmoid_cross_entropy_with_logits(t, v),
        ),
        differentiated(
            "tensorflow.nn.weighted_cross_entropy_with_logits",
            {"loss": "sigmoid_cross_entropy", "pos_weight": [2.5]},
            lambda v: tf.nn.weighted_cross_entropy_with_logits(t, v, 2.5),
        ),
        differentiated(
            "keras.losses.categorical_crossentropy",
            {"loss": "softmax_cross_entropy", "label_smoothing": 0.125},
            lambda v: smooth(t, v, from_logits=True, label_smoothing=0.125),
        ),
        differentiated(
            "keras.losses.categorical_focal_crossentropy",
            {"loss": "expected_focal", "gamma": 2.5},
            lambda v: focal(t, v, alpha=1.0, gamma=2.5, from_logits=True),
            tolerance=1e-5,
        ),
        differentiated(
            "keras.losses.kl_divergence",
            {"loss": "kl_divergence"},
            lambda v: keras.losses.kl_divergence(t, tf.nn.softmax(v)),
            tolerance=1e-5,
        ),
    ]


def from_onnx() -> list[dict[str, Any]]:
    from onnx.backend.test.case.node.softmax_cross_entropy_loss import softmaxcrossentropy

    x, t = problem(8, 5)
    ids = t.argmax(1)
    weight = np.linspace(0.5, 1.5, 5)
    base = {"loss": "softmax_cross_entropy", "normalizer": "weighted"}
    return [
        entry(
            "onnx.SoftmaxCrossEntropyLoss",
            base,
            x,
            ids,
            tolerance=1e-6,  # its logarithms are in float32
            loss=softmaxcrossentropy(x, ids),
        ),
        entry(
            "onnx.SoftmaxCrossEntropyLoss",
            {**base, "class_weight": weight.tolist()},
            x,
            ids,
            tolerance=1e-6,  # its logarithms are in float32
            loss=softmaxcrossentropy(x, ids, weight=weight),
        ),
        entry(
            "onnx.SoftmaxCrossEntropyLoss",
            {**base, "class_weight": weight.tolist(), "ignore_index": int(ids[0])},
            x,
            ids,
            tolerance=1e-6,  # its logarithms are in float32
            loss=softmaxcrossentropy(x, ids, weight=weight, ignore_index=int(ids[0])),
        ),
    ]


def trl_jsd() -> Any:
    """TRL's function from its source: the package itself wants half of Hugging Face."""
    import torch

    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.submodule_search_locations
    path = pathlib.Path(spec.submodule_search_locations[0], "experimental/gkd/gkd_trainer.py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == "generalized_jsd_loss":
            node.decorator_list = []
            scope = {"torch": torch, "F": torch.nn.functional}
            exec(compile(ast.Module([node], []), str(path), "exec"), scope)
            return scope[node.name]
    raise LookupError(f"{path} has no generalized_jsd_loss")


def from_trl() -> list[dict[str, Any]]:
    import torch

    loss = trl_jsd()
    x, t = problem()
    found = []
    for beta in (0.0, 0.125, 0.5, 0.875, 1.0):
        for temperature in (1.0, 2.0):
            v = torch.tensor(x, requires_grad=True)
            teacher = torch.tensor(t).log() * temperature
            rows = loss(v, teacher, beta=beta, temperature=temperature, reduction="none").sum(-1)
            (gradient,) = torch.autograd.grad(rows.sum(), v)
            options = {"loss": "jensen_shannon_divergence", "beta": beta}
            found.append(
                entry(
                    "trl.GKDTrainer.generalized_jsd_loss",
                    {**options, "temperature": temperature},
                    x,
                    t,
                    row_loss=rows.detach(),
                    gradient=gradient,
                )
            )
    return found


def entries() -> list[dict[str, Any]]:
    return [*from_optax(), *from_tensorflow(), *from_onnx(), *from_trl()]


if __name__ == "__main__":
    GOLDEN.write_text("[" + ",\n".join(map(json.dumps, entries())) + "]\n")
